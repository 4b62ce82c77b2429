"""The reward model: trained on a pool of its own, with the target's review in the placeholder (paper 3.4)."""

from collections.abc import Sequence

from r4r.config import Config
from r4r.experts.reward_model import RewardModel
from r4r.lm.batches import common_prefix
from r4r.lm.rate import decode
from r4r.rows import Case
from r4r.stages.histories import case_facts, case_inputs, clipped_reviews, known_cases, pool_rows
from r4r.stages.pools import pools_stage
from r4r.stages.stage import Job, Stage, Work
from r4r.stages.train import Texts, train_stage


def reward_model_stage(config: Config) -> Stage:
    """Artifact: the reward model's adapter."""
    inputs = case_inputs(config) | {"pools": pools_stage(config)}
    return train_stage(config, "reward_model", inputs, case_facts(config), _texts)


def _texts(work: Work) -> Texts:
    rows = pool_rows(work, "reward")
    return [
        (case.row_id, RewardModel.prompt(case, review), RewardModel.target(rating))
        for case, review, rating in zip(
            known_cases(work, rows), clipped_reviews(work.job, rows), rows["rating"], strict=True
        )
    ]


class RewardScorer:
    """Rates texts in the placeholder of a few pairs; what the pairs' prompts share is computed once."""

    def __init__(self, job: Job, cases: Sequence[Case]):
        self.chat = job.engine.chat
        self.cases = cases
        prompts = [self._ids(case, "A") for case in cases]
        keep = [common_prefix([p, self._ids(case, "0")]) for p, case in zip(prompts, cases, strict=True)]
        self.shared = job.engine.share(prompts, keep, "reward_model")

    @property
    def nbytes(self) -> int:
        """Memory of what is shared."""
        return self.shared.nbytes

    def _ids(self, case: Case, text: str | None) -> list[int]:
        return self.chat.prompt_ids(RewardModel.prompt(case, text))

    def __call__(self, pairs: Sequence[int], texts: Sequence[str | None]) -> list[float]:
        """The reward model's expected rating for each (pair, text)."""
        prompts = [self._ids(self.cases[pair], text) for pair, text in zip(pairs, texts, strict=True)]
        return decode(self.shared.rate(pairs, prompts))["mean"].tolist()
