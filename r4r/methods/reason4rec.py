"""Reason4Rec: deliberate as the strategy says, then rate (the paper's method)."""

from r4r.stages.stage import Job, Stage
from r4r.strategies import multistep, onestep

STRATEGIES = {"multistep": multistep.stages, "onestep": onestep.stages, "cot": onestep.stages}


class Reason4Rec:
    """The paper's method; how it deliberates is the strategy's to say."""

    uses = frozenset({"dataset", "llm", "teacher", "strategy", "reason_source", "experts", "recipe", "timing"})

    def __init__(self, name: str = "reason4rec"):
        self.name = name

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        return STRATEGIES[job.config.strategy.name](job.config)
