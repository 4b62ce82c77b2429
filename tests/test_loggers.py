"""Where metrics go: which W&B mode and group, several loggers at once, and pictures of losses."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.curves import Curves
from r4r.errors import R4RError
from r4r.loggers import open_logger, score_metrics, wandb_group, wandb_mode, wandb_tags

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "experiments" / "README.md"
SMALL = ["dataset.world.users=20", "dataset.world.items=10", "trainer=cpu", "method.max_epochs=3"]

LOADER = make_loader()


@cache
def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", ["method=mf", *overrides]))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# W&B


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "k"}, "online"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_MODE": "Online"}, "online"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "online", "WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_DISABLED": "false"}, "offline"),
        ({"WANDB_MODE": ""}, "offline"),
    ],
)
def test_the_environment_decides_where_the_mode_is_auto(
    variables: dict[str, str], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(configured()) == mode
    assert wandb_mode(configured("logger.mode=offline")) == "offline"


def test_a_mode_that_wandb_does_not_know_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(R4RError, match="WANDB_MODE=offlin: W&B knows online, offline, disabled"):
        wandb_mode(configured())


@pytest.mark.parametrize(
    ("overrides", "presets", "group"),
    [
        (["experiment=[table4,smoke]"], ["table4", "smoke"], "table4"),
        (["experiment=table4"], "table4", "table4"),
        (["experiment=[table4,smoke]", "logger=wandb", "++logger.group=mine"], ["table4", "smoke"], "mine"),
        ([], None, None),
    ],
)
def test_the_group_of_several_presets_is_the_first(overrides: list[str], presets: Any, group: str | None) -> None:
    config = configured("method=reason4rec", *overrides)
    assert wandb_group(config, {"choices": {"experiment": presets}}) == group


@pytest.mark.parametrize(
    ("overrides", "presets", "tags"),
    [
        (["experiment=[table4,smoke]"], ["table4", "smoke"], ["table4", "smoke", "mf", "simulated", "tiny"]),
        (["++logger.tags=[mine,mf]"], None, ["mf", "simulated_medium", "world_3m", "mine"]),
    ],
)
def test_tags_say_what_a_run_is(overrides: list[str], presets: Any, tags: list[str]) -> None:
    config = configured(*overrides)
    assert wandb_tags(config, {"choices": {"experiment": presets}}) == tags


def test_the_last_job_of_a_sweep_logs_the_comparison_and_every_job_its_artifacts(
    r4r: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B offline, as it is; what it is told is taken down on the way."""
    runs: list[dict[str, Any]] = []
    real_init = wandb.init

    def init(**settings: Any) -> Any:
        run = real_init(**settings)
        told: dict[str, Any] = {**settings, "names": [], "logged": {}}
        log, keep = run.log, run.log_artifact
        run.log = lambda metrics: (told["logged"].update(metrics), log(metrics))
        run.log_artifact = lambda artifact: (told["names"].append(artifact.name), keep(artifact))
        runs.append(told)
        return run

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    small = [*SMALL, "method=mf", "method.dim=2,4", "logger=wandb", "logger.log_artifacts=true", "logger.tags=[mine]"]
    assert r4r("-m", *small) == 0
    first, last = runs
    assert {run["mode"] for run in runs} == {"offline"}
    assert {run["job_type"] for run in runs} == {"mf"}
    assert all("mine" in run["tags"] for run in runs)
    for run in runs:
        run["names"] = [name for name in run["names"] if not name.startswith("run-")]  # tables, W&B's own way
        assert {name.rpartition("-")[0] for name in run["names"]} == {"split", "predict-mf", "predict-means"}
        assert all(len(name.rpartition("-")[2]) == 16 for name in run["names"])
    assert "comparison/table" not in first["logged"]
    table = last["logged"]["comparison/table"]
    assert table.columns[0] == "method.dim"
    assert len(table.data) == 2 * 2 * 3  # settings, metrics, decodings
    assert last["logged"]["comparison/picture"].format == "png"


