"""The one strict renderer: every field of a template is given, and every given field is used."""

import re
from functools import cache
from pathlib import Path

from r4r.errors import ConfigError

FIELD = re.compile(r"\{([a-z_]+)\}")


@cache
def template(name: str) -> str:
    """The text of a prompt, without its final newline.

    Args:
        name: of a file here, without its ending; or the path of a file that ends in `.txt`, as it stands or below the
            package's folder.

    Raises:
        ConfigError: there is no such file, or it is no text.
    """
    here = Path(__file__).parent
    places = [Path(name).expanduser(), here.parent / name] if name.endswith(".txt") else [here / f"{name}.txt"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ConfigError([f"prompt {name}: there is no such file"])
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise ConfigError([f"prompt {name}: is no text in UTF-8 (byte {error.start})"]) from error


def fields_of(name: str) -> set[str]:
    """The names in braces that a prompt is filled with."""
    return set(FIELD.findall(template(name)))


def render(name: str, **fields: str) -> str:
    """Fill a template. Braces inside a value stay as they are: values are never read as templates.

    Raises:
        KeyError: where a field of the template is missing, or a given field is not in it.
    """
    wanted = fields_of(name)
    if wanted != set(fields):
        raise KeyError(f"prompt '{name}' takes {sorted(wanted)}, given {sorted(fields)}")
    return FIELD.sub(lambda match: fields[match.group(1)], template(name))
