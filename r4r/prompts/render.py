"""The one strict renderer: every field of a template is given, and every given field is used."""

import re
from functools import cache
from pathlib import Path

FIELD = re.compile(r"\{([a-z_]+)\}")


@cache
def template(name: str) -> str:
    """The text of `prompts/<name>.txt`, without its final newline."""
    return (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def render(name: str, **fields: str) -> str:
    """Fill a template. Braces inside a value stay as they are: values are never read as templates.

    Raises:
        KeyError: where a field of the template is missing, or a given field is not in it.
    """
    text = template(name)
    wanted = set(FIELD.findall(text))
    if wanted != set(fields):
        raise KeyError(f"prompt '{name}' takes {sorted(wanted)}, given {sorted(fields)}")
    return FIELD.sub(lambda match: fields[match.group(1)], text)
