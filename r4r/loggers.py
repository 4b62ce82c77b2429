"""Where training curves and scores go: one W&B run a job, a CSV file, both, or nowhere."""

import io
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config
from r4r.curves import Curves
from r4r.errors import R4RError
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rows import PREDICTIONS
from r4r.spreadsheet import write_row
from r4r.stages.score_reasons import reasons_of
from r4r.stages.split import all_rows
from r4r.stages.stage import Job
from r4r.store.artifact import Store

Log = Callable[[Mapping[str, Any]], None]
RUN_NAME = 128  # characters at most; the notes have every override
TAG = 64  # characters of a tag at most
UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]+")  # in the name of a W&B artifact
ON = {"1", "true", "t", "yes", "y", "on"}  # of an environment variable
MODES = ("online", "offline", "disabled", "shared")  # of WANDB_MODE, beside its old names
OLD_MODES = {"dryrun": "offline", "run": "online"}


@contextmanager
def open_logger(config: Config, folder: Path, record: Mapping[str, Any]) -> Iterator[Log]:
    """A callable that takes metrics, and for W&B tables (DataFrames) and pictures (PNG) as well. Closed with the block.

    Names carry their stage, as in `reasoner/train/loss`. Whatever logs, a picture of each training's losses is left in
    the folder.

    Args:
        config: the job's.
        folder: where the logger's files go.
        record: the job's, as the block leaves it: W&B runs get the row's label and the artifacts' keys from it.
    Raises:
        R4RError: the W&B run cannot be opened.
    """
    logs: list[Log] = []
    with ExitStack() as opened:
        if config.logger.wandb:
            logs.append(opened.enter_context(_wandb(config, folder, record)))
        if config.logger.csv:
            logs.append(opened.enter_context(_csv(folder)))
        if logs:
            logs.append(opened.enter_context(_pictures(folder)))

        def log(metrics: Mapping[str, Any]) -> None:
            for one in logs:
                one(metrics)

        yield log


@contextmanager
def _csv(folder: Path) -> Iterator[Log]:
    """Numbers into `metrics.csv`, a line each: step, name, value."""
    with (folder / "metrics.csv").open("a", newline="", encoding="utf-8") as file:
        if not file.tell():
            write_row(file, ["step", "name", "value"])
        count = 0

        def write(metrics: Mapping[str, Any]) -> None:
            nonlocal count
            for name, value in metrics.items():
                if not isinstance(value, pd.DataFrame | bytes):
                    write_row(file, [count, name, value])
            file.flush()
            count += 1

        yield write


@contextmanager
def _pictures(folder: Path) -> Iterator[Log]:
    """Loss curves, drawn at the end, of a job that failed as well."""
    curves = Curves()
    try:
        yield curves.take
    except Exception:
        with suppress(OSError):  # the job has an error of its own
            curves.draw(folder)
        raise
    curves.draw(folder)


def wandb_mode(config: Config) -> str:
    """online, offline or disabled. `auto` leaves it to WANDB_DISABLED and WANDB_MODE; without them, it is online where
    WANDB_API_KEY is set.

    Raises:
        R4RError: WANDB_MODE is none that W&B knows.
    """
    if config.logger.mode != "auto":
        return config.logger.mode
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ON:
        return "disabled"
    told = os.environ.get("WANDB_MODE", "").strip().lower()
    if told:
        mode = OLD_MODES.get(told, told)
        if mode not in MODES:
            raise R4RError(f"WANDB_MODE={told}: W&B knows {', '.join((*MODES, *OLD_MODES))}; set one, or logger.mode")
        return mode
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"


def wandb_group(config: Config, record: Mapping[str, Any]) -> str | None:
    """`logger.group`, else the preset; of several (`experiment=[table4,smoke]`) the first, which the others change."""
    presets = record.get("choices", {}).get("experiment") or config.experiment
    return config.logger.group or (presets[0] if isinstance(presets, list) else presets)


_RUN_IDS: set[str] = set()  # that the environment named, and a job of this process has taken


