"""One model for all: it writes reason and rating in one answer (one-step), or every step of it (chain of thought)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import ConfigError
from r4r.experts.onestep import OneStep
from r4r.lm.chat import Chat
from r4r.lm.rating_tokens import rating_tokens
from r4r.progress import say
from r4r.rows import REASONS, REVIEWS, Lesson
from r4r.stages.histories import case_facts, case_inputs, known_cases
from r4r.stages.predict import label, rate_rows
from r4r.stages.reasons import reasons_stage
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.timing import Inference
from r4r.stages.train import Texts, make_expert, train_stage, use_adapter
from r4r.stages.write import write_all

VERSION = 1


@dataclass(frozen=True)
class Deliberation:
    """What tells one such model from another.

    Attributes:
        expert: its name at `experts.<name>`.
        kind: the expert itself, which reads its answers.
        label: the method's name in tables.
        trained: the stage whose artifact is its adapter.
        inputs, facts: the stages and the settings that its prompts depend on; `split` is among the stages.
        prompts: a prompt for each row to predict, made from the inputs.
    """

    expert: str
    kind: OneStep
    label: str
    trained: Stage
    inputs: dict[str, Stage]
    facts: dict[str, Any]
    prompts: Callable[[Work, pd.DataFrame], list[str]]


def answers_stage(config: Config, own: Deliberation) -> Stage:
    """Artifact: `answers.parquet` (row_id, answer), what the model writes for each row to predict."""
    identity = own.facts | {
        "max_new_tokens": config.experts[own.expert]["max_new_tokens"],
        "evaluate": config.dataset.evaluate.model_dump(mode="json"),
    }

    def write(work: Work) -> dict[str, Any]:
        prompts, row_ids = _asked(work, own)
        limit = work.job.config.experts[own.expert]["max_new_tokens"]
        table, facts = write_all(work, own.expert, row_ids, prompts, limit, "answer")
        table[["row_id", "answer"]].to_parquet(work.folder / "answers.parquet", index=False)
        return facts

    inputs = own.inputs | {"deliberator": own.trained}
    split = config.dataset.evaluate.split
    return Stage(f"deliberate/{split}", VERSION, identity, inputs, write, f"one text a {split} row")


def rated_answers_stage(config: Config, own: Deliberation) -> Stage:
    """Artifact: as of `predictions_stage`. The rating is decoded from the logits where the answer comes to it."""
    identity = own.facts | {"evaluate": config.dataset.evaluate.model_dump(mode="json")}
    inputs = own.inputs | {"deliberator": own.trained, "answers": answers_stage(config, own)}
    split = config.dataset.evaluate.split
    return Stage(
        f"predict/{split}",
        VERSION,
        identity,
        inputs,
        lambda work: _predict(work, own),
        f"one forward pass a {split} row",
        lambda work, rows: _inference(work, own, rows),
    )


def deliberated_predictions_stage(config: Config) -> Stage:
    """Artifact: as of `rated_answers_stage`, by the one model of the strategy, taught by the kept reasons.

    Raises:
        ConfigError: there are no reasons to learn from.
    """
    name, shown = config.strategy.name, config.strategy.histories
    if config.reason_source.name == "none":
        raise ConfigError([f"reason_source=none: strategy={name} learns to write reasons; choose another source"])
    expert: Any = make_expert(config, name)
    inputs, facts = case_inputs(config, shown), case_facts(config, shown)
    taught = inputs | {"reasons": reasons_stage(config)}
    if name == "cot":
        taught |= case_inputs(config, "summaries")

    def prompts(work: Work, rows: pd.DataFrame) -> list[str]:
        return [expert.prompt(case) for case in known_cases(work, rows, shown)]

    trained = train_stage(config, name, taught, facts, _texts)
    return rated_answers_stage(config, Deliberation(name, expert, label(config), trained, inputs, facts, prompts))


def _texts(work: Work) -> Texts:
    strategy = work.job.config.strategy
    expert: Any = make_expert(work.job.config, strategy.name)
    reasons = work.inputs["reasons"].table(REASONS)
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[reasons["row_id"]].reset_index()
    cases = known_cases(work, rows, strategy.histories)
    summarised = known_cases(work, rows, "summaries") if strategy.name == "cot" else [None] * len(cases)
    return [
        (case.row_id, expert.prompt(case), expert.target(case, Lesson(rating, reason, summary)))
        for case, summary, reason, rating in zip(cases, summarised, reasons["reason"], rows["rating"], strict=True)
    ]


def _predict(work: Work, own: Deliberation) -> dict[str, Any]:
    prompts, row_ids = _asked(work, own)
    chat = work.job.engine.chat
    written = pd.read_parquet(work.inputs["answers"].path / "answers.parquet")
    answers = dict(zip(written["row_id"].tolist(), written["answer"], strict=True))
    encoded, unfinished = [], 0
    for row_id, prompt in zip(row_ids, prompts, strict=True):
        ids, finished = _encode(chat, own, prompt, answers[row_id])
        unfinished += not finished
        encoded.append(ids)
    if unfinished:
        say(f"  {unfinished} of {len(row_ids)} answers never came to a rating; it was asked for where they end")
    reasons = {row_id: own.kind.read(answer) for row_id, answer in answers.items()}
    facts = rate_rows(work, own.expert, row_ids, encoded, reasons, own.label)
    return facts | {"answers_without_rating": unfinished}


def _encode(chat: Chat, own: Deliberation, prompt: str, answer: str) -> tuple[list[int], bool]:
    """Token ids up to where the digit of the rating stands, and whether the answer had come to it."""
    head, finished = own.kind.head(answer)
    return [*chat.prompt_ids(prompt), *rating_tokens(chat, head).prefix], finished


def _inference(work: Work, own: Deliberation, rows: pd.DataFrame) -> Inference:
    use_adapter(work.job, own.expert, work.inputs["deliberator"])
    prompts = own.prompts(work, rows)

    def read(place: int, answer: str) -> tuple[list[int], bool]:
        return _encode(work.job.engine.chat, own, prompts[place], answer)

    return Inference(own.expert, prompts, work.job.config.experts[own.expert]["max_new_tokens"], own.expert, read)


def _asked(work: Work, own: Deliberation) -> tuple[list[str], list[int]]:
    """A prompt for each row to predict, and the rows; the expert is ready on the base model."""
    use_adapter(work.job, own.expert, work.inputs["deliberator"])
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    return own.prompts(work, rows), rows["row_id"].tolist()
