"""Records as jobs leave them, made without running any: their configurations are composed like a job's."""

import copy
from functools import cache
from typing import Any

import yaml
from omegaconf import OmegaConf

from r4r.config import Config
from r4r.overrides import compose, make_loader

LOADER = make_loader()


@cache
def _composed(*options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    cfg = compose(LOADER, "config", list(options))
    chosen = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    own = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"})
    values: Any = OmegaConf.to_container(own, resolve=True)
    values["experts"] = {name: node for name, node in values["experts"].items() if "_target_" in node}
    return values, chosen


def configured(*overrides: str, seed: int = 42) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of a job with these overrides, as its record holds it, and its choices."""
    settings = [override for override in overrides if "." in override.partition("=")[0].partition("@")[0]]
    values, chosen = copy.deepcopy(_composed(*(o for o in overrides if o not in settings), "seed=42"))
    cfg = OmegaConf.create(values)
    for override in settings:  # by hand, since to compose takes a third of a second
        key, _, value = override.lstrip("+").partition("=")
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    config = Config.model_validate(OmegaConf.to_container(cfg)).model_dump(mode="json")
    return config | {"seed": seed}, dict(chosen)
