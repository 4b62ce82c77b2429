"""A stage's fields are its identity: a setting that changes an artifact changes its key.

Every leaf of a tiny job's configuration is changed, one at a time. Whatever leaves an artifact's key as it was may not
change the artifact: all such settings are changed at once, and the job is run again.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.construct import construct
from r4r.configuration.schema import Config, DatasetConfig
from r4r.errors import R4RError
from r4r.run import run
from r4r.stages.identity import dataset_identity
from r4r.stages.stage import Job
from r4r.store.artifact import Store

LOADER = make_loader()
JOB = ("experiment=smoke", "references={}", "++llm.dtype=float32", "dataset.world.reviews_per_user=6")
ELSEWHERE = {  # settings of which this machine has one value alone, or that say what to do and where, not how
    "llm.engine",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "paths.data",
    "paths.outputs",
    "paths.artifacts",
    "paths.cache",
    "plan",
    "target",
}
Values = dict[str, Any]


@pytest.fixture(scope="module")
def base() -> Values:
    return validate(compose(LOADER, "config", list(JOB))).model_dump()


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, Mapping) and node:
        for key, inner in node.items():
            yield from leaves(inner, (*path, key))
    elif not (path and path[-1] == "_target_"):
        yield path, node


def others(value: Any) -> list[Any]:
    """Values of the same type to try, the likeliest first."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, max(1, value - 1), value * 64]
    if isinstance(value, float):
        return [value * 0.5, value + 0.25, value + 1.0]
    if isinstance(value, str):
        known = (
            "response",
            "digit",
            "adamw",
            "review",
            "none",
            "reviews",
            "summaries",
            "train+valid",
            "valid",
            "drop_oldest",
        )
        return [*(word for word in known if word != value), f"{value}x", "float32", "nf4", "rmse", "double"]
    if value is None:
        return [3000, 0.4, True, "x"]
    return []


def changed(values: Values, changes: Mapping[tuple[str, ...], Any]) -> Values:
    """The values with some leaves changed."""
    out = json.loads(json.dumps(values, default=str))
    for path, value in changes.items():
        node = out
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    return out


def keys(values: Values) -> dict[str, str]:
    """name -> key of the job's stages; raises what a faulty configuration raises."""
    config = Config.model_validate(values)
    for where, node in [("method", config.method), ("reason_source", config.reason_source)]:
        construct(node, where)
    for name, node in config.experts.items():
        construct(node, f"experts.{name}")
        construct(node["objective"], f"experts.{name}.objective")
    job = Job(config, Store(config.paths.artifacts))
    methods = [construct(node, f"references.{name}") for name, node in config.references.items()]
    methods.append(construct(config.method, "method"))
    return {stage.name: stage.key for method in methods for stage in method.stages(job).upstream()}


@pytest.fixture(scope="module")
def effects(base: Values) -> dict[tuple[str, ...], tuple[Any, set[str]]]:
    """leaf -> (another value, the artifacts whose key it changes)."""
    plain = json.loads(json.dumps(base, default=str))
    before, found = keys(plain), {}
    for path, value in leaves(plain):
        for other in others(value):
            try:
                after = keys(changed(plain, {path: other}))
            except (ValidationError, R4RError, ValueError, TypeError, KeyError):
                continue
            found[path] = (other, {name for name in {*before, *after} if before.get(name) != after.get(name)})
            break
    return found


def test_most_settings_were_changed(base: Values, effects: dict[Any, Any]) -> None:
    count = sum(1 for _ in leaves(base))
    assert len(effects) > 0.8 * count, sorted(".".join(path) for path, _ in leaves(base) if path not in effects)


@pytest.mark.parametrize(
    ("leaf", "first", "untouched"),
    [
        ("dataset.world.noise_sd", "split", set()),
        ("teacher.skill", "teacher_summaries", {"split", "pools"}),
        ("experts.summarizer.lr", "train/summarizer", {"teacher_summaries", "train/summarizer.lessons"}),
        ("dataset.history.prompt", "train/reward_model.lessons", {"summaries", "pools"}),
        ("experts.reasoner.objective.loss_on", "train/reasoner", {"reasons", "train/reasoner.lessons"}),
        ("dataset.tau", "reasons", {"train/reward_model"}),
        ("strategy.label", "predict/test", {"train/predictor"}),
        ("experts.predictor.lora.r", "train/predictor", {"write/reasoner/test"}),
    ],
)
def test_a_setting_is_in_the_keys_of_what_it_changes_and_of_what_follows(
    effects: dict[Any, Any], leaf: str, first: str, untouched: set[str]
) -> None:
    _, touched = effects[tuple(leaf.split("."))]
    assert {first, "predict/test"} <= touched
    assert not touched & untouched


def artifacts(values: Values, folder: Path) -> dict[str, dict[str, Any]]:
    """Run a job below a folder: name -> file -> content, of every artifact."""
    values = changed(
        values,
        {
            ("paths", "outputs"): str(folder),
            ("paths", "artifacts"): str(folder / "artifacts"),
            ("logger", "wandb"): False,
            ("logger", "csv"): False,
        },
    )
    record = run(Config.model_validate(values), folder / "job")
    found = {}
    for name, key in record["artifacts"].items():
        made = folder / "artifacts" / name / key
        found[name] = {str(p.relative_to(made)): content(p) for p in sorted(made.rglob("*")) if p.is_file()}
    return found


def content(path: Path) -> Any:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.name in ("manifest.json", "rows.jsonl", "ratings.jsonl") or path.suffix == ".png":  # times, batches, pixels
        return None
    if path.name == "table1.txt":  # for people: names the data set as the job that built it did
        return None
    return path.read_text(encoding="utf-8")


def test_a_setting_that_is_in_no_key_changes_no_artifact(base: Values, effects: dict[Any, Any], tmp_path: Path) -> None:
    neutral = {
        path: other
        for path, (other, touched) in effects.items()
        if not touched and ".".join(path) not in ELSEWHERE and path[:2] != ("llm", "vllm")
    }
    assert len(neutral) > 20
    plain = json.loads(json.dumps(base, default=str))
    one = artifacts(plain, tmp_path / "one")
    other = artifacts(changed(plain, neutral), tmp_path / "other")
    assert one.keys() <= other.keys()  # some say which metrics are wanted
    for name in one:
        assert one[name].keys() == other[name].keys(), name
        for file, made in one[name].items():
            check_same(made, other[name][file], f"{name}/{file}")


def check_same(one: Any, other: Any, where: str) -> None:
    """Equal but for the last bits of floats: other batches add up in another order, to 1e-5 of a trained weight."""
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-4, obj=where)
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, tensor in one.items():
            np.testing.assert_allclose(tensor, other[name], rtol=0, atol=1e-4, err_msg=f"{where}: {name}")
    else:
        assert one == other, where


def test_an_edit_in_the_middle_of_a_large_file_is_another_file(tmp_path: Path) -> None:
    """Of the same length, and far from both ends."""
    path = tmp_path / "r.csv"
    path.write_bytes(b"4" * (5 * 2**20))
    dataset = DatasetConfig(name="mine", source="custom", category="Thing", reviews="r.csv")
    before = dataset_identity(dataset, tmp_path)["reviews"]
    assert dataset_identity(dataset, tmp_path)["reviews"] == before
    with path.open("r+b") as file:
        file.seek(5 * 2**19)
        file.write(b"1")
    assert dataset_identity(dataset, tmp_path)["reviews"] != before
