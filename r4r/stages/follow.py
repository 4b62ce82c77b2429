"""What every process but the first does in a job of several: it takes part in the trainings."""

from collections.abc import Iterable

from r4r.pipeline.stage import Stage
from r4r.stages.stage import Job, Work
from r4r.training.ranks import called


def follow(job: Job, finals: Iterable[Stage]) -> None:
    """Train what the first process calls to, until it calls no more.

    Args:
        finals: the job's last stages, among whose upstream each training is found by its folder.

    Raises:
        TrainingError: a training failed, or the first process has ended.
    """
    stages = {str(job.store.workspace_path(s.name, s.key)): s for final in finals for s in final.upstream()}
    while (folder := called()) is not None:
        stage = stages[folder]
        inputs = {name: job.store.find(before.name, before.key) for name, before in stage.inputs.items()}
        found = {name: artifact for name, artifact in inputs.items() if artifact is not None}  # built before the call
        stage.build(Work(job, found, job.store.workspace_path(stage.name, stage.key)))
