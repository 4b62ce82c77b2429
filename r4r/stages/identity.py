"""What of the configuration goes into artifact keys: all that changes an output, nothing that does not."""

from pathlib import Path
from typing import Any

from r4r.configuration.schema import Config, DatasetConfig
from r4r.configuration.teachers import RemoteConfig, SimulatorConfig
from r4r.data.download import as_published
from r4r.files import content
from r4r.lm.fetch import identity
from r4r.prompts.render import template
from r4r.teacher.base import remote_identity
from r4r.teacher.simulator import simulator_identity

NOT_DATA = {"name", "tau", "history", "pools", "evaluate", "memory_limit", "reviews_url", "meta_url"} | {
    "category",
    "world",
}


def dataset_identity(dataset: DatasetConfig, data_dir: Path) -> dict[str, Any]:
    """The settings that change the split of raw files, and what tells these from others.

    A raw file counts by its checksum where the configuration has one; by name where it is the published one, still to
    be downloaded or unchanged since; by its content where it was put there by hand. So planning a download gives the
    keys of the job that makes it, and a cut or edited file never passes for the one it replaced.
    """
    chosen = dataset.model_dump(mode="json", exclude=NOT_DATA)
    for key, name, url, sha256 in (
        ("reviews", dataset.reviews, dataset.reviews_url, dataset.reviews_sha256),
        ("meta", dataset.meta, dataset.meta_url, dataset.meta_sha256),
    ):
        path = data_dir.expanduser() / str(name)
        if name and sha256:
            chosen[key] = _suffix(path)
        elif name and path.is_file() and not as_published(path, url):
            chosen[key] = content(path) + _suffix(path)
    return chosen


def _suffix(path: Path) -> str:
    """What of a name says how to read the file: .csv or .tsv, say. Whether it is zipped is seen in its content."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


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


def tokenizer_identity(config: Config) -> dict[str, Any]:
    """The base model's tokenizer, which counts where a review is cut."""
    llm = config.llm
    return identity(llm.source, llm.sha256, llm.revision)


def teacher_identity(config: Config, *prompts: str) -> dict[str, Any]:
    """What of the teacher changes its answers, without loading it.

    A remote teacher's answers do not follow the seed, and are shared between seeds.

    Args:
        prompts: templates that it is asked to answer: the simulated teacher has an answer, of a version of its own, for
            each. Where none is named, all of its answers count.
    """
    teacher = config.teacher
    if isinstance(teacher, RemoteConfig):
        return remote_identity(teacher)
    if isinstance(teacher, SimulatorConfig):
        return simulator_identity(teacher.skill, config.seed, *prompts)
    return {
        "kind": teacher.kind,
        "model": teacher.model,
        "seed": config.seed,
        **identity(teacher.source, teacher.sha256, teacher.revision),
        "quantization": teacher.quantization,
        "dtype": teacher.dtype,
        "max_length": teacher.max_length,
    }
