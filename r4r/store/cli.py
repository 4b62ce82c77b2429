"""The command `r4r-store`: what lies in the store, whether it is whole, what nobody uses, and how to hand it on."""

import argparse
import fcntl
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r4r.errors import R4RError, StoreError
from r4r.store.artifact import MANIFEST, Artifact, Store
from r4r.terminal import refusal, speak_any_terminal

DAY = 86400.0


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
        """Days since anything in it changed."""
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


def users(outputs: Path) -> tuple[dict[tuple[str, str], list[str]], list[Path]]:
    """(stage, key) -> folders of the runs whose records name the artifact; and the files that are no records."""
    found: dict[tuple[str, str], list[str]] = {}
    unread: list[Path] = []
    for file in sorted(outputs.rglob("result.json")):
        try:
            artifacts = json.loads(file.read_bytes()).get("artifacts") or {}
            named = [(str(stage), str(key)) for stage, key in artifacts.items()]
        except (OSError, ValueError, AttributeError):
            print(f"{file}: is no record that can be read; what its run uses is not known", file=sys.stderr)
            unread.append(file)
            continue
        for artifact in named:
            found.setdefault(artifact, []).append(str(file.parent.relative_to(outputs)))
    return found, unread


def show(store: Store, outputs: Path) -> None:
    """Print every artifact: its size and the runs that use it."""
    used, total = users(outputs)[0], 0
    for entry in entries(store.root):
        if entry.state == "lock":
            continue
        size = entry.size()
        total += size
        runs = used.get((entry.stage, entry.key), [])
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        note = entry.state if entry.state != "whole" else f"{count}: {', '.join(runs[:3])}" if runs else "no run"
        print(f"{_human(size):>9}  {entry.name:45} {note}{', ...' if len(runs) > 3 else ''}")
    print(f"{_human(total)} in {store.root}")


def verify(store: Store) -> int:
    """Read every byte of every artifact; print what is damaged.

    Returns:
        How many are.
    """
    checked = bad = 0
    for entry in entries(store.root):
        if entry.state == "whole":
            checked += 1
            damage = store.damage(entry.stage, entry.key, whole=True)
            if damage:
                bad += 1
                print(f"damaged  {entry.name}: {damage}")
    print(f"{checked} artifacts read, {bad} damaged" + ("; the next job that needs one sets it aside" if bad else ""))
    return bad


def collect(store: Store, outputs: Path, days: float, delete: bool) -> None:
    """Name, and with `delete` remove, what no run's record uses and nothing has changed for so many days.

    Raises:
        StoreError: something is to be removed, and a record cannot be read: it may use any of it.
    """
    (used, unread), total = users(outputs), 0
    if unread and delete:
        raise StoreError(
            f"{unread[0]} cannot be read, so what its run uses is not known; nothing was removed. Mend or remove the "
            f"{'record' if len(unread) == 1 else f'{len(unread)} records'} first"
        )
    for entry in list(entries(store.root)):
        why = {"damaged": "set aside", "partial": "unfinished", "lock": "left by a kill"}.get(
            entry.state, "no run uses it"
        )
        if entry.state == "whole" and (entry.stage, entry.key) in used:
            continue
        if not entry.path.exists() or entry.age() < days or _held(store, entry):
            continue
        size = entry.size()
        total += size
        print(f"{'removed' if delete else 'would remove'} {_human(size):>9}  {entry.name} ({why})")
        if delete and entry.path.is_dir():
            gone = entry.path.with_name(f".{entry.path.name}.gone")  # first out of sight: nobody reads half of it
            os.replace(entry.path, gone)
            shutil.rmtree(gone)
        elif delete:
            entry.path.unlink(missing_ok=True)
    print(f"{_human(total)} {'removed' if delete else 'would be removed; --delete does it'}")


