"""Step 3, Feedback Prediction: the rating, by logit-weighted decoding (paper 3.3)."""

from r4r.lm.rating_tokens import rating_text
from r4r.prompts.history import history_block
from r4r.prompts.render import render
from r4r.rows import Case
from r4r.training.expert import Expert


class Predictor(Expert):
    """Reads both histories WITH ratings, both averages and the reasoner's reason; says the rating."""

    templates = ("predictor", "predictor_without_reason")

    @staticmethod
    def prompt(case: Case, reason: str | None) -> str:
        """The prompt; without the Personalized Recommendation Analysis section where `reason` is None."""
        fields = {
            "user_history": history_block(case.user_history),
            "item_history": history_block(case.item_history),
            "user_average": average(case.user_average),
            "item_average": average(case.item_average),
            "title": case.title,
        }
        if reason is None:
            return render("predictor_without_reason", **fields)
        return render("predictor", reason=reason, **fields)

    @staticmethod
    def target(rating: float) -> str:
        return rating_text(rating)


def average(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
