"""Step 2, Preference Matching: why the user might like or dislike the item (paper 3.2)."""

from r4r.experts.steps import Thinker
from r4r.prompts.history import history_block
from r4r.rows import Case, Lesson


class Reasoner(Thinker):
    """Reads both histories WITHOUT ratings; writes one paragraph of rationale."""

    templates: tuple[str, ...] = ("reasoner",)

    def prompt(self, case: Case) -> str:
        return self.render(
            self.templates[0],
            user_history=history_block((title, None, text) for title, _, text in case.user_history),
            item_history=history_block((title, None, text) for title, _, text in case.item_history),
            category=case.category,
            title=case.title,
        )

    def target(self, case: Case, lesson: Lesson) -> str:
        return lesson.reason
