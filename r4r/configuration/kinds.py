"""Settings of another kind: those that the chosen option of a group does not have, and others of the group have.

Such a setting would be read by nobody. So it is an error, but for one that a preset or a recipe brings: a preset may
size the simulated world and serve for real data too, or set up a local teacher that the command line exchanges for a
server; a recipe sets the loss of an expert that is then given another objective.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from omegaconf import DictConfig

from r4r.configuration.constructors import setting_names
from r4r.configuration.teachers import KINDS
from r4r.files import conf_dir

WORLD = frozenset({"world"})  # settings of a simulated data set alone
RAW = frozenset(  # and of raw files
    [f"{file}{about}" for file in ("reviews", "meta") for about in ("", "_url", "_sha256")]
    + ["columns", "layout", "scale", "quoting", "max_bad_fraction", "strict", "memory_limit"]
)
SOURCES = ("amazon2014", "amazon2018", "amazon2023", "yelp", "custom")


@dataclass(frozen=True)
class Chosen:
    """A group and the kind that a job has chosen.

    Attributes:
        where: dotted key of the group.
        told: the choice, in words.
        node: its settings.
        names: those that the kind has.
        others: settings that each other kind has, by its name in words.
    """

    where: str
    told: str
    node: Mapping[Any, Any]
    names: frozenset[str]
    others: Mapping[str, frozenset[str]]

    def fault(self, name: str) -> str:
        """A sentence, if other kinds alone have a setting; else empty."""
        having = [kind for kind, names in self.others.items() if name in names]
        if name in self.names or not having:
            return ""
        rest = f" and {len(having) - 4} more" if len(having) > 4 else ""
        verb = "has it" if len(having) == 1 else "have it"
        return f"{self.told} has no such setting ({', '.join(having[:4])}{rest} {verb}); choose another, or drop it"


def strangers(values: Any, plugins: Sequence[str] = ()) -> dict[str, str]:
    """Dotted key -> sentence, for every setting of a configuration that only another kind of its group has.

    Args:
        values: a configuration, composed or in plain values.
        plugins: modules outside r4r that may be named.
    """
    return {
        f"{chosen.where}.{name}": f"{chosen.where}.{name}: {fault}"
        for chosen in _choices(values, tuple(plugins))
        for name in map(str, chosen.node)
        if (fault := chosen.fault(name))
    }


def stranger(key: str, values: Any, plugins: Sequence[str] = ()) -> str:
    """The sentence for one dotted key, whether or not the configuration holds it; empty where there is none to say."""
    around = [chosen for chosen in _choices(values, tuple(plugins)) if key.startswith(f"{chosen.where}.")]
    faults = (chosen.fault(key.removeprefix(f"{chosen.where}.").split(".")[0]) for chosen in around)
    return next(filter(None, faults), "")


def without_strangers(values: dict[Any, Any], keys: Mapping[str, str]) -> None:
    """Take the settings with these dotted keys out of plain values."""
    for key in keys:
        node: Any = values
        *path, name = key.split(".")
        for part in path:
            node = node[part]
        del node[name]


def _choices(values: Any, plugins: tuple[str, ...]) -> Iterator[Chosen]:
    judge = _node(_node(values, "metrics"), "gptscore")
    for where, node in (("teacher", _node(values, "teacher")), ("metrics.gptscore.judge", _node(judge, "judge"))):
        kind = _get(node, "kind")
        if kind in KINDS:
            fields = {name: frozenset(config.model_fields) for name, config in KINDS.items()}
            others = {f"teacher={name}": found for name, found in fields.items() if name != kind}
            yield Chosen(where, f"teacher={kind}", node, fields[kind], others)
    data = _node(values, "dataset")
    source = _get(data, "source")
    if source == "simulated":
        yield Chosen("dataset", "a simulated data set", data, frozenset(), dict.fromkeys(map(_source, SOURCES), RAW))
    elif source in SOURCES:
        told = f"a data set with {_source(source)}"
        yield Chosen("dataset", told, data, frozenset(), {"a simulated one": WORLD})
    for group, where, node in _classes(values):
        target = _get(node, "_target_")
        names = setting_names(str(target), plugins) if target else None
        if names is not None:
            own = frozenset(name.split(".")[0] for name in names) | {"_target_"}
            others = {f"{group}={option}": found for option, found in _options(group) if found != own}
            yield Chosen(where, f"{group}={_get(node, 'name')}" if "name" in node else where, node, own, others)


def _source(name: str) -> str:
    return f"source={name}"


def _classes(values: Any) -> Iterator[tuple[str, str, Mapping[Any, Any]]]:
    """(group, dotted key, node) of every node whose class says which settings it takes."""
    for group in ("method", "reason_source"):
        yield group, group, _node(values, group)
    for group, members in (("method", "references"), ("expert", "experts")):
        nodes = _node(values, members)
        for name in nodes:
            node = _node(nodes, str(name))
            yield group, f"{members}.{name}", node
            if group == "expert":
                yield "objective", f"{members}.{name}.objective", _node(node, "objective")


@lru_cache(maxsize=8)
def _options(group: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """(option, names of its class's settings) of a group."""
    found = []
    for file in sorted((conf_dir() / group).glob("*.yaml")):
        node = yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader) or {}
        names = setting_names(str(node["_target_"])) if "_target_" in node else None
        if names is not None:
            found.append((file.stem, frozenset(name.split(".")[0] for name in names) | {"_target_"}))
    return tuple(found)


def _node(values: Any, key: str) -> Mapping[Any, Any]:
    """A group below; an empty one where there is none."""
    node = _get(values, key)
    return node if isinstance(node, Mapping | DictConfig) else {}  # type: ignore[return-value]


def _get(values: Any, key: str) -> Any:
    """A value; None where it is not there or cannot be resolved."""
    try:
        return values.get(key) if isinstance(values, Mapping | DictConfig) else None
    except Exception:  # an interpolation that leads nowhere is told by the check of all values
        return None
