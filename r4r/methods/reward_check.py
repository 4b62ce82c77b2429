"""Table 5: the reward model's error, given texts of known closeness to the review. An analysis, no recommender.

What it predicts from may be the target's own review, as in the paper's table; it belongs in no comparison of methods.
"""

from typing import Annotated

from pydantic import Field

from r4r.pipeline.stage import Stage
from r4r.stages.reward_check import reward_check_stage
from r4r.stages.stage import Job


class RewardCheck:
    """Rates the evaluated rows once a kind of text: review, review-, hint- and history-inferred reason, nothing.

    Args:
        attempts: teacher calls a text may take before its row is left out.
    """

    uses = frozenset({"dataset", "llm", "teacher", "strategy", "experts", "recipe"})
    experts = frozenset({"summarizer", "reward_model"})

    def __init__(self, name: str = "reward_check", attempts: Annotated[int, Field(ge=1)] = 5):
        self.name = name
        self.attempts = attempts

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the reward model's ratings, a label a kind of text."""
        return reward_check_stage(job.config, self.attempts)
