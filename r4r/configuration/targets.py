"""Classes that a configuration names by `_target_`: where it may, which it may, and what their constructors take.

A class is code that runs. So a `_target_` is refused, before anything is imported, unless it stands at a place that
takes one and its module belongs to r4r or to what `plugins` lists; and unless the class then is of the kind that
belongs there.
"""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r4r.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """What a place takes.

    Attributes:
        name: in a sentence, with its article.
        fits: whether a class is one.
        libraries: packages beside r4r whose classes may stand there.
    """

    name: str
    fits: Callable[[type], bool]
    libraries: tuple[str, ...] = ()


def _derived(base: str, library: str = "r4r") -> Callable[[type], bool]:
    """Whether a class derives from the class of that name in a package, which is not imported for it."""

    def fits(found: type) -> bool:
        return any(c.__name__ == base and c.__module__.partition(".")[0] == library for c in found.__mro__)

    return fits


LIGHTNING = "pytorch_lightning"
PLUGINS = (_derived("CheckpointIO", LIGHTNING), _derived("LayerSync", LIGHTNING))
METHOD = Kind("a method, which has stages(job)", lambda found: callable(getattr(found, "stages", None)))
CALLBACK = Kind("a callback of pytorch_lightning", _derived("Callback", LIGHTNING), (LIGHTNING,))
PLACES = {  # dotted key, * for any one name
    "method": METHOD,
    "references.*": METHOD,
    "reason_source": Kind("a reason source, a class derived from r4r's ReasonSource", _derived("ReasonSource")),
    "control": Kind("a control, a class derived from r4r's Control", _derived("Control")),
    "experts.*": Kind("an expert, a class derived from r4r's Expert", _derived("Expert")),
    "metrics.ratings.*": Kind(
        "a metric of ratings, a class derived from RatingMetric that has a title (text) and higher_is_better",
        lambda found: (
            _derived("RatingMetric")(found)
            and isinstance(getattr(found, "title", None), str | property)
            and isinstance(getattr(found, "higher_is_better", None), bool | property)
        ),
    ),
    "dataset.layout": Kind("a reader of raw files, a class derived from RawReader", _derived("RawReader")),
    "experts.*.objective": Kind("an objective, a class derived from r4r's Objective", _derived("Objective")),
    "experts.*.objective.rewards.*": Kind("a reward, a class derived from r4r's Reward", _derived("Reward")),
    "trainer.callbacks.*": CALLBACK,
    "trainer.plugins.*": Kind(
        "a plugin of pytorch_lightning", lambda found: any(fits(found) for fits in PLUGINS), (LIGHTNING,)
    ),
    "trainer.profiler": Kind("a profiler of pytorch_lightning", _derived("Profiler", LIGHTNING), (LIGHTNING,)),
    "trainer.strategy": Kind("a strategy of pytorch_lightning", _derived("Strategy", LIGHTNING), (LIGHTNING,)),
}
# Hydra's own classes: sweepers, launchers, samplers, callbacks, log handlers
HYDRAS = ("hydra.", "hydra_plugins.", "optuna.samplers.", "r4r.search.", "logging.", "colorlog.")
LOG_NODES = ("job_logging", "hydra_logging")
LOG_CLASSES = ("class", "()", "factory")


def place_of(where: str) -> Kind | None:
    """What the node at a dotted key takes; None where no class is named."""
    depth = where.count(".")
    return next(
        (kind for place, kind in PLACES.items() if place.count(".") == depth and fnmatchcase(where, place)), None
    )


def misplaced(values: Mapping[Any, Any]) -> list[str]:
    """A sentence for every `_target_` of a resolved configuration at a place that takes none."""
    places = ", ".join(PLACES)
    return [
        f"{where + '.' if where else ''}_target_={target}: no class is named here; a _target_ belongs to {places}"
        for where, target in _named(values)
        if place_of(where) is None
    ]


def _named(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key of the node, class) of every `_target_`, at any depth."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node["_target_"]
        for key, inner in node.items():
            yield from _named(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for index, inner in enumerate(node):
            yield from _named(inner, f"{path}.{index}")


def strange_to_hydra(cfg: Any) -> list[str]:
    """A sentence for every class that Hydra's own settings would build and that is neither Hydra's nor a search's."""
    found = []
    node = cfg._get_node("hydra") if isinstance(cfg, DictConfig) else None
    for where, value in _hydra_classes(node, "hydra"):
        if not (isinstance(value, str) and value.startswith(HYDRAS)):
            found.append(f"{where}={value}: Hydra may build its own classes alone; take it out")
    return found


def _hydra_classes(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    logs = path.split(".")[1:2] in ([name] for name in LOG_NODES)
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        for key in map(str, node):
            where = f"{path}.{key}"
            if key == "_target_" or (logs and key in LOG_CLASSES):
                yield where, _resolved(node, key)
            else:
                yield from _hydra_classes(node._get_node(key), where)
    elif isinstance(node, ListConfig) and not node._is_none() and not node._is_missing():
        for index in range(len(node)):
            yield from _hydra_classes(node._get_node(index), f"{path}.{index}")
    elif logs and node is not None and str(node).startswith("ext://") and not str(node).startswith("ext://sys.std"):
        yield path, str(node)


def _resolved(node: DictConfig, key: Any) -> Any:
    try:
        return node[key]
    except OmegaConfBaseException:
        return OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[call-overload,index]


def forbidden(path: str, plugins: Sequence[str]) -> str | None:
    """Why a class may not be imported, in words; None where it may."""
    if not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        return "must be a dotted path, such as package.module.Class"
    module = path.rpartition(".")[0]
    if any(module == known or module.startswith(f"{known}.") for known in ("r4r", *plugins)):
        return None
    return f"is not r4r's own; where you trust its code, name its module: plugins=[{module}]"


def locate(path: str, plugins: Sequence[str] = ()) -> Any:
    """The class at a dotted path.

    Raises:
        ConfigError: it may not be imported or there is none; names the close ones.
    """
    fault = forbidden(path, plugins)
    if fault:
        raise ConfigError([f"_target_={path}: {fault}"])
    module_name, _, name = path.rpartition(".")
    see_plugins(plugins)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError([f"_target_={path}: cannot import {module_name} ({error})"]) from error
    except Exception as error:
        if module_name.partition(".")[0] == "r4r":
            raise
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no detail'}"
        raise ConfigError([f"_target_={path}: importing {module_name} fails ({told})"]) from error
    if not hasattr(module, name):
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module_name]
        raise ConfigError([f"_target_={path}: {module_name} has no {name}; {close_names(name, own)}"])
    return getattr(module, name)


def see_plugins(plugins: Sequence[str]) -> None:
    """Have plugins found where the command is run, too: a console script looks among installed packages alone."""
    if plugins and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def fitting(where: str, path: str, plugins: Sequence[str] = ()) -> type:
    """The class at a dotted path, of the kind that the node at `where` takes.

    Raises:
        ConfigError: it may not be imported, there is none, or it is of another kind.
    """
    kind = place_of(where)
    found = locate(path, (*plugins, *kind.libraries) if kind else plugins)
    if kind is not None and not (inspect.isclass(found) and kind.fits(found)):
        raise ConfigError([f"_target_={path}: is not {kind.name}"])
    return found


def close_names(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that says what was probably meant, or what there is."""
    known = sorted(set(known))
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.55)
    near += [name for name in known if len(word) > 2 and word in name and name not in near][: 3 - len(near)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 20 else "see r4r --cfg job for what there is"
