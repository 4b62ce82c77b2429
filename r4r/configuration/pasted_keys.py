"""A key typed where the name of its environment variable belongs: refused, and never repeated, printed or stored."""

import os
import re
from collections.abc import Iterable, Iterator

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# what a variable is called that is not set yet; a key of any provider looks otherwise
USUAL = re.compile(r"(?=.{3,48}\Z)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
SAYS_SO = re.compile(r"(?:\A|_)(?:API)?(?:KEYS?|TOKENS?|SECRETS?|PASSWORD)(?:_|\Z)")
SETTING = re.compile(
    r"(?:\A|[\s.+~{,'\"])(?P<name>[\w.@]*(?:key_env|api_?key))['\"]?\s*[=:]\s*(?P<value>.*)", re.DOTALL
)
WANTED = "must be the name of an environment variable (set it first, or call it ..._API_KEY), never the key itself"
REFERENCE = re.compile(r"\$\{[a-z_.]+\}")


def is_variable(value: str) -> bool:
    """Whether a text is the name of an environment variable: one that is set, or that says that it holds a key."""
    if not NAME.fullmatch(value):
        return False
    return value in os.environ or bool(USUAL.fullmatch(value) and SAYS_SO.search(value))


def refused(overrides: Iterable[str]) -> list[str]:
    """A sentence for each override that holds what may be a key; it names the setting alone."""
    found = []
    for override in overrides:
        for name, values in _settings(override):
            if name.endswith("key_env") and all(_harmless(value) for value in values):
                continue
            no_such = "there is no such setting; a key comes from the environment variable that key_env names"
            found.append(f"{name}: {WANTED if name.endswith('key_env') else no_such}")
    return list(dict.fromkeys(found))


def _settings(override: str) -> Iterator[tuple[str, list[str]]]:
    """(setting, its values) of those in an override that may hold a key, within braces too."""
    whole = SETTING.match(override.lstrip("+~"))
    if whole:
        yield whole["name"], whole["value"].split(",")
        return
    for inner in SETTING.finditer(override):
        yield inner["name"], [re.split(r"[,}]", inner["value"], maxsplit=1)[0]]


def _harmless(value: str) -> bool:
    value = value.strip().strip("'\"")
    return value in ("", "null", "~", "None") or is_variable(value) or REFERENCE.fullmatch(value) is not None
