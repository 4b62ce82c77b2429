"""A hypothetical review in a reason's place: what the user would write of the item (the idea of arXiv 2510.00449)."""

from typing import ClassVar

from r4r.experts.reasoner import Reasoner


class Reviewer(Reasoner):
    """Reads what the Reasoner reads; writes the review that this user would write, as real ones of training targets
    taught it."""

    templates = ("reviewer",)
    needs_reason: ClassVar[bool] = False
    needs_review: ClassVar[bool] = True
