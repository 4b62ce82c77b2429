"""Configuration: everything in conf/ composes, and every fault is a sentence that names the close one."""

import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.construct import construct
from r4r.configuration.constructors import constructor_schema
from r4r.configuration.preflight import notes, preflight
from r4r.configuration.targets import fitting
from r4r.configuration.teachers import KINDS
from r4r.configuration.unread import ignored
from r4r.errors import ConfigError
from r4r.files import conf_dir
from r4r.stages.reasons import reasons_stage

LOADER = make_loader()
GROUPS = [g for g in LOADER.list_groups("") if g != "hydra"]
OPTIONS = [(group, option) for group in GROUPS for option in LOADER.get_group_options(group)]


def composed(*overrides: str) -> DictConfig:
    return compose(LOADER, "config", list(overrides))


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


@pytest.fixture(scope="module")
def default() -> DictConfig:
    return composed()


def problems(cfg: DictConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate(cfg)
    return error.value.problems


def refused(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        preflight(list(argv))
    return error.value.problems


def changed(cfg: DictConfig, **values: Any) -> DictConfig:
    """A copy with dotted keys (written with __ for the dot) set, whether or not they exist."""
    copy = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(copy, DictConfig)
    for key, value in values.items():
        OmegaConf.update(copy, key.replace("__", "."), value, force_add=True)
    return copy


# what is in conf/


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


# what validate finds


def test_weights_of_four_bits_take_no_adapter(default: DictConfig) -> None:
    [found] = problems(changed(default, llm__quantization="nf4", llm__merge_adapters=True))
    assert found.startswith("llm.merge_adapters=True: no adapter can be added to weights of 4 bits; drop it, or take")


def test_all_faults_are_told_at_once(default: DictConfig) -> None:
    cfg = changed(
        default,
        llm__dtype="halff",
        dataset__prepare__k_core=0,
        dataset__prepare__kcore=5,
        experts__reasoner__lora__r="big",
        experts__predictor__learning_rate=1.0,
        method__nmae="x",
        seed=None,
        name="${dataset.nmae}",
    )
    found = problems(cfg)
    expected = [
        "name: cannot resolve ${dataset.nmae}: Interpolation key 'dataset.nmae' not found",
        "llm.dtype=halff: must be one of auto, bfloat16, float16, float32",
        "dataset.prepare.k_core=0: should be greater than or equal to 1",
        "dataset.prepare.kcore: there is no such setting; did you mean k_core",
        "experts.reasoner.lora.r='big': should be a valid integer",
        "experts.predictor.learning_rate: there is no such setting",
        "method.nmae: there is no such setting; did you mean name",
        "seed=None: should be a valid integer",
    ]
    for sentence in expected:
        assert any(problem.startswith(sentence) for problem in found), (sentence, found)
    assert len(found) == len(expected)


def leaves(node: DictConfig, path: str = "") -> Iterator[str]:
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            yield from leaves(child, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def schema_numbers(section: BaseModel, path: str = "") -> Iterator[tuple[str, bool]]:
    """(dotted key, whether whole) of every number that a group's schema has, left null or not."""
    for name, field in type(section).model_fields.items():
        value, kinds = getattr(section, name), get_args(field.annotation) or (field.annotation,)
        if isinstance(value, BaseModel):
            yield from schema_numbers(value, f"{path}{name}.")
        elif int in kinds or float in kinds or type(value) in (int, float):
            yield f"{path}{name}", float not in kinds and type(value) is not float


def test_every_number_is_bounded() -> None:
    """Each number of the configuration, and of every method's and expert's constructor, refuses what it cannot mean."""
    experts = [f"+expert@experts.{name}={name}" for name in ("onestep", "cot", "exp3rt")]
    methods = [
        f"+method@references.{n}={n}" for n in ("daml", "deepconn", "fewshot", "narre", "reason4rec", "reward_check")
    ]
    more = ["metrics=offline", "timing=paper", *experts, *methods, "+method@references.saver=rec_saver"]
    config = validate(composed(*more))
    real = validate(composed("dataset=musical_instruments", "teacher=openai", "metrics=none", "timing=none"))
    whole, of_real_data = (OmegaConf.create(made.model_dump(mode="json")) for made in (config, real))
    nodes = {f"{group}.{name}.": node for group in ("experts", "references") for name, node in whole[group].items()}
    numbers = dict(schema_numbers(config))
    for path, node in nodes.items():
        classes = constructor_schema(fitting(path[:-1], node["_target_"])).model_validate(
            {key: value for key, value in OmegaConf.to_container(node).items() if key != "_target_"}
        )
        numbers |= dict(schema_numbers(classes, path))
    assert len(numbers) > 140
    for value in (float("nan"), float("inf"), -1, 2**40):
        wrong = {key for key, is_whole in numbers.items() if is_whole or value != 2**40}
        if value == -1:  # Lightning's word for all
            wrong -= {"trainer.devices", "trainer.max_steps"}
        found = problems(changed(whole, **{key.replace(".", "__"): value for key in wrong}))
        raw = {key for key in wrong if key.startswith("dataset.") and not key.startswith("dataset.world.")}
        found += problems(changed(of_real_data, **{key.replace(".", "__"): value for key in raw}))
        assert not wrong - {text.split("=")[0] for text in found}, value


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_teacher_is_bounded(kind: str) -> None:
    own = {"kind": kind, "source": "path:/m", "base_url": "http://h/v1"}
    teacher = KINDS[kind](**{name: value for name, value in own.items() if name in KINDS[kind].model_fields})
    for path, _ in schema_numbers(teacher):
        for value in (float("nan"), float("inf"), -1):
            with pytest.raises(ValidationError):
                KINDS[kind].model_validate(teacher.model_dump() | {path: value})


DEFAULT = changed(composed())
OmegaConf.update(DEFAULT, "hydra", None, force_add=True)
KEYS = sorted(key for key in leaves(DEFAULT) if not key.startswith(("hydra", "dataset.columns")))


@settings(max_examples=15)
@given(st.sampled_from(KEYS), st.data())
def test_a_misspelt_key_is_an_error_wherever_it_is(key: str, data: st.DataObject) -> None:
    """As a preset would have it: the key with one letter doubled, beside the right one."""
    parent, _, leaf = key.rpartition(".")
    at = data.draw(st.integers(0, len(leaf) - 1))
    wrong = f"{parent}.{leaf[:at]}{leaf[at]}{leaf[at:]}".lstrip(".")
    cfg = changed(DEFAULT)
    OmegaConf.update(cfg, wrong, OmegaConf.select(cfg, key), force_add=True)
    found = problems(cfg)
    assert any(problem.startswith(f"{wrong}:") for problem in found), found
    assert leaf in found[0].split(";")[1] or leaf.strip("_") == "target"


def test_a_missing_value_and_a_missing_environment_variable(default: DictConfig) -> None:
    found = problems(changed(default, seed="???", teacher__model="${oc.env:R4R_SURELY_UNSET}"))
    assert len(found) == 2
    assert "seed: has no value; set seed=..." in found
    assert any(p.startswith("teacher.model: cannot resolve ${oc.env:R4R_SURELY_UNSET}: ") for p in found)


def test_a_group_where_a_value_should_be(default: DictConfig) -> None:
    assert problems(changed(default, dataset__history=3))[0].startswith(
        "dataset.history=3: must be a group of settings"
    )


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(1, ge=1)


class Engine:
    """Something that code hands in, and no setting."""


class Probe:
    def __init__(
        self, name: str, shape: Shape, engine: Engine | None = None, share: Annotated[float, Field(le=1)] = 0.5
    ):
        self.name, self.shape, self.engine, self.share = name, shape, engine, share

    def stages(self, job: object) -> None: ...


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("probe_module")
    for thing in (Shape, Engine, Probe):
        setattr(module, thing.__name__, thing)
    monkeypatch.setitem(sys.modules, "probe_module", module)
    return "probe_module.Probe"


def test_a_constructor_is_the_schema_of_its_settings(default: DictConfig, probe: str) -> None:
    good = {"_target_": probe, "name": "p", "shape": {"width": 2}, "share": 1}
    validate(changed(default, references={"probe": good}, plugins=["probe_module"]))
    bad = {"_target_": probe, "shape": {"width": 0, "wdth": 1}, "share": 3, "engine": {}}
    found = problems(changed(default, references={"probe": bad}, plugins=["probe_module"]))
    for sentence in (
        "references.probe.name: has no value; set references.probe.name=...",
        "references.probe.shape.width=0: should be greater than or equal to 1",
        "references.probe.shape.wdth: there is no such setting; did you mean width?",
        "references.probe.share=3: should be less than or equal to 1",
        "references.probe.engine: there is no such setting",
    ):
        assert any(problem.startswith(sentence) for problem in found), (sentence, found)
    assert len(found) == 5


def test_construct_builds_with_the_constructors_types(probe: str) -> None:
    got = construct({"_target_": probe, "name": "p", "shape": {"width": "3"}, "share": 1}, "method", ["probe_module"])
    assert got.shape == Shape(width=3)
    assert isinstance(got.share, float)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("r4r.methods.mf.MFF", "method._target_=r4r.methods.mf.MFF: r4r.methods.mf has no MFF; did you mean MF?"),
        ("r4r.methods.nmf.NMF", "method._target_=r4r.methods.nmf.NMF: cannot import r4r.methods.nmf"),
        ("MF", "method._target_=MF: must be a dotted path"),
    ],
)
def test_a_wrong_target(default: DictConfig, target: str, message: str) -> None:
    assert any(p.startswith(message) for p in problems(changed(default, method={"_target_": target})))


def test_an_expert_that_is_tuned_but_not_mounted(default: DictConfig) -> None:
    found = problems(changed(default, experts={"critic": {"lr": 1.0}}))
    assert found == ["experts.critic: has no _target_; mount it with +expert@experts.critic=..."]


# the command line


def test_misspellings_on_the_command_line_are_told_at_once() -> None:
    found = refused(
        "metod=mf", "llm=smol", "dataset.k_core=3", "experts.reasoner.lora.rr=3", "seed=1,2", "logger=non", "x=[1"
    )
    for sentence in (
        "metod=mf: there is no key or group 'metod'; did you mean method?",
        "llm=smol: llm has no option 'smol'; did you mean smollm2_135m?",
        "dataset.k_core=3: there is no key or group 'dataset.k_core'; did you mean dataset.prepare.k_core?",
        "experts.reasoner.lora.rr=3: there is no key or group 'experts.reasoner.lora.rr'; did you mean r?",
        "seed=1,2: lists several values; add -m",
        "logger=non: logger has no option 'non'; did you mean none?",
        "x=[1: cannot be read",
    ):
        assert any(problem.startswith(sentence) for problem in found), (sentence, found)
    assert len(found) == 7


def test_values_are_checked_with_the_names() -> None:
    found = refused("seeed=1", "dataset.prepare.k_core=0")
    assert [problem.split(":")[0] for problem in found] == ["seeed=1", "dataset.prepare.k_core=0"]


def test_a_schema_key_that_no_file_spells_out_can_be_set() -> None:
    real = ["dataset=musical_instruments", "teacher=openai"]
    argv = ["dataset.strict=true", "experts.reasoner.max_grad_norm=0.5", "seed=1", "logger=none"]
    assert preflight([*real, *argv]) == [
        *real,
        "++dataset.strict=true",
        "++experts.reasoner.max_grad_norm=0.5",
        *argv[2:],
    ]
    assert refused(*real, "dataset.strict=maybe")[0].startswith("dataset.strict='maybe': should be a valid boolean")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-m", "seed=1,two"], "seed='two': should be a valid integer"),
        (
            ["-m", "seed=range(1,3)", "dataset.history.prompt=3,all"],
            "dataset.history.prompt='all': should be a valid integer",
        ),
        (["-m", "llm=tiny,tinny"], "llm=tinny: llm has no option 'tinny'; did you mean tiny?"),
        (["-m", "trainer=cpu,smoke", "seeed=1,2"], "seeed=1: there is no key or group 'seeed'; did you mean seed?"),
    ],
)
def test_every_value_of_a_sweep_is_checked(argv: list[str], message: str) -> None:
    found = refused(*argv)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_good_sweeps_pass() -> None:
    for argv in (["-m", "logger=glob(c*)"], ["-m", "method=mf,reason4rec", "llm=tiny"]):
        assert preflight(argv) == argv


