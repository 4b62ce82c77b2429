"""`r4r-report sweep`: what varies is found, nothing is lost silently, and only pairs of the same rows are compared."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from forked import command
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import record, runs, with_near, world_of_records, write

from r4r.errors import DataError
from r4r.metrics.significance import World, holm, pooled
from r4r.report import cli
from r4r.report.beside import spread
from r4r.report.compare import find, predictions
from r4r.report.records import gather
from r4r.report.sweep import sweep
from r4r.report.sweep_figure import draw_heat, draw_sweep, numeric_axes, pick_axes
from r4r.rows import REVIEWS

HOSTILE = '=HYPERLINK("http://x")<script>\x1b[31m'


def mf(dim: int, seed: int, mae: float, *more: str, **fields: Any) -> dict[str, Any]:
    """A scored MF job that was started with these overrides."""
    given = (f"method.dim={dim}", *more)
    made = record({"MF": (mae, mae + 0.2), "Item mean": (0.9, 1.1)}, method="mf", seed=seed, given=given, **fields)
    return made | {"overrides": ["method=mf", *given, f"seed={seed}"]}


def lost(dim: int, seed: int, status: str = "failed", message: str = "out of memory") -> dict[str, Any]:
    made = mf(dim, seed, 1.0)
    for name in ("metrics", "artifacts", "evaluated", "comparisons"):
        made.pop(name)
    return made | {
        "status": status,
        "error": {"kind": "ModelError", "message": message} if status == "failed" else None,
    }


# what varies


def test_a_review_file_that_changed_between_jobs_is_told() -> None:
    first, second = (mf(4, seed, 0.5, dataset="musical_instruments") for seed in (1, 2))
    assert sweep(runs(first, second)).notes == []
    second["artifacts"] = {**second["artifacts"], "split": "another"}
    [note] = sweep(runs(first, second)).notes
    assert "the review file changed between its jobs; its mean is over 2 versions" in note


def test_a_job_that_failed_after_the_one_that_stands_is_told_as_that() -> None:
    early, late = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
    for first, second, told in ((early, late, "after the one that stands"), (late, early, "a later one was scored")):
        scored, failed = mf(4, 1, 0.5, started=first), lost(4, 1) | {"started": second}
        [note] = sweep(runs(*sorted([scored, failed], key=lambda one: one["started"]))).notes
        assert told in note


def test_rows_are_settings_with_mean_and_sd_over_seeds_in_the_order_of_numbers() -> None:
    made = sweep(runs(*(mf(dim, seed, 0.5 + seed / 100 + 1 / dim) for dim in (16, 2, 8) for seed in (1, 2, 3))))
    assert made.axes == ("method.dim",)
    [group] = made.groups
    assert [point.values for point in group] == [("2",), ("8",), ("16",)]
    assert group[1].cell.over_seeds("mae") == pytest.approx((0.645, 0.01))
    assert list(group[1].cell.results) == ["seed=1", "seed=2", "seed=3"]


def test_equal_values_are_one_setting_however_they_are_written() -> None:
    made = sweep(runs(mf(4, 1, 0.5, "method.lr=0.01"), mf(4, 2, 0.7, "method.lr=0.010"), mf(8, 1, 0.7)))
    assert made.axes == ("method.dim",)  # 0.01 is the default, too
    assert made.points[0].cell.over_seeds("mae")[0] == pytest.approx(0.6)


def test_jobs_that_differ_in_what_no_override_names_are_not_averaged() -> None:
    """A preset, or a file of one's own, may change a setting without a word on the command line."""
    quiet = mf(4, 1, 0.5, "method.patience=9")
    quiet["overrides"] = ["method=mf", "method.dim=4", "seed=1"]
    made = sweep(runs(mf(4, 1, 0.7), quiet))
    assert made.axes == ("method.patience",)
    assert [len(point.cell.results) for point in made.points] == [1, 1]


