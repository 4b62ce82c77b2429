"""Rec-SAVER's student: one model writes its reasoning and the rating in one answer (arXiv 2408.06254)."""

from r4r.experts.onestep import OneStep
from r4r.prompts.history import history_block
from r4r.prompts.render import render
from r4r.rows import Case


class RecSaver(OneStep):
    """Reads the user's history (title, rating, raw review) and the target's title and category.

    Nothing of the item's other reviews and no average: the method knows the target by its metadata alone.
    """

    templates = ("rec_saver",)

    @classmethod
    def prompt(cls, case: Case) -> str:
        return render("rec_saver", **_fields(case))

    @staticmethod
    def reason_prompt(case: Case, rating: float) -> str:
        """The teacher's prompt for a trace, the true rating given as a hint: for training alone."""
        return render("rec_saver_reason", **_fields(case)) + "\n" + render("hint", rating=f"{rating:g}").lstrip("\n")

    @staticmethod
    def verify_prompt(case: Case, reason: str) -> str:
        """The teacher's prompt to recover the rating from history and trace."""
        return render("rec_saver_verify", reason=reason, **_fields(case))


def _fields(case: Case) -> dict[str, str]:
    return {"history": history_block(case.user_history), "title": case.title, "category": case.category}
