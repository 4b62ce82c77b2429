"""Step 1, Preference Distillation: reviews into aspect-preference summaries (paper 3.1)."""

import re
from collections.abc import Sequence

from r4r.prompts.render import render
from r4r.training.expert import Writer

FIELDS = ("Positive Aspects", "Negative Aspects", "User Preference Elements")


class Summarizer(Writer):
    """Reads one review with its rating; writes its positive and negative aspects and the user's preferences."""

    templates = ("summarizer",)

    @staticmethod
    def prompt(category: str, title: str, rating: float, review: str) -> str:
        return render("summarizer", category=category, title=title, rating=f"{rating:.1f}", review=review)

    @staticmethod
    def target(summary: str) -> str:
        return summary


def clean_summary(text: str) -> str | None:
    """The three lines of a summary, tidied; None where a field is missing, so that the text is no summary."""
    return tidied_lines(text, FIELDS)


def tidied_lines(text: str, fields: Sequence[str]) -> str | None:
    """One line a field, `None` where it is empty; None where a field is missing."""
    lines = []
    for field in fields:
        found = re.search(rf"^\W*{field}\W*:[ *]*(.*)$", text, re.MULTILINE | re.IGNORECASE)
        if not found:
            return None
        lines.append(f"{field}: {found.group(1).strip().rstrip('.') or 'None'}")
    return "\n".join(lines)
