"""Table 5's analysis: every kind of text on the same rows, failures named and left out of all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.errors import TeacherError
from r4r.report import cli
from r4r.run import run
from r4r.stages.reward_check import KINDS
from r4r.teacher.simulator import SimulatedTeacher

LOADER = make_loader()
REFERENCES = ("User+item bias", "Global mean", "User mean", "Item mean", "MF")

RECORDS = Path(__file__).parents[1] / "experiments" / "table5"
SMOKE = ("experiment=smoke", "method=reward_check", "recipe=reward_check_world")  # as Table 5 has it


def check(folder: Path, *overrides: str) -> dict[str, Any]:
    argv = preflight([*overrides, f"paths.outputs={folder}"], loader=LOADER)
    run(validate(compose(LOADER, "config", argv)), folder / "job")
    return json.loads((folder / "job" / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, store_of_a_finished_job: Callable[[Path], None]) -> Path:
    folder = tmp_path_factory.mktemp("reward_check")
    store_of_a_finished_job(folder)
    return folder


def test_every_kind_is_rated_on_the_same_rows(outputs: Path) -> None:
    record = check(outputs, *SMOKE)
    assert {row["label"] for row in record["metrics"]} == {*KINDS, *REFERENCES}
    assert {row["n"] for row in record["metrics"]} == {8}
    assert record["excluded"] == {}
    texts = pd.read_parquet(next((outputs / "artifacts" / "reward_check").rglob("texts.parquet")))
    by_kind = texts.set_index("label").groupby(level=0)["text"].agg(list)
    assert all(text == "" for text in by_kind["Without reason"])
    for kind in KINDS[:-1]:
        assert all(by_kind[kind]), kind
    assert by_kind["Review-guided"] != by_kind["Review-inferred"]


def test_a_report_compares_any_two_kinds(outputs: Path) -> None:
    check(outputs, *SMOKE)
    argv = ["table5", "--experiment", "smoke", "--records", str(outputs), "--out", str(outputs / "report")]
    assert cli.report([*argv, "--against", "Hint-inferred"]) == 0
    assert "† differs from Hint-inferred" in (outputs / "report" / "table5.md").read_text(encoding="utf-8")
    p = pd.read_csv(outputs / "report" / "table5.csv").query("metric == 'mae'").groupby("row")["p"].count()
    assert p["Review-inferred"] == p["Without reason"] == 1
    assert p["Hint-inferred"] == 0


def test_a_row_without_some_text_counts_for_no_kind(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = SimulatedTeacher.ask
    seen: list[str] = []

    def refuse_one(self: SimulatedTeacher, calls: Any) -> list[Any]:
        answers = answer(self, calls)
        for n, call in enumerate(calls):
            if "infer why" in call.prompt:
                seen.append(call.prompt)
                if call.prompt == seen[0]:
                    answers[n] = TeacherError("refused")
        return answers

    monkeypatch.setattr(SimulatedTeacher, "ask", refuse_one)
    record = check(outputs, *SMOKE, "method.attempts=2")
    assert seen.count(seen[0]) == 2
    (cause, row_ids), *others = record["excluded"].items()
    assert (cause, len(row_ids), others) == ("Review-inferred: refused", 1, [])
    assert {row["n"] for row in record["metrics"]} == {7}


def papers_order(record: dict[str, Any]) -> None:
    """The closer a text is to the review, the smaller the error (paper Table 5)."""
    for metric in ("mae", "rmse"):
        errors = {row["label"]: row[metric] for row in record["metrics"] if row["decoding"] == "mean"}
        in_order = [errors[kind] for kind in KINDS[:-1]]
        assert in_order == sorted(in_order), metric
        assert errors["Review-guided"] < errors["User+item bias"] - 0.1, metric


@pytest.mark.parametrize("seed", [42, 43, 44])
def test_the_committed_tables_have_the_papers_order(seed: int) -> None:
    papers_order(json.loads((RECORDS / f"smollm2-{seed}.json").read_text(encoding="utf-8")))


@pytest.mark.slow
def test_table5_has_the_papers_order(tmp_path: Path) -> None:
    papers_order(check(tmp_path, "experiment=table5", "dataset=simulated_large", "seed=42", "logger=none"))
