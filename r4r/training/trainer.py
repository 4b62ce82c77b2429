"""`conf/trainer` as a `pytorch_lightning.Trainer`."""

import logging
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from r4r.configuration.schema import TrainerConfig
from r4r.errors import TrainingError
from r4r.ranks import Rank
from r4r.training.callbacks import Bar
from r4r.training.module import ExpertModule
from r4r.training.ranks import environment
from r4r.training.scaling import Scaled

FULL = ("32-true", "32")


def make_trainer(
    settings: TrainerConfig,
    module: ExpertModule,
    passes: int,
    here: Rank,
    callbacks: Sequence[pl.Callback],
    logger: Logger | None,
) -> pl.Trainer:
    """Lightning's Trainer as configured, with what an expert's training brings.

    Args:
        passes: of a step, whose gradients are accumulated.
        callbacks: beside those of the configuration.

    Raises:
        TrainingError: Lightning refuses the settings.
    """
    given = settings.arguments()
    own = [build("callbacks", node) for node in _nodes(settings.callbacks)]
    plugins = [build("plugins", node) for node in _nodes(given.pop("plugins", []))]
    if not given.get("enable_progress_bar"):
        own.append(Bar())
    defaults = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "limit_val_batches": 1.0 if module.valid else 0,
    }
    if isinstance(given.get("profiler"), dict):
        given["profiler"] = build("profiler", given["profiler"])
    several, device = here.size > 1, module.lm.device
    strategy = build("strategy", settings.strategy) if isinstance(settings.strategy, dict) else settings.strategy
    # float32 passes over a float16 model are float16's: the model computes in its own type
    scaled = device.type if module.lm.dtype is torch.float16 and settings.precision in (None, *FULL) else None
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    try:
        return pl.Trainer(
            **defaults | given,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=here.local_size if several else [device.index or 0] if device.type == "cuda" else 1,
            num_nodes=here.machines,
            strategy=("ddp" if strategy == "auto" else strategy) if several else "auto",
            precision=None if scaled else settings.precision,  # type: ignore[arg-type]  # Lightning says which it knows
            callbacks=[*callbacks, *own],
            plugins=[environment(here), *([Scaled(scaled)] if scaled else []), *plugins],
            logger=logger or False,
            max_epochs=module.epochs,
            accumulate_grad_batches=passes,
            gradient_clip_val=module.max_grad_norm,
            reload_dataloaders_every_n_epochs=1,  # each epoch has an order of its own
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, OSError) as error:
        raise TrainingError(f"trainer: Lightning refuses these settings: {str(error).splitlines()[0]}") from error


def go_on_from(trainer: pl.Trainer, module: ExpertModule, step: int) -> None:
    """Set the counters of a fresh Trainer to a number of steps done."""
    module.first_step = step
    progress: Any = trainer.fit_loop.epoch_progress.current
    progress.ready = progress.started = progress.processed = progress.completed = step // module.steps_an_epoch
    trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
    trainer.fit_loop.epoch_loop._batches_that_stepped = step  # what loggers take for the step


def build(what: str, node: dict[str, Any]) -> Any:
    """An object of Lightning's from a checked `_target_` node.

    Raises:
        TrainingError: the class refuses its settings.
    """
    try:
        return get_class(node["_target_"])(**_settings(node))
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"trainer.{what}: {node['_target_']}: {str(error).splitlines()[0]}") from error


def _settings(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "_target_"}


def _nodes(nodes: Any) -> list[dict[str, Any]]:
    """The nodes of a list, or of a mapping by names that only overrides need."""
    if isinstance(nodes, dict) and "_target_" not in nodes:
        return [node for node in nodes.values() if node]
    return [nodes] if isinstance(nodes, dict) else list(nodes)
