"""While a job runs: a line a stage, rates and time left, levels, a log that has all, folders that say what they are."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r import progress
from r4r.errors import TeacherError
from r4r.progress import LOG, bar, begin_stage, end_stage, expect, found_stage, rate, say, span, watching
from r4r.records import FOLDER_NAME, named_folder


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def a_job(clock: Clock, advance_by: float = 30.0) -> None:
    expect({("split", "a"): 0.0, ("train/x", "b"): 100.0, ("predict/x", "c"): 50.0, ("new", "d"): None})
    found_stage("split", "a")
    begin_stage("train/x", "b")
    with bar("train x", 10, done=2) as advance:
        clock.now += advance_by
        advance(3, "loss 0.5")
    say("a detail", progress.ALL)
    end_stage("train/x", "b", 75.0)


def test_without_a_terminal_a_stage_is_one_line_with_the_time_left(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with watching(1, tmp_path):
        a_job(clock)
    assert capsys.readouterr().err.splitlines() == [
        "hit   split a",
        "build train/x b in 75 s (2 of 4 stages, about 50 s and 1 stage of unknown length left)",
    ]


def test_levels_and_the_log(clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watching(0, tmp_path):
        a_job(clock)
    assert capsys.readouterr().err == ""
    with watching(2, tmp_path):
        a_job(clock)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "hit   split a",
        "build train/x b",
        "  train x: 5/10, 30 s, 10.0 s each, 50 s left (1 of 4 stages, about 2 min and 1 stage of unknown length left) "
        "loss 0.5",
        "a detail",
        "done  train/x in 75 s (2 of 4 stages, about 50 s and 1 stage of unknown length left)",
    ]
    logged = [line[21:] for line in (tmp_path / LOG).read_text(encoding="utf-8").splitlines()]
    assert logged == told * 2  # whatever is shown, and a second run goes on behind the first


def test_another_machines_figures_are_taken_by_how_this_one_compares(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {("train/x", "a"): 20.0, ("write/x", "b"): 40.0, ("predict/x", "c"): 7.0}
    for elsewhere, left in (({("train/x", "a"), ("write/x", "b")}, "87 s"), ((), "47 s")):
        with watching(1, tmp_path):
            expect(stages, elsewhere)
            begin_stage("train/x", "a")
            clock.now += 40.0
            end_stage("train/x", "a", 40.0)
        assert f"in 40 s (1 of 3 stages, about {left} left)" in capsys.readouterr().err


def test_a_job_that_ends_badly_says_so_in_its_log_without_what_caused_it(tmp_path: Path) -> None:
    def work() -> None:
        with watching(1, tmp_path):
            say("text\x1b[2J\x07")
            try:
                raise ValueError("sk-secret")
            except ValueError as cause:
                raise TeacherError("refused") from cause

    with pytest.raises(TeacherError):
        work()
    text = (tmp_path / LOG).read_text(encoding="utf-8")
    assert "ended by TeacherError: refused" in text
    assert "secret" not in text
    assert "\x1b" not in text
    say("after")
    assert "after" not in (tmp_path / LOG).read_text(encoding="utf-8")


def test_a_folder_that_takes_no_log_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with watching(1, tmp_path / "file"):
        say("goes on")
    assert "goes on" in capsys.readouterr().err


def test_a_bar_on_a_terminal_has_rate_and_time_left_of_itself_and_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = Console(file=(tmp_path / "screen").open("w"), force_terminal=True, width=160)
    monkeypatch.setattr(progress, "console", shown)
    monkeypatch.setattr(progress._Pace, "max_refresh", None, raising=False)
    with watching(1):
        expect({("a", "1"): 5400.0})
        with bar("write reasons [x]", 100) as advance:
            for _ in range(20):
                advance(1, "")
    shown.file.close()
    screen = (tmp_path / "screen").read_text(encoding="utf-8")
    assert "write reasons [x]" in screen
    assert "job: about 90 min left" in screen or "job: about 1.5 h left" in screen
    assert "/s" in screen


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations_and_rates(seconds: float, words: str) -> None:
    assert span(seconds) == words
    assert (rate(10, 4), rate(3, 30), rate(0, 4)) == ("2.5/s", "10.0 s each", "")


# folders


@given(st.lists(st.text(max_size=80), max_size=5))
def test_any_overrides_make_a_folder_of_one_plain_name(
    tmp_path_factory: pytest.TempPathFactory, given_: list[str]
) -> None:
    parent = tmp_path_factory.mktemp("sweep")
    (parent / "3").mkdir()
    made = named_folder(parent / "3", given_)
    assert made.is_dir()
    assert made.parent == parent
    assert list(parent.iterdir()) == [made]
    assert made.name.split("-")[0] == "3"
    assert len(made.name) <= FOLDER_NAME + 12
    (parent / "3").mkdir(exist_ok=True)  # a job that is queued again
    assert named_folder(parent / "3", given_) == made
    assert list(parent.iterdir()) == [made]


def test_a_folders_name_is_what_the_job_was_given(tmp_path: Path) -> None:
    for number, (overrides, name) in enumerate(
        [
            (["method=mf", "method.dim=8", "seed=1", "paths.outputs=/x", "logger=none"], "method=mf,dim=8,seed=1"),
            (["expert@experts.reasoner=mine", "llm=path:/a/b"], "reasoner=mine,llm=path_a_b"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        assert named_folder(tmp_path / str(number), overrides).name == f"{number}-{name}"
    (tmp_path / "9").mkdir()
    assert named_folder(tmp_path / "9", []).name == "9"
    long = [[f"method.k{n}={'v' * 30}" for n in range(9)] + [f"seed={seed}"] for seed in (1, 2)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = (named_folder(tmp_path / n, o) for n, o in zip("ab", long, strict=True))
    assert one.name[2:] != two.name[2:]
