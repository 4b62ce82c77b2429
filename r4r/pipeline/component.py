"""An object that the configuration names by `_target_`, as a field of stages: its settings are its identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from r4r.errors import ConfigError


@dataclass(frozen=True)
class Component:
    """A node of the configuration and the object that it describes.

    Attributes:
        node: the settings with their `_target_`, checked beforehand.
    """

    node: Mapping[str, Any]

    @cached_property
    def object(self) -> Any:
        """The object itself.

        Raises:
            ConfigError: its settings do not go together, as it alone can tell.
        """
        from hydra.errors import InstantiationException
        from hydra.utils import instantiate

        try:
            return instantiate(self.node)
        except InstantiationException as error:
            if isinstance(error.__cause__, ConfigError):
                raise error.__cause__ from None
            if isinstance(error.__cause__, ValueError):
                raise ConfigError([f"{self.node['_target_']}: {error.__cause__}"]) from error
            raise

    def identity(self) -> dict[str, Any]:
        return dict(self.node)
