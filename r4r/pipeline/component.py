"""An object that the configuration names by `_target_`, as a field of stages: its settings are its identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Component:
    """A node of the configuration and the object that it describes.

    Attributes:
        node: the settings with their `_target_`, checked beforehand.
    """

    node: Mapping[str, Any]

    @cached_property
    def object(self) -> Any:
        """The object itself."""
        from hydra.utils import instantiate

        return instantiate(self.node)

    def identity(self) -> dict[str, Any]:
        return dict(self.node)
