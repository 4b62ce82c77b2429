"""Groups of values that come from outside: typed, closed, and without pydantic's liberty to take `true` for 1."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


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
        numbers = {name for name, field in cls.model_fields.items() if _is_number(field.annotation)}
        return {name: _marked(value) if name in numbers else value for name, value in given.items()}


def _is_number(annotation: Any) -> bool:
    kinds = _kinds(annotation)
    return bool(kinds & {int, float}) and not kinds & {bool, Any}


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def _marked(value: Any) -> Any:
    if isinstance(value, list):
        return [_marked(one) for one in value]
    return _Switch(value) if isinstance(value, bool) else value
