"""What earlier builds of a stage took: on this machine or, before it has built any, on another (`yardstick.json`)."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from r4r.pipeline.stage import Stage
from r4r.store.artifact import MANIFEST, Store

if TYPE_CHECKING:
    from r4r.configuration.schema import Config

YARDSTICK = Path(__file__).with_name("yardstick.json")  # made by experiments/bench/yardstick.py
RECENT = 20  # builds of a stage that an estimate goes by, the newest ones
ROW_FACTS = ("texts", "examples", "predictions", "kept", "pairs")  # what manifests call the rows of their stage
TOKEN_FACTS = ("tokens_in", "tokens_out", "train_tokens", "teacher_tokens_in", "teacher_tokens_out")


@dataclass(frozen=True)
class Past:
    """Earlier builds of a stage, summed."""

    rows: int
    tokens: int
    seconds: float
    here: bool = True  # on this machine


def earlier(stage: Stage, store: Store) -> Past | None:
    """What builds of such a stage took on this kind of machine. Where the stage gives no number of rows, the last of
    them alone."""
    found = sorted(_builds(stage, store), key=lambda build: build[0])
    if not found:
        return None
    if isinstance(stage.estimate, str):
        return found[-1][1]
    pasts = [past for _, past in found]
    return Past(sum(p.rows for p in pasts), sum(p.tokens for p in pasts), sum(p.seconds for p in pasts))


@cache
def yardstick() -> dict[str, Any]:
    """What the stages of one job took on one machine: the machine's name, what kind of job it was (`job_kind`), and by
    stage its class, rows, tokens, seconds."""
    found: dict[str, Any] = json.loads(YARDSTICK.read_bytes())
    return found


def job_kind(config: Mapping[str, Any]) -> list[str | None]:
    """What the speed of a job's stages hangs on: base model, teacher, data.

    Args:
        config: the job's, in plain values.
    """
    return [config["llm"]["source"], config["llm"]["sha256"], config["teacher"]["kind"], config["dataset"]["source"]]


def took_elsewhere(config: "Config", stages: Sequence[Stage]) -> dict[str, Past]:
    """What stages like a job's took on another machine, by key; nothing where that was a job of another kind."""
    if job_kind(config.model_dump(mode="json")) != yardstick()["job"]:
        return {}
    found = {}
    for stage in stages:
        kind, rows, tokens, seconds = yardstick()["stages"].get(stage.name, [None] * 4)
        if kind == stage.config["class"]:
            found[stage.key] = Past(rows, tokens, seconds, here=False)
    return found


def files_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An artifact's manifest and settings.

    Raises:
        OSError, ValueError, yaml.YAMLError: it is no artifact, or a damaged one.
    """
    return json.loads((folder / MANIFEST).read_bytes()), yaml.safe_load((folder / "config.yaml").read_bytes())


def what_it_took(manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> Past:
    """By an artifact's manifest and settings.

    Raises:
        KeyError, TypeError, ValueError: these are none.
    """
    expert = settings["expert"] if isinstance(settings.get("expert"), dict) else {}
    passes = (expert.get("objective") or {}).get("epochs") or expert.get("epochs", 1)
    rows = next((int(manifest[name]) for name in ROW_FACTS if isinstance(manifest.get(name), int)), 0) * passes
    tokens = sum(int(manifest.get(name) or 0) for name in TOKEN_FACTS)
    return Past(rows, tokens, float(manifest["wall_s"]))


def _builds(stage: Stage, store: Store) -> Iterator[tuple[float, Past]]:
    """(time of the build, what it took) of each artifact of the stage's name and kind of work that the same base model
    and teacher made on this kind of machine."""
    folder, workers = store.root / stage.name, set(_workers(stage.config))
    there = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for path in sorted(there, key=lambda path: path.stat().st_mtime)[-RECENT:]:
        try:
            manifest, settings = files_of(path)
            past, at = what_it_took(manifest, settings), (path / MANIFEST).stat().st_mtime
            here = _kind(manifest["device"])
            alike = _work(settings) == _work(stage.config) and set(_workers(settings)) == workers
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):  # no artifact, or damaged
            continue
        if here and alike:
            yield at, past


def _work(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """The stage's class; of a training, what it learns by, and how many answers of its own to each prompt."""
    expert = settings.get("expert")
    objective = (expert.get("objective") or {}) if isinstance(expert, dict) else {}
    return settings["class"], objective.get("_target_"), objective.get("group")


def _workers(settings: Any) -> Iterator[str]:
    """The base model and the teacher that a stage's settings name, wherever they stand: who is at work."""
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        if isinstance(value, dict) and name in ("llm", "tokenizer"):  # the tokenizer's identity is its model's
            yield json.dumps([value.get("source"), value.get("content")], sort_keys=True)
        elif isinstance(value, dict) and name == "teacher":
            yield json.dumps([value.get("kind"), value.get("model")])
        else:
            yield from _workers(value)


def _kind(device: Any) -> bool:
    """Whether a manifest's device can be this machine's: a GPU, or a CPU of its kind."""
    return "CPU" not in str(device) or str(device).startswith(platform.machine())
