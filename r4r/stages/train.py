"""Train one expert on texts that an earlier stage made."""

from collections.abc import Callable
from typing import Any

from r4r.config import Config
from r4r.experts.expert import Expert
from r4r.experts.fit import encode, fit
from r4r.stages.identity import llm_identity, prompt_texts
from r4r.stages.stage import Job, Stage, Work
from r4r.store.artifact import Artifact

VERSION = 1
Texts = list[tuple[int, str, str]]
"""(row_id, prompt, response) of each training example."""


def make_expert(config: Config, name: str) -> Expert:
    """The expert that the strategy mounted at experts.<name>."""
    from hydra.utils import instantiate

    return instantiate(config.experts[name])


def train_stage(
    config: Config, name: str, inputs: dict[str, Stage], facts: dict[str, Any], texts: Callable[[Work], Texts]
) -> Stage:
    """Artifact: `adapter/`, in peft's format.

    Args:
        facts: settings beyond the expert's own that shape its training texts.
        texts: makes them from the inputs.
    """
    settings = config.experts[name]
    identity = {
        "llm": llm_identity(config),
        "expert": {key: value for key, value in settings.items() if key != "max_new_tokens"},
        "prompts": prompt_texts(*make_expert(config, name).templates),
        "seed": config.seed,
        **facts,
    }

    def build(work: Work) -> dict[str, Any]:
        lm, cache = work.job.lm, config.paths.cache
        examples = encode(lm, texts(work))
        expert = make_expert(work.job.config, name)
        if "engine" in vars(work.job):
            work.job.engine.rest()  # the training has the GPU to itself
        return fit(expert, lm, name, examples, work.folder, config.trainer, config.seed, work.job.log, cache)

    return Stage(f"train/{name}", VERSION, identity, inputs, build, f"{settings['epochs']} epochs")


def use_adapter(job: Job, name: str, artifact: Artifact) -> None:
    """Have a trained expert's adapter ready on the job's base model."""
    job.engine.load_adapter(name, artifact.path / "adapter")
