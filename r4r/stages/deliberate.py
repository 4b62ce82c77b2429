"""One model for all: it writes reason and rating in one answer (one-step), or every step of it (chain of thought)."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import ConfigError
from r4r.experts.cot import ChainOfThought
from r4r.experts.onestep import OneStep
from r4r.lm.rating_tokens import rating_tokens
from r4r.progress import say
from r4r.rows import REASONS, REVIEWS
from r4r.stages.histories import case_facts, case_inputs, known_cases
from r4r.stages.predict import rate_rows
from r4r.stages.reasons import reasons_stage
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.train import Texts, train_stage, use_adapter
from r4r.stages.write import write_all

VERSION = 1
EXPERTS: dict[str, type[OneStep]] = {"onestep": OneStep, "cot": ChainOfThought}


def deliberator_stage(config: Config) -> Stage:
    """Artifact: the adapter of the one model, taught by the kept reasons.

    Raises:
        ConfigError: there are no reasons to learn from.
    """
    name, shown = config.strategy.name, config.strategy.histories
    if config.reason_source.name == "none":
        raise ConfigError([f"reason_source=none: strategy={name} learns to write reasons; choose another source"])
    inputs = case_inputs(config, shown) | {"reasons": reasons_stage(config)}
    if name == "cot":
        inputs |= case_inputs(config, "summaries")
    return train_stage(config, name, inputs, case_facts(config, shown), _texts)


def deliberations_stage(config: Config) -> Stage:
    """Artifact: `answers.parquet` (row_id, answer), what the model writes for each row to predict."""
    name, shown = config.strategy.name, config.strategy.histories
    identity = case_facts(config, shown) | {
        "max_new_tokens": config.experts[name]["max_new_tokens"],
        "evaluate": config.dataset.evaluate.model_dump(mode="json"),
    }
    inputs = case_inputs(config, shown) | {"deliberator": deliberator_stage(config)}
    split = config.dataset.evaluate.split
    return Stage(f"deliberate/{split}", VERSION, identity, inputs, _write, f"one text a {split} row")


def deliberated_predictions_stage(config: Config) -> Stage:
    """Artifact: as of `predictions_stage`. The rating is decoded from the logits where the answer comes to it."""
    shown = config.strategy.histories
    identity = case_facts(config, shown) | {"evaluate": config.dataset.evaluate.model_dump(mode="json")}
    inputs = case_inputs(config, shown) | {
        "deliberator": deliberator_stage(config),
        "answers": deliberations_stage(config),
    }
    split = config.dataset.evaluate.split
    return Stage(f"predict/{split}", VERSION, identity, inputs, _predict, f"one forward pass a {split} row")


def _texts(work: Work) -> Texts:
    strategy = work.job.config.strategy
    expert = EXPERTS[strategy.name]
    reasons = work.inputs["reasons"].table(REASONS)
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[reasons["row_id"]].reset_index()
    cases = known_cases(work, rows, strategy.histories)
    summarised = known_cases(work, rows, "summaries") if strategy.name == "cot" else [None] * len(cases)
    return [
        (case.row_id, expert.prompt(case), expert.target(summary, reason, rating))
        for case, summary, reason, rating in zip(cases, summarised, reasons["reason"], rows["rating"], strict=True)
    ]


def _write(work: Work) -> dict[str, Any]:
    name, _, prompts, row_ids = _asked(work)
    limit = work.job.config.experts[name]["max_new_tokens"]
    table, facts = write_all(work, name, row_ids, prompts, limit, "answer")
    table[["row_id", "answer"]].to_parquet(work.folder / "answers.parquet", index=False)
    return facts


def _predict(work: Work) -> dict[str, Any]:
    name, expert, prompts, row_ids = _asked(work)
    chat = work.job.lm.chat
    written = pd.read_parquet(work.inputs["answers"].path / "answers.parquet")
    answers = dict(zip(written["row_id"].tolist(), written["answer"], strict=True))
    encoded, unfinished = [], 0
    for row_id, prompt in zip(row_ids, prompts, strict=True):
        head, finished = expert.head(answers[row_id])
        unfinished += not finished
        encoded.append([*chat.prompt_ids(prompt), *rating_tokens(chat, head).prefix])
    if unfinished:
        say(f"  {unfinished} of {len(row_ids)} answers never came to a rating; it was asked for where they end")
    reasons = {row_id: expert.reason(answer) for row_id, answer in answers.items()}
    facts = rate_rows(work, name, row_ids, encoded, reasons)
    return facts | {"answers_without_rating": unfinished}


def _asked(work: Work) -> tuple[str, type[OneStep], list[str], list[int]]:
    """The expert, ready on the base model, with a prompt for each row to predict."""
    strategy = work.job.config.strategy
    use_adapter(work.job, strategy.name, work.inputs["deliberator"])
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    expert = EXPERTS[strategy.name]
    prompts = [expert.prompt(case) for case in known_cases(work, rows, strategy.histories)]
    return strategy.name, expert, prompts, rows["row_id"].tolist()
