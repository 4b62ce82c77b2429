"""What all groups of settings share."""

from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationInfo

from r4r.configuration.pasted_keys import WANTED, is_variable
from r4r.values import Values


class Section(Values):
    """A group of settings, which is read-only."""

    model_config = ConfigDict(frozen=True)


T = TypeVar("T")
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy and Lightning take as a seed."""


def variable(value: str | None) -> str | None:
    """The name of an environment variable that holds a key; raises ValueError where it may be the key itself."""
    if value is not None and not is_variable(value):
        raise ValueError(WANTED)
    return value


def address(value: str, key_env: str) -> str:
    """A server's address; raises ValueError where it is none, or holds what belongs into the environment."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"must hold no user, password or query: a key comes from the environment ({key_env})")
    return value.rstrip("/")


def read_if(section: type[Section], value: T, info: ValidationInfo, switch: str, why: str) -> T:
    """The value of a setting that is read only where another one is on.

    Args:
        switch: name of the other setting, which stands before it.
        why: the end of a sentence: who would read it.

    Raises:
        ValueError: the other one is off, and the value is not the default.
    """
    assert info.field_name is not None
    if not info.data.get(switch, True) and value != section.model_fields[info.field_name].default:
        raise ValueError(why)
    return value
