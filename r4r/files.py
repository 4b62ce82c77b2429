"""Files and folders: what tells one file from another at any size, and where the configuration lies."""

import hashlib
import os
from functools import cache
from pathlib import Path

END = 2**20
FOLDERS = ("R4R_DATA", "R4R_OUTPUTS", "R4R_CACHE")  # environment variables


def fingerprint(path: Path) -> str:
    """Size and a digest of the first and last MiB: for published files and models, which take many GB and
    are not edited."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(END)
        stream.seek(max(0, size - END))
        tail = stream.read()
    return f"{size}-{hashlib.sha256(head + tail).hexdigest()[:16]}"


def content(path: Path) -> str:
    """Size and a digest of all of a file: for data, of which somebody may edit any part. Read once a process."""
    found = path.stat()
    return f"{found.st_size}-{_digest(path.resolve(), found.st_size, found.st_mtime_ns)}"


@cache
def _digest(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:16]


def conf_dir() -> Path:
    """The configuration folder: inside an installed package, or at the top of a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def settle_folders() -> None:
    """Take an empty R4R_OUTPUTS, R4R_DATA or R4R_CACHE for one that is not set: as a folder it would be the root. In
    others, ~ is the home folder, as in a shell."""
    for name in FOLDERS:
        given = os.environ.get(name)
        if given is None:
            continue
        if given.strip():
            os.environ[name] = os.path.expanduser(given)
        else:
            del os.environ[name]


def outputs_folder() -> Path:
    """Where runs, sweeps and artifacts lie, for commands that compose no configuration."""
    settle_folders()
    return Path(os.environ.get("R4R_OUTPUTS", "multirun_outputs"))


def a_path(text: str) -> Path:
    """A path of a command line; of `--out=~/x`, a shell leaves it to the command to look for the home folder."""
    return Path(os.path.expanduser(text))  # which leaves ~ of an unknown user as it is, like a shell
