"""EXP3RT: preferences of each review, profiles of user and item, then reason and rating in one answer (2408.06276)."""

from r4r.stages.exp3rt import predictions_stage
from r4r.stages.stage import Job, Stage


class Exp3rt:
    """One student for all three tasks, taught by the teacher; its reasons stand in `detail.parquet`."""

    uses = frozenset({"dataset", "llm", "teacher", "experts", "recipe", "timing"})
    experts = frozenset({"exp3rt"})

    def __init__(self, name: str = "exp3rt"):
        self.name = name

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        return predictions_stage(job.config)
