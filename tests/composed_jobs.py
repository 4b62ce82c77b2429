"""Jobs composed from conf/, and what is said against them."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.errors import ConfigError

LOADER = make_loader()


def composed(*overrides: str) -> DictConfig:
    return compose(LOADER, "config", list(overrides))


def problems(cfg: DictConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate(cfg)
    return error.value.problems


def refused(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        preflight(list(argv))
    return error.value.problems


def changed(cfg: DictConfig, **values: Any) -> DictConfig:
    """A copy with dotted keys (written with __ for the dot) set, whether or not they exist."""
    copy = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(copy, DictConfig)
    for key, value in values.items():
        OmegaConf.update(copy, key.replace("__", "."), value, force_add=True)
    return copy
