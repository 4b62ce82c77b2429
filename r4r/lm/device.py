"""Where the base model computes, and in which number type."""

import ctypes
import platform
import re
import sys
from pathlib import Path

import torch

from r4r.errors import ModelError

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # without one of them a CPU emulates bf16, a hundred times slower


def pick_device(accelerator: str) -> torch.device:
    """The device that a trainer setting means.

    Raises:
        ModelError: `gpu` on a machine without one.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ModelError("trainer.accelerator=gpu, but PyTorch sees no GPU here; take trainer=cpu or trainer=auto")
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())  # where several processes train, each has its own


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bf16 where the hardware computes in it; else float16 on a GPU (T4, V100) and float32 on a CPU."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return torch.bfloat16 if flags & BF16_FLAGS else torch.float32


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's where the system tells it, else its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    known = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return known.group(1) if known else f"{platform.machine()} CPU"


def keep_freed_memory() -> None:
    """Let the C library reuse freed blocks of any size instead of giving them back to the system.

    Activations are a few MB each; returning and re-faulting their pages costs a good part of the training time on CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc; musl has none
            libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: 32 MiB is the most that glibc takes
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
