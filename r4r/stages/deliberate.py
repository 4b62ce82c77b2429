"""A method of one model that writes its reasoning and the rating in one answer, from prompts of its own making."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.experts.steps import ThinkingRater
from r4r.lm.chat import Chat
from r4r.lm.rating_tokens import rating_tokens
from r4r.progress import say
from r4r.rows import REVIEWS, TEXTS
from r4r.scale import Scale
from r4r.stages.rate import rate_rows
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.timing import Inference, Round
from r4r.stages.train import use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table

VERSION = 1


@dataclass(frozen=True)
class Deliberation:
    """What tells one such model from another.

    Attributes:
        expert: its name at `experts.<name>`.
        kind: how its answers are read.
        label: the method's name in tables.
        trained: the stage whose artifact is its adapter.
        inputs, facts: the stages and the settings that its prompts depend on; `split` is among the stages.
        prompts: a prompt for each row to predict, made from the inputs.
    """

    expert: str
    kind: ThinkingRater
    label: str
    trained: Stage
    inputs: dict[str, Stage]
    facts: dict[str, Any]
    prompts: Callable[[Work, pd.DataFrame], list[str]]


def answers_stage(config: Config, own: Deliberation) -> Stage:
    """Artifact: `data.parquet` (rows.TEXTS), what the model writes for each row to predict."""
    identity = own.facts | {
        "max_new_tokens": config.experts[own.expert]["max_new_tokens"],
        "evaluate": config.dataset.evaluate.model_dump(mode="json"),
    }

    def write(work: Work) -> dict[str, Any]:
        prompts, row_ids = _asked(work, own)
        limit = work.job.config.experts[own.expert]["max_new_tokens"]
        table, facts = write_all(work, own.expert, row_ids, prompts, limit, f"by the {own.expert}")
        write_table(work.folder / "data.parquet", table, TEXTS)
        return facts

    inputs = own.inputs | {"deliberator": own.trained}
    split = config.dataset.evaluate.split
    return Stage(f"write/{own.expert}/{split}", VERSION, identity, inputs, write, f"one text a {split} row")


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


def _predict(work: Work, own: Deliberation) -> dict[str, Any]:
    prompts, row_ids = _asked(work, own)
    chat = work.job.engine.chat
    written = work.inputs["answers"].table(TEXTS)
    answers = dict(zip(written["row_id"].tolist(), written["text"], strict=True))
    encoded, unfinished = [], 0
    for row_id, prompt in zip(row_ids, prompts, strict=True):
        ids, finished = _encode(chat, own, prompt, answers[row_id], work.job.config.dataset.rating_scale)
        unfinished += not finished
        encoded.append(ids)
    if unfinished:
        say(f"  {unfinished} of {len(row_ids)} answers never came to a rating; it was asked for where they end")
    reasons = {row_id: own.kind.read(answer) for row_id, answer in answers.items()}
    scale = work.job.config.dataset.rating_scale
    facts = rate_rows(work, own.expert, row_ids, encoded, reasons, own.label, scale)
    return facts | {"answers_without_rating": unfinished}


def _encode(chat: Chat, own: Deliberation, prompt: str, answer: str, scale: Scale) -> tuple[list[int], bool]:
    """Token ids up to where the digit of the rating stands, and whether the answer had come to it."""
    head, finished = own.kind.head(answer)
    return [*chat.prompt_ids(prompt), *rating_tokens(chat, head, scale).prefix], finished


def _inference(work: Work, own: Deliberation, rows: pd.DataFrame) -> Inference:
    use_adapter(work.job, own.expert, work.inputs["deliberator"])
    prompts = own.prompts(work, rows)

    def read(place: int, texts: Sequence[str]) -> tuple[list[int], bool]:
        return _encode(work.job.engine.chat, own, prompts[place], texts[-1], scale)

    limit, scale = work.job.config.experts[own.expert]["max_new_tokens"], work.job.config.dataset.rating_scale
    return Inference([Round(own.expert, lambda place, texts: prompts[place], limit)], own.expert, read, scale)


def _asked(work: Work, own: Deliberation) -> tuple[list[str], list[int]]:
    """A prompt for each row to predict, and the rows; the expert is ready on the base model."""
    use_adapter(work.job, own.expert, work.inputs["deliberator"])
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    return own.prompts(work, rows), rows["row_id"].tolist()
