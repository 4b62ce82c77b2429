"""Presets of the paper's tables: every job of their sweeps is valid, a misspelt axis is told, one runs end to end."""

import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from r4r import run
from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.overrides import check_overrides
from r4r.configuration.preflight import preflight
from r4r.configuration.unread import ignored
from r4r.data.prepare import split_frame
from r4r.data.simulator import build_world
from r4r.errors import ConfigError
from r4r.files import conf_dir
from r4r.report import cli
from r4r.report.paper import published
from r4r.report.tables import CASES, COST, NAMES, REASONS, TABLES, axes

LOADER = make_loader()
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
JOBS = [
    (name, combination)
    for name in NAMES
    for combination in itertools.product(*([f"{k}={v}" for v in values] for k, values in axes(name).items()))
    if "seed=43" not in combination and "seed=44" not in combination
]


def refused(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        preflight(list(argv))
    return error.value.problems


@pytest.mark.parametrize(("name", "combination"), JOBS, ids=lambda value: value if isinstance(value, str) else None)
def test_every_job_of_a_sweep_is_valid(name: str, combination: tuple[str, ...]) -> None:
    cfg = compose(LOADER, "config", [f"experiment={name}", *combination])
    assert validate(cfg).experiment == name
    assert ignored(cfg, combination) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_has_a_smoke_size(name: str) -> None:
    config = validate(compose(LOADER, "config", [f"experiment=[{name},smoke]"]))
    assert (config.experiment, config.llm.name, config.trainer.accelerator) == ("smoke", "tiny", "cpu")
    if name in TABLES:
        assert config.dataset.pools.total == 12


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_of_a_report_are_the_jobs_of_its_preset(name: str) -> None:
    swept = {key: values for key, values in axes(name).items() if key not in ("dataset", "seed")}
    if name in ("table1", "table5"):  # one job a data set, with all of its rows
        assert swept == {}
        return
    rows = next(table for table in (*TABLES.values(), REASONS, COST, CASES) if table.name == name).rows
    settings = {setting for row in rows for setting in row.settings if row.exists}
    (key, values), *more = swept.items()
    assert more == []
    if name in ("table6", "objectives"):  # some of their methods are strategies
        configs = [validate(compose(LOADER, "config", [f"experiment={name}", f"method={value}"])) for value in values]
        assert {(setting.method, setting.strategy or "multistep") for setting in settings} == {
            (config.method["name"], config.strategy.name) for config in configs
        }
        return
    field = {"method": "method", "strategy": "strategy", "reason_source": "source", "control": "control"}[key]
    assert set(values) <= {getattr(setting, field) for setting in settings}


@pytest.mark.parametrize("name", NAMES)
def test_the_wandb_sweep_is_the_presets_grid(name: str) -> None:
    sweep = yaml.safe_load((EXPERIMENTS / name / "sweep.yaml").read_text(encoding="utf-8"))
    grid = {key: tuple(map(str, node["values"])) for key, node in sweep["parameters"].items()}
    assert grid == axes(name)
    assert (sweep["method"], sweep["program"]) == ("grid", "r4r")
    first, second, *_, last = sweep["command"]
    assert (first, second, last) == ("r4r", f"experiment={name}", "${args_no_hyphens}")


@pytest.mark.parametrize(
    "name", ["table3", "table4", "table5", "table6", "figure3", "figure4", "figure5", "controls", "objectives"]
)
def test_readmes_give_the_command(name: str) -> None:
    text = (EXPERIMENTS / name / "README.md").read_text(encoding="utf-8")
    assert f"experiment={name}\n" in text or f"experiment={name} " in text
    assert f"r4r-report {name}" in text


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_papers_rows_are_rows_of_the_report(name: str) -> None:
    rows = {row.paper for row in TABLES[name].rows}
    for numbers in published().get(name, {}).values():
        assert set(numbers) <= rows
        for errors in numbers.values():
            assert 0 < errors["mae"] < errors["rmse"] < 2
    assert set(published()["pictures"].get(name, {})) <= rows


def test_the_papers_rows_of_reasons_are_rows_of_the_report() -> None:
    rows = {row.paper for row in REASONS.rows}
    for numbers in published()["table3"].values():
        assert set(numbers) == rows
        for scores in numbers.values():
            assert 0 < scores["bleurt"] < 1 < scores["gptscore"] < 100


def test_the_papers_costs_are_of_rows_of_the_report() -> None:
    [(dataset, numbers)] = published()["table6"].items()
    assert dataset == "book"
    assert set(numbers) <= {row.paper for row in COST.rows}
    for cost in numbers.values():
        assert 5 < cost["seconds"] < 7 < 100 < cost["tokens"] < 200


def test_the_papers_full_method_is_one_result_wherever_it_stands() -> None:
    for dataset in ("music", "book"):
        theirs = published()["table2"][dataset]["Reason4Rec"]
        assert theirs == published()["table4"][dataset]["Reason4Rec"]
        assert theirs == published()["figure3"][dataset]["Reason4Rec"]
        assert theirs == published()["figure4"][dataset]["Multi-step"]


# tables that can tell


@pytest.mark.parametrize(
    ("given", "world"),
    [
        (["dataset=simulated_tables"], 43),
        (["dataset=simulated"], 0),
        (["dataset=simulated", "dataset.world.seed=${seed}"], 43),
    ],
)
def test_a_seed_may_change_the_world_with_the_training(given: list[str], world: int) -> None:
    config = validate(compose(LOADER, "config", ["experiment=table4", "seed=43", *given]))
    assert (config.seed, config.dataset.world.seed) == (43, world)


def test_the_worlds_of_a_tables_seeds_have_a_thousand_test_rows_together() -> None:
    for name in ("table2", "table3", "table4", "figure3", "figure4", "controls", "objectives"):
        preset = yaml.safe_load((conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert preset["hydra"]["sweeper"]["params"]["dataset"] == "simulated_tables"
    rows = 0
    for seed in (42, 43, 44):
        dataset = validate(compose(LOADER, "config", ["dataset=simulated_tables", f"seed={seed}"])).dataset
        rows += int((split_frame(build_world(dataset.world).rows, dataset.prepare)[0]["split"] == "test").sum())
    assert rows > 1500


# a preset's own axes


@pytest.fixture
def preset(tmp_path: Path) -> Any:
    def write(params: str) -> list[str]:
        (tmp_path / "experiment").mkdir()
        text = f"# @package _global_\nexperiment: own\nhydra: {{sweeper: {{params: {params}}}}}\n"
        (tmp_path / "experiment" / "own.yaml").write_text(text, encoding="utf-8")
        return ["--config-dir", str(tmp_path), "-m", "experiment=own"]

    return write


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("{strategy: 'onestep,cott'}", "strategy=cott: strategy has no option 'cott'; did you mean cot"),
        ("{reason_sorce: 'none,hint'}", "reason_sorce=none: there is no key or group 'reason_sorce'"),
        ("{seed: '1,two'}", "seed='two': should be a valid integer"),
        ("{dataset.strict: 'true,false'}", "dataset.strict=true,false: in a preset's sweep, write ++dataset.strict"),
    ],
)
def test_a_presets_own_axes_are_checked(preset: Any, params: str, message: str) -> None:
    found = refused(*preset(params))
    assert len(found) == 1
    assert found[0].startswith(message)


def test_the_command_line_takes_the_place_of_an_axis_as_in_hydra() -> None:
    argv = ["experiment=table4", "reason_source=history", "seed=1"]
    checked = check_overrides(argv, LOADER, multirun=True)
    assert checked.problems == []
    assert checked.variants == [["dataset=simulated_tables", *argv]]
    sweep = [f"{key}={','.join(values)}" for key, values in axes("table4").items()]
    parsed = OverridesParser.create(config_loader=LOADER).parse_overrides([*sweep, *argv])
    [[jobs]] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    assert sorted(jobs) == sorted(checked.variants[0])


def test_each_value_of_an_axis_is_a_variant() -> None:
    checked = check_overrides(["experiment=figure4"], LOADER, multirun=True)
    found = {override for variant in checked.variants for override in variant if override.startswith("strategy=")}
    assert found == {f"strategy={value}" for value in axes("figure4")["strategy"]}


def test_two_presets_with_sweeps_cannot_be_swept_over() -> None:
    assert check_overrides(["experiment=table4,figure4"], LOADER, multirun=True).problems == [
        "experiment=table4,figure4: these presets bring sweeps of their own; give each its own command"
    ]


# end to end


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, store_of_a_finished_job: Callable[[Path], None]) -> Path:
    folder = tmp_path_factory.mktemp("presets")
    store_of_a_finished_job(folder)
    return folder


