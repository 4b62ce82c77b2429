"""Reason4Rec: deliberate as the strategy says, then rate (the paper's method)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from r4r.stages.deliberation import Options, predictions_stage
from r4r.stages.stage import Job


class Reason4Rec:
    """The paper's method; the strategy lists its steps."""

    uses = frozenset(
        {"dataset", "llm", "teacher", "strategy", "reason_source", "experts", "recipe", "timing", "control"}
    )

    def __init__(
        self,
        name: str = "reason4rec",
        reason_training: Literal["own", "crossfit"] = "own",
        folds: Annotated[int, Field(ge=2)] = 5,
        predictor_pairs: Literal["accepted", "all"] = "accepted",
        reasons: Annotated[int, Field(ge=1)] = 1,
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
    ):
        """
        Args:
            name: of the option.
            reason_training, folds, predictor_pairs, reasons, temperature: see `Options`.
        """
        self.name = name
        self.options = Options(reason_training, folds, predictor_pairs, reasons, temperature)

    def stages(self, job: Job) -> Any:
        """The stage whose artifact holds the predictions."""
        return predictions_stage(job.config, self.options)
