"""What a job on the simulated world learnt, held against what was planted: `python measure.py path/to/result.json`.

Prints one JSON object: scores, the Summarizer's aspects against the planted ones, and how the filter fared.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.data.simulator import build_world
from r4r.lexicon import KINDS, aspects_in
from r4r.rows import CANDIDATES, REVIEWS, SUMMARIES
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

    rows = artifact("split").table(REVIEWS)
    truth = build_world(config.dataset.world, config.dataset.category).truth.reviews
    planted = rows.merge(truth, on=["user_id", "item_id"], validate="one_to_one").set_index("row_id")
    answers = {
        "scores": {row["label"]: [row["mae"], row["rmse"]] for row in record["metrics"] if row["decoding"] == "mean"},
        "teacher": agreement(artifact("teacher_summaries").table(SUMMARIES), planted),
        "summarizer": agreement(artifact("summaries").table(SUMMARIES), planted),
    }
    if config.reason_source.name == "filtered":
        candidates = artifact("reasons").table(CANDIDATES, "candidates.parquet")
        answers["filter"] = verdicts(candidates) | artifact("reasons").json("acceptance.json")
    return answers


def agreement(summaries: pd.DataFrame, planted: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Precision and recall of the aspects that the summaries name, by kind, over all reviews."""
    found = []
    for kind in KINDS:
        right = named = there = 0
        for row_id, text in zip(summaries["row_id"], summaries["summary"], strict=True):
            said, true = set(aspects_in(text)[kind]), set(planted.at[row_id, kind])
            right, named, there = right + len(said & true), named + len(said), there + len(true)
        found.append((kind, {"precision": round(right / max(named, 1), 3), "recall": round(right / max(there, 1), 3)}))
    return dict(found)


def verdicts(candidates: pd.DataFrame) -> dict[str, float]:
    """How well a candidate's verdict, as the reward model reads it, fits the true rating: mean |r - R(reason)|."""
    scored = candidates[candidates["cause"] != "leak"]
    error = (scored["rating"] - scored["r_reason"]).abs()
    return {
        "error_accepted": round(float(error[scored["accepted"]].mean()), 3),
        "error_rejected": round(float(error[~scored["accepted"]].mean()), 3),
        "error_review": round(float((scored["rating"] - scored["r_review"]).abs().mean()), 3),
        "error_without_reason": round(float((scored["rating"] - scored["r_none"]).abs().mean()), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    print(json.dumps(measure(json.loads(parser.parse_args().result.read_text())), indent=2))