def test_the_documented_sync_command_finds_every_offline_run(
    r4r: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `wandb` of our own takes down what it is given."""
    [command] = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "wandb sync {}" in line]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R4R_OUTPUTS", raising=False)
    assert r4r("-m", "method=mf", "seed=1,2", "target=split", *SMALL, "logger=[csv,wandb]") == 0
    assert r4r("method=mf", "target=split", *SMALL) == 0
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "wandb").write_text('#!/bin/sh\nfor path; do echo "$path"; done\n', encoding="utf-8")
    (tmp_path / "bin" / "wandb").chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ, **path}, check=True)
    verb, *found = done.stdout.splitlines()
    assert verb == "sync"
    assert len(found) == 3
    assert all(list((tmp_path / run).glob("run-*.wandb")) for run in found)
    assert len(list(tmp_path.rglob("metrics.csv"))) == 2
    pages = [page for page in (ROOT / "experiments").glob("*/README.md") if "wandb sync" in page.read_text("utf-8")]
    assert len(pages) > 3
    for page in pages:
        assert f"`{command}`" in page.read_text(encoding="utf-8")


def test_a_methods_own_scores_are_logged_under_names_that_all_methods_share() -> None:
    def errors(label: str, decoding: str, mae: float) -> dict[str, Any]:
        spread = {"mae_se": 0.1, "rmse_se": 0.2, "n": 50}
        return {"label": label, "decoding": decoding, "mae": mae, "rmse": mae + 1, **spread}

    reasons = [{"label": n, "metric": "rouge_l", "mean": m, "se": 0.01} for n, m in (("Ours", 0.1), ("Other", 0.2))]
    record = {
        "metrics": [errors("Ours", "mean", 1.0), errors("Ours", "mode", 2.0), errors("Other", "mean", 3.0)],
        "comparisons": [{"label": "Other", "against": "Ours", "mae": {"p": 0.03}, "rmse": {"p": 0.4}}],
        "reasons": {"scores": reasons},
        "cost": {"total": {"train_tokens": 900}},
    }
    logged = score_metrics(record, "rmse")
    assert (logged["sweep_metric"], logged["score/mae"], logged["score/rmse"]) == (2.0, 1.0, 2.0)
    assert (logged["score/mae_se"], logged["score/rmse_se"], logged["score/n"]) == (0.1, 0.2, 50)
    assert (logged["score/Other/p_mae"], logged["score/Other/p_rmse"]) == (0.03, 0.4)
    assert (logged["score/rouge_l"], logged["score/Ours/rouge_l"], logged["score/Other/rouge_l"]) == (0.1, 0.1, 0.2)
    assert (logged["score/Ours/mode/mae"], logged["score/Other/mean/rmse"]) == (2.0, 4.0)
    assert logged["cost/train_tokens"] == 900


# several at once


class Fake:
    """A W&B run that takes down what it is told."""

    def __init__(self) -> None:
        self.logged: list[Mapping[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.codes: list[int] = []

    def log(self, metrics: Mapping[str, Any]) -> None:
        self.logged.append(metrics)

    def finish(self, exit_code: int) -> None:
        self.codes.append(exit_code)


@pytest.mark.parametrize("chosen", ["none", "csv", "wandb", "[csv,wandb]", "[wandb,csv]", "[wandb,none]"])
def test_each_logger_gets_every_metric(chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Fake()
    monkeypatch.setattr(wandb, "init", lambda **settings: run)
    config = configured(f"logger={chosen}")
    with open_logger(config, tmp_path, {"overrides": [], "metrics": [{"label": "MF"}]}) as log:
        log({"mf/train/loss": 2.0, "=mf": 1.0})
        log({"predictions": pd.DataFrame({"row_id": [1]})})
    to_wandb, to_csv = "wandb" in chosen and "none" not in chosen, "csv" in chosen
    assert len(run.logged) == 2 * to_wandb
    assert run.codes == [0] * to_wandb
    files = {path.name for path in tmp_path.iterdir()}
    assert files == ({"metrics.csv"} if to_csv else set()) | ({"mf-loss.png"} if to_wandb or to_csv else set())
    if to_csv:
        text = (tmp_path / "metrics.csv").read_text(encoding="utf-8")
        assert text.splitlines() == ["step,name,value", "0,mf/train/loss,2.0", "0,'=mf,1.0"]


# pictures


@pytest.mark.usefixtures("pictures")
def test_the_losses_of_each_training_are_drawn(tmp_path: Path) -> None:
    curves = Curves()
    for step in range(1, 9):
        curves.take({"reasoner/train/loss": 3.0 / step, "reasoner/train/lr": 1e-3, "reasoner/train/step": step})
    curves.take({"reasoner/valid/loss": 1.0})  # without a step of its own: at the last one
    curves.take({"predictor/valid/loss": 1.0, "predictor/valid/step": 4, "score/mae": 0.7})
    assert curves._points["reasoner"]["valid"] == [(8.0, 1.0)]
    assert curves._points["predictor"] == {"valid": [(4.0, 1.0)]}
    made = curves.draw(tmp_path)
    assert [path.name for path in made] == ["reasoner-loss.png", "predictor-loss.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_a_training_that_breaks_off_is_drawn_and_its_error_stands(tmp_path: Path) -> None:
    def train() -> None:
        with open_logger(configured("logger=csv"), tmp_path, {}) as log:
            log({"reasoner/train/loss": 2.0, "reasoner/train/step": 1})
            raise R4RError("diverged")

    with pytest.raises(R4RError, match="diverged"):
        train()
    assert (tmp_path / "reasoner-loss.png").exists()


@pytest.mark.parametrize("module", ["r4r.run", "r4r.report.cli"])
def test_the_backend_of_a_notebook_does_not_matter(module: str) -> None:
    """A command draws with Agg, whatever MPLBACKEND names: some of its values break the import of matplotlib."""
    script = f"""
import sys
from {module} import main
sys.argv = ["command", "--help"]
try:
    main()
except SystemExit:
    pass
import matplotlib
print(matplotlib.rcParams["backend"].lower())
"""
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "agg", done.stderr
