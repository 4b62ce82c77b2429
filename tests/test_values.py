"""Groups of values: true and false are taken where a switch is meant, and for no number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from r4r.values import Values


class Inner(Values):
    on: bool = False
    share: float = 1.0


@dataclass
class Plain:
    n: int = 1
    on: bool = False


class Model(BaseModel):
    share: float = 1.0
    plain: Plain | None = None


class Group(Values):
    count: int = 1
    share: Annotated[float, Field(ge=0)] | None = None
    text: str | int = ""
    numbers: list[list[float]] = Field([])
    weights: dict[str, float] = Field({})
    each: list[dict[str, int]] = Field([])
    one_of: Literal[1, 2] = 1
    switch: bool | None = None
    clip: float | Literal[False] = 1.0
    either: float | bool = 1.0
    anything: Any = None
    thing: int | object = 1
    call: Callable[[float], float] | None = None
    inner: Inner = Inner()
    groups: dict[str, Inner] = Field({})
    some: list[Inner] = Field([])
    plain: Plain | None = None
    plains: dict[str, Plain] = Field({})
    models: list[Model] = Field([])
    mixed: list[float] | bool = Field([])


@pytest.mark.parametrize(
    "given",
    [
        {"count": True},
        {"share": False},
        {"text": True},
        {"numbers": [[1, True]]},
        {"weights": {"a": False}},
        {"each": [{"a": True}]},
        {"one_of": True},
        {"inner": {"share": True}},
        {"groups": {"a": {"share": True}}},
        {"some": [{"share": False}]},
        {"plain": {"n": True}},
        {"plains": {"a": {"n": True}}},
        {"models": [{"share": True}]},
        {"models": [{"plain": {"n": False}}]},
        {"mixed": [True]},
    ],
)
def test_a_switch_is_no_number(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Group.model_validate(given)


def test_a_switch_is_taken_where_it_may_be_one() -> None:
    given: dict[str, Any] = {"switch": True, "clip": False, "either": True, "anything": [True], "thing": True}
    given |= {"inner": {"on": True}, "groups": {"a": {"on": True}}, "some": [{"on": True}], "call": abs}
    given |= {"plain": {"on": True}, "plains": {"n": {"on": True}}, "models": [{"plain": {"on": True}}], "mixed": True}
    found = Group.model_validate(given)
    assert [getattr(found, name) for name in ("switch", "clip", "either", "anything")] == [True, False, True, [True]]
    assert found.thing is True
    assert (found.inner.on, found.groups["a"].on, found.some[0].on) == (True, True, True)
    assert found.mixed is True
    assert [found.plain, found.plains["n"], found.models[0].plain] == [Plain(on=True)] * 3
