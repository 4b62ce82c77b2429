"""Code of the user's own: who may name it, and that a sweep runs one version of it."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from r4r.configuration.checks import named_classes, plugins_in
from r4r.configuration.composing import make_loader
from r4r.errors import ConfigError
from r4r.store.source import source_of

SOURCES = "R4R_SOURCES"  # environment variable: class -> files -> digests, as a sweep's first process found them


def trusted_plugins(overrides: Sequence[str], loader: ConfigLoaderImpl, name: str) -> tuple[str, ...]:
    """The modules that the command line lists as plugins or, where it does not, the top-level configuration file.

    No other file may: a data set's YAML that somebody hands on would name code to run.
    """
    parser = OverridesParser.create(config_loader=loader)
    for text in overrides:
        with suppress(HydraException):
            override = parser.parse_overrides([text])[0]
            if override.key_or_group == "plugins" and not override.is_sweep_override():
                value = override.value()
                return tuple(map(str, value)) if isinstance(value, list) else ()
    found = loader.repository.load_config(name)
    listed = OmegaConf.select(found.config, "plugins") if found else None
    return tuple(map(str, listed)) if isinstance(listed, list | ListConfig) else ()


def foreign_plugins(cfg: DictConfig, trusted: Sequence[str]) -> list[str]:
    """A sentence where a composed configuration lists plugins that neither the command line nor its top level names."""
    strange = [name for name in plugins_in(cfg) if name not in trusted]
    if not strange:
        return []
    told = "a file of a group may not list plugins; where you trust their code, put them on the command line"
    return [f"plugins=[{','.join(strange)}]: {told}, or at the top of the file that --config-name names"]


def pin_sources(configs: Sequence[DictConfig]) -> None:
    """Note for the jobs of a sweep, wherever they run, the source of the classes that they name."""
    named = {target: plugins_in(cfg) for cfg in configs for target in named_classes(cfg)}
    found = {target: source_of(target) for target in named}
    os.environ[SOURCES] = json.dumps({target: source for target, source in found.items() if source})


def check_job(cfg: DictConfig, hydra: Any) -> None:
    """Check a job as it starts: it may be one of a sweep that was not looked at, on another machine, days later.

    Args:
        hydra: Hydra's own part of the job's configuration.
    Raises:
        ConfigError: it lists plugins that it may not, or its classes' source is not what it was when the sweep began.
    """
    folder = next((s.path for s in hydra.runtime.config_sources if s.provider == "command-line"), None)
    overrides = list(hydra.overrides.task)
    problems = foreign_plugins(cfg, trusted_plugins(overrides, make_loader(folder), hydra.job.config_name))
    if problems:
        raise ConfigError(problems)
    pinned: Mapping[str, Mapping[str, str]] = json.loads(os.environ.get(SOURCES) or "{}")
    for target in named_classes(cfg):
        if target in pinned:
            now, then = source_of(target), pinned[target]
            changed = sorted(file for file in now.keys() | then.keys() if now.get(file) != then.get(file))
            problems += [
                f"{target}: {file} has changed since this sweep was started; start it anew" for file in changed
            ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
