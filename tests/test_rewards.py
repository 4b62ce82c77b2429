"""Rewards: whatever is wrong with an answer is worth least; what they ask obeys the time; an expert learns by them."""

import json
from binascii import crc32
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import assert_no_leak, listen, split, start
from own_answers import CUT, says

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.errors import ConfigError
from r4r.experts.onestep import OneStep
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.lm.base import Lora
from r4r.methods.reczero.expert import FourSteps
from r4r.rewards.base import Bench, Known, Reward, WeightedSum
from r4r.rewards.format import Format
from r4r.rewards.length import Length
from r4r.rewards.planted import Planted
from r4r.rewards.rating_error import RatingError
from r4r.rewards.review_reference import ReviewReference
from r4r.rewards.stated_error import StatedError
from r4r.rows import Case
from r4r.scale import PAPER, Scale
from r4r.stages.deliberation import predictions_stage
from r4r.stages.reward import RewardScorer
from r4r.training.objectives.rollouts import Answer

LOADER = make_loader()
SETTINGS: dict[str, Any] = {"lr": 1e-3, "epochs": 1, "batch_size": 1, "warmup": 0, "max_new_tokens": 20}
REASONER, ZERO = Reasoner(Lora(), **SETTINGS), FourSteps(Lora(), **SETTINGS)
ONESTEP = OneStep(Lora(), **SETTINGS)
STEPS = "<analyze user>a</analyze user>\n<analyze item>b</analyze item>\n<match>c</match>\n<rate>{}</rate>"


def answer(text: str, finished: bool = True, tokens: int = 10) -> Answer:
    return Answer(1, text, tokens, 20, finished)


def rewarded(part: Reward, answers: Sequence[Answer], expert: Any = REASONER, scale: Scale = PAPER) -> list[float]:
    """Of the pair 1, rated 4, whose review the raters take for a 5 and each reason for its length."""

    def rate(known: Sequence[Known], texts: Sequence[str]) -> list[float]:
        return [5.0 if text == "the review" else float(len(text)) for text in texts]

    pair = Known(Case(1, "A Title", "Music", (), (), None, None, scale=scale), 4.0, "the review")
    bench = Bench(expert, {"predictor": rate, "reward_model": rate})
    return WeightedSum({"it": part}, {1: pair}, bench)(answers)["it"]


