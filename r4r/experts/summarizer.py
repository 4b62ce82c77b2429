"""Step 1, Preference Distillation: reviews into aspect-preference summaries (paper 3.1)."""

from r4r.experts.expert import Writer
from r4r.experts.labelled_lines import NONE, labelled_lines
from r4r.prompts.render import render

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


def clean_summary(text: str, once: bool = False) -> str | None:
    """The three lines of a summary, from any common layout of them; None where the text is no summary.

    Args:
        once: as of `labelled_lines`.
    """
    return labelled_lines(text, FIELDS, once)


def is_empty(summary: str) -> bool:
    """Whether none of the three lines of a clean summary names anything."""
    return all(line.endswith(f": {NONE}") for line in summary.splitlines())
