"""The tour runs on any finished run, here on one of the tiny model."""

import os
import runpy
import sys
from pathlib import Path

import pytest

from r4r.report.records import Run

TOUR = Path(__file__).parent.parent / "experiments" / "tour"


def test_the_tour_goes_where_its_output_says(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tour.py", str(finished.path.parent), str(tmp_path / "tour.html")])
    before = {path for path, _, _ in os.walk(finished.config["paths"]["artifacts"])}
    runpy.run_path(str(TOUR / "tour.py"), run_name="__main__")
    printed = capsys.readouterr().out
    page = (tmp_path / "tour.html").read_text(encoding="utf-8")
    assert page.count("Histories") == 3
    assert {path for path, _, _ in os.walk(finished.config["paths"]["artifacts"])} == before
    shown = (TOUR / "tour.txt").read_text(encoding="utf-8")
    for mark in ("the run ", "the user's history: ", "the same under other reasons", "a critic's: ", "someone new: "):
        assert mark in printed
        assert mark in shown
