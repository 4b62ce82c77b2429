"""Errors whose message is written for the reader: what is wrong, where, and what to do."""


class R4RError(Exception):
    """Base of every error that r4r raises on purpose; its text is shown without a traceback."""


class ConfigError(R4RError):
    """One or more faults of the configuration, gathered before any model loads.

    Attributes:
        problems: one sentence a fault.
    """

    def __init__(self, problems: list[str]):
        self.problems = list(problems)
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(f"{head} in the configuration:\n" + "\n".join(f"  - {p}" for p in self.problems))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str]]]:
        return ConfigError, (self.problems,)  # a parallel launcher's worker sends its errors pickled


class DataError(R4RError):
    """Input data is missing, malformed or too small; names the file, row or count."""


class ModelError(R4RError):
    """A language model cannot be fetched, loaded or used as configured."""


class TrainingError(R4RError):
    """Training cannot start or would silently learn nothing."""


class StoreError(R4RError):
    """Artifacts cannot be found, handed on or taken in."""


class TeacherError(R4RError):
    """A teacher call gave nothing to learn from. Never stored as an answer, never training data.

    Attributes:
        tokens_in, tokens_out, dollars: what the call took all the same; dollars is None where no price is known.
        cached: the call was made, and paid, by an earlier run.
        retries: how often it was sent again.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float | None = 0.0
    cached: bool = False
    retries: int = 0


class AnswerRefused(TeacherError):
    """The teacher, or a content filter, declined to answer."""


class AnswerCut(TeacherError):
    """The answer reached the token limit before its end."""


class AnswerEmpty(TeacherError):
    """The answer holds no text."""


class AnswerBroken(TeacherError):
    """What came is no finished answer: it stopped for another reason than its end, or nothing readable is in it."""


class CallRejected(TeacherError):
    """The server will not take this one call: too long a prompt, a setting it does not know (HTTP 400, 413, 422), or a
    prompt that it fails at every time, while it answers others."""


class TeacherStopped(TeacherError):
    """Raised, never returned: no further call can succeed now. What is answered is kept; a new run goes on from it."""


class TeacherUnavailable(TeacherStopped):
    """The server does not answer, or answers with passing errors, after all retries.

    Attributes:
        of_the_call: another call may be answered meanwhile: the prompt may be what the server fails at.
    """

    of_the_call: bool = False


class TeacherDenied(TeacherStopped):
    """The key, the model or the account is refused: every call would be."""


class BudgetReached(TeacherStopped):
    """The next call could cost more than teacher.budget_usd leaves."""


class TooManyFailures(TeacherStopped):
    """More calls were refused, cut, empty or rejected than teacher.max_failed_share allows."""
