"""What a text says under each of some headings, in whatever layout a chat model chose, as one line a heading."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "None"
MARKS = r"[^\w\n|(]"  # bullets, stars, hashes, quotes, check marks, emoji
ITEM = re.compile(r"^\s*(?:[-*+•‣◦▪●○·–—✓✔]|\(?\d{1,2}[.)]|\(?[a-zA-Z][.)])\s+")
RULE = re.compile(r"^[\s|:+=_*`~—–-]*$")  # a line of a table or a frame, a fence, a blank
SHORT, LONG = 3, 6  # words of an item on a line of its own, at most: in a sentence or behind the last heading, else
EMPTY = re.compile(
    r"(?:none|n\.?/?a\.?|nil|nothing|no(?:ne|thing)? (?:\w+ ){0,4}?(?:mentioned|stated|specified|given|found|noted"
    r"|listed|identified|provided)|not (?:\w+ )?(?:mentioned|stated|specified|given|applicable|provided))"
    r"(?: (?:in|by|from|explicitly)\b.*)?(?:\s*\(.*\))?",
    re.IGNORECASE,
)
HTML = (
    (r"<\s*li\b[^<>]*>", "\n- "),
    (r"<\s*/?\s*(?:br|p|div|tr|h\d|ul|ol|li)\b[^<>]*>", "\n"),
    (r"</?[a-z][a-z0-9]*\s*/?>", ""),
)


def labelled_lines(text: str, fields: Sequence[str], once: bool = False) -> str | None:
    """`field: items` for each field, on a line each, `None` where nothing is named.

    Read are: the field and a colon before its items, on the same line or before a list or lines of them; headings in
    Markdown, bold, numbered or in bullets; all fields on one line; JSON; a table of two columns, or of one a field.

    Args:
        fields: the headings; case, a final s, `_` for a blank and remarks in brackets do not count.
        once: a field that stands there twice, saying different things, makes the text ambiguous. Else its first
            counts: a small model that does not stop repeats itself.

    Returns:
        None where a field is missing, where no field has items or says that there are none, or where it is ambiguous.
    """
    found = _from_json(text, fields)
    if found is None:
        for pattern, to in HTML:
            text = re.sub(pattern, to, text, flags=re.IGNORECASE)
        found = _from_columns(text, fields) or _from_headings(text, fields)
    bodies: dict[str, str] = {}
    for field, body in found:
        if once and bodies.get(field, body) != body:
            return None
        bodies.setdefault(field, body)
    if set(bodies) != set(fields) or not any(bodies.values()):
        return None
    return "\n".join(f"{field}: {_said(bodies[field])}" for field in fields)


def _said(body: str) -> str:
    return NONE if not body or EMPTY.fullmatch(body) else body


def _heading(field: str) -> str:
    """A pattern of a field's name."""
    words = field.split()
    last = rf"{words[-1].removesuffix('s')}s?" if len(words) > 1 else words[-1]
    if len(words) > 2:  # "User Preferences" for "User Preference Elements"
        start = r"[\s_-]+".join(words[:-1])
        return rf"{start}(?:s|s?[\s_-]+{last})?"
    return r"[\s_-]+".join([*words[:-1], last])


def _from_headings(text: str, fields: Sequence[str]) -> list[tuple[str, str]]:
    """(field, items) in the order of the text."""
    starts: list[tuple[int, int, str]] = []
    for field in fields:
        name = rf"(?<!\w){_heading(field)}(?!\w)(?:[ \t]*\([^()\n]*\))?"
        # on a line of its own or at its beginning, or within a line behind a stop
        alone = rf"^{MARKS}*(?:\(?[0-9a-zA-Z][.)]{MARKS}+)?\|?{MARKS}*{name}{MARKS}*?(?:[:：=|]|[ \t][-–—][ \t]|$)"
        within = rf"[;|.,/]{MARKS}*{name}[*_\"'`]*:"
        starts += [
            (match.start(), match.end(), field)
            for match in re.finditer(f"{alone}|{within}", text, re.IGNORECASE | re.MULTILINE)
        ]
    starts.sort()
    ends = [*(start for start, _, _ in starts[1:]), *([len(text)] if starts else [])]
    found, apart = [], False  # whether a list has had lines of its own, without bullets
    for place, ((_, start, field), end) in enumerate(zip(starts, ends, strict=True), 1):
        items, own = _items(text[start:end], place < len(starts), apart)
        apart = apart or own
        found.append((field, items))
    return found


def _items(body: str, bounded: bool, apart: bool) -> tuple[str, bool]:
    """The items behind a heading: those on its line, else the list or the lines below it; what follows is a remark.

    Args:
        bounded: whether another heading follows, so that a line before it is hardly a remark.
        apart: whether the items of a heading before stood on lines of their own, without bullets.
    Returns:
        The items, and whether these did.
    """
    first, *rest = body.split("\n")
    items = [_tidy(first)] if _tidy(first) else []
    below, listed, own = not items, False, False
    for line in rest:
        if RULE.match(line):
            if items and not listed:
                break
            continue
        bullet = ITEM.match(line)
        if not bullet and (listed or (items and not items[-1].endswith(","))):
            if listed or not below or not _is_item(line, items[0], bounded, apart):
                break
            own = True
        listed = listed or bool(bullet)
        items.append(_tidy(line[bullet.end() :] if bullet else line))
    return ", ".join(item.rstrip(",") for item in items if item), own


def _is_item(line: str, first: str, bounded: bool, apart: bool) -> bool:
    """Whether a line without a bullet, behind the first item on a line of its own, is one more item and no remark."""
    words, told = len(line.split()), line.strip()
    if EMPTY.fullmatch(first) or not (bounded or apart) or ":" in told or told.startswith("("):
        return False
    if told.endswith(("!", "?")) or (told.endswith(".") and words > SHORT):
        return False
    return words <= LONG if bounded else words <= SHORT and not any(sign.isdigit() for sign in told)


def _tidy(item: str) -> str:
    item = re.sub(r"\*\*|__|`|(?<!\w)[*_]|[*_](?!\w)", "", item)
    return re.sub(r"\s+", " ", item).strip(" \t.;|:\"'[]{}-–—=#>•")


def _from_columns(text: str, fields: Sequence[str]) -> list[tuple[str, str]]:
    """The same of a table whose head names all fields; empty where there is none."""
    rows = [
        [_tidy(cell) for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.count("|") > 1
    ]
    if not rows:
        return []
    columns = [[i for i, cell in enumerate(rows[0]) if re.fullmatch(_heading(f), cell, re.IGNORECASE)] for f in fields]
    if not all(len(places) == 1 for places in columns):
        return []
    return [
        (field, ", ".join(row[place] for row in rows[1:] if place < len(row) and row[place]))
        for field, (place,) in zip(fields, columns, strict=True)
    ]


def _from_json(text: str, fields: Sequence[str]) -> list[tuple[str, str]] | None:
    """The same of a JSON object; None where the text is none."""
    inner = re.search(r"\{.*\}", text, re.DOTALL)
    if not inner:
        return None
    try:
        read = json.loads(inner[0])
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, Mapping):
        return None
    if len(read) == 1 and isinstance(only := next(iter(read.values())), Mapping):
        read = only
    found = []
    for field in fields:
        for key, value in read.items():
            if re.fullmatch(_heading(field), str(key).strip(), re.IGNORECASE):
                found.append((field, _spelt(value)))
    return found


def _spelt(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{key}: {_spelt(inner)}" for key, inner in value.items()]
    if isinstance(value, list):
        return ", ".join(filter(None, map(_spelt, value)))
    return "" if value is None else _tidy(str(value))
