"""What a report takes for a whole record: a file that lacks any of it is named and left out, never half read."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# what names a folder below the store's root, and none elsewhere
StageName = Annotated[str, Field(pattern=r"^[^/.][^/]*(/[^/.][^/]*)*$")]
Key = Annotated[str, Field(pattern=r"^[^/.][^/]*$")]


class Part(BaseModel):
    """Values of a record that reports read; what else is there is left alone."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Failure(Part):
    kind: str
    message: str


class Score(Part):
    """A label's errors with one decoding."""

    label: str
    decoding: str
    n: int = Field(ge=1)
    mae: float
    mae_se: float | None
    rmse: float
    rmse_se: float | None


class FurtherMetric(Part):
    """A metric of ratings beside MAE and RMSE: each score has it and its standard error, by its name."""

    title: str
    higher_is_better: bool


class Difference(Part):
    p: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class Comparison(Part):
    label: str
    against: str
    mae: Difference
    rmse: Difference


class ReasonScore(Part):
    label: str
    metric: str
    mean: float
    se: float | None
    n: int
    model: str


class Reasons(Part):
    scores: list[ReasonScore]


class Mode(Part):
    """Seconds and tokens a prediction, one by one or batched."""

    mode: str
    n: int
    batches: int = Field(ge=1)
    cut: int
    seconds: float = Field(gt=0)
    seconds_se: float | None
    seconds_median: float | None
    rating_seconds: float | None
    tokens: float
    tokens_se: float | None

    @model_validator(mode="after")
    def _one_by_one(self) -> "Mode":
        if self.mode == "single" and (self.seconds_median is None or self.rating_seconds is None):
            raise ValueError("predictions one by one need seconds_median and rating_seconds")
        return self


class Timing(Part):
    base_model: str
    dtype: str
    quantization: str
    device: str
    modes: list[Mode]

    @model_validator(mode="after")
    def _both(self) -> "Timing":
        if not {"single", "batched"} <= {mode.mode for mode in self.modes}:
            raise ValueError("modes must have single and batched")
        if not (self.model_extra or {}).keys() & {"engine", "torch"}:
            raise ValueError("it must say who predicted: engine or torch")
        return self


class TimingAsked(Part):
    rows: int = 0
    seed: int = 0


class Settings(Part):
    """The configuration, in the parts that reports look into by name."""

    target: str = "result"
    dataset: dict[str, Any] = {}
    llm: dict[str, Any] = {}
    teacher: dict[str, Any] = {}
    strategy: dict[str, Any] = {}
    reason_source: dict[str, Any] = {}
    experts: dict[str, dict[str, Any]] = {}
    method: dict[str, Any] = {}
    references: dict[str, dict[str, Any]] = {}
    timing: TimingAsked = TimingAsked()
    paths: dict[str, str] = {}


class Reads(Part):
    method: list[str] | None
    references: dict[str, list[str] | None]


class Cost(Part):
    """What all stages of the method took, whichever job built them."""

    total: dict[str, float]


class Origin(Part):
    """Which artifact holds a label's predictions, and its label there."""

    stage: StageName
    key: Key
    label: str


class Record(Part):
    """A job's `result.json`."""

    status: Literal["ok", "failed", "interrupted"]
    method: str
    dataset: str
    seed: int
    started: str
    config: Settings
    experiment: str | None = None
    error: Failure | None = None
    overrides: list[str] = []
    choices: dict[str, str | list[str] | None] = {}
    reads: Reads | None = None
    source: dict[str, str] = {}
    reference_source: dict[str, dict[str, str]] = {}
    artifacts: dict[StageName, Key] = {}
    predicted: dict[str, Origin] = {}
    evaluated: str | None = None
    excluded: dict[str, list[int]] = {}
    training_pairs: dict[str, int | None] = {}
    metrics: list[Score] | None = None
    rating_metrics: dict[str, FurtherMetric] = {}
    comparisons: list[Comparison] = []
    reasons: Reasons | None = None
    cost: Cost | None = None
    wall_s: float | None = None
    timing: Timing | None = None

    @model_validator(mode="after")
    def _scored(self) -> "Record":
        """Scores say of which rows they are, and every label has the headline decoding."""
        if self.status == "failed" and self.error is None:
            raise ValueError("a failed job must say its error")
        if self.metrics is not None:
            labels = {score.label for score in self.metrics}
            if not labels or labels != {score.label for score in self.metrics if score.decoding == "mean"}:
                raise ValueError("metrics must have the decoding mean of each label")
            for name in self.rating_metrics:
                for further in (score.model_extra or {} for score in self.metrics):
                    error = further.get(f"{name}_se", "")
                    if not _finite(further.get(name)) or not (error is None or _finite(error)):
                        raise ValueError(f"each of metrics must have numbers {name} and {name}_se")
            if self.evaluated is None:
                raise ValueError("metrics need evaluated, the split that was scored")
        return self


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def check(value: Any) -> dict[str, Any]:
    """A parsed `result.json` that is a whole record.

    Raises:
        ValueError: it is none; the message is a sentence's end.
    """
    try:
        Record.model_validate(value)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        more = f", and {len(others)} more faults" if others else ""
        raise ValueError(f"it is no whole record of a job: {f'{where}: ' if where else ''}{message}{more}") from None
    return value
