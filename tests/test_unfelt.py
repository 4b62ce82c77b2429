"""An override that changes none of a job's artifacts is told; one that changes some, or has no other value, is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

SMOKE = "experiment=smoke"


@pytest.mark.parametrize(
    ("job", "unfelt", "felt"),
    [
        (
            [SMOKE],
            ["method.folds=3", "method.temperature=0.5"],
            ["experts.reasoner.lr=0.01", "dataset.history.prompt=3"],
        ),
        ([SMOKE], ["strategy.reasons=false", "dataset.max_review_chars=999"], ["dataset.tau=0.9", "trainer.threads=1"]),
        (
            [SMOKE, "reason_source=none"],
            ["experts.reward_model.lr=0.1", "dataset.tau=0.9"],
            ["experts.predictor.lr=0.1"],
        ),
        ([SMOKE, "strategy=without_step1"], ["dataset.history.summaries=teacher"], ["seed=7"]),
        (
            ["method=fewshot"],
            ["dataset.history.prompt=3", "teacher.reason_temperature=0.3"],
            ["dataset.evaluate.max_rows=9"],
        ),
        (["method=mf"], [], ["method.dim=7", "method.lr=0.001", "dataset.name=other"]),
    ],
)
def test_what_changes_nothing_is_told(
    job: list[str],
    unfelt: list[str],
    felt: list[str],
    r4r: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert r4r(*job, *unfelt, *felt, "plan=true", "logger=none", f"paths.outputs={tmp_path}") == 0
    shown = capsys.readouterr().err
    told = [line for line in shown.splitlines() if "changes none of this job's artifacts" in line]
    assert told == [f"r4r: {override}: changes none of this job's artifacts" for override in unfelt]
