"""An expert as the configuration mounts it, and what of it enters the keys of the stages that ask it or train it."""

import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from r4r.configuration.schema import Config
from r4r.errors import ConfigError
from r4r.files import conf_dir
from r4r.pipeline.component import Component


@dataclass(frozen=True)
class Asked(Component):
    """An expert by the questions it asks: its class, its prompt texts and what of its settings shapes them.

    Attributes:
        place: its name below `experts`, and its adapter's.
    """

    place: str

    @property
    def expert(self) -> Any:
        """The object itself: an r4r.training.expert.Expert."""
        return self.object

    @property
    def max_new_tokens(self) -> int:
        """The limit of a text that it writes; a setting of its own for the keys of what it wrote."""
        return int(self.node["max_new_tokens"])

    def identity(self) -> dict[str, Any]:
        return self._said() | {k: v for k, v in super().identity().items() if k not in training_settings()}

    def _said(self) -> dict[str, Any]:
        return {"prompts": self.expert.prompt_texts()}


class Mounted(Asked):
    """The same expert by all that shapes its adapter. How long it may write does not."""

    def identity(self) -> dict[str, Any]:
        return self._said() | {
            k: v for k, v in Component.identity(self).items() if k not in ("max_new_tokens", "prompts")
        }


def asked(config: Config, place: str) -> Asked:
    """The expert at `experts.<place>` for its prompts; where the strategy mounts none, the one of that name in
    conf/expert, whose prompts the teacher answers."""
    return Asked(config.experts.get(place) or _shipped(place), place)


def mounted(config: Config, place: str) -> Mounted:
    """The expert that the strategy or the method mounted at `experts.<place>`.

    Raises:
        ConfigError: none is mounted there.
    """
    if place not in config.experts:
        raise ConfigError([f"experts.{place}: is to be trained, and is not mounted; +expert@experts.{place}=... does"])
    return Mounted(config.experts[place], place)


def _shipped(place: str) -> dict[str, Any]:
    files = {file.stem: file for file in (Path(conf_dir()) / "expert").glob("*.yaml")}
    if place not in files:
        raise ConfigError(
            [f"experts.{place}: is not mounted, and r4r has no expert of that name; it has {', '.join(sorted(files))}"]
        )
    node = yaml.safe_load(files[place].read_text(encoding="utf-8"))
    del node["defaults"]
    return node


@cache
def training_settings() -> frozenset[str]:
    """The settings that all experts have: they shape an adapter, or the length of a text, and no prompt."""
    from r4r.training.expert import Expert, Writer

    known = {*inspect.signature(Expert.__init__).parameters, *inspect.signature(Writer.__init__).parameters}
    return frozenset(known - {"self"})