def test_jobs_of_other_code_are_not_averaged(tmp_path: Path) -> None:
    """The user edits a method of their own between two seeds."""
    text = "from r4r.methods.means import Means\nclass Mine(Means):\n    seeded = True\n"
    job = ["method=means", "method.name=mine", "method._target_=mine_edited.Mine", "plugins=[mine_edited]"]
    small = ["~references", "logger=none", "dataset.world.users=20", "dataset.world.items=10"]
    outputs = tmp_path / "outputs"
    for seed, more in ((1, ""), (2, ""), (3, "# edited\n")):
        (tmp_path / "mine_edited.py").write_text(text + more)
        found = command(
            *job, *small, f"seed={seed}", f"paths.outputs={outputs}", before=lambda: sys.path.insert(0, str(tmp_path))
        )
        assert found.wait().returncode == 0
    made = sweep(gather([outputs])[0])
    assert made.axes == ("source",)
    assert sorted(tuple(point.cell.results) for point in made.points) == [("seed=1", "seed=2"), ("seed=3",)]
    [note] = made.notes
    assert "Code changed between jobs of the same settings (mine_edited.py)" in note


def test_code_that_no_two_jobs_of_a_setting_have_otherwise_is_no_axis() -> None:
    told = {2: {"mine.py": "a"}, 4: {"mine.py": "b"}}
    alike = [mf(dim, seed, 0.5) | {"source": told[dim]} for dim in (2, 4) for seed in (1, 2)]
    unlike = mf(2, 3, 0.5) | {"source": {}}
    untold = mf(2, 4, 0.5)  # of an earlier r4r, or a job that failed before it knew its stages
    assert sweep(runs(*alike, untold)).axes == ("method.dim",)
    made = sweep(runs(*alike, untold, unlike))
    assert made.axes == ("method.dim", "source")
    assert len(made.points) == 3


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from([2, 4]), st.integers(1, 4)), min_size=1, max_size=8))
def test_every_job_is_in_a_row_or_named(jobs: list[tuple[int, int]]) -> None:
    made = sweep(runs(*(mf(*job, 0.5) if n % 3 else lost(*job) for n, job in enumerate(jobs))))
    scored = {job for n, job in enumerate(jobs) if n % 3}
    named = {(int(p.values[0]) if p.values else jobs[0][0], which) for p in made.points for which in p.cell.results}
    assert named == {(dim, f"seed={seed}") for dim, seed in scored}
    assert len(made.problems) == len(set(jobs) - scored)


