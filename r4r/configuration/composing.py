"""Hydra's composition of `conf/`, its complaints turned into sentences."""

import copy
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigResult, IConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from r4r.configuration.targets import close_names
from r4r.errors import ConfigError
from r4r.files import conf_dir, settle_folders

EXTRAS = {  # options of Hydra's own groups that come with an extra of the package
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/sweeper/optuna": "optuna",
}
KEPT = 60  # compositions that are not made twice


class Remembering(CachingConfigRepository):
    """Parses a YAML file once for all compositions of a loader; Hydra's own does so for each composition."""

    def __init__(self, delegate: IConfigRepository):  # not copied: what is registered later is to be found
        self.delegate, self.cache = delegate, {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Remembering":  # Hydra copies a repository for each composition
        copied = Remembering(copy.deepcopy(self.delegate, memo))
        copied.cache = self.cache
        return copied

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.cache = {}  # `hydra.searchpath`: names may mean other files

    def load_config(self, config_path: str) -> ConfigResult | None:
        found = super().load_config(config_path)
        if found is None or not found.path.startswith("file:"):  # registered in this process, perhaps anew
            del self.cache[f"config_path={config_path}"]
            return found
        return copy.deepcopy(found)  # a composition takes over its nodes and writes its overrides into them


def make_loader(extra_dir: str | None = None) -> ConfigLoaderImpl:
    """Hydra's loader over `conf/`, and over the user's own folder first."""
    settle_folders()
    path = create_config_search_path(str(conf_dir()))
    if extra_dir:
        extra = f"file://{Path(extra_dir).absolute()}"
        path.prepend(provider="command-line", path=extra, anchor=SearchPathQuery(provider="schema"))
    loader = ConfigLoaderImpl(config_search_path=path)
    loader.repository = Remembering(loader.repository)  # type: ignore[assignment]  # Hydra's field names the class
    return loader


def compose(loader: ConfigLoaderImpl, name: str, overrides: list[str]) -> DictConfig:
    """The composed job, with Hydra's own settings under `hydra`. Not to be written into: equal calls share it.

    Raises:
        ConfigError: Hydra's complaint in one sentence.
    """
    return _composed(loader, name, tuple(overrides))


@lru_cache(maxsize=KEPT)
def _composed(loader: ConfigLoaderImpl, name: str, overrides: tuple[str, ...]) -> DictConfig:
    try:
        return loader.load_configuration(name, list(overrides), run_mode=RunMode.RUN)
    except yaml.YAMLError as error:
        raise ConfigError([_yaml_sentence(error)]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is no UTF-8 text" for file in _undecodable(loader)] or [str(error)]) from error
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        raise ConfigError([_one_sentence(error, loader)]) from error


def _undecodable(loader: ConfigLoaderImpl) -> list[Path]:
    """YAML files that are no UTF-8; the decoder's error does not say which."""
    places = [element.path.removeprefix("file://") for element in loader.get_search_path().get_path()]
    found = []
    for file in [file for place in places if place.startswith("/") for file in Path(place).rglob("*.yaml")]:
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            found.append(file)
    return found


def _yaml_sentence(error: yaml.YAMLError) -> str:
    """Where a YAML file is broken, and how."""
    mark = getattr(error, "problem_mark", None)
    place = f"{mark.name}:{mark.line + 1}:{mark.column + 1}: " if mark else ""
    what = getattr(error, "problem", None) or re.sub(r"\s+", " ", str(error))
    return f"{place}is no YAML: {what}"


def _one_sentence(error: Exception, loader: ConfigLoaderImpl) -> str:
    text = " ".join(part for part in (str(error), str(error.__cause__ or "")) if part).strip()
    missing = re.search(r"(?:In '([^']*)': )?Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if missing:
        source, group, option = missing.groups()
        head = f"conf/{source}.yaml: " if source else ""
        return head + no_option(group, option, loader)
    return re.sub(r"\s+", " ", text.split("\n\n")[0])


def no_option(group: str, option: str, loader: ConfigLoaderImpl) -> str:
    known = loader.get_group_options(group)
    extra = EXTRAS.get(f"{group}/{option}")
    if extra:
        hint = f"it comes with the extra {extra}: pip install '.[{extra}]'"
    else:
        hint = close_names(option, known) if known else f"conf/{group} holds no options"
        hint += "; a model of your own: llm=hub:ORG/NAME or llm=path:FOLDER" if group == "llm" else ""
    return f"{group} has no option '{option}'; {hint}"
