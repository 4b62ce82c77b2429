"""What the commands share: any terminal can be spoken to, and a disk's refusal is a sentence."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

from r4r.errors import StoreError

REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "there is no permission",
    errno.EPERM: "there is no permission",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a file is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk fails",
}


def speak_any_terminal() -> None:
    """Have what a terminal's encoding cannot show replaced by a question mark, in place of a traceback; where a daemon
    has closed its streams, what is said goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process runs
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")


def drawn(text: str) -> str:
    """A text as matplotlib shows it: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def refusal(error: BaseException, making: bool = False) -> str | None:
    """A sentence where the disk refuses a file or folder; None where the error is another.

    Args:
        making: whether a folder was being made, so that a missing one is a refusal too.
    """
    if not isinstance(error, OSError) or (error.errno not in REFUSALS and not making):
        return None
    place = error.filename2 or error.filename
    why = REFUSALS.get(error.errno or 0) or error.strerror or str(error)
    told = f"cannot be {'made' if making else 'read or written'}: {why}"
    return f"{place or 'a file'}: {told}. Results go to paths.outputs (or R4R_OUTPUTS)"


def make_folder(path: Path) -> None:
    """Make a folder, and those above it.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(str(refusal(error, making=True))) from error