@pytest.mark.parametrize(
    ("part", "expert", "good", "worth"),
    [
        (RatingError(), REASONER, "four", 0.0),
        (ReviewReference(), REASONER, "four", 1.0),
        (StatedError(), ZERO, STEPS.format(4), 1.0),
        (Format(), ZERO, STEPS.format(4), 0.5),
        (Format(), REASONER, "They would love it.", 0.5),
        (Length(), REASONER, "four", 0.0),
    ],
)
def test_an_answer_that_is_cut_fails_or_cannot_be_read_is_worth_least(
    part: Reward, expert: Any, good: str, worth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = part.worst(PAPER)
    assert rewarded(part, [answer(good), answer(good, finished=False)], expert) == [pytest.approx(worth), least]
    if not isinstance(part, Length):
        assert rewarded(part, [answer(""), answer(" \n")], expert) == [least, least]
    of = type(part).rewards

    def breaks(self: Reward, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> list[Any]:
        if any(each.text == "break" for each in answers):
            raise ZeroDivisionError("no such thing")
        both = zip(answers, known, strict=True)
        return [float("nan") if a.text == "nan" else of(self, [a], [k], bench)[0] for a, k in both]

    monkeypatch.setattr(type(part), "rewards", breaks)
    assert rewarded(part, [answer("break"), answer(good), answer("nan")], expert) == [
        least,
        pytest.approx(worth),
        least,
    ]
    assert rewarded(part, [answer("break")] * 3, expert) == [least] * 3
    assert worth > least


def test_no_answer_is_worth_less_than_one_that_cannot_be_read() -> None:
    for scale in (PAPER, Scale(lowest=0, highest=10, step=0.5)):
        for part in (RatingError(), ReviewReference()):
            worst = part.worst(scale)
            assert all(value >= worst for value in rewarded(part, [answer("x" * n) for n in range(1, 90)], scale=scale))
        assert StatedError().worst(scale) == 0


def test_a_stated_rating_is_worth_what_it_is_near_the_truth() -> None:
    said = ["4", "4.0", "5", "1", "0", "9", "four", "4 or 5", ""]
    found = rewarded(StatedError(), [answer(STEPS.format(each)) for each in said], ZERO)
    assert found == [1, 1, 0.75, 0.25, 0, 0, 0, 0, 0]
    assert rewarded(StatedError(), [answer(STEPS.format(4) + "<rate>4</rate>")], ZERO) == [0]


def test_the_form_is_that_which_was_asked_for() -> None:
    shuffled = "<match>c</match><analyze user>a</analyze user><analyze item>b</analyze item><rate>4</rate>"
    empty = STEPS.format(4).replace("<match>c", "<match> ")
    texts = [STEPS.format(4), "Well: " + STEPS.format(4), shuffled, empty, STEPS.format(4).replace("</rate>", "")]
    assert rewarded(Format(), [answer(text) for text in texts], ZERO) == [0.5, -0.5, -0.5, -0.5, -0.5]
    assert rewarded(Format(), [answer("They would give it 4 stars.")]) == [-0.5]  # a reason that is a rating


def test_an_answer_that_reasons_and_rates_comes_to_its_rating() -> None:
    said = [
        "Analysis: They like it.\nPredicted Rating: 4.0",
        "Analysis: They like it.",
        "Predicted Rating: 4.0",
        "junk",
    ]
    assert rewarded(Format(), [answer(text) for text in said], ONESTEP) == [0.5, -0.5, -0.5, -0.5]


@pytest.mark.parametrize("bad", ["good", [1.0], object()])
def test_a_reward_that_is_no_number_is_the_worst(bad: Any) -> None:
    class Odd(Format):
        def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> list[Any]:
            return [bad if each.text == "odd" else 0.5 for each in answers]

    assert rewarded(Odd(), [answer("odd"), answer("plain")]) == [-0.5, 0.5]


def test_lengths_are_free_up_to_the_buffer() -> None:
    lengths = [answer("x", tokens=n) for n in (1, 15, 16, 18, 20)]
    assert rewarded(Length(), lengths) == pytest.approx([0, 0, -0.2, -0.6, -1])


def test_a_sum_weighs_its_components() -> None:
    pair = Known(Case(1, "T", "Music", (), (), None, None), 4.0)
    whole = WeightedSum({"form": Format(0.5), "rate": StatedError(2.0)}, {1: pair}, Bench(ZERO))
    found = whole([answer(STEPS.format(4)), answer(STEPS.format(4), finished=False)])
    assert found == {"": [2.25, -0.25], "form": [0.5, -0.5], "rate": [1.0, 0.0]}


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_planted_truth_is_watched_and_rewarded_where_it_has_a_weight(weight: float) -> None:
    pair = Known(Case(1, "T", "Music", (), (), None, None), 4.0)
    bench = Bench(REASONER, {"planted_verdict": lambda known, texts: [float("love" in text) for text in texts]})
    whole = WeightedSum({"truth": Planted(weight=weight)}, {1: pair}, bench)
    found = whole([answer("They would love it."), answer("They would not."), answer("love", finished=False)])
    assert found == {"": [weight, 0.0, 0.0], "truth": [1.0, 0.0, 0.0]}


# in a job


WORDS = (
    "They would love the melody.",
    "They would dislike it.",
    "Little is known.",
    "the vocals " * 3,
    "",
    f"It is{CUT}",
)
JOB = (
    "strategy=without_step1",
    "reason_source=review",
    "objective@experts.reasoner.objective=grpo",
    "experts.reasoner.objective.group=4",
    "experts.reasoner.objective.lr=1e-2",
    "experts.reasoner.max_new_tokens=12",
    "+reward@experts.reasoner.objective.rewards.length=length",
    "dataset.pools.total=14",
    "dataset.history.prompt=3",
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any, Any]:
    """The folder and record of a job, the Predictor's prompts, and what was said."""
    folder = tmp_path_factory.mktemp("grpo")
    with pytest.MonkeyPatch.context() as patch:
        said = says(patch, lambda seed, prompt: WORDS[seed % len(WORDS)])
        heard = listen(patch, Predictor, "prompt")
        record = start(folder, model_cache, *JOB)
    return folder, record, heard, said


def test_a_reasoner_learns_by_the_frozen_predictors_error(done: tuple[Path, Any, Any, Any]) -> None:
    folder, record, _, said = done
    made = folder / "artifacts" / "train/reasoner" / record["artifacts"]["train/reasoner"]
    steps = [json.loads(line)["rows"][0] for line in (made / "steps.jsonl").read_text().splitlines()]
    names = {
        "reward/mean",
        *(f"reward/{n}/{m}" for n in ("rating_error", "format", "length") for m in ("mean", "sd")),
    }
    measured = {"groups_of_equal_rewards", "kl", "entropy", "clip_share", "answers_cut", "answer_tokens/mean", "loss"}
    assert all(names | measured <= row.keys() for row in steps)
    assert any(row["reward/rating_error/sd"] > 0 for row in steps)
    assert (made / "steps.png").exists()
    assert len(list((folder / "artifacts" / "train/reasoner").iterdir())) == 2  # the one by SFT, and the one behind it
    assert len(list((folder / "artifacts" / "train/predictor").iterdir())) == 2
    trained = [text for adapter, text in said if adapter == "reasoner"]
    assert len(trained) > 7 * 4


def test_the_histories_of_reward_prompts_end_before_the_target(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, heard, _ = done
    analyses = [prompt.partition("Recommendation Analysis ###\n")[2] for _, _, prompt in heard]
    assert sum(text.startswith(tuple(filter(None, WORDS))) for text in analyses) > 20
    assert_no_leak(split(folder), heard)


def test_reward_prompts_are_as_long_as_the_predictors_own(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories that the Predictor reads shortened, it rates answers by shortened."""
    says(monkeypatch, lambda seed, prompt: WORDS[seed % len(WORDS)])
    lengths: list[int] = []
    rate = RewardScorer.__call__

    def counted(self: RewardScorer, pairs: Sequence[int], texts: Sequence[str | None]) -> list[float]:
        lengths.extend(len(self._ids(self.cases[pair], text)) for pair, text in zip(pairs, texts, strict=True))
        return rate(self, pairs, texts)

    monkeypatch.setattr(RewardScorer, "__call__", counted)
    long = ("dataset.history.prompt=8", "dataset.history.raw_tokens=40", "dataset.history.overflow=drop_oldest")
    start(tmp_path, model_cache, *JOB[:-1], *long, "llm.max_length=620", "target=reasoner")
    assert 500 < max(lengths) <= 620


def test_what_rewards_do_to_the_truth_is_watched_at_each_step(
    r4r: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = says(monkeypatch, lambda seed, prompt: ("they would love it", "they would dislike it")[seed % 2])
    watched = [f"+reward@experts.reasoner.objective.rewards.{what}=planted" for what in ("truth", "claims")]
    job = ["experiment=smoke", "strategy=without_step1", "reason_source=history", *watched, "target=reasoner"]
    more = ["objective@experts.reasoner.objective=grpo", "experts.reasoner.max_new_tokens=12"]
    more += ["experts.reasoner.objective.rewards.claims.what=claims"]
    assert r4r(*job, *more, "experts.reasoner.objective.lr=1e-2", f"paths.outputs={tmp_path}") == 0
    [made] = (tmp_path / "artifacts").rglob("steps.jsonl")
    steps = [json.loads(line)["rows"][0] for line in made.read_text().splitlines()]
    assert said
    truths = [row["reward/truth/mean"] for row in steps]
    assert max(truths) > 0  # one of the two verdicts is right, where the match is not mixed
    for row in steps:
        whole = row["reward/rating_error/mean"] + 0.2 * row["reward/format/mean"]
        assert row["reward/mean"] == pytest.approx(whole, abs=1e-5)
        assert row["reward/claims/mean"] == 0  # neither claims anything


def composed(*overrides: str) -> Any:
    return validate(compose(LOADER, "config", ["experiment=smoke", *overrides]))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("strategy=onestep", "objective@experts.onestep.objective=grpo"), "has no Predictor right behind onestep"),
        *(
            (
                (f"objective@experts.predictor.objective={objective}",),
                "rates without writing; take objective@experts.predictor",
            )
            for objective in ("dpo", "grpo", "best_of_n")
        ),
        (
            ("objective@experts.reasoner.objective=dpo", "reason_source=history"),
            "preferences are learnt from the filter's candidates",
        ),
        (
            ("objective@experts.reasoner.objective=dpo", "reason_source.max_hinted=0"),
            "preferences need several candidates a pair",
        ),
        (("strategy=grpo", "reason_source=none"), "with reason_source=none no reasoner is trained"),
        (
            (
                "strategy=onestep",
                "objective@experts.onestep.objective=grpo",
                "~experts.onestep.objective.rewards.rating_error",
                "+reward@experts.onestep.objective.rewards.stated_error=stated_error",
            ),
            "rewards.stated_error: does not fit onestep: its ratings are read off the logits",
        ),
        (
            (
                "objective@experts.reasoner.objective=grpo",
                "~experts.reasoner.objective.rewards.format",
                "~experts.reasoner.objective.rewards.rating_error",
                "+reward@experts.reasoner.objective.rewards.truth=planted",
            ),
            "none of truth counts, as all weights are 0",
        ),
        (
            (
                "objective@experts.reasoner.objective=grpo",
                "+reward@experts.reasoner.objective.rewards.stated_error=stated_error",
            ),
            "rewards.stated_error: does not fit reasoner: it states no rating",
        ),
        (
            (
                "objective@experts.reasoner.objective=best_of_n",
                "~experts.reasoner.objective.rewards.format",
                "~experts.reasoner.objective.rewards.rating_error",
            ),
            "holds no reward; mount one",
        ),
    ],
)
def test_an_objective_that_finds_nothing_to_learn_from_is_refused(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        predictions_stage(composed(*overrides))


def test_preferences_are_the_accepted_against_the_worst_rejected(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RewardScorer,
        "__call__",
        lambda self, pairs, texts: [1 + crc32(str(text).encode()) % 401 / 100 for text in texts],
    )
    job = ("strategy=without_step1", "dataset.pools.total=14", "dataset.history.prompt=3", "reason_source.tau=0")
    record = start(
        tmp_path, model_cache, *job, "objective@experts.reasoner.objective=dpo", "target=train/reasoner.preferences"
    )
    where = tmp_path / "artifacts"
    [path] = (where / "reasons").glob("*/candidates.parquet")
    tried = pd.read_parquet(path)
    table = pd.read_parquet(Path(record["target"]["train/reasoner.preferences"]) / "data.parquet")
    assert len(table) > 0
    for row in table.itertuples():
        own = tried[tried["row_id"] == row.row_id]
        best, scored = own[own["accepted"]].iloc[0], own[own["cause"] == "score"]
        assert row.chosen == best["reason"]
        assert row.rejected in scored.loc[scored["s_eval"] == scored["s_eval"].max(), "reason"].tolist()
        assert row.margin == pytest.approx(scored["s_eval"].max() - best["s_eval"])
