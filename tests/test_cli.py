"""The command: what it prints, what it leaves behind, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from r4r.methods.mf import MF
from r4r.store.cli import main as store

SMALL = ["dataset.world.users=20", "dataset.world.items=10", "logger=none", "trainer=cpu", "method.max_epochs=3"]


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def records(outputs: Path) -> list[dict[str, Any]]:
    """In the order of their folders."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(outputs.rglob("result.json"))]


def told_with_modules(*argv: str) -> str:
    """What a command says, and last which of the heavy modules it has loaded."""
    code = (
        f"import sys; sys.argv = {['r4r', *argv]}\n"
        "from r4r.run import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'pandas', 'wandb', 'pytorch_lightning', 'transformers'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout


def test_help_is_light() -> None:
    told = told_with_modules("--help")
    assert "HEAVY []" in told
    for word in ("Usage: r4r", "plan=true", "target=summarizer", "llm: ", "method: ", "result.json"):
        assert word in told


def test_a_job_that_trains_nothing_does_not_wait_for_lightning(outputs: Path) -> None:
    loaded = told_with_modules("experiment=smoke", "plan=true").splitlines()[-1]
    assert "torch" in loaded
    assert "pytorch_lightning" not in loaded


def test_the_module_runs_as_a_command_and_names_every_misspelling(outputs: Path) -> None:
    argv = [sys.executable, "-m", "r4r.run", "metod=mf", "seed=x"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "2 problems in the configuration" in done.stderr
    assert "did you mean method?" in done.stderr
    assert "seed='x'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not outputs.exists()


def test_a_job_from_end_to_end(r4r: Any, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert r4r("method=mf", *SMALL, "logger=csv", "seed=7") == 0
    printed = capsys.readouterr().out
    (path,) = outputs.rglob("result.json")
    assert printed.splitlines()[-1] == str(path)
    for label in ("MF", "User+item bias", "Global mean", "User mean", "Item mean"):
        assert label in printed
    (record,) = records(outputs)
    assert (record["status"], record["error"], record["seed"], record["method"]) == ("ok", None, 7, "mf")
    assert record["dataset"] == record["config"]["dataset"]["name"] == "simulated_medium"
    assert "seed=7" in record["overrides"]
    assert record["metrics"][0]["label"] == "MF"
    count = record["metrics"][0]["n"]
    for row in record["metrics"]:
        assert row["n"] == count
        assert row["decoding"] == "mean"  # one number a row: no other decoding to show
        assert 0 < row["mae"] <= row["rmse"] <= 4
        assert row["mae_se"] > 0
        assert row["rmse_se"] > 0
    for by in ("user history", "item history", "true rating"):
        parts = [row["n"] for row in record["segments"] if row["by"] == by and row["label"] == "MF"]
        assert sum(parts) == count
    assert {row["label"] for row in record["comparisons"]} == {row["label"] for row in record["metrics"]} - {"MF"}
    assert set(record["artifacts"]) == {"split", "predict/mf", "predict/means"}
    assert record["cost"]["unknown"] == []
    assert record["cost"]["total"]["wall_s"] == record["cost"]["this_job"]["wall_s"] > 0
    assert record["versions"]["torch"]
    assert record["wall_s"] > 0
    curves = (path.parent / "metrics.csv").read_text().splitlines()
    assert curves[0] == "step,name,value"
    assert any("mf/valid/rmse" in line for line in curves)
    logged = dict(line.split(",")[1:] for line in curves[1:])
    assert logged["score/MF/mean/mae"] == logged["score/mae"] == logged["sweep_metric"]
    assert logged["score/MF/mean/rmse"] == logged["score/rmse"] != logged["score/mae"]

    assert r4r("method=mf", *SMALL, "seed=7") == 0
    first, second = records(outputs)
    assert second["metrics"][0]["n"] == count
    assert second["metrics"] == first["metrics"]
    assert second["cost"]["this_job"]["wall_s"] == 0
    assert second["cost"]["total"] == first["cost"]["total"]


def staged(lines: list[str]) -> list[str]:
    """The lines of a plan that are a stage's."""
    return [line for line in lines if line.startswith(("hit ", "build "))]


def test_a_plan_does_nothing(r4r: Any, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert r4r("method=mf", *SMALL, "plan=true") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in staged(lines)] == [
        ["build", "split"],
        ["build", "predict/mf"],
        ["build", "predict/means"],
    ]
    assert not any(path.is_file() for path in outputs.rglob("*"))
    assert r4r("-m", "method=mf", *SMALL, "seed=1,2", "plan=true") == 0
    assert not (outputs / "sweeps").exists() or not list((outputs / "sweeps").glob("*/*"))
    assert r4r("method=mf", *SMALL, "target=split") == 0
    capsys.readouterr()
    assert r4r("method=mf", *SMALL, "plan=true") == 0
    again = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in staged(again)] == ["hit", "build", "build"]
    assert [line.split()[2] for line in staged(again)] == [line.split()[2] for line in staged(lines)]


def test_a_target_builds_only_what_it_needs(r4r: Any, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert r4r("method=mf", *SMALL, "target=means") == 0
    (record,) = records(outputs)
    ((name, path),) = record["target"].items()
    assert name == "predict/means"
    assert (Path(path) / "data.parquet").exists()
    assert f"{name}: {path}" in capsys.readouterr().out
    assert set(record["artifacts"]) == {"split", "predict/means"}
    assert not (outputs / "artifacts" / "predict" / "mf").exists()
    assert "metrics" not in record


def test_table_1_is_printed_whether_or_not_the_split_is_in_the_store(
    r4r: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert r4r(*SMALL, "method=mf", "target=split") == 0
        shown = capsys.readouterr()
        assert (shown.out + shown.err).count("unseen in test: user unseen in train") == 1


def test_an_unknown_target_names_the_close_one(r4r: Any, capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    assert r4r("method=mf", *SMALL, "target=splt") == 2
    assert "target=splt: this job has no such stage; did you mean split" in capsys.readouterr().err
    assert records(outputs)[0]["status"] == "failed"


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def predict(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(MF, "predict", predict)


def test_a_failure_leaves_a_record_and_its_traceback(
    r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ValueError("boom"))
    assert r4r("method=mf", *SMALL) == 1
    (record,) = records(outputs)
    assert record["status"] == "failed"
    assert record["error"] == {"kind": "ValueError", "message": "boom"}
    assert "metrics" not in record
    assert "Traceback" in capsys.readouterr().err


def test_a_foreseen_failure_is_one_message(r4r: Any, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["method=means", "dataset=custom", "dataset.name=x", "dataset.category=x", "dataset.reviews=missing.csv"]
    assert r4r(*argv, "logger=none") == 1
    shown = capsys.readouterr().err
    assert "missing.csv" in shown
    assert "Traceback" not in shown
    (record,) = records(outputs)
    assert record["status"] == "failed"
    assert "missing.csv" in record["error"]["message"]


def test_out_of_memory_says_what_to_lower(
    r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, MemoryError())
    assert r4r("method=mf", *SMALL) == 1
    shown = capsys.readouterr().err
    assert "ran out of memory" in shown
    assert "trainer.micro_batch_tokens" in shown
    assert "Traceback" not in shown
    assert records(outputs)[0]["error"]["kind"] == "MemoryError"


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_a_job_that_breaks_off_names_the_artifacts_that_it_has_come_to(
    r4r: Any,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert r4r("method=mf", *SMALL) != 0
    [record] = records(outputs)
    [split] = (outputs / "artifacts" / "split").iterdir()
    assert record["artifacts"] == {"split": split.name}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        store(["--outputs", str(outputs), "gc", "--days", "0"])
    assert "split" not in capsys.readouterr().out


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])  # Lightning turns the one into the other
def test_an_interrupted_job_says_so(
    r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fail_with(monkeypatch, error)
    assert r4r("method=mf", *SMALL) == 130
    assert records(outputs)[0]["status"] == "interrupted"


def test_a_terminated_job_says_so(r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MF, "predict", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert r4r("method=mf", *SMALL) == 143
    assert records(outputs)[0]["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_missing_prediction_fails_the_job(
    r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = MF.predict

    def short(self: MF, rows: Any, wanted: Any, *rest: Any) -> Any:
        return whole(self, rows, wanted.iloc[1:], *rest)

    monkeypatch.setattr(MF, "predict", short)
    assert r4r("method=mf", *SMALL) == 1
    assert "MF: 1 rows have no prediction: row_id" in capsys.readouterr().err
    assert records(outputs)[0]["status"] == "failed"


def test_in_a_sweep_one_failure_costs_no_other_job(
    r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = MF.predict

    def predict(self: MF, rows: Any, wanted: Any, seed: int, *rest: Any) -> Any:
        if seed == 2:
            raise ValueError("boom")
        return whole(self, rows, wanted, seed, *rest)

    monkeypatch.setattr(MF, "predict", predict)
    assert r4r("-m", "method=mf", *SMALL, "seed=1,2,3") == 1
    assert [(record["seed"], record["status"]) for record in records(outputs)] == [
        (1, "ok"),
        (2, "failed"),
        (3, "ok"),
    ]
    assert "boom" in capsys.readouterr().err


def test_wandb_runs_stay_apart_and_offline(r4r: Any, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [argument for argument in SMALL if argument != "logger=none"]
    assert r4r("-m", "method=mf", *argv, "seed=1,2", "target=split") == 0
    runs = sorted(outputs.rglob("offline-run-*/run-*.wandb"))
    assert len({run.name for run in runs}) == 2
    assert len({run.parents[2] for run in runs}) == 2


def test_the_run_that_the_environment_names_is_the_first_job_of_a_sweep(outputs: Path) -> None:
    job = ["-m", "method=mf", *(each for each in SMALL if each != "logger=none"), "seed=1,2", "target=split"]
    told = os.environ | {"WANDB_RUN_ID": "mine"}
    argv = [sys.executable, "-m", "r4r.run", *job]
    subprocess.run(argv, cwd=outputs.parent, env=told, check=True, capture_output=True)
    names = {run.name for run in outputs.rglob("offline-run-*/run-*.wandb")}
    assert len(names) == 2
    assert "run-mine.wandb" in names


def test_a_wandb_run_says_which_job_it_is(r4r: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    monkeypatch.setattr(wandb, "init", lambda init=wandb.init, **settings: runs.append(init(**settings)) or runs[-1])
    argv = ["dataset.world.users=20", "dataset.world.items=10", "logger.mode=offline", "trainer=cpu", "seed=7"]
    assert r4r("-m", "method=mf", *argv, "method.max_epochs=3,4") == 0
    assert r4r("method=mf", *argv, "method.max_epochs=3", "name=mine") == 0
    assert r4r("method=mf", *argv, "method.max_epochs=3", "target=split") == 0
    small = "simulated_medium-mf-s7 dataset.world.users=20 dataset.world.items=10 trainer=cpu method.max_epochs="
    assert [run.name for run in runs] == [f"{small}3", f"{small}4", "mine", f"{small}3 target=split"]
    made = records(outputs)  # runs/ before sweeps/
    assert [run.notes for run in [*runs[2:], *runs[:2]]] == [" ".join(record["overrides"]) for record in made]
    assert [run.config["artifacts"] for run in [*runs[2:], *runs[:2]]] == [record["artifacts"] for record in made]
    assert [run.config.get("label") for run in runs] == ["MF", "MF", "MF", None]
    assert runs[0].config["method"]["max_epochs"] == 3


def test_a_console_script_is_declared() -> None:
    root = Path(__file__).parents[1]  # the checkout: an installed package has no pyproject.toml
    assert 'r4r = "r4r.run:main"' in (root / "pyproject.toml").read_text(encoding="utf-8")
