"""What a step of the deliberation declares: how it asks, what it learns to answer, and how its answer is read.

The stages derive all else from these declarations: training texts, writing, rating, artifact keys. The object that the
configuration mounts at `experts.<name>` is asked wherever that step prompts, learns or is read, so a subclass with
another prompt is used everywhere.
"""

from typing import ClassVar

from r4r.prompts.render import render
from r4r.rows import Case, Lesson
from r4r.scale import Scale
from r4r.training.expert import Expert, Writer


class Thinker(Writer):
    """A step that writes a text about each target, which later steps read among the case's thoughts."""

    needs_reason: ClassVar[bool] = True  # learns from training reasons: where the job has none, the step is left out
    needs_review: ClassVar[bool] = False  # learns from the targets' own reviews: its lessons have them as their reasons
    needs_summaries: ClassVar[bool] = False  # learns to write the histories' summaries too
    rates: ClassVar[bool] = False  # its answers hold the rating as well

    def prompt(self, case: Case) -> str:
        """The question about one target."""
        raise NotImplementedError

    def target(self, case: Case, lesson: Lesson) -> str:
        """The answer to learn for a training pair."""
        raise NotImplementedError

    def read(self, answer: str) -> str:
        """The thought in an answer: one paragraph, so that no line of it can fake a section of a later prompt."""
        return " ".join(answer.split())

    def formed(self, answer: str) -> bool:
        """Whether an answer has the form that was asked for."""
        return bool(self.read(answer))


class Rater(Expert):
    """A last step that rates without writing: its answer is the rating, decoded from the logits (paper 3.3)."""

    needs_reason: ClassVar[bool] = False

    def prompt(self, case: Case) -> str:
        """The question for the rating of one target."""
        raise NotImplementedError

    def target(self, case: Case, lesson: Lesson) -> str:
        """The answer to learn for a training pair."""
        raise NotImplementedError


class ThinkingRater(Thinker):
    """A last step that writes its reasoning and the rating in one answer."""

    rates: ClassVar[bool] = True

    def formed(self, answer: str) -> bool:
        """Whether an answer reasons, and comes to its rating."""
        return self.head(answer)[1] and bool(self.read(answer))

    def head(self, answer: str) -> tuple[str, bool]:
        """An answer up to its rating, which is decoded from the logits, and whether the answer had come to it."""
        raise NotImplementedError

    def revised(self, answer: str, reason: str) -> str:
        """The answer with another reason in place of its own, of which `read` gives the new one; with an empty one,
        the answer without a reason."""
        raise NotImplementedError


def hinted(prompt: str, rating: float, scale: Scale) -> str:
    """A prompt for the teacher with the true rating as a hint: for training alone (paper 3.4)."""
    ends = {"lowest": f"{scale.lowest:g}", "highest": f"{scale.highest:g}"}
    return prompt + "\n" + render("hint", rating=f"{rating:g}", **ends).lstrip("\n")


def rating_fields(case: Case) -> dict[str, str]:
    """The fields of a prompt that asks for a rating: both averages, and the ends of the scale."""
    return {
        "user_average": average(case.user_average),
        "item_average": average(case.item_average),
        "lowest": f"{case.scale.lowest:g}",
        "highest": f"{case.scale.highest:g}",
    }


def average(value: float | None) -> str:
    """A mean rating with one decimal, or that it is unknown."""
    return "unknown" if value is None else f"{value:.1f}"
