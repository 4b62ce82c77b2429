"""Whose summaries a history shows: the trained Summarizer's, the teacher's, or what was planted."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.errors import ConfigError, TeacherError
from r4r.experts.summarizer import Summarizer, clean_summary
from r4r.lexicon import KINDS, aspects_in
from r4r.rows import SUMMARIES
from r4r.stages.deliberation import predictions_stage
from r4r.stages.planted import planted_world
from r4r.stages.split import all_rows
from r4r.stages.stage import Job
from r4r.stages.summarize import summaries_stage
from r4r.store.artifact import Artifact, Store
from r4r.teacher.base import Call
from r4r.teacher.simulator import SimulatedTeacher

LOADER = make_loader()


def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", ["experiment=smoke", *overrides]))


@pytest.fixture
def job(tmp_path: Path, model_cache: Path) -> Any:
    def make(*overrides: str) -> Job:
        config = configured(*overrides, f"paths.outputs={tmp_path}", f"paths.cache={model_cache}")
        return Job(config, Store(config.paths.artifacts))

    return make


def names(config: Config) -> set[str]:
    return {stage.name for stage in predictions_stage(config).upstream()}


def made(job: Job) -> Artifact:
    stage: Any = summaries_stage(job.config)
    return job.materialize(stage)


def aspects_found(rows: pd.DataFrame, summaries: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """kind -> precision and recall of the summaries' aspects against the rows'."""
    told = dict(zip(summaries["row_id"], summaries["summary"], strict=True))
    found: dict[str, tuple[float, float]] = {}
    for kind in KINDS:
        pairs = [
            (set(aspects_in(told[n])[kind]), set(true)) for n, true in zip(rows["row_id"], rows[kind], strict=True)
        ]
        right = sum(len(said & true) for said, true in pairs)
        found[kind] = right / sum(len(said) for said, _ in pairs), right / sum(len(true) for _, true in pairs)
    return found


@pytest.mark.parametrize("whose", ["teacher", "planted"])
def test_histories_of_the_teacher_or_the_truth_need_no_summarizer(job: Any, whose: str) -> None:
    own = job(f"++dataset.history.summaries={whose}")
    assert {"train/summarizer", "teacher_summaries"} <= names(configured())
    assert not {"train/summarizer", "teacher_summaries", "train/summarizer.lessons"} & names(own.config)
    rows = all_rows(own)
    history = rows[rows["split"] == "train"]
    table = made(own).table(SUMMARIES)
    assert table["row_id"].tolist() == history["row_id"].tolist()
    assert all(clean_summary(text, once=True) == text for text in table["summary"])
    for precision, recall in aspects_found(planted_world(own.config).reviews(history), table).values():
        assert precision > 0.9
        assert recall > 0.9
        assert whose == "teacher" or precision == recall == 1.0


def test_a_review_that_the_teacher_does_not_summarise_is_shown_as_naming_nothing(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = job("++dataset.history.summaries=teacher")
    history = all_rows(own)[lambda rows: rows["split"] == "train"]
    refused = history["review"].iloc[3]
    answered = SimulatedTeacher.ask

    def ask(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        outcomes = answered(self, calls)
        return [
            TeacherError("refused") if refused in call.prompt else outcome
            for call, outcome in zip(calls, outcomes, strict=True)
        ]

    monkeypatch.setattr(SimulatedTeacher, "ask", ask)
    artifact = made(own)
    table = artifact.table(SUMMARIES)
    assert table["summary"].iloc[3] == Summarizer.nothing
    assert len(table) == len(history)
    assert artifact.manifest["dropped"] == {"refused": 1}


def test_nobody_knows_what_real_reviews_were_made_from() -> None:
    config = configured("dataset=musical_instruments", "++dataset.history.summaries=planted")
    with pytest.raises(ConfigError, match="truth behind real reviews"):
        predictions_stage(config)


def test_whose_summaries_is_in_the_keys_of_all_that_reads_histories() -> None:
    keys = [
        {
            stage.name: stage.key
            for stage in predictions_stage(configured(f"++dataset.history.summaries={w}")).upstream()
        }
        for w in ("expert", "teacher", "planted")
    ]
    for stage in ("summaries", "reasons", "predict/test"):
        assert len({key[stage] for key in keys}) == 3
    assert len({key["split"] for key in keys}) == 1
