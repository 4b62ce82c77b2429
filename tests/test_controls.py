"""What controls put in place of reasons and histories, who learns from which pairs, and what the truth would say."""

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.configuration.unread import ignored
from r4r.errors import ConfigError, DataError
from r4r.lexicon import ASPECTS, keyword
from r4r.rows import LESSONS, POOLS, TEXTS
from r4r.stages.controls import AspectsAlone, VerdictAlone, strangers
from r4r.stages.deliberation import Options, predictions_stage
from r4r.stages.planted import planted_grade, planted_reason, planted_world
from r4r.stages.split import all_rows, targets
from r4r.stages.stage import Job, Work
from r4r.store.artifact import Store
from r4r.teacher.simulated_reasons import verdict_of

LOADER = make_loader()
# the truth's summaries and unfiltered reasons: two experts are trained, and some of the pairs have no reason
SMALL = [
    "experiment=smoke",
    "++dataset.history.summaries=planted",
    "reason_source=hint",
    "++teacher.skill=0",
    "dataset.pools.total=20",
]
ANALYSIS = "### Personalized Recommendation Analysis ###\n"


def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", [*SMALL, *overrides]))


class Made:
    """A job whose artifacts are built where a test looks at them."""

    def __init__(self, config: Config, options: Options):
        self.job = Job(config, Store(config.paths.artifacts))
        self.final: Any = predictions_stage(config, options)
        self.stages = {stage.name: stage for stage in self.final.upstream()}

    def table(self, name: str, schema: Any) -> pd.DataFrame:
        return self.job.materialize(self.stages[name]).table(schema)

    def detail(self) -> pd.DataFrame:
        return pd.read_parquet(self.job.materialize(self.final).path / "detail.parquet")

    def analyses(self) -> dict[int, str]:
        """row_id -> the reason in the Predictor's training prompt."""
        lessons = self.table("train/predictor.lessons", LESSONS)
        parts = [prompt.partition(ANALYSIS)[2].partition("\n\n### Task")[0] for prompt in lessons["prompt"]]
        return dict(zip(lessons["row_id"], parts, strict=True))


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Callable[..., Made]:
    folder = tmp_path_factory.mktemp("controls")

    @cache
    def made(*overrides: str, options: Options = Options()) -> Made:  # noqa: B008
        return Made(configured(*overrides, f"paths.outputs={folder}", f"paths.cache={model_cache}"), options)

    return made


def written(made: Made) -> dict[int, str]:
    table = made.table("write/reasoner/test", TEXTS)
    return {row_id: " ".join(text.split()) for row_id, text in zip(table["row_id"], table["text"], strict=True)}


# what the last step reads


@given(groups=st.lists(st.integers(0, 5), min_size=1, max_size=30), seed=st.integers(0, 9))
def test_strangers_are_a_permutation_that_leaves_nobody_with_his_own(groups: list[int], seed: int) -> None:
    if 2 * max(groups.count(group) for group in groups) > len(groups):
        with pytest.raises(DataError, match="cannot be shuffled"):
            strangers(groups, seed, "users")
        return
    found = strangers(groups, seed, "users")
    assert sorted(found) == list(range(len(groups)))
    assert all(groups[other] != group for group, other in zip(groups, found, strict=True))
    assert found == strangers(groups, seed, "users")


