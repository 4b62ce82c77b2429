"""Generation-then-filter in rounds: what the Reasoner writes is filtered as the teacher's is, and taught anew."""

from binascii import crc32
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import split, start
from own_answers import CUT, says

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.errors import ConfigError
from r4r.reasons.leak import leaks_rating
from r4r.stages.deliberation import predictions_stage
from r4r.stages.reward import RewardScorer
from r4r.store.journal import Journal

LOADER = make_loader()
LEAK = "They would give it 5 stars."
SAID = ("They would love it.", "They would dislike it.", "Little is known.", LEAK, "", f"It is{CUT}")
JOB = (
    "strategy=without_step1",
    "reason_source=iterated",
    "reason_source.rounds=2",
    "reason_source.candidates=3",
    "reason_source.max_hinted=1",
    "reason_source.tau=0",
    "dataset.pools.total=29",  # 17 pairs to write about: two units
    "~references",
)


@cache
def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", ["experiment=smoke", *overrides]))


def keys(config: Config) -> set[tuple[str, str]]:
    return {(stage.name, stage.key) for stage in predictions_stage(config).upstream()}


class Stopped(BaseException):
    """A kill."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, str]:
    """The folder of a job that was killed in its first round, and that round's journal as the kill left it.

    The Reasoner says what the test wants, and the reward model rates by the text alone.
    """
    folder = tmp_path_factory.mktemp("iterated")
    append, left = Journal.append, ""

    def rated(self: RewardScorer, pairs: Any, texts: Sequence[str | None]) -> list[float]:
        return [1 + crc32(str(text).encode()) % 401 / 100 for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardScorer, "__call__", rated)
        said = says(patch, lambda seed, prompt: SAID[seed % len(SAID)])

        def deadly(self: Journal, unit: str, rows: Any) -> None:
            nonlocal left
            if said and len(self) and not left:
                left = self.path.read_text()
                raise Stopped
            append(self, unit, rows)

        patch.setattr(Journal, "append", deadly)
        with pytest.raises(Stopped):
            start(folder, model_cache, *JOB, "target=reasons")
        start(folder, model_cache, *JOB, "target=train/reasoner.lessons")
    return folder, left


def chain(folder: Path, stage: str = "reasons") -> list[Path]:
    """Folders of a stage's artifacts: the teacher's, or what follows from it, then those of each round."""
    found = [path.parent for path in (folder / "artifacts" / stage).glob("*/manifest.json")]
    return sorted(found, key=lambda path: (path / "manifest.json").stat().st_mtime)


def reasons(path: Path) -> dict[int, str]:
    table = pd.read_parquet(path / "data.parquet")
    assert table["row_id"].is_unique
    assert table["row_id"].is_monotonic_increasing
    return dict(zip(table["row_id"], table["reason"], strict=True))


def test_each_round_filters_what_the_reasoner_wrote_about_every_pair(done: tuple[Path, str]) -> None:
    folder, _ = done
    rows = split(folder)
    _, *rounds = chain(folder)
    for path in rounds:
        tried = pd.read_parquet(path / "candidates.parquet")
        assert not tried["hinted"].any()
        assert set(tried["attempt"]) <= {0, 1, 2}
        assert set(tried["reason"]) <= set(SAID[:4])  # what is cut or empty is no candidate
        assert (rows.loc[tried["row_id"], "split"] == "train").all()
        assert set(tried.loc[tried["reason"] == LEAK, "cause"]) == {"leak"}
        scored = tried[tried["cause"] != "leak"]
        assert (scored["accepted"] == (scored["s_eval"] < 0)).all()
        assert not tried.duplicated(["row_id", "attempt"]).any()
        assert tried.groupby("row_id")["accepted"].sum().max() == 1  # none is written behind the accepted one
        last = tried.sort_values("attempt").groupby("row_id").tail(1)
        assert set(tried.loc[tried["accepted"], "row_id"]) <= set(last.loc[last["accepted"], "row_id"])


def test_what_was_accepted_takes_the_place_of_what_was_there_before(done: tuple[Path, str]) -> None:
    folder, _ = done
    before, *rounds = chain(folder)
    for path in rounds:
        tried = pd.read_parquet(path / "candidates.parquet")
        own = tried[tried["accepted"]].set_index("row_id")["reason"].to_dict()
        assert own
        assert reasons(path) == reasons(before) | own
        assert not any(leaks_rating(text) for text in own.values())
        before = path
    assert len(set(reasons(rounds[-1])) - set(tried.loc[tried["accepted"], "row_id"])) > 0


def test_each_reasoner_learns_the_reasons_of_the_round_before(done: tuple[Path, str]) -> None:
    folder, _ = done
    every, taught = chain(folder), chain(folder, "train/reasoner.lessons")
    assert (len(every), len(taught), len(chain(folder, "train/reasoner"))) == (3, 3, 2)
    for path, known in zip(taught, every, strict=True):
        lessons = pd.read_parquet(path / "data.parquet")
        assert dict(zip(lessons["row_id"], lessons["response"], strict=True)) == reasons(known)


def test_a_killed_round_goes_on_where_it_was(done: tuple[Path, str]) -> None:
    """Its first unit was kept, and is not written again."""
    folder, left = done
    _, first, _ = chain(folder)
    journal = (first / "rows.jsonl").read_text()
    assert (left.count('"unit"'), journal.count('"unit"')) == (1, 2)
    assert journal.startswith(left)


def test_rounds_share_what_lies_before_them() -> None:
    own = configured("reason_source=iterated")
    twice = own.model_copy(update={"reason_source": {**own.reason_source, "rounds": 2}})
    plain, one, two = keys(configured()), keys(own), keys(twice)
    assert predictions_stage(own).label == "Reason4Rec, iterated"
    shared = {"reasons", "train/reasoner.lessons", "train/reasoner", "train/reward_model"}
    assert {name for name, _ in plain & one} >= shared  # the teacher's reasons, and the Reasoner that learnt them
    assert len({key for name, key in one & two if name == "reasons"}) == 2
    assert len({key for name, key in two if name == "train/reasoner"}) == 3
    assert {name for name, _ in two - one} == {
        *("reasons", "train/reasoner.lessons", "train/reasoner", "predict/test"),
        *("write/reasoner/experts", "write/reasoner/test", "train/predictor.lessons", "train/predictor"),
    }


def test_a_strategy_without_a_reasoner_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy=onestep does not begin with one but with onestep"):
        predictions_stage(configured("strategy=onestep", "reason_source=iterated"))


def test_preferences_may_be_learnt_from_what_the_reasoner_wrote() -> None:
    final = predictions_stage(configured("strategy=dpo", "reason_source=iterated"))
    [preferences] = [stage for stage in final.upstream() if stage.name == "train/reasoner.preferences"]
    assert preferences.candidates.number == 1
