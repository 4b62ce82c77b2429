"""Can the reward model tell good reasons from bad ones? Its ratings, given texts of known closeness (paper 4.3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config, EvaluateConfig
from r4r.errors import DataError
from r4r.pipeline.stage import Stage
from r4r.progress import bar, say
from r4r.rows import PREDICTIONS, REVIEWS, Case
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import Histories, histories
from r4r.stages.mounted import Asked, asked
from r4r.stages.reasons import Teaching, read_reason, reasoner_prompt, review_inferred_prompt, teaching
from r4r.stages.reward import RewardScorer, TargetReviews, reward_model_stage, target_reviews
from r4r.stages.split import evaluated_rows
from r4r.stages.stage import Work
from r4r.stages.train import Training, use_adapter
from r4r.store.artifact import write_table
from r4r.store.journal import Journal

UNIT = 16  # rows whose ratings are kept together
KINDS = (  # Table 5, the closest to the review first
    "Review-guided",
    "Review-inferred",
    "Hint-inferred",
    "History-inferred",
    "Without reason",
)


@dataclass(frozen=True)
class RewardCheck(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS), a label a kind of text; `texts.parquet` holds the texts.

    A row for which the teacher gave no usable text of some kind in `attempts` calls counts for no kind; the manifest's
    `excluded` names these rows by cause. A hint-inferred text that gives away the rating is not usable.

    Attributes:
        reasoner: the Reasoner, whose prompt the teacher answers.
        judge: the reward model as it asks.
        attempts: teacher calls that a text may take.
    """

    version: ClassVar[int] = 2

    shown: Histories
    evaluate: EvaluateConfig
    reviews: TargetReviews
    reasoner: Asked
    judge: Asked
    reward_model: Training
    teaching: Teaching
    attempts: int

    @property
    def name(self) -> str:
        return f"reward_check/{self.evaluate.split}"

    @property
    def estimate(self) -> str:
        return "3 teacher calls a row"

    def build(self, work: Work) -> dict[str, Any]:
        rows = evaluated_rows(self.evaluate, work.of(self.shown.split).table(REVIEWS))
        cases = self.shown.cases(work, rows)
        table, facts = self._texts(work, rows, cases)
        causes = table[table["problem"] != ""].drop_duplicates("row_id")
        excluded = {cause: sorted(ids.tolist()) for cause, ids in causes.groupby("problem")["row_id"]}
        if excluded:
            counts = {cause: len(ids) for cause, ids in excluded.items()}
            say(f"  {len(causes)} of {len(rows)} rows excluded, for want of a text of every kind: {counts}")
        kept = table[~table["row_id"].isin(causes["row_id"])]
        if kept.empty:
            raise DataError(
                f"the teacher gave no row a usable text of every kind: {list(excluded)}. Try a stronger teacher."
            )
        rated = self._rated(work, [case for case in cases if case.row_id in set(kept["row_id"])], kept)
        write_table(work.folder / "data.parquet", rated, PREDICTIONS)
        table.to_parquet(work.folder / "texts.parquet", index=False)
        return {"rows": len(rows), "excluded": excluded, **facts, "engine": work.job.engine.about}

    def _texts(self, work: Work, rows: pd.DataFrame, cases: Sequence[Case]) -> tuple[pd.DataFrame, dict[str, Any]]:
        """row_id, label (of KINDS), text, problem: a row a case and kind; and what the teacher's texts took."""
        reviews, row_ids = self.reviews.texts(work.job.chat, rows), rows["row_id"].tolist()
        prompts = {
            "Review-inferred": [review_inferred_prompt(*pair) for pair in zip(cases, reviews, strict=True)],
            "Hint-inferred": [
                reasoner_prompt(self.reasoner, *pair) for pair in zip(cases, rows["rating"], strict=True)
            ],
            "History-inferred": [reasoner_prompt(self.reasoner, case) for case in cases],
        }
        labels, titles = [kind for kind in prompts for _ in row_ids], rows["title"].tolist()

        def read(place: int, text: str) -> str:
            hinted = labels[place] == "Hint-inferred"
            return read_reason(text, hinted, titles[place % len(titles)], self.shown.scale)

        written, facts = ask_all(
            work,
            "texts of every kind",
            row_ids * len(prompts),
            [prompt for kind in prompts.values() for prompt in kind],
            self.teaching.temperature,
            self.teaching.max_tokens,
            self.attempts,
            read,
        )
        written = written.assign(label=labels).rename(columns={"answer": "text"})
        guided = pd.DataFrame({"row_id": row_ids, "label": "Review-guided", "text": reviews})
        guided["problem"] = guided["text"].map(lambda text: "" if text else "has no review")
        without = pd.DataFrame({"row_id": row_ids, "label": "Without reason", "text": "", "problem": ""})
        table = pd.concat([guided, written, without], ignore_index=True)[["row_id", "label", "text", "problem"]]
        failed = table["problem"] != ""
        table.loc[failed, "problem"] = table["label"] + ": " + table["problem"]
        return table, facts

    def _rated(self, work: Work, cases: Sequence[Case], texts: pd.DataFrame) -> pd.DataFrame:
        """rows.PREDICTIONS: the reward model's rating of each case, given each text."""
        use_adapter(work.job, self.judge.place, work.of(self.reward_model))
        text_of = texts.set_index(["label", "row_id"])["text"]
        journal = Journal(work.folder / "ratings.jsonl")
        starts = range(0, len(cases), UNIT)
        with bar("rate texts of every kind", len(starts), len(journal)) as advance:
            for start in starts:
                if str(start) in journal:
                    continue
                unit = cases[start : start + UNIT]
                score = RewardScorer(work.job.engine, self.judge, unit)
                rows = []
                for kind in KINDS:
                    shown = [None if kind == "Without reason" else text_of[kind, case.row_id] for case in unit]
                    ratings = score(range(len(unit)), shown)
                    rows += [
                        {"row_id": case.row_id, "label": kind, "mean": rating, "median": rating, "mode": rating}
                        for case, rating in zip(unit, ratings, strict=True)
                    ]
                journal.append(str(start), rows)
                advance(1, "")
        return pd.DataFrame(journal.rows())


def reward_check_stage(config: Config, attempts: int) -> RewardCheck:
    """The stage of the analysis with the job's reward model and teacher."""
    return RewardCheck(
        histories(config),
        config.dataset.evaluate,
        target_reviews(config),
        asked(config, "reasoner"),
        asked(config, "reward_model"),
        reward_model_stage(config),
        teaching(config, "hint", "review_inferred"),
        attempts,
    )
