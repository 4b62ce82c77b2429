"""What is wrong with a configuration: every fault is a sentence, and all are told at once."""

import pickle
import sys
import types
from collections.abc import Iterator
from typing import Annotated, get_args

import pytest
from composed_jobs import changed, composed, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from r4r.configuration.checks import validate
from r4r.configuration.construct import construct
from r4r.configuration.constructors import constructor_schema
from r4r.configuration.targets import fitting
from r4r.configuration.teachers import KINDS
from r4r.errors import ConfigError


@pytest.fixture
def default() -> DictConfig:
    """The default job; equal compositions share one."""
    return composed()


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


def test_config_errors_survive_the_way_from_a_parallel_worker() -> None:
    error = pickle.loads(pickle.dumps(ConfigError(["one", "two"])))
    assert error.problems == ["one", "two"]
    assert str(error) == str(ConfigError(["one", "two"]))


def test_a_metric_of_ratings_has_a_title_and_a_name_of_its_own() -> None:
    mounted = "+rating_metric@metrics.ratings.{}=accuracy"
    assert "names that end in _se are of standard errors" in problems(composed(mounted.format("near_se")))[0]
    bare = composed(mounted.format("near"), "metrics.ratings.near._target_=r4r.metrics.rating_metric.RatingMetric")
    assert "a class derived from RatingMetric that has a title" in problems(bare)[0]
