"""What of the configuration goes into artifact keys: all that changes an output, nothing that does not."""

from typing import Any

from r4r.config import Config, DatasetConfig
from r4r.lm.fetch import identity
from r4r.prompts.render import template

NOT_DATA = {"name", "tau", "history", "pools", "evaluate", "memory_limit", "reviews_url", "meta_url", "category"}


def dataset_identity(dataset: DatasetConfig) -> dict[str, Any]:
    """The settings that change the split."""
    chosen = dataset.model_dump(mode="json", exclude=NOT_DATA)
    if dataset.source == "simulated":
        return {key: chosen[key] for key in ("source", "world", "prepare")} | {"category": dataset.category}
    return {key: value for key, value in chosen.items() if key != "world"}


def llm_identity(config: Config) -> dict[str, Any]:
    """The base model as it is read: weights, quantization, type, chat format."""
    llm = config.llm
    return {
        **identity(llm.source, llm.sha256, llm.revision),
        "quantization": llm.quantization,
        "dtype": llm.dtype,
        "max_length": llm.max_length,
        "system": llm.system,
    }


def prompt_texts(*names: str) -> dict[str, str]:
    """The prompt files that a stage renders: a changed word is another artifact."""
    return {name: template(name) for name in names}