def test_a_swap_of_an_expert_that_is_not_there() -> None:
    assert "expert@experts.critic=reasoner" in refused("expert@experts.critic=reasoner")[0]


def test_presets_are_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "typo.yaml").write_text("# @package _global_\nexperiment: typo\ndataset: {prepare: {k_cor: 3}}\n")
    (folder / "gone.yaml").write_text("# @package _global_\ndefaults: [{override /llm: smollm2}]\nexperiment: gone\n")
    (folder / "sweep.yaml").write_text(
        "# @package _global_\nexperiment: sweep\nhydra: {mode: MULTIRUN, sweeper: {params: {seeed: '1,2'}}}\n"
    )
    base = ["--config-dir", str(tmp_path)]
    assert refused(*base, "experiment=typo") == [
        "dataset.prepare.k_cor: there is no such setting; did you mean k_core?"
    ]
    gone = refused(*base, "experiment=gone")
    assert len(gone) == 1
    assert "llm has no option 'smollm2'; did you mean smollm2_135m?" in gone[0]
    assert refused(*base, "-m", "experiment=sweep")[0].startswith("seeed=1: there is no key or group 'seeed'")
    assert refused("--config-dir", str(tmp_path / "nowhere"))[0].endswith("there is no such folder")


def test_with_one_shared_adapter_the_other_experts_training_is_not_read() -> None:
    shared = ["method=exp3rt", "method.adapters=shared"]
    given = ["experts.exp3rt_item_profile.lr=1e-3", "objective@experts.exp3rt_preferences.objective=sft"]
    read = ["experts.exp3rt.lr=1e-3", "experts.exp3rt_user_profile.max_new_tokens=80"]
    found = ignored(composed(*shared, *given, *read), [*shared, *given, *read])
    assert found == [f"{text}: is not read by exp3rt, adapters=shared; drop the override" for text in given]
    assert ignored(composed("method=exp3rt", *given), ["method=exp3rt", *given]) == []
    told = notes(composed(*shared), shared)
    assert "how experts.exp3rt_item_profile, experts.exp3rt_preferences, experts.exp3rt_user_profile are" in told[0]
    assert notes(composed("method=exp3rt"), []) == []


