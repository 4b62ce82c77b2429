"""Records into the paper's tables and figures: what stands where, seeds pooled, rows compared, and what is said."""

import csv
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from report_records import record, runs, world_of_records, write
from sealed import seal

from r4r.errors import DataError
from r4r.report import cli
from r4r.report.blocks import blocks
from r4r.report.documents import document
from r4r.report.settings import Ask
from r4r.report.tables import TABLES, Row, Setting
from r4r.report.text import escape_markdown


def sources(scores: dict[str, float], **more: Any) -> list[dict[str, Any]]:
    return [record({"Reason4Rec": (mae, mae + 0.2)}, source=source, **more) for source, mae in scores.items()]


GOLDEN = """\
# Table 4: what the reasoner learns from

Command: `r4r -m experiment=table4`

## music

|  | MAE | RMSE | reviews | seeds | paper, music: MAE | paper, music: RMSE |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| Without reason | 0.6000 ± 0.0100 | 0.8000 ± 0.0100 | 1,296 | 3 | 0.5529 | 0.7742 |
| Review-guided | failed | failed | failed | 0 | 0.5825 | 0.7812 |
| Review-inferred | missing | missing | missing | 0 | 0.5723 | 0.7816 |
| History-inferred | 0.5700 ± 0.0100 se | 0.7700 ± 0.0200 se | 1,296 | 1 | 0.5640 | 0.7744 |
| Reason4Rec | **0.5500 ± 0.0100** | **0.7500 ± 0.0100** | 1,296 | 3 | **0.5442** | **0.7722** |

## Missing

- music: Review-guided, seed 42: failed with ModelError: out of memory (DIR/5/result.json)
- music: Review-guided, seed 43: was interrupted, or is still running (DIR/6/result.json)
- music: Review-inferred: no record; run r4r -m experiment=table4 dataset=music reason_source=review_inferred

## Notes

- music: The rows have different seeds (Without reason: 42, 43, 44; History-inferred: 43; Reason4Rec: 42, 43, 44).
- music: Not compared with Reason4Rec, since no record compares the two and their predictions are not on disk: \
Without reason (seed 42, 43, 44); History-inferred (seed 43).
- Mean ± standard deviation over seeds; of one seed, its value ± the standard error over reviews (se). \
Ratings are decoded as the mean of their distribution. Bold: the best of its column.
"""


