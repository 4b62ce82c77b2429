"""EXP3RT: preferences of each review, profiles of user and item, then reason and rating in one answer (2408.06276)."""

from collections.abc import Mapping
from typing import Any

from r4r.methods.exp3rt.predictions import Adapters, predictions_stage
from r4r.methods.exp3rt.profiles import RATER
from r4r.pipeline.stage import Stage
from r4r.stages.mounted import training_settings
from r4r.stages.stage import Job


class Exp3rtMethod:
    """Taught by the teacher, task by task; its reasons stand in `detail.parquet`.

    Args:
        adapters: `separate`: each task has an adapter of its own, as published. `shared`: one adapter, trained as
            `experts.exp3rt` says, does all; the other experts then say how their tasks are asked and read.
    """

    uses = frozenset({"dataset", "llm", "teacher", "experts", "recipe", "timing"})
    experts = frozenset({"exp3rt_preferences", "exp3rt_user_profile", "exp3rt_item_profile", "exp3rt"})

    @classmethod
    def unread(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Dotted keys of experts that a job with these settings of the method does not read: with one shared adapter,
        how the others are trained."""
        if settings.get("adapters") != "shared":
            return frozenset()
        own = training_settings() - {"prompts", "max_new_tokens"}
        return frozenset(f"experts.{place}.{name}" for place in cls.experts - {RATER} for name in own)

    def __init__(self, name: str = "exp3rt", adapters: Adapters = "separate"):
        self.name, self.adapters = name, adapters

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        return predictions_stage(job.config, self.adapters)
