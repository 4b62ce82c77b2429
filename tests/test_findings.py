"""The sentences that a job prints: which way a difference lies, and whether it is one."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import WorldConfig
from r4r.data.simulator import build_world
from r4r.experts.summarizer import FIELDS
from r4r.findings import against_baselines, of_candidates, of_reasons, of_summaries
from r4r.lexicon import KINDS, keyword
from r4r.result_picture import draw_result
from r4r.stages.planted import PlantedWorld, planted_reason
from r4r.stages.split import split_stage
from r4r.teacher.simulated_reasons import VERDICTS

WORLD = build_world(WorldConfig(users=30, items=20, reviews_per_user=6))
PLANTED = WORLD.rows.merge(WORLD.truth.reviews, on=["user_id", "item_id"]).assign(row_id=lambda rows: range(len(rows)))


def record(difference: float, p: float, rmse_p: float | None = None) -> dict[str, Any]:
    """Of a method and MF; the difference is the method's minus MF's."""
    effect = {"difference": difference, "low": difference - 0.1, "high": difference + 0.1}
    scores = [
        {"label": label, "decoding": "mean", "n": 9, "mae": mae, "mae_se": 0.1, "rmse": mae + 0.2, "rmse_se": 0.1}
        for label, mae in (("Reason4Rec", 0.8 + difference), ("MF", 0.8), ("User mean", 0.9))
    ]
    told = {"mae": {**effect, "p": p}, "rmse": {**effect, "p": p if rmse_p is None else rmse_p}}
    return {
        "metrics": scores,
        "comparisons": [{"label": label, "against": "Reason4Rec", **told} for label in ("MF", "User mean")],
    }


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (record(-0.1, 0.001), "Reason4Rec beats MF: MAE 0.700 against 0.800 (p = 0.001), RMSE 0.900 against 1.000"),
        (
            record(-0.1, 0.2),
            "Reason4Rec is not shown to differ from MF: MAE 0.700 against 0.800 (p = 0.200, not signif",
        ),
        (record(-0.1, 0.01, 0.3), "Reason4Rec beats MF in MAE alone: "),
        (record(0.1, 0.01, 0.3), "Reversed: Reason4Rec is worse than MF in MAE: "),
    ],
)
def test_a_sentence_says_which_way_a_difference_lies_and_whether_it_is_one(made: dict[str, Any], told: str) -> None:
    [found] = against_baselines(made["metrics"], made["comparisons"])
    assert found["sentence"].startswith(told)
    assert found["mae"]["p"] == made["comparisons"][0]["mae"]["p"]


def summaries(rows: pd.DataFrame) -> pd.DataFrame:
    """What was planted, in a summary's three lines."""
    texts = [
        "\n".join(
            f"{field}: {', '.join(keyword(a, kind) for a in row[kind]) or 'None'}"
            for field, kind in zip(FIELDS, KINDS, strict=True)
        )
        for _, row in rows.iterrows()
    ]
    return pd.DataFrame({"row_id": rows["row_id"], "summary": texts})


def test_summaries_are_held_against_the_truth_and_against_other_reviews() -> None:
    right = of_summaries(summaries(PLANTED), PLANTED)
    assert (right["f1"], right["precision"], right["recall"]) == (1.0, 1.0, 1.0)
    assert right["chance"] < 0.6
    assert right["p"] < 0.01
    assert f"on {len(PLANTED)} held-out reviews" in right["sentence"]
    one_text = summaries(PLANTED).assign(summary=summaries(PLANTED)["summary"].iloc[0])
    same = of_summaries(one_text, PLANTED)
    assert same["f1"] == same["chance"]
    assert same["p"] == 1.0
    assert "no better than" in same["sentence"]
    assert "not significant" in same["sentence"]


def candidates(good: int, rejected_good: int, of: int = 40) -> pd.DataFrame:
    """`of` accepted and as many rejected first candidates, so many of which agree, and hinted ones that all do."""
    rows = PLANTED.head(2 * of)
    grade = np.where(rows["match"] > 0.4, 5, np.where(rows["match"] < -0.6, 1, 3))
    agree = np.r_[np.arange(of) < good, np.arange(of) < rejected_good]
    said = [VERDICTS[int(g)][0] if a else VERDICTS[1 if g > 1 else 5][0] for g, a in zip(grade, agree, strict=True)]
    table = pd.DataFrame(
        {"row_id": rows["row_id"], "reason": said, "hinted": False, "accepted": np.repeat([True, False], of)}
    )
    return pd.concat([table, table.assign(hinted=True, accepted=True)])


@pytest.mark.parametrize(
    ("good", "rejected_good", "told"),
    [
        (36, 10, "Reasons that the filter accepts agree with the planted match more often than"),
        (20, 20, "are not shown to agree"),
        (10, 36, "Reversed: "),
    ],
)
def test_the_filter_is_judged_by_first_candidates_alone(good: int, rejected_good: int, told: str) -> None:
    [found] = of_candidates(candidates(good, rejected_good), PLANTED)
    assert told in found["sentence"]
    assert (found["accepted"], found["rejected"]) == (40, 40)
    assert found["accepted_agree"] == pytest.approx(good / 40)
    assert found["rejected_agree"] == pytest.approx(rejected_good / 40)
    assert ("not significant" in found["sentence"]) == (found["p"] >= 0.05)


def test_a_filter_that_accepts_all_leaves_nothing_to_compare() -> None:
    [found] = of_candidates(candidates(1, 1).assign(accepted=True), PLANTED)
    assert "nothing to compare" in found["sentence"]


@pytest.mark.usefixtures("pictures")
def test_a_picture_is_drawn_whatever_was_found(tmp_path: Path) -> None:
    made = record(-0.1, 0.001) | {"name": "x", "dataset": "simulated", "seed": 1, "evaluated": "test"}
    steps = [of_summaries(summaries(PLANTED), PLANTED), *of_candidates(candidates(36, 10), PLANTED)]
    for name, found in (("steps", steps), ("alone", [])):
        made["metrics"][0]["mae_se"] = None  # of a single row
        draw_result({**made, "findings": found}, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def planted_world() -> PlantedWorld:
    config = validate(compose(make_loader(), "config", ["dataset=simulated"]))
    return PlantedWorld(split_stage(config), config.dataset.world, config.dataset.category)


def test_reasons_are_told_beside_those_of_another_pair() -> None:
    world = planted_world()
    rows = build_world(world.world, world.category).rows.assign(row_id=lambda rows: range(len(rows)))[:200]
    draw = random.Random(0)
    texts = [planted_reason(world, row, draw) for row in world.reviews(rows).itertuples()]
    reasons = pd.DataFrame({"row_id": rows["row_id"], "label": "Ours", "reason": texts})
    found = of_reasons(reasons, world, rows)
    assert (found["right_verdicts"], found["true_claims"]) == (1.0, 1.0)
    assert found["verdict_chance"] < 0.8
    assert found["claim_chance"] < 0.8
    assert found["sentence"].startswith(
        "Ours's reasons for 200 pairs: the verdict agrees with the planted match in 100%, against "
    )
    same = of_reasons(reasons.assign(reason="Overall, they would probably like it."), world, rows)
    assert same["right_verdicts"] == same["verdict_chance"]
    assert "not significant" in same["sentence"]
    assert same["true_claims"] == 0.0
    turned = of_reasons(reasons.assign(reason=texts[1:] + texts[:1]), world, rows)  # the pair before has the right one
    assert f"in {turned['right_verdicts']:.0%}, below 100% of another pair's reason (p < 0.001)" in turned["sentence"]