def test_failed_unfinished_and_unstarted_jobs_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [mf(2, 1, 0.5), lost(2, 2), lost(4, 1, "interrupted"), lost(4, 2), mf(4, 2, 0.6)]
    stopped = lost(8, 1) | {"status": "ok", "error": None}
    stopped["config"] = stopped["config"] | {"target": "split"}
    write(tmp_path / "s", *made, stopped)
    told = {
        "sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "params": None},
        "overrides": {"task": ["method=mf", "method.dim=2,4,8,9", "seed=1,2"]},
    }
    (tmp_path / "s" / "multirun.yaml").write_text(yaml.safe_dump({"hydra": told}))
    (tmp_path / "s" / "7-dim=9,seed=2").mkdir()
    (tmp_path / "s" / "7-dim=9,seed=2" / "result.json").write_text("{")
    assert cli.report(["sweep", str(tmp_path / "s"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "sweep.md").read_text(encoding="utf-8")
    for sentence in (
        "method.dim=2: seed=2: failed with ModelError: out of memory",
        "method.dim=4: seed=1: was interrupted, or is still running",
        "method.dim=8: seed=1: stopped at target=split, nothing was scored",
        "method=mf method.dim=9 seed=1: not started",
        "method=mf method.dim=8 seed=2: not started",
        "method.dim=4: 1 job failed or broke off, and a later one was scored",
        "1 of 7 records cannot be read",
    ):
        assert f"- {sentence}" in page
    assert page.count("not started") == 2
    assert "| 2 | " in page
    assert "1 (1 lost)" in page
    assert "| 8 | failed | failed |" not in page
    assert "unfinished" in page
    with (tmp_path / "out" / "sweep.csv").open(encoding="utf-8", newline="") as file:
        statuses = [row["status"] for row in csv.DictReader(file) if row["status"] != "ok"]
    assert sorted(statuses) == ["failed", "interrupted", "stopped at its target"]
    assert "Missing" in capsys.readouterr().out


# comparisons


def by_source(folder: Path, seeds: int, noise: dict[str, float], apart: bool = False) -> list[dict[str, Any]]:
    """Scored jobs over reason sources, with their predictions on disk."""
    made = world_of_records(folder / "artifacts", seeds, noise, apart)
    return [one | {"overrides": [f"reason_source={one['config']['reason_source']['name']}"]} for one in made]


def test_a_row_is_compared_pooled_over_seeds_with_an_error_of_each_kind(tmp_path: Path) -> None:
    found = runs(*by_source(tmp_path, 3, {"filtered": 0.5, "history": 0.9, "review": 0.5}))
    made = sweep(found, ["reason_source=filtered"])
    cells = {point.values[0]: point.cell for point in made.points}
    assert not cells["filtered"].effects
    effect = cells["history"].effects

    def columns(source: str) -> np.ndarray:
        own = [run for run in found if run.source == source]
        tables = [predictions(run, "Reason4Rec") for run in own]
        return np.stack([np.asarray(table, dtype=float) for table in tables])

    truth = find(found[0], "split").table(REVIEWS)["rating"].to_numpy(dtype=float)
    alone = pooled([World(columns("history"), columns("filtered"), truth)])
    for metric in ("mae", "rmse"):
        assert effect[metric].p == alone[metric]["p"]
        assert (effect[metric].low, effect[metric].visible) == (alone[metric]["low"], alone[metric]["visible"])
        both = [cells[source].effects[metric] for source in ("history", "review")]
        assert [one.holm for one in both] == holm([one.p for one in both])
    assert effect["mae"].low != effect["rmse"].low
    assert "‡" in cells["history"].marks("mae")
    assert not cells["review"].marks("mae")


def test_a_further_metric_is_compared_where_it_is_no_plugins(tmp_path: Path) -> None:
    made = by_source(tmp_path, 3, {"filtered": 0.5, "history": 0.9})
    for one in made:
        one["rating_metrics"] = {m: {"title": m, "higher_is_better": True} for m in ("accuracy", "mine")}
        one["config"]["metrics"]["ratings"] = {
            "accuracy": {"_target_": "r4r.metrics.accuracy.Accuracy"},
            "mine": {"_target_": "mine.Mine"},
        }
        one["metrics"] = [
            row | dict.fromkeys(("accuracy", "accuracy_se", "mine", "mine_se"), 0.5) for row in one["metrics"]
        ]
    found = runs(*made)
    cell = next(point.cell for point in sweep(found, ["reason_source=filtered"]).points if point.cell.effects)
    assert set(cell.effects) == {"mae", "rmse", "accuracy"}
    truth = find(found[0], "split").table(REVIEWS)["rating"].to_numpy(dtype=float)

    def hits(source: str) -> float:
        rated = [predictions(run, "Reason4Rec") for run in found if run.source == source]
        return float(np.mean([np.clip(np.round(one.to_numpy()), 1, 5) == truth for one in rated]))

    effect = cell.effects["accuracy"]
    assert effect.difference == pytest.approx(hits("history") - hits("filtered"))
    assert effect.p < 0.05
    assert (effect.seeds, len(cell.p["accuracy"])) == (3, 3)


def test_what_presets_set_is_an_axis_or_a_seed_too() -> None:
    """The command lines say nothing of it."""
    score = {"Reason4Rec": (0.5, 0.6)}
    steps = runs(*(record(score, seed=s, given=(f"trainer.max_steps={s}", "trainer.devices=1")) for s in (1, 2)))
    assert sweep(steps).axes == ("trainer.max_steps",)
    worlds = sweep(runs(*(record(score, given=(f"dataset.world.seed={s}",)) for s in (1, 2))))
    [point] = worlds.points
    assert worlds.axes == ()
    assert set(point.cell.results) == {"seed=42 dataset.world.seed=1", "seed=42 dataset.world.seed=2"}


def test_no_mean_is_taken_over_two_definitions_of_a_metric() -> None:
    made = [with_near(record({"MF": (0.5, 0.6)}, seed=seed), near) for seed, near in ((1, 0.1), (2, 0.9))]
    for one, within in zip(made, (0.25, 2.0), strict=True):
        one["config"]["metrics"]["ratings"] = {"near": {"_target_": "mine.Near", "within": within}}
    found = sweep(runs(*made))
    [point] = found.points
    assert spread(point.cell, "near") == (0.9, None, 0.1)
    assert spread(point.cell, "mae") == (0.5, 0.0, pytest.approx(0.01))
    [note] = [note for note in found.notes if "near" in note]
    assert "near of 1 record was left out" in note


def test_a_reference_whose_code_changed_between_jobs_is_not_compared_with() -> None:
    ends = {"difference": 0.3, "low": 0.1, "high": 0.5, "p": 0.01, "visible": 0.2}
    made = [mf(2, 1, 0.6), mf(2, 2, 0.7)]
    for number, one in enumerate(made):
        one["comparisons"] = [{"label": "Item mean", "against": "MF", "mae": ends, "rmse": ends}]
        one["predicted"] = {"Item mean": {"stage": "predict/means", "key": f"k{number}", "label": "Item mean"}}
        one["reference_source"] = {f"predict/means/k{number}": {"mine.py": str(number)}}
    found = sweep(runs(*made), ["Item mean"])
    assert not any(point.cell.p for point in found.points)
    assert "Not compared with Item mean: its code changed from job to job." in found.notes
    for one in made:
        one["predicted"]["Item mean"]["key"] = "k"
    assert all(point.cell.p for point in sweep(runs(*made), ["Item mean"]).points)


def test_seeds_that_make_worlds_are_compared_over_worlds(tmp_path: Path) -> None:
    made = sweep(
        runs(*by_source(tmp_path, 3, {"filtered": 0.4, "history": 1.2}, apart=True)), ["reason_source=filtered"]
    )
    [group] = made.groups
    assert {effect.worlds for point in group for effect in point.cell.effects.values()} == {3}


def test_settings_that_scored_other_rows_stand_apart_and_make_no_pairs(tmp_path: Path) -> None:
    """Their rows have the same numbers, in another split."""
    made = by_source(tmp_path, 2, {"filtered": 0.5, "history": 0.9})
    other = by_source(tmp_path / "other", 2, {"review": 0.5})
    for one in other:
        one["artifacts"]["split"] = "another"
    both = sweep(runs(*made, *other), ["reason_source=filtered"])
    assert [[point.values[0] for point in group] for group in both.groups] == [["filtered", "history"], ["review"]]
    assert not both.groups[1][0].cell.effects
    assert any("none of these rows has reason_source=filtered: reason_source=review" in note for note in both.notes)
    assert any("their values do not compare" in note for note in both.notes)


def test_a_reference_that_every_job_scored_may_be_the_row_to_compare_with() -> None:
    ends = {"difference": 0.3, "low": 0.1, "high": 0.5, "p": 0.01, "visible": 0.2}
    one = mf(2, 1, 0.6)
    one["comparisons"] = [{"label": "Item mean", "against": "MF", "mae": ends, "rmse": ends | {"p": 0.5}}]
    made = sweep(runs(one, mf(4, 1, 0.7)), ["Item mean"])
    effect = made.points[0].cell.effects["mae"]
    assert (effect.difference, effect.low, effect.high) == (0.3, 0.1, 0.5)  # MF minus the item mean
    assert any("method.dim=4: not compared with Item mean" in note for note in made.notes)


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (["method.dim=3"], "no row of this sweep has that"),
        (["dim"], "no row of this sweep has that"),
        (["method.lr=0.1"], "2 rows have that: method.dim=2 method.lr=0.1; method.dim=4 method.lr=0.1; name one"),
        (["Item men"], "references that the jobs scored: Item mean"),
    ],
)
def test_a_row_that_is_none_or_several_is_refused(against: list[str], message: str) -> None:
    made = runs(*(mf(dim, 1, 0.5, f"method.lr={lr}") for dim in (2, 4) for lr in (0.1, 0.2)))
    with pytest.raises(DataError, match=message):
        sweep(made, against)
    assert sweep(made, ["method.dim=2.0", "method.lr=0.1"]).groups[0][1].cell.row.name == "method.dim=2 method.lr=0.2"


