"""Rec-SAVER's student: one model writes its reasoning and the rating in one answer (arXiv 2408.00802)."""

from r4r.experts.onestep import RATING, OneStep
from r4r.experts.steps import hinted, rating_fields
from r4r.prompts.history import history_block
from r4r.prompts.item import metadata
from r4r.prompts.render import render
from r4r.rows import Case

RATE, REASON, VERIFY = (f"methods/rec_saver/{name}.txt" for name in ("rate", "reason", "verify"))  # prompt files


class RecSaver(OneStep):
    """Reads the user's history (title, rating, raw review) and the target's metadata: title, categories, description.

    Nothing of the item's other reviews and no average: the method knows the target by its metadata alone.
    """

    templates = (RATE,)
    teacher_templates = (REASON, "hint")  # prompt files of `reason_prompt`, part of the key of its answers
    verify_templates = (VERIFY,)  # the same of `verify_prompt`

    def prompt(self, case: Case) -> str:
        return self.render(RATE, **_fields(case), **_ends(case))

    def reason_prompt(self, case: Case, rating: float) -> str:
        """The teacher's prompt for a trace, the true rating given as a hint: for training alone."""
        return hinted(render(REASON, **_fields(case)), rating, case.scale)

    def verify_prompt(self, case: Case, reason: str) -> str:
        """The teacher's prompt to recover the rating from history and trace."""
        return render(VERIFY, reason=reason, **_fields(case), **_ends(case))

    def stated(self, answer: str) -> str:
        """What an answer states as its rating, as text; empty where it never came to one."""
        return (answer.partition(RATING)[2].strip().splitlines() or [""])[0]


def _fields(case: Case) -> dict[str, str]:
    history = history_block(case.user_history, case.scale)
    return {"history": history, "item": metadata(case), "title": case.title, "category": case.category}


def _ends(case: Case) -> dict[str, str]:
    fields = rating_fields(case)
    return {"lowest": fields["lowest"], "highest": fields["highest"]}
