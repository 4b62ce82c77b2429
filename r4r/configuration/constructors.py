"""What a class takes: its constructor as a schema, or names of settings read from source, without a slow import."""

import ast
import inspect
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, create_model

from r4r.configuration.targets import forbidden, see_plugins
from r4r.store.source import module_files
from r4r.values import Values


@lru_cache(maxsize=256)
def constructor_schema(target: Any) -> type[BaseModel]:
    """A closed schema of a constructor's settings.

    Parameters whose type is a class of live objects (a language model, a store) are handed in by code: they are no
    settings, so a configuration may not name them.
    """
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    is_open = False
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind = hints.get(name, Any)
        if _is_setting(kind):
            fields[name] = (kind, ... if parameter.default is parameter.empty else parameter.default)
    return create_model(target.__name__, __base__=_Open if is_open else Values, **fields)


class _Open(Values):
    model_config = ConfigDict(extra="allow")


def _is_setting(kind: Any) -> bool:
    try:
        TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        return False
    return True


@lru_cache(maxsize=256)
def setting_names(path: str, plugins: tuple[str, ...] = ()) -> frozenset[str] | None:
    """Dotted names of the settings that the class at a dotted path takes, without importing it.

    Returns:
        None where the source does not tell: an open constructor, a class made at run time, a module that is not there.
    """
    if forbidden(path, plugins):
        return None
    see_plugins(plugins)
    module, _, name = path.rpartition(".")
    found = _constructor(module, name)
    if found is None:
        return None
    where, function = found
    arguments = function.args
    if arguments.kwarg:
        return None
    names: set[str] = set()
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.arg == "self":
            continue
        names.add(argument.arg)
        names |= {f"{argument.arg}.{inner}" for inner in _group_fields(where, argument.annotation)}
    return frozenset(names)


@lru_cache(maxsize=256)
def _names(module: str) -> dict[str, ast.ClassDef | tuple[str, str]]:
    """The classes that a module's source defines, and (module, name) of what it imports by name."""
    files = module_files(module)
    if not files or files[-1][0] != module or files[-1][1].suffix != ".py":
        return {}
    try:
        tree = ast.parse(Path(files[-1][1]).read_bytes())
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, ast.ClassDef | tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found.setdefault(node.name, node)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, (node.module, alias.name))
    return found


def _definition(module: str, name: str, depth: int = 0) -> tuple[str, ast.ClassDef] | None:
    """The module and syntax tree of a class, followed through `from ... import`."""
    found = _names(module).get(name) if depth < 5 else None
    if isinstance(found, tuple):
        return _definition(*found, depth + 1)
    return (module, found) if found else None


def _constructor(module: str, name: str) -> tuple[str, ast.FunctionDef] | None:
    """The module and syntax tree of a class's `__init__`, its own or a base's."""
    found = _definition(module, name)
    if found is None:
        return None
    where, definition = found
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return where, node
    for base in definition.bases:
        inherited = _constructor(where, base.id) if isinstance(base, ast.Name) else None
        if inherited:
            return inherited
    return None


def _group_fields(module: str, annotation: ast.expr | None) -> set[str]:
    """Fields of the group of settings that a parameter's annotation names."""
    found = set()
    for node in ast.walk(annotation) if annotation else ():
        definition = _definition(module, node.id) if isinstance(node, ast.Name) else None
        for line in definition[1].body if definition else ():
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                found.add(line.target.id)
    return found
