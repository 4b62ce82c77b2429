"""Step 2, Preference Matching: why the user might like or dislike the item (paper 3.2)."""

from r4r.prompts.history import history_block
from r4r.prompts.render import render
from r4r.rows import Case
from r4r.training.expert import Writer


class Reasoner(Writer):
    """Reads both histories WITHOUT ratings; writes one paragraph of rationale."""

    templates = ("reasoner",)

    @staticmethod
    def prompt(case: Case) -> str:
        return render(
            "reasoner",
            user_history=history_block((title, None, text) for title, _, text in case.user_history),
            item_history=history_block((title, None, text) for title, _, text in case.item_history),
            category=case.category,
            title=case.title,
        )

    @staticmethod
    def target(reason: str) -> str:
        return reason
