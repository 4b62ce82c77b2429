"""What a job on the simulated world learnt, held against what was planted: `python measure.py path/to/result.json`.

Prints one JSON object: scores, the Summarizer's aspects against the planted ones, and how the filter fared.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config
from r4r.findings import aspect_counts
from r4r.lexicon import ASPECTS, KINDS, keyword
from r4r.rows import CANDIDATES, REVIEWS, SUMMARIES
from r4r.stages.planted import PlantedWorld, planted_grade, planted_world
from r4r.stages.planted_reasons import verdict_is_right
from r4r.store.artifact import Artifact, Store


def measure(record: dict[str, Any]) -> dict[str, Any]:
    """The known answers of a finished job.

    Args:
        record: its result.json.
    """
    config = Config(**record["config"])
    store = Store(Path(config.paths.artifacts))

    def artifact(stage: str) -> Artifact:
        found = store.find(stage, record["artifacts"][stage])
        if found is None:
            raise SystemExit(f"the artifact of stage {stage} is not in {store.root}")
        return found

    world = planted_world(config)
    planted = world.reviews(artifact("split").table(REVIEWS))
    answers = {
        "scores": {row["label"]: [row["mae"], row["rmse"]] for row in record["metrics"] if row["decoding"] == "mean"},
        "teacher": agreement(artifact("teacher_summaries").table(SUMMARIES), planted),
        "summarizer": agreement(artifact("summaries").table(SUMMARIES), planted),
    }
    if config.reason_source["name"] == "filtered":
        candidates = artifact("reasons").table(CANDIDATES, "candidates.parquet")
        answers["filter"] = verdicts(candidates) | artifact("reasons").json("acceptance.json")
        # apart, for a hinted reason knows the rating: its verdict agrees whatever the reward model says
        answers["filter"]["agreement"] = {
            f"{'hinted' if hinted else 'unhinted'}, {'accepted' if accepted else 'rejected'}": agreement_of_reasons(
                candidates[(candidates["hinted"] == hinted) & (candidates["accepted"] == accepted)],
                planted,
                world,
            )
            for hinted in (False, True)
            for accepted in (True, False)
        }
    return answers


def agreement(summaries: pd.DataFrame, planted: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Precision and recall of the aspects that the summaries name, by kind, over all reviews."""
    found = {}
    for kind in KINDS:
        right, named, there = aspect_counts(summaries, planted, [kind]).sum(axis=0).tolist()
        found[kind] = {"precision": round(right / max(named, 1), 3), "recall": round(right / max(there, 1), 3)}
    return found


def verdicts(candidates: pd.DataFrame) -> dict[str, float | int | None]:
    """How well a candidate's verdict, as the reward model reads it, fits the true rating: mean |r - R(reason)|.

    Every mean is over pairs: a pair's candidates are averaged first, since pairs that are hard to please have many.
    Where there is no such pair, it is None. Beside them the error of the best that needs no reading, one rating for all
    pairs.
    """
    scored = candidates[candidates["cause"] != "leak"]
    accepted = scored["accepted"].astype(bool)
    pairs = scored.drop_duplicates("row_id")

    def error(rows: pd.DataFrame, column: str) -> float | None:
        by_pair = (rows["rating"] - rows[column]).abs().groupby(rows["row_id"]).mean()
        return round(float(by_pair.mean()), 3) if len(by_pair) else None

    return {
        "scored_pairs": len(pairs),
        "error_accepted": error(scored[accepted], "r_reason"),
        "error_rejected": error(scored[~accepted], "r_reason"),
        "error_review": error(scored, "r_review"),
        "error_without_reason": error(scored, "r_none"),
        "error_of_a_constant": round(float((pairs["rating"] - pairs["rating"].median()).abs().mean()), 3),
    }


def agreement_of_reasons(
    candidates: pd.DataFrame, planted: pd.DataFrame, world: PlantedWorld
) -> dict[str, float | int]:
    """How often reasons agree with the planted preferences.

    Returns:
        reasons: how many. verdict: share whose verdict is on the side (like, dislike, mixed) of the planted match of
        user and item. claims: share of what they praise or fault that the user cares about and the item is known for.
    """
    rows = planted.set_index("row_id")
    sided = claims = true_claims = 0
    for row_id, reason in zip(candidates["row_id"], candidates["reason"], strict=True):
        row, low = rows.loc[row_id], reason.lower()
        sided += verdict_is_right(reason, planted_grade(row["match"]))
        for kind, sign in (("positive", 1), ("negative", -1)):
            for aspect in (a for a in ASPECTS if keyword(a, kind).lower() in low):
                claims += 1
                cares, known = world.cares[row["user_id"]], world.known_for[row["item_id"]]
                true_claims += aspect in cares and known.get(aspect) == sign
    return {
        "reasons": len(candidates),
        "verdict": round(sided / max(len(candidates), 1), 3),
        "claims": round(true_claims / max(claims, 1), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    print(json.dumps(measure(json.loads(parser.parse_args().result.read_text())), indent=2))
