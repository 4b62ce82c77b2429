"""The teacher writes reasons, the reward model keeps the good ones: the paper's source (paper 3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from r4r.configuration.schema import Config
from r4r.pipeline.stage import Unkeyed
from r4r.rows import Case
from r4r.stages.ask import Asking, groups
from r4r.stages.filtering import Filtering, Writing
from r4r.stages.histories import histories
from r4r.stages.identity import llm_identity
from r4r.stages.mounted import asked
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.reasons import ReasonSource, Teaching, reasoner_prompt, takes_of, teaching
from r4r.stages.reward import reward_model_stage, target_reviews
from r4r.stages.stage import Work
from r4r.store.journal import Journal


@dataclass(frozen=True)
class FilteredReasons(Filtering):
    """The teacher's candidates: one without the hint, then some with it."""

    version: ClassVar[int] = 2

    teaching: Teaching
    takes: Unkeyed
    max_hinted: int

    @property
    def estimate(self) -> Any:
        return self.takes.value

    @property
    def attempts(self) -> tuple[int, int]:
        return 1, self.max_hinted

    @property
    def room(self) -> int:
        return self.teaching.max_tokens

    def writer(self, work: Work, journal: Journal, rows: pd.DataFrame, cases: Sequence[Case]) -> Writing:
        """The teacher. Hinted prompts, too, show histories without ratings."""
        ratings = rows["rating"].tolist()

        def prompt(place: int, hinted: bool) -> str:
            return reasoner_prompt(self.expert, cases[place], ratings[place] if hinted else None)

        limits = self.teaching.temperature, self.teaching.max_tokens
        return Writing(Asking(work.job, journal), prompt, *limits, partial(groups, work.job.config))


class Filtered(ReasonSource):
    """The paper's source: candidates without, then with the hint; the first that is close enough to the review stays.

    Args:
        max_hinted: candidates with the hint, after the one without.
        tau: threshold of s_eval, in rating points; None: the data set's.
        reference: review (the paper), or none: the prediction without any reason.
    """

    asks_teacher: ClassVar[bool] = True

    def __init__(
        self,
        name: str = "filtered",
        max_hinted: Annotated[int, Field(ge=0)] = 10,
        tau: Annotated[float, Field(allow_inf_nan=False)] | None = None,
        reference: Literal["review", "none"] = "review",
    ):
        super().__init__(name)
        self.max_hinted, self.tau, self.reference = max_hinted, tau, reference

    def stage(self, config: Config, node: Mapping[str, Any]) -> Filtering:
        pairs = expert_pairs(config)
        return FilteredReasons(
            pools_stage(config),
            asked(config, "reasoner"),
            asked(config, "reward_model"),
            reward_model_stage(config),
            histories(config),
            target_reviews(config),
            llm_identity(config),
            config.dataset.tau if self.tau is None else self.tau,
            self.reference,
            teaching(config, "hint"),
            takes_of(config, pairs, pairs * (1 + self.max_hinted)),
            self.max_hinted,
        )
