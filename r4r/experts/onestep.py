"""One step: one model writes the reason and the rating in one answer (paper 4.3.1)."""

from r4r.experts.predictor import average
from r4r.lm.rating_tokens import rating_text
from r4r.prompts.history import history_block
from r4r.prompts.render import render
from r4r.rows import Case
from r4r.training.expert import Writer

RATING = "Predicted Rating:"


class OneStep(Writer):
    """Reads both histories WITH ratings, and both averages; writes one paragraph of rationale, then the rating.

    The histories show raw reviews (one-step), or summaries (the ablation without step 3).
    """

    templates: tuple[str, ...] = ("onestep",)

    @classmethod
    def prompt(cls, case: Case) -> str:
        return render(
            cls.templates[0],
            user_history=history_block(case.user_history),
            item_history=history_block(case.item_history),
            user_average=average(case.user_average),
            item_average=average(case.item_average),
            category=case.category,
            title=case.title,
        )

    @classmethod
    def target(cls, summarised: Case | None, reason: str, rating: float) -> str:
        """The answer to learn.

        Args:
            summarised: the case with its histories summarised; chain of thought writes them too.
        """
        return f"Analysis: {reason}\n{rating_text(rating)}"

    @staticmethod
    def head(answer: str) -> tuple[str, bool]:
        """An answer up to its rating, which is decoded from the logits, and whether the answer had come to it.

        An answer that never came to its rating, cut off or astray, is taken whole.
        """
        before, found, _ = answer.partition(RATING)
        return before.strip() + "\n", bool(found)

    @staticmethod
    def reason(answer: str) -> str:
        """The rationale in an answer, as one paragraph: all of it where it is not marked as such."""
        analysis = OneStep.head(answer)[0].rpartition("Analysis:")[2]
        return " ".join(analysis.split())
