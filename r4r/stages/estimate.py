"""What a build would take: rows from the configuration or the store, time from this machine's past.

Before this machine has built a stage, it goes by what the stage took on another one (`yardstick.json`).
"""

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
class Counts:
    """Rows that a job has, as far as a plan can tell; None where only the data can.

    Attributes:
        history: rows that a history may show.
        evaluated: rows to predict.
        experts, reward: pairs of the two pools.
        summaries: reviews that the teacher summarises, at most.
    """

    history: int | None
    evaluated: int | None
    experts: int | None
    reward: int | None
    summaries: int | None


@dataclass(frozen=True)
class Estimate:
    """How many units a build works on.

    Attributes:
        rows: the number, from the job's counts.
        unit: its name in the plan, in the plural.
        passes: how often each row is worked on: epochs.
        note: what else there is to say.
    """

    rows: Callable[[Counts], int | None]
    unit: str
    passes: int = 1
    note: str = ""


@dataclass(frozen=True)
class Past:
    """Earlier builds of a stage, summed."""

    rows: int
    tokens: int
    seconds: float
    here: bool = True  # on this machine


class Expected(NamedTuple):
    """What a build would take.

    Attributes:
        words: for the stage's line in the plan.
        seconds: None where nothing tells.
        here: whether this machine's past tells.
    """

    words: str
    seconds: float | None = None
    here: bool = True


def counts(config: "Config", stages: list[Stage], store: Store) -> Counts:
    """A job's rows: those of a split and of pools that are in the store, else what the settings say, at most."""
    made = {stage.name: store.find(stage.name, stage.key) for stage in stages if stage.name in ("split", "pools")}
    dataset = config.dataset
    split: dict[str, int] = {}
    if found := made.get("split"):
        split = {name: count for name, count in found.manifest["rows"].items() if name in ("train", "valid", "test")}
    elif dataset.source == "simulated":
        rows, prepare = dataset.world.users * dataset.world.reviews_per_user, dataset.prepare
        split = {"valid": round(rows * prepare.valid_fraction), "test": round(rows * prepare.test_fraction)}
        split["train"] = rows - sum(split.values())
    history = sum(split[name] for name in dataset.history.source.split("+")) if split else None
    limit, evaluated = dataset.evaluate.max_rows, split.get(dataset.evaluate.split)
    if limit is not None:
        evaluated = limit if evaluated is None else min(limit, evaluated)
    pools, reward = dataset.pools, round(dataset.pools.total * dataset.pools.reward_share)
    experts = pools.total - reward
    if found := made.get("pools"):
        facts = found.manifest["pools"]
        experts, reward = facts["experts"], facts["reward"]
    train = split.get("train", pools.summaries)
    return Counts(history, evaluated, experts, reward, min(pools.summaries, train))


def described(stage: Stage, known: Counts, store: Store) -> Expected:
    """What a stage would take, by earlier builds."""
    past = earlier(stage, store)
    told = stage.estimate
    where = "" if past is None or past.here else f" on {yardstick()['machine']}"
    if isinstance(told, str):
        if past is None:
            return Expected(f"{told}; no rate yet".lstrip("; "))
        took = f"{minutes(past.seconds)}{where or ' last time'}"
        return Expected(f"{told}; {took}".lstrip("; "), past.seconds, past.here)
    rows = told.rows(known)
    if rows is None:
        return Expected(f"{told.unit}: as many as the data has{told.note}")
    whole = rows * told.passes
    words = f"{rows:,} {told.unit}" + (f" x {told.passes}" if told.passes > 1 else "")
    if past is None or not past.rows:
        return Expected(f"{words}{told.note}; no rate yet")
    seconds = past.seconds / past.rows * whole
    tokens = f", about {past.tokens / past.rows * whole:,.0f} tokens" if past.tokens else ""
    return Expected(f"{words}{tokens}{told.note}, {minutes(seconds)}{where}", seconds, past.here)


def earlier(stage: Stage, store: Store) -> Past | None:
    """What builds of the stage's name took on this kind of machine with the same base model, or else on another one.
    Where the stage gives no number of rows, the last of them alone."""
    found = sorted(_builds(stage, store), key=lambda build: build[0])
    if not found:
        return _elsewhere(stage)
    if isinstance(stage.estimate, str):
        return found[-1][1]
    pasts = [past for _, past in found]
    return Past(sum(p.rows for p in pasts), sum(p.tokens for p in pasts), sum(p.seconds for p in pasts))


@cache
def yardstick() -> dict[str, Any]:
    """What the stages of one job took on one machine: its name, its base model, and by stage rows, tokens, seconds."""
    found: dict[str, Any] = json.loads(YARDSTICK.read_bytes())
    return found


def _elsewhere(stage: Stage) -> Past | None:
    took, llm = yardstick()["stages"].get(stage.name), stage.config.get("llm")
    if not took or llm not in (None, yardstick()["llm"]):
        return None
    rows, tokens, seconds = took
    return Past(rows, tokens, seconds, here=False)


def what_it_took(folder: Path) -> Past:
    """By an artifact's own files.

    Raises:
        OSError, ValueError, KeyError, TypeError, yaml.YAMLError: it is no artifact, or a damaged one.
    """
    manifest = json.loads((folder / MANIFEST).read_bytes())
    settings = yaml.safe_load((folder / "config.yaml").read_bytes())
    passes = settings["expert"].get("epochs", 1) if isinstance(settings.get("expert"), dict) else 1
    rows = next((int(manifest[name]) for name in ROW_FACTS if isinstance(manifest.get(name), int)), 0) * passes
    tokens = sum(int(manifest.get(name) or 0) for name in TOKEN_FACTS)
    return Past(rows, tokens, float(manifest["wall_s"]))


def _builds(stage: Stage, store: Store) -> Iterator[tuple[float, Past]]:
    """(time of the build, what it took) of each artifact of the stage's name that was made on this kind of machine."""
    folder = store.root / stage.name
    there = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for path in sorted(there, key=lambda path: path.stat().st_mtime)[-RECENT:]:
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            llm = yaml.safe_load((path / "config.yaml").read_bytes()).get("llm")
            past, at, here = what_it_took(path), (path / MANIFEST).stat().st_mtime, _kind(manifest["device"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):  # no artifact, or damaged
            continue
        if here and llm == stage.config.get("llm"):
            yield at, past


def _kind(device: Any) -> bool:
    """Whether a manifest's device can be this machine's: a GPU, or a CPU of its kind."""
    return "CPU" not in str(device) or str(device).startswith(platform.machine())


def minutes(seconds: float) -> str:
    """A rough duration in words."""
    if seconds < 60:
        return "under a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
