"""The job's teacher, and how a batch of its answers is counted."""

from collections.abc import Sequence
from typing import Any

from r4r.config import Config
from r4r.lm.fetch import identity
from r4r.stages.stage import Job
from r4r.teacher.base import Teacher
from r4r.teacher.local import LocalTeacher
from r4r.teacher.simulator import SimulatedTeacher


def teacher_identity(config: Config) -> dict[str, Any]:
    """What of the teacher changes its answers, without loading it."""
    teacher = config.teacher
    shared = {"kind": teacher.kind, "model": teacher.model, "seed": config.seed}
    if teacher.kind == "simulator":
        return shared | {"skill": teacher.skill}
    return shared | {
        **identity(teacher.source or "", teacher.sha256, teacher.revision),
        "dtype": teacher.dtype,
        "max_length": teacher.max_length,
    }


def make_teacher(job: Job) -> Teacher:
    """The teacher of the configuration; a local one loads its model now."""
    config = job.config
    if config.teacher.kind == "simulator":
        return SimulatedTeacher(skill=config.teacher.skill, seed=config.seed)
    from r4r.config import LLMConfig
    from r4r.lm.base import LanguageModel

    spec = LLMConfig(
        name=config.teacher.model,
        source=config.teacher.source or "",
        sha256=config.teacher.sha256,
        revision=config.teacher.revision,
        dtype=config.teacher.dtype,
        max_length=config.teacher.max_length,
        batch_tokens=config.teacher.batch_tokens,
    )
    model = LanguageModel.load(spec, config.trainer, config.paths.cache)

    def write(
        prompts: Sequence[str], max_tokens: int, temperature: float, seed: int
    ) -> list[tuple[str, int, int, bool]]:
        from r4r.lm.write import write_texts

        return [
            (text.text, text.tokens_in, text.tokens_out, text.finished)
            for text in write_texts(model, prompts, max_tokens, temperature, seed)
        ]

    return LocalTeacher(write, teacher_identity(config), config.seed)