@given(st.lists(st.text("ab ", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=4))
def test_verdict_and_aspects_are_the_whole_reason(sentences: list[str]) -> None:
    reason = ". ".join(" ".join(sentence.split()) for sentence in sentences) + "."
    [verdict], [aspects] = VerdictAlone("v").texts([reason]), AspectsAlone("a").texts([reason])
    assert f"{aspects} {verdict}".strip() == reason
    assert verdict.count(".") == 1


def test_shuffled_reasons_are_those_of_other_pairs(make: Callable[..., Made]) -> None:
    plain, shuffled = make(), make("control=shuffled_reasons")
    own, detail = written(plain), shuffled.detail()
    order = strangers(range(len(own)), 0, "pairs")
    row_ids = sorted(own)
    assert dict(zip(detail["row_id"], detail["reason"], strict=True)) == {
        row_id: own[row_ids[other]] for row_id, other in zip(row_ids, order, strict=True)
    }
    assert set(detail["label"]) == {"Reason4Rec, shuffled reasons"}
    assert shuffled.stages["train/predictor"].key == plain.stages["train/predictor"].key


def test_a_control_that_the_predictor_learns_under_changes_its_lessons(make: Callable[..., Made]) -> None:
    plain = make().analyses()
    controlled = make("control=verdict_alone", "control.when=always").analyses()
    assert list(controlled.values()) == VerdictAlone("v").texts(list(plain.values()))


def test_without_reasons_the_predictor_learns_from_the_same_pairs(make: Callable[..., Made]) -> None:
    plain, without = make(), make("control=no_reason")
    lessons = [made.table("train/predictor.lessons", LESSONS) for made in (plain, without)]
    assert lessons[0]["row_id"].tolist() == lessons[1]["row_id"].tolist()
    assert lessons[0]["prompt"].str.contains(ANALYSIS).all()
    assert not lessons[1]["prompt"].str.contains(ANALYSIS).any()
    assert "train/reasoner" not in without.stages


def test_shuffled_histories_are_another_users_and_keep_the_items_side(make: Callable[..., Made]) -> None:
    plain, shuffled = make(), make("control=shuffled_histories")
    rows = targets(plain.job)
    cases = [made.final.shown.cases(Work(made.job, {}, Path()), rows) for made in (plain, shuffled)]
    users = dict(zip((case.user_history for case in cases[0]), rows["user_id"], strict=True))
    for own, other, user in zip(*cases, rows["user_id"], strict=True):
        assert users[other.user_history] != user
        assert (other.item_history, other.item_average, other.title) == (own.item_history, own.item_average, own.title)
    assert sorted(case.user_average or 0 for case in cases[0]) == sorted(case.user_average or 0 for case in cases[1])
    keys = [made.stages["write/reasoner/test"].key for made in (plain, shuffled)]
    assert keys[0] != keys[1]


def test_an_oracle_says_what_was_planted_and_needs_no_reasoner(make: Callable[..., Made]) -> None:
    told, verdicts = make("control=oracle_reason"), make("control=oracle_verdict")
    assert "train/reasoner" not in told.stages
    world = planted_world(told.job.config)
    match = dict(zip((rows := world.reviews(all_rows(told.job)))["row_id"], rows["match"], strict=True))
    for made in (told, verdicts):
        for row_id, reason in made.analyses().items():
            assert verdict_of(reason) == planted_grade(match[row_id])
    whole, alone = told.analyses(), verdicts.analyses()
    assert all(whole[row_id].endswith(alone[row_id]) and whole[row_id] != alone[row_id] for row_id in whole)


def test_planted_reasons_name_what_the_user_cares_about_and_the_item_is_known_for(make: Callable[..., Made]) -> None:
    job = make().job
    world = planted_world(job.config)
    rows: Any = world.reviews(all_rows(job)).head(60)
    for row in rows.itertuples():
        reason = planted_reason(world, row, random.Random(0)).lower()
        known = world.known_for[row.item_id]
        for kind, quality in (("positive", 1), ("negative", -1)):
            for aspect in ASPECTS:
                if keyword(aspect, kind).lower() in reason:  # type: ignore[arg-type]
                    assert known[aspect] == quality
        first = reason.partition(".")[0]
        assert [a for a in ASPECTS if a.lower() in first]
        assert all(a in world.cares[row.user_id] for a in ASPECTS if a.lower() in first)


# who learns from which pairs


def test_the_predictor_may_learn_from_the_whole_pool(make: Callable[..., Made]) -> None:
    some, every = make(), make(options=Options(predictor_pairs="all"))
    pools = some.table("pools", POOLS)
    pool = set(pools.loc[pools["pool"] == "experts", "row_id"])
    accepted = set(some.table("reasons", {"row_id": "int64"})["row_id"])
    assert accepted < pool
    assert set(some.analyses()) == accepted
    assert set(every.analyses()) == pool
    assert set(every.table("train/reasoner.lessons", LESSONS)["row_id"]) == accepted


@pytest.mark.parametrize("pairs", ["accepted", "all"])
def test_no_reason_of_a_fold_is_by_a_reasoner_that_learnt_its_pair(make: Callable[..., Made], pairs: Any) -> None:
    own = make(options=Options(predictor_pairs=pairs))
    made = make(options=Options("crossfit", folds=2, predictor_pairs=pairs))
    accepted, seen = set(made.table("reasons", {"row_id": "int64"})["row_id"]), []
    for fold in ("1", "2"):
        learnt = set(made.table(f"train/reasoner_fold{fold}.lessons", LESSONS)["row_id"])
        stage = made.stages[f"write/reasoner_fold{fold}/experts"]
        mine = set(stage.rows.rows(Work(made.job, {}, Path()))["row_id"])
        assert not learnt & mine
        assert learnt == accepted - mine
        seen += sorted(mine)
    assert len(seen) == len(set(seen))
    lessons = own.table("train/predictor.lessons", LESSONS) if pairs == "accepted" else None
    assert set(seen) == (set(lessons["row_id"]) if lessons is not None else set(seen) | accepted)
    assert made.stages["train/reasoner"].key == own.stages["train/reasoner"].key  # it writes for the test rows


def test_a_fold_writes_with_its_own_adapter(make: Callable[..., Made]) -> None:
    made = make(options=Options("crossfit", folds=2))
    texts = made.table("write/reasoner/experts", TEXTS)
    parts = pd.concat([made.table(f"write/reasoner_fold{n}/experts", TEXTS) for n in (1, 2)])
    pd.testing.assert_frame_equal(texts, parts.sort_values("row_id", ignore_index=True))
    assert list(made.analyses()) == texts["row_id"].tolist()


def test_more_folds_than_pairs_is_an_error(make: Callable[..., Made]) -> None:
    made = make(options=Options("crossfit", folds=50))
    with pytest.raises(DataError, match=r"training pairs make no 50 folds"):
        made.table("train/reasoner_fold1.lessons", LESSONS)


def test_ratings_by_several_reasons_are_averaged(make: Callable[..., Made]) -> None:
    made = make(options=Options(reasons=2, temperature=1.5))
    whole = made.detail()
    texts = [made.table(f"write/reasoner/test.{n}", TEXTS)["text"].tolist() for n in (1, 2)]
    assert texts[0] != texts[1]
    parts = [
        pd.read_parquet(made.job.materialize(made.stages[f"predict/test.{n}"]).path / "detail.parquet") for n in (1, 2)
    ]
    columns = [f"p{n}" for n in range(1, 6)]
    np.testing.assert_allclose(whole[columns], (parts[0][columns] + parts[1][columns]) / 2)
    np.testing.assert_allclose(whole["mean"], (parts[0]["mean"] + parts[1]["mean"]) / 2, atol=1e-6)
    assert set(whole["label"]) == {"Reason4Rec"}
    assert set(parts[1]["label"]) == {"Reason4Rec, reason 2"}  # nobody takes a part for the whole


# what is refused


@pytest.mark.parametrize(
    ("overrides", "options", "told"),
    [
        (["strategy=onestep", "control=shuffled_reasons"], Options(), "reads no reason of an earlier step"),
        (["reason_source=none", "control=verdict_alone"], Options(), "reads no reason of an earlier step"),
        (["control=shuffled_reasons", "timing=paper"], Options(), "is not timed"),
        (
            ["dataset=musical_instruments", "++dataset.history.summaries=teacher", "control=oracle_reason"],
            Options(),
            "truth",
        ),
        (["strategy=onestep"], Options(predictor_pairs="all"), "learns to write reasons"),
        (["strategy=without_step2"], Options("crossfit"), "reads no reason"),
        (["strategy=without_step2"], Options(reasons=3), "rates without any reason"),
        (["timing=paper"], Options(reasons=3), "not timed"),
    ],
)
def test_what_a_strategy_has_no_use_for_is_refused(overrides: Sequence[str], options: Options, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        predictions_stage(configured(*overrides), options)


def test_a_control_of_a_method_that_has_no_reasons_is_refused() -> None:
    cfg = compose(LOADER, "config", ["method=mf", "control=shuffled_reasons"])
    [problem] = ignored(cfg, ["control=shuffled_reasons"])
    assert "do not use control" in problem
    with pytest.raises(ConfigError, match="is not a control"):
        configured("control._target_=r4r.methods.mf.MF")


def test_a_record_without_a_control_is_of_a_job_without_one() -> None:
    assert Config.model_fields["control"].default == configured().control
