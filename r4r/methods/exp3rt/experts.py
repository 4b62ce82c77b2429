"""EXP3RT's experts: preferences in a review, profiles of a user and of an item, then reason and rating in one answer.

arXiv 2408.06276. As published, each of the four tasks has an adapter of its own.
"""

from r4r.experts.labelled_lines import labelled_lines
from r4r.experts.onestep import OneStep
from r4r.experts.steps import hinted, rating_fields
from r4r.prompts.history import EMPTY, history_block
from r4r.prompts.item import description_section
from r4r.prompts.render import render
from r4r.rows import Case
from r4r.training.expert import Writer

# prompt files
PREFERENCES, RATE, REASON, USER_PROFILE, ITEM_PROFILE = (
    f"methods/exp3rt/{name}.txt" for name in ("preferences", "rate", "reason", "user_profile", "item_profile")
)
FIELDS = ("Likes", "Dislikes")
NONE = "\n".join(f"{field}: None" for field in FIELDS)  # a review that says nothing


class TwoLines(Writer):
    """An expert that answers in two lines, Likes and Dislikes."""

    def lines(self, answer: str, once: bool = False) -> str | None:
        """The two lines in an answer, tidied; None where one is missing.

        Args:
            once: whether a line that stands there twice, saying different things, counts as missing.
        """
        return labelled_lines(answer, FIELDS, once)

    def read(self, answer: str) -> str:
        """The two lines in an answer, tidied; all of it, on one line, where one is missing."""
        return self.lines(answer) or " ".join(answer.split())

    def target(self, lines: str) -> str:
        """The answer to learn, for the two lines that the teacher gave."""
        return lines


class PreferenceExtractor(TwoLines):
    """Reads one review with its rating; writes what the reviewer likes and dislikes."""

    templates = (PREFERENCES,)

    def prompt(self, category: str, title: str, rating: str, review: str) -> str:
        """The question about one review; the rating as the data set's scale writes it."""
        return self.render(PREFERENCES, category=category, title=title, rating=rating, review=review)


class UserProfiler(TwoLines):
    """Reads the preferences in a user's reviews, with ratings; writes the user's profile."""

    templates = (USER_PROFILE,)

    def prompt(self, case: Case) -> str:
        """The question about the user of a target.

        Args:
            case: its histories show preferences in place of reviews.
        """
        return self.render(USER_PROFILE, entries=history_block(case.user_history, case.scale))


class ItemProfiler(TwoLines):
    """Reads the preferences in an item's reviews, with ratings; writes the item's profile."""

    templates = (ITEM_PROFILE,)

    def prompt(self, case: Case) -> str:
        """The question about the item of a target.

        Args:
            case: its histories show preferences in place of reviews.
        """
        entries = history_block(case.item_history, case.scale)
        return self.render(ITEM_PROFILE, category=case.category, title=case.title, entries=entries)


class Exp3rt(OneStep):
    """Reads both profiles, both averages and the item's description; writes a paragraph of rationale, then the rating.

    The profiles are the case's thoughts, the user's first; without any, nothing is known. Its histories are not shown.
    """

    templates = (RATE,)
    teacher_templates = (REASON, "hint")  # prompt files of `reason_prompt`, part of the key of its answers

    def prompt(self, case: Case) -> str:
        return self.render(RATE, **_profiled(case), **rating_fields(case))

    def reason_prompt(self, case: Case, rating: float) -> str:
        """The teacher's prompt for a rationale, the true rating given as a hint: for training alone."""
        averages = {name: text for name, text in rating_fields(case).items() if name.endswith("_average")}
        return hinted(render(REASON, **_profiled(case), **averages), rating, case.scale)


def _profiled(case: Case) -> dict[str, str]:
    user_profile, item_profile = case.thoughts or (EMPTY, EMPTY)
    return {
        "user_profile": user_profile,
        "item_profile": item_profile,
        "description": description_section(case),
        "category": case.category,
        "title": case.title,
    }
