"""Data-parallel training on one machine: every process holds the base model and takes its share of each step's rows.

Gradients are summed with gloo, through host memory: an adapter's are few beside what a step computes, and a process
that dies is an error for the others at once, where NCCL would wait.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import distributed, nn

from r4r.errors import R4RError, TrainingError

HOST = "127.0.0.1"
PATIENCE_S = 10.0  # for what the other processes have to say, once something is wrong
Members = list[tuple[BaseProcess, Connection]]


def share(lengths: Sequence[int], rank: int, size: int) -> list[int]:
    """The indices that fall to one process: all are dealt out, the longest first, to and fro."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [index for turn, index in enumerate(order) if turn % (2 * size) in (rank, 2 * size - 1 - rank)]


def sum_gradients(weights: Sequence[nn.Parameter], loss: float) -> float:
    """Sum each weight's gradient over all processes, none counting as zero, and the loss, which is given back."""
    parts = [(torch.zeros_like(w) if w.grad is None else w.grad).detach().float().flatten().cpu() for w in weights]
    flat = torch.cat([*parts, torch.tensor([loss])])
    distributed.all_reduce(flat)
    *summed, total = flat.split([*(w.numel() for w in weights), 1])
    for weight, gradient in zip(weights, summed, strict=True):
        weight.grad = gradient.view_as(weight).to(weight.device, weight.dtype)
    return float(total)


@contextmanager
def together(size: int, on_gpu: bool, member: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """A block that this process, of rank 0, runs in step with `size - 1` others.

    Args:
        on_gpu: each process has a GPU of its own; else they share this process's CPU threads.
        member: what the others run, as `member(rank, join, *arguments)`; it calls `join` when all is ready for the
            first step. Sent pickled, like its arguments.

    Raises:
        TrainingError: there are too few GPUs, or another process failed. None outlives the block.
    """
    if size == 1:
        yield
        return
    devices = _devices() if on_gpu else [None] * size
    if len(devices) < size:
        raise TrainingError(f"trainer.processes={size}, but PyTorch sees {len(devices)} GPUs; each process needs one")
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // size))
    members: Members = []
    try:
        store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        for rank in range(1, size):
            members.append(_start(rank, size, store.port, devices[rank], member, arguments))
        for number, (_, channel) in enumerate(members, 2):
            told = channel.recv()  # EOFError where it died without a word
            if told is not None:
                raise _failure(number, size, told)
        _join(0, size, store)
        yield  # whoever has summed the last step's gradients needs the others no more
    except R4RError:
        raise
    except Exception as error:
        failures = _failures(members)
        if failures:  # the cause, rather than what it did to its peers
            raise min(failures, key=lambda failure: "gloo" in str(failure)) from error
        raise
    finally:
        for process, _ in members:
            process.kill()
            process.join()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(threads)


def _devices() -> Sequence[str | None]:
    """The GPUs of this process, by the names that CUDA_VISIBLE_DEVICES knows them by."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _start(
    rank: int, size: int, port: int, device: str | None, member: Callable[..., None], arguments: tuple[Any, ...]
) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(rank, size, port, there, member, arguments), daemon=True)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device  # inherited: it must stand before CUDA is first asked
        process.start()
    finally:
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
        else:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    there.close()
    return process, here


def _run(
    rank: int, size: int, port: int, channel: Connection, member: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """The life of every process but the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends the others
    threading.Thread(target=_end_with_the_first, daemon=True).start()

    def join() -> None:
        channel.send(None)
        _join(rank, size, distributed.TCPStore(HOST, port, is_master=False))

    try:
        member(rank, join, *arguments)
    except BaseException as error:
        if not isinstance(error, R4RError):
            traceback.print_exc()
        channel.send(f"{type(error).__name__}: {error}")
        sys.stderr.flush()
        os._exit(1)  # at once, so that the others' wait for this process ends


def _end_with_the_first() -> None:
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)


def _join(rank: int, size: int, store: distributed.TCPStore) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's name may lead nowhere
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)


def _failures(members: Members) -> list[TrainingError]:
    """What became of the other processes that failed, once they have had time to say it."""
    found = []
    until = time.monotonic() + PATIENCE_S
    for number, (process, channel) in enumerate(members, 2):
        process.join(max(0.0, until - time.monotonic()))
        if process.exitcode:
            told = f"ended with exit code {process.exitcode}"
            with suppress(EOFError):
                told = channel.recv() or told
            found.append(_failure(number, len(members) + 1, told))
    return found


def _failure(number: int, size: int, told: str) -> TrainingError:
    again = "started again, the job goes on from its last checkpoint"
    return TrainingError(f"training process {number} of {size} failed: {told}; {again}")
