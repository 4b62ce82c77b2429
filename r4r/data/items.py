"""What is known of an item beside its reviews: title, categories, description, each one line of clean text."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from r4r.data.layouts import Layout
from r4r.data.raw_checks import TITLE_CHARS, Tally, first_of
from r4r.data.values import Bad, cut, heading, identifier, is_page_source, one_line
from r4r.rows import ITEMS, conform

Item = tuple[str, str, str, str]  # item_id, title, categories, description

CATEGORIES_CHARS, DESCRIPTION_CHARS = 500, 2_000  # longer ones are cut, and counted


def meta_item(
    line: int, fields: Mapping[str, Any] | str, layout: Layout, tally: Tally, strict: bool, wanted: set[str]
) -> Item | None:
    """What a metadata line tells of an item, "" where it is silent.

    Args:
        wanted: ids of the items that are of use.

    Returns:
        None where the line tells of another item, or was dropped (and counted).
    """
    tally.lines += 1
    note = partial(tally.repair, line=line)
    try:
        if isinstance(fields, str):
            raise Bad(fields)
        item = identifier(first_of(fields, layout.meta_item), layout.meta_item[0], note)
        if item not in wanted:
            return None
        title = heading(fields.get(layout.meta_title), TITLE_CHARS, note)
    except Bad as bad:
        tally.drop(str(bad), line, strict)
        return None
    if is_page_source(title):
        note("title is page source: left empty")
        title = ""
    return item, title, *details(line, fields, layout, tally)


def details(line: int, fields: Mapping[str, Any], layout: Layout, tally: Tally) -> tuple[str, str]:
    """Categories and description of a record's item, each in one line; "" where the record has none."""
    note = partial(tally.repair, line=line)
    categories = one_line(fields.get(layout.categories), " > ", note) if layout.categories else ""
    description = one_line(fields.get(layout.description), " ", note) if layout.description else ""
    return (
        cut(categories, CATEGORIES_CHARS, "categories", note),
        cut(description, DESCRIPTION_CHARS, "description", note),
    )


def items_of(rows: pd.DataFrame) -> pd.DataFrame:
    """rows.ITEMS of the items of prepared rows (rows.REVIEWS), of which nothing but the title is known."""
    titles = rows.groupby("item_id", sort=True)["title"].min().reset_index()
    return conform(titles.assign(categories="", description=""), ITEMS, "items")


def items_sql(rows: str, about: str) -> str:
    """SQL: rows.ITEMS of the items that have rows. Of several texts, the first in the alphabet."""
    texts = ", ".join(f"coalesce(min(nullif({name}, '')), '') AS {name}" for name in ("categories", "description"))
    return f"""
        SELECT item_id, title, coalesce(categories, '') AS categories, coalesce(description, '') AS description
        FROM (SELECT item_id, coalesce(min(nullif(title, '')), '') AS title FROM {rows} GROUP BY item_id)
        LEFT JOIN (SELECT item_id, {texts} FROM {about} GROUP BY item_id) USING (item_id) ORDER BY item_id
    """
