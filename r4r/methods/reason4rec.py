"""Reason4Rec: deliberate as the strategy says, then rate (the paper's method)."""

from typing import Any

from r4r.stages.deliberation import predictions_stage
from r4r.stages.stage import Job


class Reason4Rec:
    """The paper's method; the strategy lists its steps."""

    uses = frozenset({"dataset", "llm", "teacher", "strategy", "reason_source", "experts", "recipe", "timing"})

    def __init__(self, name: str = "reason4rec"):
        self.name = name

    def stages(self, job: Job) -> Any:
        """The stage whose artifact holds the predictions."""
        return predictions_stage(job.config)
