"""Two GPUs that are the CPU, for tests of what only a GPU's jobs do: `stand_in_gpu.cpp`, and `torch.cuda` over it.

It cannot be taken back: load it in a process of its own (`on_a_stand_in`). It has no kernels of its own, and says
nothing of speed or of rounding; in place of NCCL, gloo carries what several processes have on it.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes  # noqa: F401  # what is imported from here on would ask for more of CUDA than there is
import pytest
import torch
import torch._dynamo
from forked import Forked
from torch import Tensor, distributed
from torch._C._distributed_c10d import _create_work_from_future
from torch.utils.cpp_extension import include_paths

SOURCE = Path(__file__).with_suffix(".cpp")
TOTAL = 24 * 10**9  # bytes of its memory
STATE = {"warn": 1, "error": 2}


def on_a_stand_in(work: Callable[[Any], Any]) -> None:
    """Do some work, which takes what `load` returns, in a process that has the stand-in for a GPU."""
    library = build()
    ended = Forked(lambda: work(load(library))).wait()
    assert ended.returncode == 0, ended.stderr[-4000:]


@functools.cache
def build() -> Path:
    """The stand-in, compiled once for each version of its source and of PyTorch; a test that needs it is skipped where
    it cannot be."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the stand-in for a GPU is built on Linux, by a C++ compiler")
    if torch.backends.cuda.is_built():
        pytest.skip("this PyTorch has GPUs of its own, which a stand-in cannot replace: see pytest -m gpu")
    version = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    folder = Path.home() / ".cache" / "r4r-tests"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to
        folder = Path(tempfile.mkdtemp())
    out = folder / f"stand-in-gpu-{version}.so"
    if not out.exists():
        made = out.with_suffix(f".{os.getpid()}")
        includes = [f"-I{folder}" for folder in include_paths()]
        libraries = str(Path(torch.__file__).parent / "lib")
        links = [f"-L{libraries}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{libraries}"]
        flags = ["-std=c++20", "-O0", "-w", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, *includes, str(SOURCE), "-o", str(made), *links], check=True)
        made.replace(out)
    return out


class Group(distributed.ProcessGroup):
    """Processes that meet by way of the CPU, whatever device their tensors are on."""

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta):
        super().__init__(rank, size)
        self.gloo = distributed.ProcessGroupGloo(store, rank, size, timeout=timeout)

    def broadcast(self, tensors: list[Tensor], opts: Any = None) -> Any:
        return self._through_gloo(self.gloo.broadcast, tensors, opts)

    def allreduce(self, tensors: list[Tensor], opts: Any = None) -> Any:
        own = distributed.AllreduceOptions()
        own.reduceOp = opts.reduceOp if opts else own.reduceOp
        return self._through_gloo(self.gloo.allreduce, tensors, own)

    def allgather(self, found: list[list[Tensor]], tensors: list[Tensor], opts: Any = None) -> Any:
        own = [[tensor.cpu() for tensor in each] for each in found]
        self.gloo.allgather(own, [tensor.cpu() for tensor in tensors]).wait()
        return done(list(chain(*found)), list(chain(*own)))

    def barrier(self, opts: Any = None) -> Any:
        self.gloo.barrier().wait()
        return done([], [])

    def getBackendName(self) -> str:
        return "stand_in"

    @staticmethod
    def _through_gloo(call: Any, tensors: list[Tensor], options: Any) -> Any:
        own = [tensor.detach().cpu() for tensor in tensors]
        call(own, options).wait()
        return done(tensors, own)


def done(tensors: list[Tensor], found: list[Tensor]) -> Any:
    """What gloo found, where it is waited for."""
    with torch.no_grad():
        for tensor, own in zip(tensors, found, strict=True):
            tensor.copy_(own)
    future: Any = torch.futures.Future()
    future.set_result(tensors)
    return _create_work_from_future(future)


class Stream:
    device = torch.device("cuda", 0)

    def wait_stream(self, other: "Stream") -> None:
        pass

    def synchronize(self) -> None:
        pass


