"""Chain of thought: one model, one prompt, the outputs of all three steps in one answer (paper 4.3.1)."""

from r4r.experts.onestep import OneStep
from r4r.prompts.history import history_block
from r4r.rows import Case


class ChainOfThought(OneStep):
    """Reads both histories as raw reviews; writes their summaries, one paragraph of rationale, then the rating."""

    templates = ("cot",)

    @classmethod
    def target(cls, summarised: Case | None, reason: str, rating: float) -> str:
        assert summarised is not None
        users, items = (
            history_block((title, None, text) for title, _, text in entries)
            for entries in (summarised.user_history, summarised.item_history)
        )
        steps = f"User Preferences:\n{users}\nItem Features:\n{items}\n"
        return steps + super().target(None, reason, rating)
