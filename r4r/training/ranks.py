"""Several processes that train one adapter: rank 0 does the job, and calls the others to each training.

Processes are started by torchrun or srun. Every one of them composes the same job; only rank 0 asks teachers, writes
and rates, and when it comes to a training it tells the others which.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from r4r.errors import TrainingError
from r4r.ranks import Rank

PATIENCE = timedelta(days=30)  # what comes before a training, a teacher's answers say, may take as long as it likes
_parted: list[bool] = []


def environment(here: Rank) -> Any:
    """Lightning's view of what started this process (a ClusterEnvironment)."""
    from pytorch_lightning.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if here.launcher == "torchrun":
        return TorchElasticEnvironment()
    if here.launcher == "srun":
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()  # also on a cluster, where Lightning would write files and requeue for itself


def join(here: Rank) -> None:
    """Meet the other processes, once a process; each takes the GPU of its number.

    Lightning's strategies use the group that they find.

    Raises:
        TrainingError: they have met, and parted after a failure.
    """
    if here.size == 1 or distributed.is_initialized():
        return
    if _parted:
        raise TrainingError("the processes of this job have parted after a failed training; start it again")
    if torch.cuda.is_available():
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    if here.machines == 1 and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name may lead nowhere
    _end_with_parent()
    place = environment(here)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"tcp://{place.main_address}:{place.main_port}" if here.launcher == "srun" else "env://",
        rank=here.rank,
        world_size=here.size,
        timeout=PATIENCE,
    )


def _end_with_parent() -> None:
    """End this process once the one that started it is gone: the others would wait for nobody."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(143)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def part() -> None:
    """Leave the others after a failure: what they wait for ends with an error."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        _parted.append(True)


def call(what: str | None) -> None:
    """Rank 0 tells the others what to train; None: nothing any more."""
    if distributed.is_initialized():
        distributed.broadcast_object_list([what], src=0)


def called() -> str | None:
    """What rank 0 calls this process to; None: nothing any more.

    Raises:
        TrainingError: rank 0 has ended.
    """
    message: list[Any] = [None]
    with telling_of_others():
        distributed.broadcast_object_list(message, src=0)
    return message[0]


def added_up(numbers: Sequence[float]) -> list[float]:
    """Sums over all processes, which all call this alike."""
    return [sum(values) for values in zip(*every(list(numbers)), strict=True)]


def every(own: Any) -> list[Any]:
    """What each process has, by rank, which all call this alike."""
    if not distributed.is_initialized():
        return [own]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, own)
    return found


@contextmanager
def telling_of_others() -> Iterator[None]:
    """Tell a connection that broke as what it is: another process has ended.

    Raises:
        TrainingError: in place of an error of gloo or NCCL.
    """
    try:
        yield
    except (distributed.DistBackendError, RuntimeError) as error:
        words = str(error).lower()
        if not distributed.is_initialized() or not any(w in words for w in ("gloo", "nccl", "connection", "peer")):
            raise
        raise TrainingError(
            "another process of this training has ended; started again, the job goes on from its last checkpoint"
        ) from error
