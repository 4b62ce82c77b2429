"""What lies in a store: artifacts, what is left of unfinished ones, and which runs use them."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from r4r.errors import StoreError
from r4r.store.artifact import MANIFEST, Artifact, Store

DAY = 86400.0
RUNS = ".runs"  # folder of a store with a note on each run that has used it


@dataclass(frozen=True)
class Entry:
    """A folder or lock file below the store's root.

    Attributes:
        stage, key: of the artifact that it is, was or would become.
        state: whole (as far as its manifest's presence tells), partial, damaged or lock.
    """

    path: Path
    stage: str
    key: str
    state: str

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.path.name}"

    def size(self) -> int:
        """Bytes."""
        files = [self.path] if self.path.is_file() else [file for file in self.path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files)

    def age(self) -> float:
        """Days since it was built, changed or taken up by a job."""
        newest = max(path.lstat().st_mtime for path in [self.path, *self.path.rglob("*")])
        return (time.time() - newest) / DAY


def entries(root: Path) -> Iterator[Entry]:
    """All that lies in a store, by stage and key."""
    for folder, folders, files in os.walk(root):
        stage = Path(folder).relative_to(root).as_posix()
        for name in sorted([*folders, *files]):
            key, _, rest = name.partition(".")
            if len(key) != 16 or set(key) - set("0123456789abcdef"):
                continue
            kinds = {"": "whole" if name in folders else "damaged", "lock": "lock", "partial": "partial"}
            state = kinds.get(rest, "damaged")
            yield Entry(Path(folder) / name, stage, key, state)
        folders[:] = sorted(name for name in folders if len(name.partition(".")[0]) != 16)


def note_run(root: Path, record: Path) -> None:
    """Keep in a store where a run's record lies, which may be anywhere."""
    place = str(record.absolute())
    note = root / RUNS / hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    with suppress(OSError):  # somebody else's store, say
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(place + "\n", encoding="utf-8", errors="surrogateescape")


def _records(outputs: Path, root: Path | None) -> list[Path]:
    """The records below a folder of outputs, and those of runs elsewhere that are noted in a store."""
    found = sorted(outputs.rglob("result.json"))
    known = {file.resolve() for file in found}
    for note in sorted((root / RUNS).glob("*")) if root else []:
        with suppress(OSError):  # no note that can be read
            file = Path(note.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n"))
            if _may_be_there(file) and file.resolve() not in known:
                known.add(file.resolve())
                found.append(file)
    return found


def _may_be_there(file: Path) -> bool:
    """Whether a file is there, or lies where this user may not look."""
    try:
        return file.is_file()
    except PermissionError:
        return True


def users(outputs: Path, root: Path | None = None) -> tuple[dict[tuple[str, str], list[str]], list[Path]]:
    """(stage, key) -> folders of the runs whose records name the artifact; and the files that are no records.

    Args:
        root: of the store; None: of its own notes on runs nothing is asked.
    """
    found: dict[tuple[str, str], list[str]] = {}
    unread: list[Path] = []
    for file in _records(outputs, root):
        try:
            record = json.loads(file.read_bytes())
            own = [(str(stage), str(key)) for stage, key in (record.get("artifacts") or {}).items()]
            own += [(str(one["stage"]), str(one["key"])) for one in (record.get("predicted") or {}).values()]
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            print(f"{file}: is no record that can be read; what its run uses is not known", file=sys.stderr)
            unread.append(file)
            continue
        for artifact in dict.fromkeys(own):
            inside = file.is_relative_to(outputs)
            found.setdefault(artifact, []).append(str(file.parent.relative_to(outputs) if inside else file.parent))
    return found, unread


def inputs(artifact: Path) -> dict[str, str]:
    """Key of each artifact that one was made from, by its stage; none where its manifest cannot be read."""
    try:
        return dict(json.loads((artifact / MANIFEST).read_bytes()).get("inputs", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def named(whole: dict[str, Entry], name: str) -> Entry:
    """The whole artifact of a key, of a STAGE/KEY, or in a folder.

    Raises:
        StoreError: there is none.
    """
    found = [entry for entry in whole.values() if name in (entry.key, entry.name, str(entry.path))]
    if len(found) != 1:
        raise StoreError(f"{name}: there is no such artifact; r4r-store list shows STAGE/KEY of each")
    return found[0]


def before(whole: dict[str, Entry], entry: Entry) -> set[str]:
    """Keys of an artifact and of all that it was made from, as far as they are in the store."""
    seen, waiting = set(), [entry.key]
    while waiting:
        key = waiting.pop()
        if key in whole and key not in seen:
            seen.add(key)
            waiting += inputs(whole[key].path).values()
    return seen


def sound(store: Store, entry: Entry) -> Artifact:
    """The artifact, every byte of it read and compared with its manifest's digests.

    Raises:
        StoreError: the artifact is damaged.
    """
    damage = store.damage(entry.stage, entry.key, whole=True)
    if damage:
        raise StoreError(f"{entry.name} is damaged ({damage}); run the job that uses it again first")
    return Artifact(entry.path)


def human(size: float) -> str:
    """A number of bytes in the unit that people would take."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
