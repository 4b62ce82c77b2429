"""Records and predictions that are broken, in any way: no report ends with them, and each is counted and named."""

import contextlib
import copy
import csv
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from report_records import record, runs, with_near, write
from sealed import seal

from r4r.report import cli
from r4r.report.blocks import blocks
from r4r.report.tables import TABLES

DAMAGES: list[Any] = [None, True, -1, 0.5, "", "x", [], {}, [None], {"a": None}, float("nan"), "\u2028=1|&"]


@settings(max_examples=20)
@given_any(st.data())
def test_no_damage_to_a_record_ends_the_report(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any value of a record replaced or taken out: it is named and left out, or its row stands; the others stand."""
    whole = record({"Reason4Rec": (0.6, 0.8), "MF": (0.5, 0.7)}, source="history", p={"MF": 0.5})
    broken = copy.deepcopy(with_near(whole, 0.5))
    at: Any = broken
    path = []
    for _ in range(data.draw(st.integers(0, 4), "depth")):
        inner = at[path[-1]] if path else at
        if not isinstance(inner, dict | list) or not inner:
            break
        at = inner
        path.append(data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))), "key"))
    damage = data.draw(st.sampled_from([*DAMAGES, ...]), "damage")
    if not path:
        broken = {} if damage is ... else damage
    elif damage is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = damage
    folder = tmp_path_factory.mktemp("damaged")
    write(folder, record({"Reason4Rec": (0.5, 0.7)}, experiment="table4"), broken)
    argv = ["table4", "--records", str(folder), "--out", str(folder / "report"), "--data", "simulated"]
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        assert cli.report(argv) == 0
    page = (folder / "report" / "table4.md").read_text(encoding="utf-8")
    assert "0.5000 ± 0.0100 se" in page


def test_files_that_hold_no_text_or_no_json_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "runs", record({"Reason4Rec": (0.5, 0.7)}))
    whole = (tmp_path / "runs" / "0" / "result.json").read_bytes()
    kinds = {"binary": bytes(range(256)), "cut": whole[:300], "empty": b"", "deep": b"[" * 100_000, "null": b"null"}
    for name, content in kinds.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "result.json").write_bytes(content)
    (tmp_path / "runs" / "fifo").mkdir()
    os.mkfifo(tmp_path / "runs" / "fifo" / "result.json")
    argv = ["table4", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert cli.report(argv) == 0
    told = capsys.readouterr().err
    assert "6 of 7 records cannot be read and are left out" in told
    for name in (*kinds, "fifo"):
        assert f"runs/{name}/result.json is left out: " in told
    assert "| Reason4Rec | **0.5000" in (tmp_path / "table4.md").read_text(encoding="utf-8")


def test_damaged_predictions_leave_a_row_uncompared(tmp_path: Path) -> None:
    made = []
    for source in ("filtered", "history"):
        one = record({"Reason4Rec": (0.5, 0.7)}, source=source)
        one["config"]["paths"]["artifacts"] = str(tmp_path / "artifacts")
        folder = tmp_path / "artifacts" / "predict" / "test" / source
        folder.mkdir(parents=True)
        (folder / "data.parquet").write_bytes(b"PAR1 and no more")
        seal(tmp_path / "artifacts", "predict/test", source)
        one["artifacts"]["predict/test"] = source
        made.append(one)
    found, _ = blocks(TABLES["table4"], runs(*made))
    assert not found[0].cell("History-inferred").effects
    assert any("Not compared with Reason4Rec" in note for note in found[0].notes)


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    hostile = '=HYPERLINK("http://x")'
    made = record(dataset="music", error={"kind": "ModelError", "message": hostile})
    one = record({"Reason4Rec": (0.5, 0.7)}) | {"dataset": hostile}
    write(tmp_path / "runs", made, one)
    assert cli.report(["table4", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    with (tmp_path / "table4.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["dataset"] for row in rows} == {f"'{hostile}"}
    assert any(float(row["mean"]) == 0.5 for row in rows if row["mean"])
