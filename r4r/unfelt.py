"""Overrides of a job that change none of its artifacts: taken, and told, since whoever sets one expects it to."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r4r.errors import R4RError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from r4r.configuration.schema import Config

# groups of settings that artifacts are made of
ROOTS = ("dataset", "teacher", "method", "strategy", "reason_source", "control", "experts")


def unfelt(cfg: "DictConfig", config: "Config", hydra: Any) -> Iterator[str]:
    """A sentence for each override with which the job has the artifacts that it has without.

    Args:
        cfg: the composed job.
        config: the same, checked.
        hydra: Hydra's own part of it.
    """
    from omegaconf import OmegaConf

    from r4r.configuration.checks import validate
    from r4r.configuration.composing import compose, make_loader

    overrides = list(hydra.overrides.task)
    asked = [(override, key) for override in overrides if _counts(key := override.lstrip("+").partition("=")[0])]
    if not asked:
        return
    folder = next((each.path for each in hydra.runtime.config_sources if each.provider == "command-line"), None)
    loader, keys = make_loader(folder), set(_keys(config))
    for override, key in asked:
        try:
            other = compose(loader, hydra.job.config_name, [each for each in overrides if each != override])
            if OmegaConf.select(other, key) == OmegaConf.select(cfg, key):
                continue
            if set(_keys(validate(other, classes=False))) == keys:
                yield f"{override.lstrip('+')}: changes none of this job's artifacts"
        except R4RError:  # there is no job without it
            continue


def _counts(key: str) -> bool:
    """Whether a setting is of the kind that changes artifacts; which class stands somewhere, and seeds, may not."""
    from r4r.report.settings import SAME_RESULT

    root, *rest = key.split(".")
    left_out = ("_target_", "name", *SAME_RESULT.get(root, ()))
    return root in ROOTS and bool(rest) and "@" not in key and not key.endswith("seed") and rest[0] not in left_out


def _keys(config: "Config") -> Iterator[tuple[str, str]]:
    """Name and key of the last stage of each of the job's methods, whatever the base model is."""
    from r4r.configuration.construct import construct
    from r4r.configuration.schema import LLMConfig
    from r4r.stages.stage import Job
    from r4r.store.artifact import Store

    # no hub is asked for its identity
    llm = LLMConfig(name="any", source="tiny:", **config.llm.model_dump(include={"engine", "vllm"}))
    job = Job(config.model_copy(update={"llm": llm}), Store(Path()))
    nodes: dict[str, Any] = {"method": config.method}
    nodes |= {f"references.{name}": node for name, node in config.references.items()}
    for where, node in nodes.items():
        final = construct(node, where, config.plugins).stages(job)
        yield final.name, final.key