# pictures and pages


def test_a_numeric_axis_is_a_line_two_are_a_heat_map_and_none_are_bars() -> None:
    grid = sweep(runs(*(mf(d, 1, 0.5 + d / 100 + lr, f"method.lr={lr}") for d in (2, 4, 100) for lr in (0.1, 0.2))))
    assert numeric_axes(grid) == ["method.dim", "method.lr"]
    assert pick_axes(grid, None, None) == ("method.dim", "method.lr")
    [axes] = draw_sweep(grid, "mae", "method.dim").axes
    assert [2, 4, 100] in [list(line.get_xdata()) for line in axes.lines]
    assert axes.get_xscale() == "log"
    heat = draw_heat(grid, "mae", "method.dim", "method.lr").axes[0]
    assert heat.images[0].get_array().round(2).tolist() == [[0.62, 0.64, 1.6], [0.72, 0.74, 1.7]]
    with pytest.raises(DataError, match=r"method\.dimm does not vary in this sweep; did you mean method\.dim"):
        pick_axes(grid, "method.dimm", None)
    words = sweep(runs(record({"x": (0.5, 0.6)}, strategy="onestep"), record({"x": (0.4, 0.6)}, strategy="cot")))
    assert numeric_axes(words) == []
    assert len(draw_sweep(words).axes[0].patches) == len(words.points)


