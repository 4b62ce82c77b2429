"""Hyperparameter search: what a trial is scored by, that a killed search goes on, and that W&B searches the same."""

import csv
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntUniformDistribution
from optuna.distributions import LogUniformDistribution as LogUniform
from optuna.distributions import UniformDistribution as Uniform

from r4r import run
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.errors import ConfigError
from r4r.files import conf_dir

SWEEP = yaml.safe_load((Path(__file__).parent.parent / "experiments/tune/sweep.yaml").read_text(encoding="utf-8"))
SPACES = sorted(path.stem for path in (conf_dir() / "experiment" / "space").glob("*.yaml"))
WORLD = ["dataset.world.users=20", "dataset.world.items=10"]
MF = ["method=mf", "logger=none", "trainer=cpu"]
R4R = Callable[..., int]


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv("R4R_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


@pytest.fixture
def search_mf(r4r: R4R, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> R4R:
    """A search of seconds, in a space of the user's own."""
    # its checks take longer than the search
    monkeypatch.setattr("r4r.configuration.preflight.preflight", lambda argv, further: argv)
    folder = tmp_path / "conf" / "experiment" / "space"
    folder.mkdir(parents=True)
    (folder / "mf.yaml").write_text("method.lr: tag(log, interval(1e-3, 1e-1))\nmethod.max_epochs: choice(1, 2, 4)\n")
    own = ["--config-dir", str(tmp_path / "conf"), "experiment/space@hydra.sweeper.params=mf"]
    return lambda *more: r4r("-m", *own, "experiment=tune", *MF, *([] if "dataset=custom" in more else WORLD), *more)


def studies(outputs: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    storage = f"sqlite:///{outputs}/studies.sqlite"
    found = optuna.get_all_study_summaries(storage)
    return {each.study_name: optuna.load_study(each.study_name, storage).trials for each in found}


def records(outputs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(outputs.rglob("result.json"))]


def complete(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[dict[str, Any], Any]]:
    return [(trial.params, trial.value) for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]


def refused(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        preflight(list(argv))
    return error.value.problems


@pytest.mark.slow
def test_two_trials_of_the_preset(r4r: R4R, outputs: Path) -> None:
    assert r4r("-m", "experiment=[tune,smoke]", "hydra.sweeper.n_trials=2", "logger=csv") == 0
    found = records(outputs)
    assert [record["evaluated"] for record in found] == ["valid", "valid"]
    headlines = [record["metrics"][0] for record in found]
    assert [row["decoding"] for row in headlines] == ["mean", "mean"]
    (trials,) = studies(outputs).values()
    assert [value for _, value in complete(trials)] == [row["rmse"] for row in headlines]
    for params, record in zip([trial.params for trial in trials], found, strict=True):
        assert set(params) == set(SWEEP["parameters"])
        trained = record["config"]["experts"]["predictor"]
        assert trained["lr"] == params["experts.predictor.lr"]
        assert trained["lora"]["r"] == params["experts.predictor.lora.r"]
    (results,) = outputs.rglob("optimization_results.yaml")
    best = yaml.safe_load(results.read_text())
    assert best["best_value"] == min(row["rmse"] for row in headlines)
    assert best["best_params"] in [trial.params for trial in trials]
    # what a W&B sweep reads: the same value, under the name that the sweep file gives
    for path, row in zip(sorted(outputs.rglob("metrics.csv")), headlines, strict=True):
        logged = {entry["name"]: float(entry["value"]) for entry in csv.DictReader(path.open())}
        assert logged[SWEEP["metric"]["name"]] == row["rmse"]


def test_a_killed_search_goes_on(
    search_mf: R4R, outputs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = ["hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.n_startup_trials=2"]
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "unbroken"))
    assert search_mf(*steps) == 0
    (unbroken,) = studies(tmp_path / "unbroken").values()
    assert len({trial.params["method.lr"] for trial in unbroken}) == 3
    monkeypatch.setenv("R4R_OUTPUTS", str(outputs))
    real, calls = run.run, 0

    def killed_in_the_third(*args: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(run, "run", killed_in_the_third)
    assert search_mf(*steps) == 130
    monkeypatch.setattr(run, "run", real)
    (trials,) = studies(outputs).values()
    assert len(complete(trials)) == 2
    assert search_mf(*steps) == 0
    (trials,) = studies(outputs).values()
    assert complete(trials) == complete(unbroken)
    assert search_mf(*steps) == 0  # finished: nothing is left to try
    assert len(records(outputs)) == 3


@pytest.mark.filterwarnings("error:Callback Resume")  # into which Hydra turns its errors
def test_a_study_holds_trials_of_one_job_and_space_alone(search_mf: R4R, outputs: Path) -> None:
    assert search_mf("hydra.sweeper.n_trials=1") == 0
    assert search_mf("hydra.sweeper.n_trials=2", "++trainer.threads=1") == 0  # no other search
    assert search_mf("hydra.sweeper.n_trials=1", "dataset.world.seed=5") == 0
    assert search_mf("hydra.sweeper.n_trials=1", "method.lr=interval(0.01,0.02)") == 0
    found = sorted(studies(outputs).values(), key=lambda trials: trials[0].datetime_start)
    assert [len(complete(trials)) for trials in found] == [2, 1, 1]
    assert 0.01 <= found[2][0].params["method.lr"] <= 0.02


def test_other_data_code_and_training_are_another_study(
    search_mf: R4R, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    mine, reviews = tmp_path / "searched_mf.py", tmp_path / "wine.csv"
    mine.write_text("from r4r.methods.mf import MF\nclass Mine(MF): pass\n")
    rows = [f"u{n % 8},i{n % 5},{1 + n % 5},{1_600_000_000 + n},Wine {n % 5},good" for n in range(80)]
    reviews.write_text("user_id,item_id,rating,timestamp,title,review\n" + "\n".join(rows))
    data = ["dataset=custom", "dataset.name=wine", "dataset.category=Wine", f"dataset.reviews={reviews}"]
    steps = [*data, "++dataset.prepare.k_core=1", "plugins=[searched_mf]", "method._target_=searched_mf.Mine"]
    steps += ["hydra.sweeper.n_trials=1"]
    assert search_mf(*steps) == 0
    assert search_mf(*steps, "verbose=2") == 0
    assert len(studies(outputs)) == 1
    reviews.write_text(reviews.read_text() + "\nu1,i2,3,1600001000,Wine 2,fine")
    assert search_mf(*steps) == 0
    assert len(studies(outputs)) == 2
    mine.write_text(mine.read_text() + "# changed\n")
    importlib.reload(sys.modules["searched_mf"])
    assert search_mf(*steps) == 0
    assert len(studies(outputs)) == 3
    assert search_mf(*steps, "++dataset.prepare.k_core=-1") == 2  # Hydra would make a warning of it, and go on
    assert "dataset.prepare.k_core=-1" in capsys.readouterr().err


def test_an_axis_may_give_what_the_job_lacks_without_it(search_mf: R4R, outputs: Path, tmp_path: Path) -> None:
    rows = [f"u{n % 8},i{n % 5},{1 + n % 5},{1_600_000_000 + n},Wine {n % 5},good" for n in range(80)]
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("user_id,item_id,rating,timestamp,title,review\n" + "\n".join(rows))
    data = ["dataset=custom", "dataset.name=wine", "dataset.category=Wine", "++dataset.prepare.k_core=1"]
    axis = f"dataset.reviews=choice({tmp_path}/one.csv,{tmp_path}/two.csv)"
    assert search_mf(*data, axis, "hydra.sweeper.n_trials=1") == 0
    [trials] = studies(outputs).values()
    assert len(complete(trials)) == 1


def wandb_distribution(node: dict[str, Any]) -> BaseDistribution:
    if "values" in node:
        return CategoricalDistribution(node["values"])
    kinds: dict[str, Any] = {
        "int_uniform": IntUniformDistribution,
        "uniform": Uniform,
        "log_uniform_values": LogUniform,
    }
    return kinds[node["distribution"]](node["min"], node["max"])


def test_the_wandb_sweep_is_the_presets_search() -> None:
    cfg = compose(make_loader(), "config", ["experiment=tune"])
    space, fixed = create_params_from_overrides([f"{k}={v}" for k, v in cfg.hydra.sweeper.params.items()])
    assert fixed == {}
    assert {key: wandb_distribution(node) for key, node in SWEEP["parameters"].items()} == space
    assert (cfg.sweep_metric, cfg.dataset.evaluate.split, cfg.hydra.sweeper.direction) == ("rmse", "valid", "minimize")
    assert SWEEP["metric"]["goal"] == "minimize"
    assert (SWEEP["method"], SWEEP["run_cap"]) == ("bayes", cfg.hydra.sweeper.n_trials)
    assert SWEEP["command"] == ["r4r", "experiment=tune", "${args_no_hyphens}"]


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_valid_to_its_ends(space: str) -> None:
    argv = ["-m", "experiment=tune", f"experiment/space@hydra.sweeper.params={space}"]
    assert preflight(argv) == argv


def test_a_space_that_the_job_does_not_use_is_refused() -> None:
    assert "do not use experts" in refused("-m", "experiment=tune", "method=mf")[0]


def test_fractions_of_a_whole_number_are_refused() -> None:
    (problem,) = refused("-m", "experiment=tune", "experts.predictor.epochs=interval(1,4)")
    assert "experts.predictor.epochs=2.11: should be a valid integer" in problem


def test_a_missing_plugin_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["sweeper"], "optuna.yaml")
    with pytest.raises(ConfigError) as error:
        preflight(["-m", "experiment=tune"], loader=make_loader())
    told = "hydra/sweeper has no option 'optuna'; it comes with the extra optuna: pip install '.[optuna]'"
    assert error.value.problems[0].endswith(told)
