"""What a prediction costs (paper 4.3.4, Table 6): seconds and generated tokens, measured, never read from the store.

Timed is what is left to do once the texts made offline are there: summaries, profiles and prompts stand ready, then the
method writes and rates afresh. Nothing of it enters an artifact or a key.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from r4r.errors import ConfigError
from r4r.lm.engine import Engine
from r4r.lm.rate import decode
from r4r.lm.write import Written, write_batches
from r4r.pipeline.stage import Stage
from r4r.progress import bar
from r4r.rows import Schema
from r4r.scale import PAPER, Scale
from r4r.stages.split import targets
from r4r.stages.stage import Job, Work
from r4r.store.artifact import write_table

FILE = "timing.parquet"
TIMED: Schema = {
    "row_id": "int64",
    "mode": "str",  # single (one by one) | batched
    "text": "str",  # of the last step that writes, as the model wrote it; empty where the method rates without a text
    "rating": "float64",
    "seconds": "float64",  # batched: an equal share of the whole
    "rating_seconds": "float64",  # of these, for the rating
    "tokens": "int64",  # generated, by all steps
    "cut": "bool",  # a text reached its limit
}


@dataclass(frozen=True)
class Round:
    """One step that writes.

    Attributes:
        adapter: its adapter, ready on the base model.
        prompt: (place of the row, the texts of the rounds before) -> the prompt for its text.
        max_new_tokens: limit of a text.
    """

    adapter: str
    prompt: Callable[[int, Sequence[str]], str]
    max_new_tokens: int


@dataclass(frozen=True)
class Inference:
    """How a method predicts some rows, its adapters ready on the base model.

    Attributes:
        rounds: the steps that write, in their order; none where the rating comes without a text.
        rater: the adapter that rates; None: the bare base model.
        read: (place of the row, its texts) -> token ids up to where the rating's value stands, and whether the last
            text came to a rating itself, so that its value is among the text's tokens.
        scale: of the ratings.
        stated: the rating that the last text states, where the method takes that one: it needs no rater then.
        decoding: of the rater's probabilities: mean | median | mode.
    """

    rounds: Sequence[Round]
    rater: str | None
    read: Callable[[int, Sequence[str]], tuple[list[int], bool]]
    scale: Scale = PAPER
    stated: Callable[[str], float | None] = lambda text: None
    decoding: str = "mean"


def time_predictions(job: Job, final: Stage, folder: Path) -> dict[str, Any]:
    """Predict up to `timing.rows` of the evaluated rows, once one by one and once batched, each after a warm-up.

    Args:
        final: the stage of a method's predictions; what it reads is in the store.
        folder: gets `timing.parquet` (TIMED).

    Returns:
        The setup (of the engine, base_model, quantization, warmup) and `modes`, a
        dictionary a mode: n, batches, seconds, rating_seconds and tokens a prediction (means), seconds_median and
        seconds_se (None where rows share their time), tokens_se, cut (texts that reached their limit).
    Raises:
        ConfigError: the method has no language model of its own to time.
    """
    settings, config = job.config.timing, job.config
    if final.infer is None:
        raise ConfigError([f"timing.rows={settings.rows}: {final.name} cannot be timed, it has no steps to do afresh"])
    rows = targets(job)
    if settings.rows < len(rows):
        rows = rows.sample(settings.rows, random_state=settings.seed).sort_values("row_id").reset_index(drop=True)
    inputs = {name: job.materialize(stage) for name, stage in final.inputs.items()}
    own, engine = final.infer(Work(job, inputs, folder), rows), job.engine
    places = list(range(len(rows)))
    tables, modes = [], []
    for mode, groups in (("single", [[place] for place in places]), ("batched", [places])):
        warm = places[: settings.warmup]
        for group in [[place] for place in warm] if mode == "single" else [warm]:
            _predict(engine, own, group)
        runs = []
        with bar(f"time {mode}", len(groups)) as advance:
            for group in groups:
                runs.append(_predict(engine, own, group))
                advance(1, "")
        table = pd.concat([table for table, _ in runs], ignore_index=True)
        tables.append(table.assign(row_id=rows["row_id"].to_numpy(), mode=mode))
        modes.append({"mode": mode, "batches": sum(batches for _, batches in runs), **_means(table, mode)})
    write_table(folder / FILE, pd.concat(tables, ignore_index=True), TIMED)
    return {
        **engine.setup,
        "base_model": config.llm.name,
        "quantization": config.llm.quantization,
        "warmup": settings.warmup,
        "modes": modes,
    }


def _predict(engine: Engine, own: Inference, places: Sequence[int]) -> tuple[pd.DataFrame, int]:
    """Write and rate these rows in one go: TIMED but for row and mode, in their order, and the batches it took."""
    started = _now()
    texts: list[list[Written]] = [[] for _ in places]
    batches = 0
    for own_round in own.rounds:
        prompts = [own_round.prompt(p, [one.text for one in so_far]) for p, so_far in zip(places, texts, strict=True)]
        for batch, made in write_batches(engine, prompts, own_round.max_new_tokens, own_round.adapter):
            for at, text in zip(batch, made, strict=True):
                texts[at].append(text)
            batches += 1
    between = _now()
    stated = {at: own.stated(so_far[-1].text) for at, so_far in enumerate(texts) if so_far}
    ratings = {at: rating for at, rating in stated.items() if rating is not None}
    asked = {
        at: own.read(place, [one.text for one in texts[at]]) for at, place in enumerate(places) if at not in ratings
    }
    plan = [[list(asked)[k] for k in batch] for batch in engine.plan([len(ids) for ids, _ in asked.values()])]
    for batch in plan:
        found = decode(engine.rate([asked[at][0] for at in batch], own.rater, own.scale), own.scale)[
            own.decoding
        ].tolist()
        ratings |= dict(zip(batch, found, strict=True))
    ended = _now()
    table = pd.DataFrame(
        {
            "text": [so_far[-1].text if so_far else "" for so_far in texts],
            "rating": [ratings[at] for at in range(len(places))],
            "seconds": (ended - started) / len(places),
            "rating_seconds": (ended - between) / len(places),
            # the rating's own token counts once, by whomever it is given
            "tokens": [
                sum(one.tokens_out for one in so_far) + (at in asked and not asked[at][1])
                for at, so_far in enumerate(texts)
            ],
            "cut": [not all(one.finished for one in so_far) for so_far in texts],
        }
    )
    return table, batches or len(plan)


def _means(table: pd.DataFrame, mode: str) -> dict[str, Any]:
    alone = mode == "single"
    seconds, tokens = table["seconds"].to_numpy(dtype=float), table["tokens"].to_numpy(dtype=float)
    return {
        "n": len(table),
        "seconds": float(seconds.mean()),
        "seconds_median": float(np.median(seconds)) if alone else None,
        "seconds_se": _standard_error(seconds) if alone else None,
        "rating_seconds": float(table["rating_seconds"].to_numpy(dtype=float).mean()),
        "tokens": float(tokens.mean()),
        "tokens_se": _standard_error(tokens),
        "cut": int(table["cut"].sum()),
    }


def _standard_error(values: np.ndarray) -> float | None:
    """Of the mean; a single value has none."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
