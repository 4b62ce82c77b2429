"""Step 1, Preference Distillation: reviews into aspect-preference summaries (paper 3.1)."""

from typing import ClassVar

from r4r.experts.labelled_lines import NONE, labelled_lines
from r4r.training.expert import Writer

FIELDS = ("Positive Aspects", "Negative Aspects", "User Preference Elements")


class Summarizer(Writer):
    """Reads one review with its rating; writes its positive and negative aspects and the user's preferences."""

    templates = ("summarizer", "summarizer_example")
    nothing: ClassVar[str] = "\n".join(
        f"{field}: {NONE}" for field in FIELDS
    )  # the summary of a review that says nothing

    def prompt(self, category: str, title: str, rating: str, review: str) -> str:
        """The question about one review; the rating as the data set's scale writes it."""
        return self.render("summarizer", category=category, title=title, rating=rating, review=review)

    def teacher_prompt(self, category: str, title: str, rating: str, review: str) -> str:
        """The same question to the teacher, who has not learnt the form of the answer: a worked example first."""
        return self.render("summarizer_example") + "\n\n" + self.prompt(category, title, rating, review)

    def target(self, summary: str) -> str:
        """The answer to learn."""
        return summary

    def read(self, answer: str, once: bool = False) -> str | None:
        """The three lines in an answer, tidied; None where it is no summary.

        Args:
            once: whether a line that stands there twice, saying different things, makes it none.
        """
        return clean_summary(answer, once)


def clean_summary(text: str, once: bool = False) -> str | None:
    """The three lines of a summary, from any common layout of them; None where the text is no summary.

    Args:
        once: as of `labelled_lines`.
    """
    return labelled_lines(text, FIELDS, once)


def is_empty(summary: str) -> bool:
    """Whether none of the three lines of a clean summary names anything."""
    return all(line.endswith(f": {NONE}") for line in summary.splitlines())
