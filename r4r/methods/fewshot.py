"""An LLM without fine-tuning: the user's past titles and ratings in, a rating out (arXiv 2304.10149; SPEC section 6).

Whoever is `teacher` predicts: GPT-4o with `teacher=openai teacher.model=gpt-4o`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from r4r.config import Config
from r4r.errors import TeacherError
from r4r.methods import point_predictions
from r4r.progress import bar, say
from r4r.prompts.render import render
from r4r.reasons.rating import parse_rating
from r4r.rows import PREDICTIONS, Case
from r4r.stages.ask import Asking, answered, estimate, groups, teacher_identity
from r4r.stages.cases import make_cases
from r4r.stages.identity import prompt_texts
from r4r.stages.split import all_rows, split_stage, targets
from r4r.stages.stage import Job, Stage, Work
from r4r.store.artifact import write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call

VERSION = 1
UNIT = 16  # rows whose answers are kept together
EMPTY = "(no ratings yet)"


class FewShot:
    """Asks for each row to predict; an answer that is no rating is asked for again, with a reminder.

    Args:
        label: the row's name in tables.
        history: newest ratings of the user that a prompt shows.
        retries: calls beyond the first that a row may take.
        temperature, max_tokens: of the calls.
    """

    uses = frozenset({"dataset", "teacher"})

    def __init__(
        self,
        name: str = "fewshot",
        label: str = "LLM few-shot",
        history: Annotated[int, Field(ge=1)] = 10,
        retries: Annotated[int, Field(ge=0)] = 3,
        temperature: Annotated[float, Field(ge=0)] = 0.0,
        max_tokens: Annotated[int, Field(ge=4)] = 16,
    ):
        self.name = name
        self.label, self.history, self.retries = label, history, retries
        self.temperature, self.max_tokens = temperature, max_tokens

    def stages(self, job: Job) -> Stage:
        config = job.config
        texts = prompt_texts("fewshot", "fewshot_retry")
        identity = {
            "teacher": teacher_identity(config),
            "label": self.label,
            "history": self.history,
            "history_source": config.dataset.history.source,
            "retries": self.retries,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "category": config.dataset.category,
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
        wanted = targets(work.job)
        prompts = self.prompts(work.job.config, all_rows(work.job), wanted)
        journal = Journal(work.folder / "rows.jsonl")
        asking = Asking(work.job, journal)
        units = [list(range(start, min(start + UNIT, len(wanted)))) for start in range(0, len(wanted), UNIT)]
        todo = [number for number in range(len(units)) if str(number) not in journal]
        with bar("ask for ratings", len(units), len(journal)) as advance:
            for group in groups(work.job.config, todo):
                asked = [place for number in group for place in units[number]]
                found = dict(zip(asked, self._ask(asking, wanted, prompts, asked), strict=True))
                for number in group:
                    journal.append(str(number), [*(found[place] for place in units[number]), asking.row()])
                    advance(1, "")
        table = pd.DataFrame(answered(journal)).sort_values("row_id")
        again = int((table["attempts"] > 1).sum())
        say(f"  {again} of {len(table)} rows were asked more than once")
        values = table["rating"].to_numpy(dtype=float)
        write_table(
            work.folder / "data.parquet",
            point_predictions(table["row_id"], self.label, np.asarray(values)),
            PREDICTIONS,
        )
        return {"predictions": len(table), "asked_again": again, **asking.facts()}

    def prompts(self, config: Config, rows: pd.DataFrame, wanted: pd.DataFrame) -> list[str]:
        """A prompt a wanted row: the user's newest titles and ratings before its time, oldest first."""
        history = config.dataset.history.model_copy(update={"prompt": self.history})
        dataset = config.dataset.model_copy(update={"history": history})
        return [_prompt(case) for case in make_cases(dataset, rows, wanted, defaultdict(str))]

    def _ask(
        self, asking: Asking, wanted: pd.DataFrame, prompts: Sequence[str], places: Sequence[int]
    ) -> list[dict[str, Any]]:
        """row_id, rating and attempts of the rows at these places.

        Raises:
            TeacherError: naming the rows that have no rating after all retries.
        """
        row_ids = wanted["row_id"].tolist()
        found: dict[int, tuple[float, int]] = {}
        said: dict[int, str] = {}
        for attempt in range(self.retries + 1):
            missing = [place for place in places if place not in found]
            reminder = render("fewshot_retry") if attempt else ""
            calls = [Call(prompts[p] + reminder, self.temperature, self.max_tokens, attempt) for p in missing]
            for place, answer in zip(missing, asking(calls), strict=True):
                text = str(answer) if isinstance(answer, TeacherError) else answer.text
                rating = None if isinstance(answer, TeacherError) else parse_rating(text)
                if rating is None:
                    said[place] = " ".join(text.split())[:80]
                else:
                    found[place] = (rating, attempt + 1)
        missing = [place for place in places if place not in found]
        if missing:
            shown = "; ".join(f"row {row_ids[p]}: {said[p]!r}" for p in missing[:3])
            raise TeacherError(
                f"{len(missing)} rows have no rating after {self.retries + 1} calls each ({shown}); raise "
                "method.retries or take another teacher. Answers so far are kept"
            )
        return [{"row_id": row_ids[p], "rating": found[p][0], "attempts": found[p][1]} for p in places]


def _prompt(case: Case) -> str:
    lines = [f"{n}. {title}, Rating: {rating:.1f}" for n, (title, rating, _) in enumerate(case.user_history, 1)]
    return render("fewshot", history="\n".join(lines) or EMPTY, category=case.category, title=case.title)