@pytest.mark.usefixtures("pictures")
def test_all_files_are_written_and_texts_stay_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = mf(2, 1, 0.5)
    one["config"]["method"]["note"] = HOSTILE
    one["overrides"].append("++method.note=x")
    write(tmp_path / "s", one, mf(2, 2, 0.7), lost(4, 1, message=HOSTILE))
    assert cli.report(["sweep", str(tmp_path / "s"), "--out", str(tmp_path), "--name", "mine"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    made = {
        suffix: (tmp_path / f"mine.{suffix}").read_text(encoding="utf-8") for suffix in ("md", "tex", "csv", "html")
    }
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert "**0.5" in made["md"]
    assert "<ins>0.7" in made["md"]
    assert r"\textbf{0.5" in made["tex"]
    assert r"\underline{0.7" in made["tex"]
    assert r"\toprule" in made["tex"]
    assert "<b>0.5" in made["html"]
    assert "<u>0.7" in made["html"]
    assert "data:image/png;base64," in made["html"]
    for text in made.values():
        assert "\x1b" not in text
    assert "<script" not in made["html"].lower()
    assert "<script" not in made["md"].lower()
    assert "http" not in made["html"].replace("http://x", "").replace("http-equiv", "")
    assert "'=HYPERLINK" in made["csv"]


@pytest.mark.usefixtures("pictures")
def test_a_further_metric_of_ratings_is_a_column_and_can_be_drawn(tmp_path: Path) -> None:
    jobs = (with_near(mf(2, 1, 0.5), 0.25), with_near(mf(4, 1, 0.5), 0.75), mf(8, 1, 0.5))
    write(tmp_path / "s", *jobs)
    assert cli.report(["sweep", str(tmp_path / "s"), "--out", str(tmp_path), "--metric", "near"]) == 0
    page = (tmp_path / "sweep.md").read_text(encoding="utf-8")
    assert "| RMSE | near hits | reviews |" in page
    assert "**0.7500 ± 0.1000 se**" in page  # more is better
    assert "<ins>0.2500 ± 0.1000 se</ins>" in page
    with (tmp_path / "sweep.csv").open(encoding="utf-8", newline="") as file:
        lines = [row for row in csv.DictReader(file) if row["metric"] == "near" and row["decoding"] == "mean"]
    assert [(row["method.dim"], row["mean"], row["standard_error"]) for row in lines] == [
        ("2", "0.25", "0.1"),
        ("4", "0.75", "0.1"),
    ]
    picture = draw_sweep(sweep(runs(*jobs)), "near").axes[0]
    assert (picture.get_ylabel(), "higher is better" in picture.get_title()) == ("near hits", True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--metric", "maee"], "--metric maee: no job of this sweep has it; did you mean mae"),
        (["--x", "method.lr"], "method.lr does not vary"),
    ],
)
def test_a_wrong_request_is_a_sentence(argv: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path / "s", mf(2, 1, 0.5), mf(4, 1, 0.5))
    with pytest.raises(DataError, match=message):
        cli.report(["sweep", str(tmp_path / "s"), "--out", str(tmp_path), *argv])


def test_the_newest_sweep_is_reported_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    with pytest.raises(DataError, match="there is no sweep"):
        cli.report(["sweep"])
    write(tmp_path / "sweeps" / "2026-01-01" / "10", mf(2, 1, 0.5))
    write(tmp_path / "sweeps" / "2026-01-02" / "09", mf(4, 1, 0.5), mf(8, 1, 0.6))
    assert cli.report(["sweep"]) == 0
    assert "2026-01-02/09" in capsys.readouterr().out
    (tmp_path / "sweeps" / "2026-01-03" / "09").mkdir(parents=True)
    with pytest.raises(DataError, match="there is no record to report on"):
        cli.report(["sweep"])
