"""The Python entrance: compose a configuration, run a job, open what it left, load its pipeline."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r4r.configuration.schema import Config
    from r4r.report.records import Run
    from r4r.serve.pipeline import Pipeline
    from r4r.store.artifact import Artifact


@dataclass(frozen=True)
class Composed:
    """A job's configuration.

    Attributes:
        config: every setting, typed and checked.
        overrides: those it was composed with.
        choices: the option of each config group.
    """

    config: "Config"
    overrides: tuple[str, ...]
    choices: Mapping[str, Any]


def compose(*overrides: str, config_dir: str | Path | None = None) -> Composed:
    """A job's configuration, as the command line composes it: `compose("strategy=onestep", "seed=1")`.

    Args:
        overrides: as after `r4r`, each a string of its own.
        config_dir: folder of your own options.

    Raises:
        ConfigError: with every fault found; also for a sweep, which is many jobs.
    """
    from omegaconf import OmegaConf

    from r4r.configuration.checks import validate
    from r4r.configuration.composing import compose as composed
    from r4r.configuration.composing import make_loader
    from r4r.configuration.preflight import preflight
    from r4r.errors import ConfigError
    from r4r.teacher_reach import beyond_simulator

    if flags := [text for text in overrides if text.startswith("-")]:
        raise ConfigError([f"{flags[0]}: is an option of the command line; here stand overrides alone"])
    folder = None if config_dir is None else str(Path(config_dir).expanduser())
    before = [] if folder is None else ["--config-dir", folder]
    loader = make_loader(folder)
    spelt = preflight([*before, *overrides], beyond_simulator, loader)[len(before) :]
    cfg = composed(loader, "config", spelt)
    choices = {str(group): option for group, option in OmegaConf.select(cfg, "hydra.runtime.choices").items()}
    return Composed(validate(cfg, further=beyond_simulator), tuple(spelt), choices)


_ONE_JOB = threading.RLock()


def run_job(composed: Composed, folder: str | Path | None = None) -> "Run":
    """Do a job in this process, as the command `r4r` does; what the store has already is not built again.

    Jobs of several threads follow one another: PyTorch's random numbers are those of the process.

    Args:
        folder: gets the record, `result.json`; None: a new one below the outputs folder.

    Returns:
        The record.
    Raises:
        R4RError: the job cannot be done as configured; the record says why.
        ConfigError: it is to take several processes, which the command `r4r` starts.
    """
    from r4r.errors import ConfigError
    from r4r.launch import processes_to_start
    from r4r.ranks import this_rank
    from r4r.run import run

    config = composed.config
    if config.plan:
        raise ConfigError(["plan=true: prints what a job would do; use the command r4r for it"])
    if processes_to_start(config.trainer, this_rank()) > 1:
        raise ConfigError([f"trainer.devices={config.trainer.devices}: takes several processes; use the command r4r"])
    if folder is None:
        now = datetime.now()
        folder = config.paths.outputs / "runs" / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}"
    place = Path(folder).expanduser().absolute()
    os.environ.setdefault("MPLBACKEND", "Agg")
    with _ONE_JOB:
        run(config, place, composed.overrides, composed.choices)
    return open_record(place)


def open_record(place: str | Path) -> "Run":
    """The record of a run.

    Args:
        place: its folder, or its `result.json`.

    Returns:
        `record` is all of it, as plain values; `config`, `artifacts` (key of each stage's artifact) and others by name.
    Raises:
        DataError: there is none, several are there, or it cannot be read.
    """
    from r4r.serve.finished import open_run

    return open_run(place)


def open_artifact(run: "Run | str | Path", stage: str) -> "Artifact":
    """What a stage of a run has made.

    Args:
        run: the record, or as of `open_record`.
        stage: its name, as `r4r plan=true` lists it: `summaries`, `train/reasoner`, `predict/test`.

    Returns:
        `path` is its folder, `manifest` says what it took; tables are parquet files there.
    Raises:
        DataError: the run has no such stage, or its artifact is gone or damaged.
    """
    from r4r.errors import DataError
    from r4r.report.compare import damaged, find
    from r4r.report.records import Run

    record = run if isinstance(run, Run) else open_record(run)
    if stage not in record.artifacts:
        raise DataError(f"{record.path}: has no stage {stage!r}; it has {', '.join(sorted(record.artifacts))}")
    found: Artifact | None = find(record, stage)
    if found is None:
        damage = damaged(record, stage)
        why = f"is damaged ({damage})" if damage else "is no longer in the store"
        raise DataError(f"{stage}/{record.artifacts[stage]} {why}; run the job again")
    return found


def load(place: "Run | str | Path", artifacts: str | Path | None = None, plugins: Sequence[str] = ()) -> "Pipeline":
    """The trained pipeline of a finished run: its base model and adapters, loaded once. Nothing is trained or paid.

    Args:
        place: the run's folder, its `result.json`, or its record.
        artifacts: the store, where it lies elsewhere than the record says.
        plugins: modules of your own whose classes the record may name; their code runs.

    Raises:
        DataError: there is no record, or the run is not finished.
        StoreError: an artifact that is needed is missing or damaged; the text names it and the command that makes it.
        ConfigError: the run's method is no deliberation, or the configuration is none of this r4r's.
        ModelError: the base model cannot be had.
    """
    from r4r.report.records import Run
    from r4r.serve.finished import finished_job
    from r4r.serve.pipeline import Pipeline

    run = place if isinstance(place, Run) else open_record(place)
    return Pipeline(finished_job(run, artifacts, plugins), run)
