"""Table 6's timing: what is counted was generated, afresh, as the stored predictions were; and its report."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from plain_stage import plain_stage

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError
from r4r.lm import engine
from r4r.report import cli
from r4r.run import run
from r4r.stages.stage import Job
from r4r.stages.timing import Inference, time_predictions
from r4r.store.artifact import Store
from r4r.store.inventory import RUNS

LOADER = make_loader()
METHODS = ("reason4rec", "onestep", "rec_saver", "exp3rt")
BARE = ["++llm.dtype=float32", "~method@references.means", "~method@references.mf"]
BARE += ["dataset.world.reviews_per_user=6"]


def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", list(overrides)))


def timed(outputs: Path, method: str, *overrides: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """The record of a job of Table 6 in smoke size, and its predictions."""
    argv = ["experiment=[table6,smoke]", f"method={method}", f"paths.outputs={outputs}", *BARE, *overrides]
    folder = outputs / "jobs" / "-".join([method, *overrides])
    run(configured(*argv), folder)
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return record, pd.read_parquet(folder / "timing.parquet")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timing")


@pytest.fixture(scope="module")
def jobs(outputs: Path) -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
    return {method: timed(outputs, method) for method in METHODS}


def stored(record: dict[str, Any], stage: str, file: str) -> pd.DataFrame:
    folder = Path(record["config"]["paths"]["artifacts"]) / stage / record["artifacts"][stage]
    table = pd.read_parquet(folder / file).sort_values("row_id").reset_index(drop=True)
    table.attrs = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return table


@pytest.mark.parametrize("method", METHODS)
def test_the_timed_predictions_are_the_stored_ones(jobs: dict[str, Any], method: str) -> None:
    """Greedy texts and ratings, one by one and batched; and every token that the stages wrote is counted."""
    record, timing = jobs[method]
    writer = "reasoner" if method == "reason4rec" else method
    written = stored(record, f"write/{writer}/test", "data.parquet")
    predicted = stored(record, "predict/test", "detail.parquet")
    predicted = predicted[predicted["label"] == record["metrics"][0]["label"]].reset_index(drop=True)
    unrated = predicted.attrs.get("answers_without_rating", len(predicted))  # the digit is decoded apart
    assert timing["mode"].tolist() == ["single"] * 8 + ["batched"] * 8
    for mode, summary in zip(("single", "batched"), record["timing"]["modes"], strict=True):
        table = timing[timing["mode"] == mode].reset_index(drop=True)
        assert table["row_id"].tolist() == predicted["row_id"].tolist()
        assert table["text"].tolist() == written["text"].tolist()
        assert table["rating"].tolist() == pytest.approx(predicted["mean"].tolist(), abs=1e-4)
        assert table["tokens"].sum() == written.attrs["tokens_out"] + unrated
        assert (table["seconds"] > table["rating_seconds"]).all()
        assert (table["rating_seconds"] > 0).all()
        assert summary["n"] == 8
        assert summary["seconds"] == pytest.approx(table["seconds"].mean())
        assert summary["tokens"] == table["tokens"].mean()
        assert summary["cut"] == written.attrs["cut_at_limit"]
    single, batched = record["timing"]["modes"]
    assert (single["batches"], single["seconds_se"] > 0, batched["seconds_se"]) == (8, True, None)
    assert 1 <= batched["batches"] < 8
    assert {k: v for k, v in record["timing"].items() if k not in ("device", "torch", "modes")} == {
        "threads": 1,
        "base_model": "tiny",
        "quantization": "none",
        "dtype": "float32",
        "batch_tokens": 4096,
        "merged": True,
        "steps_recorded": False,
        "warmup": 2,
    }


def test_timing_computes_afresh_and_leaves_the_store_alone(
    jobs: dict[str, Any], outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stages are there: with timing, the model writes again, warm-up first; without, it writes nothing."""
    calls: list[int] = []
    generate = engine.generate

    def counted(lm: Any, prompts: Any, *more: Any) -> Any:
        calls.append(len(prompts))
        return generate(lm, prompts, *more)

    def files() -> dict[str, int]:
        found = [path for path in (outputs / "artifacts").rglob("*") if path.is_file() and RUNS not in path.parts]
        return {str(path): path.stat().st_mtime_ns for path in found}

    before = files()
    monkeypatch.setattr(engine, "generate", counted)
    record, timing = timed(outputs, "reason4rec", "timing.rows=3")
    assert calls == [1, 1, 1, 1, 1, 2, 3]
    assert record["artifacts"] == jobs["reason4rec"][0]["artifacts"]
    rows = timing["row_id"].tolist()
    assert rows[:3] == rows[3:] == sorted(set(rows[:3]))
    assert set(rows) < set(jobs["reason4rec"][1]["row_id"])
    calls.clear()
    untimed = run(configured("experiment=smoke", f"paths.outputs={outputs}", *BARE), outputs / "untimed")
    assert calls == []
    assert "timing" not in untimed
    assert untimed["artifacts"] == record["artifacts"]
    assert files() == before


def test_the_ratings_token_counts_once(outputs: Path, jobs: dict[str, Any]) -> None:
    """Where the text came to the rating itself, its digit is among the text's tokens."""
    config = configured("experiment=smoke", f"paths.outputs={outputs}", "timing.rows=8", *BARE)
    job = Job(config, Store(outputs / "artifacts"))
    ids = job.engine.chat.prompt_ids("Predicted Rating:")

    def infer(work: Any, rows: pd.DataFrame) -> Inference:
        return Inference([], None, lambda place, texts: (ids, place % 2 == 0))

    found = time_predictions(job, plain_stage("predict/bare", infer=infer), outputs)
    assert pd.read_parquet(outputs / "timing.parquet")["tokens"].tolist() == [0, 1] * 8
    assert [mode["tokens"] for mode in found["modes"]] == [0.5, 0.5]


