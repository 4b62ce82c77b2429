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


class TeacherError(R4RError):
    """A teacher call failed, was refused, was cut off or came back empty. Never stored as an answer."""
