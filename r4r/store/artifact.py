"""Artifacts on disk: a folder a key, complete when its manifest is there, and told from a damaged one by digests."""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from r4r.errors import ConfigError
from r4r.rows import Schema, conform

MANIFEST = "manifest.json"
STAGE = re.compile(r"(?!\.)[\w.+-]+(?:/(?!\.)[\w.+-]+)*")  # names of stages: folders below the store's root
LARGE = 8 * 2**20  # bytes; of larger files each look checks the size, and the first use in a process the content
UMASK = os.umask(0)
os.umask(UMASK)


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
    """Artifacts below one folder: `<root>/<stage>/<key>/`.

    Beside an artifact may lie `<key>.partial` (a build that goes on, or was killed), `<key>.lock` (held by a job that
    builds it) and `<key>.damaged-<n>` (what was found damaged and set aside).
    """

    def __init__(self, root: Path):
        self.root = root

    def path(self, stage: str, key: str) -> Path:
        """Where an artifact lies.

        Raises:
            ConfigError: the stage's name would be no folder of its own below the root.
        """
        if not STAGE.fullmatch(stage):
            raise ConfigError(
                [f"{stage!r} cannot name a stage: it takes letters, digits and _ . + -; give the method another name"]
            )
        return self.root / stage / key

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, if it is there and whole as far as a cheap look tells: all sizes, digests of small files."""
        return (
            None if self.damage(stage, key) or not self.path(stage, key).is_dir() else Artifact(self.path(stage, key))
        )

    def damage(self, stage: str, key: str, whole: bool = False) -> str | None:
        """What is wrong with what lies in an artifact's place, in words; None where it is whole or nothing is there.

        Args:
            whole: whether the content of large files is looked at too, once a process.
        """
        path = self.path(stage, key)
        return _damage(path, stage, key, whole) if path.is_dir() else None

    def set_aside(self, stage: str, key: str) -> Path:
        """Rename what lies in an artifact's place; nothing is deleted. Called by whoever holds the key's lock.

        Returns:
            Where it lies now.
        """
        path = self.path(stage, key)
        number = 1
        while (aside := path.with_name(f"{key}.damaged-{number}")).exists():
            number += 1
        os.replace(path, aside)
        return aside

    @contextmanager
    def locked(self, stage: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the key: two jobs that need the same artifact build it once. A killed holder's lock is free again."""
        path = self.path(stage, key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path, waiting)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever waited for it finds that it is another file now
            os.close(file)

    def workspace(self, stage: str, key: str) -> Path:
        """The folder that a build writes into. What a killed build left there is still there, to be resumed."""
        path = self.workspace_path(stage, key)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def workspace_path(self, stage: str, key: str) -> Path:
        """Where `workspace` is, whether or not it is there."""
        return self.path(stage, key).with_suffix(".partial")

    def complete(self, stage: str, key: str, config: dict[str, Any], manifest: dict[str, Any]) -> Artifact:
        """Turn the workspace into the artifact: config, then the manifest with all files' digests, then one rename.

        All of it is on disk before the rename, so that a power cut leaves an artifact or none.
        """
        work, path = self.workspace(stage, key), self.path(stage, key)
        (work / MANIFEST).unlink(missing_ok=True)  # of a build that was killed right here
        (work / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
        files = sorted(file for file in work.rglob("*") if file.is_file())
        contents = {file.relative_to(work).as_posix(): seal(file) for file in files}
        manifest = {**manifest, "stage": stage, "key": key, "contents": contents}
        write_json(work / MANIFEST, {**manifest, "sha256": _digest_of(manifest)})
        for folder in [*(inner for inner in work.rglob("*") if inner.is_dir()), work]:
            folder.chmod(0o777 & ~UMASK)
            _sync(folder)
        if path.exists():  # not of our making
            self.set_aside(stage, key)
        os.replace(work, path)
        _sync(path.parent)
        return Artifact(path)


def seal(file: Path) -> dict[str, Any]:
    """A file's entry in the manifest (bytes, sha256), once it is on disk and has the mode that the umask gives."""
    file.chmod(0o666 & ~UMASK)  # temporary files are made for their owner alone
    _sync(file)
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def _damage(path: Path, stage: str, key: str, whole: bool) -> str | None:
    """What is wrong with an artifact's folder; None where it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError):
        return f"its {MANIFEST} cannot be read"
    if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _digest_of(manifest):
        return f"its {MANIFEST} is not as it was written"
    if not _is_of_this_form(manifest):
        return f"its {MANIFEST} is none of a store"
    if (manifest["stage"], manifest["key"]) != (stage, key):
        return f"it is that of {manifest['stage']} {manifest['key']}"
    contents = manifest["contents"]
    there = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if not file.is_dir()}
    for name in sorted(there.keys() - contents.keys() - {MANIFEST}):
        if not Path(name).name.startswith("."):  # those are file managers' and network disks' own
            return f"{name} is not of it"
    for name, told in contents.items():
        file = there.get(name)
        if file is None:
            return f"{name} is missing"
        try:
            found = file.stat()
            if found.st_size != told["bytes"]:
                return f"{name} has {found.st_size} bytes in place of {told['bytes']}"
            if found.st_size <= LARGE:
                same = _sha256(file) == told["sha256"]
            else:
                same = not whole or _sha256_once(file, found.st_size, found.st_mtime_ns, found.st_ino) == told["sha256"]
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if not same:
            return f"the content of {name} is not what was written"
    return None


def _is_of_this_form(manifest: dict[str, Any]) -> bool:
    """Whether what reads a manifest finds there what it looks for, whoever has written it."""
    contents, inputs = manifest.get("contents"), manifest.get("inputs", {})
    return (
        isinstance(contents, dict)
        and all(isinstance(told, dict) and {"bytes", "sha256"} <= told.keys() for told in contents.values())
        and isinstance(inputs, dict)
        and all(isinstance(key, str) for key in inputs.values())
        and {"stage", "key"} <= manifest.keys()
    )


def _digest_of(manifest: dict[str, Any]) -> str:
    """The digest of a manifest as JSON gives it back: whole numbers as keys become text, which is sorted otherwise."""
    read = json.loads(json.dumps(manifest, default=str))
    text = json.dumps(read, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _sha256_once(file: Path, size: int, modified: int, inode: int) -> str:
    """The digest of a large file, taken anew when size, time or inode are others."""
    return _sha256(file)


def _lock(path: Path, waiting: Callable[[], None]) -> int:
    """A descriptor that holds the lock file's lock. Its last holder may have removed the file: then it is made anew."""
    told = False
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    told = True
                    waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's list of names, on disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_json(path: Path, value: Any, room: int = 0) -> None:
    """Write JSON so that a kill or a power cut leaves the old file or the new one, never half of one.

    Args:
        room: blanks after it, in bytes.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(
        json.dumps(value, indent=2, ensure_ascii=False, default=str) + " " * room + "\n", encoding="utf-8"
    )
    _sync(temporary)
    os.replace(temporary, path)


def write_table(path: Path, table: pd.DataFrame, schema: Schema) -> None:
    """Write a parquet file whose columns are the schema's, in its order."""
    conform(table, schema, str(path)).to_parquet(path, index=False)
