"""What a reward is, and how several make one: whatever goes wrong with an answer, it gets the worst reward."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from r4r.progress import say
from r4r.rows import Case
from r4r.scale import Scale
from r4r.training.memory import is_out_of_memory
from r4r.training.objectives.rollouts import Answer


@dataclass(frozen=True)
class Known:
    """What is known of a training pair, for rewards alone.

    Attributes:
        case: all that a prompt may show: histories end before the target's time.
        rating: the true one.
        review: the target's own; empty where no reward asks for it.
    """

    case: Case
    rating: float
    review: str = ""


Rate = Callable[[Sequence[Known], Sequence[str]], Sequence[float]]
"""(pairs, a text in the reason's place for each) -> a frozen expert's ratings."""


@dataclass(frozen=True)
class Bench:
    """Whom rewards may ask.

    Attributes:
        expert: the one that trains, which says how its answers are read.
        raters: frozen experts that rate, by name.
    """

    expert: Any
    raters: Mapping[str, Rate] = field(default_factory=dict)


class Reward:
    """A component of a reward. Subclasses say what an answer is worth, and what the worst is.

    Attributes:
        needs: whom it asks: `predictor` (the strategy's last step), `reward_model`, `planted` (the simulated world's
            truth, as raters `planted_verdict` and `planted_claims`).
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0):
        """
        Args:
            weight: of this component in the sum.
        """
        self.weight = weight

    def misfit(self, expert: Any) -> str:
        """Why an expert's answers cannot be rewarded so, in words; empty where they can."""
        return ""

    def worst(self, scale: Scale) -> float:
        """What an answer is worth that is cut, cannot be read, or fails: no answer is worth less."""
        raise NotImplementedError

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        """What finished answers are worth, each to the pair of its place; None: it cannot be read."""
        raise NotImplementedError


class WeightedSum:
    """The reward of a step's answers: what objectives are handed as the service `reward`."""

    def __init__(self, rewards: Mapping[str, Reward], known: Mapping[int, Known], bench: Bench):
        """
        Args:
            rewards: the components, by name.
            known: the training pairs, by row_id.
        """
        self.parts, self.known, self.bench = dict(rewards), known, bench
        self._told: set[str] = set()

    def __call__(self, answers: Sequence[Answer]) -> dict[str, list[float]]:
        """By component the reward of each answer, unweighted; under "" the weighted sum."""
        found = {name: self._part(name, part, answers) for name, part in self.parts.items()}
        whole = [0.0] * len(answers)
        for name, values in found.items():
            whole = [before + self.parts[name].weight * value for before, value in zip(whole, values, strict=True)]
        return {"": whole, **found}

    def _part(self, name: str, part: Reward, answers: Sequence[Answer]) -> list[float]:
        known = [self.known[answer.row_id] for answer in answers]
        values = [part.worst(pair.case.scale) for pair in known]
        finished = [place for place, answer in enumerate(answers) if answer.finished]
        worth = self._asked(name, part, [answers[p] for p in finished], [known[p] for p in finished])
        for place, value in zip(finished, worth, strict=True):
            if value is not None and math.isfinite(value):
                values[place] = max(float(value), values[place])
        return values

    def _asked(
        self, name: str, part: Reward, answers: Sequence[Answer], known: Sequence[Known]
    ) -> Sequence[float | None]:
        """All at once or, where that fails, one by one: an answer that breaks the reward spoils its own alone."""
        if not answers:
            return []
        try:
            found = part.rewards(answers, known, self.bench)
            worth = [None if value is None else float(value) for value in found]
            if len(worth) != len(answers):
                raise ValueError(f"gave {len(worth)} rewards for {len(answers)} answers")
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if len(answers) > 1:
                single = [self._asked(name, part, [a], [k]) for a, k in zip(answers, known, strict=True)]
                return [value for (value,) in single]
            told = f"{type(error).__name__}: {error}"
            if told not in self._told:
                self._told.add(told)
                say(f"  reward {name} fails, which gives the worst reward; row {answers[0].row_id}: {told}")
            return [None]
        return worth
