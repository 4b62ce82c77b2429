"""Objects of the classes that a configuration names, and what their constructors would not take."""

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from r4r.configuration.constructors import constructor_schema
from r4r.configuration.faults import sentences
from r4r.configuration.targets import fitting
from r4r.errors import ConfigError


def construct(node: Mapping[str, Any], where: str, plugins: Iterable[str] = ()) -> Any:
    """The object that a checked `_target_` node describes, its settings coerced to the constructor's types.

    Args:
        where: dotted key of the node, which says what kind of class belongs there.
        plugins: modules outside r4r that may be imported.
    Raises:
        ConfigError: where the settings do not fit the constructor, or do not go together, as it alone can tell.
    """
    plugins = tuple(plugins)
    problems = constructor_problems(where, node, plugins)
    if problems:
        raise ConfigError([text for _, text in problems])
    target = fitting(where, str(node["_target_"]), plugins)
    settings = constructor_schema(target).model_validate({k: v for k, v in node.items() if k != "_target_"})
    try:
        return target(**{name: getattr(settings, name) for name in settings.model_fields_set})
    except ValueError as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError([f"{where}: {error} ({Path(last.filename).name}:{last.lineno})"]) from error


def constructor_problems(where: str, node: Mapping[str, Any], plugins: tuple[str, ...]) -> list[tuple[str, str]]:
    """(key, sentence) for every setting that the node's constructor would not take."""
    path = node.get("_target_")
    if not isinstance(path, str):
        hint = f"mount it with +expert@{where}=..." if where.startswith("experts.") else "it names the class to build"
        return [(where, f"{where}: has no _target_; {hint}")]
    try:
        target = fitting(where, path, plugins)
    except ConfigError as error:
        return [(where, f"{where}.{problem}") for problem in error.problems]
    model = constructor_schema(target)
    try:
        model.model_validate({key: value for key, value in node.items() if key != "_target_"})
    except ValidationError as error:
        return sentences(error, model, where)
    return []
