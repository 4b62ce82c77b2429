"""The one model of RecZero and RecOne: four tagged steps, the last of which states the rating (arXiv 2510.23077)."""

import re
from typing import ClassVar

from r4r.experts.steps import Thinker, rating_fields
from r4r.prompts.history import history_block
from r4r.rows import Case, Lesson
from r4r.scale import Scale

STEPS = ("analyze user", "analyze item", "match", "rate")
FORM = re.compile(r"\s*".join(rf"<{step}>(?P<{step.replace(' ', '_')}>[^<>]*)</{step}>" for step in STEPS))
RATE = re.compile(r"<rate>([^<>]*)</rate>")
PROMPT = "methods/reczero/reczero.txt"


class FourSteps(Thinker):
    """Reads both histories WITH ratings, and both averages; analyses the user, the item, their match; rates."""

    needs_reason: ClassVar[bool] = False
    rates: ClassVar[bool] = True
    templates = (PROMPT,)

    def prompt(self, case: Case) -> str:
        return self.render(
            PROMPT,
            user_history=history_block(case.user_history, case.scale),
            item_history=history_block(case.item_history, case.scale),
            category=case.category,
            title=case.title,
            **rating_fields(case),
        )

    def target(self, case: Case, lesson: Lesson) -> str:
        """A trace to learn, its rating as the scale writes it."""
        return written(lesson.reason, lesson.rating, case.scale)

    def formed(self, answer: str) -> bool:
        """Whether the answer is the four steps in their order, none of them empty, and nothing else."""
        found = FORM.fullmatch(answer.strip())
        return found is not None and all(text.strip() for text in found.groups())

    def stated(self, answer: str) -> str:
        """What an answer states as its rating, as text; empty where it states none, or several."""
        found = RATE.findall(answer)
        return found[0].strip() if len(found) == 1 else ""

    def read(self, answer: str) -> str:
        """The reasoning in an answer: the steps before the rating, as one paragraph."""
        return " ".join(re.sub(r"</?[a-z ]+>", " ", answer.partition("<rate>")[0]).split())


def written(trace: str, rating: float, scale: Scale) -> str:
    """A trace, a step a line, with this rating."""
    found = FORM.fullmatch(trace.strip())
    if found is None:
        raise ValueError("a trace of other than four steps cannot be learnt")
    texts = [" ".join(text.split()) for text in found.groups()[:-1]]
    lines = [f"<{step}>{text}</{step}>" for step, text in zip(STEPS, texts, strict=False)]
    return "\n".join([*lines, f"<rate>{scale.text(rating)}</rate>"])
