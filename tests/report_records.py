"""Records as jobs leave them, made without running any: their configurations are composed like a job's."""

import copy
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from r4r.config import Config
from r4r.overrides import compose, make_loader

LOADER = make_loader()


@cache
def _composed(*overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    cfg = compose(LOADER, "config", list(overrides))
    chosen = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    own = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"})
    values: Any = OmegaConf.to_container(own, resolve=True)
    values["experts"] = {name: node for name, node in values["experts"].items() if "_target_" in node}
    return Config.model_validate(values).model_dump(mode="json"), chosen


def configured(*overrides: str, seed: int = 42) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of a job with these overrides, as its record holds it, and its choices."""
    config, chosen = copy.deepcopy(_composed(*overrides, "seed=42"))
    return config | {"seed": seed}, chosen
