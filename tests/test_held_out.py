"""Held-out lessons: measured after each epoch, never learnt, logged and drawn."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.errors import DataError
from r4r.stages.train import hold_out


@given(
    st.lists(st.integers(0, 30), min_size=2).filter(lambda rows: len(set(rows)) > 1),
    st.floats(0, 0.99),
    st.integers(0, 9),
)
def test_lessons_are_learnt_or_held_out_by_row(rows: list[int], share: float, seed: int) -> None:
    lessons = [(row, f"prompt {n}", "answer") for n, row in enumerate(rows)]
    count = max(1, round(share * len(set(rows)))) if share else 0
    if count == len(set(rows)):
        with pytest.raises(DataError, match=r"experts\.reasoner\.validation_share"):
            hold_out(lessons, share, seed, "reasoner")
        return
    learnt, held_out = hold_out(lessons, share, seed, "reasoner")
    assert sorted([*learnt, *held_out]) == sorted(lessons)
    assert learnt == [lesson for lesson in lessons if lesson in learnt]
    aside = {row for row, _, _ in held_out}
    assert not aside & {row for row, _, _ in learnt}
    assert len(aside) == count


@pytest.mark.usefixtures("pictures")
def test_the_loss_of_held_out_lessons_is_logged_and_drawn(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["experts.summarizer.validation_share=0.25", "experts.summarizer.epochs=2"]
    job = ["experiment=smoke", "logger=csv", "target=train/summarizer", *own, f"paths.outputs={tmp_path}"]
    assert r4r(*job) == 0
    folder = Path(capsys.readouterr().out.strip().splitlines()[-1]).parent
    record = json.loads((folder / "result.json").read_text())
    (manifest,) = (tmp_path / "artifacts/train/summarizer").glob("*/manifest.json")
    facts = json.loads(manifest.read_text())
    (lessons,) = (tmp_path / "artifacts/train/summarizer.lessons").glob("*/data.parquet")
    assert facts["held_out"] == round(0.25 * len(pd.read_parquet(lessons)))
    assert facts["examples"] + facts["held_out"] == len(pd.read_parquet(lessons))
    logged = pd.read_csv(folder / "metrics.csv")
    assert (logged["name"] == "summarizer/valid/loss").sum() == 2
    assert (folder / "summarizer-loss.png").stat().st_size > 1000
    assert record["artifacts"]["train/summarizer"] == manifest.parent.name