def _held(store: Store, entry: Entry) -> bool:
    """Whether a job is building the key now."""
    lock = store.path(entry.stage, entry.key).with_suffix(".lock")
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def export(store: Store, names: Sequence[str], file: Path) -> None:
    """Write artifacts and all that they were made from into one tar file, each with its manifest's digests.

    Raises:
        StoreError: an artifact is not there, or damaged.
    """
    whole = {entry.key: entry for entry in entries(store.root) if entry.state == "whole"}
    waiting = [_named(whole, name) for name in names]
    chosen: dict[str, Entry] = {}
    while waiting:
        entry = waiting.pop()
        _sound(store, entry)
        chosen[entry.key] = entry
        for name, key in _inputs(entry.path).items():
            if key not in whole:
                raise StoreError(f"{entry.name} was made from {name} {key}, which is not in {store.root}")
            waiting += [whole[key]] if key not in chosen else []
    try:
        with tarfile.open(file, "x:") as tar:
            try:
                for key in sorted(chosen):
                    tar.add(chosen[key].path, arcname=chosen[key].name)
            except BaseException:  # such as a full disk: half an export is none
                file.unlink()
                raise
    except FileExistsError:
        raise StoreError(f"{file}: is there already; name a file to be made") from None
    print(f"{file}: {len(chosen)} artifacts, {_human(file.stat().st_size)}")


