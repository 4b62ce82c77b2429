"""Rec-SAVER: reason, then rate, in one answer, from the user's raw reviews and the target's metadata (2408.00802)."""

from typing import Annotated

from pydantic import Field

from r4r.methods.rec_saver.predictions import Unparsed, predictions_stage
from r4r.pipeline.stage import Stage
from r4r.stages.stage import Job


class RecSaverMethod:
    """Learns from the teacher's traces; its reasons stand in `detail.parquet`.

    Args:
        verify: keep only traces from which the teacher, not told the rating, recovers it.
        recover_within: how far off the recovered rating may be, in steps of the scale. The default takes a value of the
            scale only where it is the rating itself, and forgives an answer between two.
        logits: rate the same answers by the logits too, as a second row of the table.
        unparsed: for an answer that states no rating on the scale, `likeliest` takes the one that is likeliest where it
            would stand; `error` stops the job.
    """

    uses = frozenset({"dataset", "llm", "teacher", "experts", "recipe", "timing"})
    experts = frozenset({"rec_saver"})

    def __init__(
        self,
        name: str = "rec_saver",
        verify: bool = True,
        recover_within: Annotated[float, Field(ge=0, le=200, allow_inf_nan=False)] = 0.5,
        logits: bool = True,
        unparsed: Unparsed = "likeliest",
    ):
        self.name, self.verify, self.recover_within = name, verify, recover_within
        self.logits, self.unparsed = logits, unparsed

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        return predictions_stage(job.config, self.verify, self.recover_within, self.logits, self.unparsed)
