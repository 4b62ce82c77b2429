"""Reports on reasons: their scores beside the paper's, what differs from the headline row, and their costs."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_records
from sealed import seal

from r4r.report import cli
from r4r.report.text import DAGGER


def scored(method: str = "reason4rec") -> dict[str, Any]:
    """A record of eight rows of music, as a job of Table 3 leaves it; its scores are the test's."""
    made = report_records.record(
        {"Reason4Rec": (1.0, 1.0)}, method=method, n=8, dataset="music", given=("experiment=[table3,smoke]",)
    )
    return made | {"experiment": "smoke", "evaluated": "test", "artifacts": {}}


def test_the_report_sets_the_scores_beside_the_papers(tmp_path: Path) -> None:
    record = scored()
    record["reasons"] = {"scores": [score(*each) for each in (("gptscore", 70.0), ("bleurt", 0.4), ("rouge_l", 0.2))]}
    records = []
    for seed, shift in ((42, 0.0), (43, 0.1)):
        scores = [dict(row, mean=row["mean"] + shift) for row in record["reasons"]["scores"]]
        records.append(record | {"seed": seed, "reasons": {"scores": scores}, "source": {"mine.py": "1f"}})
    records.append(records[0] | {"started": "2020-01-01", "reasons": {"scores": [score("gptscore", 1.0, "other")]}})
    records.append(records[0] | {"started": "2020-01-02", "reasons": None})
    for number, made in enumerate(records):
        (tmp_path / "runs" / str(number)).mkdir(parents=True)
        (tmp_path / "runs" / str(number) / "result.json").write_text(json.dumps(made), encoding="utf-8")
    argv = ["table3", "--records", str(tmp_path / "runs"), "--out", str(tmp_path), "--data", "music"]
    assert cli.report([*argv, "--experiment", "smoke", "--seeds", "42,43,44"]) == 0
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert (
        "|  | GPTScore | BLEURT | ROUGE-L | reviews | seeds | paper, music: GPTScore | paper, music: BLEURT |" in text
    )
    row = (
        "| Reason4Rec | **70.05 ± 0.07** | **0.4500 ± 0.0707** | **0.2500 ± 0.0707** | 8 | 2 | **80.53** | **0.4067** |"
    )
    assert row in text
    assert "music: GPTScore by judge; BLEURT by judge; ROUGE-L by judge." in text
    assert "music: left out, as another model scored: GPTScore by other." in text
    assert "music: Reason4Rec: made with code or prompts outside r4r's release: mine.py.\n" in text
    assert "| Rec-SAVER | " in text
    assert "no scores for seed 44; run r4r -m experiment=table3 dataset=music method=reason4rec seed=44" in text
    with (tmp_path / "table3.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["row"], row["metric"]): row for row in csv.DictReader(file)}
    ours = rows["Reason4Rec", "gptscore"]
    assert (ours["seeds"], ours["n"], ours["model"], ours["paper"]) == ("42 43", "8", "judge", "80.53")
    assert float(ours["mean"]) == pytest.approx(70.05)
    assert rows["Reason4Rec", "similarity"]["status"] == "missing"


def test_a_row_that_differs_from_the_headline_is_marked(tmp_path: Path) -> None:
    rows = {"row_id": range(8), "label": "Reason4Rec"}

    def leave(name: str, mean: float, other_rouge: float) -> None:
        """A job's folder: its record and its artifacts of scores."""
        folder = tmp_path / "runs" / name
        for metric, first in (("bleurt", mean), ("rouge_l", other_rouge)):
            place = folder / "artifacts" / "score_reasons" / metric / "k"
            place.mkdir(parents=True)
            pd.DataFrame(rows | {"score": [first + 0.01 * (n % 2) for n in range(8)]}).to_parquet(
                place / "data.parquet"
            )
            seal(folder / "artifacts", f"score_reasons/{metric}", "k", created="2026-01-01")
        made = scored(name) | {"reasons": {"scores": [score("bleurt", 0.4), score("rouge_l", 0.2)]}}
        made["config"]["paths"] = {}
        made["artifacts"] = {f"score_reasons/{metric}": "k" for metric in ("bleurt", "rouge_l")}
        (folder / "result.json").write_text(json.dumps(made), encoding="utf-8")

    leave("reason4rec", 0.4, 0.2)
    leave("rec_saver", 0.3, 0.2)  # worse by BLEURT, equal by ROUGE-L

    def marks(*more: str) -> dict[str, list[bool]]:
        argv = ["table3", "--records", str(tmp_path / "runs"), "--out", str(tmp_path), "--data", "music", *more]
        assert cli.report([*argv, "--experiment", "smoke"]) == 0
        page = (tmp_path / "table3.md").read_text(encoding="utf-8")
        lines = page.partition("differences from")[0].split("\n")
        cells = [line.split(" | ") for line in lines if line.startswith(("| Rec-SAVER", "| Reason4Rec"))]
        return {row.strip("| "): [DAGGER in cell for cell in rest[:2]] for row, *rest in cells}

    assert marks() == {"Rec-SAVER": [True, False], "Reason4Rec": [False, False]}
    assert marks("--against", "Rec-SAVER") == {"Rec-SAVER": [False, False], "Reason4Rec": [True, False]}


def test_the_table_of_objectives_holds_reasons_and_costs_beside_errors(tmp_path: Path) -> None:
    for strategy, right, tokens in (("multistep", 0.5, 1000), ("grpo", 0.25, 4000)):
        folder = tmp_path / "runs" / strategy
        place = folder / "artifacts" / "score_reasons" / "planted_verdict" / "k"
        place.mkdir(parents=True)
        scores = [float(n < 100 * right) for n in range(100)]
        table = pd.DataFrame({"row_id": range(100), "label": "Reason4Rec", "score": scores})
        table.to_parquet(place / "data.parquet")
        seal(folder / "artifacts", "score_reasons/planted_verdict", "k", created="2026-01-01")
        made = report_records.record({"Reason4Rec": (0.9, 1.1)}, strategy=strategy, given=("metrics=planted",))
        made["config"]["paths"] = {}
        made["artifacts"] = {"score_reasons/planted_verdict": "k"}
        made["cost"] = {"total": {"train_tokens": tokens, "dollars": 0.0, "wall_s": 60.0}}
        made["reasons"] = {"scores": [score("planted_verdict", right) | {"se": 0.04}]}
        made["experiment"] = "objectives"
        (folder / "result.json").write_text(json.dumps(made), encoding="utf-8")
    later = {
        "started": "2026-02-01T00:00:00+00:00",
        "experiment": "table4",
    }  # without scores: it does not take the place
    (tmp_path / "runs" / "later").mkdir()
    other = report_records.record({"Reason4Rec": (0.9, 1.1)}) | later
    (tmp_path / "runs" / "later" / "result.json").write_text(json.dumps(other), encoding="utf-8")
    assert cli.report(["objectives", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "objectives.md").read_text(encoding="utf-8").partition("reasons, and what a result costs")[2]
    [ours] = [line for line in page.split("\n") if line.startswith("| Reason4Rec ")]
    [grpo] = [line for line in page.split("\n") if line.startswith("| GRPO ")]
    assert "| 0.5000 ± 0.0400 se |" in ours
    assert "| 1,000 | 0.0000 | 60 |" in ours
    assert f"| 0.2500 ± 0.0400 se{DAGGER}" in grpo
    assert "| -0.2500 \\[" in grpo
    assert "| 4,000 |" in grpo
    with (tmp_path / "objectives.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["row"], row["metric"]): row for row in csv.DictReader(file)}
    found = rows["GRPO", "planted_verdict"]
    assert (float(found["difference"]), float(found["train_tokens"])) == (-0.25, 4000)


def test_scores_by_another_model_are_left_out_of_the_table_of_objectives(tmp_path: Path) -> None:
    for started, strategy, mean, model in (
        (1, "multistep", 0.9, "old"),
        (2, "dpo", 0.6, "new"),
        (3, "grpo", 0.4, "new"),
    ):
        made = report_records.record({"Reason4Rec": (0.9, 1.1)}, strategy=strategy, given=("metrics=planted",))
        made |= {"experiment": "objectives", "started": f"2026-01-0{started}T00:00:00+00:00"}
        made["reasons"] = {"scores": [score("similarity", mean, model), score("rouge_l", 0.9, "words")]}
        (tmp_path / "runs" / strategy).mkdir(parents=True)
        (tmp_path / "runs" / strategy / "result.json").write_text(json.dumps(made), encoding="utf-8")
    assert cli.report(["objectives", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "objectives.md").read_text(encoding="utf-8")
    beside = page.partition("reasons, and what a result costs")[2]
    [ours] = [line for line in beside.split("\n") if line.startswith("| Reason4Rec ")]
    [dpo] = [line for line in beside.split("\n") if line.startswith("| DPO ")]
    assert "0.6000" in dpo
    assert ours.count("0.9000") == 1  # ROUGE-L's, the same for all
    assert "similarity by old was left out: the other scores are by new." in page


def score(metric: str, mean: float, model: str = "judge") -> dict[str, Any]:
    return {"label": "Reason4Rec", "metric": metric, "mean": mean, "se": 0.5, "n": 8, "empty": 0, "model": model}
