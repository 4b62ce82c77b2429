"""A teacher that needs no model: it reads the prompt it is sent through the lexicon, and errs as models do.

It sees the text of the call and nothing else: not the planted truth, not the rating unless the prompt states it. At
temperature t it overlooks or mistakes each cue with probability (1 - skill) * min(1, t), so that it summarises almost
rightly at 0.2 and reasons often wrongly at 1.0. Tokens are estimated from words (4 tokens to 3 words). Which prompts it
can answer, and how, is registered (r4r/teacher/registry.py).
"""

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Any

from r4r.errors import AnswerCut, CallRejected, TeacherError
from r4r.teacher import simulated_judge  # noqa: F401  it registers its answers
from r4r.teacher.base import Answer, Call
from r4r.teacher.registry import Reading, find, versions
from r4r.teacher.simulated_reasons import VERDICTS

__all__ = ["VERDICTS", "SimulatedTeacher", "simulator_identity"]
VERSION = 2  # raise whenever all answers change; those to one prompt have versions of their own


def simulator_identity(skill: float, seed: int, *prompts: str) -> dict[str, Any]:
    """What changes the simulated teacher's answers.

    Args:
        prompts: names of those that it is asked; all that it knows count where none is named.
    """
    return {"kind": "simulator", "version": VERSION, "answers": versions(*prompts), "skill": skill, "seed": seed}


class SimulatedTeacher:
    """Answers the prompts that are registered.

    Args:
        skill: chance, 0 to 1, that it reads a cue rightly at temperature 1.
        seed: another seed errs elsewhere.
    """

    def __init__(self, skill: float, seed: int):
        self.skill = skill
        self.seed = seed

    @property
    def identity(self) -> dict[str, Any]:
        return simulator_identity(self.skill, self.seed)

    def ask(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Answer | TeacherError:
        answered = find(call.prompt)
        if answered is None:
            start = " ".join(call.prompt.split())[:60]
            return CallRejected(
                f"the simulated teacher knows the prompts {', '.join(versions())} only; this one, beginning '{start}', "
                "is none of them. Use another teacher for it"
            )
        known, found = answered
        temperature = 1.0 if call.temperature is None else call.temperature
        error = (1 - self.skill) * min(1.0, temperature)
        text = known.answer(Reading(call.prompt, self._dice(call, temperature), error), found)
        length = _tokens(text)
        if length > call.max_tokens:
            return AnswerCut(f"the answer was cut off: it takes about {length} tokens, max_tokens is {call.max_tokens}")
        return Answer(text, _tokens(call.prompt), length)

    def _dice(self, call: Call, temperature: float) -> random.Random:
        # At temperature 0 a model repeats itself, so that attempts agree.
        attempt = call.attempt if temperature > 0 else 0
        key = f"{self.seed}|{temperature!r}|{attempt}|{call.prompt}"
        return random.Random(hashlib.sha256(key.encode()).digest())


def _tokens(text: str) -> int:
    return math.ceil(len(text.split()) * 4 / 3)
