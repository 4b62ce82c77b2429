"""Generation-then-filter (paper Algorithm 1, SPEC section 3): the teacher writes, the reward model judges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from r4r.errors import TeacherError
from r4r.reasons.leak import leaks_rating
from r4r.scale import PAPER, Scale

Write = Callable[[Sequence[int], int, bool], Sequence[str | TeacherError]]
"""(pairs, attempt, hinted) -> a candidate or a typed failure for each pair."""

Score = Callable[[Sequence[int], Sequence[str | None]], Sequence[float]]
"""(pairs, texts in the placeholder, None for a prompt without it) -> the reward model's ratings."""


@dataclass(frozen=True)
class Pair:
    """A training pair: what the filter needs to know of the target; a reason may name its title."""

    row_id: int
    rating: float
    review: str
    title: str = ""


def generate_then_filter(
    pairs: Sequence[Pair],
    write: Write,
    score: Score,
    max_hinted: int,
    tau: float,
    reference: str,
    scale: Scale = PAPER,
    unhinted: int = 1,
) -> tuple[list[dict[str, Any]], list[TeacherError]]:
    """Every candidate of every pair with its score and verdict, and the teacher's failures.

    The first `unhinted` candidates are written without the hint, up to `max_hinted` more with it, until one is
    accepted: s_eval = |r - R(reason)| - |r - R(reference)| < tau. A candidate that gives away the rating is never
    scored.

    Args:
        pairs: a batch; `write` and `score` name a pair by its place in it.
        reference: `review` (the paper), or `none` (the prediction without any reason).
        scale: of the ratings.

    Returns:
        Rows of rows.CANDIDATES in (attempt, pair) order, and one error a failed call; its attempt is used up.
    """
    everyone = list(range(len(pairs)))
    r_review = score(everyone, [pair.review for pair in pairs])
    r_none = score(everyone, [None] * len(pairs))
    rows: list[dict[str, Any]] = []
    failures: list[TeacherError] = []
    open_pairs = everyone
    for attempt in range(unhinted + max_hinted):
        if not open_pairs:
            break
        hinted = attempt >= unhinted
        answers = write(open_pairs, attempt, hinted)
        failures += [answer for answer in answers if isinstance(answer, TeacherError)]
        written = [(n, answer) for n, answer in zip(open_pairs, answers, strict=True) if isinstance(answer, str)]
        scored = [(n, text) for n, text in written if not leaks_rating(text, [pairs[n].title], scale)]
        ratings = dict(zip([n for n, _ in scored], score(*zip(*scored, strict=True)) if scored else [], strict=True))
        done = set()
        for n, text in written:
            truth, r_reason = pairs[n].rating, ratings.get(n, float("nan"))
            against = r_review[n] if reference == "review" else r_none[n]
            s_eval = abs(truth - r_reason) - abs(truth - against)
            accepted = n in ratings and s_eval < tau
            rows.append(
                {
                    "row_id": pairs[n].row_id,
                    "attempt": attempt,
                    "hinted": hinted,
                    "reason": text,
                    "rating": truth,
                    "r_reason": r_reason,
                    "r_review": r_review[n],
                    "r_none": r_none[n],
                    "s_eval": s_eval,
                    "accepted": accepted,
                    "cause": "accepted" if accepted else "score" if n in ratings else "leak",
                }
            )
            if accepted:
                done.add(n)
        open_pairs = [n for n in open_pairs if n not in done]
    return rows, failures
