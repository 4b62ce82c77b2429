"""What the simulated teacher can answer: whoever brings a prompt registers the function that answers it.

    @answers("critic", r"\\A\\s*### Critique .*?###\\n(?P<reason>.*)\\n\\s*### Task: Say what", version=1)
    def critique(prompt: Reading, found: re.Match[str]) -> str: ...

A registering module imports this one, never the other way round.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from r4r.lexicon import ASPECTS, Cue, cues


@dataclass(frozen=True)
class Reading:
    """A prompt before the simulated teacher.

    Attributes:
        text: of the prompt.
        rng: its dice, which fall alike for equal calls.
        error: chance, 0 to 1, that it overlooks or mistakes something.
    """

    text: str
    rng: random.Random
    error: float

    def cues(self, text: str) -> list[Cue]:
        """What it reads in a text: some cues lost, fewer taken for another aspect or for the contrary."""
        return self.misread(cues(text))

    def misread(self, read: list[Cue]) -> list[Cue]:
        """The cues as remembered."""
        kept: dict[Cue, None] = {}
        for aspect, kind in read:
            if self.rng.random() < self.error:
                slip = self.rng.random()
                if slip < 0.6:
                    continue
                if slip < 0.8 or kind == "preference":
                    aspect = self.rng.choice(list(ASPECTS))
                else:
                    kind = "negative" if kind == "positive" else "positive"
            kept[Cue(aspect, kind)] = None
        return list(kept)

    def slips(self) -> bool:
        """Whether it errs this time."""
        return self.rng.random() < self.error

    def grade(self, score: float) -> int:
        """The rating, 1 to 5, nearest to a score; now and then one beside it."""
        slip = self.rng.choice((-1, 1)) if self.slips() else 0
        return min(5, max(1, round(score) + slip))


Answer = Callable[[Reading, "re.Match[str]"], str]


@dataclass(frozen=True)
class Known:
    """A prompt that can be answered.

    Attributes:
        name: of the prompt's template.
        pattern: finds what the answer needs of the prompt; matches no other prompt.
        version: raised whenever an answer to some such prompt changes.
    """

    name: str
    pattern: re.Pattern[str]
    version: int
    answer: Answer


_known: dict[str, Known] = {}


def answers(name: str, pattern: str, version: int) -> Callable[[Answer], Answer]:
    """Register the decorated function as the answer to a prompt.

    Raises:
        ValueError: another function answers the prompt of this name already.
    """

    def register(answer: Answer) -> Answer:
        before = _known[name].answer if name in _known else answer
        if (before.__module__, before.__qualname__) != (answer.__module__, answer.__qualname__):
            raise ValueError(f"the prompt '{name}' is answered by {before.__module__} already")
        _known[name] = Known(name, re.compile(pattern, re.DOTALL), version, answer)
        return answer

    return register


def find(prompt: str) -> tuple[Known, "re.Match[str]"] | None:
    """Who answers a prompt, and what its pattern found; None where nobody does."""
    for known in _known.values():
        if found := known.pattern.search(prompt):
            return known, found
    return None


def versions(*names: str) -> dict[str, int]:
    """name -> version of the prompts named, as far as they are known; of all of them where none is named."""
    return {name: _known[name].version for name in sorted(names or _known) if name in _known}
