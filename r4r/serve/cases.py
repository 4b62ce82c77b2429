"""What a pipeline is asked about and what it says: plain values, which show themselves in a notebook."""

from dataclasses import dataclass, replace
from typing import Any

from r4r.rows import Case
from r4r.values import Values

SAID = "What the user says now"  # title of a history's entry that is no review


class RawReview(Values):
    """A review that is in no data set.

    Attributes:
        rating: on the scale of the pipeline's data set.
        title: of the reviewed item; of an item's own reviews it may be left out.
        timestamp: Unix time in seconds, or an ISO 8601 date. Reviews without one count as older than those behind them.
    """

    rating: float
    review: str = ""
    title: str = ""
    timestamp: float | str | None = None


@dataclass(frozen=True)
class Past:
    """A review in a history.

    Attributes:
        title: of the reviewed item.
        rating: on the data set's scale; None for what a user says without rating anything.
        shown: what the experts read of it: its summary, or the review itself, cut.
        review: the review itself.
        by: who wrote it, or for a user's own reviews the item that it is about; empty where that has no id.
        timestamp: Unix time in seconds; None where it is not known.
    """

    title: str
    rating: float | None
    shown: str
    review: str
    by: str = ""
    timestamp: int | None = None


@dataclass(frozen=True)
class ServedCase:
    """A user and an item at a time, as the experts see them.

    Attributes:
        case: what the prompts are made from.
        user, item: the reviews in the two histories, oldest first.
        user_count, item_count: how many earlier reviews there are in all; both averages are over these.
        user_id, item_id: in the data set; empty for those who are not in it.
        at: Unix time in seconds: only reviews from before it are known. None: all are.
        actual: the rating that this user really gave this item at this time, where the data set has one.
        preferences: what the user has said beside the reviews, in order.
    """

    case: Case
    user: tuple[Past, ...]
    item: tuple[Past, ...]
    user_count: int
    item_count: int
    user_id: str = ""
    item_id: str = ""
    at: int | None = None
    actual: float | None = None
    preferences: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        from r4r.serve.shown import case_html

        return case_html(self)

    def saying(self, entry: Past) -> "ServedCase":
        """The case with one more entry, the newest, in the user's history; no average changes."""
        history = (*self.case.user_history, (entry.title, entry.rating, entry.shown))
        return replace(
            self,
            case=replace(self.case, user_history=history),
            user=(*self.user, entry),
            preferences=(*self.preferences, entry.review),
        )


@dataclass(frozen=True)
class Rating:
    """A predicted rating, in points of the data set's scale.

    Attributes:
        values: of the scale, lowest first.
        probabilities: of the values; they sum to 1.
        mean, median, mode: of that distribution. The mean is the paper's prediction.
    """

    values: tuple[float, ...]
    probabilities: tuple[float, ...]
    mean: float
    median: float
    mode: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "values": list(self.values),
            "probabilities": list(self.probabilities),
            "mean": self.mean,
            "median": self.median,
            "mode": self.mode,
        }

    def _repr_html_(self) -> str:
        from r4r.serve.shown import rating_html

        return rating_html(self)


@dataclass(frozen=True)
class Explanation:
    """What a pipeline says of a case.

    Attributes:
        label: the method's name in tables.
        reason: why the user might like the item or not; None where the strategy rates without a reason.
    """

    label: str
    case: ServedCase
    reason: str | None
    rating: Rating

    def _repr_html_(self) -> str:
        from r4r.serve.shown import explanation_html

        return explanation_html(self)
