"""Field names of the raw formats, one layout a source."""

from collections.abc import Mapping
from dataclasses import dataclass

from r4r.errors import DataError

CANONICAL = ("user_id", "item_id", "title", "rating", "review", "timestamp")
OPTIONAL = ("categories", "description")  # of the item; read where a file has them


@dataclass(frozen=True)
class Layout:
    """Where a source keeps what a row needs.

    Attributes:
        item: names in order of preference; the first one present counts.
        title: the review record's own title of the item; None where only the metadata file has titles.
        categories, description: of an item, in the same file as its title; None where the source has none.
        milliseconds: timestamps are in milliseconds by definition, so that converting them is no repair.
        literal_meta: metadata lines are Python literals, not JSON (the official 2014 files).
    """

    user: str
    item: tuple[str, ...]
    rating: str
    review: str
    timestamp: str
    title: str | None
    meta_item: tuple[str, ...]
    meta_title: str
    categories: str | None
    description: str | None
    milliseconds: bool = False
    literal_meta: bool = False


_AMAZON = ("reviewerID", ("asin",), "overall", "reviewText", "unixReviewTime", None, ("asin",), "title")
LAYOUTS: Mapping[str, Layout] = {
    "amazon2014": Layout(*_AMAZON, "categories", "description", literal_meta=True),
    "amazon2018": Layout(*_AMAZON, "category", "description"),
    "amazon2023": Layout(
        "user_id",
        ("parent_asin", "asin"),
        "rating",
        "text",
        "timestamp",
        None,
        ("parent_asin", "asin"),
        "title",
        "categories",
        "description",
        milliseconds=True,
    ),
    "yelp": Layout(
        "user_id", ("business_id",), "stars", "text", "date", None, ("business_id",), "name", "categories", None
    ),
}


def layout_of(source: str, columns: Mapping[str, str], has_meta: bool) -> Layout:
    """The layout of a source; `columns` maps canonical names to the file's own (source=custom only).

    Raises:
        DataError: `columns` names what is no canonical column, or is given for a source with a fixed layout.
    """
    if source in LAYOUTS:
        if columns:
            raise DataError(f"dataset.columns is for source=custom; the fields of source={source} are fixed")
        return LAYOUTS[source]
    unknown = sorted(set(columns) - {*CANONICAL, *OPTIONAL})
    if unknown:
        raise DataError(
            f"dataset.columns maps {', '.join(unknown)}, which no row has; it maps canonical columns "
            f"({', '.join((*CANONICAL, *OPTIONAL))}) to the columns of the file"
        )
    name = {canonical: columns.get(canonical, canonical) for canonical in (*CANONICAL, *OPTIONAL)}
    return Layout(
        name["user_id"],
        (name["item_id"],),
        name["rating"],
        name["review"],
        name["timestamp"],
        None if has_meta else name["title"],
        (name["item_id"],),
        name["title"],
        name["categories"],
        name["description"],
    )