@pytest.fixture(scope="module")
def table4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on an incomplete Table 4."""
    folder = tmp_path_factory.mktemp("table4")
    base: dict[str, Any] = {"dataset": "music", "n": 1296}
    made = [
        *(record({"Reason4Rec": (0.54 + s / 100, 0.74 + s / 100)}, seed=42 + s, **base) for s in range(3)),
        record({"Reason4Rec w/o step 2": (0.59, 0.79)}, strategy="without_step2", seed=42, **base),  # by its other name
        record({"Reason4Rec": (0.60, 0.80)}, source="none", seed=43, **base),
        record(source="review", **base),
        record(source="review", seed=43, status="interrupted", dataset="music"),
        record({"Reason4Rec": (0.61, 0.81)}, source="none", seed=44, **base),
        record({"Reason4Rec": (0.57, 0.77)}, source="history", seed=43, **base),
        record(
            {"Reason4Rec": (0.1, 0.1)}, experiment="smoke", given=("experiment=[table4,smoke]",), **base
        ),  # counts only where asked for
    ]
    write(folder / "runs", *made)
    assert cli.report(["table4", "--records", str(folder / "runs"), "--out", str(folder), "--data", "music"]) == 0
    return folder


def test_the_markdown_of_a_table(table4: Path) -> None:
    text = (table4 / "table4.md").read_text(encoding="utf-8")
    assert text.replace(escape_markdown(str(table4 / "runs")), "DIR") == GOLDEN


def test_a_shell_leaves_the_home_folder_of_an_option_to_the_command(
    table4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.report(["table4", "--records", str(table4 / "runs"), "--out=~/told", "--data", "music"]) == 0
    assert (tmp_path / "told" / "table4.md").exists()
    with pytest.raises(DataError, match="~nobody-of-this-name/x: there is no such folder"):
        cli.report(["table4", "--records=~nobody-of-this-name/x"])


def test_seeds_are_missed_where_they_are_asked_for(table4: Path, tmp_path: Path) -> None:
    base = ["table4", "--records", str(table4 / "runs"), "--out", str(tmp_path), "--seeds", "42,43,44"]
    assert cli.report(base) == 0
    text = (tmp_path / "table4.md").read_text(encoding="utf-8")
    command = "run r4r -m experiment=table4 dataset=music reason_source="
    for sentence in (
        f"Review-guided: no record for seed 44; {command}review seed=44",
        f"Review-inferred: no record for seed 42, 43, 44; {command}review_inferred seed=42,43,44",
        f"History-inferred: no record for seed 42, 44; {command}history seed=42,44",
    ):
        assert f"- music: {sentence}\n" in text


def test_the_latex_of_a_table(table4: Path) -> None:
    text = (table4 / "table4.tex").read_text(encoding="utf-8")
    head = [
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{Table 4: what the reasoner learns from, music}",
        r"\label{tab:table4}",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r" & MAE & RMSE & reviews & seeds & paper, music: MAE & paper, music: RMSE \\",
        r"\midrule",
        r"Without reason & 0.6000 $\pm$ 0.0100 & 0.8000 $\pm$ 0.0100 & 1,296 & 3 & 0.5529 & 0.7742 \\",
        r"Review-guided & failed & failed & failed & 0 & 0.5825 & 0.7812 \\",
    ]
    assert "\n".join(head) in text
    assert r"\textbf{0.5500 $\pm$ 0.0100}" in text
    assert r"reason\_source=review\_inferred" in text
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_the_csv_of_a_table(table4: Path) -> None:
    with (table4 / "table4.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ours = [row for row in rows if (row["row"], row["decoding"], row["metric"]) == ("Reason4Rec", "mean", "mae")]
    assert len(ours) == 1
    assert float(ours[0]["mean"]) == pytest.approx(0.55)
    assert float(ours[0]["sd"]) == pytest.approx(0.01)
    assert (ours[0]["seeds"], ours[0]["n"], ours[0]["paper"]) == ("42 43 44", "1296", "0.5442")
    assert {row["status"] for row in rows if row["row"] == "Review-guided"} == {"failed"}


def test_records_of_the_smoke_preset_count_where_asked_for(table4: Path, tmp_path: Path) -> None:
    base = ["table4", "--records", str(table4 / "runs"), "--out", str(tmp_path), "--experiment", "smoke"]
    assert cli.report(base) == 0
    assert "| Reason4Rec | **0.1000 ± 0.0100 se** |" in (tmp_path / "table4.md").read_text(encoding="utf-8")


@settings(max_examples=6)
@given_any(
    st.dictionaries(
        st.integers(0, 2**31), st.tuples(st.floats(0, 4), st.floats(0, 4)), min_size=1, max_size=6
    )  # seed -> MAE, RMSE
)
def test_mean_and_sd_over_any_seeds_are_numpys(by_seed: dict[int, tuple[float, float]]) -> None:
    made = [record({"Reason4Rec": scores}, seed=seed) for seed, scores in by_seed.items()]
    found, _ = blocks(TABLES["figure4"], runs(*made), Ask(("simulated",)))
    cell = found[0].cell("Multi-step")
    assert list(cell.results) == sorted(by_seed)
    for at, metric in enumerate(("mae", "rmse")):
        values = np.array([scores[at] for scores in by_seed.values()])
        mean, sd = cell.over_seeds(metric)
        assert mean == pytest.approx(np.mean(values))
        if len(values) == 1:
            assert sd is None
        else:
            assert sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
            assert sd == pytest.approx(statistics.stdev(values.tolist()), abs=1e-9)


def test_marks_are_of_the_paired_bootstrap_in_every_seed() -> None:
    scores = {"Reason4Rec": (0.5, 0.7), "MF": (0.6, 0.8), "Global mean": (0.9, 1.0), "User mean": (0.8, 0.9)}
    made = [
        record(scores, seed=42, p={"MF": 0.01, "Global mean": 0.001, "User mean": 0.2}),
        record(scores, seed=43, p={"MF": 0.06, "Global mean": 0.004, "User mean": 0.2}),
    ]
    found, missing = blocks(TABLES["table2"], runs(*made))
    assert missing == []
    cells = {cell.row.name: cell for cell in found[0].cells}
    assert cells["MF"].p["mae"] == [0.01, 0.06]
    assert [name for name, cell in cells.items() if "†" in cell.marks("mae")] == ["Global mean"]
    assert cells["DAML"].status == "missing"


def test_a_method_that_decodes_in_two_ways_has_two_rows() -> None:
    both = record({"Rec-SAVER": (0.6, 0.9), "Rec-SAVER (logits)": (0.5, 0.8)}, method="rec_saver")
    found, _ = blocks(TABLES["table2"], runs(record({"Reason4Rec": (0.5, 0.7)}), both))
    assert found[0].cell("Rec-SAVER").over_seeds("mae") == (0.6, None)
    assert found[0].cell("Rec-SAVER (logits)").over_seeds("mae") == (0.5, None)
    lone = record({"Rec-SAVER": (0.6, 0.9)}, method="rec_saver", given=("method.logits=false",))
    found, _ = blocks(TABLES["table2"], runs(record({"Reason4Rec": (0.5, 0.7)}), lone))
    assert found[0].cell("Rec-SAVER (logits)").status == "missing"


def test_a_further_metric_of_ratings_has_a_column() -> None:
    about = {"near": {"title": "near", "higher_is_better": True}}
    made = []
    for source, near in (("filtered", 0.5), ("history", 0.7)):
        one = record({"Reason4Rec": (0.5, 0.7)}, source=source, rating_metrics=about)
        one["metrics"][0] |= {"near": near, "near_se": 0.1}
        made.append(one)
    found, _ = blocks(TABLES["table4"], runs(*made))
    shown = document(TABLES["table4"], found)
    grid = shown.grids[0]
    at = list(grid.headers).index("near")
    cells = {line[0].text: line[at] for line in grid.lines}
    assert (cells["History-inferred"].text, cells["History-inferred"].bold) == ("0.7000 ± 0.1000 se", True)
    assert (cells["Reason4Rec"].text, cells["Reason4Rec"].bold) == ("0.5000 ± 0.1000 se", False)
    assert {row["metric"] for row in shown.rows if row["row"] == "Reason4Rec"} == {"mae", "rmse", "near"}
    made[1].pop("rating_metrics")  # a record without it: the column would have a hole
    found, _ = blocks(TABLES["table4"], runs(*made))
    assert "near" not in document(TABLES["table4"], found).grids[0].headers


def test_a_method_that_is_not_built_is_named() -> None:
    rows = (Row("Oracle", (Setting("oracle"),)), TABLES["table2"].rows[-1])
    table = replace(TABLES["table2"], rows=rows)
    found, _ = blocks(table, runs(record({"Reason4Rec": (0.5, 0.7)})))
    assert found[0].cell("Oracle").status == "not built"
    assert "Oracle: not built, there is no conf/method/oracle.yaml" in found[0].problems


def test_a_reference_counts_for_its_row_unless_rows_were_left_out() -> None:
    check = record(
        {"Review-guided": (0.3, 0.5), "MF": (0.1, 0.1)}, method="reward_check", excluded={"refused": [1, 2]}, n=98
    )
    ours = record({"Reason4Rec": (0.5, 0.7), "MF": (0.6, 0.8)})
    found, _ = blocks(TABLES["table2"], runs(ours, check))
    assert found[0].cell("MF").over_seeds("mae") == (0.6, None)
    found, _ = blocks(TABLES["table5"], runs(ours, check))
    assert found[0].cell("Review-guided").over_seeds("mae") == (0.3, None)
    assert any("2 reviews were left out" in note for note in found[0].notes)


def test_a_reference_keeps_its_row_where_the_method_is_a_preset_of_the_same_class() -> None:
    made = record({"MF": (0.9, 1.1), "MF (references.mf)": (0.6, 0.8)}, method="mf", given=("method.name=mf_small",))
    assert made["method"] == "mf_small"
    found, _ = blocks(TABLES["table2"], runs(record({"Reason4Rec": (0.5, 0.7)}), made))
    assert found[0].cell("MF").over_seeds("mae") == (0.6, None)


def test_of_different_results_the_newest_stands_and_it_is_said() -> None:
    old = record({"Reason4Rec": (0.5, 0.7)}, started="2026-01-01T00:00:00+00:00")
    new = record({"Reason4Rec": (0.6, 0.7)}, started="2026-01-02T00:00:00+00:00")
    found, _ = blocks(TABLES["table4"], runs(old, new))
    assert found[0].cell("Reason4Rec").over_seeds("mae") == (0.6, None)
    assert any("seed 42: 1 record had another result than the newest, 1/result.json" in note for note in found[0].notes)
    again = dict(new, started="2026-01-03T00:00:00+00:00")
    found, _ = blocks(TABLES["table4"], runs(new, again))
    assert not any("another result" in note for note in found[0].notes)
    named = record({"Reason4Rec w/o step 2": (0.6, 0.7)}, strategy="without_step2")
    found, _ = blocks(TABLES["table4"], runs(named, record({"Reason4Rec": (0.60001, 0.7)}, source="none")))
    assert found[0].cell("Without reason").over_seeds("mae") == (0.60001, None)
    assert not any("another result" in note for note in found[0].notes)


def test_a_row_of_edited_code_is_named() -> None:
    ours, edited = sources({"filtered": 0.5, "none": 0.6})
    edited |= {"source": {"r4r/experts/reasoner.py": "1f", "mine.py": "2e"}}
    (block,), _ = blocks(TABLES["table4"], runs(ours, edited))
    [note] = [note for note in block.notes if "release" in note]
    assert note == "Without reason: made with code or prompts outside r4r's release: mine.py, r4r/experts/reasoner.py."


def test_a_record_trained_otherwise_is_no_result_of_its_row() -> None:
    made = sources({"filtered": 0.5}) + sources({"filtered": 0.9}, seed=43, given=("trainer.max_steps=1",))
    (block,), _ = blocks(TABLES["table4"], runs(*made))
    assert list(block.cell("Reason4Rec").results) == [42]
    [(cell, beyond)] = block.variants
    assert (list(cell.results), list(beyond)) == ([43], ["trainer.max_steps"])


def test_records_that_scored_other_rows_are_left_out_and_named() -> None:
    own = record({"Reason4Rec": (0.5, 0.7)}, experiment="table4", split="a")
    other = record({"Reason4Rec": (0.9, 0.9)}, source="history", split="b", started="2026-02-01T00:00:00+00:00")
    found, _ = blocks(TABLES["table4"], runs(own, other))
    assert found[0].cell("History-inferred").status == "missing"
    assert any("1 record scored other rows" in note and "1/result.json" in note for note in found[0].notes)


def test_rows_of_two_records_are_compared_by_their_predictions(tmp_path: Path) -> None:
    """Table 4's rows are jobs of their own: no record compares them, the predictions do."""
    generator = np.random.default_rng(0)
    truth = generator.integers(1, 6, 60).astype(float)
    rows = pd.DataFrame({"row_id": np.arange(60), "rating": truth, "timestamp": 0, "split": "test"})
    for column in ("user_id", "item_id", "title", "review"):
        rows[column] = "x"
    store = tmp_path / "artifacts"

    def keep(stage: str, key: str, table: pd.DataFrame) -> None:
        (store / stage / key).mkdir(parents=True)
        table.to_parquet(store / stage / key / "data.parquet", index=False)
        seal(store, stage, key)

    keep("split", "split0", rows)
    made = []
    for source, noise in (("filtered", 0.1), ("history", 1.0), ("review", 0.1)):
        values = truth + noise * generator.choice([-1, 1], 60)
        columns = {"row_id": rows["row_id"], "label": "Reason4Rec", "mean": values, "median": values, "mode": values}
        keep("predict/test", source, pd.DataFrame(columns))
        one = record({"Reason4Rec": (noise, noise)}, source=source, n=60)
        one["artifacts"]["predict/test"] = source
        one["config"]["paths"] = {"artifacts": str(store)}
        made.append(one)
    found, _ = blocks(TABLES["table4"], runs(*made))
    marked = [cell.row.name for cell in found[0].cells if cell.marks("mae")]
    assert marked == ["History-inferred"]
    assert len(found[0].cell("Review-guided").p["mae"]) == 1


