"""What the data say of a target's item beside its title: categories and description, cut as reviews are."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from r4r.rows import Case, Schema
from r4r.stages.histories import clipped_reviews, one_line
from r4r.stages.stage import Work

ITEMS: Schema = {"item_id": "str", "title": "str", "categories": "str", "description": "str"}
FILE = "items.parquet"
SHOWN = ("categories", "description")


def with_metadata(work: Work, cases: Sequence[Case], targets: pd.DataFrame) -> list[Case]:
    """The cases with categories and description of their items, each on one line of at most
    `dataset.history.review_tokens` tokens; empty strings where the split holds none.

    Args:
        cases: of the targets, in their order.
        targets: rows.REVIEWS.

    Raises:
        DataError: the table of items lacks a column.
    """
    split = work.inputs["split"]
    if not (split.path / FILE).exists():
        return list(cases)
    wanted = set(targets["item_id"])
    items = split.table(ITEMS, FILE).drop_duplicates("item_id").set_index("item_id")
    items = items[items.index.isin(wanted)]
    known = {column: _told(work, items[column]) for column in SHOWN}
    return [
        replace(case, **{column: texts.get(item_id, "") for column, texts in known.items()})
        for case, item_id in zip(cases, targets["item_id"], strict=True)
    ]


def _told(work: Work, texts: pd.Series) -> dict[str, str]:
    """The texts that are not empty, clipped, by item_id."""
    lines = texts.map(one_line)
    lines = lines[lines != ""]
    if lines.empty:  # no need of a tokenizer
        return {}
    clipped = clipped_reviews(work.job, pd.DataFrame({"review": lines.tolist()}))
    return dict(zip(lines.index, clipped, strict=True))
