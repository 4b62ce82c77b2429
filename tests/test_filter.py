"""Generation-then-filter: which candidate is kept, what is tried next, and what counts as a leak."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from r4r.errors import TeacherError
from r4r.reasons.filter import Pair, generate_then_filter
from r4r.rows import CANDIDATES

PAIRS = [Pair(10, 5.0, "review of 10"), Pair(11, 2.0, "review of 11"), Pair(12, 4.0, "review of 12")]
R_REVIEW = {10: 4.5, 11: 2.2, 12: 4.4}
R_NONE = {10: 3.0, 11: 4.0, 12: 4.0}


class World:
    """A teacher and a reward model with answers set beforehand; they keep what they were asked."""

    def __init__(self, pairs: Sequence[Pair], answers: dict[tuple[int, int], Any], ratings: dict[str, float]):
        self.pairs, self.answers, self.ratings = pairs, answers, ratings
        self.written: list[tuple[list[int], int, bool]] = []
        self.scored: list[str] = []

    def write(self, places: Sequence[int], attempt: int, hinted: bool) -> list[str | TeacherError]:
        self.written.append(([self.pairs[p].row_id for p in places], attempt, hinted))
        return [self.answers.get((self.pairs[p].row_id, attempt), f"bad {self.pairs[p].row_id}") for p in places]

    def score(self, places: Sequence[int], texts: Sequence[str | None]) -> list[float]:
        assert len(places) == len(texts)
        out = []
        for place, text in zip(places, texts, strict=True):
            row = self.pairs[place].row_id
            if text is None:
                out.append(R_NONE[row])
            elif text == self.pairs[place].review:
                out.append(R_REVIEW[row])
            else:
                self.scored.append(text)
                out.append(self.ratings.get(text, 1.0 if row != 11 else 5.0))
        return out

    def run(self, max_hinted: int = 3, tau: float = 0.1, reference: str = "review") -> Any:
        return generate_then_filter(self.pairs, self.write, self.score, max_hinted, tau, reference)


def verdicts(rows: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    return [(row["row_id"], row["attempt"], row["cause"]) for row in rows]


def test_attempts_go_on_until_the_first_that_is_accepted() -> None:
    world = World(PAIRS, {(10, 0): "good", (12, 2): "fine"}, {"good": 4.5, "fine": 4.45})
    rows, failures = world.run()
    assert failures == []
    assert world.written == [
        ([10, 11, 12], 0, False),
        ([11, 12], 1, True),
        ([11, 12], 2, True),
        ([11], 3, True),
    ]
    assert verdicts(rows) == [
        (10, 0, "accepted"),
        (11, 0, "score"),
        (12, 0, "score"),
        (11, 1, "score"),
        (12, 1, "score"),
        (11, 2, "score"),
        (12, 2, "accepted"),
        (11, 3, "score"),
    ]
    assert all(row["hinted"] == (row["attempt"] > 0) for row in rows)
    assert all(set(row) == set(CANDIDATES) for row in rows)


def test_nothing_is_asked_once_all_pairs_have_a_reason() -> None:
    world = World(PAIRS[:1], {(10, 0): "good"}, {"good": 5.0})
    assert len(world.run(max_hinted=10)[0]) == 1
    assert len(world.written) == 1


def test_without_hints_there_is_one_attempt() -> None:
    world = World(PAIRS, {}, {})
    assert len(world.run(max_hinted=0)[0]) == 3
    assert world.written == [([10, 11, 12], 0, False)]


@pytest.mark.parametrize(
    ("reference", "r_reason", "s_eval", "accepted"),
    [
        ("review", 4.5, 0.0, True),  # |5 - 4.5| - |5 - 4.5|
        ("review", 4.25, 0.25, True),
        ("review", 4.0, 0.5, False),  # equal to tau: not below it
        ("review", 3.0, 1.5, False),
        ("none", 3.0, 0.0, True),  # |5 - 3| - |5 - 3|
        ("none", 4.0, -1.0, True),
        ("none", 2.5, 0.5, False),
    ],
)
def test_the_verdict_by_both_references(reference: str, r_reason: float, s_eval: float, accepted: bool) -> None:
    (row,), _ = World(PAIRS[:1], {(10, 0): "text"}, {"text": r_reason}).run(0, tau=0.5, reference=reference)
    assert row["s_eval"] == pytest.approx(s_eval)
    assert row["accepted"] is accepted
    assert (row["r_reason"], row["r_review"], row["r_none"], row["rating"]) == (r_reason, 4.5, 3.0, 5.0)


def test_a_leak_is_rejected_and_never_scored() -> None:
    leak = "They rated it 5.0"
    world = World(PAIRS[:1], {(10, 0): leak, (10, 1): "good"}, {leak: 5.0, "good": 4.5})
    rows, _ = world.run()
    assert verdicts(rows) == [(10, 0, "leak"), (10, 1, "accepted")]
    assert world.scored == ["good"]
    assert rows[0]["reason"] == leak
    assert math.isnan(rows[0]["r_reason"])
    assert math.isnan(rows[0]["s_eval"])


def test_leaks_alone_need_no_scoring() -> None:
    world = World(PAIRS[:2], {(10, 0): "5 stars", (11, 0): "2.0"}, {})
    assert verdicts(world.run(0)[0]) == [(10, 0, "leak"), (11, 0, "leak")]
    assert world.scored == []


def test_a_failed_call_uses_its_attempt_and_is_not_a_candidate() -> None:
    failure = TeacherError("timed out")
    world = World(PAIRS[:2], {(10, 0): failure, (10, 1): "good", (11, 0): "good"}, {"good": 4.0})
    world.ratings["good"] = 4.5
    world.answers[(11, 0)] = "match"
    world.ratings["match"] = 2.0
    rows, failures = world.run(max_hinted=1)
    assert failures == [failure]
    assert verdicts(rows) == [(11, 0, "accepted"), (10, 1, "accepted")]
    assert world.written[1] == ([10], 1, True)


def test_failures_all_the_way_leave_a_pair_without_candidates() -> None:
    world = World(PAIRS[:1], {(10, n): TeacherError(f"no {n}") for n in range(3)}, {})
    rows, failures = world.run(max_hinted=2)
    assert rows == []
    assert [str(failure) for failure in failures] == ["no 0", "no 1", "no 2"]