# what the test adds to the smoke command: a data set that needs no download, no encoder, no DAML (a minute by itself),
# no objective that learns from a random model's answers, of which none is better than another
MORE = {
    "table1": ("dataset=simulated",),
    "table2": (f"method={','.join(name for name in axes('table2')['method'] if name != 'daml')}",),
    "table3": ("metrics.similarity=null",),
    "objectives": ("method=without_reason,reason4rec",),
}
LEFT_OUT = {"table2": ["DAML"], "objectives": ["DPO", "Best of n", "GRPO", "RecZero", "RecOne"]}


# the others are made of what these have, and of what the tests of metrics, timing, reward_check and controls run
@pytest.mark.parametrize(
    "name",
    [n if n in ("table1", "figure5") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES],
)
def test_a_preset_in_smoke_size(name: str, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job of one seed runs, and the report has all of their rows."""
    monkeypatch.setenv("R4R_OUTPUTS", str(outputs))
    monkeypatch.setenv("R4R_CACHE", str(outputs / "cache"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(outputs)
    before = set(outputs.glob("sweeps/*/*"))
    seed = ("seed=42",) if "seed" in axes(name) else ()
    argv = [f"experiment=[{name},smoke]", *seed, *MORE.get(name, ())]
    monkeypatch.setattr(sys, "argv", ["r4r", "-m", *argv])
    run.main()
    (sweep,) = set(outputs.glob("sweeps/*/*")) - before
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sweep.rglob("result.json")]
    jobs = check_overrides([f"experiment={name}", *argv[1:]], LOADER, multirun=True).variants
    assert [(record["status"], record["experiment"]) for record in records] == [("ok", "smoke")] * len(jobs)
    if name == "table1":  # a split has no scores
        return
    seeds = ("--seeds", ",".join(axes(name)["seed"])) if "seed" in axes(name) else ()
    report = [name, "--experiment", "smoke", "--records", str(sweep), "--data", records[0]["dataset"], *seeds]
    assert cli.report(report) == 0
    text = (outputs / "report" / f"{name}.md").read_text(encoding="utf-8")
    empty = re.findall(r"^\| ([^|]*) \|.* (?:missing|failed|not built) \|", text, re.MULTILINE)
    assert list(dict.fromkeys(empty)) == LEFT_OUT.get(name, [])
    assert ("for seed 43, 44" in text) == ("43" in axes(name).get("seed", ()))
    if name == "table4":
        labels = {record["config"]["reason_source"]["name"]: record["metrics"][0] for record in records}
        assert labels["none"]["label"] == "Reason4Rec w/o step 2"
        assert re.search(rf"\| Without reason \| \**{labels['none']['mae']:.4f} ± ", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_leaves_the_papers_settings_alone(name: str) -> None:
    """Its sizes are those of the simulated world: with the paper's data and recipe, only these count."""
    paper = ["dataset=music", "recipe=paper", "llm=llama3_8b", "teacher=openai", "metrics=none"]
    preset = validate(compose(LOADER, "config", [f"experiment={name}", *paper]))
    alone = validate(compose(LOADER, "config", [f"method={preset.method['name']}", *paper]))
    world = {"world": alone.dataset.world}
    assert preset.dataset.model_copy(update=world) == alone.dataset
    assert preset.experts == alone.experts


def test_the_preset_files_hold_deltas_only() -> None:
    for name in NAMES:
        values = yaml.safe_load((conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert set(values) <= {"defaults", "experiment", "target", "dataset", "hydra"}
