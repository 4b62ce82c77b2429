"""A teacher that runs in this process: any causal chat model from a hub, a path or a GGUF file."""

from collections.abc import Callable, Sequence
from typing import Any

from r4r.errors import AnswerCut, TeacherError
from r4r.teacher.base import Answer, Call
from r4r.teacher.final import final_text

Write = Callable[[Sequence[str], int, float, int], list[tuple[str, int, int, bool]]]
"""(prompts, max_new_tokens, temperature, seed) -> (text, tokens in, tokens out, finished) of each."""


class LocalTeacher:
    """Hands batches to a language model. An answer that is cut, empty or still thinking is a typed failure."""

    def __init__(self, write: Write, identity: dict[str, Any], seed: int):
        self._write = write
        self._identity = identity
        self._seed = seed

    @property
    def identity(self) -> dict[str, Any]:
        return self._identity

    def ask(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        if not calls:
            return []
        settings = [(c.max_tokens, 1.0 if c.temperature is None else c.temperature, c.attempt) for c in calls]
        answers: list[Answer | TeacherError] = [TeacherError("not asked")] * len(calls)
        for max_tokens, temperature, attempt in sorted(set(settings)):
            places = [n for n, own in enumerate(settings) if own == (max_tokens, temperature, attempt)]
            written = self._write(
                [calls[n].prompt for n in places], max_tokens, temperature, self._seed * 1000 + attempt
            )
            for place, (text, tokens_in, tokens_out, finished) in zip(places, written, strict=True):
                try:
                    if not finished:
                        raise AnswerCut(f"cut off at {max_tokens} tokens")
                    answers[place] = Answer(final_text(text), tokens_in, tokens_out)
                except TeacherError as failure:
                    failure.tokens_in, failure.tokens_out = tokens_in, tokens_out
                    answers[place] = failure
        return answers
