"""The teacher's cache: what it keeps, what it never overwrites, and how it moves."""

import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r4r.errors import AnswerCut, AnswerEmpty, AnswerRefused, R4RError, TeacherError
from r4r.teacher.base import Answer, Call
from r4r.teacher.cache import TeacherCache, key_of_call
from r4r.teacher.cli import main

TEACHER = {"kind": "openai", "model": "m"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CALLS = st.builds(Call, TEXT, st.floats(0, 2), st.integers(1, 4000), st.integers(0, 10))
ANSWERS = st.builds(Answer, TEXT, st.integers(0, 10**6), st.integers(0, 10**6), st.none() | st.floats(0, 10))


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    return TeacherCache(tmp_path / "a" / "teacher.sqlite")


def run(cache: TeacherCache, *argv: str) -> int:
    return main(["--cache", str(cache.path), *argv])


def cut() -> TeacherError:
    failure = AnswerCut("cut off at 20 tokens")
    failure.tokens_in, failure.tokens_out, failure.dollars = 7, 20, 0.5
    return failure


def test_what_shapes_an_answer_is_in_its_key() -> None:
    call = Call("a", 1.0, 20, 0)
    others = [Call("b", 1.0, 20), Call("a", 0.2, 20), Call("a", 1.0, 21), Call("a", 1.0, 20, 1)]
    keys = [key_of_call(TEACHER, c) for c in (call, *others)] + [key_of_call(TEACHER | {"model": "n"}, call)]
    assert len(set(keys)) == 6
    assert key_of_call(TEACHER, Call("a", 1, 20)) == keys[0] == key_of_call({"model": "m", "kind": "openai"}, call)


def test_the_key_of_a_call_is_pinned() -> None:
    """A changed key would pay for every answer again."""
    assert key_of_call(TEACHER, Call("Why?", 1.0, 320, 3)) == "88611b096bc5446120d31e282e283f3447deb51e"


def test_an_answer_stays_and_a_failure_gives_way(cache: TeacherCache) -> None:
    call = Call("a", 1.0, 20)
    key = key_of_call(TEACHER, call)
    assert cache.get(key) is None
    cache.put(TEACHER, call, cut())
    found = cache.get(key)
    assert type(found) is AnswerCut
    assert (str(found), found.tokens_out, found.dollars, found.cached) == ("cut off at 20 tokens", 20, 0.5, True)
    cache.put(TEACHER, call, Answer("first", 1, 1, 0.1))
    cache.put(TEACHER, call, Answer("second", 1, 1, 0.1))
    cache.put(TEACHER, call, AnswerEmpty("empty"))
    assert cache.get(key) == Answer("first", 1, 1, 0.1, cached=True)
    (spent,) = cache.spent()
    assert spent == ("m", 4, 9, 22, pytest.approx(0.7))  # all four were paid


def test_a_failure_cannot_be_stored_as_an_answer(cache: TeacherCache) -> None:
    cache.put(TEACHER, Call("a", 1.0, 20), AnswerRefused("refused"))
    with sqlite3.connect(cache.path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("UPDATE outcomes SET kind = 'answer'")


def test_money_is_reserved_up_to_the_budget(cache: TeacherCache) -> None:
    first, second = cache.reserve(0.4, 1.0), cache.reserve(0.6, 1.0)
    assert first is not None
    assert second is not None
    assert cache.reserve(0.01, 1.0) is None
    cache.release(first)
    cache.put(TEACHER, Call("a", 1.0, 20), Answer("x", 1, 1, 0.3), second)
    assert cache.money() == (0.3, 0)


def test_claims(cache: TeacherCache) -> None:
    assert cache.claim(["a", "b"], 60) == {"a", "b"}
    assert cache.claim(["b", "c"], 60) == {"b", "c"}  # our own
    with sqlite3.connect(cache.path) as db:
        for key, owner in (("d", "elsewhere:1:x"), ("e", "elsewhere:1:x"), ("f", "elsewhere:1:x")):
            db.execute("INSERT INTO claims VALUES (?, ?, ?)", (key, owner, 2e9 * 5 if key != "f" else 0))
    assert cache.claim(["d", "f"], 60) == {"f"}  # one that is out of date is free
    cache.unclaim()
    with sqlite3.connect(cache.path) as db:
        assert db.execute("SELECT key FROM claims ORDER BY key").fetchall() == [("d",), ("e",)]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are notes, " * 100)
    with pytest.raises(R4RError, match=r"notes\.txt: cannot be used"):
        TeacherCache(tmp_path / "notes.txt")
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        db.execute("CREATE TABLE things (x)")
    with pytest.raises(R4RError, match="format 0, not 2"):
        TeacherCache(tmp_path / "other.sqlite")


# moving


@settings(max_examples=15)
@given(st.dictionaries(CALLS, ANSWERS | st.just("refused"), max_size=5))
def test_export_and_import_are_inverse(tmp_path_factory: pytest.TempPathFactory, rows: dict[Call, Any]) -> None:
    folder = tmp_path_factory.mktemp("cache")
    one, two = TeacherCache(folder / "one.sqlite"), TeacherCache(folder / "two.sqlite")
    for call, outcome in rows.items():
        one.put(TEACHER, call, AnswerRefused("no") if outcome == "refused" else outcome)
    assert run(one, "export", str(folder / "rows.jsonl")) == 0
    assert run(two, "import", str(folder / "rows.jsonl")) == 0
    assert list(two.export()) == list(one.export())
    assert two.spent() == []  # paid elsewhere
    for cache in (one, two):
        cache.close()


def test_conflicts_are_counted_and_what_is_here_stays(cache: TeacherCache, tmp_path: Path, capsys: Any) -> None:
    other = TeacherCache(tmp_path / "other.sqlite")
    for n in range(4):
        other.put(TEACHER, Call(f"c{n}", 1.0, 20), Answer(f"theirs {n}", 1, 1))
    cache.put(TEACHER, Call("c0", 1.0, 20), Answer("ours", 1, 1))
    cache.put(TEACHER, Call("c1", 1.0, 20), Answer("theirs 1", 1, 1))
    file = tmp_path / "rows.jsonl"
    assert run(other, "export", str(file)) == run(cache, "import", str(file)) == 0
    assert "2 new rows, 1 known, 1 in conflict" in capsys.readouterr().out
    assert cache.get(key_of_call(TEACHER, Call("c0", 1.0, 20))) == Answer("ours", 1, 1, cached=True)


def test_an_export_is_read_from_a_pipe(cache: TeacherCache, tmp_path: Path, capsys: Any) -> None:
    other = TeacherCache(tmp_path / "other.sqlite")
    other.put(TEACHER, Call("c", 1.0, 20), Answer("x", 1, 1))
    file, pipe = tmp_path / "rows.jsonl", tmp_path / "pipe"
    assert run(other, "export", str(file)) == 0
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    writer.start()
    assert run(cache, "import", str(pipe)) == 0
    writer.join()
    assert "1 new rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: "{not json", "not JSON"),
        (lambda row: "[1, 2]", "valid dictionary"),
        (lambda row: json.dumps(row | {"prompt": "another"}), "the key is not that of"),
        (lambda row: json.dumps(row | {"text": None}), "an answer has a text"),
        (lambda row: json.dumps(row | {"kind": "guess"}), "kind 'guess'"),
        (lambda row: json.dumps(row | {"tokens_in": -1}), "tokens_in"),
        (lambda row: json.dumps(row | {"tokens_in": 2**80}), "tokens_in"),
        (lambda row: json.dumps(row | {"dollars": -1.0}), "dollars"),
        (lambda row: json.dumps(row | {"dollars": float("inf")}), "dollars"),
        (lambda row: json.dumps(row | {"text": "\ud800"}), "surrogates"),
        (lambda row: json.dumps(row | {"temperature": float("nan")}), "JSON"),
        (lambda row: json.dumps({k: v for k, v in row.items() if k != "at"}), "at: Field required"),
        (lambda row: json.dumps(row | {"more": 1}), "more"),
        (lambda row: '{"a": "\xff"}', "valid"),
    ],
)
def test_malformed_lines_are_named_and_nothing_is_taken(
    cache: TeacherCache, tmp_path: Path, capsys: Any, change: Any, said: str
) -> None:
    other = TeacherCache(tmp_path / "other.sqlite")
    for n in range(3):
        other.put(TEACHER, Call(f"c{n}", 1.0, 20), Answer("x", 1, 1))
    file = tmp_path / "rows.jsonl"
    run(other, "export", str(file))
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[1] = change(json.loads(lines[1]))
    file.write_bytes("\n".join(lines).encode("latin-1"))
    assert run(cache, "import", str(file)) == 1
    told = capsys.readouterr().err
    assert "line 2: " in told
    assert said in told
    assert "line 1" not in told
    assert list(cache.export()) == []


def test_show_and_what_is_missing(cache: TeacherCache, tmp_path: Path, capsys: Any) -> None:
    cache.put(TEACHER, Call("a", 1.0, 20), Answer("x", 10, 5, 0.25))
    cache.put(TEACHER, Call("b", 1.0, 20), cut())
    cache.reserve(0.1, 10)
    assert run(cache, "show") == 0
    told = capsys.readouterr().out
    assert "answer: 1\ncut: 1\n" in told
    assert "spent on m: 2 calls, 17 tokens in, 25 out, $0.7500" in told
    assert "reserved: $0.1000" in told
    assert main(["--cache", str(tmp_path / "none.sqlite"), "export", "x"]) == 1
    assert "there is no such cache" in capsys.readouterr().err
    assert run(cache, "import", str(tmp_path / "none.jsonl")) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "none.sqlite").exists()


def test_an_export_that_cannot_be_written_is_a_sentence(
    cache: TeacherCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, why in (
        (tmp_path, "is a folder; name a file to write to"),
        (Path("/"), "is a folder; name a file to write to"),
        (tmp_path / "none" / "rows.jsonl", "cannot be written (No such file or directory)"),
        (cache.path, "is there already; name a new file, since nothing is written over"),
    ):
        assert run(cache, "export", str(place)) == 1
        assert capsys.readouterr().err == f"r4r-teacher: {place}: {why}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
