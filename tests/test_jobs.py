"""`r4r-report runs`, `show` and `diff`: jobs are listed, told and compared, and what records hold stays text."""

import csv
import io
from pathlib import Path

import pytest
from report_records import keep, record, with_near, world_of_records, write

from r4r.errors import DataError
from r4r.report import cli
from r4r.rows import REVIEWS
from r4r.store.artifact import Store

HOSTILE = "=1+1\x1b[2J\x07<b>"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scored jobs of two seeds with predictions, a failed one and one that broke off."""
    folder = tmp_path_factory.mktemp("outputs")
    scored = world_of_records(folder / "artifacts", 2, {"filtered": 0.3, "history": 1.2}, apart=False)
    for one in scored:
        one["overrides"] = [f"reason_source={one['config']['reason_source']['name']}", f"seed={one['seed']}"]
        one["wall_s"] = 12.5
    rows = Store(folder / "artifacts").find("split", "split0").table(REVIEWS)  # type: ignore[union-attr]
    texts = rows.assign(title=HOSTILE, review=[f"{HOSTILE} review {row}" for row in rows["row_id"]])
    keep(folder / "artifacts", "split", "split0", texts)
    failed = record(error={"kind": "ModelError", "message": HOSTILE}, seed=7, method="mf", dataset="music")
    broken = record(status="interrupted", error=None, seed=8, experiment="table4")
    write(folder / "sweeps" / "one", *scored, failed | {"overrides": [HOSTILE]}, broken)
    return folder


@pytest.fixture
def call(outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("R4R_OUTPUTS", str(outputs))

    def run(*argv: str) -> str:
        cli.report(argv)
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\x07" not in out
        return out

    return run


def test_runs_lists_every_job_and_filters(call) -> None:
    page = call("runs")
    assert page.endswith("6 of 6 jobs: 4 ok, 1 failed, 1 interrupted\n")
    assert "Reason4Rec: MAE " in page
    assert "failed with ModelError: =1+1" in page
    for argv, count in (
        (["--status", "failed"], 1),
        (["--method", "mf"], 1),
        (["--dataset", "simulated"], 5),
        (["--experiment", "table4"], 1),
        (["--seed", "1"], 2),
        (["--with", "reason_source=history"], 2),
        (["--with", "reason_source=history", "--seed", "1"], 1),
        (["--last", "3"], 3),
        (["--method", "none"], 0),
    ):
        assert f"{count} of 6 jobs: " in call("runs", *argv)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["runs", "--last", "0"], "argument --last: 0: must be a whole number, 1 or more"),
        (["runs", "--last", "-1"], "argument --last: -1: must be a whole number, 1 or more"),
        (["runs", "--last", "x"], "argument --last: x: must be a whole number, 1 or more"),
        (["table4", "--seeds", "1,a"], "argument --seeds: 1,a: must be whole numbers with commas between, as in 1,2,3"),
    ],
)
def test_a_number_that_is_none_is_refused(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.report(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f"{told}\n")


def test_the_list_as_csv_has_no_formulas(call) -> None:
    rows = list(csv.DictReader(io.StringIO(call("runs", "--csv"))))
    assert [row["status"] for row in rows].count("ok") == 4
    assert {float(row["seconds"]) for row in rows if row["status"] == "ok"} == {12.5}
    assert all(not value.startswith("=") for row in rows for value in row.values())


def test_show_tells_one_job_found_by_the_end_of_its_path(call, outputs: Path) -> None:
    page = call("show", "one/0")
    assert page == call("show", str(outputs / "sweeps" / "one" / "0"))
    assert page == call("show", str(outputs / "sweeps" / "one" / "0" / "result.json"))
    assert "overrides: reason_source=filtered seed=0" in page
    assert "in the store  split/split0" in page
    assert "failed with ModelError" in call("show", "one/4")
    with pytest.raises(DataError, match="there is no record of such a job"):
        call("show", "one/9")


def test_diff_tells_settings_artifacts_metrics_and_the_rows_that_moved_most(call) -> None:
    page = call("diff", "one/0", "one/1", "--rows", "2")
    assert "reason_source.name: filtered -> history" in page
    assert "seed: " not in page
    assert "Artifacts: 1 shared (split)" in page
    assert "predict/test: filtered0 -> history0" in page
    assert "Reason4Rec of B minus Reason4Rec of A, MAE: +" in page
    assert page.count("  row ") == 2
    assert page.count("    review: =1+1") == 2
    moved = [line.split(":")[1].split(",")[0].split(" -> ") for line in page.splitlines() if line.startswith("  row ")]
    changes = [abs(float(after) - float(before)) for before, after in moved]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 1.5
    assert "80 of 80 rows changed" in page


def test_diff_of_jobs_without_scores_or_with_other_rows(call, tmp_path: Path) -> None:
    page = call("diff", "one/0", "one/5")
    assert "not both jobs were scored" in page
    apart = write(tmp_path, *(record({"x": (0.5, 0.6)}, split=split) for split in ("a", "b")))
    page = call("diff", str(apart / "0"), str(apart / "1"))
    assert "The two scored other rows" in page
    assert "minus" not in page
    assert "no row is the same" in page


def test_diff_sets_the_jobs_own_rows_side_by_side_whatever_their_labels(call, tmp_path: Path) -> None:
    write(tmp_path, record({"Ours": (0.5, 0.6), "MF": (0.7, 0.9)}), record({"Theirs": (0.4, 0.5), "MF": (0.7, 0.9)}))
    page = call("diff", str(tmp_path / "0"), str(tmp_path / "1"))
    assert "  Ours -> Theirs: MAE 0.5000 -> 0.4000, RMSE 0.6000 -> 0.5000\n" in page
    assert "  MF: MAE 0.7000 -> 0.7000, RMSE 0.9000 -> 0.9000\n" in page


def test_a_further_metric_of_ratings_is_told(call, tmp_path: Path) -> None:
    ends = {"difference": -0.1, "low": -0.2, "high": 0.0, "p": 0.05}
    compared = {"label": "Item mean", "against": "MF", "mae": ends, "rmse": ends, "near": {**ends, "p": 0.01}}
    one = with_near(record({"MF": (0.5, 0.6)}), 0.25) | {"comparisons": [compared]}
    write(tmp_path, one, record({"MF": (0.5, 0.6)}))
    page = call("show", str(tmp_path / "0"))
    assert "  Item mean minus MF, near hits: +0.1000 [-0.0000, +0.2000], p 0.0100\n" in page
    assert "near hits ± se" in page
    assert "0.2500 ± 0.1000" in page
    page = call("diff", str(tmp_path / "0"), str(tmp_path / "1"))
    assert "  MF: MAE 0.5000 -> 0.5000, RMSE 0.6000 -> 0.6000, near hits 0.2500 -> none\n" in page


def test_diff_tells_code_that_changed(call, tmp_path: Path) -> None:
    write(tmp_path, *(record({"MF": (0.5, 0.6)}) | {"source": {"mine.py": digest}} for digest in ("a1", "b2")))
    assert "  source of mine.py: a1 -> b2\n" in call("diff", str(tmp_path / "0"), str(tmp_path / "1"))
    assert '  source: {"mine.py": "a1"}\n' in call("show", str(tmp_path / "0"))
