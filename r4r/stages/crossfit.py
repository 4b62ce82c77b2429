"""Cross-fitting: the Predictor learns from reasons that each were written by a Reasoner that did not learn that pair.

The paper's Predictor learns from what the Reasoner writes for its own training pairs. Where the Reasoner knows these by
heart, such reasons are better than any that it writes for a new pair, and the Predictor learns to trust them too much.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import DataError
from r4r.pipeline.stage import Stage
from r4r.rows import TEXTS, Lesson
from r4r.stages.histories import Histories
from r4r.stages.lessons import Pairs, StepLessons, Thought
from r4r.stages.mounted import Asked, Mounted
from r4r.stages.stage import Work
from r4r.stages.train import training
from r4r.stages.written import Written
from r4r.store.artifact import write_table


@dataclass(frozen=True)
class Fold:
    """The pairs inside of one fold, or outside of it.

    Attributes:
        pairs: those that are meant.
        whole: those that are divided into folds, at random by the seed and into equal parts.
        number: of the fold, from 0.
    """

    pairs: Pairs
    whole: Pairs
    number: int
    folds: int
    seed: int
    inside: bool

    def rows(self, work: Work) -> pd.DataFrame:
        """The pairs' rows (rows.REVIEWS), by row_id.

        Raises:
            DataError: there are fewer pairs than folds.
        """
        whole, rows = np.sort(self.whole.rows(work)["row_id"].to_numpy()), self.pairs.rows(work)
        if len(whole) < self.folds:
            raise DataError(f"{len(whole)} training pairs make no {self.folds} folds; lower method.folds")
        mine = np.random.default_rng(self.seed).permutation(whole)[self.number :: self.folds]
        return rows[rows["row_id"].isin(mine) == self.inside].reset_index(drop=True)

    def lessons(self, work: Work) -> list[Lesson]:
        """What is known of each pair, in the rows' order."""
        known = dict(zip(self.pairs.rows(work)["row_id"], self.pairs.lessons(work), strict=True))
        return [known[row_id] for row_id in self.rows(work)["row_id"]]


@dataclass(frozen=True)
class CrossfitTexts(Stage):
    """Artifact: `data.parquet` (rows.TEXTS) of the training pairs, from the folds.

    Attributes:
        place: of the step that wrote them.
    """

    place: str
    folds: tuple[Written, ...]

    @property
    def name(self) -> str:
        return f"write/{self.place}/experts"

    def build(self, work: Work) -> dict[str, Any]:
        tables = [work.of(fold).table(TEXTS) for fold in self.folds]
        table = pd.concat(tables, ignore_index=True).sort_values("row_id")
        write_table(work.folder / "data.parquet", table, TEXTS)
        return {"texts": len(table), "folds": [len(part) for part in tables]}


def crossfit(
    config: Config,
    own: Asked,
    shown: Histories,
    taught: Pairs,
    whole: Pairs,
    thoughts: tuple[Thought, ...],
    summarised: Histories | None,
    llm: Mapping[str, Any],
    folds: int,
) -> CrossfitTexts:
    """What a step writes about the training pairs, a fold by an expert that learnt from the other folds.

    Args:
        taught: the pairs that the step learns from.
        whole: those that it writes about.
    """
    written = []
    for number in range(folds):
        mine = Asked(own.node, f"{own.place}_fold{number + 1}")
        outside = Fold(taught, whole, number, folds, config.seed, inside=False)
        lessons = StepLessons(mine, shown, outside, thoughts, summarised, llm)  # type: ignore[arg-type]
        trained = replace(training(config, own.place, lessons), expert=Mounted(own.node, mine.place))
        inside = replace(outside, pairs=whole, inside=True)
        written.append(Written(mine, trained, shown, inside, thoughts, llm, own.max_new_tokens))
    return CrossfitTexts(own.place, tuple(written))
