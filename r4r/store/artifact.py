"""Artifacts on disk: a folder a key, complete when its manifest is there."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

from r4r.rows import Schema, conform

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A finished stage's output."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))

    def table(self, schema: Schema, name: str = "data.parquet") -> pd.DataFrame:
        """A parquet file of this artifact, checked against its schema."""
        return conform(pd.read_parquet(self.path / name), schema, str(self.path / name))

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))


class Store:
    """Artifacts below one folder: `<root>/<stage>/<key>/`."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, if it is complete."""
        path = self.path(stage, key)
        return Artifact(path) if (path / MANIFEST).exists() else None

    @contextmanager
    def locked(self, stage: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the key: two jobs that need the same artifact build it once. A killed holder's lock is free again."""
        path = self.path(stage, key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        if not _try(lock):
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def workspace(self, stage: str, key: str) -> Path:
        """The folder that a build writes into. What a killed build left there is still there, to be resumed."""
        path = self.workspace_path(stage, key)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def workspace_path(self, stage: str, key: str) -> Path:
        """Where `workspace` is, whether or not it is there."""
        return self.path(stage, key).with_suffix(".partial")

    def complete(self, stage: str, key: str, config: dict[str, Any], manifest: dict[str, Any]) -> Artifact:
        """Turn the workspace into the artifact: config, manifest last, then one rename."""
        work, path = self.workspace(stage, key), self.path(stage, key)
        (work / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
        write_json(work / MANIFEST, manifest)
        if path.exists():  # a folder without manifest: not of our making, and never complete
            shutil.rmtree(path)
        os.replace(work, path)
        return Artifact(path)


def _try(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return False
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a kill leaves the old file or the new one, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_table(path: Path, table: pd.DataFrame, schema: Schema) -> None:
    """Write a parquet file whose columns are the schema's, in its order."""
    conform(table, schema, str(path)).to_parquet(path, index=False)
