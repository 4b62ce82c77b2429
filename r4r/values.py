"""Groups of values that come from outside: typed, closed, and without pydantic's liberty to take `true` for 1."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

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
        fields = {name: _alternatives(field.annotation) for name, field in cls.model_fields.items()}
        return {name: _marked(value, fields.get(name, [])) for name, value in given.items()}


def _alternatives(annotation: Any) -> list[Any]:
    """The types of which a value may have one."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _alternatives(inner[0])
    if origin in (Union, UnionType):
        return [one for member in inner for one in _alternatives(member)]
    return [type(value) for value in inner] if origin is Literal else [annotation]


def _marked(value: Any, alternatives: list[Any]) -> Any:
    """A value, or what it holds, with a `_Switch` for each switch that stands where a number belongs."""
    if isinstance(value, bool):
        number = (int in alternatives or float in alternatives) and not {bool, Any, object}.intersection(alternatives)
        return _Switch(value) if number else value
    if isinstance(value, list):
        inside = [inner for one in alternatives for inner in _items(one)]
        return [_marked(item, inside) for item in value]
    if isinstance(value, dict):
        return {
            key: _marked(inner, [kind for one in alternatives for kind in _at(one, key)])
            for key, inner in value.items()
        }
    return value


def _items(kind: Any) -> list[Any]:
    """The alternatives of the items of a list, or of another sequence."""
    if get_origin(kind) is Callable:  # what it takes and returns is no setting
        return []
    return [one for inner in get_args(kind) for one in _alternatives(inner)]


def _at(kind: Any, key: Any) -> list[Any]:
    """The alternatives of the value that a mapping, or a group that pydantic reads in its own way, has by a key."""
    origin = get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _alternatives(get_args(kind)[-1])
    return _fields(kind).get(key, []) if isinstance(kind, type) else []


@lru_cache(maxsize=256)
def _fields(kind: type) -> dict[str, list[Any]]:
    group = is_dataclass(kind) or (issubclass(kind, BaseModel) and not issubclass(kind, Values))
    hints = get_type_hints(kind) if group else {}
    return {name: _alternatives(hint) for name, hint in hints.items()}
