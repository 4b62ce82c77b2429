"""What people mistype, and what machines refuse: one sentence each, an exit code, no traceback, nothing left behind."""

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r4r.methods.means import Means
from r4r.report.cli import report

Call = Callable[..., int]
SMALL = ["method=means", "~references.mf", "logger=none", "trainer=cpu", "dataset.world.users=20"]


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def test_help_lists_every_group_and_the_users_own_options(
    r4r: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "wine.yaml").write_text("name: wine\n")
    assert r4r("--config-dir", "conf", "--help") == 0
    shown = capsys.readouterr().out
    for word in ("Usage: r4r", "daml, deepconn", "without_step1, without_step2", "wine, yelp", "Exit codes"):
        assert word in shown
    assert "${" not in shown
    assert "$APP" not in shown


def test_a_python_that_checks_help_as_arguments_are_added_runs_the_command(
    r4r: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As 3.14 and newer do; one of Hydra's has a help that is made when it is printed."""
    add = argparse.ArgumentParser.add_argument

    def check(self: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help is not None and not isinstance(action.help, str):
            raise ValueError("badly formed help string")

    def checked(self: argparse.ArgumentParser, *names: Any, **settings: Any) -> argparse.Action:
        action = add(self, *names, **settings)
        self._check_help(action)  # type: ignore[attr-defined]
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", checked)
    assert r4r(*SMALL, "target=split") == 0
    assert r4r("--plan") == 2
    assert "--plan: there is no such option" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (
            ["--experiment=smoke"],
            "no such option; a setting has no dashes: experiment=smoke",
        ),
        (["--plan"], "--plan: there is no such option; a setting is key=value: plan=..."),
        (["dataset", "=", "music"], "dataset =: write it without spaces: dataset=music"),
        (["dataset", "=music"], "write it without spaces: dataset=music"),
        (["dataset=", "music"], "dataset= music: write it without spaces: dataset=music"),
        (["smoke"], "smoke: is no setting; write key=value"),
        (["-m", "seed=1,2", "--cfg", "job"], "--cfg and -m"),
        (["method=[mf,means]"], "method=[mf,means]: a job has one method; for a job each: -m method=mf,means"),
        (["experiment=table4"], "experiment=table4: is a sweep over dataset, reason_source, seed; add -m"),
        (["llm=hub"], "a model of your own: llm=hub:ORG/NAME or llm=path:FOLDER"),
    ],
)
def test_a_slip_is_a_sentence(
    r4r: Call, outputs: Path, argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert r4r(*argv) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.startswith("r4r: 1 problem")
    assert not outputs.exists()


def test_a_presets_sweep_is_one_job_where_each_axis_has_a_value(r4r: Call) -> None:
    axes = ["dataset=simulated", "reason_source=history", "seed=1"]
    assert r4r("experiment=table4", *axes, "--cfg", "job") == 0


def test_an_option_may_stand_between_settings(r4r: Call, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    assert r4r(*SMALL, "--config-dir", "conf", "target=split", "-m", "seed=1,2") == 0
    folders = sorted(path.parent.name for path in (outputs / "sweeps").rglob("result.json"))
    assert [name.rpartition(",")[2] for name in folders] == ["seed=1", "seed=2"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [1\nb: {", "broken.yaml:2:2: is no YAML: expected ',' or ']'"),
        (b"a: 1\na: 2", "broken.yaml:2:1: is no YAML: found duplicate key a"),
        (b"\xff\xfe", "broken.yaml: is no UTF-8 text"),
        (b'name: "${x"', "${x"),
    ],
)
def test_a_broken_file_of_the_configuration_is_a_sentence(
    r4r: Call, tmp_path: Path, content: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "broken.yaml").write_bytes(content)
    assert r4r("--config-dir", "conf", "experiment=broken") == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("place", ["file/out", "/proc/none"])
def test_outputs_that_cannot_be_made_are_a_sentence(
    r4r: Call, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert r4r(*SMALL, f"paths.outputs={place}") == 1
    shown = capsys.readouterr().err
    assert "cannot be made" in shown
    assert "R4R_OUTPUTS" in shown
    assert "Traceback" not in shown


def test_a_disk_that_fills_up_is_a_sentence(
    r4r: Call, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data.parquet")

    monkeypatch.setattr(Means, "predict", full)
    assert r4r(*SMALL) == 1
    shown = capsys.readouterr().err
    assert "the disk is full at data.parquet" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("name", ["R4R_OUTPUTS", "R4R_DATA", "R4R_CACHE"])
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_folder_is_one_that_is_not_set(
    r4r: Call, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert r4r("--cfg", "job", "--resolve", "paths.outputs=", "paths.data=''") == 0
    shown = capsys.readouterr().out
    monkeypatch.delenv(name, raising=False)
    assert r4r("--cfg", "job", "--resolve") == 0
    assert shown == capsys.readouterr().out


@pytest.mark.parametrize("way", ["paths.outputs=~/r", "paths.outputs='~/r'", '++paths.outputs="~/r"', "R4R_OUTPUTS"])
def test_a_tilde_is_the_home_folder(
    r4r: Call, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    if way == "R4R_OUTPUTS":
        monkeypatch.setenv(way, "~/r")
    assert r4r(*SMALL, "target=split", *([way] if "=" in way else [])) == 0
    home = tmp_path / "my home" / "r"
    assert [path.name for path in tmp_path.iterdir()] == ["my home"]
    assert list(home.glob("runs/*/*/result.json"))
    assert list(home.glob("artifacts/split/*/manifest.json"))
    if way == "R4R_OUTPUTS":
        capsys.readouterr()
        assert report(["runs"]) == 0
        assert "1 of 1 jobs" in capsys.readouterr().out


def test_a_tilde_that_cannot_be_expanded_is_refused(
    r4r: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nexperiment: x\npaths: {outputs: ~/r, data: ~no_such_user/r}\n"
    (tmp_path / "conf" / "experiment" / "x.yaml").write_text(text)
    assert r4r("--config-dir", "conf", "experiment=x", "method=means") == 2
    shown = capsys.readouterr().err
    assert "paths.outputs=~/r: in a file, write the folder in full" in shown
    assert "paths.data=~no_such_user/r: there is no user of that name" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_an_empty_folder_in_a_file_is_refused(r4r: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nexperiment: x\npaths: {outputs: ''}\n"
    (tmp_path / "conf" / "experiment" / "x.yaml").write_text(text)
    assert r4r("--config-dir", "conf", "experiment=x") == 2
    assert "paths.outputs" in capsys.readouterr().err


def test_a_single_row_has_a_dash_for_a_standard_error(
    r4r: Call, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = [*SMALL, "dataset.evaluate.max_rows=1", "+rating_metric@metrics.ratings.accuracy=accuracy", "logger=csv"]
    assert r4r(*job, "~references") == 0
    shown = capsys.readouterr().out
    [logged] = outputs.rglob("metrics.csv")
    assert report(["sweep", str(outputs), "--out", str(outputs / "report")]) == 0
    assert report(["show", str(logged.parent)]) == 0
    shown += capsys.readouterr().out
    assert shown.count("± —") == 2 * 4 * 3  # labels and metrics, at the job's end and by `show`
    for text in (shown, logged.read_text(), (outputs / "report" / "sweep.csv").read_text(encoding="utf-8")):
        assert "nan" not in text
    assert "_se" not in logged.read_text()


def test_a_terminal_of_ascii_and_an_interrupt_during_imports(tmp_path: Path) -> None:
    code = (
        "import builtins, os, sys\n"
        "sys.argv = ['r4r', 'metod=é']\n"
        "from r4r.run import main\n"
        "whole = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'hydra' and os.environ.get('STOP'):\n"
        "        raise KeyboardInterrupt\n"
        "    return whole(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "main()"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "metod=?" in done.stderr
    environment["STOP"] = "1"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "r4r: interrupted; finished stages are kept\n")


def test_a_first_job_says_nothing_for_the_libraries_that_it_asks(tmp_path: Path) -> None:
    """Matplotlib indexes the fonts of a fresh machine, and would say so."""
    fresh = os.environ | {"MPLCONFIGDIR": str(tmp_path / "fonts"), "R4R_OUTPUTS": str(tmp_path / "out")}
    argv = [sys.executable, "-m", "r4r.run", *SMALL]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True, env=fresh)
    assert (tmp_path / "fonts").exists()
    assert "[HYDRA]" not in done.stdout + done.stderr


@pytest.mark.parametrize("place", ["here", "outputs"])
def test_a_folder_in_whose_name_hydra_would_fill_something_in_is_refused(
    place: str, r4r: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "${oc.env:USER,x}"
    folder.mkdir()
    if place == "here":
        monkeypatch.chdir(folder)
        monkeypatch.delenv("R4R_OUTPUTS")
    else:
        monkeypatch.setenv("R4R_OUTPUTS", str(folder / "o"))
    assert r4r(*SMALL) == 2
    assert "paths.outputs" in (told := capsys.readouterr().err)
    assert "Hydra would fill in what stands behind ${" in told
    assert [path.name for path in tmp_path.rglob("*") if path.is_dir()] == [folder.name]


def test_a_daemon_without_streams_and_a_name_like_a_formula(tmp_path: Path) -> None:
    job = [sys.executable, "-m", "r4r.run", *SMALL, 'dataset.name="a$\\frac$"', f"paths.outputs={tmp_path / 'o'}"]
    assert subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *job], check=False).returncode == 0
    [record] = (tmp_path / "o").rglob("result.json")
    assert '"status": "ok"' in record.read_text()
    assert record.with_name("result.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is full")
def test_a_job_that_cannot_print_what_it_found_is_done_all_the_same(tmp_path: Path) -> None:
    job = [sys.executable, "-m", "r4r.run", *SMALL, f"paths.outputs={tmp_path / 'o'}"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(job, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    [record] = (tmp_path / "o").rglob("result.json")
    assert '"status": "ok"' in record.read_text()
    assert done.returncode != 0
    assert (
        f"the job is done, but what it found cannot be printed (No space left on device); its record is {record}"
        in (done.stderr)
    )
    assert "failed; record" not in done.stderr
