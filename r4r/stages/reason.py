"""The Reasoner: trained on the kept reasons, then writes its own for training pairs and for the rows to predict."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.experts.reasoner import Reasoner
from r4r.rows import REASONS, REVIEWS
from r4r.stages.estimate import Estimate
from r4r.stages.histories import case_facts, case_inputs, known_cases
from r4r.stages.reasons import reasons_stage
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.train import Texts, train_stage, use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table

VERSION = 1


def reasoner_stage(config: Config) -> Stage:
    """Artifact: the Reasoner's adapter."""
    inputs = case_inputs(config) | {"reasons": reasons_stage(config)}
    return train_stage(config, "reasoner", inputs, case_facts(config), _texts)


def training_reasons_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS), the Reasoner's own reasons for the pairs that taught it."""
    inputs = case_inputs(config) | {"reasoner": reasoner_stage(config), "reasons": reasons_stage(config)}
    takes = Estimate(lambda known: known.experts, "pairs at most")
    return Stage("reason/experts", VERSION, _identity(config), inputs, _build_training, takes)


def evaluated_reasons_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS), the Reasoner's reasons for the rows to predict."""
    identity = _identity(config) | {"evaluate": config.dataset.evaluate.model_dump(mode="json")}
    inputs = case_inputs(config) | {"reasoner": reasoner_stage(config)}
    split = config.dataset.evaluate.split
    takes = Estimate(lambda known: known.evaluated, f"{split} rows")
    return Stage(f"reason/{split}", VERSION, identity, inputs, _build_evaluated, takes)


def _identity(config: Config) -> dict[str, Any]:
    return case_facts(config) | {"max_new_tokens": config.experts["reasoner"]["max_new_tokens"]}


def kept_rows(work: Work) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows (rows.REVIEWS) of the pairs that have a reason, and the reasons, both by row_id."""
    reasons = work.inputs["reasons"].table(REASONS)
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[reasons["row_id"]].reset_index()
    return rows, reasons


def _texts(work: Work) -> Texts:
    rows, reasons = kept_rows(work)
    return [
        (case.row_id, Reasoner.prompt(case), Reasoner.target(reason))
        for case, reason in zip(known_cases(work, rows), reasons["reason"], strict=True)
    ]


def _build_training(work: Work) -> dict[str, Any]:
    return _write(work, kept_rows(work)[0])


def _build_evaluated(work: Work) -> dict[str, Any]:
    return _write(work, evaluated(work.job.config, work.inputs["split"].table(REVIEWS)))


def _write(work: Work, rows: pd.DataFrame) -> dict[str, Any]:
    use_adapter(work.job, "reasoner", work.inputs["reasoner"])
    prompts = [Reasoner.prompt(case) for case in known_cases(work, rows)]
    limit = work.job.config.experts["reasoner"]["max_new_tokens"]
    table, facts = write_all(work, "reasoner", rows["row_id"].tolist(), prompts, limit, "reason")
    table["reason"] = table["reason"].str.split().str.join(" ")  # one paragraph: no line may fake a prompt's section
    write_table(work.folder / "data.parquet", table, REASONS)
    return facts
