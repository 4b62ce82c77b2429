"""What of the configuration goes into artifact keys: all that changes an output, nothing that does not."""

from pathlib import Path
from typing import Any

from r4r.config import Config, DatasetConfig
from r4r.files import fingerprint
from r4r.lm.fetch import identity
from r4r.prompts.render import template

NOT_DATA = {"name", "tau", "history", "pools", "evaluate", "memory_limit", "reviews_url", "meta_url", "category"}


def dataset_identity(dataset: DatasetConfig, data_dir: Path) -> dict[str, Any]:
    """The settings that change the split. A file of the user's own counts by its content, a published one by name."""
    chosen = dataset.model_dump(mode="json", exclude=NOT_DATA)
    if dataset.source == "simulated":
        return {key: chosen[key] for key in ("source", "world", "prepare")} | {"category": dataset.category}
    del chosen["world"]
    for key, url in (("reviews", dataset.reviews_url), ("meta", dataset.meta_url)):
        path = data_dir.expanduser() / str(chosen[key])
        if chosen[key] and url is None and path.is_file():
            chosen[key] = fingerprint(path)
    return chosen


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
