"""EXP3RT: preferences of each review, profiles of user and item, then reason and rating in one answer (2408.06276)."""

from r4r.pipeline.stage import Stage
from r4r.stages.exp3rt import Adapters, predictions_stage
from r4r.stages.stage import Job


class Exp3rt:
    """Taught by the teacher, task by task; its reasons stand in `detail.parquet`.

    Args:
        adapters: `separate`: each task has an adapter of its own, as published. `shared`: one adapter, trained as
            `experts.exp3rt` says, does all; the other experts then say how their tasks are asked and read.
    """

    uses = frozenset({"dataset", "llm", "teacher", "experts", "recipe", "timing"})
    experts = frozenset({"exp3rt_preferences", "exp3rt_user_profile", "exp3rt_item_profile", "exp3rt"})

    def __init__(self, name: str = "exp3rt", adapters: Adapters = "separate"):
        self.name, self.adapters = name, adapters

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        return predictions_stage(job.config, self.adapters)
