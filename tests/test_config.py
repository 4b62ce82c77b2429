"""What is in conf/: every option composes into a valid job, and the recipes are what they say."""

from pathlib import Path
from typing import Any

import pytest
from composed_jobs import LOADER, composed, problems
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.files import conf_dir
from r4r.stages.reasons import reasons_stage

GROUPS = [g for g in LOADER.list_groups("") if g != "hydra"]


OPTIONS = [(group, option) for group in GROUPS for option in LOADER.get_group_options(group)]


@pytest.fixture
def default() -> DictConfig:
    """The default job; equal compositions share one."""
    return composed()


def test_an_override_is_of_its_own_composition_alone() -> None:
    """Compositions of one loader share what its files hold, not what is written over it."""
    loader = make_loader()

    def values(loader: ConfigLoaderImpl, *overrides: str) -> Any:
        return OmegaConf.to_container(compose(loader, "config", list(overrides)), resolve=False)

    first = ["seed=7", "experts.predictor.epochs=9", "dataset.pools.total=11"]
    kept = values(loader, *first)
    values(loader, "seed=8", "llm.max_length=99")
    assert values(loader, *first) == kept  # the same object as before
    assert values(loader) == values(make_loader())


def test_the_default_job_is_the_documented_one(default: DictConfig) -> None:
    config = validate(default)
    assert (config.dataset.name, config.llm.name, config.teacher.kind) == ("simulated_medium", "world_3m", "simulator")
    assert (config.method["name"], config.strategy.name, config.reason_source["name"]) == (
        "reason4rec",
        "multistep",
        "filtered",
    )
    assert set(config.references) == {"means", "mf"}
    assert set(config.experts) == {"summarizer", "reward_model", "reasoner", "predictor"}
    assert (config.seed, config.target, config.plan) == (42, "result", False)
    assert reasons_stage(config).tau == config.dataset.tau  # type: ignore[union-attr]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_makes_a_valid_job(group: str, option: str) -> None:
    places = {"expert": f"@experts.{option}", "objective": "@experts.reasoner.objective"}
    places |= {"reward": "@experts.reasoner.objective.rewards.tried", "rating_metric": "@metrics.ratings.tried"}
    override = f"{'+' if group in ('reward', 'rating_metric') else ''}{group}{places.get(group, '')}={option}"
    own = ["dataset.name=wine", "dataset.category=Wine", "dataset.reviews=wine.csv"] if option == "custom" else []
    if group == "reward":
        own.append("objective@experts.reasoner.objective=grpo")
    if group == "dataset" and not option.startswith("simulated"):
        own.append("teacher=openai")  # the default one reads the simulated world alone
    mounted_by = {"onestep": "onestep", "cot": "cot", "reviewer": "hypothetical_review"}
    if option in mounted_by and group == "expert":
        own.append(f"strategy={mounted_by[option]}")  # mounts it, so that it can be swapped
    if option.startswith(("rec_saver", "exp3rt", "reczero", "recone")) and group == "expert":
        own.append(f"method={'exp3rt' if option.startswith('exp3rt') else option}")
    validate(composed(override, *own))


def test_what_a_data_set_of_ones_own_still_needs_is_said() -> None:
    found = problems(composed("dataset=custom"))
    needed = ("name", "category", "reviews")
    assert found == [f"dataset.{key}: has no value; set dataset.{key}=..." for key in needed]


@pytest.mark.parametrize("option", LOADER.get_group_options("experiment"))
def test_every_preset_opens_with_its_command(option: str) -> None:
    lines = (conf_dir() / "experiment" / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    commands = {f"# r4r experiment={option}", f"# r4r -m experiment={option}"}
    assert commands & {line.split("  ")[0] for line in lines[:2]}
    assert validate(composed(f"experiment={option}")).experiment == option


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # the table of the paper's training settings
        ("summarizer", (16, 32, 0.0, 3e-4, 5, 16, 100)),
        ("reward_model", (8, 16, 0.0, 3e-6, 3, 16, 0.1)),
        ("reasoner", (16, 32, 0.1, 3e-4, 3, 32, 100)),
        ("predictor", (8, 16, 0.0, 3e-5, 3, 16, 0.1)),
    ],
)
def test_the_paper_recipe_is_the_paper(name: str, expected: tuple) -> None:
    expert = validate(composed("recipe=paper")).experts[name]
    lora = expert["lora"]
    got = (lora["r"], lora["alpha"], lora["dropout"], *(expert[k] for k in ("lr", "epochs", "batch_size", "warmup")))
    assert got == expected
    assert expert["train_lm_head"] is False


