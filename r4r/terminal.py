"""What the commands share: any terminal can be spoken to, and a disk's refusal is a sentence."""

import errno
import sys
from typing import Any

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
    """Have what a terminal's encoding cannot show replaced by a question mark, in place of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")


def refusal(error: BaseException) -> str | None:
    """A sentence where the disk refuses a file or folder; None where the error is another."""
    if not isinstance(error, OSError) or error.errno not in REFUSALS:
        return None
    place = error.filename2 or error.filename
    where = f"{place}: " if place else ""
    return f"{where}cannot be read or written: {REFUSALS[error.errno]}. Results go to paths.outputs (or R4R_OUTPUTS)"
