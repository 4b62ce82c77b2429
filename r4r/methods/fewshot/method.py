"""An LLM without fine-tuning: the user's past titles and ratings in, a rating out (arXiv 2304.10149; SPEC section 6).

The prompt has the structure of the cited one: the rating history, the question with the ends of the scale, the form of
the answer. Whoever is `teacher` predicts: GPT-4o with `teacher=openai teacher.model=gpt-4o`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from r4r.configuration.schema import EvaluateConfig
from r4r.errors import TeacherError
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.prompts.render import render
from r4r.reasons.rating import parse_rating
from r4r.rows import PREDICTIONS, REVIEWS, Case
from r4r.scale import Scale
from r4r.stages.ask import estimate
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import Histories
from r4r.stages.identity import prompt_texts, teacher_identity
from r4r.stages.reasons import Teaching
from r4r.stages.split import evaluated_rows, split_stage
from r4r.stages.stage import Job, Work
from r4r.store.artifact import write_table

RATE, RETRY = "methods/fewshot/rate.txt", "methods/fewshot/retry.txt"  # prompt files
EMPTY = "(no ratings yet)"
ENTRY_TOKENS = 20  # of a title with its rating, about: for plans only


class FewShot:
    """Asks for each row to predict; an answer that is no rating is asked for again, with a reminder.

    Args:
        label: the row's name in tables.
        history: newest ratings of the user that a prompt shows.
        retries: calls beyond the first that a row may take.
        temperature, max_tokens: of the calls; a temperature of null is not sent.
    """

    uses = frozenset({"dataset", "teacher"})

    def __init__(
        self,
        name: str = "fewshot",
        label: str = "LLM few-shot",
        history: Annotated[int, Field(ge=1)] = 10,
        retries: Annotated[int, Field(ge=0)] = 3,
        temperature: Annotated[float | None, Field(ge=0)] = 0.0,
        max_tokens: Annotated[int, Field(ge=4)] = 16,
    ):
        self.name = name
        self.label, self.history, self.retries = label, history, retries
        self.temperature, self.max_tokens = temperature, max_tokens

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        config, dataset = job.config, job.config.dataset
        texts = prompt_texts(RATE, RETRY)
        rows = dataset.evaluate.max_rows
        most = (rows or 0) * (1 + self.retries)
        takes = estimate(config, rows or 0, most, texts, ENTRY_TOKENS * self.history, self.max_tokens)
        past = dataset.history
        return AskedRatings(
            PastRatings(
                split_stage(config), dataset.category, dataset.rating_scale, self.history, past.source, past.overflow
            ),
            dataset.evaluate,
            Teaching(teacher_identity(config, RATE), self.temperature, self.max_tokens, texts),
            self.retries,
            self.label,
            Unkeyed(takes if rows else "a teacher call a row"),
        )


@dataclass(frozen=True)
class PastRatings(Histories):
    """Histories that show titles and ratings alone."""

    def _texts(self, work: Work, rows: pd.DataFrame) -> Mapping[int, str]:
        return defaultdict(str)


@dataclass(frozen=True)
class AskedRatings(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS), the teacher's rating of each row to predict."""

    shown: PastRatings
    evaluate: EvaluateConfig
    teaching: Teaching
    retries: int
    label: str
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "predict/fewshot"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        """
        Raises:
            TeacherError: naming the rows that got no rating in all of their calls.
        """
        wanted = evaluated_rows(self.evaluate, work.of(self.shown.split).table(REVIEWS))
        table, facts = ask_all(
            work,
            "ask for ratings",
            wanted["row_id"].tolist(),
            [rating_prompt(case) for case in self.shown.cases(work, wanted)],
            self.teaching.temperature,
            self.teaching.max_tokens,
            self.retries + 1,
            self._read,
            render(RETRY, **_ends(self.shown.scale)),
            "rating",
        )
        again = int((table["calls"] > 1).sum())
        say(f"  {again} of {len(table)} rows were asked more than once")
        values = table["answer"].astype(float)
        predictions = table.assign(label=self.label, mean=values, median=values, mode=values)
        write_table(work.folder / "data.parquet", predictions, PREDICTIONS)
        return {"predictions": len(table), "asked_again": again, **facts}

    def _read(self, place: int, text: str) -> str:
        rating = parse_rating(text, self.shown.scale)
        if rating is None:
            raise TeacherError(repr(" ".join(text.split())[:80]))
        return str(rating)


def rating_prompt(case: Case) -> str:
    """The question for the rating of one target: the user's newest titles and ratings before its time, oldest first."""
    past = enumerate(((title, rating) for title, rating, _ in case.user_history if rating is not None), 1)
    lines = [f"{n}. {title}, Rating: {case.scale.text(rating)}" for n, (title, rating) in past]
    history = "\n".join(lines) or EMPTY
    return render(RATE, history=history, category=case.category, title=case.title, **_ends(case.scale))


def _ends(scale: Scale) -> dict[str, str]:
    return {"lowest": f"{scale.lowest:g}", "highest": f"{scale.highest:g}"}
