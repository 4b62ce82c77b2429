"""What a method without a language model is: a class that predicts from the split's rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import EvaluateConfig
from r4r.errors import DataError
from r4r.methods import RowsDiffer
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.rows import PREDICTIONS, REVIEWS
from r4r.scale import Scale
from r4r.stages.cases import rows_of
from r4r.stages.split import Split, evaluated_rows, split_stage
from r4r.stages.stage import Job, Work
from r4r.store.artifact import write_table


@dataclass(frozen=True)
class Given:
    """What a baseline predicts from.

    Attributes:
        rows: the whole split (rows.REVIEWS).
        wanted: those of them to predict.
        past: those of them that a history may show.
        scale: of the ratings.
        accelerator: cpu, gpu or auto.
        log: takes metrics by name.
        keyed_seed: the job's; None where the baseline does not say that it is `seeded`.
    """

    rows: pd.DataFrame
    wanted: pd.DataFrame
    past: pd.DataFrame
    scale: Scale
    accelerator: str
    log: Callable[[dict[str, float]], None]
    keyed_seed: int | None = None

    @property
    def seed(self) -> int:
        """The job's.

        Raises:
            DataError: the baseline is not `seeded`, so that all seeds would have one artifact.
        """
        if self.keyed_seed is None:
            raise DataError("a baseline whose predictions follow given.seed says so: set seeded = True in its class")
        return self.keyed_seed


class Baseline:
    """Subclasses keep their settings as attributes, all of which are in the artifact's key, and say how they predict.

    Attributes:
        version: raised when the code changes the predictions.
        takes: what a build takes, in words.
        seeded: whether predictions follow the job's seed.
        reads_past: whether predictions follow `dataset.history.source`: `Given.past` is of the train rows where not.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"dataset"})
    version: ClassVar[int] = 1
    takes: ClassVar[str] = "seconds"
    seeded: ClassVar[bool] = False
    reads_past: ClassVar[bool] = False
    name: str

    def predictions(self, given: Given) -> tuple[pd.DataFrame, dict[str, Any]]:
        """rows.PREDICTIONS of the wanted rows (see `r4r.methods.point_predictions`), and facts for the manifest, which
        may be none: {}."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What tells its predictions from others'."""
        told = dict(getattr(self, "__dict__", {}))
        for kind in type(self).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                private = slot.startswith("__") and not slot.endswith("__")
                name = f"_{kind.__name__.lstrip('_')}{slot}" if private else slot
                if slot not in ("__dict__", "__weakref__") and hasattr(self, name):
                    told[name] = getattr(self, name)
        return {"class": type(self).__name__, "version": self.version, **told}

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        config, dataset = job.config, job.config.dataset
        return BaselinePredictions(
            self,
            split_stage(config),
            dataset.evaluate,
            config.seed if self.seeded else None,
            dataset.history.source if self.reads_past else None,
            Unkeyed(config.trainer.accelerator),
        )


@dataclass(frozen=True)
class BaselinePredictions(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS) of the evaluated rows.

    Attributes:
        seed: None where the method draws nothing.
        source: the splits that a history may show; None where the method reads none.
        accelerator: a GPU adds up in an order of its own, which is no other result.
    """

    method: Baseline
    split: Split
    evaluate: EvaluateConfig
    seed: int | None
    source: str | None
    accelerator: Unkeyed

    @property
    def name(self) -> str:
        return f"predict/{self.method.name}"

    @property
    def estimate(self) -> str:
        return self.method.takes

    def code(self) -> Iterator[Any]:
        yield from (type(self), type(self.method))

    def build(self, work: Work) -> dict[str, Any]:
        rows = work.of(self.split).table(REVIEWS)
        wanted, past = evaluated_rows(self.evaluate, rows), rows_of(self.source or "train", rows)
        given = Given(rows, wanted, past, self.split.scale, self.accelerator.value, work.job.log, self.seed)
        where = f"{type(self.method).__module__}.{type(self.method).__qualname__}.predictions"
        try:
            made = self.method.predictions(given)
        except RowsDiffer as error:
            raise DataError(f"{where}: {error}") from error
        match made:
            case (pd.DataFrame() as table, dict() as facts):
                pass
            case _:
                raise DataError(
                    f"{where}: should return a table of predictions and a dictionary of facts, as in table, {{}}"
                )
        write_table(work.folder / "data.parquet", table, PREDICTIONS)
        return {"predictions": len(table), **facts}
