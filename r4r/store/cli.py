"""The command `r4r-store`: what lies in the store, whether it is whole, what nobody uses, and how to hand it on."""

import argparse
import fcntl
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r4r.errors import R4RError, StoreError
from r4r.files import a_path, outputs_folder
from r4r.store.archive import export, take_in
from r4r.store.artifact import Store
from r4r.store.inventory import Entry, before, entries, human, named, sound, users
from r4r.terminal import refusal, speak_any_terminal


def show(store: Store, outputs: Path) -> None:
    """Print every artifact: its size and the runs that use it."""
    used, total = users(outputs, store.root)[0], 0
    for entry in entries(store.root):
        if entry.state == "lock":
            continue
        size = entry.size()
        total += size
        runs = used.get((entry.stage, entry.key), [])
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        note = entry.state if entry.state != "whole" else f"{count}: {', '.join(runs[:3])}" if runs else "no run"
        print(f"{human(size):>9}  {entry.name:45} {note}{', ...' if len(runs) > 3 else ''}")
    print(f"{human(total)} in {store.root}")


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
    """Name, and with `delete` remove, what no run's record uses, nor what one uses was made from, and no job has built
    or taken up for so many days.

    Raises:
        StoreError: something is to be removed, and a record cannot be read: it may use any of it.
    """
    (used, unread), total = users(outputs, store.root), 0
    if unread and delete:
        raise StoreError(
            f"{unread[0]} cannot be read, so what its run uses is not known; nothing was removed. Mend or remove the "
            f"{'record' if len(unread) == 1 else f'{len(unread)} records'} first"
        )
    found = list(entries(store.root))
    whole = {entry.key: entry for entry in found if entry.state == "whole"}
    kept = {key for entry in whole.values() if (entry.stage, entry.key) in used for key in before(whole, entry)}
    for entry in found:
        why = {"damaged": "set aside", "partial": "unfinished", "lock": "left by a kill"}.get(
            entry.state, "no run uses it"
        )
        if entry.state == "whole" and entry.key in kept:
            continue
        if not entry.path.exists() or entry.age() < days or _held(store, entry):
            continue
        size = entry.size()
        total += size
        print(f"{'removed' if delete else 'would remove'} {human(size):>9}  {entry.name} ({why})")
        if delete and entry.path.is_dir():
            gone = entry.path.with_name(f".{entry.path.name}.gone")  # first out of sight: nobody reads half of it
            os.replace(entry.path, gone)
            shutil.rmtree(gone)
        elif delete:
            entry.path.unlink(missing_ok=True)
    print(f"{human(total)} {'removed' if delete else 'would be removed; --delete does it'}")


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


def predictions(store: Store, outputs: Path, name: str, file: Path) -> None:
    """Write the predictions of an artifact, or of all methods that a run scored, as CSV.

    Raises:
        StoreError: the name means neither, or what it means is not in the store.
    """
    whole = {entry.key: entry for entry in entries(store.root) if entry.state == "whole"}
    folder = next((path for path in (Path(name), outputs / name) if (path / "result.json").is_file()), None)
    if folder is None:
        chosen = [named(whole, name)]
    else:
        found = {key: stage for (stage, key), runs in users(folder)[0].items() if runs}
        chosen = [whole[key] for key, stage in found.items() if stage.startswith("predict/") and key in whole]
        if not chosen:
            raise StoreError(f"{folder}: no predictions of this run are in {store.root}")
    splits = {key for entry in chosen for key in before(whole, entry) if whole[key].stage == "split"}
    if len(splits) != 1:
        raise StoreError(f"{name}: the split that its rows are of is not in {store.root}")
    from r4r.store.handing import write_predictions

    count = write_predictions([sound(store, e) for e in chosen], sound(store, whole[splits.pop()]), file)
    print(f"{file}: {count} predictions")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of days, 0 or more")
    return days


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exit codes: 0 done, 1 something is damaged or could not be done, 2 wrong arguments."""
    speak_any_terminal()
    parser = argparse.ArgumentParser(prog="r4r-store", description="The artifacts of finished stages.")
    parser.add_argument(
        "--outputs", type=a_path, default=outputs_folder(), help="default: R4R_OUTPUTS, here %(default)s"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every artifact, its size and the runs that use it")
    commands.add_parser("verify", help="read every byte of every artifact")
    gc = commands.add_parser("gc", help="name what no run uses; --delete removes it")
    gc.add_argument("--days", type=_days, default=7.0, help="leave what changed within so many days (%(default)s)")
    gc.add_argument("--delete", action="store_true")
    out = commands.add_parser("export", help="artifacts, and what they were made from, as one tar file")
    out.add_argument("file", type=a_path)
    out.add_argument("artifacts", nargs="+", metavar="STAGE/KEY")
    commands.add_parser("import", help="add an exported file's artifacts").add_argument("file", type=a_path)
    adapter = commands.add_parser("adapter", help="a trained expert as a peft folder that loads without r4r")
    adapter.add_argument("artifact", metavar="train/NAME/KEY")
    adapter.add_argument("folder", type=a_path, help="to be made")
    adapter.add_argument("--base", metavar="NAME", help="hub name or folder of the base model (default: as trained)")
    told = commands.add_parser("predictions", help="predictions as a CSV file")
    told.add_argument("name", metavar="RUN", help="a run's folder, or predict/NAME/KEY")
    told.add_argument("file", type=a_path, help="to be made")
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
        made = hand_adapter(sound(store, named(whole, args.artifact)), args.folder, args.base)
        print(f"{made}: an adapter for peft; its README.md says how to load it")
    elif args.command == "predictions":
        predictions(store, args.outputs, args.name, args.file)
    else:
        take_in(store, args.file)
    return 0


if __name__ == "__main__":
    main()
