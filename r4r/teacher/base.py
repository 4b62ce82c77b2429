"""What a teacher is: a batch of calls in, an answer or a typed error for each out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from r4r.errors import TeacherError


@dataclass(frozen=True)
class Call:
    """One question. `attempt` tells samples of the same prompt apart: ten attempts are ten different answers."""

    prompt: str
    temperature: float
    max_tokens: int
    attempt: int = 0


@dataclass(frozen=True)
class Answer:
    text: str
    tokens_in: int
    tokens_out: int


class Teacher(Protocol):
    """A model that writes training texts (paper 3.1, 3.2: ChatGPT)."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything about this teacher that changes its answers; part of artifact keys."""
        ...

    def ask(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        """One answer a call, in order. A failed, refused, cut or empty answer is a TeacherError, never text."""
        ...
