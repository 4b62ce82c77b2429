"""An LLM without fine-tuning: the user's past titles and ratings in, a rating out (arXiv 2304.10149; SPEC section 6).

The prompt has the structure of the cited one: the rating history, the question with the ends of the scale, the form of
the answer. Whoever is `teacher` predicts: GPT-4o with `teacher=openai teacher.model=gpt-4o`.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from r4r.config import Config
from r4r.errors import TeacherError
from r4r.progress import say
from r4r.prompts.render import render
from r4r.reasons.rating import parse_rating
from r4r.rows import PREDICTIONS, Case
from r4r.scale import Scale
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all
from r4r.stages.cases import make_cases
from r4r.stages.identity import prompt_texts
from r4r.stages.split import all_rows, split_stage, targets
from r4r.stages.stage import Job, Stage, Work
from r4r.store.artifact import write_table

VERSION = 2
EMPTY = "(no ratings yet)"


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
        config = job.config
        texts = prompt_texts("fewshot", "fewshot_retry")
        identity = {
            "teacher": teacher_identity(config, "fewshot"),
            "label": self.label,
            "history": self.history,
            "history_source": config.dataset.history.source,
            "retries": self.retries,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "category": config.dataset.category,
            "scale": config.dataset.rating_scale.model_dump(mode="json"),
            "prompts": texts,
            "evaluate": config.dataset.evaluate.model_dump(mode="json"),
        }
        rows = config.dataset.evaluate.max_rows
        takes = (
            estimate(config, rows, rows * (1 + self.retries), texts, 20 * self.history, self.max_tokens)
            if rows
            else "a teacher call a row"
        )
        return Stage("predict/fewshot", VERSION, identity, {"split": split_stage(config)}, self._build, takes)

    def _build(self, work: Work) -> dict[str, Any]:
        wanted, scale = targets(work.job), work.job.config.dataset.rating_scale
        table, facts = ask_all(
            work,
            "ask for ratings",
            wanted["row_id"].tolist(),
            self.prompts(work.job.config, all_rows(work.job), wanted),
            self.temperature,
            self.max_tokens,
            self.retries + 1,
            rating_reader(scale),
            render("fewshot_retry", **_ends(scale)),
            "rating",
        )
        again = int((table["calls"] > 1).sum())
        say(f"  {again} of {len(table)} rows were asked more than once")
        values = table["answer"].astype(float)
        predictions = table.assign(label=self.label, mean=values, median=values, mode=values)
        write_table(work.folder / "data.parquet", predictions, PREDICTIONS)
        return {"predictions": len(table), "asked_again": again, **facts}

    def prompts(self, config: Config, rows: pd.DataFrame, wanted: pd.DataFrame) -> list[str]:
        """A prompt a wanted row: the user's newest titles and ratings before its time, oldest first."""
        history = config.dataset.history.model_copy(update={"prompt": self.history})
        dataset = config.dataset.model_copy(update={"history": history})
        return [_prompt(case) for case in make_cases(dataset, rows, wanted, defaultdict(str))]


def rating_reader(scale: Scale) -> Callable[[int, str], str]:
    """For `ask_all`: reads the rating in an answer, and raises a TeacherError with what it says instead."""

    def read(place: int, text: str) -> str:
        rating = parse_rating(text, scale)
        if rating is None:
            raise TeacherError(repr(" ".join(text.split())[:80]))
        return str(rating)

    return read


def _prompt(case: Case) -> str:
    past = enumerate(case.user_history, 1)
    lines = [f"{n}. {title}, Rating: {case.scale.text(rating)}" for n, (title, rating, _) in past]
    history = "\n".join(lines) or EMPTY
    return render("fewshot", history=history, category=case.category, title=case.title, **_ends(case.scale))


def _ends(scale: Scale) -> dict[str, str]:
    return {"lowest": f"{scale.lowest:g}", "highest": f"{scale.highest:g}"}
