"""Which of the processes of a job this is, where torchrun or srun started several. Read without torch."""

import os
from dataclasses import dataclass

INTERACTIVE = ("bash", "interactive")  # jobs in which Slurm gave a shell, and started no tasks


@dataclass(frozen=True)
class Rank:
    """This process among those of its job.

    Attributes:
        rank: number of this process, 0 to size - 1; rank 0 does the job, the others train with it.
        size: processes of the job, on all machines.
        local_rank: number of this process on its machine, which is its GPU's.
        local_size: processes of the job on this machine.
        launcher: what started them: torchrun, srun, or an empty string where this process is alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str = ""

    @property
    def machines(self) -> int:
        """Machines of the job, each with as many processes."""
        return self.size // self.local_size


def this_rank() -> Rank:
    """What torchrun or srun says in the environment; a job alone where neither started this process."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        rank, size, local_rank, local_size = (int(env[name]) for name in names)
        launcher = "torchrun"
    elif "SLURM_STEP_ID" in env and env.get("SLURM_JOB_NAME") not in INTERACTIVE:
        rank, local_rank = int(env.get("SLURM_PROCID", 0)), int(env.get("SLURM_LOCALID", 0))
        size = int(env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS") or 1)
        local_size = max(1, size // int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES") or 1))
        launcher = "srun"
    else:
        return Rank()
    return Rank(rank, size, local_rank, local_size, launcher) if size > 1 else Rank()
