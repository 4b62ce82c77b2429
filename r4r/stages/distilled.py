"""Train a last step that reads no reason on the ratings that the same step gives when it reads reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import ConfigError
from r4r.experts.steps import Rater
from r4r.lm.rating_tokens import rating_tokens
from r4r.pipeline.stage import Stage
from r4r.rows import LESSONS
from r4r.stages.estimate import Estimate
from r4r.stages.further import Frozen, with_sft
from r4r.stages.histories import fitted
from r4r.stages.identity import llm_identity
from r4r.stages.lessons import StepLessons, with_thoughts
from r4r.stages.mounted import mounted
from r4r.stages.rate import rate_rows
from r4r.stages.reward import RATING_TOKENS
from r4r.stages.stage import Work
from r4r.stages.train import Texts, Training, training, use_adapter
from r4r.training.objectives.distilled import Graded


@dataclass(frozen=True)
class SoftLabels(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS) and `detail.parquet`, which adds the probability of each value of the
    scale: what a rating expert that reads reasons says of the pairs that it learnt from.

    Attributes:
        reasoned: what the expert learnt from, with the reasons.
        lessons: of the same pairs, without reasons: what the labels are for.
    """

    rater: Frozen
    reasoned: StepLessons
    llm: Mapping[str, Any]
    lessons: StepLessons

    @property
    def name(self) -> str:
        return f"train/{self.rater.expert.place}.labels"

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.experts, "pairs at most")

    def build(self, work: Work) -> dict[str, Any]:
        chat, own, known = work.job.chat, self.rater.expert.expert, self.reasoned
        place, scale = self.rater.expert.place, known.shown.scale
        rows = known.pairs.rows(work)
        cases = with_thoughts(work, known.shown.cases(work, rows), known.thoughts)
        fit = fitted(chat, own.prompt, cases, self.llm["max_length"], RATING_TOKENS, known.shown.overflow)
        prefix = rating_tokens(chat, scale=scale).prefix
        encoded = [[*chat.prompt_ids(prompt), *prefix] for prompt in fit.prompts]
        reasons = {case.row_id: "\n".join(case.thoughts) for case in fit.cases}
        use_adapter(work.job, place, work.of(self.rater.trained))
        row_ids = [case.row_id for case in fit.cases]
        return fit.facts | rate_rows(work, place, row_ids, encoded, reasons, "soft labels", scale)


@dataclass(frozen=True)
class Distilling(Training):
    """Artifact: `adapter/`, in peft's format; `steps.jsonl` and `steps.png`, how far the expert is from its labels.

    Attributes:
        lessons: SoftLabels.
    """

    def material(self, work: Work) -> Texts:
        known: SoftLabels = self.lessons
        scale = known.lessons.shown.scale
        labels = pd.read_parquet(work.of(known).path / "detail.parquet").set_index("row_id")
        table = labels[[f"p{value:g}" for value in scale.values]]
        return [
            (row_id, prompt, Graded(response, tuple(table.loc[row_id].tolist()), scale))
            for row_id, prompt, response in work.of(known.lessons).table(LESSONS).itertuples(index=False)
        ]


def distilling(config: Config, reasoned: StepLessons) -> Distilling:
    """The training of a last step that reads no reason.

    Args:
        reasoned: its lessons with what the earlier steps wrote.

    Raises:
        ConfigError: the step writes, so that its rating is one of many tokens that it learns.
    """
    own = reasoned.expert
    if not isinstance(own.expert, Rater):
        raise ConfigError(
            [
                f"experts.{own.place}.objective: only a last step that rates without writing learns from its own "
                "ratings; take sft"
            ]
        )
    rater = Frozen(own, training(with_sft(config, own.place), own.place, reasoned))
    labels = SoftLabels(rater, reasoned, reasoned.llm, replace(reasoned, thoughts=()))
    identity = llm_identity(config), config.trainer.identity(), config.seed
    return Distilling(mounted(config, own.place), labels, *identity)
