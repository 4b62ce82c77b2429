"""Base models named on the command line: `llm=hub:ORG/NAME`, `llm=path:FOLDER`, without a file in conf/llm."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

PREFIXES = ("hub:", "path:")


def register_models(overrides: Sequence[str]) -> None:
    """Make an option of the group llm of every model that an override names by its source, sweeps included."""
    parser = OverridesParser.create()
    for text in overrides:
        with suppress(HydraException):  # reported by the check of all overrides
            override = parser.parse_overrides([text])[0]
            if override.key_or_group == "llm":
                choices = override.sweep_string_iterator() if override.is_choice_sweep() else [text.partition("=")[2]]
                for choice in choices:
                    option = parser.parse_overrides([f"llm={choice}"])[0].value()  # without quotes and escapes
                    if isinstance(option, str) and option.startswith(PREFIXES):
                        group, _, name = f"llm/{option}".rpartition("/")
                        ConfigStore.instance().store(group=group, name=name, node=named_model(option))


def named_model(source: str) -> dict[str, Any]:
    """The option that conf/llm would hold: the name from the source, the system message left to the chat template, the
    paper's recipe, since the small one is made for the bundled model."""
    path = PurePosixPath(source.partition(":")[2])
    name = path.stem if path.suffix in (".gguf", ".safetensors") else path.name
    return {
        "defaults": [{"override /recipe@_global_.recipe": "paper"}, "_self_"],
        "name": name or source,
        "source": source,
    }
