"""Train an expert on lessons: texts that an earlier stage made."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError
from r4r.pipeline.stage import Stage
from r4r.rows import LESSONS
from r4r.stages.estimate import Estimate
from r4r.stages.identity import llm_identity
from r4r.stages.mounted import Mounted, mounted
from r4r.stages.stage import Job, Work
from r4r.store.artifact import Artifact, write_table
from r4r.training.expert import Expert

Texts = list[tuple[int, str, Any]]
"""(row_id, prompt, response) of each training example; or in the response's place what else its objective learns."""


@dataclass(frozen=True)
class Training(Stage):
    """Artifact: `adapter/`, in peft's format.

    Attributes:
        lessons: the stage whose artifact holds `data.parquet` (rows.LESSONS).
        llm: identity of the base model.
        trainer: what of the trainer's settings changes what is learnt.
    """

    version: ClassVar[int] = 2
    trains_adapter: ClassVar[bool] = True

    expert: Mounted
    lessons: Any
    llm: Mapping[str, Any]
    trainer: Mapping[str, Any]
    seed: int

    @property
    def name(self) -> str:
        return f"train/{self.expert.place}"

    @property
    def estimate(self) -> Estimate:
        return _takes(self.expert.place, self.expert.node["epochs"])

    def build(self, work: Work) -> dict[str, Any]:
        own = self.expert.expert
        texts, held_out = hold_out(self.material(work), own.validation_share, self.seed, self.expert.place)
        return _fit(work, self.expert.place, own, texts, held_out, self.seed)

    def material(self, work: Work) -> Texts:
        """What the expert's objective makes examples of."""
        table = work.of(self.lessons).table(LESSONS)
        return list(zip(table["row_id"].tolist(), table["prompt"], table["response"], strict=True))


def training(config: Config, place: str, lessons: Any) -> Training:
    """The stage that trains the expert at `experts.<place>` on lessons.

    Raises:
        ConfigError: its objective learns from something else.
    """
    own = mounted(config, place)
    objective = own.expert.objective
    if objective.material != "lessons" or objective.starts_from:
        wants = objective.material if objective.material != "lessons" else "an adapter to begin with"
        raise ConfigError(
            [
                f"experts.{place}.objective: {type(objective).__name__} needs {wants}, and this job has lessons alone "
                f"for {place}; take objective@experts.{place}.objective=sft"
            ]
        )
    return Training(own, lessons, llm_identity(config), config.trainer.identity(), config.seed)


def hold_out(lessons: Texts, share: float, seed: int, place: str) -> tuple[Texts, Texts]:
    """Lessons to learn from, and lessons whose loss is measured: all lessons of a row are on one side.

    The teacher writes about training rows alone, so that there are no lessons of the split's validation rows.

    Args:
        share: of the rows that are held out, at least one of them; 0: none.
        place: of the expert, which an error names.

    Raises:
        DataError: no row is left to learn from.
    """
    if not share:
        return lessons, []
    rows = sorted({row_id for row_id, _, _ in lessons})
    count = max(1, round(share * len(rows)))
    if count >= len(rows):
        raise DataError(
            f"experts.{place}.validation_share={share:g} holds out {count} of {len(rows)} rows and leaves none to "
            "train on; lower it, or enlarge dataset.pools"
        )
    kept_back = set(random.Random(seed).sample(rows, count))
    learnt = [lesson for lesson in lessons if lesson[0] not in kept_back]
    return learnt, [lesson for lesson in lessons if lesson[0] in kept_back]


def write_lessons(work: Work, place: str, lessons: Texts, **facts: Any) -> dict[str, Any]:
    """Keep an expert's lessons as the artifact of the stage that made them.

    Raises:
        DataError: there are none.
    """
    if not lessons:
        raise DataError(f"there is nothing to train {place} on; enlarge the data set or dataset.pools")
    table = pd.DataFrame(lessons, columns=list(LESSONS))
    write_table(work.folder / "data.parquet", table, LESSONS)
    return {"lessons": len(table), **facts}


def use_adapter(job: Job, name: str, artifact: Artifact) -> None:
    """Have a trained expert's adapter ready on the job's base model."""
    job.engine.load_adapter(name, artifact.path / "adapter")


def _fit(work: Work, place: str, expert: Expert, texts: Texts, held_out: Texts, seed: int) -> dict[str, Any]:
    from r4r.training.fit import fit  # Lightning takes seconds to import

    if "engine" in vars(work.job):
        work.job.engine.rest()  # the training has the GPU to itself
    lm = work.job.lm
    examples, valid = expert.objective.encode(lm, texts), expert.objective.encode(lm, held_out)
    facts = fit(expert, lm, place, examples, work.folder, work.job.config.trainer, seed, work.job.log, valid)
    return facts | ({"held_out": len(valid)} if valid else {})


def _takes(place: str, epochs: int) -> Estimate:
    pool = {"summarizer": "summaries", "reward_model": "reward"}.get(place, "experts")
    return Estimate(lambda known: getattr(known, pool), "examples at most", epochs)
