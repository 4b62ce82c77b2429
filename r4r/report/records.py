"""The jobs' records on disk, and which of them stand for which row of a table."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from pydantic import ValidationError

from r4r.configuration.schema import Config, StrategyConfig
from r4r.errors import DataError
from r4r.files import conf_dir
from r4r.report.schema import check

RESULT = "result.json"
SKIPPED = {"artifacts", "wandb", ".git"}  # folders that hold no records


@dataclass(frozen=True)
class Run:
    """One job's record.

    Attributes:
        path: its `result.json`.
        record: what is in it.
    """

    path: Path
    record: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.record["config"]

    @property
    def ok(self) -> bool:
        return self.record["status"] == "ok"

    @property
    def dataset(self) -> str:
        return str(self.record["dataset"])

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def method(self) -> str:
        return str(self.record["method"])

    @property
    def experiment(self) -> str | None:
        return self.record.get("experiment")

    @property
    def started(self) -> str:
        return str(self.record["started"])

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The configuration with the schema's defaults; of another version of the schema, as it stands."""
        try:
            return Config.model_validate(self.config).model_dump(mode="json")
        except ValidationError:
            return self.config

    @property
    def choices(self) -> Mapping[str, Any]:
        """Each config group's option, or list of options."""
        return self.record.get("choices") or {}

    @property
    def artifacts(self) -> Mapping[str, str]:
        return self.record.get("artifacts") or {}

    @property
    def own_code(self) -> Mapping[str, str]:
        """File -> digest of the code and prompts outside of r4r's release behind its result; empty in records without
        it."""
        return self.record.get("source") or {}

    def code_behind(self, label: str) -> Mapping[str, str]:
        """The same of a label of its scores, which may be that of a method scored beside."""
        if label == self.record["metrics"][0]["label"]:
            return self.own_code
        origin = (self.record.get("predicted") or {}).get(label) or {}
        beside = self.record.get("reference_source") or {}
        return dict(beside.get(f"{origin.get('stage')}/{origin.get('key')}") or {})

    @property
    def source(self) -> str:
        return str((self.config.get("reason_source") or {}).get("name"))

    @property
    def control(self) -> str:
        return str((self.config.get("control") or {}).get("name", "none"))

    @cached_property
    def strategy(self) -> str | None:
        """The option of `conf/strategy` with this record's settings; None where there is none."""
        try:
            settings = StrategyConfig.model_validate(self.config.get("strategy") or {})
        except ValidationError:
            return None
        return next((name for name, option in strategies().items() if option == settings), None)

    @property
    def rows_scored(self) -> tuple[Any, ...]:
        """What two records must share for their errors to be comparable: the split, and which of its rows."""
        evaluate = (self.config.get("dataset") or {}).get("evaluate") or {}
        return self.artifacts.get("split"), self.record.get("evaluated"), json.dumps(evaluate, sort_keys=True)

    def said(self) -> str:
        """Why there is no result, in a sentence's end."""
        if self.record["status"] == "failed":
            error = self.record.get("error") or {}
            return f"failed with {error.get('kind')}: {' '.join(str(error.get('message')).split())}"
        return "was interrupted, or is still running"


@cache
def strategies() -> dict[str, StrategyConfig]:
    """Every option of `conf/strategy`, without the experts that it mounts."""
    folder = conf_dir() / "strategy"

    def settings(name: str) -> dict[str, Any]:
        values = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml")))
        found: dict[str, Any] = {}
        for base in values.pop("defaults", ()):
            if isinstance(base, str) and (folder / f"{base}.yaml").exists():
                found |= settings(base)
        return found | values

    names = sorted(path.stem for path in folder.glob("*.yaml"))
    return {name: StrategyConfig.model_validate(settings(name)) for name in names}


def gather(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every record below the folders (a folder may also be a record itself), the oldest first.

    Returns:
        The runs; and where files or folders cannot be read, how many and a sentence for each.
    Raises:
        DataError: a folder is not there.
    """
    runs: dict[Path, Run] = {}
    faults: list[str] = []
    for folder in folders:
        if not folder.exists():
            raise DataError(f"{folder}: there is no such folder; name folders that hold {RESULT} files")
        for path in _found(folder, faults):
            try:
                runs[path.resolve()] = Run(path, _read(path))
            except (OSError, ValueError) as error:
                faults.append(f"{path} is left out: {error}")
    if faults:
        faults.insert(0, f"{len(faults)} of {len(faults) + len(runs)} records cannot be read and are left out")
    return sorted(runs.values(), key=lambda run: (run.started, str(run.path))), faults


def _found(folder: Path, faults: list[str]) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return

    def closed(error: OSError) -> None:
        faults.append(f"{error.filename} is left out: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=closed):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        if RESULT in files:
            yield Path(root) / RESULT


def _read(path: Path) -> dict[str, Any]:
    """The record.

    Raises:
        ValueError: the file holds none.
    """
    if not path.is_file():
        raise ValueError("it is no file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is no text") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    return check(value)
