"""Several processes for one job: started here on one machine, or checked where torchrun or srun started them."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from r4r.configuration.schema import TrainerConfig
from r4r.errors import ConfigError
from r4r.ranks import Rank


def processes_to_start(trainer: TrainerConfig, here: Rank) -> int:
    """How many processes this one has to start in its place: 1 where it can do the job itself.

    Raises:
        ConfigError: the devices that are asked for are not there, or are not those that were started for.
    """
    if here.size > 1:
        _check_started(trainer, here)
        return 1
    if trainer.num_nodes > 1:
        raise ConfigError(
            [f"trainer.num_nodes={trainer.num_nodes}: start the job on every machine by torchrun or srun"]
        )
    if not trainer.several:
        return 1
    import torch

    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    there = torch.cuda.device_count() if on_gpu else None
    if trainer.devices in ("auto", -1):
        return there or 1  # as Lightning counts them: a CPU is one device
    if isinstance(trainer.devices, list):
        if there is None or max(trainer.devices) >= there:
            raise ConfigError([f"trainer.devices={trainer.devices}: PyTorch sees {there or 'no'} GPUs here"])
        return len(trainer.devices)
    count = int(trainer.devices)
    if there is not None and count > there:
        raise ConfigError([f"trainer.devices={count}: PyTorch sees {there} GPUs here, and each process needs one"])
    return count


def _check_started(trainer: TrainerConfig, here: Rank) -> None:
    started = f"{here.launcher} started {here.size} processes, {here.local_size} a machine"
    if not trainer.several:
        raise ConfigError([f"trainer.devices=1: {started}; take trainer=ddp"])
    if isinstance(trainer.devices, list):
        raise ConfigError([f"trainer.devices={trainer.devices}: {started}; name GPUs in CUDA_VISIBLE_DEVICES"])
    if trainer.devices not in ("auto", -1, 1, here.local_size):
        raise ConfigError([f"trainer.devices={trainer.devices}: {started}; take trainer.devices=auto"])
    if trainer.num_nodes not in (1, here.machines):
        raise ConfigError([f"trainer.num_nodes={trainer.num_nodes}: {started}; leave it out"])


def start_processes(count: int, trainer: TrainerConfig, arguments: Sequence[str]) -> int:
    """Run the command `r4r` in several processes, by torchrun's own launcher, until all have ended or one has failed.

    Args:
        arguments: of the command line.

    Returns:
        The exit code of the whole: that of the first process, or 1 where another one failed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # which prints tracebacks of its own
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    if isinstance(trainer.devices, list):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else None
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[n] if names else str(n) for n in trainer.devices)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "r4r.run", *arguments)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        for rank, code in codes.items():
            if code < 0 and -code != signal.SIGTERM:  # the others are ended by SIGTERM
                print(
                    f"r4r: process {rank + 1} of {count} was killed by {signal.Signals(-code).name}; "
                    "started again, the job goes on from its last checkpoint",
                    file=sys.stderr,
                )
        return max(1, codes.get(0, 1))
    except SignalException as stop:
        return 128 + stop.sigval
    return 0
