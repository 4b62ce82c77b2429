"""Table 1 as a user gets it: from a preset of one's own, and from the sweep over orders of preparation."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r4r import run
from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.overrides import check_overrides
from r4r.configuration.schema import DatasetConfig
from r4r.data.prepare import prepare
from r4r.data.table1 import COLUMNS, PAPER
from r4r.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
WINE = """\
name: wine
source: custom
category: Wine
reviews: wine.csv
columns: {user_id: taster, item_id: bottle, title: label, rating: stars, review: notes, timestamp: tasted}
"""


def orders() -> Any:
    spec = importlib.util.spec_from_file_location("orders", ROOT / "experiments" / "table1" / "orders.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_five_lines_of_yaml_are_enough_for_reviews_of_ones_own(tmp_path, capsys):
    assert len(WINE.splitlines()) == 5
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "wine.yaml").write_text(WINE)
    rows = [
        f"t{k % 6},b{k // 6},Merlot {k // 6},{1 + k % 5},dry and red {k},2024-03-{day % 28 + 1:02d}T10:{day:02d}:00Z"
        for day, k in enumerate(np.random.default_rng(0).permutation(36))
    ]
    (tmp_path / "wine.csv").write_text("taster,bottle,label,stars,notes,tasted\n" + "\n".join(rows) + "\n")
    folders = [f"paths.data={tmp_path}", f"paths.outputs={tmp_path / 'out'}"]
    loader = make_loader(str(tmp_path / "conf"))
    config = validate(compose(loader, "config", ["dataset=wine", "method=means", "logger=none", *folders]))
    record = run.run(config.model_copy(update={"target": "split"}), tmp_path / "job")
    split = Path(record["target"]["split"])
    printed = capsys.readouterr()
    table = (split / "table1.txt").read_text()
    assert table in printed.err
    assert table.splitlines()[1].split() == ["wine", *(str(json_counts(split)[column]) for column in COLUMNS)]
    assert sum(json_counts(split)[column] for column in COLUMNS[:3]) <= 36


def json_counts(split: Path) -> dict[str, int]:
    counts: dict[str, int] = json.loads((split / "table1.json").read_text())["table1"]
    assert counts == json.loads((split / "manifest.json").read_text())["rows"]
    return counts


def write_music(folder: Path) -> None:
    """Small files under the names and in the layout of dataset=music; every fourth item has no title."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    fields = ("reviewerID", "asin", "reviewText", "overall", "unixReviewTime")
    drawn = zip(60 * rng.random(900) ** 2, 40 * rng.random(900) ** 2, rng.integers(0, 900, 900), strict=True)
    lines = [
        (f"A{u:.0f}", f"B{i:.0f}", "text" if day % 50 else "", 5.0, 86_400 * int(day + 15_000)) for u, i, day in drawn
    ]
    with (folder / "reviews_Digital_Music_5.json.gz").open("w") as file:  # known by content, not by suffix
        file.writelines(json.dumps(dict(zip(fields, line, strict=True))) + "\n" for line in lines)
    with (folder / "meta_Digital_Music.json.gz").open("w") as file:
        for item in range(41):
            file.write(f"{ {'asin': f'B{item}'} | ({'title': 'T'} if item % 4 else {})!r}\n")


def test_the_sweep_over_orders_is_ranked_by_nearness_to_the_paper(tmp_path):
    write_music(tmp_path / "amazon2014" / "digital_music")
    folders = [f"paths.data={tmp_path}", f"paths.outputs={tmp_path / 'out'}"]
    loader = make_loader()
    given = ["experiment=preparation_orders", *folders]
    checked = check_overrides(given, loader, multirun=True)
    assert not checked.problems
    jobs = [variant for variant in checked.variants if "require_title=false" not in str(variant).lower()]
    assert len(jobs) == 5
    for number, overrides in enumerate(jobs):
        run.run(validate(compose(loader, "config", overrides)), tmp_path / "sweep" / str(number))
    failed = tmp_path / "sweep" / "9"
    failed.mkdir()
    record = json.loads((tmp_path / "sweep" / "0" / "result.json").read_text())
    record |= {"status": "failed", "error": {"kind": "DataError", "message": "gone\nmore"}}
    (failed / "result.json").write_text(json.dumps(record))

    rows = orders().read_sweep(tmp_path / "sweep")
    near = [row["distance"] for row in rows[:-1]]
    assert near == sorted(near)
    assert 0.9 < near[0] < near[-1] < 1  # a toy: far from the paper, and the orders do differ
    assert rows[-1]["error"].startswith("gone")
    for row in rows[:-1]:
        paper = dict(zip(COLUMNS, PAPER["music"], strict=True))
        expected = np.mean([abs(row["counts"][column] / paper[column] - 1) for column in COLUMNS])
        assert row["distance"] == pytest.approx(expected)
    text = orders().table(rows).splitlines()
    assert "43,071" in text[1]
    assert text[2].startswith(f"{near[0]:>9.1%}")
    assert {line.split("  ")[-1] for line in text[2:-1]} == {
        "require_title > require_text > dedupe > 5-core",
        "5-core > require_title > require_text > dedupe",
        "5-core > require_title > require_text > dedupe > 5-core",
        "require_title > require_text > dedupe",
    }


def test_a_folder_without_jobs_and_a_data_set_the_paper_lacks_are_told(tmp_path):
    with pytest.raises(SystemExit, match="holds no jobs"):
        orders().read_sweep(tmp_path)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "result.json").write_text('{"dataset": "wine"}')
    with pytest.raises(SystemExit, match=r"Table 1 has no 'wine'; it has music, book, yelp"):
        orders().read_sweep(tmp_path)


def test_yelp_says_what_to_fetch_and_where_to_put_it(tmp_path):
    loader = make_loader()
    dataset = validate(compose(loader, "config", ["dataset=yelp", "method=means", f"paths.data={tmp_path}"])).dataset
    assert isinstance(dataset, DatasetConfig)
    with pytest.raises(DataError) as error:
        prepare(dataset, tmp_path, tmp_path / "out")
    for part in (str(tmp_path / "yelp/yelp_academic_dataset_review.json"), "open-dataset", "R4R_DATA", "terms"):
        assert part in str(error.value)
