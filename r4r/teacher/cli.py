"""`r4r-teacher`: look at the teacher's cache, move it as JSON lines, give up a batch."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from r4r.errors import DataError, R4RError
from r4r.files import a_path, outputs_folder
from r4r.teacher.base import Call
from r4r.teacher.cache import FAILURES, TeacherCache, key_of_call

CACHE = "teacher.sqlite"  # below paths.outputs
CHUNK = 1000  # rows a transaction
SHOWN = 5  # malformed lines that are named


class Row(BaseModel):
    """One line of an export."""

    model_config = ConfigDict(extra="forbid", strict=True)
    key: str
    kind: str
    teacher: dict[str, Any]
    prompt: str
    temperature: float | None
    max_tokens: int = Field(ge=1, lt=2**63)
    attempt: int = Field(ge=0, lt=2**63)
    text: str | None
    problem: str | None
    tokens_in: int = Field(ge=0, lt=2**63)
    tokens_out: int = Field(ge=0, lt=2**63)
    dollars: float | None = Field(ge=0, allow_inf_nan=False)
    at: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _whole(self) -> "Row":
        if self.kind not in ("answer", *FAILURES):
            raise ValueError(f"kind '{self.kind}' is none of answer, {', '.join(FAILURES)}")
        if (self.text is not None) != (self.kind == "answer") or (self.problem is None) != (self.kind == "answer"):
            raise ValueError("an answer has a text and no problem, a failure a problem and no text")
        (self.text or self.problem or "").encode()  # half a surrogate pair is no text: a ValueError
        call = Call(self.prompt, self.temperature, self.max_tokens, self.attempt)
        if self.key != key_of_call(self.teacher, call):
            raise ValueError("the key is not that of this teacher, prompt and settings")
        return self


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong command line."""
    parser = argparse.ArgumentParser("r4r-teacher", description="The cache of answers that teachers were paid for.")
    default = outputs_folder() / CACHE
    parser.add_argument("--cache", type=a_path, default=default, help=f"default: R4R_OUTPUTS/{CACHE}, here %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", help="answers, failures and what was spent")
    for name, text in (("export", "write all rows as JSON lines"), ("import", "take in rows of an export")):
        commands.add_parser(name, help=text).add_argument("file", type=a_path, metavar="FILE.jsonl")
    commands.add_parser("forget-batch", help="give up a batch that no run can read any more").add_argument("batch")
    args = parser.parse_args(argv)
    try:
        if args.command != "import" and not args.cache.exists():
            raise DataError(f"{args.cache}: there is no such cache; name it with --cache")
        cache = TeacherCache(args.cache)
        if args.command == "show":
            show(cache)
        elif args.command == "export":
            print(f"{export_file(cache, args.file)} rows written to {args.file}")
        elif args.command == "import":
            n = import_file(cache, args.file)
            print(f"{n['new']} new rows, {n['same']} known, {n['conflict']} in conflict (left as they were)")
        elif not cache.forget_batch(args.batch):
            raise DataError(f"{args.cache}: knows no batch {args.batch}")
    except R4RError as error:
        print(f"r4r-teacher: {error}", file=sys.stderr)
        return 1
    return 0


def show(cache: TeacherCache) -> None:
    """Print what the cache holds, and the money."""
    for kind, count in cache.counts().items():
        print(f"{kind}: {count}")
    for model, calls, tokens_in, tokens_out, dollars in cache.spent():
        print(f"spent on {model}: {calls} calls, {tokens_in} tokens in, {tokens_out} out, ${dollars:.4f}")
    for name, server_id, address, count in cache.open_batches():
        print(f"open batch {name}: {count} calls in {server_id} at {address}, sent and not read yet")
    reserved = cache.money()[1]
    if reserved:
        print(f"reserved: ${reserved:.4f} (in flight, or perhaps paid in calls that broke off)")


def export_file(cache: TeacherCache, path: Path) -> int:
    """Write every row; the file is there whole or not at all.

    Returns:
        How many rows.
    Raises:
        DataError: the file is there already, or cannot be written.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file to write to")
    if path.exists() or path.is_symlink():
        raise DataError(f"{path}: is there already; name a new file, since nothing is written over")
    temporary = path.with_name(path.name + ".tmp")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for count, row in enumerate(cache.export(), 1):  # noqa: B007
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    return count


def import_file(cache: TeacherCache, path: Path) -> dict[str, int]:
    """Take in an export. Nothing is taken in where a line is malformed.

    Returns:
        Counts of `new`, `same` and `conflict` rows.
    Raises:
        DataError: the file is missing, or naming its malformed lines.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe, which can be read but once
        with NamedTemporaryFile() as whole, path.open("rb") as stream:
            shutil.copyfileobj(stream, whole)
            whole.flush()
            return import_file(cache, Path(whole.name))
    problems = []
    for number, row in _rows(path):
        if isinstance(row, str):
            problems.append(f"line {number}: {row}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"{path}: nothing was imported:\n  " + "\n  ".join(problems[:SHOWN]) + more)
    total = {"new": 0, "same": 0, "conflict": 0}
    chunk: list[dict[str, Any]] = []
    for _, row in _rows(path):
        assert isinstance(row, Row)
        chunk.append(row.model_dump())
        if len(chunk) == CHUNK:
            total = {name: total[name] + count for name, count in cache.adopt(chunk).items()}
            chunk = []
    return {name: total[name] + count for name, count in cache.adopt(chunk).items()}


def _rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    """(line number, row or what is wrong with it)."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield number, Row.model_validate(json.loads(line))
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]
                    where = ".".join(map(str, first["loc"]))
                    yield number, f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
                except (ValueError, RecursionError) as error:
                    yield number, f"not JSON ({getattr(error, 'msg', error)})"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
