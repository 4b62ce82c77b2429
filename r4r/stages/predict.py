"""The Predictor: trained on the Reasoner's reasons, then rates by logit-weighted decoding (paper 3.3)."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.experts.predictor import Predictor
from r4r.lm.batches import plan_batches
from r4r.lm.rate import decode, rate
from r4r.lm.write import encode_prompts
from r4r.progress import bar
from r4r.rows import PREDICTIONS, REASONS, REVIEWS
from r4r.stages.pools import pools_stage
from r4r.stages.reason import evaluated_reasons_stage, training_reasons_stage
from r4r.stages.reward import case_facts, pool_rows, summarised_cases
from r4r.stages.split import evaluated, split_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.summarize import summaries_stage
from r4r.stages.train import Texts, train_stage, use_adapter
from r4r.store.artifact import write_table
from r4r.store.journal import Journal

VERSION = 1
LABEL = "Reason4Rec"
RATING_TOKENS = 16  # room for the rating prefix behind a prompt


def predictor_stage(config: Config) -> Stage:
    """Artifact: the Predictor's adapter. With `reason_source=none` its prompt has no Analysis section."""
    inputs = {"split": split_stage(config), "summaries": summaries_stage(config)}
    if config.reason_source.name == "none":
        inputs["pools"] = pools_stage(config)
    else:
        inputs["reason"] = training_reasons_stage(config)
    return train_stage(config, "predictor", inputs, case_facts(config), _texts)


def predictions_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.PREDICTIONS); `detail.parquet` adds p1..p5 and the reason."""
    identity = case_facts(config) | {"evaluate": config.dataset.evaluate.model_dump(mode="json")}
    inputs = {
        "split": split_stage(config),
        "summaries": summaries_stage(config),
        "predictor": predictor_stage(config),
    }
    if config.reason_source.name != "none":
        inputs["reason"] = evaluated_reasons_stage(config)
    split = config.dataset.evaluate.split
    return Stage(f"predict/{split}", VERSION, identity, inputs, _build, f"one forward pass a {split} row")


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
        for case, reason, rating in zip(summarised_cases(work, rows), reasons, rows["rating"], strict=True)
    ]


def _build(work: Work) -> dict[str, Any]:
    lm = work.job.lm
    use_adapter(work.job, "predictor", work.inputs["predictor"])
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    reasons: dict[int, str] = {}
    if "reason" in work.inputs:
        table = work.inputs["reason"].table(REASONS)
        reasons = dict(zip(table["row_id"].tolist(), table["reason"], strict=True))
    cases = summarised_cases(work, rows)
    encoded = encode_prompts(
        lm, [Predictor.prompt(c, reasons[c.row_id] if reasons else None) for c in cases], RATING_TOKENS
    )
    journal = Journal(work.folder / "rows.jsonl")
    batches = plan_batches([len(ids) for ids in encoded], lm.spec.batch_tokens, RATING_TOKENS)
    with bar("predict", len(batches), len(journal)) as advance, lm.using("predictor"):
        for number, places in enumerate(batches):
            if str(number) in journal:
                continue
            probabilities = rate(lm, [encoded[p] for p in places])
            decoded = decode(probabilities)
            journal.append(
                str(number),
                [
                    {"row_id": cases[p].row_id, "label": LABEL, "reason": reasons.get(cases[p].row_id)}
                    | {name: float(values[k]) for name, values in decoded.items()}
                    | {f"p{rating}": float(probabilities[k, rating - 1]) for rating in range(1, 6)}
                    for k, p in enumerate(places)
                ],
            )
            advance(1, "")
    table = pd.DataFrame(journal.rows()).sort_values("row_id").reset_index(drop=True)
    write_table(work.folder / "data.parquet", table[list(PREDICTIONS)], PREDICTIONS)
    table.to_parquet(work.folder / "detail.parquet", index=False)
    return {"predictions": len(table), "tokens_in": sum(len(ids) for ids in encoded), "tokens_out": len(table)}
