"""A finished run as a job that can only be read: its artifacts as its record names them; nothing is trained or paid."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import OmegaConf

from r4r.configuration.checks import validate
from r4r.configuration.construct import construct
from r4r.configuration.kinds import strangers, without_strangers
from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError, StoreError
from r4r.report.records import RESULT, Run, gather
from r4r.rows import Schema
from r4r.stages.histories import Histories
from r4r.stages.lessons import Thought
from r4r.stages.ratings import AveragedRatings, Ratings
from r4r.stages.stage import Job
from r4r.stages.written import Written
from r4r.store.artifact import Artifact, Store


class Kept(Artifact):
    """An artifact whose tables are read once a process. Nobody may write into them."""

    def table(self, schema: Schema, name: str = "data.parquet") -> pd.DataFrame:
        return _table(self.path, tuple(schema.items()), name)


@lru_cache(maxsize=16)
def _table(path: Path, schema: tuple[tuple[str, str], ...], name: str) -> pd.DataFrame:
    return Artifact(path).table(dict(schema), name)


@dataclass
class FinishedJob(Job):
    """The job of a record. A stage's artifact is the one that the record names, whatever has happened to raw files
    since; that it was made by the same settings, prompts and code is checked.

    Attributes:
        artifacts: key of each stage's artifact, by the stage's name.
        command: the command line that made them.
    """

    artifacts: Mapping[str, str] = field(default_factory=dict)
    command: str = "r4r"

    def materialize(self, stage: Any) -> Artifact:
        """The stage's artifact, as the run left it.

        Raises:
            StoreError: it is not there, is damaged, or was made by another r4r than this one.
        """
        name = (stage.name, stage.key)
        if name not in self._ready:
            self._ready[name] = self._find(stage)
        return self._ready[name]

    @property
    def teacher(self) -> Any:
        raise StoreError("a pipeline that was loaded asks no teacher")

    def _find(self, stage: Any) -> Artifact:
        key = self.artifacts.get(stage.name, stage.key)
        place = f"{stage.name} {key}"
        again = f"make it again: {self.command} target={stage.name}"
        damage = self.store.damage(stage.name, key, whole=True)
        if damage:
            raise StoreError(f"{place} in {self.store.root} is damaged ({damage}); {again}")
        found = self.store.find(stage.name, key)
        if found is None:
            raise StoreError(f"{place} is not in {self.store.root}; {again}")
        changed = [] if stage.key == key else list(_differences(stage, found))
        if changed:
            raise StoreError(
                f"{place} was made by another r4r than this one, or with other files (what differs: "
                f"{', '.join(changed)}); go back to those, or {again}"
            )
        return Kept(found.path)


def _differences(stage: Any, found: Artifact) -> Iterator[str]:
    """What of a stage is not what an artifact was made by; which artifacts it was made from is left to the record."""
    manifest = found.manifest
    if manifest.get("version") != stage.version:
        yield "version"
    code, other = stage.unreleased, manifest.get("source") or {}
    yield from sorted(file for file in code.keys() | other.keys() if code.get(file) != other.get(file))
    if stage.inputs:  # the first stage of all is told by its raw files, which need not be here any more
        then = _without_keys(yaml.safe_load((found.path / "config.yaml").read_text(encoding="utf-8")))
        now = _without_keys(stage.config)
        yield from sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))


def _without_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"stage", "key"}:
            return value["stage"]
        return {key: _without_keys(inner) for key, inner in value.items()}
    return [_without_keys(inner) for inner in value] if isinstance(value, list | tuple) else value


def open_run(place: str | Path) -> Run:
    """The record of a run.

    Args:
        place: its folder, or its result.json.
    Raises:
        DataError: there is none, several are there, or it cannot be read.
    """
    if not str(place).strip():  # such as a variable of the shell that is not set
        raise DataError("no run is named; give its folder, or its result.json")
    path = Path(place).expanduser()
    if not path.exists():
        raise DataError(f"{path}: there is no such folder or file")
    runs, faults = gather([path])
    if len(runs) == 1 and not faults:
        return runs[0]
    if runs:
        shown = ", ".join(str(run.path.parent) for run in runs[:3])
        raise DataError(f"{path}: holds {len(runs)} runs, name one of them: {shown}{', ...' if len(runs) > 3 else ''}")
    raise DataError(faults[-1] if faults else f"{path}: holds no {RESULT}, which a run leaves in its folder")


def finished_job(run: Run, artifacts: str | Path | None, plugins: Sequence[str]) -> FinishedJob:
    """The job of a record, to be read.

    Args:
        artifacts: the store, where it lies elsewhere than the record says.
        plugins: modules of one's own whose classes the record may name.
    Raises:
        DataError: the run is not finished.
        ConfigError: its configuration is none of this r4r's, or names plugins that are not among `plugins`.
    """
    if not run.ok:
        raise DataError(f"{run.path}: the run {run.said()}; there is nothing to load")
    recorded = _trusted(run, plugins)
    without_strangers(recorded, strangers(recorded, plugins))  # a record spells out the settings of every kind
    config = validate(OmegaConf.create(recorded))
    store = Store(Path(artifacts).expanduser() if artifacts else _store_of(run, config))
    command = shlex.join(["r4r", *(text for text in run.record.get("overrides") or () if "target=" not in text)])
    return FinishedJob(config, store, artifacts=dict(run.artifacts), command=command)


def _trusted(run: Run, plugins: Sequence[str]) -> dict[str, Any]:
    """The record's configuration; classes of modules beside r4r's run only where the caller names these."""
    config = deepcopy(dict(run.config))
    named = config.get("plugins") or []
    strange = [str(name) for name in (named if isinstance(named, list) else [named]) if name not in plugins]
    if strange:
        raise ConfigError(
            [f"{run.path} names code outside r4r: {', '.join(strange)}; where you trust it, list it in plugins"]
        )
    return config


def _store_of(run: Run, config: Config) -> Path:
    """Where the record says, or the outputs folder that the record lies in now."""
    around = [parent / "artifacts" for parent in run.path.resolve().parents]
    roots = [config.paths.artifacts, *(root for root in around if root.is_dir())]
    stage, key = next(iter(run.artifacts.items()), ("", ""))
    return next((root for root in roots if (root / stage / key).is_dir()), roots[0])


def ratings_of(job: FinishedJob) -> Ratings:
    """The stage of the run's predictions.

    Raises:
        ConfigError: its method is no deliberation, or what was read in place of the reason cannot be made for others.
    """
    final, name = construct(job.config.method, "method", job.config.plugins).stages(job), job.config.method.get("name")
    if isinstance(final, AveragedRatings):
        raise ConfigError(
            [
                f"method.reasons={len(final.parts)}: its ratings are means over several reasons, so there is no one to "
                "edit; the same job with method.reasons=1 trains nothing anew, and can be loaded"
            ]
        )
    if type(final) is not Ratings:
        raise ConfigError(
            [f"method={name}: only runs whose steps are a strategy's (reason4rec, onestep) can be loaded"]
        )
    plain = all(type(thought) is Thought and isinstance(thought.texts, Written) for thought in final.thoughts)
    if not plain or type(final.shown) is not Histories:
        control = job.config.control["name"]
        raise ConfigError(
            [
                f"control={control}: what its ratings read in place of the pipeline's own texts is made for the run's "
                "rows alone; a run with control=none can be loaded"
            ]
        )
    return final
