"""Lines of raw text files: numbered, bounded in length, and parsed as JSON or as Python literals."""

import ast
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, AnyStr

Fields = dict[str, Any]

BROKEN = "broken line"
ENCODING = "not UTF-8"
LONGEST = 1 << 24  # bytes (of a table, characters) of a line; a longer one is a fault, and never held as a whole
LONGEST_LITERAL = 1 << 20  # the same of a Python literal, whose syntax tree takes a hundred times its size
TOO_LONG = f"line longer than {LONGEST >> 20} MiB"
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_NAMES = {  # what a printed Python object has in place of a literal
    "nan": math.nan, "NaN": math.nan, "inf": math.inf, "Infinity": math.inf, "null": None, "true": True, "false": False,
}  # fmt: skip


def bounded(stream: IO[AnyStr]) -> Iterator[tuple[int, AnyStr | None]]:
    """Number (from 1) and text of each line, its end included; None for a line beyond the limit, which is passed over.

    Args:
        stream: of bytes, or of text that keeps its line ends.
    """
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        if len(line) < LONGEST or _ended(line):
            yield number, line
            continue
        while (rest := stream.readline(LONGEST)) and not _ended(rest):
            pass
        yield number, None


def _ended(line: AnyStr) -> bool:
    return line.endswith(("\n", "\r") if isinstance(line, str) else b"\n")


class LineParser:
    """Parses lines that hold an object each.

    Args:
        literal: lines are Python literals, not JSON.
        names: fields that a line may not have twice: which one was meant cannot be told.
    """

    def __init__(self, literal: bool, names: Iterable[str]):
        self.literal = literal
        quotes = ('"', "'") if literal else ('"',)
        self._named = [(name, [f"{quote}{name}{quote}" for quote in quotes]) for name in dict.fromkeys(names)]

    def __call__(self, line: bytes) -> Fields | str:
        """The fields of a line, or what is wrong with it."""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return ENCODING
        if self.literal and len(text) > LONGEST_LITERAL:
            return f"line longer than {LONGEST_LITERAL >> 20} MiB"
        try:
            fields = _literal(text) if self.literal else _json(text)
            if not isinstance(fields, dict):
                return BROKEN
            for name, marks in self._named:
                if sum(map(text.count, marks)) > 1 and self._keys(text).count(name) > 1:
                    return f"field '{name}' twice in one line"
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return BROKEN
        return fields

    def _keys(self, text: str) -> Sequence[Any]:
        """The keys of a line's object as they are written, repeated ones included."""
        keys: list[Any] = []
        if self.literal and not _is_json(text):
            top = ast.parse(text.strip(), mode="eval").body
            return [k.value for k in top.keys if isinstance(k, ast.Constant)] if isinstance(top, ast.Dict) else keys

        def remember(pairs: list[tuple[str, Any]]) -> Fields:
            keys[:] = [key for key, _ in pairs]  # the outermost object comes last
            return dict(pairs)

        json.loads(text, object_pairs_hook=remember)
        return keys


def repeated(names: Sequence[str]) -> list[str]:
    """The names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def undecoded(text: str) -> bool:
    """Whether a text that was read with `surrogateescape` holds bytes that are not UTF-8."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _json(text: str) -> Any:
    """What `json.loads` gives; a line that is one value and its newline takes a shorter way there."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # no value at the first character
        return json.loads(text)
    return value if end == len(text) or text[end:] in ("\n", "\r\n") else json.loads(text)


def _is_json(text: str) -> bool:
    """Whether a line of a file of Python literals is JSON, as some copies of the 2014 files hold."""
    if text.startswith('{"'):
        try:
            json.loads(text)
        except ValueError:
            return False
        return True
    return False


def _literal(text: str) -> Any:
    """A Python literal in which nan and the like may stand for values, or JSON."""
    if _is_json(text):
        return json.loads(text)
    try:
        return ast.literal_eval(text.strip())
    except ValueError:  # a name where a literal should be
        return ast.literal_eval(_Named().visit(ast.parse(text.strip(), mode="eval")))


class _Named(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(_NAMES[node.id]), node) if node.id in _NAMES else node
