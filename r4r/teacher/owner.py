"""Which process has claimed a call, and whether it may still live."""

import os
import platform
import uuid
from functools import lru_cache


def owner() -> str:
    """This process; a forked child is another one."""
    return _name_of(os.getpid())


@lru_cache(maxsize=1)
def _name_of(pid: int) -> str:
    return f"{platform.node()}:{pid}:{uuid.uuid4().hex}"


def may_live(other: str) -> bool:
    """False where an owner is surely gone: a process of this machine that ended. Of other machines nothing is known."""
    machine, pid, _ = other.rsplit(":", 2)
    if machine != platform.node():
        return True
    if int(pid) == os.getpid():
        return other == owner()  # else an earlier process of the same number
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
