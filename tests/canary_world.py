"""Reviews that each hold a word of their own, and a job on them that can be listened to."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.run import run

LOADER = make_loader()
CANARY = re.compile(r"canary(\d+)x")


def start(folder: Path, cache: Path, *overrides: str) -> dict[str, Any]:
    """Run the smoke preset on canaries below `folder`; what an earlier call left there is taken up."""
    reviews = folder / "reviews.csv"
    if not reviews.exists():
        pd.DataFrame(
            {
                "user": f"u{n % 12}",
                "item": f"i{(n * 5 + n // 12) % 9}",
                "name": f"Item {(n * 5 + n // 12) % 9}",
                "stars": n % 5 + 1,
                "text": f"I liked canary{n}x very much",
                "when": 1_400_000_000 + (n // 2) * 86_400,  # two reviews a day: ties
            }
            for n in range(150)
        ).to_csv(reviews, index=False)
    own = [
        "experiment=smoke",
        "dataset=custom",
        "dataset.name=canaries",
        f"dataset.reviews={reviews}",
        "dataset.columns={user_id: user, item_id: item, title: name, rating: stars, review: text, timestamp: when}",
        "dataset.category=Music",
        "dataset.prepare.k_core=2",
        "dataset.pools.total=40",
        "dataset.pools.min_history_total=2",
        "references={}",
        f"paths.outputs={folder}",
        f"paths.cache={cache}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "r4r.teacher_reach.beyond_simulator", lambda config: []
        )  # what it is shown counts, not its answers
        given = [
            *preflight([*own, *overrides], loader=LOADER),
            "++teacher.max_empty_share=1",
        ]  # a job without a teacher takes it, too
        return run(validate(compose(LOADER, "config", given)), folder)


def split(folder: Path) -> pd.DataFrame:
    """The split, by row_id, with each review's own number as `canary`."""
    rows = pd.read_parquet(next((folder / "artifacts" / "split").rglob("data.parquet")))
    return rows.assign(canary=rows["review"].str.extract(CANARY)[0].astype(int)).set_index("row_id")


def listen(patch: pytest.MonkeyPatch, expert: type, *names: str) -> list[tuple[str, int, str]]:
    """Note (name, target's row_id, prompt) of every prompt that these methods of an expert make of a case."""
    heard: list[tuple[str, int, str]] = []

    def noting(name: str, ask: Callable[..., str]) -> Callable[..., str]:
        def spy(self: Any, case: Any, *rest: Any) -> str:
            text = ask(self, case, *rest)
            heard.append((name, case.row_id, text))
            return text

        return spy

    for name in names:
        patch.setattr(expert, name, noting(name, getattr(expert, name)))
    return heard


def assert_no_leak(rows: pd.DataFrame, heard: list[tuple[str, int, str]]) -> None:
    """Each prompt holds reviews, all of train rows strictly earlier than its target: so never the target's own."""
    by_canary = rows.set_index("canary")
    assert heard
    for name, row_id, prompt in heard:
        shown = [int(n) for n in CANARY.findall(prompt)]
        assert shown, (name, row_id)
        assert rows.loc[row_id, "canary"] not in shown, (name, row_id)
        assert (by_canary.loc[shown, "timestamp"] < rows.loc[row_id, "timestamp"]).all(), (name, row_id)
        assert (by_canary.loc[shown, "split"] == "train").all(), (name, row_id)