def test_overrides_that_the_method_ignores_are_refused() -> None:
    overrides = ["method=mf", "llm=tiny", "seed=3", "experts.reasoner.lr=1", "expert@experts.reasoner=predictor"]
    found = ignored(composed(*overrides), overrides)
    assert [sentence.split(":")[0] for sentence in found] == [overrides[1], *overrides[3:]]
    assert "mf" in found[0]
    assert "llm" in found[0]
    assert ignored(composed("llm=tiny"), ["llm=tiny"]) == []
    assert ignored(composed("method=mf", "dataset.tau=1"), ["method=mf", "dataset.tau=1"]) == []
    assert refused("method=mf", "teacher=local")[0].startswith("teacher=local: this job's methods (mf, means)")


def test_what_a_strategy_does_not_read_is_refused() -> None:
    assert refused("strategy=onestep", "experts.predictor.lr=1e-3") == [
        "experts.predictor.lr=1e-3: this strategy has no predictor, it mounts summarizer, reward_model, onestep; "
        "drop the override"
    ]
    assert "without reasons" in refused("strategy=without_step2", "reason_source=history")[0]
    assert preflight(["strategy=onestep", "experts.onestep.lr=1e-3"])


@pytest.mark.parametrize("chosen", [["strategy=without_step1"], ["experiment=real_reviews", "teacher=server"]])
def test_a_strategy_in_the_place_of_the_methods_own_is_refused(chosen: list[str]) -> None:
    with pytest.raises(
        ConfigError, match="strategy=without_step1: method=without_reason is Reason4Rec with strategy=w"
    ):
        validate(composed("method=without_reason", *chosen), classes=False)
    assert validate(composed("method=without_reason", "strategy=without_step2"), classes=False)


