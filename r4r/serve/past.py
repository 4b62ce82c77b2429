"""Histories for a pipeline: of the users and items of its run, and of new ones from raw reviews."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from r4r.data.history import HistoryIndex
from r4r.data.raw_checks import TITLE_CHARS
from r4r.data.values import Bad, clean, heading, timestamp
from r4r.errors import DataError
from r4r.experts.summarizer import FIELDS
from r4r.lm.write import write_batches
from r4r.rows import REVIEWS, SUMMARIES, Case
from r4r.serve.cases import SAID, Past, RawReview, ServedCase
from r4r.serve.finished import FinishedJob
from r4r.stages.cases import rows_of
from r4r.stages.histories import Histories, one_line
from r4r.stages.train import use_adapter

MOST_REVIEWS = 10_000  # of a new user or item
MOST_WORDS = 500  # characters of what a user says of a preference


class Pasts:
    """The reviews that a run knew, by user and by item.

    Attributes:
        shown: how the run's prompts show them.
    """

    def __init__(self, job: FinishedJob, shown: Histories):
        self._job, self.shown = job, shown
        job.materialize(shown.split)
        if shown.summaries is not None:
            job.materialize(shown.summaries)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every review of the run's split (rows.REVIEWS), by row_id."""
        return self._job.materialize(self.shown.split).table(REVIEWS)

    @cached_property
    def users(self) -> dict[str, np.ndarray]:
        """Places in `rows` of each user's reviews, int64, oldest first."""
        return dict(self.rows.groupby("user_id", sort=True).indices)  # type: ignore[arg-type]

    @cached_property
    def items(self) -> dict[str, np.ndarray]:
        """Places in `rows` of each item's reviews, int64, oldest first."""
        return dict(self.rows.groupby("item_id", sort=True).indices)  # type: ignore[arg-type]

    @cached_property
    def _summaries(self) -> Mapping[int, str]:
        table = self._job.materialize(self.shown.summaries).table(SUMMARIES)
        return dict(zip(table["row_id"].tolist(), table["summary"], strict=True))

    def title(self, item_id: str) -> str:
        """An item's title, "" where the data have none."""
        return str(self.rows["title"].iloc[self.items[item_id][-1]])

    def find(self, user_id: str, item_id: str, at: Any = None) -> ServedCase:
        """As Pipeline.find."""
        for what, name, ids in (("user", user_id, self.users), ("item", item_id, self.items)):
            if not isinstance(name, str) or name not in ids:
                raise DataError(
                    f"{what} {name!r} is not in the data of this run, which have {len(ids):,} {what}s (such as "
                    f"{next(iter(ids), None)!r}); a new one is made from raw reviews (Pipeline.case)"
                )
        of_user, of_item = self.users[user_id], self.items[item_id]
        own = self.rows.iloc[np.intersect1d(of_user, of_item)]
        moment = None if at is None else _time(at, "at")
        if moment is not None:
            own = own[own["timestamp"] == moment]
        elif len(own):
            moment = int(own["timestamp"].iloc[-1])
        else:
            moment = int(self.rows["timestamp"].max()) + 1
        rows = self.rows.iloc[np.union1d(of_user, of_item)]
        past = rows_of(self.shown.source, rows)
        title = str(own["title"].iloc[-1]) if len(own) else self.title(item_id)
        target = pd.DataFrame({"user_id": [user_id], "item_id": [item_id], "timestamp": [moment]})
        known = HistoryIndex(past).before(target)
        past = past.set_index("row_id")
        users = self._entries(past.loc[known.user_rows(0, self.shown.newest)], "item_id")
        items = self._entries(past.loc[known.item_rows(0, self.shown.newest)], "user_id")
        counts = int(known.user_count[0]), int(known.item_count[0])
        case = self._case(title, users, items, _mean(known.user_mean[0]), _mean(known.item_mean[0]))
        actual = float(own["rating"].iloc[-1]) if len(own) else None
        return ServedCase(case, users, items, *counts, user_id, item_id, moment, actual)

    def _entries(self, rows: pd.DataFrame, other: str) -> tuple[Past, ...]:
        reviews = rows["review"].tolist()
        if self.shown.summaries is None:
            texts = self._raw(reviews)
        else:
            texts = [self._summaries[row_id] for row_id in rows.index.tolist()]
        known = zip(rows["title"], rows["rating"], texts, reviews, rows[other], rows["timestamp"], strict=True)
        return tuple(Past(title, float(rating), text, r, by, int(t)) for title, rating, text, r, by, t in known)

    def _case(
        self, title: str, users: Sequence[Past], items: Sequence[Past], user_mean: float | None, item_mean: float | None
    ) -> Case:
        def history(entries: Sequence[Past]) -> tuple[tuple[str, float | None, str], ...]:
            return tuple((entry.title, entry.rating, entry.shown) for entry in entries)

        shown = self.shown
        return Case(-1, title, shown.category, history(users), history(items), user_mean, item_mean, scale=shown.scale)

    def _raw(self, reviews: Sequence[str]) -> list[str]:
        assert self.shown.raw is not None
        return [self.shown.raw(self._job.chat, one_line(review)) for review in reviews]

    # new users and items

    def new(self, user_reviews: Sequence[Any], item_reviews: Sequence[Any], title: str, at: Any = None) -> ServedCase:
        """As Pipeline.case."""
        moment = None if at is None else _time(at, "at")
        name = heading(_text(title, "title"), TITLE_CHARS, _unnoted)
        if not name:
            raise DataError("title: is empty; the prompts name the item by it")
        users = self._reviews(user_reviews, "user_reviews", moment, "")
        items = self._reviews(item_reviews, "item_reviews", moment, name)
        newest = [*users[-self.shown.newest :], *items[-self.shown.newest :]]
        entries = [replace(entry, shown=text) for entry, text in zip(newest, self._texts(newest), strict=True)]
        count = min(len(users), self.shown.newest)
        first, second = tuple(entries[:count]), tuple(entries[count:])
        case = self._case(name, first, second, _average(users), _average(items))
        return ServedCase(case, first, second, len(users), len(items), at=moment)

    def _reviews(self, given: Sequence[Any], where: str, before: int | None, title: str) -> list[Past]:
        """Checked reviews from before a time, oldest first, not yet summarised."""
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise DataError(f"{where}: should be a list of reviews, and is of type {type(given).__name__}")
        if len(given) > MOST_REVIEWS:
            raise DataError(f"{where}: holds {len(given):,} reviews; at most {MOST_REVIEWS:,} are taken")
        found = [self._review(one, f"{where}[{place}]", title) for place, one in enumerate(given)]
        if before is not None:
            found = [one for one in found if one.timestamp is None or one.timestamp < before]
        return sorted(found, key=lambda one: -math.inf if one.timestamp is None else one.timestamp)

    def _review(self, given: Any, where: str, title: str) -> Past:
        try:
            raw = given if isinstance(given, RawReview) else RawReview.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join([where, *map(str, first["loc"])])
            why = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
            raise DataError(f"{key}: {why}") from error
        rating = self.shown.scale.settled(raw.rating)
        if rating is None:
            raise DataError(f"{where}.rating={raw.rating:g}: is not on the scale of the data, {self.shown.scale}")
        when = None if raw.timestamp is None else _time(raw.timestamp, f"{where}.timestamp")
        name = heading(raw.title, TITLE_CHARS, _unnoted) or title
        return Past(name, rating, "", clean(raw.review, _unnoted), timestamp=when)

    def _texts(self, entries: Sequence[Past]) -> list[str]:
        """What prompts show of new reviews: summaries by the run's Summarizer, or the reviews, cut."""
        stage = self.shown.summaries
        if not entries:
            return []
        if stage is None:
            return self._raw([entry.review for entry in entries])
        job, own = self._job, stage.expert.expert
        use_adapter(job, stage.expert.place, job.materialize(stage.summarizer))
        columns = {name: [getattr(entry, name) for entry in entries] for name in ("title", "rating", "review")}
        prompts = stage.questions.prompts(job.chat, own.prompt, pd.DataFrame(columns))
        texts = [""] * len(entries)
        for places, made in write_batches(job.engine, prompts, stage.max_new_tokens, stage.expert.place):
            for place, one in zip(places, made, strict=True):
                read = own.read(one.text)
                texts[place] = one.text if read is None else read
        return texts

    def said(self, words: str) -> Past:
        """The entry of a history for what a user says of their preferences.

        Raises:
            DataError: there are no words.
        """
        text = one_line(clean(_text(words, "a preference"), _unnoted))[:MOST_WORDS]
        if not text:
            raise DataError("a preference: has no words")
        if self.shown.summaries is None:
            return Past(SAID, None, text, text)
        return Past(SAID, None, "\n".join(f"{name}: {text if name == FIELDS[-1] else 'None'}" for name in FIELDS), text)


def _time(value: Any, where: str) -> int:
    """Unix seconds.

    Raises:
        DataError: the value is no time.
    """
    try:
        if isinstance(value, Integral | float | str | date) and not isinstance(value, bool):
            return timestamp(int(value) if isinstance(value, Integral) else value, where)[0]  # numpy's, too
        raise Bad("is no time")
    except Bad as error:
        raise DataError(f"{where}={value!r}: {error}; give Unix time in seconds or an ISO 8601 date") from error


def _text(value: Any, where: str) -> str:
    """
    Raises:
        DataError: the value is no text.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: should be text, and is of type {type(value).__name__}")
    return value


def _mean(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _average(entries: Sequence[Past]) -> float | None:
    ratings = [entry.rating for entry in entries if entry.rating is not None]
    return sum(ratings) / len(ratings) if ratings else None


def _unnoted(repair: str) -> None:
    """Repairs of a text are told of data sets alone."""
