"""Where training curves and scores go: one W&B run a job, a CSV file, or nowhere."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import R4RError
from r4r.rows import PREDICTIONS
from r4r.stages.score_reasons import reasons_of
from r4r.stages.split import all_rows
from r4r.stages.stage import Job, Stage

Log = Callable[[Mapping[str, Any]], None]
RUN_NAME = 128  # characters at most; the notes have every override


@contextmanager
def open_logger(config: Config, folder: Path, record: Mapping[str, Any]) -> Iterator[Log]:
    """A callable that takes metrics, and for W&B tables (DataFrames) as well. Closed with the block.

    Names carry their stage, as in `reasoner/train/loss`.

    Args:
        config: the job's.
        folder: where the logger's files go.
        record: the job's, as the block leaves it: W&B runs get the row's label and the artifacts' keys from it.
    Raises:
        R4RError: the W&B run cannot be opened.
    """
    if config.logger.kind == "wandb":
        with _wandb(config, folder, record) as log:
            yield log
    elif config.logger.kind == "csv":
        with (folder / "metrics.csv").open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "name", "value"])
            count = 0

            def write(metrics: Mapping[str, Any]) -> None:
                nonlocal count
                writer.writerows([count, name, value] for name, value in metrics.items())
                file.flush()
                count += 1

            yield write
    else:
        yield lambda metrics: None


def wandb_mode(config: Config) -> str:
    """online, offline or disabled; `auto` is online where WANDB_API_KEY is set."""
    if config.logger.mode != "auto":
        return config.logger.mode
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"


@contextmanager
def _wandb(config: Config, folder: Path, record: Mapping[str, Any]) -> Iterator[Log]:
    import wandb

    mode: Any = wandb_mode(config)
    try:
        run = wandb.init(
            project=config.logger.project,
            name=_run_name(config, record["overrides"]),
            notes=" ".join(record["overrides"]),
            group=config.logger.group or config.experiment,
            dir=str(folder),
            mode=mode,
            config=config.model_dump(mode="json"),
            reinit="finish_previous",  # jobs of one sweep share a process: never let their runs merge
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
    except wandb.errors.Error as error:
        raise R4RError(f"the W&B run cannot be opened ({error}); use logger.mode=offline or logger=none") from error
    code = 1
    try:
        yield lambda metrics: run.log({name: _loggable(value) for name, value in metrics.items()})
        code = 0
    finally:
        labels = [row["label"] for row in record.get("metrics", ())]
        found = {"label": labels[0] if labels else None, "artifacts": record.get("artifacts")}
        run.config.update({name: value for name, value in found.items() if value is not None})
        run.finish(exit_code=code)


def _run_name(config: Config, overrides: Sequence[str]) -> str:
    """The job's name and, unless the user gave it one, the overrides that tell it from others of that name."""
    if any(override.startswith("name=") for override in overrides):
        return config.name
    named = {f"dataset={config.dataset.name}", f"method={config.method['name']}", f"seed={config.seed}"}
    telling = [o for o in overrides if o not in named and not o.startswith(("experiment=", "logger", "paths."))]
    return " ".join([config.name, *telling])[:RUN_NAME]


def _loggable(value: Any) -> Any:
    import wandb

    return wandb.Table(dataframe=value) if isinstance(value, pd.DataFrame) else value


def score_metrics(record: Mapping[str, Any], sweep_metric: str) -> dict[str, float]:
    """What a scored job logs: each label's errors and its reasons' scores, those of the job's own method without a
    label too, so that runs of different methods share a column, and what a search minimizes."""
    own = record["metrics"][0]
    logged: dict[str, float] = {"sweep_metric": own[sweep_metric]}
    for row in record["metrics"]:
        logged |= {f"score/{row['label']}/{row['decoding']}/{m}": row[m] for m in ("mae", "rmse")}
    logged |= {f"score/{m}": own[m] for m in ("mae", "rmse")}
    for row in record.get("reasons", {}).get("scores", ()):
        logged[f"score/{row['label']}/{row['metric']}"] = row["mean"]
        if row["label"] == own["label"]:
            logged[f"score/{row['metric']}"] = row["mean"]
    return logged


def case_tables(job: Job, finals: Sequence[Stage]) -> dict[str, pd.DataFrame]:
    """Tables of single reviews for W&B: `predictions`, a line a row and label; `cases`, of those labels that give
    reasons, with the reason and the review that it is to match."""
    rows = all_rows(job)
    made = [job.materialize(final) for final in finals]
    known = rows[["row_id", "user_id", "item_id", "title", "rating"]]
    predictions = known.merge(pd.concat([artifact.table(PREDICTIONS) for artifact in made]), on="row_id")
    tables = {"predictions": predictions}
    reasons = [table for table in (reasons_of(artifact, rows) for artifact in made) if table is not None]
    if reasons:
        tables["cases"] = predictions.merge(pd.concat(reasons).drop(columns="title"), on=["row_id", "label"])
    return tables
