"""What all experts share: one LoRA adapter and how it is trained, as a LightningModule (paper 3, SPEC 2)."""

from collections.abc import Sequence
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from pydantic import Field
from torch import Tensor, nn

from r4r.errors import ConfigError, TrainingError
from r4r.lm.base import LanguageModel, Lora
from r4r.prompts.render import fields_of, render, template
from r4r.training.meter import Steps, means
from r4r.training.objectives.base import Objective
from r4r.training.objectives.sft import SFT
from r4r.training.optimizers import Optimizer, make_optimizer, plain
from r4r.training.plan import EpochPasses, Pass, count_passes, plan_steps
from r4r.training.ranks import every
from r4r.training.switching import without_dropout
from r4r.training.weights import Masters


class Expert(pl.LightningModule):
    """An adapter and how it is trained. Subclasses say what it reads, what it learns to say, and how it decodes.

    Optimization is Lightning's own: schedule, clipping, accumulation, checkpoints, resuming, logging. Four things
    differ, each for a promise that Lightning's way does not keep:

    - Only the adapter's weights are parameters of this module. The base model, which all experts of a job share, is
      held aside, so that no checkpoint stores it and no strategy moves or broadcasts it.
    - A batch of Lightning's is one pass of an optimizer step. All steps have the same number of passes, which
      `count_passes` finds, since Lightning accumulates a fixed number; the loss of a pass is its share of the mean
      over the whole step, so that gradients are the same however a step is cut.
    - A checkpoint has no loop counters. They count passes, whose number depends on the machine; the number of steps
      alone says where to go on, in a batch order that follows from the seed. A training that is killed at any moment
      thus ends as an unbroken one, with another number of passes or processes too.
    - Random numbers are drawn anew for each pass from seed, step and process: dropout does not depend on what ran
      before a restart.
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
        super().__init__()
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
        self.master = nn.ParameterList()
        self._aside: dict[str, Any] = {}  # the base model and the examples, hidden from torch.nn
        self.first_step = self.padded = self.real = 0
        self.tokens = self.resumed_tokens = 0.0  # learnt in all, and by earlier calls
        self.learnt = False
        self.trained_steps = 0
        self.stopped = ""
        self.first_loss: float | None = None
        self.last_loss: float | None = None

    def prompt_texts(self) -> dict[str, str]:
        """The text of each prompt file, by its name in `templates`."""
        return {name: template(self.prompts.get(name, name)) for name in self.templates}

    def render(self, name: str, **fields: str) -> str:
        """A prompt file of the class, or the one that stands in its place, filled in.

        Raises:
            ConfigError: a field of the file is not given, or a given field is not in it.
        """
        return render(self.prompts.get(name, name), **fields)

    def prepare(
        self,
        lm: LanguageModel,
        adapter: str,
        examples: Sequence[Any],
        valid: Sequence[Any],
        seed: int,
        measures: Steps,
    ) -> None:
        """Put a fresh adapter on the base model and lay out every step's batch.

        Args:
            valid: examples whose loss is measured after each epoch, and that are not learnt.
            measures: where each step's measures are kept.

        Raises:
            TrainingError: nothing to train on, or no trainable parameter.
        """
        if not examples:
            raise TrainingError(f"{adapter}: there is no example to train on")
        for setting in ("lr", "epochs", "batch_size", "warmup"):
            own = getattr(self.objective, setting)
            setattr(self, setting, getattr(self, setting) if own is None else own)
        self.steps = plan_steps(len(examples), self.batch_size, self.epochs, seed, self.objective.repeats)
        if not self.steps:
            raise TrainingError(f"{adapter}: epochs={self.epochs} trains nothing; it must be at least 1")
        lm.drop_adapter(adapter)
        weights = lm.new_adapter(adapter, self.lora, self.train_lm_head, seed)
        if not weights or not any(p.requires_grad for p in weights):
            raise TrainingError(f"{adapter}: the adapter has no trainable parameter")
        masters = Masters(lm.causal, weights)
        self.master = nn.ParameterList(masters.weights)
        self._aside = {"lm": lm, "masters": masters, "examples": examples, "valid": valid}
        self.seed, self.adapter, self.measures = seed, adapter, measures

    def plan_passes(self, micro_batch_tokens: int, rank: int, size: int) -> int:
        """Cut every step into passes of so many padded tokens at most, shared by `size` processes.

        Returns:
            Passes a step.
        """
        self.rank, self.size = rank, size
        sizes = [self.objective.sizes(example) for example in self.examples]
        self.passes = count_passes(self.steps, sizes, micro_batch_tokens, size)
        return self.passes

    def settle(self) -> None:
        """Leave the trained weights in the adapter, as the base model computes with them."""
        self._aside["masters"].settle()

    @property
    def examples(self) -> Sequence[Any]:
        return self._aside["examples"]

    @property
    def has_valid(self) -> bool:
        return bool(self._aside["valid"])

    @property
    def steps_an_epoch(self) -> int:
        return len(self.steps) // self.epochs

    # what Lightning asks for

    def train_dataloader(self) -> EpochPasses:
        """The epoch's passes that are still to do; asked for anew before each epoch."""
        epoch = self.trainer.current_epoch
        first = max(self.first_step, epoch * self.steps_an_epoch)
        steps = self.steps[first : (epoch + 1) * self.steps_an_epoch]
        loader = EpochPasses(steps, first, self.examples, self.objective, self.passes)
        loader.rank, loader.size = self.rank, self.size
        return loader

    def val_dataloader(self) -> EpochPasses | list[Any]:
        """The held-out examples, one pass each: every process measures all of them."""
        valid = self._aside["valid"]
        return EpochPasses([[n] for n in range(len(valid))], 0, valid, self.objective, 1) if valid else []

    def configure_optimizers(self) -> Any:
        device = self._aside["lm"].device
        scaled = self.trainer.scaler is not None
        optimizer = make_optimizer(self.optimizer_name, list(self.master), self.lr, device.type == "cuda", scaled)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_at)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate_at(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear up, then linear down to zero."""
        total = len(self.steps)
        warm = self.warmup if self.warmup >= 1 else self.warmup * total
        if step < warm:
            return (step + 1) / (warm + 1)
        return max(0.0, (total - step) / max(1.0, total - warm))

    def on_train_batch_start(self, batch: Pass, batch_idx: int) -> None:
        causal = self._aside["lm"].causal.train()
        if not self.objective.drops_out:
            without_dropout(causal)

    def training_step(self, batch: Pass, batch_idx: int) -> Tensor:
        """Loss of one pass, in the measure in which it is a part of the step's mean.

        Lightning divides by the passes a step, and DDP by the processes: hence the factor.
        """
        place = (self.seed * 1_000_003 + batch.step) * 65_536 + batch.number + (self.rank << 40)
        torch.manual_seed(place % 2**63)
        if batch.number == 0:
            self.step_loss = torch.zeros((), device=self._aside["lm"].device)
        self.learnt = bool(batch.tokens)
        if batch.examples:
            loss = self.objective.loss(self._aside["lm"], batch.examples) / batch.weight
            self.padded += len(batch.examples) * max(len(e) for e in batch.examples)
            self.real += sum(len(e) for e in batch.examples)
        else:  # nothing of this step is this process's to learn, but its gradient counts as zero
            loss = sum((p.sum() for p in self.master), torch.zeros((), device=self.master[0].device)) * 0.0
        self.step_loss = self.step_loss + loss.detach()
        if batch.is_last:
            self.last_loss = float(self.trainer.strategy.reduce(self.step_loss, reduce_op="sum"))
            self.first_loss = self.last_loss if self.first_loss is None else self.first_loss
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            facts = {"loss": self.last_loss, "lr": rate, "step": float(batch.step + 1)}
            measured = means(every(self.objective.meter.take()))
            if measured and self.rank == 0:
                self.measures.add(facts | measured)
            self.tokens += batch.tokens
            self.log_dict({f"{self.adapter}/train/{name}": value for name, value in (facts | measured).items()})
        return loss * (self.passes * self.size)

    def on_train_batch_end(self, outputs: Any, batch: Pass, batch_idx: int) -> None:
        self._aside["lm"].causal.eval()

    def validation_step(self, batch: Pass, batch_idx: int) -> None:
        """The loss of one held-out example; what is logged is the mean over all, by what each counts."""
        loss = self.objective.loss(self._aside["lm"], batch.examples)
        name = f"{self.adapter}/valid/loss"
        self.log(name, loss / batch.weight, on_epoch=True, batch_size=max(1, round(batch.weight)))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse to learn nothing, or nonsense.

        An adapter that gets no gradient would train to nothing without a word. B is zero at first, so A waits.

        Raises:
            TrainingError: gradients are zero where they should not be, or not finite.
        """
        step = self.trainer.global_step
        gradients = [p.grad for p in self.master]
        if step - self.first_step <= 1 and self.learnt:
            dead = sum(1 for g in gradients if g is None or not bool(g.any()))
            if dead == len(gradients) or (step > 0 and dead > len(gradients) / 2):
                raise TrainingError(
                    f"step {step + 1}: {dead} of {len(gradients)} adapter weights have a gradient of exactly zero; the "
                    "base model's kernels do not pass gradients here. Try llm.quantization=none or another "
                    "bitsandbytes version."
                )
        if self.trainer.scaler is not None:  # 16-mixed skips a step whose gradients are not finite, and scales anew
            return
        norm = nn.utils.get_total_norm([g for g in gradients if g is not None])
        if not bool(torch.isfinite(norm)):
            raise TrainingError(f"step {step + 1}: the gradient is not finite; lower lr (now {self.lr:g})")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # token ids, padded and moved by the loss

    # a killed training continues

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.pop("loops", None)  # see the class
        checkpoint["optimizer_states"] = plain(checkpoint["optimizer_states"])
        checkpoint["first_loss"], checkpoint["tokens"] = self.first_loss, self.tokens
        checkpoint["objective"] = self.objective.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["optimizer_states"] = plain(checkpoint["optimizer_states"])
        self.first_loss, self.tokens = checkpoint["first_loss"], checkpoint["tokens"]
        self.objective.restore(checkpoint["objective"])


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