def load(library: Path) -> Any:
    """Make `torch.cuda` that of the stand-in, for good.

    Returns:
        Its own functions `used`, `peak` and `limit(bytes)`; how many graphs were `recorded`, and how many `replays`.
    """
    torch.zeros((), requires_grad=True).backward()  # now, as PyTorch starts a thread for each GPU that is there
    torch.autograd.set_multithreading_enabled(False)  # so that gradients need none, and this process can fork
    torch._dynamo.config.disable = True  # it would compile for a GPU
    torch.ops.load_library(library)
    own = ctypes.CDLL(str(library))
    for name in ("used", "peak", "record", "device", "set_device"):
        getattr(own, f"stand_in_{name}").restype = ctypes.c_int64
    for name in ("limit", "refuse_waiting", "seed", "seed_all", "forget", "set_device"):
        getattr(own, f"stand_in_{name}").argtypes = [ctypes.c_int64]
    own.stand_in_begin()
    told = SimpleNamespace(
        used=own.stand_in_used, peak=own.stand_in_peak, limit=own.stand_in_limit, replays=0, recorded=0
    )
    mode, stream = SimpleNamespace(value=0), Stream()

    class CUDAGraph:
        def __init__(self) -> None:
            self.number = -1

        def replay(self) -> None:
            told.replays += 1
            torch.ops.stand_in.replay(self.number)

        def __del__(self) -> None:
            if self.number >= 0:
                own.stand_in_forget(self.number)

    @contextmanager
    def graph(made: CUDAGraph) -> Iterator[None]:
        made.number = own.stand_in_record()
        told.recorded += 1
        try:
            yield
        finally:
            own.stand_in_recorded()

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        yield

    def set_sync_debug_mode(wanted: int | str) -> None:
        mode.value = STATE.get(str(wanted), wanted)
        own.stand_in_refuse_waiting(mode.value == STATE["error"])

    def index_of(device: Any = None) -> int:
        index = device if isinstance(device, int | None) else torch.device(device).index
        return own.stand_in_device() if index is None or index < 0 else index

    def set_rng_state(state: Tensor, device: Any = "cuda") -> None:
        torch.ops.stand_in.set_rng_state(state.cpu(), index_of(device))

    def fixed(value: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: value

    properties = SimpleNamespace(total_memory=TOTAL, name="stand-in", major=9, minor=0, multi_processor_count=1)
    faked: dict[str, Any] = {
        "_lazy_init": fixed(None),
        "_exchange_device": own.stand_in_set_device,
        "_maybe_exchange_device": own.stand_in_set_device,
        "is_available": fixed(True),
        "is_initialized": fixed(True),
        "device_count": fixed(2),
        "current_device": own.stand_in_device,
        "set_device": lambda device: own.stand_in_set_device(index_of(device)) and None,
        "get_device_name": fixed("stand-in"),
        "get_device_properties": fixed(properties),
        "get_device_capability": fixed((9, 0)),
        "is_bf16_supported": fixed(True),
        "synchronize": fixed(None),
        "empty_cache": fixed(None),
        "mem_get_info": lambda device=None: (TOTAL - told.used(), TOTAL),
        "memory_allocated": lambda device=None: told.used(),
        "memory_reserved": lambda device=None: told.used(),
        "max_memory_allocated": lambda device=None: told.peak(),
        "max_memory_reserved": lambda device=None: told.peak(),
        "reset_peak_memory_stats": lambda device=None: own.stand_in_forget_peak(),
        "get_per_process_memory_fraction": fixed(1.0),
        "set_per_process_memory_fraction": fixed(None),
        "manual_seed": own.stand_in_seed,
        "manual_seed_all": own.stand_in_seed_all,
        "get_rng_state": lambda device=None: torch.ops.stand_in.rng_state(index_of(device)),
        "get_rng_state_all": lambda: [torch.ops.stand_in.rng_state(index) for index in range(2)],
        "set_rng_state": set_rng_state,
        "set_rng_state_all": lambda states: [set_rng_state(state, index) for index, state in enumerate(states)],
        "get_sync_debug_mode": lambda: mode.value,
        "set_sync_debug_mode": set_sync_debug_mode,
        "Stream": Stream,
        "stream": on,
        "current_stream": fixed(stream),
        "default_stream": fixed(stream),
        "set_stream": fixed(None),
        "is_current_stream_capturing": fixed(False),
        "CUDAGraph": CUDAGraph,
        "graph": graph,
    }
    meet = distributed.init_process_group
    distributed.Backend.register_backend("stand_in", Group, devices=["cpu", "cuda"])
    distributed.init_process_group = lambda backend, **given: meet("stand_in", **given)
    for name, value in faked.items():
        setattr(torch.cuda, name, value)
    return told
