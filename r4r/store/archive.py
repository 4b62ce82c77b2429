"""Artifacts, with all that they were made from, as one tar file: written, and taken in elsewhere."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from r4r.errors import StoreError
from r4r.store.artifact import Store
from r4r.store.inventory import Entry, entries, human, inputs, named, sound


def export(store: Store, names: Sequence[str], file: Path) -> None:
    """Write artifacts and all that they were made from into one tar file, each with its manifest's digests.

    Raises:
        StoreError: an artifact is not there, or damaged.
    """
    whole = {entry.key: entry for entry in entries(store.root) if entry.state == "whole"}
    waiting = [named(whole, name) for name in names]
    chosen: dict[str, Entry] = {}
    while waiting:
        entry = waiting.pop()
        sound(store, entry)
        chosen[entry.key] = entry
        for name, key in inputs(entry.path).items():
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
    print(f"{file}: {len(chosen)} artifacts, {human(file.stat().st_size)}")


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
                _unpack(tar, there.root)
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
            for stage, key in inputs(entry.path).items():
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


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Write the files of an export below a folder: their contents alone, neither owners nor modes.

    By hand, since `extractall` has its filter against members that lead elsewhere from Python 3.11.4 on.

    Raises:
        TarError: a member is no plain file or folder (a link may lead anywhere, and a sparse file be of any size), or
            lies outside the folder.
    """
    for member in tar:
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise tarfile.TarError(f"{member.name!r} is neither a plain file nor a folder")
        place = folder / member.name.lstrip("/")
        if ".." in place.relative_to(folder).parts:
            raise tarfile.TarError(f"{member.name!r} lies outside of the store")
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None  # of plain files there is one
        with source, place.open("wb") as target:
            shutil.copyfileobj(source, target)
