"""The settings of `conf/trainer`: any argument of a `pytorch_lightning.Trainer` by its own name, and a few of ours.

The names and types of the arguments are read from Lightning's source: importing Lightning imports torch, which takes
seconds that a misspelt setting should not cost.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    field_validator,
    model_serializer,
)

from r4r.configuration.section import Section

# arguments that another setting of a job stands for
TAKEN = {
    "max_epochs": "experts.<name>.epochs says how long an expert trains",
    "min_epochs": "experts.<name>.epochs says how long an expert trains",
    "max_time": "an adapter must not depend on how fast a machine is; experts.<name>.epochs says how long it trains",
    "gradient_clip_val": "it is experts.<name>.max_grad_norm",
    "gradient_clip_algorithm": "gradients are clipped by their norm, to experts.<name>.max_grad_norm",
    "accumulate_grad_batches": "it follows from experts.<name>.batch_size and trainer.micro_batch_tokens",
    "limit_train_batches": "dataset.pools says how much is trained on",
    "overfit_batches": "dataset.pools says how much is trained on",
    "fast_dev_run": "experiment=smoke runs a small job",
    "barebones": "it would switch off logging and checkpoints",
    "logger": "the group logger says where training curves go",
    "enable_checkpointing": "trainer.checkpoint_every_s says how often a training is kept",
    "default_root_dir": "what a training leaves lies in its artifact's folder",
    "use_distributed_sampler": "the rows of a step are shared out so that each is learnt once",
    "reload_dataloaders_every_n_epochs": "the batches of an epoch follow from the seed",
    "num_sanity_val_steps": "a pass in evaluation before training breaks the gradients of 4-bit layers on some CPUs",
}
# arguments that change what an adapter learns, by more than rounding
LEARNT_BY = frozenset({"precision", "callbacks", "max_steps", "min_steps"})
# and those that say what a callback sees of the validation loss, by which it may stop a training
SEEN_BY_CALLBACKS = frozenset({"valid_rows", "check_val_every_n_epoch", "val_check_interval", "limit_val_batches"})
LEAST = {  # numbers that Lightning would refuse, or misread, only once a training starts
    "val_check_interval": 0,
    "limit_val_batches": 0,
    "limit_test_batches": 0,
    "limit_predict_batches": 0,
    "log_every_n_steps": 0,
    "check_val_every_n_epoch": 1,
    "min_steps": 1,
}
STARTS_PROCESSES = ("ddp_spawn", "ddp_fork", "ddp_notebook")
PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed")
Node = dict[str, Any]


class _Settings(Section):
    # of this project
    micro_batch_tokens: int | None = Field(None, ge=64)  # padded tokens a training pass; null: what memory allows
    checkpoint_every_s: float = Field(60.0, ge=0, allow_inf_nan=False)  # a killed training continues from here
    threads: int | None = Field(None, ge=1)  # CPU threads; null: all cores
    valid_rows: int = Field(32, ge=0)  # texts whose loss is measured after each epoch, at most; 0: none

    # of Lightning's Trainer
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | list[int] | str = 1  # of this machine; auto or -1: all of them
    num_nodes: int = Field(1, ge=1)  # machines; several need torchrun or srun
    strategy: str | Node = "auto"  # how several devices train: ddp, or the node of a strategy
    precision: str | int | None = None  # of an expert's passes; null: the base model's type, llm.dtype
    callbacks: list[Node] | dict[str, Node] = Field([])

    @field_validator(*TAKEN, check_fields=False)
    @classmethod
    def _refuse(cls, value: Any, info: Any) -> Any:
        if value is not None:
            raise ValueError(f"is not a setting here: {TAKEN[info.field_name]}")
        return value

    @field_validator(*LEAST, check_fields=False)
    @classmethod
    def _check_least(cls, value: Any, info: Any) -> Any:
        least = LEAST[info.field_name]
        if isinstance(value, bool) or (isinstance(value, int | float) and not least <= value < float("inf")):
            raise ValueError(f"should be a number of at least {least}")
        return value

    @field_validator("max_steps", check_fields=False)
    @classmethod
    def _check_steps(cls, value: int | None) -> int | None:
        if value is not None and value != -1 and value < 1:
            raise ValueError("should be at least 1, or -1 for all")
        return value

    @field_validator("strategy")
    @classmethod
    def _check_strategy(cls, value: str | Node) -> str | Node:
        name = value if isinstance(value, str) else str(value.get("_target_", ""))
        if name.startswith(STARTS_PROCESSES):
            raise ValueError("must leave it to torchrun, srun or r4r to start processes; take ddp")
        if name == "auto" or name.startswith("ddp") or name.endswith("DDPStrategy"):
            return value
        raise ValueError("must be auto, ddp or one of its variants, or {_target_: ...DDPStrategy, ...}")

    @field_validator("precision")
    @classmethod
    def _check_precision(cls, value: str | int | None) -> str | None:
        if value is None or str(value) in PRECISIONS:
            return None if value is None else str(value)
        told = "adapters are trained in float32, and llm.dtype says what the base model computes in"
        raise ValueError(f"must be one of {', '.join(PRECISIONS)}: {told}")

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, value: int | list[int] | str) -> int | list[int] | str:
        if isinstance(value, str) and value != "auto":
            try:
                value = [int(part) for part in value.split(",")] if "," in value else int(value)
            except ValueError:
                raise ValueError("must be a number of devices, a list of their numbers, or auto") from None
        if value in (0, []) or (isinstance(value, int) and value < -1):
            raise ValueError("must be at least one device, or auto for all")
        return value

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {k: v for k, v in write(self).items() if v is not None or k in _Settings.model_fields}

    @property
    def several(self) -> bool:
        """Whether more than one device is asked for, or as many as there are."""
        return (
            self.num_nodes > 1
            or self.devices in ("auto", -1)
            or (len(self.devices) > 1 if isinstance(self.devices, list) else self.devices != 1)
        )

    def arguments(self) -> dict[str, Any]:
        """The further arguments of Lightning's Trainer that were set, by name: those that are no field above."""
        return {name: getattr(self, name) for name in _given(self) - set(_Settings.model_fields)}

    def identity(self) -> dict[str, Any]:
        """What of the settings is part of a trained adapter's key: all that changes what it learns."""
        counted = LEARNT_BY | SEEN_BY_CALLBACKS if self.callbacks else LEARNT_BY
        found = {name: getattr(self, name) for name in sorted(_given(self) & counted)}
        return {name: value for name, value in found.items() if value not in ([], {}, "32-true", "32", -1)}


