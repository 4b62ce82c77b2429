"""r4r-store: lists with the runs that use it, reads every byte, removes nothing that is used, and hands on whole."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from r4r.store.artifact import Store
from r4r.store.cli import main

SPLIT, TRAIN, OTHER = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A store with a split, what was trained on it, and what no run uses; one run."""
    folder = tmp_path / "out"
    store = Store(folder / "artifacts")
    for stage, key, inputs in (
        ("split", SPLIT, {}),
        ("train/x", TRAIN, {"split": SPLIT}),
        ("train/x", OTHER, {"split": SPLIT}),
    ):
        (store.workspace(stage, key) / "weights").write_bytes(b"w" * 1000)
        store.complete(stage, key, {}, {"inputs": inputs})
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"artifacts": {"split": SPLIT, "train/x": TRAIN}}))
    return folder


def call(outputs: Path, *argv: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["--outputs", str(outputs), *argv])
    return int(end.value.code or 0)


def test_list_names_sizes_and_runs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(outputs, "list") == 0
    lines = {line.split()[2]: line for line in capsys.readouterr().out.splitlines()[:-1]}
    assert set(lines) == {f"split/{SPLIT}", f"train/x/{TRAIN}", f"train/x/{OTHER}"}
    assert "1 runs: runs/one" in lines[f"train/x/{TRAIN}"]
    assert "no run" in lines[f"train/x/{OTHER}"]


def test_verify_reads_every_byte(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(outputs, "verify") == 0
    file = outputs / "artifacts" / "split" / SPLIT / "weights"
    file.write_bytes(b"w" * 999 + b"v")
    assert call(outputs, "verify") == 1
    assert f"split/{SPLIT}: the content of weights" in capsys.readouterr().out


def test_gc_removes_what_no_run_uses_and_only_when_told(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(outputs / "artifacts")
    unused = store.path("train/x", OTHER)
    assert call(outputs, "gc") == 0  # all of it is new
    assert "would remove" not in capsys.readouterr().out
    store.workspace("train/x", "d" * 16)
    assert call(outputs, "gc", "--days", "0") == 0
    assert capsys.readouterr().out.count("would remove") == 2
    assert unused.exists()
    with store.locked("train/x", "d" * 16):
        assert call(outputs, "gc", "--days", "0", "--delete") == 0
    assert not unused.exists()
    assert store.find("train/x", TRAIN)
    assert store.find("split", SPLIT)
    assert (outputs / "artifacts" / "train" / "x" / f"{'d' * 16}.partial").exists()


def test_an_artifact_travels_with_what_it_was_made_from(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, elsewhere = tmp_path / "one.tar", tmp_path / "elsewhere"
    assert call(outputs, "export", str(file), f"train/x/{TRAIN}") == 0
    assert call(elsewhere, "import", str(file)) == 0
    store = Store(elsewhere / "artifacts")
    assert store.damage("train/x", TRAIN, whole=True) is None
    assert store.find("train/x", TRAIN)
    assert store.find("split", SPLIT)
    assert not store.find("train/x", OTHER)
    assert call(elsewhere, "import", str(file)) == 0
    assert "0 added, 2 were here" in capsys.readouterr().out
    assert not [path for path in (elsewhere / "artifacts").rglob("*") if path.name.startswith(".import")]


def test_a_damaged_export_adds_nothing(outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.tar"
    weights = outputs / "artifacts" / "train" / "x" / TRAIN / "weights"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"v")
    with tarfile.open(bad, "w") as tar:
        tar.add(outputs / "artifacts" / "train" / "x" / TRAIN, arcname=f"train/x/{TRAIN}")
    assert call(outputs, "export", str(tmp_path / "no.tar"), TRAIN) == 1
    assert call(tmp_path / "elsewhere", "import", str(bad)) == 1
    (tmp_path / "text.tar").write_text("no tar")
    assert call(tmp_path / "elsewhere", "import", str(tmp_path / "text.tar")) == 1
    shown = capsys.readouterr().err
    assert shown.count("is damaged") == 2
    assert "is no export of a store" in shown
    assert not list((tmp_path / "elsewhere" / "artifacts").iterdir())


def test_an_unknown_name_and_a_folder_without_a_store(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(outputs, "export", str(tmp_path / "x.tar"), "split/none") == 1
    assert call(tmp_path / "nowhere", "list") == 1
    shown = capsys.readouterr().err
    assert "split/none: there is no such artifact" in shown
    assert "there is no store at" in shown
    assert not os.path.exists(tmp_path / "x.tar")
