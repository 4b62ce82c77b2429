"""A trained pipeline: explain and rate pairs of a user and an item with the experts of a finished run."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from r4r.errors import ConfigError, DataError
from r4r.lm.engine import Shared
from r4r.lm.rate import decode
from r4r.lm.rating_tokens import rating_tokens
from r4r.lm.write import write_batches
from r4r.report.records import Run
from r4r.rows import Case
from r4r.serve.cases import Explanation, Rating, RawReview, ServedCase
from r4r.serve.finished import FinishedJob, ratings_of
from r4r.serve.past import Pasts
from r4r.stages.histories import fitted, one_line
from r4r.stages.ratings import Ratings
from r4r.stages.reward import RATING_TOKENS
from r4r.stages.train import use_adapter
from r4r.stages.written import Written

REMEMBERED = 64  # cases whose answers are kept
HELD = 4  # cases whose rating prompts stay computed, so that another reason is rated from where it departs
TOO_LONG = "drop_oldest"  # a prompt beyond the model's length loses its oldest entries, whatever the job's setting
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
        texts = [thought.texts for thought in self._final.thoughts]
        self._writers: list[Written] = texts + ([self._final.answers] if self._final.answers is not None else [])
        self.gives_reasons = bool(self._writers)
        self.data = Pasts(job, self._final.shown)
        self._lock = threading.RLock()
        self._answers: OrderedDict[Case, tuple[str, ...]] = OrderedDict()
        self._held: OrderedDict[Case, Shared] = OrderedDict()
        steps: list[Written | Ratings] = [*self._writers, self._final]
        for stage in steps:
            use_adapter(job, stage.expert.place, job.materialize(stage.trained))

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
        with self._lock:
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
        return [self._read(answers) for answers in self._written([_bare(case) for case in cases])]

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
        with self._lock:
            return self._rate_held(_bare(case), _reason(reason))

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
        with self._lock:
            asks = self._final.answers is not None  # it rates in an answer of its own
            own = [case for case, reason in zip(bare, given, strict=True) if asks or reason is None]
            answers = dict(zip(own, self._written(own), strict=True))
            encoded = [
                self._encode(case, answers.get(case, ()), reason) for case, reason in zip(bare, given, strict=True)
            ]
            found: dict[int, Rating] = {}
            for places in self._job.engine.plan([len(ids) for ids in encoded]):
                some = self._job.engine.rate([encoded[k] for k in places], self._final.expert.place, self.scale)
                found.update(zip(places, self._decoded(some), strict=True))
        return [found[k] for k in range(len(bare))]

    def shuffled(self, case: ServedCase | Case, seed: int = 0) -> str:
        """A reason that the run wrote about another user and another item: what a rating owes to the right reason.

        Args:
            seed: another one takes another reason.

        Raises:
            ConfigError: the strategy rates without reasons.
            DataError: the run has written no reason but this one.
        """
        self._needs_reasons()
        detail = pd.read_parquet(self._job.materialize(self._final).path / "detail.parquet")
        own = _bare(case)
        rows = self.data.rows.set_index("row_id").loc[detail["row_id"]]
        other = (rows["title"] != own.title).to_numpy() & (detail["reason"].fillna("") != "").to_numpy()
        if isinstance(case, ServedCase):
            other &= (rows["user_id"] != case.user_id).to_numpy()
        reasons = detail.loc[other, "reason"].tolist()
        if not reasons:
            raise DataError("the run has no reason of another user and another item")
        return str(reasons[np.random.default_rng(seed).integers(len(reasons))])

    def busy(self) -> AbstractContextManager[bool]:
        """The lock that a call holds while it computes."""
        return self._lock

    def close(self) -> None:
        """Give back what the engine holds."""
        self._held.clear()
        self._job.close()

    # how

    def _written(self, cases: Sequence[Case]) -> list[tuple[str, ...]]:
        """What each step that writes answers about each case, as it stands."""
        with self._lock:
            new = list(dict.fromkeys(case for case in cases if case not in self._answers))
            found = dict(zip(new, self._write(new), strict=True)) if new else {}
            found |= {case: self._answers[case] for case in cases if case in self._answers}
            _remember(self._answers, found, REMEMBERED)
            return [found[case] for case in cases]

    def _write(self, cases: Sequence[Case]) -> list[tuple[str, ...]]:
        answers: list[tuple[str, ...]] = [()] * len(cases)
        limit, chat = self._job.config.llm.max_length, self._job.chat
        for stage in self._writers:
            own = [self._thinking(case, so_far) for case, so_far in zip(cases, answers, strict=True)]
            fit = fitted(chat, stage.expert.expert.prompt, own, limit, stage.max_new_tokens, TOO_LONG)
            for places, made in write_batches(self._job.engine, fit.prompts, stage.max_new_tokens, stage.expert.place):
                for place, one in zip(places, made, strict=True):
                    answers[place] = (*answers[place], one.text)
        return answers

    def _thinking(self, case: Case, answers: Sequence[str]) -> Case:
        """The case with what these steps think."""
        read = [thought.expert.expert.read(text) for thought, text in zip(self._final.thoughts, answers, strict=False)]
        return case.thinking(*read)

    def _read(self, answers: Sequence[str]) -> str:
        """The reason in the answers, as the run's `detail.parquet` has it."""
        if self._final.answers is not None:
            return str(self._final.expert.expert.read(answers[-1]))
        return "\n".join(self._thinking(_NO_CASE, answers).thoughts)

    def _encode(self, case: Case, answers: Sequence[str], reason: str | None) -> list[int]:
        """Token ids up to where the value of the rating stands."""
        chat, own = self._job.chat, self._final.expert.expert
        if reason is not None:
            self._needs_reasons()
        writer = self._final.answers
        if writer is None:
            return [*self._rating_prompt(case, answers, reason), *rating_tokens(chat, "", self.scale).prefix]
        answer, limit = answers[-1], self._job.config.llm.max_length
        if reason is not None and one_line(reason) != own.read(answer):
            answer = own.revised(answer, one_line(reason))
        head = own.head(answer)[0] if answer else ""
        # shortened as the prompt that the answer was written for
        fit = fitted(chat, own.prompt, [self._thinking(case, answers)], limit, writer.max_new_tokens, TOO_LONG)
        encoded = [*chat.prompt_ids(fit.prompts[0]), *rating_tokens(chat, head, self.scale).prefix]
        if reason is not None and len(encoded) + RATING_TOKENS > limit:
            raise self._too_long(reason)
        return encoded

    def _rating_prompt(self, case: Case, answers: Sequence[str], reason: str | None) -> list[int]:
        """Token ids of the question to an expert that rates without writing."""
        if reason is None:
            case = self._thinking(case, answers)
        else:
            case = case.thinking(*_paragraphs(reason, len(self._final.thoughts)))
        ask, limit = self._final.expert.expert.prompt, self._job.config.llm.max_length
        try:
            fit = fitted(self._job.chat, ask, [case], limit, RATING_TOKENS, TOO_LONG)
        except DataError as error:
            raise error if reason is None else self._too_long(reason) from error
        return self._job.chat.prompt_ids(fit.prompts[0])

    def _too_long(self, reason: str) -> DataError:
        limit = self._job.config.llm.max_length
        return DataError(
            f"the reason, of {len(reason):,} characters, is too long: with it, the prompt is over the {limit:,} tokens "
            "of llm.max_length; shorten it"
        )

    def _rate_held(self, case: Case, reason: str) -> Rating:
        """The rating under a reason. The beginning of the prompt is computed once a case."""
        self._needs_reasons()
        answers = self._written([case])[0]
        if self._final.answers is not None:
            encoded = self._encode(case, answers, reason)
            return self._decoded(self._job.engine.rate([encoded], self._final.expert.place, self.scale))[0]
        held = self._held.get(case)
        if held is None:
            whole = self._rating_prompt(case, answers, None)
            held = self._job.engine.share([whole], [len(whole)], self._final.expert.place)
        _remember(self._held, {case: held}, HELD)
        return self._decoded(held.rate([0], [self._rating_prompt(case, answers, reason)], self.scale))[0]

    def _decoded(self, probabilities: Any) -> list[Rating]:
        decoded = decode(probabilities, self.scale)
        return [
            Rating(self.scale.values, tuple(row), *(float(decoded[name][k]) for name in ("mean", "median", "mode")))
            for k, row in enumerate(probabilities.tolist())
        ]

    def _needs_reasons(self) -> None:
        if not self.gives_reasons:
            raise ConfigError([f"strategy={self._job.config.strategy.name} rates without a reason"])


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


_NO_CASE = Case(-1, "", "", (), (), None, None)


def _bare(case: ServedCase | Case) -> Case:
    """What the experts see, under no row's number: equal cases are answered once."""
    return replace(case.case if isinstance(case, ServedCase) else case, row_id=-1, thoughts=())


def _paragraphs(reason: str, most: int) -> list[str]:
    """A reason as the thoughts of so many steps: a line each, the last one's all that is left, each on one line."""
    lines = [line for line in map(one_line, reason.splitlines()) if line]
    return [*lines[: most - 1], " ".join(lines[most - 1 :])] if len(lines) > most else lines


def _remember(kept: "OrderedDict[Case, Any]", new: Mapping[Case, Any], most: int) -> None:
    """Put these in, as the newest, and the oldest out."""
    for case, value in new.items():
        kept[case] = value
        kept.move_to_end(case)
    while len(kept) > most:
        kept.popitem(last=False)