def test_table_1_is_read_from_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": 43071, "valid": 3271, "test": 1296, "users": 4183, "items": 2926}
    folder = tmp_path / "artifacts" / "split" / "split0"
    folder.mkdir(parents=True)
    (folder / "table1.json").write_text(json.dumps({"table1": counts}), encoding="utf-8")
    seal(tmp_path / "artifacts", "split", "split0")
    music = record({"x": (1, 1)}, method="means", dataset="music")
    failed = record(method="means", dataset="yelp", error={"kind": "DataError", "message": "yelp.json: not there"})
    write(tmp_path / "sweeps", music, failed)
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    assert cli.report(["table1"]) == 0
    text = (tmp_path / "report" / "table1.md").read_text(encoding="utf-8")
    assert "| music | 43,071 | 3,271 | 1,296 | 4,183 | 2,926 |" in text
    assert "| music, difference | +0.0% | +0.0% | +0.0% | +0.0% | +10.0% |" in text
    assert "- yelp: the newest job failed with DataError: yelp.json: not there" in text
    assert "- book: no record; run r4r -m experiment=table1 dataset=book" in text


@pytest.mark.usefixtures("pictures")
def test_figures_are_pictures_of_every_variant(tmp_path: Path) -> None:
    made = [record({"x": (0.5 + s / 100, 0.7)}, strategy=strategy, seed=42 + s) for s in range(3) for strategy in FOUR]
    made.append(record({"x": (0.6, 0.8)}, dataset="music"))
    write(tmp_path / "runs", *made)
    assert cli.report(["figure3", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure3.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figure3.pdf").read_bytes().startswith(b"%PDF")
    from r4r.report.figure import draw

    found, _ = blocks(TABLES["figure3"], runs(*made))
    figure = draw(TABLES["figure3"], found)
    assert len(figure.axes) == 4
    simulated, _, music, _ = figure.axes
    assert [len(axes.containers) for axes in (simulated, music)] == [4, 1]  # error bars
    assert [text.get_text() for text in music.texts] == ["no run"] * 3
    assert [text.get_text() for text in simulated.texts] == []


FOUR = ("without_step1", "without_step2", "without_step3", "multistep")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tabel2"], "tabel2: there is no such table or figure; did you mean table2"),
        (["table2", "--recrods", "x"], "unrecognized arguments: --recrods"),
        (["table5", "--against", "Hint"], "table5 has no row 'Hint'; did you mean Hint-inferred?"),
        (
            ["all", "--against", "MF"],
            "all: --against is of controls, figure3, figure4, objectives, table2, table3, table4, table5, one at a",
        ),
    ],
)
def test_a_wrong_command_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.report(argv)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_no_record_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    write(tmp_path / "runs", record({"Reason4Rec": (0.5, 0.7)}))
    with pytest.raises(DataError, match=r"no record of a job of table5 below .*; run r4r -m experiment=table5"):
        cli.report(["table5", "--records", str(tmp_path)])
    with pytest.raises(DataError, match="no record of a job of table4 of book below"):
        cli.report(["table4", "--records", str(tmp_path), "--data", "book"])
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        cli.report(["table4", "--records", str(tmp_path / "nowhere")])


