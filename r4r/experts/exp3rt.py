"""EXP3RT's student: preferences of a review, profiles of a user and an item, then reason and rating in one answer.

arXiv 2408.06276. The three tasks share one adapter: the paper distils them into one student, and a task is told from
the others by its prompt.
"""

from collections.abc import Iterable

from r4r.experts.labelled_lines import labelled_lines
from r4r.experts.onestep import OneStep
from r4r.experts.predictor import average
from r4r.prompts.history import EMPTY, history_block
from r4r.prompts.render import render
from r4r.rows import Case

FIELDS = ("Likes", "Dislikes")
NONE = "\n".join(f"{field}: None" for field in FIELDS)  # a review that says nothing
Entries = Iterable[tuple[str, float, str]]
"""(title, rating, preferences) of past reviews, oldest first."""


class Exp3rt(OneStep):
    """Reads both profiles and both averages; writes one paragraph of rationale, then the rating."""

    templates = ("exp3rt", "exp3rt_preferences", "exp3rt_user_profile", "exp3rt_item_profile")

    @classmethod
    def prompt(cls, case: Case, user_profile: str = EMPTY, item_profile: str = EMPTY) -> str:
        """The case's own histories are not shown: the profiles stand for them."""
        return render("exp3rt", **_fields(case, user_profile, item_profile))

    @staticmethod
    def reason_prompt(case: Case, user_profile: str, item_profile: str, rating: float) -> str:
        """The teacher's prompt for a rationale, the true rating given as a hint: for training alone."""
        prompt = render("exp3rt_reason", **_fields(case, user_profile, item_profile))
        return prompt + "\n" + render("hint", rating=f"{rating:g}").lstrip("\n")

    @staticmethod
    def preferences_prompt(category: str, title: str, rating: float, review: str) -> str:
        return render("exp3rt_preferences", category=category, title=title, rating=f"{rating:.1f}", review=review)

    @staticmethod
    def user_profile_prompt(entries: Entries) -> str:
        return render("exp3rt_user_profile", entries=history_block(entries))

    @staticmethod
    def item_profile_prompt(category: str, title: str, entries: Entries) -> str:
        return render("exp3rt_item_profile", category=category, title=title, entries=history_block(entries))


def clean_preferences(text: str) -> str | None:
    """The two lines of an extraction or a profile, tidied; None where one is missing."""
    return labelled_lines(text, FIELDS)


def _fields(case: Case, user_profile: str, item_profile: str) -> dict[str, str]:
    return {
        "user_profile": user_profile,
        "item_profile": item_profile,
        "user_average": average(case.user_average),
        "item_average": average(case.item_average),
        "category": case.category,
        "title": case.title,
    }
