"""The Predictor: trained on the Reasoner's reasons, then rates by logit-weighted decoding (paper 3.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.lm.engine import Engine
from r4r.lm.rate import decode
from r4r.lm.rating_tokens import rating_tokens
from r4r.lm.write import encode_prompts
from r4r.progress import bar
from r4r.rows import PREDICTIONS, REASONS, REVIEWS, Case
from r4r.stages.estimate import Estimate
from r4r.stages.histories import case_facts, case_inputs, known_cases, one_line, pool_rows
from r4r.stages.pools import pools_stage
from r4r.stages.reason import evaluated_reasons_stage, reasoner_stage, training_reasons_stage
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.timing import Inference
from r4r.stages.train import Texts, train_stage, use_adapter
from r4r.stages.write import first_of
from r4r.store.artifact import write_table
from r4r.store.journal import Journal

VERSION = 1
RATING_TOKENS = 16  # room for the rating prefix behind a prompt


def label(config: Config) -> str:
    """The method's name in tables: the paper's, with the step that it lacks (Figures 3 and 4)."""
    strategy = config.strategy
    if strategy.name == "cot":
        return "CoT"
    if strategy.name == "onestep":
        return "One-step" if strategy.histories == "reviews" else "Reason4Rec w/o step 3"
    if strategy.histories == "reviews":
        return "Reason4Rec w/o step 1"
    return "Reason4Rec" if reasons_first(config) else "Reason4Rec w/o step 2"


def reasons_first(config: Config) -> bool:
    """Whether a Reasoner writes before the Predictor rates."""
    return config.strategy.reason and config.reason_source.name != "none"


def predictor_stage(config: Config) -> Stage:
    """Artifact: the Predictor's adapter. Without a Reasoner, its prompt has no Analysis section."""
    inputs = case_inputs(config)
    if reasons_first(config):
        inputs["reason"] = training_reasons_stage(config)
    else:
        inputs["pools"] = pools_stage(config)
    return train_stage(config, "predictor", inputs, case_facts(config), _texts)


def predictions_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.PREDICTIONS); `detail.parquet` adds p1..p5 and the reason."""
    identity = case_facts(config) | {"evaluate": config.dataset.evaluate.model_dump(mode="json")}
    if label(config) == "Reason4Rec w/o step 2":
        identity["label"] = label(config)  # without it, the key is that of ratings once stored as Reason4Rec's
    inputs = case_inputs(config) | {"predictor": predictor_stage(config)}
    if reasons_first(config):
        inputs["reason"] = evaluated_reasons_stage(config)
    split = config.dataset.evaluate.split
    takes = Estimate(lambda known: known.evaluated, f"{split} rows")
    return Stage(f"predict/{split}", VERSION, identity, inputs, _build, takes, _inference)


def _texts(work: Work) -> Texts:
    if "reason" not in work.inputs:
        rows = pool_rows(work, "experts")
        reasons: list[str | None] = [None] * len(rows)
    else:
        table = work.inputs["reason"].table(REASONS)
        rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[table["row_id"]].reset_index()
        reasons = table["reason"].tolist()
    return [
        (case.row_id, Predictor.prompt(case, reason), Predictor.target(rating))
        for case, reason, rating in zip(known_cases(work, rows), reasons, rows["rating"], strict=True)
    ]


def _build(work: Work) -> dict[str, Any]:
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    reasons: dict[int, str] = {}
    if "reason" in work.inputs:
        table = work.inputs["reason"].table(REASONS)
        reasons = dict(zip(table["row_id"].tolist(), table["reason"], strict=True))
    cases = known_cases(work, rows)
    encoded = _encode(work.job.engine, cases, [reasons[c.row_id] if reasons else None for c in cases])
    use_adapter(work.job, "predictor", work.inputs["predictor"])
    return rate_rows(work, "predictor", [c.row_id for c in cases], encoded, reasons)


def _encode(engine: Engine, cases: Sequence[Case], reasons: Sequence[str | None]) -> list[list[int]]:
    """Token ids of each case up to where the digit of its rating stands."""
    prompts = [Predictor.prompt(case, reason) for case, reason in zip(cases, reasons, strict=True)]
    prefix = rating_tokens(engine.chat).prefix
    return [[*ids, *prefix] for ids in encode_prompts(engine, prompts, RATING_TOKENS)]


def _inference(work: Work, rows: pd.DataFrame) -> Inference:
    """Steps 2 and 3: the Reasoner writes, the Predictor rates."""
    job, cases = work.job, known_cases(work, rows)
    reasoned = reasons_first(job.config)
    use_adapter(job, "predictor", work.inputs["predictor"])
    if reasoned:
        use_adapter(job, "reasoner", job.materialize(reasoner_stage(job.config)))

    def read(place: int, reason: str) -> tuple[list[int], bool]:
        [ids] = _encode(job.engine, [cases[place]], [one_line(reason) if reasoned else None])
        return ids, False

    return Inference(
        "reasoner" if reasoned else None,
        [Reasoner.prompt(case) for case in cases],
        job.config.experts["reasoner"]["max_new_tokens"] if reasoned else 0,
        "predictor",
        read,
    )


def rate_rows(
    work: Work,
    adapter: str,
    row_ids: Sequence[int],
    encoded: Sequence[Sequence[int]],
    reasons: Mapping[int, str],
    name: str | None = None,
) -> dict[str, Any]:
    """Rate every row and write `data.parquet` and `detail.parquet`; finished units survive a kill.

    Args:
        encoded: a row's token ids up to where the digit of its rating stands.
        reasons: by row_id, for `detail.parquet`.
        name: the method's in tables; None: the strategy's.

    Returns:
        Facts for the manifest.
    """
    engine, name = work.job.engine, name or label(work.job.config)
    journal = Journal(work.folder / "rows.jsonl")
    done = {row["row_id"] for row in journal.rows()}
    with bar("predict", len(encoded), len(done)) as advance:
        for unit in engine.plan([len(ids) for ids in encoded]):
            places = [place for place in unit if row_ids[place] not in done]
            if not places:
                continue
            probabilities = engine.rate([encoded[p] for p in places], adapter)
            decoded = decode(probabilities)
            rows = [
                {"row_id": int(row_ids[p]), "label": name, "reason": reasons.get(row_ids[p])}
                | {decoding: float(values[k]) for decoding, values in decoded.items()}
                | {f"p{rating}": float(probabilities[k, rating - 1]) for rating in range(1, 6)}
                for k, p in enumerate(places)
            ]
            journal.append(first_of(rows), rows)
            advance(len(rows), "")
    table = pd.DataFrame(journal.rows()).sort_values("row_id").reset_index(drop=True)
    write_table(work.folder / "data.parquet", table[list(PREDICTIONS)], PREDICTIONS)
    table.to_parquet(work.folder / "detail.parquet", index=False)
    tokens_in = sum(len(ids) for ids in encoded)
    return {"predictions": len(table), "tokens_in": tokens_in, "tokens_out": len(table), "engine": engine.about}
