"""A review that the user would write, in a reason's place: real reviews of training targets teach it, and no other."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import assert_no_leak, listen, split, start
from own_answers import says

from r4r.experts.predictor import Predictor
from r4r.experts.reviewer import Reviewer

SAID = ("I love the melody.", "Not for me.", "Fine, if a bit loud.")
JOB = (
    "strategy=hypothetical_review",
    "strategy.histories=reviews",
    "dataset.pools.total=14",
    "dataset.history.prompt=3",
    "~references",
)
TOKENS = 30


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any, Any]:
    """The folder and record of a job, and the Reviewer's and the Predictor's prompts."""
    folder = tmp_path_factory.mktemp("reviews")
    with pytest.MonkeyPatch.context() as patch:
        says(patch, lambda seed, prompt: SAID[len(prompt) % len(SAID)])
        asked, rated = listen(patch, Reviewer, "prompt"), listen(patch, Predictor, "prompt")
        record = start(folder, model_cache, *JOB, f"experts.reviewer.max_new_tokens={TOKENS}")
    return folder, record, asked, rated


def table(folder: Path, record: Any, stage: str, name: str = "data.parquet") -> pd.DataFrame:
    return pd.read_parquet(folder / "artifacts" / stage / record["artifacts"][stage] / name)


def test_the_reviewer_learns_real_reviews_of_training_targets(done: tuple[Path, Any, Any, Any]) -> None:
    folder, record, _, _ = done
    rows, lessons = split(folder), table(folder, record, "train/reviewer.lessons")
    assert len(lessons) > 4
    assert (rows.loc[lessons["row_id"], "split"] == "train").all()
    for row_id, said in zip(lessons["row_id"], lessons["response"], strict=True):
        assert said
        assert rows.loc[row_id, "review"].startswith(said.removesuffix("..."))
    manifest = (folder / "artifacts" / "train/reviewer.reviews").rglob("manifest.json")
    assert '"empty text": 0' in next(manifest).read_text()


def test_no_prompt_holds_the_targets_own_review(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, asked, rated = done
    assert_no_leak(split(folder), asked)
    assert_no_leak(split(folder), rated)


def test_the_predictor_reads_what_the_reviewer_wrote_in_training_and_at_test(done: tuple[Path, Any, Any, Any]) -> None:
    folder, record, _, _ = done
    lessons = table(folder, record, "train/predictor.lessons")
    written = table(folder, record, "write/reviewer/experts").set_index("row_id")["text"]
    for row_id, prompt in zip(lessons["row_id"], lessons["prompt"], strict=True):
        assert f"### Personalized Recommendation Analysis ###\n{written[row_id]}\n\n### Task" in prompt
    detail = table(folder, record, "predict/test", "detail.parquet").set_index("row_id")
    assert (
        detail["reason"].to_dict() == table(folder, record, "write/reviewer/test").set_index("row_id")["text"].to_dict()
    )
    assert set(detail["reason"]) <= set(SAID)
    assert set(detail["label"]) == {"Hypothetical review first"}


def test_no_teacher_is_asked_for_reasons_and_no_reward_model_is_trained(done: tuple[Path, Any, Any, Any]) -> None:
    _, record, _, _ = done
    writer = {"train/reviewer.reviews", "train/reviewer.lessons", "train/reviewer", "write/reviewer/experts"}
    rater = {"write/reviewer/test", "train/predictor.lessons", "train/predictor", "predict/test"}
    assert set(record["artifacts"]) == {"split", "pools"} | writer | rater