def _inputs(artifact: Path) -> dict[str, str]:
    """Key of each artifact that one was made from, by its stage; none where its manifest cannot be read."""
    try:
        return dict(json.loads((artifact / MANIFEST).read_bytes()).get("inputs", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _named(whole: dict[str, Entry], name: str) -> Entry:
    found = [entry for entry in whole.values() if name in (entry.key, entry.name, str(entry.path))]
    if len(found) != 1:
        raise StoreError(f"{name}: there is no such artifact; r4r-store list shows STAGE/KEY of each")
    return found[0]


def predictions(store: Store, outputs: Path, name: str, file: Path) -> None:
    """Write the predictions of an artifact, or of all methods that a run scored, as CSV.

    Raises:
        StoreError: the name means neither, or what it means is not in the store.
    """
    whole = {entry.key: entry for entry in entries(store.root) if entry.state == "whole"}
    folder = next((path for path in (Path(name), outputs / name) if (path / "result.json").is_file()), None)
    if folder is None:
        chosen = [_named(whole, name)]
    else:
        found = {key: stage for (stage, key), runs in users(folder)[0].items() if runs}
        chosen = [whole[key] for key, stage in found.items() if stage.startswith("predict/") and key in whole]
        if not chosen:
            raise StoreError(f"{folder}: no predictions of this run are in {store.root}")
    splits = {key for entry in chosen for key in _before(whole, entry) if whole[key].stage == "split"}
    if len(splits) != 1:
        raise StoreError(f"{name}: the split that its rows are of is not in {store.root}")
    from r4r.store.handing import write_predictions

    count = write_predictions([_sound(store, e) for e in chosen], _sound(store, whole[splits.pop()]), file)
    print(f"{file}: {count} predictions")


def _before(whole: dict[str, Entry], entry: Entry) -> set[str]:
    """Keys of an artifact and of all that it was made from, as far as they are in the store."""
    seen, waiting = set(), [entry.key]
    while waiting:
        key = waiting.pop()
        if key in whole and key not in seen:
            seen.add(key)
            waiting += _inputs(whole[key].path).values()
    return seen


def _sound(store: Store, entry: Entry) -> Artifact:
    """
    Raises:
        StoreError: the artifact is damaged.
    """
    damage = store.damage(entry.stage, entry.key, whole=True)
    if damage:
        raise StoreError(f"{entry.name} is damaged ({damage}); run the job that uses it again first")
    return Artifact(entry.path)


def take_in(store: Store, file: Path) -> None:
    """Add the artifacts of an exported file that are not here yet, each read and checked first.

    Raises:
        StoreError: the file is no export, or an artifact in it is damaged, or was made from one that is neither in it
            nor here; then nothing is added.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.root, prefix=".import-") as folder:
        there = Store(Path(folder))
        try:
            with tarfile.open(file, "r:") as tar:
                tar.extractall(folder, members=_plain(tar), filter="data")
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:  # of the headers' numbers, too
            raise StoreError(f"{file}: is no export of a store ({error})") from error
        found = [entry for entry in entries(there.root) if entry.state == "whole"]
        if not found:
            raise StoreError(f"{file}: is no export of a store (it holds no artifact)")
        keys, folders = {entry.key for entry in found}, {entry.path for entry in found}
        for path in there.root.rglob("*"):
            if path.is_file() and not path.name.startswith(".") and folders.isdisjoint(path.parents):
                name = path.relative_to(there.root)
                raise StoreError(f"{file}: {name} is of no artifact; nothing was taken in")
        for entry in found:
            damage = there.damage(entry.stage, entry.key, whole=True)
            if damage:
                raise StoreError(f"{file}: {entry.name} is damaged ({damage}); nothing was taken in")
            for stage, key in _inputs(entry.path).items():
                if key not in keys and not store.find(stage, key):
                    raise StoreError(
                        f"{file}: {entry.name} was made from {stage} {key}, which is neither in the file nor in "
                        f"{store.root}; nothing was taken in"
                    )
        added = 0
        for entry in found:
            with store.locked(entry.stage, entry.key):
                if store.find(entry.stage, entry.key) is None:
                    if store.path(entry.stage, entry.key).exists():
                        store.set_aside(entry.stage, entry.key)
                    os.utime(entry.path)  # it is new here: gc leaves it for a week
                    os.replace(entry.path, store.path(entry.stage, entry.key))
                    added += 1
    print(f"{len(found)} artifacts in {file}: {added} added, {len(found) - added} were here")


def _plain(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an export.

    Raises:
        TarError: one is no plain file or folder: a link may lead anywhere, and a sparse file be of any size.
    """
    for member in tar:
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise tarfile.TarError(f"{member.name!r} is neither a plain file nor a folder")
        yield member


def _human(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exit codes: 0 done, 1 something is damaged or could not be done, 2 wrong arguments."""
    speak_any_terminal()
    outputs = Path(os.environ.get("R4R_OUTPUTS", "").strip() or "multirun_outputs")
    parser = argparse.ArgumentParser(prog="r4r-store", description="The artifacts of finished stages.")
    parser.add_argument("--outputs", type=Path, default=outputs, help="default: R4R_OUTPUTS, here %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every artifact, its size and the runs that use it")
    commands.add_parser("verify", help="read every byte of every artifact")
    gc = commands.add_parser("gc", help="name what no run uses; --delete removes it")
    gc.add_argument("--days", type=float, default=7.0, help="leave what changed within so many days (%(default)s)")
    gc.add_argument("--delete", action="store_true")
    out = commands.add_parser("export", help="artifacts, and what they were made from, as one tar file")
    out.add_argument("file", type=Path)
    out.add_argument("artifacts", nargs="+", metavar="STAGE/KEY")
    commands.add_parser("import", help="add an exported file's artifacts").add_argument("file", type=Path)
    adapter = commands.add_parser("adapter", help="a trained expert as a peft folder that loads without r4r")
    adapter.add_argument("artifact", metavar="train/NAME/KEY")
    adapter.add_argument("folder", type=Path, help="to be made")
    adapter.add_argument("--base", metavar="NAME", help="hub name or folder of the base model (default: as trained)")
    told = commands.add_parser("predictions", help="predictions as a CSV file")
    told.add_argument("name", metavar="RUN", help="a run's folder, or predict/NAME/KEY")
    told.add_argument("file", type=Path, help="to be made")
    args = parser.parse_args(argv)
    store = Store(args.outputs / "artifacts")
    try:
        sys.exit(_run(args, store))
    except R4RError as error:
        print(f"r4r-store: {error}", file=sys.stderr)
    except OSError as error:
        print(f"r4r-store: {refusal(error) or error}", file=sys.stderr)
    sys.exit(1)


def _run(args: Any, store: Store) -> int:
    if args.command != "import" and not store.root.is_dir():
        raise StoreError(f"there is no store at {store.root}; --outputs names another folder")
    if args.command == "list":
        show(store, args.outputs)
    elif args.command == "verify":
        return 1 if verify(store) else 0
    elif args.command == "gc":
        collect(store, args.outputs, args.days, args.delete)
    elif args.command == "export":
        export(store, args.artifacts, args.file)
    elif args.command == "adapter":
        from r4r.store.handing import hand_adapter

        whole = {entry.key: entry for entry in entries(store.root) if entry.state == "whole"}
        made = hand_adapter(_sound(store, _named(whole, args.artifact)), args.folder, args.base)
        print(f"{made}: an adapter for peft; its README.md says how to load it")
    elif args.command == "predictions":
        predictions(store, args.outputs, args.name, args.file)
    else:
        take_in(store, args.file)
    return 0


if __name__ == "__main__":
    main()