@pytest.mark.parametrize(
    ("argument", "name", "source"),
    [
        ("llm=llama3_8b", "llama3_8b", "hub:meta-llama/Meta-Llama-3-8B-Instruct"),
        ("llm=hub:org/My-Model.1-8B", "My-Model.1-8B", "hub:org/My-Model.1-8B"),
        ("llm=path:/models/mine.Q4.gguf", "mine.Q4", "path:/models/mine.Q4.gguf"),
        ("llm='path:models/my model'", "my model", "path:models/my model"),
    ],
)
def test_a_large_model_brings_the_papers_recipe(argument: str, name: str, source: str) -> None:
    preflight([argument, "plan=true"])
    config = validate(composed(argument))
    assert (config.llm.name, config.llm.source, config.llm.system) == (name, source, None)
    assert config.experts["reasoner"]["lr"] == 3e-4
    assert validate(composed(argument, "recipe=small")).experts["reasoner"]["lr"] == 1e-3


def test_named_models_can_be_swept_over() -> None:
    argv = ["-m", "llm=tiny,hub:a/b,hub:a/c", "seed=1,2"]
    assert preflight(argv) == argv


def test_real_reviews_take_a_model_of_real_english(capsys: pytest.CaptureFixture[str]) -> None:
    assert composed("dataset=yelp").llm.name == "smollm2_135m"
    assert composed("dataset=yelp", "llm=tiny").llm.name == "tiny"
    preflight(["dataset=yelp", "llm=world_3m"])
    assert "llm=world_3m: has read nothing but reviews of invented records; for dataset=yelp" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["small", "world"])
def test_no_method_is_trained_for_longer_than_another(recipe: str) -> None:
    """Else a table of methods would compare their steps; EXP3RT's are its own, as its recipe says."""
    experts = OmegaConf.to_container(composed(f"recipe={recipe}"), resolve=False)["experts"]  # type: ignore[index, call-overload]
    same = ("lr", "epochs", "batch_size")
    steps = {name: tuple(expert[key] for key in same) for name, expert in experts.items() if "lr" in expert}
    texts = {"reviewer", "onestep", "cot", "rec_saver", "recone"}
    assert {name: steps[name] for name in texts} == dict.fromkeys(texts, steps["reasoner"])


def test_a_small_recipe_on_a_large_model_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    preflight(["llm.source=hub:a/b"])
    assert "llm.source=hub:a/b with recipe=world" in capsys.readouterr().err
    preflight(["llm.source=hub:a/b", "recipe=small"])
    assert capsys.readouterr().err == ""


def test_an_override_beats_the_recipe() -> None:
    assert validate(composed("experts.reasoner.epochs=9")).experts["reasoner"]["epochs"] == 9


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("R4R_DATA", "R4R_OUTPUTS", "R4R_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    paths = validate(composed()).paths
    assert paths.outputs == tmp_path / "multirun_outputs"
    assert paths.artifacts == tmp_path / "multirun_outputs" / "artifacts"
    assert paths.cache == Path.home() / ".cache" / "r4r"
    assert paths.data == paths.cache / "data"
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv("R4R_CACHE", "~/elsewhere")
    paths = validate(composed()).paths
    assert (paths.artifacts, paths.cache) == (tmp_path / "out" / "artifacts", Path.home() / "elsewhere")


def test_the_filters_threshold_is_the_data_sets_unless_set() -> None:
    def threshold(*overrides: str) -> Any:
        return reasons_stage(validate(composed(*overrides))).tau  # type: ignore[union-attr]

    assert threshold("dataset.tau=0.2") == 0.2
    assert threshold("dataset.tau=0.2", "++reason_source.tau=0.3") == 0.3
