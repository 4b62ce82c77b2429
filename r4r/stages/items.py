"""What the data say of a target's item beside its title: categories and description, cut as reviews are."""

from dataclasses import dataclass, fields, replace

import pandas as pd

from r4r.configuration.schema import Config
from r4r.rows import ITEMS, Case
from r4r.stages.histories import Cut, Histories, one_line
from r4r.stages.identity import tokenizer_identity
from r4r.stages.stage import Work

FILE = "items.parquet"  # of the split


@dataclass(frozen=True)
class Described(Histories):
    """The same histories, each case with categories and description of its item: a line each, empty where the split
    holds none.

    Attributes:
        metadata: the limit of each of the two.
    """

    metadata: Cut | None = None

    def cases(self, work: Work, targets: pd.DataFrame) -> list[Case]:
        """
        Raises:
            DataError: the split's table of items lacks a column.
        """
        cases, split = super().cases(work, targets), work.of(self.split)
        if not (split.path / FILE).exists():
            return cases
        items = split.table(ITEMS, FILE).drop_duplicates("item_id").set_index("item_id")
        items = items[items.index.isin(set(targets["item_id"]))]
        categories, descriptions = self._lines(work, items["categories"]), self._lines(work, items["description"])
        return [
            replace(case, categories=categories.get(item, ""), description=descriptions.get(item, ""))
            for case, item in zip(cases, targets["item_id"], strict=True)
        ]

    def _lines(self, work: Work, texts: pd.Series) -> dict[str, str]:
        """The texts that are not empty, by item_id."""
        assert self.metadata is not None
        lines = {item: one_line(text) for item, text in texts.items()}
        return {str(item): self.metadata(work.job.chat, line) for item, line in lines.items() if line}


def described(shown: Histories, config: Config) -> Described:
    """The histories with the metadata of each target's item."""
    same = {field.name: getattr(shown, field.name) for field in fields(Histories)}
    return Described(**same, metadata=Cut(config.dataset.history.review_tokens, tokenizer_identity(config)))
