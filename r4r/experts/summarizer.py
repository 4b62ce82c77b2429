"""Step 1, Preference Distillation: reviews into aspect-preference summaries (paper 3.1)."""

import re
from collections.abc import Sequence

from r4r.prompts.render import render
from r4r.training.expert import Writer

FIELDS = ("Positive Aspects", "Negative Aspects", "User Preference Elements")


class Summarizer(Writer):
    """Reads one review with its rating; writes its positive and negative aspects and the user's preferences."""

    templates = ("summarizer", "summarizer_example")

    def prompt(self, category: str, title: str, rating: str, review: str) -> str:
        """The question about one review; the rating as the data set's scale writes it."""
        return render("summarizer", category=category, title=title, rating=rating, review=review)

    def teacher_prompt(self, category: str, title: str, rating: str, review: str) -> str:
        """The same question to the teacher, who has not learnt the form of the answer: a worked example first."""
        return render("summarizer_example") + "\n\n" + self.prompt(category, title, rating, review)

    def target(self, summary: str) -> str:
        """The answer to learn."""
        return summary

    def read(self, answer: str) -> str | None:
        """The three lines in an answer, tidied; None where it is no summary."""
        return clean_summary(answer)


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
