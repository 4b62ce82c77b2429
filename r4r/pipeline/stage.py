"""What a stage is: one artifact, whose identity is all that its class declares and its fields hold.

A stage is a frozen dataclass. Its fields are settings, prompt texts, identities of models and teachers, and other
stages; its key is a hash of them, so whatever can change its output is in its key: `build` is given nothing else to
read but the artifacts of the stages among its fields, and the job's services.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from r4r.errors import ConfigError
from r4r.store.key import key_of
from r4r.store.source import source_identity, source_of


@dataclass(frozen=True)
class Stage:
    """One artifact: subclasses add fields, a name, and how it is built.

    Attributes:
        version: raised by hand when the code changes the output.
        infer: (work, rows) -> how the method predicts these rows afresh, to be timed; None where nothing can be timed.
        trains_adapter: whether a build trains an adapter on the job's base model.
    """

    version: ClassVar[int] = 1
    infer: ClassVar[Any] = None
    trains_adapter: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The folder below the store; also what `target=` names."""
        raise NotImplementedError

    @property
    def estimate(self) -> Any:
        """What a build would take, for `plan=true`: a number of rows, or words."""
        return ""

    def build(self, work: Any) -> dict[str, Any]:
        """Write files into `work.folder` and return facts for the manifest (tokens, dollars, counts)."""
        raise NotImplementedError

    @cached_property
    def inputs(self) -> dict[str, "Stage"]:
        """The stages among the fields, by where they stand: `summaries`, `shown.summaries`, `thoughts.0`."""
        return dict(_stages_in(self, ""))

    @cached_property
    def config(self) -> dict[str, Any]:
        """All that the key is made of, in plain values; a stage among the fields as its name and key."""
        return {"class": type(self).__name__, **plain({f.name: getattr(self, f.name) for f in fields(self)}, self.name)}

    def code(self) -> Iterator[Any]:
        """The classes and functions whose source shapes the output, beside those that `config` names."""
        yield type(self)

    @cached_property
    def unreleased(self) -> dict[str, str]:
        """File -> digest of the code outside of r4r's release that shapes the output: that of `code` and of every
        class that `config` names by `_target_`."""
        found: dict[str, str] = {}
        for thing in self.code():
            found |= source_identity(thing)
        for target in named_targets(self.config):
            found |= source_of(target)
        return dict(sorted(found.items()))

    @cached_property
    def key(self) -> str:
        inputs = {name: stage.key for name, stage in self.inputs.items()}
        return key_of(self.name, self.version, self.config, inputs, self.unreleased)

    def upstream(self) -> Iterator["Stage"]:
        """This stage and all that it depends on, inputs first, each once."""
        seen: set[tuple[str, str]] = set()

        def walk(stage: Stage) -> Iterator[Stage]:
            if (stage.name, stage.key) in seen:
                return
            seen.add((stage.name, stage.key))
            for before in stage.inputs.values():
                yield from walk(before)
            yield stage

        yield from walk(self)


@dataclass(frozen=True)
class Unkeyed:
    """A field that changes no output, and so is in no key: an estimate for plans, a bound that stops a build."""

    value: Any

    def identity(self) -> None:
        return None


def plain(value: Any, where: str) -> Any:
    """A field's value as JSON knows it.

    A value that is neither plain data, a stage, a pydantic model nor a dataclass says itself what it is, by a method
    `identity()`.

    Raises:
        ConfigError: for a value that says nothing of itself, so that no key could tell it from another, and for a
            number that is not finite.
    """
    if isinstance(value, Stage):
        return {"stage": value.name, "key": value.key}
    if hasattr(value, "identity"):
        return plain(value.identity(), where)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"), where)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, where) for inner in value]
    if isinstance(value, frozenset | set):
        return sorted(plain(inner, where) for inner in value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError([f"{where}: {value} cannot be part of an artifact's key"])
    if value is None or isinstance(value, bool | int | float | str):
        return value
    told = f"a {type(value).__name__} has no identity that an artifact's key could hold"
    raise ConfigError([f"{where}: {told}; keep numbers, texts, or what has a method identity()"])


def named_targets(config: Any) -> Iterator[str]:
    """Every class that a stage's configuration names by `_target_`, at any depth."""
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
        for inner in config.values():
            yield from named_targets(inner)
    elif isinstance(config, list | tuple):
        for inner in config:
            yield from named_targets(inner)


def _stages_in(value: Any, path: str) -> Iterator[tuple[str, Stage]]:
    if path and isinstance(value, Stage):
        yield path, value
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from _stages_in(getattr(value, f.name), f"{path}.{f.name}" if path else f.name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _stages_in(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _stages_in(inner, f"{path}.{place}")
