"""r4r-store: lists with the runs that use it, reads every byte, removes nothing that is used, and hands on whole."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from r4r.store.artifact import Store
from r4r.store.cli import main
from r4r.store.inventory import note_run

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


@pytest.mark.parametrize("days", ["nan", "-1", "inf", "x"])
def test_an_age_that_is_none_is_refused(outputs: Path, days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(outputs, "gc", "--days", days) == 2
    assert capsys.readouterr().err.endswith(f"argument --days: {days}: must be a number of days, 0 or more\n")


def test_list_names_sizes_and_runs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(outputs, "list") == 0
    lines = {line.split()[2]: line for line in capsys.readouterr().out.splitlines()[:-1]}
    assert set(lines) == {f"split/{SPLIT}", f"train/x/{TRAIN}", f"train/x/{OTHER}"}
    assert "1 run: runs/one" in lines[f"train/x/{TRAIN}"]
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


@pytest.mark.parametrize("linked", [False, True])
def test_gc_keeps_what_a_run_elsewhere_uses(outputs: Path, tmp_path: Path, linked: bool) -> None:
    """Its folder was named, or `runs` lies on another disk."""
    store = Store(outputs / "artifacts")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(outputs / "runs", elsewhere)
    if linked:
        (outputs / "runs").symlink_to(elsewhere)
    note_run(store.root, (outputs / "runs" if linked else elsewhere) / "one" / "result.json")
    assert call(outputs, "gc", "--days", "0", "--delete") == 0
    assert [bool(store.find("train/x", key)) for key in (TRAIN, OTHER)] == [True, False]
    shutil.rmtree(elsewhere)
    assert call(outputs, "gc", "--days", "0", "--delete") == 0
    assert not store.find("train/x", TRAIN)


def test_a_run_is_noted_in_its_store(outputs: Path, r4r: Any, tmp_path: Path) -> None:
    job = ["method=means", "~references.mf", "logger=none", "dataset.world.users=20", f"paths.outputs={outputs}"]
    assert r4r(*job, f"hydra.run.dir={tmp_path / 'far' / 'run'}") == 0
    [record] = (tmp_path / "far").rglob("result.json")
    key = json.loads(record.read_text())["artifacts"]["split"]
    assert call(outputs, "gc", "--days", "0", "--delete") == 0
    assert Store(outputs / "artifacts").find("split", key)


def test_gc_keeps_what_a_used_artifact_was_made_from(outputs: Path) -> None:
    """A record has one key a stage: not that of the adapter that SFT left, where rewards trained another from there."""
    store, after = Store(outputs / "artifacts"), "e" * 16
    (store.workspace("train/x", after) / "weights").write_bytes(b"w")
    store.complete("train/x", after, {}, {"inputs": {"train/x": TRAIN}})
    (outputs / "runs" / "one" / "result.json").write_text(json.dumps({"artifacts": {"train/x": after}}))
    assert call(outputs, "gc", "--days", "0", "--delete") == 0
    assert [store.path("train/x", key).exists() for key in (after, TRAIN, OTHER)] == [True, True, False]
    assert store.find("split", SPLIT)


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


# what was tampered with


def packed(folder: Path, file: Path, more: Any = None) -> Path:
    """A tar file of a folder, and of what `more` puts into it."""
    with tarfile.open(file, "w") as tar:
        tar.add(folder, arcname="")
        if more:
            more(tar)
    return file


def a_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Any:
    def put(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"evil"))

    return put


def manifest_with(**changes: Any) -> Any:
    """Change the manifest of what was trained, its own digest made right again."""

    def change(artifacts: Path) -> None:
        file = artifacts / "train" / "x" / TRAIN / "manifest.json"
        told = {**json.loads(file.read_bytes()), **changes}
        told = {name: value for name, value in told.items() if value is not None and name != "sha256"}
        text = json.dumps(told, sort_keys=True, ensure_ascii=False)
        file.write_text(json.dumps({**told, "sha256": hashlib.sha256(text.encode()).hexdigest()}))

    return change


@pytest.mark.parametrize(
    ("change", "more", "told"),
    [
        (None, a_member("../../evil"), "is no export of a store"),
        (None, a_member("/tmp/evil-of-r4r"), "tmp/evil-of-r4r is of no artifact"),
        (None, a_member(f"train/x/{TRAIN}/link", tarfile.SYMTYPE, "weights"), "is neither a plain file nor a folder"),
        (None, a_member(f"train/x/{TRAIN}/link", tarfile.LNKTYPE, f"train/x/{TRAIN}/weights"), "is neither a plain"),
        (None, a_member(f"train/x/{TRAIN}/pipe", tarfile.FIFOTYPE), "is neither a plain file nor a folder"),
        (None, a_member(f"train/x/{TRAIN}/more"), "is damaged (more is not of it)"),
        (manifest_with(stage=None), None, "is damaged (its manifest.json is none of a store)"),
        (manifest_with(contents=None), None, "is damaged (its manifest.json is none of a store)"),
        (manifest_with(contents={"weights": 5}), None, "is damaged (its manifest.json is none of a store)"),
        (manifest_with(inputs=[5]), None, "is damaged (its manifest.json is none of a store)"),
        (manifest_with(stage="split"), None, "is damaged (it is that of split"),
        (manifest_with(inputs={"split": "../" * 5}), None, "neither in the file nor in"),
        (lambda artifacts: shutil.rmtree(artifacts / "split"), None, f"was made from split {SPLIT}, which is neither"),
        (lambda artifacts: [shutil.rmtree(path) for path in artifacts.iterdir()], None, "it holds no artifact"),
    ],
)
def test_an_export_that_was_tampered_with_adds_nothing(
    outputs: Path, tmp_path: Path, change: Any, more: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if change:
        change(outputs / "artifacts")
    elsewhere = tmp_path / "elsewhere"
    assert call(elsewhere, "import", str(packed(outputs / "artifacts", tmp_path / "bad.tar", more))) == 1
    assert told in capsys.readouterr().err
    assert not list((elsewhere / "artifacts").iterdir())
    assert not list(tmp_path.rglob("evil"))


def test_a_packed_file_of_another_kind_or_cut_off_is_told(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, here = tmp_path / "good.tar", tmp_path / "elsewhere"
    assert call(outputs, "export", str(good), TRAIN) == 0
    assert call(outputs, "export", str(good), TRAIN) == 1
    assert "is there already" in capsys.readouterr().err
    content = good.read_bytes()
    for name, data in (("gz", gzip.compress(content)), ("cut", content[: len(content) // 2]), ("none", b"")):
        (tmp_path / name).write_bytes(data)
        assert call(here, "import", str(tmp_path / name)) == 1
        assert "is no export of a store" in capsys.readouterr().err or name == "cut"
    assert call(here, "import", str(tmp_path)) == 1
    assert call(here, "import", str(tmp_path / "nowhere")) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not list((here / "artifacts").iterdir())


def test_what_came_in_is_new_and_a_record_that_cannot_be_read_stops_the_removal(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [outputs / "artifacts", *(outputs / "artifacts").rglob("*")]:
        os.utime(path, (0, 0))
    file, here = tmp_path / "old.tar", tmp_path / "here"
    assert call(outputs, "export", str(file), TRAIN) == call(here, "import", str(file)) == 0
    assert call(here, "gc", "--delete") == 0
    assert Store(here / "artifacts").find("train/x", TRAIN)
    record = outputs / "runs" / "one" / "result.json"
    record.write_text(record.read_text()[:20])
    capsys.readouterr()
    assert call(outputs, "gc", "--delete") == 1
    assert f"{record} cannot be read, so what its run uses is not known; nothing was removed" in capsys.readouterr().err
    assert Store(outputs / "artifacts").find("train/x", TRAIN)
    assert call(outputs, "gc") == 0


def test_a_manifest_that_cannot_be_read_is_no_traceback(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = outputs / "artifacts" / "train" / "x" / TRAIN / "manifest.json"
    for text in ("{", "[]", "{}", '{"inputs": 5}', '{"inputs": {"split": 5}}'):
        manifest.write_text(text)
        for command in (["list"], ["gc"], ["verify"], ["export", str(tmp_path / "x.tar"), TRAIN]):
            assert call(outputs, *command) == (command[0] in ("verify", "export"))
        assert call(outputs, "predictions", f"train/x/{TRAIN}", str(tmp_path / "p.csv")) == 1
        assert call(outputs, "adapter", f"train/x/{TRAIN}", str(tmp_path / "a")) == 1
        assert "Traceback" not in capsys.readouterr().err
