"""A stage for tests, of a function that builds it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from r4r.pipeline.stage import Stage, Unkeyed


@dataclass(frozen=True)
class Plain(Stage):
    """
    Attributes:
        title: the stage's name.
        made_by: (work) -> facts.
        before: inputs by name.
        settings: what else is in the key.
        inference: as a stage's `infer`.
    """

    title: str
    made_by: Unkeyed
    before: Mapping[str, Stage]
    settings: Mapping[str, Any]
    inference: Unkeyed

    @property
    def name(self) -> str:
        return self.title

    @property
    def infer(self) -> Any:  # type: ignore[override]
        return self.inference.value

    def code(self) -> Iterator[Any]:
        yield self.made_by.value

    def build(self, work: Any) -> dict[str, Any]:
        return self.made_by.value(work)


def plain_stage(
    name: str,
    build: Callable[[Any], dict[str, Any]] = lambda work: {},
    inputs: Mapping[str, Stage] | None = None,
    infer: Any = None,
    **settings: Any,
) -> Plain:
    """A stage of this name; its inputs are found as `before.<name>`."""
    return Plain(name, Unkeyed(build), dict(inputs or {}), settings, Unkeyed(infer))
