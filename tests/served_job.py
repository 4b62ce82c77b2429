"""A finished job on the tiny model, to be loaded and served."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

import r4r
from r4r.report.records import Run

SMALL = (
    "experiment=smoke",
    "~references.means",
    "~references.mf",
    "dataset.evaluate.max_rows=4",
    "dataset.pools.summaries=6",
    "dataset.pools.total=8",
    "dataset.pools.reward_share=0.25",
    "dataset.world.reviews_per_user=6",
)


def do(folder: Path, cache: Path, *overrides: str, reasons: str = "review") -> Run:
    """Do a small job, whose artifacts are shared by all jobs of the folder.

    Args:
        reasons: the source of the training reasons; "" for a strategy that has none.
    """
    source = [f"reason_source={reasons}"] * bool(reasons)
    own = (*SMALL, *source, *overrides, f"paths.outputs={folder}", f"paths.cache={cache}")
    return r4r.run_job(r4r.compose(*own))


def predicted(run: Run) -> pd.DataFrame:
    """What the job itself predicted, with reasons, by row_id."""
    return pd.read_parquet(r4r.open_artifact(run, "predict/test").path / "detail.parquet").set_index("row_id")


def shared(factory: pytest.TempPathFactory) -> Run:
    """One such job for all workers of a test session."""
    return _once(factory, "served", lambda folder: do(folder, folder / "models"))


def smoked(factory: pytest.TempPathFactory) -> Run:
    """A job of the smoke preset as it is, once for all workers of a test session."""

    def make(folder: Path) -> Run:
        return r4r.run_job(r4r.compose("experiment=smoke", f"paths.outputs={folder}", f"paths.cache={folder}/models"))

    return _once(factory, "smoked", make)


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Run]) -> Run:
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        done = next(folder.rglob("result.json"), None)
        return r4r.open_record(done) if done else make(folder)


def copied(run: Run, folder: Path) -> Path:
    """The outputs of a run in another place, to be written into; its run folder there."""
    outputs = Path(run.config["paths"]["outputs"])
    shutil.copytree(outputs, folder)
    return folder / run.path.parent.relative_to(outputs)
