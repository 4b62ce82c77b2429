"""What all experts share: one LoRA adapter, the prompts that it reads and how it is trained (paper 3, SPEC 2)."""

from typing import Annotated, Any

from pydantic import Field

from r4r.errors import ConfigError
from r4r.lm.base import Lora
from r4r.prompts.render import fields_of, render, template
from r4r.training.objectives.base import Objective
from r4r.training.objectives.sft import SFT
from r4r.training.optimizers import Optimizer


class Expert:
    """An adapter and its settings. Subclasses say what it reads, what it learns to say, and how it decodes.

    `r4r.training.module.ExpertModule` trains it.
    """

    templates: tuple[str, ...] = ()  # prompt files; their texts are part of the artifact key

    def __init__(
        self,
        lora: Lora,
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        epochs: Annotated[int, Field(ge=1)],
        batch_size: Annotated[int, Field(ge=1)],
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        train_lm_head: bool = False,
        max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        optimizer: Optimizer = "adamw",
        objective: dict[str, Any] | None = None,
        prompts: dict[str, str] | None = None,
        validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        """
        Args:
            lora: rank, scale and dropout of the adapter.
            lr: peak learning rate of the linear schedule.
            epochs: passes over all examples.
            batch_size: examples an optimizer step, however many forward passes that takes.
            warmup: optimizer steps, or below 1 a share of all steps.
            train_lm_head: whether the output head is trained and saved too.
            max_grad_norm: norm that a step's gradient is clipped to.
            optimizer: AdamW with moments in float32, or in 8 bits (on a GPU alone), or these in paged memory.
            objective: node of an Objective, or the object that was made of it; None: SFT.
            prompts: files in place of the class's own prompt files, by their names in `templates`.
            validation_share: share of the rows with lessons that are held out: their loss is measured after each epoch,
                and they are not learnt. 0, as in the paper, learns from all.

        Raises:
            ConfigError: the class has no prompt file of such a name.
        """
        self.prompts = dict(prompts or {})
        strange = sorted(set(self.prompts) - set(self.templates))
        if strange:
            known = ", ".join(self.templates)
            raise ConfigError([f"prompts.{strange[0]}: {type(self).__name__} has no such prompt file; it has {known}"])
        for own, file in self.prompts.items():
            if fields_of(file) != fields_of(own):
                told = ", ".join(f"{{{field}}}" for field in sorted(fields_of(own)))
                raise ConfigError([f"prompts.{own}={file}: must hold the fields {told}, each of them and no other"])
        self.lora = lora if isinstance(lora, Lora) else Lora(**lora)
        self.lr, self.epochs, self.batch_size, self.warmup = lr, epochs, batch_size, warmup
        self.train_lm_head, self.max_grad_norm, self.optimizer_name = train_lm_head, max_grad_norm, optimizer
        self.validation_share = validation_share
        self.objective: Objective = SFT() if objective is None else objective  # type: ignore[assignment]

    def prompt_texts(self) -> dict[str, str]:
        """The text of each prompt file, by its name in `templates`."""
        return {name: template(self.prompts.get(name, name)) for name in self.templates}

    def render(self, name: str, **fields: str) -> str:
        """A prompt file of the class, or the one that stands in its place, filled in.

        Raises:
            ConfigError: the class does not list the file, a field of the file is not given, or a given field is not in
                it.
        """
        if name not in self.templates:
            own = type(self).__name__
            raise ConfigError([f"{own} renders {name}, whose text no key holds: list it in {own}.templates"])
        return render(self.prompts.get(name, name), **fields)


class Writer(Expert):
    """An expert that answers in text."""

    def __init__(
        self,
        lora: Lora,
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        epochs: Annotated[int, Field(ge=1)],
        batch_size: Annotated[int, Field(ge=1)],
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        max_new_tokens: Annotated[int, Field(ge=1)],
        train_lm_head: bool = False,
        max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        optimizer: Optimizer = "adamw",
        objective: dict[str, Any] | None = None,
        prompts: dict[str, str] | None = None,
        validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        """
        Args:
            max_new_tokens: tokens of an answer, at most; the others are those of Expert.
        """
        settings = (lora, lr, epochs, batch_size, warmup, train_lm_head, max_grad_norm, optimizer, objective, prompts)
        super().__init__(*settings, validation_share)
        self.max_new_tokens = max_new_tokens