@pytest.mark.parametrize("method", ["dpo", "best_of_n"])
def test_an_objective_in_the_place_of_the_strategys_own_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=rf"reasoner\.objective=grpo: strategy={method} learns by {method}"):
        validate(composed(f"method={method}", "recipe=paper_grpo"), classes=False)
    config = validate(composed("method=grpo", "recipe=paper_grpo"), classes=False)
    assert (config.strategy.label, config.experts["reasoner"]["objective"]["kl"]) == ("Reason4Rec, GRPO", 0.01)


def test_an_expert_that_the_method_does_not_train_is_refused() -> None:
    assert "train no reasoner" in refused("method=rec_saver", "experts.reasoner.lr=1e-3")[0]
    assert preflight(["method=rec_saver", "experts.rec_saver.lr=1e-3"])
    assert preflight(["method=reward_check", "experts.reward_model.lr=1e-3"])


def test_settings_of_experts_that_the_strategy_does_not_mount_are_left_out() -> None:
    assert set(validate(composed("strategy=cot", "recipe=small")).experts) == {"summarizer", "reward_model", "cot"}


def test_the_filters_threshold_is_the_data_sets_unless_set() -> None:
    def threshold(*overrides: str) -> Any:
        return reasons_stage(validate(composed(*overrides))).tau  # type: ignore[union-attr]

    assert threshold("dataset.tau=0.2") == 0.2
    assert threshold("dataset.tau=0.2", "++reason_source.tau=0.3") == 0.3


def test_config_errors_survive_the_way_from_a_parallel_worker() -> None:
    error = pickle.loads(pickle.dumps(ConfigError(["one", "two"])))
    assert error.problems == ["one", "two"]
    assert str(error) == str(ConfigError(["one", "two"]))


def test_a_metric_of_ratings_has_a_title_and_a_name_of_its_own() -> None:
    mounted = "+rating_metric@metrics.ratings.{}=accuracy"
    assert "names that end in _se are of standard errors" in problems(composed(mounted.format("near_se")))[0]
    bare = composed(mounted.format("near"), "metrics.ratings.near._target_=r4r.metrics.rating_metric.RatingMetric")
    assert "a class derived from RatingMetric that has a title" in problems(bare)[0]
