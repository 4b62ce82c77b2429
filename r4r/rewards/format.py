"""Whether an answer has the form that was asked for."""

from collections.abc import Sequence

from r4r.reasons.leak import leaks_rating
from r4r.rewards.base import Bench, Known, Reward
from r4r.scale import Scale
from r4r.training.objectives.rollouts import Answer


class Format(Reward):
    """+0.5 where the expert says so, else -0.5 (arXiv 2510.23077).

    A reason, which is to say why and not how much, must not state a rating: a Predictor would read nothing else.
    """

    def worst(self, scale: Scale) -> float:
        return -0.5

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        rates = bench.expert.rates
        return [
            0.5
            if bench.expert.formed(answer.text)
            and (rates or not leaks_rating(answer.text, [pair.case.title], pair.case.scale))
            else -0.5
            for answer, pair in zip(answers, known, strict=True)
        ]
