"""Step 3, Feedback Prediction: the rating, by logit-weighted decoding (paper 3.3)."""

from r4r.experts.steps import Rater, rating_fields
from r4r.lm.rating_tokens import rating_text
from r4r.prompts.history import history_block
from r4r.rows import Case, Lesson


class Predictor(Rater):
    """Reads both histories WITH ratings, both averages and what earlier steps wrote; says the rating."""

    templates = ("predictor", "predictor_without_reason")

    def prompt(self, case: Case) -> str:
        """The prompt; without the Personalized Recommendation Analysis section where no earlier step wrote anything."""
        fields = {
            "user_history": history_block(case.user_history, case.scale),
            "item_history": history_block(case.item_history, case.scale),
            "title": case.title,
            **rating_fields(case),
        }
        if not case.thoughts:
            return self.render("predictor_without_reason", **fields)
        return self.render("predictor", reason="\n".join(case.thoughts), **fields)

    def target(self, case: Case, lesson: Lesson) -> str:
        return rating_text(lesson.rating, case.scale)
