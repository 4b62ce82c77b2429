"""Chain of thought: one model, one prompt, the outputs of all three steps in one answer (paper 4.3.1)."""

from typing import ClassVar

from r4r.experts.onestep import OneStep
from r4r.prompts.history import history_block
from r4r.rows import Case, Lesson


class ChainOfThought(OneStep):
    """Reads both histories as raw reviews; writes their summaries, one paragraph of rationale, then the rating."""

    templates = ("cot",)
    needs_summaries: ClassVar[bool] = True

    def target(self, case: Case, lesson: Lesson) -> str:
        assert lesson.summarised is not None
        users, items = (
            history_block((title, None, text) for title, _, text in entries)
            for entries in (lesson.summarised.user_history, lesson.summarised.item_history)
        )
        return f"User Preferences:\n{users}\nItem Features:\n{items}\n" + super().target(case, lesson)
