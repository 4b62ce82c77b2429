"""What the split keeps of its items: titles, categories and descriptions, of every source that has them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from r4r.configuration.schema import DatasetConfig, PrepareConfig, WorldConfig
from r4r.data.items import CATEGORIES_CHARS, DESCRIPTION_CHARS, items_of
from r4r.data.prepare import prepare, split_frame
from r4r.data.simulator import build_world
from r4r.errors import DataError
from r4r.rows import ITEMS, conform

NAMES = {
    "amazon2014": ("reviewerID", "asin", "overall", "reviewText", "unixReviewTime"),
    "amazon2018": ("reviewerID", "asin", "overall", "reviewText", "unixReviewTime"),
    "amazon2023": ("user_id", "parent_asin", "rating", "text", "timestamp"),
    "yelp": ("user_id", "business_id", "stars", "text", "date"),
    "custom": ("user_id", "item_id", "rating", "review", "timestamp"),
}


def reviews(source: str) -> list[dict[str, Any]]:
    times = [1_400_000_000 + 86_400 * k for k in range(16)]
    cells = [(f"u{k * 7 % 16 // 4}", f"i{k * 7 % 4}", 1 + k % 5, f"text {k}", times[k]) for k in range(16)]
    return [dict(zip(NAMES[source], each, strict=True)) for each in cells]


def items(
    folder: Path, source: str, meta: list[dict[str, Any]] | None, found: list[dict[str, Any]], **settings: Any
) -> Any:
    """rows.ITEMS by item_id, and the counts of the metadata file."""
    (folder / "r.json").write_text("".join(json.dumps(each) + "\n" for each in found))
    if meta is not None:
        dump = repr if source == "amazon2014" else json.dumps
        text = "".join(dump(each) + "\n" for each in meta).replace("'nothing'", "nan")
        (folder / "m.json").write_text(text)
    config = {"reviews": "r.json", "meta": None if meta is None else "m.json", "prepare": {"k_core": 1}} | settings
    report = prepare(DatasetConfig(name="d", source=source, category="Thing", **config), folder, folder / "out")
    table = conform(pd.read_parquet(folder / "out" / "items.parquet"), ITEMS, "items")
    assert list(table["item_id"]) == sorted(set(pd.read_parquet(folder / "out" / "rows.parquet")["item_id"]))
    return {row.pop("item_id"): row for row in table.to_dict("records")}, report["files"].get("meta")


def test_amazon_2014_has_paths_of_categories_and_words_where_literals_belong(tmp_path):
    meta = [{"asin": f"i{k}", "title": f"T{k}", "price": "nothing"} for k in range(4)]
    meta[1] |= {
        "categories": [["Instruments", "Guitars"], ["Gifts"]],
        "description": "Six strings.\n<b>Loud</b> &amp; warm",
    }
    meta[2] |= {"description": "nothing", "categories": "nothing"}
    got, facts = items(tmp_path, "amazon2014", meta, reviews("amazon2014"))
    assert facts["lines"] == 4
    assert not facts["dropped"]
    assert got["i1"] == {
        "title": "T1", "categories": "Instruments > Guitars; Gifts", "description": "Six strings. Loud & warm",
    }  # fmt: skip
    assert got["i2"] == got["i0"] | {"title": "T2"} == {"title": "T2", "categories": "", "description": ""}


def test_amazon_2018_has_lists_and_2023_too(tmp_path):
    for source, key, field in (("amazon2018", "asin", "category"), ("amazon2023", "parent_asin", "categories")):
        meta = [{key: f"i{k}", "title": f"T{k}", field: [], "description": []} for k in range(4)]
        meta[3] |= {
            field: ["Books", "</span></span>", "Poems"],
            "description": ["One.", "", "var aPageStart = 1", "Two."],
        }
        got, _ = items(tmp_path, source, meta, reviews(source))
        assert got["i3"] == {"title": "T3", "categories": "Books > Poems", "description": "One. Two."}
        assert got["i0"]["categories"] == got["i0"]["description"] == ""


def test_yelp_has_a_line_of_categories(tmp_path):
    meta = [{"business_id": f"i{k}", "name": f"T{k}", "categories": "Bars, Food" if k else None} for k in range(4)]
    dated = [row | {"date": f"2014-01-{day:02d}"} for day, row in enumerate(reviews("yelp"), 1)]
    got, _ = items(tmp_path, "yelp", meta, dated)
    assert got["i1"] == {"title": "T1", "categories": "Bars, Food", "description": ""}
    assert got["i0"]["categories"] == ""


def test_own_files_may_tell_them_beside_the_title(tmp_path):
    own = [row | {"title": f"T {row['item_id']}", "description": "a\nb", "kind": "Wine"} for row in reviews("custom")]
    own[0]["description"] = "also told"  # of several the first in the alphabet, whatever the order
    got, _ = items(tmp_path, "custom", None, own, columns={"categories": "kind"})
    again, _ = items(tmp_path, "custom", None, own[::-1], columns={"categories": "kind"})
    assert got == again
    assert got["i1"] == {"title": "T i1", "categories": "Wine", "description": "a b"}
    meta = [
        {"item_id": f"i{k}", "title": f"M{k}", "description": "d" * 5000, "categories": "c" * 900} for k in range(4)
    ]
    got, facts = items(tmp_path, "custom", meta, reviews("custom"))
    assert got["i2"] == {"title": "M2", "categories": "c" * CATEGORIES_CHARS, "description": "d" * DESCRIPTION_CHARS}
    assert set(facts["repaired"].values()) == {4}
    pd.DataFrame(own).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(DataError, match=r"own.csv has no column sort"):
        items(tmp_path, "custom", None, own, reviews="own.csv", columns={"categories": "sort"})


def test_the_simulated_world_has_titles_alone():
    rows, _ = split_frame(build_world(WorldConfig(users=12, items=8, reviews_per_user=5)).rows, PrepareConfig(k_core=1))
    table = conform(items_of(rows), ITEMS, "items")
    assert dict(zip(table["item_id"], table["title"], strict=True)) == dict(
        zip(rows["item_id"], rows["title"], strict=True)
    )
    assert set(table["categories"]) == set(table["description"]) == {""}
