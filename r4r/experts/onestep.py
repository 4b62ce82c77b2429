"""One step: one model writes the reason and the rating in one answer (paper 4.3.1)."""

from r4r.experts.steps import ThinkingRater, rating_fields
from r4r.lm.rating_tokens import rating_text
from r4r.prompts.history import history_block
from r4r.rows import Case, Lesson

REASON, RATING = "Analysis:", "Predicted Rating:"


class OneStep(ThinkingRater):
    """Reads both histories WITH ratings, and both averages; writes one paragraph of rationale, then the rating.

    The histories show raw reviews (one-step), or summaries (the ablation without step 3).
    """

    templates: tuple[str, ...] = ("onestep",)

    def prompt(self, case: Case) -> str:
        return self.render(
            self.templates[0],
            user_history=history_block(case.user_history, case.scale),
            item_history=history_block(case.item_history, case.scale),
            category=case.category,
            title=case.title,
            **rating_fields(case),
        )

    def target(self, case: Case, lesson: Lesson) -> str:
        return f"{REASON} {lesson.reason}\n{rating_text(lesson.rating, case.scale)}"

    def head(self, answer: str) -> tuple[str, bool]:
        """As ThinkingRater.head; an answer that never came to its rating, cut off or astray, is taken whole."""
        before, found, _ = answer.partition(RATING)
        return before.strip() + "\n", bool(found)

    def read(self, answer: str) -> str:
        """The rationale in an answer, as one paragraph: all of it where it is not marked as such."""
        return " ".join(self.head(answer)[0].rpartition(REASON)[2].split())

    def revised(self, answer: str, reason: str) -> str:
        """As ThinkingRater.revised. Labels of the answer's parts would cut a reason: there they lose their colons."""
        for label in (REASON, RATING):
            reason = reason.replace(label, label.rstrip(":"))
        before = self.head(answer)[0].rpartition(REASON)[0]
        return f"{before}{REASON} {reason}\n" if reason else before