def test_all_says_which_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs", record({"Reason4Rec": (0.5, 0.7), "MF": (0.6, 0.8)}))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "result.json").write_text('{"status": "ok"', encoding="utf-8")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "result.json").write_text('{"status": "ok"}', encoding="utf-8")
    assert cli.report(["all", "--records", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    made = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"table2.md", "table4.tex", "figure3.png", "figure4.pdf", "table1.csv"} <= made
    assert "table5.md" not in made
    told = capsys.readouterr().err
    for sentence in ("no record of a job of table5", "a job of table6", "is not JSON", "whole record of a job: method"):
        assert sentence in told
    page = (tmp_path / "report" / "table4.md").read_text(encoding="utf-8")
    assert "- 2 of 3 records cannot be read and are left out\n" in page
    assert "is not JSON" in page


def test_differences_are_pooled_over_seeds_and_stand_in_table_figure_and_csv(tmp_path: Path) -> None:
    noise = {"filtered": 0.5, "history": 1.0, "review": 0.5}
    made = world_of_records(tmp_path / "artifacts", 3, noise, apart=False)
    write(tmp_path / "runs", *made)
    [block], _ = blocks(TABLES["table4"], runs(*made))
    worse, equal = block.cell("History-inferred"), block.cell("Review-guided")
    for metric in ("mae", "rmse"):
        effect = worse.effects[metric]
        means = [cell.over_seeds(metric)[0] for cell in (worse, block.cell("Reason4Rec"))]
        assert effect.difference == pytest.approx(means[0] - means[1])
        assert effect.low < effect.difference < effect.high
        assert (effect.seeds, effect.worlds) == (3, 1)
        assert effect.low > 0
        assert effect.p <= effect.holm < 0.01
        assert worse.marks(metric) == "†‡"
        assert equal.effects[metric].holm > 0.05
        assert 0 < (equal.effects[metric].visible or 0) < 0.5
    assert worse.effects["mae"].p != worse.effects["rmse"].p or worse.effects["mae"].low != worse.effects["rmse"].low
    assert cli.report(["table4", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "table4.md").read_text(encoding="utf-8")
    assert "## simulated: differences from Reason4Rec" in page
    effect = worse.effects["mae"]
    shown = escape_markdown(f"{effect.difference:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}]")
    assert f"| History-inferred | {shown} |" in page
    assert "‡ differs from Reason4Rec pooled over seeds (over rows), p &lt; 0.05 after Holm's adjustment" in page
    assert r"$^{\dagger}$$^{\ddagger}$" in (tmp_path / "table4.tex").read_text(encoding="utf-8")
    with (tmp_path / "table4.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["row"], row["decoding"], row["metric"]): row for row in csv.DictReader(file)}
    told = rows["History-inferred", "mean", "rmse"]
    assert float(told["holm"]) == worse.effects["rmse"].holm
    assert float(told["visible"]) == worse.effects["rmse"].visible
    assert told["worlds"] == "1"
    from r4r.report.figure import draw

    figure = draw(TABLES["table4"], [block])
    assert len(figure.axes) == 4
    assert [len(axes.containers) for axes in figure.axes] == [3, 3, 2, 2]


def test_one_seeds_difference_is_its_records(tmp_path: Path) -> None:
    one = record({"Reason4Rec": (0.5, 0.7), "MF": (0.6, 0.8)}, p={"MF": 0.01})
    ends = {"difference": -0.1, "low": -0.15, "high": -0.05, "p": 0.01, "visible": 0.07}
    one["comparisons"][0] |= {"mae": ends, "rmse": ends | {"p": 0.4}}
    [block], _ = blocks(TABLES["table2"], runs(one))
    effect = block.cell("MF").effects["mae"]
    assert (effect.difference, effect.low, effect.high) == (0.1, 0.05, 0.15)  # the row minus the headline
    assert (effect.p, effect.holm, effect.visible, effect.seeds) == (0.01, 0.01, 0.07, 1)
    assert (block.cell("MF").marks("mae"), block.cell("MF").marks("rmse")) == ("†‡", "")


def test_worlds_of_other_sizes_compare_seed_by_seed() -> None:
    """Seeds may have reviews of their own; within a seed all rows must have the same."""

    def notes(sizes: dict[tuple[str, int], int]) -> list[str]:
        made = [
            record({"Reason4Rec": (0.9, 1.1)}, source=source, seed=seed, n=n, split=f"split{seed}")
            for (source, seed), n in sizes.items()
        ]
        [block], _ = blocks(TABLES["table4"], runs(*made))
        return [note for note in block.notes if "different numbers of reviews" in note]

    apart = {("filtered", 1): 100, ("history", 1): 100, ("filtered", 2): 90, ("history", 2): 90}
    assert notes(apart) == []
    assert len(notes(apart | {("history", 2): 80})) == 1


def test_a_job_on_reviews_of_ones_own_stands_in_a_table(r4r: Callable[..., int], tmp_path: Path) -> None:
    """Its data set has no name in the configuration that ships."""
    pairs = [(user, item) for user in range(8) for item in range(8)]
    rows = [
        (f"u{u}", f"i{i}", "T", 1 + (u * i) % 5, "good", 1_400_000_000 + 86_400 * (n * 37 % 64))
        for n, (u, i) in enumerate(pairs)
    ]
    columns = ["user_id", "item_id", "title", "rating", "review", "timestamp"]
    pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0).to_csv(tmp_path / "r.csv", index=False)
    own = ["dataset=custom", "dataset.name=mine", "dataset.category=Thing", f"dataset.reviews={tmp_path / 'r.csv'}"]
    assert r4r(*own, "method=mf", "dataset.prepare.k_core=1", "logger=none", f"paths.outputs={tmp_path / 'out'}") == 0
    assert cli.report(["table2", "--records", str(tmp_path / "out"), "--out", str(tmp_path)]) == 0
    assert "## mine" in (tmp_path / "table2.md").read_text()


def test_a_folder_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "runs", record({"Reason4Rec": (0.5, 0.7)}))
    (tmp_path / "file").touch()
    argv = ["r4r-report", "table4", "--records", str(tmp_path / "runs"), "--out", str(tmp_path / "file" / "report")]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.endswith("cannot be read or written (Not a directory)\n")
