"""What a build would take: rows from the configuration or the store, time from earlier builds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from r4r.pipeline.stage import Stage
from r4r.stages.past import Past, earlier, yardstick
from r4r.store.artifact import Store

if TYPE_CHECKING:
    from r4r.configuration.schema import Config


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


def described(stage: Stage, known: Counts, store: Store, elsewhere: Mapping[str, Past]) -> Expected:
    """What a stage would take, by this machine's earlier builds, or else by another one's.

    Args:
        elsewhere: as `took_elsewhere`.
    """
    past, told = earlier(stage, store) or elsewhere.get(stage.key), stage.estimate
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


def minutes(seconds: float) -> str:
    """A rough duration in words."""
    if seconds < 60:
        return "under a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