@pytest.mark.parametrize("method", ["mf", "fewshot", "reward_check"])
def test_a_method_without_a_language_model_of_its_own_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=f"timing.rows=100: method={method} does not write and rate by a language"):
        configured("experiment=table6", f"method={method}")


def test_a_method_that_does_not_say_is_refused_all_the_same(outputs: Path, jobs: dict[str, Any]) -> None:
    job = Job(configured("timing=paper"), Store(outputs / "artifacts"))
    with pytest.raises(ConfigError, match="predict/own cannot be timed"):
        time_predictions(job, plain_stage("predict/own"), outputs)


# the report


def report(folder: Path, records: dict[str, dict[str, Any]]) -> tuple[str, list[dict[str, str]]]:
    for name, record in records.items():
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "result.json").write_text(json.dumps(record), encoding="utf-8")
    argv = ["table6", "--experiment", "smoke", "--records", str(folder / "runs"), "--out", str(folder)]
    assert cli.report(argv) == 0
    assert r"\toprule" in (folder / "table6.tex").read_text(encoding="utf-8")
    with (folder / "table6.csv").open(encoding="utf-8", newline="") as file:
        return (folder / "table6.md").read_text(encoding="utf-8"), list(csv.DictReader(file))


def test_the_report_sets_the_papers_numbers_beside(jobs: dict[str, Any], tmp_path: Path) -> None:
    text, rows = report(tmp_path, {method: record for method, (record, _) in jobs.items()})
    setup = jobs["reason4rec"][0]["timing"]
    how = f"on {setup['device']}, 1 thread, batches of 4,096 tokens, adapters merged, torch"
    assert f"## simulated: 8 predictions by tiny (float32) {how}" in text
    assert "## Missing" not in text
    first, apart = text.split("## simulated, differences from Reason4Rec: 8 predictions")
    shown = {line.split(" | ")[0].strip("| "): line for line in first.splitlines() if line.startswith("| ")}
    modes = {name: jobs[name][0]["timing"]["modes"][0] for name in METHODS}
    difference = modes["exp3rt"]["seconds"] - modes["reason4rec"]["seconds"]
    assert f"| EXP3RT | {difference:+.3f} " in apart
    told = {row["row"]: row["difference"] for row in rows if row["mode"] == "single"}
    assert float(told["EXP3RT"]) == pytest.approx(difference)
    assert told["Reason4Rec"] == ""
    assert shown["Reason4Rec"].endswith("| 5.86 | **147.78** |")
    assert shown["One-step"].endswith("| — | — |")
    assert shown["Rec-SAVER"].endswith("| 6.43 | 175.59 |")
    assert shown["EXP3RT"].endswith("| **5.62** | 150.74 |")
    for method, name in zip(METHODS, ("Reason4Rec", "One-step", "Rec-SAVER", "EXP3RT"), strict=True):
        single, batched = jobs[method][0]["timing"]["modes"]
        for number in (single["seconds"], single["seconds_median"], batched["seconds"]):
            assert f"{number:.3f}" in shown[name]
        assert f"{single['tokens']:.2f}" in shown[name]
        own = [row for row in rows if row["row"] == name]
        assert [(row["mode"], float(row["seconds"])) for row in own] == [
            ("single", single["seconds"]),
            ("batched", batched["seconds"]),
        ]
        assert {row["device"] for row in own} == {setup["device"]}
    assert "texts cut at their limit" in text


def test_the_report_keeps_setups_apart_and_names_what_lacks(jobs: dict[str, Any], tmp_path: Path) -> None:
    ours, one, saver, _ = (json.loads(json.dumps(jobs[method][0])) for method in METHODS)
    one["timing"] |= {"device": "NVIDIA A800", "quantization": "nf4"}
    newer = json.loads(json.dumps(ours)) | {"started": "2100-01-01T00:00:00+00:00"}
    newer |= {"source": {"mine.py": "1f"}}
    newer["timing"]["modes"][0]["seconds"] = 123.4
    failed = saver | {"status": "failed", "error": {"kind": "ModelError", "message": "out of memory"}}
    del failed["timing"]
    untimed = json.loads(json.dumps(jobs["exp3rt"][0]))
    untimed["config"]["timing"]["rows"] = 0
    found = {"ours": ours, "newer": newer, "one": one, "failed": failed, "untimed": untimed}
    text, rows = report(tmp_path, found)
    assert text.count("## simulated: 8 predictions by tiny") == 2
    assert "(float32, nf4) on NVIDIA A800" in text
    assert text.count("| **123.400 ±") == 1  # the newest record of a row stands
    assert "simulated: Reason4Rec: made with code or prompts outside r4r's release: mine.py.\n" in text
    assert "Rec-SAVER: the newest job failed with ModelError: out of memory" in text
    missing = {(row["row"], row["status"]) for row in rows}
    assert {("EXP3RT", "missing"), ("One-step", "missing"), ("One-step", "ok"), ("Reason4Rec", "ok")} <= missing
    command = "run r4r -m experiment=table6 dataset=simulated method="
    assert f"EXP3RT: not timed in 2 of 2 setups; {command}exp3rt\n" in text
    assert f"{command}reason4rec strategy=onestep\n" in text


def test_without_a_timed_job_the_report_says_what_to_run(jobs: dict[str, Any], outputs: Path) -> None:
    with pytest.raises(DataError, match=r"no record of a job of table6 of book below .*; run r4r -m experiment=table6"):
        cli.report(["table6", "--data", "book", "--records", str(outputs)])
