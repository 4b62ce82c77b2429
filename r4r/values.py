"""Groups of values that come from outside: typed, closed, and without pydantic's liberty to take `true` for 1."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

PLAIN = {int, float, str, type(None)}  # of which mappings and lists hold no switches


class _Switch:
    """In place of a `true` or `false` that is no number: nothing that pydantic would take for one."""

    def __init__(self, value: bool):
        self.value = value

    def __repr__(self) -> str:
        return str(self.value).lower()


class Values(BaseModel):
    """Values by name: a name that is not known is an error, and so are `nan`, infinity, and a switch for a number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _take_no_switch_for_a_number(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kinds = {name: _kinds(field.annotation) for name, field in cls.model_fields.items()}
        numbers = {name for name, found in kinds.items() if _is_number(found)}
        return {
            name: _marked(value, kinds[name] <= PLAIN) if name in numbers else value for name, value in given.items()
        }


def _is_number(kinds: set[Any]) -> bool:
    return bool(kinds & {int, float}) and not kinds & {bool, Any, object}


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {type(value) for value in inner}
    if origin is Callable:  # what it takes and returns is no setting
        return set()
    inner = inner[:1] if origin is Annotated else inner
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def _marked(value: Any, inside: bool) -> Any:
    """
    Args:
        inside: whether a mapping is one of plain values too, and no group with switches of its own.
    """
    if isinstance(value, list):
        return [_marked(one, inside) for one in value]
    if isinstance(value, dict) and inside:
        return {key: _marked(one, inside) for key, one in value.items()}
    return _Switch(value) if isinstance(value, bool) else value
