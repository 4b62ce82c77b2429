"""A trained pipeline: explain and rate pairs of a user and an item with the experts of a finished run."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from r4r.errors import DataError
from r4r.report.records import Run
from r4r.rows import Case
from r4r.serve.cases import Explanation, Rating, RawReview, ServedCase
from r4r.serve.experts import Experts
from r4r.serve.finished import FinishedJob, ratings_of
from r4r.serve.past import Pasts

Pair = tuple[str, str] | tuple[str, str, Any]
"""(user_id, item_id), and where it is to be another than that of `Pipeline.find`, the time."""


class Pipeline:
    """The experts of a finished run, on its base model.

    A reason and a rating are made by the same prompts, adapters and decoding as in the job itself: for a row that the
    job predicted they are what its artifacts hold, up to the rounding of sums in batches of other sizes. One call is
    computed at a time, whoever calls.

    Attributes:
        run: the record.
        label: the method's name in tables.
        scale: of all ratings, a `r4r.scale.Scale`.
        gives_reasons: whether the strategy writes a reason before it rates.
        data: the reviews that the run knew, a `r4r.serve.past.Pasts`.
    """

    def __init__(self, job: FinishedJob, run: Run):
        """
        Args:
            job: the run's, to be read.

        Raises:
            ConfigError: the run's method is no deliberation.
            StoreError: an artifact that is needed is not there; the text has the command that makes it.
            ModelError: the base model cannot be had.
        """
        self.run, self._job, self._final = run, job, ratings_of(job)
        self.label, self.scale = self._final.label, self._final.shown.scale
        self._experts = Experts(job, self._final)
        self.gives_reasons = bool(self._experts.writers)
        self.data = Pasts(job, self._final.shown)
        self.predictions = str(self._final.key)  # of the artifact that says which pipeline this is

    # cases

    def find(self, user_id: str, item_id: str, at: Any = None) -> ServedCase:
        """A user and an item of the run's data, with what was known at a time: reviews from strictly before it.

        Args:
            at: Unix time in seconds, ISO 8601 date, or datetime (UTC where it says no zone). None: the time of this
                user's own newest review of this item; where there is none, after all reviews.

        Raises:
            DataError: the data have no such user or item, or `at` is no time.
        """
        return self.data.find(user_id, item_id, at)

    def case(
        self,
        user_reviews: Sequence[Mapping[str, Any] | RawReview],
        item_reviews: Sequence[Mapping[str, Any] | RawReview],
        title: str,
        at: Any = None,
    ) -> ServedCase:
        """A user and an item that are in no data set, from their raw reviews, summarised now by the Summarizer.

        Args:
            user_reviews: the user's own, with `rating`, `review` and `title`, and `timestamp` where it is known;
                oldest first where it is not. None at all is a new user.
            item_reviews: other people's of the item, with the same keys; `title` may be left out.
            title: the item's.
            at: as in `find`; of reviews with a timestamp, only those from before it count.

        Raises:
            DataError: a review has no rating on the scale, or is otherwise malformed; the text says which and why.
            StoreError: the run's Summarizer is not in the store.
        """
        with self._experts.lock:
            return self.data.new(user_reviews, item_reviews, title, at)

    def saying(self, case: ServedCase, *words: str) -> ServedCase:
        """The case with what the user says of their preferences, each a line at the end of the user's history.

        Where histories show summaries, it stands among their `User Preference Elements`. No average changes.

        Raises:
            DataError: there are no words.
        """
        for text in words:
            case = case.saying(self.data.said(text))
        return case

    # what the experts say

    def explain(self, user_id: str, item_id: str, at: Any = None) -> Explanation:
        """Histories, summaries, reason, distribution over ratings, and rating (mean, median, mode) of a pair.

        Args and errors: as of `find`.
        """
        return self.explanations([(user_id, item_id, at)])[0]

    def explanations(self, pairs: Sequence[Pair | ServedCase]) -> list[Explanation]:
        """The same of many pairs or cases, in batches; in their order.

        Raises:
            DataError: as of `find`, for any of the pairs.
        """
        cases = [pair if isinstance(pair, ServedCase) else self.find(*_pair(pair)) for pair in pairs]
        return [
            Explanation(self.label, case, reason, rating)
            for case, reason, rating in zip(cases, self.reasons(cases), self.ratings(cases), strict=True)
        ]

    def reason(self, case: ServedCase | Case) -> str | None:
        """Why the user might like the item or not, by the pipeline's own expert; None where it rates without one."""
        return self.reasons([case])[0]

    def reasons(self, cases: Sequence[ServedCase | Case]) -> list[str | None]:
        """The reasons of many cases, in their order."""
        if not self.gives_reasons:
            return [None] * len(cases)
        return [self._experts.reason_in(answers) for answers in self._experts.answers([_bare(case) for case in cases])]

    def rate(self, case: ServedCase | Case, reason: str | None = None) -> Rating:
        """The rating of a case.

        Args:
            reason: what the Predictor is to believe, in place of the pipeline's own reason (None). An empty text rates
                without any reason. Line breaks are read as blanks.

        Raises:
            ConfigError: a reason is given, and the strategy rates without reasons.
            DataError: the reason is longer than the model has room for, even where no history is shown.
        """
        if reason is None:
            return self.ratings([case])[0]
        with self._experts.lock:
            return self._experts.rate_with(_bare(case), _reason(reason))

    def ratings(self, cases: Sequence[ServedCase | Case], reasons: Sequence[str | None] | None = None) -> list[Rating]:
        """The ratings of many cases, in their order.

        Args:
            reasons: one a case, each as of `rate`; None: the pipeline's own.
        """
        bare = [_bare(case) for case in cases]
        if not bare:
            return []
        given = [None] * len(bare) if reasons is None else [r if r is None else _reason(r) for r in reasons]
        if len(given) != len(bare):
            raise ValueError(f"{len(bare)} cases and {len(given)} reasons")
        return self._experts.ratings(bare, given)

    def shuffled(self, case: ServedCase | Case, seed: int = 0) -> str:
        """A reason that the run wrote about another user and another item: what a rating owes to the right reason.

        Args:
            seed: another one takes another reason.

        Raises:
            ConfigError: the strategy rates without reasons.
            DataError: the run has written no reason but this one.
        """
        self._experts.needs_reasons()
        detail = pd.read_parquet(self._job.materialize(self._final).path / "detail.parquet")
        rows = self.data.rows.set_index("row_id").loc[detail["row_id"]]
        other = (detail["reason"].fillna("") != "").to_numpy()
        if isinstance(case, ServedCase):
            other = other & ((rows["item_id"] != case.item_id) & (rows["user_id"] != case.user_id)).to_numpy()
        else:  # which knows its item by the title alone
            other = other & (rows["title"] != case.title).to_numpy()
        reasons = detail.loc[other, "reason"].tolist()
        if not reasons:
            raise DataError("the run has no reason of another user and another item")
        return str(reasons[np.random.default_rng(seed).integers(len(reasons))])

    def busy(self) -> AbstractContextManager[bool]:
        """The lock that a call holds while it computes."""
        return self._experts.lock

    def close(self) -> None:
        """Give back what the engine holds."""
        self._experts.close()


def _reason(given: Any) -> str:
    """
    Raises:
        DataError: it is no text, such as a missing value of a table.
    """
    if not isinstance(given, str):
        raise DataError(f"a reason should be text, and {given!r} is of type {type(given).__name__}")
    return given


def _pair(given: Any) -> Pair:
    """
    Raises:
        DataError: it is no pair.
    """
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise DataError(f"{given!r}: should be (user_id, item_id), (user_id, item_id, at), or a case")
    return given


def _bare(case: ServedCase | Case) -> Case:
    """What the experts see, under no row's number: equal cases are answered once."""
    return replace(case.case if isinstance(case, ServedCase) else case, row_id=-1, thoughts=())