@contextmanager
def _wandb(config: Config, folder: Path, record: Mapping[str, Any]) -> Iterator[Log]:
    import wandb

    mode: Any = wandb_mode(config)
    asked = os.environ.get("WANDB_RUN_ID")
    # of the jobs of one process, the first alone is the run that the environment names
    other: dict[str, Any] = {"id": secrets.token_hex(4)} if asked in _RUN_IDS else {}
    _RUN_IDS.add(asked or "")
    try:
        run = wandb.init(
            **other,
            project=config.logger.project,
            name=_run_name(config, record["overrides"]),
            notes=" ".join(record["overrides"]),
            group=wandb_group(config, record),
            job_type=config.logger.job_type or (config.target if config.target != "result" else config.method["name"]),
            tags=wandb_tags(config, record),
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
        if config.logger.log_artifacts:
            for stage, key in (record.get("artifacts") or {}).items():
                _log_artifact(run, Store(config.paths.artifacts), stage, key)
        code = 0
    finally:
        labels = [row["label"] for row in record.get("metrics", ())]
        found = {"label": labels[0] if labels else None, "artifacts": record.get("artifacts")}
        run.config.update({name: value for name, value in found.items() if value is not None})
        run.finish(exit_code=code)


def wandb_tags(config: Config, record: Mapping[str, Any]) -> list[str]:
    """What to filter runs by: presets, method, data set, base model, and the user's own tags."""
    presets = record.get("choices", {}).get("experiment") or config.experiment or ()
    own = [*([presets] if isinstance(presets, str) else presets), config.method["name"], config.dataset.name]
    found = [*own, config.llm.name, *config.logger.tags]
    return list(dict.fromkeys(text for tag in found if (text := str(tag).strip()[:TAG])))


def _log_artifact(run: Any, store: Store, stage: str, key: str) -> None:
    """An artifact of the job as one of W&B's, named by stage and key; one that W&B has already is not sent again."""
    import wandb

    found = store.find(stage, key)
    if found is None:
        say(f"  {stage} {key} is not in the store any more, and not logged")
        return
    told = {name: value for name, value in found.manifest.items() if name != "contents"}
    logged = wandb.Artifact(UNUSUAL.sub("-", f"{stage}-{key}"), type=stage.partition("/")[0], metadata=told)
    logged.add_dir(str(found.path))
    run.log_artifact(logged)


def _run_name(config: Config, overrides: Sequence[str]) -> str:
    """The job's name and, unless the user gave it one, the overrides that tell it from others of that name."""
    if any(override.startswith("name=") for override in overrides):
        return config.name
    named = {f"dataset={config.dataset.name}", f"method={config.method['name']}", f"seed={config.seed}"}
    telling = [o for o in overrides if o not in named and not o.startswith(("experiment=", "logger", "paths."))]
    return " ".join([config.name, *telling])[:RUN_NAME]


def _loggable(value: Any) -> Any:
    import wandb

    if isinstance(value, bytes):
        from PIL import Image

        return wandb.Image(Image.open(io.BytesIO(value)))
    if isinstance(value, pd.DataFrame):  # W&B itself would look up each cell by itself, which takes seconds
        columns: list[str | int] = list(value.columns)
        return wandb.Table(columns=columns, data=value.astype(object).to_numpy())
    return value


def score_metrics(record: Mapping[str, Any], sweep_metric: str) -> dict[str, float]:
    """What a scored job logs: each label's errors with their standard errors, its p against the job's own method, and
    its reasons' scores; those of the own method without a label too, so that runs of different methods share a column;
    the number of rows; the tokens that were trained on; and what a search minimizes. What a single row has not got, a
    standard error, is left out."""
    own = record["metrics"][0]
    names = ("mae", "rmse", *(record.get("rating_metrics") or {}))
    errors = [column for name in names for column in (name, f"{name}_se")]
    logged: dict[str, float | None] = {"sweep_metric": own[sweep_metric], "score/n": own["n"]}
    for row in record["metrics"]:
        logged |= {f"score/{row['label']}/{row['decoding']}/{m}": row[m] for m in errors}
    logged |= {f"score/{m}": own[m] for m in errors}
    for entry in record["comparisons"]:
        logged |= {f"score/{entry['label']}/p_{m}": entry[m]["p"] for m in names}
    for row in record.get("reasons", {}).get("scores", ()):
        found = {row["metric"]: row["mean"], f"{row['metric']}_se": row["se"]}
        logged |= {f"score/{row['label']}/{name}": value for name, value in found.items()}
        if row["label"] == own["label"]:
            logged |= {f"score/{name}": value for name, value in found.items()}
    logged["cost/train_tokens"] = record["cost"]["total"]["train_tokens"]
    return {name: value for name, value in logged.items() if value is not None}


def case_tables(
    job: Job, finals: Sequence[Stage], predicted: Mapping[str, Mapping[str, str]]
) -> dict[str, pd.DataFrame]:
    """Tables of single reviews for W&B: `predictions`, a line a row and label; `cases`, of those labels that give
    reasons, with the reason and the review that it is to match.

    Args:
        predicted: label in this job -> key of the artifact that holds its predictions, and its label there, as in the
            record.
    """
    labels = {(origin["key"], origin["label"]): label for label, origin in predicted.items()}

    def shown(final: Stage, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(label=[labels[final.key, label] for label in table["label"]])

    rows = all_rows(job)
    made = [(final, job.materialize(final)) for final in finals]
    known = rows[["row_id", "user_id", "item_id", "title", "rating"]]
    predictions = known.merge(pd.concat([shown(f, artifact.table(PREDICTIONS)) for f, artifact in made]), on="row_id")
    tables = {"predictions": predictions}
    reasons = [shown(f, table) for f, artifact in made if (table := reasons_of(artifact, rows)) is not None]
    if reasons:
        tables["cases"] = predictions.merge(pd.concat(reasons).drop(columns="title"), on=["row_id", "label"])
    return tables
