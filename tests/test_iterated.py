"""Generation-then-filter in rounds: what the Reasoner writes is filtered as the teacher's, and taught to the next one."""

from binascii import crc32
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import split, start
from own_answers import CUT, says

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
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
    "dataset.pools.total=40",
    "dataset.history.prompt=3",
)


def configured(*overrides: str) -> Any:
    return validate(compose(LOADER, "config", ["experiment=smoke", *overrides]))


def keys(*overrides: str) -> set[tuple[str, str]]:
    return {(stage.name, stage.key) for stage in predictions_stage(configured(*overrides)).upstream()}


class Stopped(BaseException):
    """A kill."""


def listened(patch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A Reasoner that says what the test wants, and a reward model that rates by the text alone."""
    patch.setattr(
        RewardScorer,
        "__call__",
        lambda self, pairs, texts: [1 + crc32(str(text).encode()) % 401 / 100 for text in texts],
    )
    return says(patch, lambda seed, prompt: SAID[seed % len(SAID)])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any]:
    """The folder of a job, its stages of reasons (the teacher's, and each round's) and the record."""
    folder = tmp_path_factory.mktemp("iterated")
    with pytest.MonkeyPatch.context() as patch:
        said = listened(patch)
        with pytest.raises(Stopped):  # as the second of two units of the first round's is kept
            with pytest.MonkeyPatch.context() as deadly:
                append = Journal.append

                def once(self: Journal, unit: str, rows: Any) -> None:
                    if said and len(self):
                        raise Stopped
                    append(self, unit, rows)

                deadly.setattr(Journal, "append", once)
                start(folder, model_cache, *JOB, "target=reasons")
        record = start(folder, model_cache, *JOB)
    return folder, record, said


def chain(folder: Path, record: Any) -> list[Path]:
    """Folders of the reasons: the teacher's, the first round's, the second's."""
    found = {path.name: path for path in (folder / "artifacts" / "reasons").iterdir() if path.is_dir()}
    last = found.pop(record["artifacts"]["reasons"])
    first = [path for path in found.values() if not pd.read_parquet(path / "candidates.parquet")["hinted"].any()]
    [middle] = [path for path in first if "number: 1" in (path / "config.yaml").read_text()]
    [teachers] = [path for path in found.values() if "number:" not in (path / "config.yaml").read_text()]
    return [teachers, middle, last]


def reasons(path: Path) -> dict[int, str]:
    table = pd.read_parquet(path / "data.parquet")
    assert table["row_id"].is_unique
    assert table["row_id"].is_monotonic_increasing
    return dict(zip(table["row_id"], table["reason"], strict=True))


def test_each_round_filters_what_the_reasoner_wrote_about_every_pair(done: tuple[Path, Any, Any]) -> None:
    folder, record, _ = done
    rows = split(folder)
    _, *rounds = chain(folder, record)
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


def test_what_was_accepted_takes_the_place_of_what_was_there_before(done: tuple[Path, Any, Any]) -> None:
    folder, record, _ = done
    before, *rounds = chain(folder, record)
    for path in rounds:
        tried = pd.read_parquet(path / "candidates.parquet")
        own = tried[tried["accepted"]].set_index("row_id")["reason"].to_dict()
        assert 0 < len(own)
        assert reasons(path) == reasons(before) | own
        assert not any(leaks_rating(text) for text in own.values())
        before = path
    assert len(set(reasons(rounds[-1])) - set(tried.loc[tried["accepted"], "row_id"])) > 0


def test_the_last_reasoner_learns_the_last_rounds_reasons(done: tuple[Path, Any, Any]) -> None:
    folder, record, _ = done
    key = record["artifacts"]["train/reasoner.lessons"]
    lessons = pd.read_parquet(folder / "artifacts" / "train/reasoner.lessons" / key / "data.parquet")
    *_, last = chain(folder, record)
    assert dict(zip(lessons["row_id"], lessons["response"], strict=True)) == reasons(last)
    assert len(list((folder / "artifacts" / "train/reasoner").glob("*/manifest.json"))) == 3
    assert record["metrics"][0]["label"] == "Reason4Rec w/o step 1, iterated"


def test_a_killed_round_goes_on_where_it_was(done: tuple[Path, Any, Any]) -> None:
    """Its first unit was kept, and is not written again."""
    folder, record, said = done
    _, first, _ = chain(folder, record)
    units = [line for line in (first / "rows.jsonl").read_text().splitlines() if line]
    assert len(units) == 2
    assert '"unit": "0"' in units[0]


def test_rounds_share_what_lies_before_them() -> None:
    plain = keys("reason_source=filtered")
    one, two = (keys("reason_source=iterated", f"reason_source.rounds={n}") for n in (1, 2))
    shared = {"reasons", "train/reasoner.lessons", "train/reasoner", "train/reward_model"}
    assert {name for name, _ in plain & one} >= shared  # the teacher's reasons, and the Reasoner that learnt them
    assert len({key for name, key in one & two if name == "reasons"}) == 2
    assert len({key for name, key in two if name == "train/reasoner"}) == 3
    behind = {name for name, _ in two - one}
    assert behind == {"reasons", "train/reasoner.lessons", "train/reasoner", "predict/test"} | {
        *("write/reasoner/experts", "write/reasoner/test", "train/predictor.lessons", "train/predictor")
    }


@pytest.mark.parametrize("strategy", ["onestep", "without_step3"])
def test_a_strategy_without_a_reasoner_is_refused(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"strategy={strategy} does not begin with one but with onestep"):
        predictions_stage(configured(f"strategy={strategy}", "reason_source=iterated"))


def test_preferences_may_be_learnt_from_what_the_reasoner_wrote() -> None:
    final = predictions_stage(configured("reason_source=iterated", "strategy=dpo"))
    [preferences] = [stage for stage in final.upstream() if stage.name == "train/reasoner.preferences"]
    assert preferences.candidates.number == 1
