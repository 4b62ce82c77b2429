"""What a teacher is: a batch of calls in, an answer or a typed error for each out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from r4r.configuration.teachers import RemoteConfig, ServerConfig
from r4r.errors import TeacherError


@dataclass(frozen=True)
class Call:
    """One question. `attempt` tells samples of the same prompt apart: ten attempts are ten different answers.

    A temperature of None is not sent: the server's own holds, which is 1 as a rule, and is where no server is asked.
    """

    prompt: str
    temperature: float | None
    max_tokens: int
    attempt: int = 0


@dataclass(frozen=True)
class Answer:
    """A finished answer and what it took: dollars is None where no price is known; `cached`: paid by an earlier run."""

    text: str
    tokens_in: int
    tokens_out: int
    dollars: float | None = 0.0
    cached: bool = False
    retries: int = 0


class Teacher(Protocol):
    """A model that writes training texts (paper 3.1, 3.2: ChatGPT)."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything about this teacher that changes its answers; part of artifact keys."""
        ...

    def ask(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        """One answer a call, in order. A refused, cut, empty or rejected one is a TeacherError, never text.

        Raises:
            TeacherStopped: where calls cannot be answered now (outage, key, model, budget). Nothing that was answered
                is lost, and no call may be counted as failed for it.
        """
        ...


def remote_identity(teacher: RemoteConfig) -> dict[str, Any]:
    """What of a remote teacher changes its answers, for artifact keys and the cache.

    `openai_batch` gives what `openai` gives. A server's address is left out: the same model may listen elsewhere
    tomorrow; `teacher.revision` tells apart two models that servers call by one name.
    """
    kind = "openai" if teacher.kind == "openai_batch" else teacher.kind
    identity: dict[str, Any] = {"kind": kind, "model": teacher.model}
    if isinstance(teacher, ServerConfig) and teacher.revision:
        identity["revision"] = teacher.revision
    if teacher.extra_body:
        identity["extra_body"] = teacher.extra_body
    if teacher.token_limit_field is None:
        identity["token_limit"] = None
    return identity
