"""The cells of a table: one result a row and seed, then mean and standard deviation over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r4r.metrics.significance import ALPHA
from r4r.report.compare import SCORES as METRICS
from r4r.report.compare import Effect
from r4r.report.records import Run
from r4r.report.settings import Differences
from r4r.report.tables import Row
from r4r.report.text import DAGGER, DOUBLE_DAGGER


@dataclass(frozen=True)
class Result:
    """What one job says of one row."""

    run: Run
    label: str

    def scores(self, decoding: str) -> Mapping[str, Any]:
        """n, mae, mae_se, rmse, rmse_se. A method that gives one number a row has it for every decoding."""
        own = {row["decoding"]: row for row in self.run.record["metrics"] if row["label"] == self.label}
        return own.get(decoding, own["mean"])

    def same(self, other: "Result") -> bool:
        """The same artifacts, or the same scores to the four digits of a table.

        A reference is scored again in every job it stands beside, and engines and batches round otherwise.
        """
        if self.run.method == other.run.method and self.run.artifacts == other.run.artifacts:
            return True
        mine, others = self.scores("mean"), other.scores("mean")
        return mine["n"] == others["n"] and all(abs(mine[name] - others[name]) < 5e-5 for name in METRICS)


@dataclass
class Cell:
    """A row's results on one data set.

    Attributes:
        results: by seed (of a sweep: by whatever tells a setting's repetitions apart), in order.
        p: metric -> p of the paired bootstrap against the headline row, one a seed that allows the comparison.
        effects: metric -> the difference from the headline row, pooled over seeds.
        status: ok, failed, missing, or not built.
    """

    row: Row
    results: dict[Any, Result] = field(default_factory=dict)
    p: dict[str, list[float]] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)
    status: str = "ok"

    def over_seeds(self, metric: str, decoding: str = "mean") -> tuple[float, float | None]:
        """Mean, and standard deviation (n - 1) where there are two seeds or more."""
        values = np.array([result.scores(decoding)[metric] for result in self.results.values()], dtype=float)
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None

    def standard_error(self, metric: str, decoding: str = "mean") -> float | None:
        """Over rows, averaged over seeds; None where a record has none."""
        values = [result.scores(decoding)[f"{metric}_se"] for result in self.results.values()]
        return None if None in values else float(np.mean(values))

    @property
    def n(self) -> list[int]:
        return sorted({int(result.scores("mean")["n"]) for result in self.results.values()})

    @property
    def pairs(self) -> list[int]:
        """How many pairs the ratings were learnt from, as far as the records say."""
        told = (result.run.record.get("training_pairs", {}).get(result.label) for result in self.results.values())
        return sorted({int(count) for count in told if count is not None})

    def marks(self, metric: str) -> str:
        """Whether it differs from the headline: for every seed that could be compared, and pooled over them."""
        alone = bool(self.p.get(metric)) and max(self.p[metric]) < ALPHA
        over = metric in self.effects and self.effects[metric].holm < ALPHA
        return DAGGER * alone + DOUBLE_DAGGER * over


@dataclass
class Block:
    """A table's cells on one data set.

    Attributes:
        setting: what its records have in common beside the preset's settings.
        variants: results with other settings, and how these differ from the table's.
        problems: sentences: what failed or is missing.
        notes: sentences: what the reader should know of the numbers.
        paper, published: the paper's data set that is shown beside, and its numbers.
    """

    dataset: str
    cells: list[Cell]
    setting: Differences = field(default_factory=dict)
    variants: list[tuple[Cell, Differences]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paper: str = ""
    published: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def more(self) -> dict[str, Mapping[str, Any]]:
        """Name -> title and direction of the metrics of ratings that all of the table's records have beside MAE and
        RMSE."""
        runs = [result.run for cell in self.cells for result in cell.results.values()]
        each = [run.record.get("rating_metrics") or {} for run in runs]
        return {name: own for name, own in each[0].items() if all(name in found for found in each)} if each else {}

    def cell(self, name: str) -> Cell:
        return next(cell for cell in self.cells if cell.row.name == name)
