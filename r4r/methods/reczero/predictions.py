"""Ratings that the model states in its answers; an answer that states none counts as the largest error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config, EvaluateConfig
from r4r.errors import ConfigError
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.reasons.rating import parse_rating
from r4r.rows import PREDICTIONS, REVIEWS, TEXTS
from r4r.stages.estimate import Estimate
from r4r.stages.further import Frozen, Prompts, furthered
from r4r.stages.histories import Histories, histories
from r4r.stages.identity import llm_identity
from r4r.stages.lessons import Pairs
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import pools_stage
from r4r.stages.split import evaluated_rows, split_stage
from r4r.stages.stage import Work
from r4r.stages.train import Training
from r4r.stages.written import Written
from r4r.store.artifact import write_table

SHOWN = {"dataset.history.prompt": "method.history"}  # whose place the method's own number of reviews takes
UNPARSABLE = "unparsable: largest error"  # in the row's name, since public code counts such answers as right


@dataclass(frozen=True)
class StatedPredictions(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS); `detail.parquet` adds the reasoning, and whether a rating is stated.

    An answer that states no rating on the scale (or was cut before it came to one) is given the end of the scale that
    is farther from the true rating.
    """

    expert: Asked
    answers: Written
    evaluate: EvaluateConfig
    label: str

    @property
    def name(self) -> str:
        return f"predict/{self.evaluate.split}"

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.evaluated, f"{self.evaluate.split} rows")

    def build(self, work: Work) -> dict[str, Any]:
        shown, own = self.answers.shown, self.expert.expert
        rows = evaluated_rows(self.evaluate, work.of(shown.split).table(REVIEWS))
        texts = work.of(self.answers).table(TEXTS).set_index("row_id")["text"].loc[rows["row_id"]].tolist()
        stated = [parse_rating(own.stated(text), shown.scale) for text in texts]
        low, high = shown.scale.lowest, shown.scale.highest
        farthest = [low if rating - low > high - rating else high for rating in rows["rating"]]
        values = [bad if rating is None else rating for rating, bad in zip(stated, farthest, strict=True)]
        absent = [row_id for row_id, rating in zip(rows["row_id"], stated, strict=True) if rating is None]
        if absent:
            say(f"  {len(absent)} of {len(rows)} answers state no rating; each counts as the largest error")
        table = pd.DataFrame({"row_id": rows["row_id"], "label": self.label})
        table = table.assign(mean=values, median=values, mode=values)
        write_table(work.folder / "data.parquet", table, PREDICTIONS)
        detail = table.assign(reason=[own.read(text) for text in texts], stated=[s is not None for s in stated])
        detail.to_parquet(work.folder / "detail.parquet", index=False)
        return {
            "predictions": len(table),
            "answers_that_state_no_rating": len(absent),
            "counted_as": "the largest error that the row's rating allows",
        }


def with_latest(config: Config, entries: int) -> Config:
    """The same job whose prompts show so many reviews a side."""
    history = config.dataset.history.model_copy(update={"prompt": entries})
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"history": history})})


@dataclass(frozen=True)
class Model:
    """The one model's place in a job: what it is shown, and of which pairs.

    Attributes:
        own: the expert as it asks.
        config: the job's, with the method's own number of reviews a side.
    """

    own: Asked
    config: Config
    shown: Histories
    llm: Mapping[str, Any]

    @property
    def pairs(self) -> Pairs:
        """All pairs of the experts pool."""
        return Pairs(split_stage(self.config), pools_stage(self.config))

    def reinforced(self, start: Training | None) -> Training:
        """Its training by rewards.

        Args:
            start: the training whose adapter it begins with; None: a fresh one.

        Raises:
            ConfigError: a reward asks an expert that this method has not.
        """
        place = self.own.place
        objective = self.own.expert.objective
        if objective.material != "prompts" or bool(objective.starts_from) != (start is not None):
            wanted = "start=sft" if start is not None else "start=none"
            raise ConfigError(
                [f"experts.{place}.objective: must learn from rewards (grpo or best_of_n), with {wanted}"]
            )
        asking = [name for name, reward in objective.rewards.items() if "reward_model" in reward.needs]
        if asking:
            raise ConfigError(
                [f"experts.{place}.objective.rewards.{asking[0]}: this method trains no reward model; take another"]
            )
        prompts = Prompts(self.own, self.shown, self.pairs, (), self.llm, self.own.max_new_tokens)
        return furthered(self.config, place, prompts, start, lambda: _no_predictor(place))

    def predictions(self, trained: Training, label: str) -> StatedPredictions:
        """What it states of the rows to predict."""
        evaluate = self.config.dataset.evaluate
        answers = Written(self.own, trained, self.shown, evaluate, (), self.llm, self.own.max_new_tokens)
        return StatedPredictions(self.own, answers, evaluate, f"{label} ({UNPARSABLE})")


def model_at(config: Config, place: str, entries: int) -> Model:
    """The model mounted at `experts.<place>`.

    Args:
        entries: reviews a side that its prompts show, the latest ones.
    """
    own = with_latest(config, entries)
    return Model(asked(own, place), own, histories(own, "reviews"), llm_identity(own))


def _no_predictor(place: str) -> Frozen:
    raise ConfigError([f"experts.{place}.objective.rewards: this method has no Predictor; take stated_error"])