def _given(settings: BaseModel) -> set[str]:
    return {name for name in settings.model_fields_set if getattr(settings, name) is not None}


@cache
def trainer_arguments() -> dict[str, Any]:
    """Type of each argument of `pytorch_lightning.Trainer`, by name; Any for what is a class of Lightning's own."""
    spec = find_spec("pytorch_lightning")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "trainer" / "trainer.py").read_text(encoding="utf-8")
    trainer = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Trainer")
    init = next(n for n in trainer.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    plain = {k.__name__: k for k in (bool, int, float, str, list, dict)}
    names = defaultdict(lambda: Any, plain | {"Optional": Optional, "Union": Union, "Iterable": Iterable})

    def kind(annotation: ast.expr | None) -> Any:
        try:
            return eval(ast.unparse(annotation), {"__builtins__": {}}, names) if annotation else Any
        except TypeError:  # a generic class of Lightning's own
            return Any

    return {argument.arg: kind(argument.annotation) for argument in init.args.kwonlyargs}


if TYPE_CHECKING:
    TrainerConfig = _Settings
else:
    others = {n: (kind | None, None) for n, kind in trainer_arguments().items() if n not in _Settings.model_fields}
    TrainerConfig = create_model("TrainerConfig", __base__=_Settings, __module__=__name__, **others)
