"""The simulated teacher is refused where it would be asked about reviews that it cannot read, and there alone."""

import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.errors import ConfigError
from r4r.teacher_reach import beyond_simulator

LOADER = make_loader()
OWN = ["dataset=custom", "dataset.name=wine", "dataset.category=Wine", "dataset.reviews=wine.csv"]
REAL = ["dataset=musical_instruments"]


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        (REAL, "teacher_summaries, reasons"),
        (OWN, "teacher_summaries, reasons"),
        ([*REAL, "llm=llama3_8b", "recipe=paper"], "teacher_summaries, reasons"),  # of a hub that is not asked
        ([*REAL, "method=fewshot"], "predict/fewshot"),
        ([*REAL, "method=rec_saver"], "rec_saver/traces, rec_saver/kept"),
        ([*REAL, "method=reward_check"], "teacher_summaries, reward_check/test"),
        ([*REAL, "target=summarizer"], "teacher_summaries"),
        ([*REAL, "strategy=without_step1"], "reasons"),
        ([*REAL, "reason_source=review"], "teacher_summaries"),
        ([*REAL, "method=mf", "+method@references.llm=fewshot"], "predict/fewshot"),
        (["dataset.category=Book"], "teacher_summaries, reasons"),
    ],
)
def test_a_job_that_would_ask_it_is_refused_before_anything_runs(overrides: list[str], stages: str) -> None:
    with pytest.raises(ConfigError, match="take teacher=local, server, openai or openai_batch") as error:
        preflight([*overrides, "logger=none"], beyond_simulator)
    (problem,) = error.value.problems
    assert f"({stages})" in problem
    what = (
        "dataset.category=Book"
        if "dataset.category=Book" in overrides
        else "dataset=wine"
        if overrides == OWN
        else REAL[0]
    )
    assert what in problem


@pytest.mark.parametrize(
    "overrides",
    [
        [*REAL, "method=mf"],
        [*OWN, "method=means"],
        [*REAL, "method=narre"],
        [*REAL, "target=split"],
        [*REAL, "target=pools"],
        [*REAL, "strategy=without_step1", "reason_source=review"],
        [*REAL, "strategy=without_step1", "target=reward_model"],
        [*REAL, "method=mf", "metrics=offline"],  # gives no reasons to judge
        [*REAL, "teacher=openai"],
        [*REAL, "teacher=local"],
        ["experiment=real_small"],
        ["dataset=simulated_noisy", "metrics=offline"],
    ],
)
def test_a_job_that_asks_no_simulator_about_real_reviews_stands(overrides: list[str]) -> None:
    validate(compose(LOADER, "config", [*overrides, "logger=none"]), further=beyond_simulator)


def test_a_simulated_judge_is_refused_likewise() -> None:
    with pytest.raises(ConfigError, match=r"metrics.gptscore.judge: .*score_reasons/gptscore.*metrics.gptscore=null"):
        validate(compose(LOADER, "config", [*REAL, "teacher=openai", "metrics=offline"]), further=beyond_simulator)
    judged = ["metrics=offline", "teacher@metrics.gptscore.judge=openai"]
    validate(compose(LOADER, "config", [*REAL, "teacher=openai", *judged]), further=beyond_simulator)


def test_each_job_of_a_sweep_is_looked_at() -> None:
    with pytest.raises(ConfigError, match="dataset=musical_instruments"):
        preflight(["-m", "dataset=simulated,musical_instruments", "logger=none"], beyond_simulator)
