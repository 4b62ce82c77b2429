"""RecZero as a method: no teacher, no summaries, no separate experts."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from r4r.methods.reczero.predictions import SHOWN, model_at
from r4r.pipeline.stage import Stage
from r4r.stages.stage import Job


class RecZero:
    """Learns by group-relative rewards for form and rating; its reasoning stands in `detail.parquet`.

    Args:
        history: reviews a side that a prompt shows, the latest ones.
    """

    uses = frozenset({"dataset", "llm", "experts", "recipe"})
    experts = frozenset({"reczero"})
    instead: ClassVar[Mapping[str, str]] = SHOWN

    def __init__(self, name: str = "reczero", history: Annotated[int, Field(ge=1)] = 10):
        self.name, self.history = name, history

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        model = model_at(job.config, "reczero", self.history)
        return model.predictions(model.reinforced(None), "RecZero")
