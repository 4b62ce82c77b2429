"""Where and with what a result was made: versions, the code's commit, device, memory."""

import os
import platform
import resource
import subprocess
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from r4r import __version__

VERSIONED = ("torch", "transformers", "peft", "bitsandbytes", "pytorch-lightning", "pandas", "numpy")
CODE = ("r4r", "conf")  # folders of a checkout whose changes change what a job does


def machine() -> dict[str, Any]:
    """For records and manifests: versions, commit, device, peak memory of this process so far in GiB."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        **code(Path(__file__).resolve().parent),
        "versions": versions(),
        "device": torch.cuda.get_device_name()
        if cuda
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if cuda else None,
    }


@cache
def versions() -> dict[str, str]:
    """Of r4r, of the packages that results depend on, and of Python."""
    return {
        "r4r": __version__,
        **{name: version(name) for name in VERSIONED},
        "python": platform.python_version(),
    }


@cache
def code(package: Path) -> dict[str, Any]:
    """The state of the checkout that a package's folder belongs to, read once in the life of a process.

    Args:
        package: folder of the package `r4r`.

    Returns:
        git_commit, and git_dirty: whether the code differs from that commit. Both are None where the package runs from
        no checkout of its own (it is installed, perhaps inside another project's repository), or git cannot tell.
    """
    top = package.parent
    if not _is_ours(top / "pyproject.toml") or _git(top, "rev-parse", "--show-toplevel") != str(top.resolve()):
        return {"git_commit": None, "git_dirty": None}
    changes = _git(top, "status", "--porcelain", "--", *CODE)
    return {"git_commit": _git(top, "rev-parse", "HEAD"), "git_dirty": None if changes is None else bool(changes)}


def _is_ours(path: Path) -> bool:
    """Whether a pyproject.toml is r4r's own, and not that of a project which holds a copy of the package."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"] == "r4r"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, or it refuses."""
    # a git hook's variables would point at another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, env=environment
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
