"""An expert's training as a LightningModule."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.training.expert import Expert
from r4r.training.meter import Steps, means
from r4r.training.optimizers import make_optimizer, plain
from r4r.training.plan import EpochPasses, Pass, count_passes, plan_steps
from r4r.training.ranks import every
from r4r.training.switching import without_dropout
from r4r.training.weights import Masters, begin_with

LEFT_OUT = 20  # steps in a row without a finite gradient at which no scale would help any more


class ExpertModule(pl.LightningModule):
    """One training of one expert.

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

    def __init__(
        self,
        expert: Expert,
        lm: LanguageModel,
        adapter: str,
        examples: Sequence[Any],
        valid: Sequence[Any],
        seed: int,
        measures: Steps,
        start: Path | None = None,
    ) -> None:
        """Put an adapter on the base model and lay out every step's batch.

        Args:
            valid: examples whose loss is measured after each epoch, and that are not learnt.
            measures: where each step's measures are kept.
            start: a trained adapter to begin with, in peft's format; None: a fresh one.

        Raises:
            TrainingError: nothing to train on, no trainable parameter, or a start of another shape.
        """
        super().__init__()
        if not examples:
            raise TrainingError(f"{adapter}: there is no example to train on")
        self.objective = objective = expert.objective
        self.lr = expert.lr * objective.lr_share if objective.lr is None else objective.lr
        self.epochs = expert.epochs if objective.epochs is None else objective.epochs
        self.batch_size = expert.batch_size if objective.batch_size is None else objective.batch_size
        self.warmup = expert.warmup if objective.warmup is None else objective.warmup
        self.max_grad_norm, self.optimizer_name = expert.max_grad_norm, expert.optimizer_name
        self.steps = plan_steps(len(examples), self.batch_size, self.epochs, seed, objective.repeats)
        if not self.steps:
            raise TrainingError(f"{adapter}: epochs={self.epochs} trains nothing; it must be at least 1")
        lm.drop_adapter(adapter)
        weights = lm.new_adapter(adapter, expert.lora, expert.train_lm_head, seed)
        if not weights or not any(p.requires_grad for p in weights):
            raise TrainingError(f"{adapter}: the adapter has no trainable parameter")
        if start is not None:
            begin_with(lm, adapter, start)
        self.lm, self.masters, self.examples, self.valid = lm, Masters(lm.causal, weights), examples, valid
        self.master = nn.ParameterList(self.masters.weights)
        self.seed, self.adapter, self.measures = seed, adapter, measures
        self.first_step = self.padded = self.real = 0
        self.tokens = self.resumed_tokens = 0.0  # learnt in all, and by earlier calls
        self.learnt = False
        self.trained_steps = 0
        self.left_out = self.all_left_out = 0  # steps whose gradients float16 could not hold, one after another and all
        self.stopped = ""
        self.first_loss: float | None = None
        self.last_loss: float | None = None

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
        self.masters.settle()

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
        valid = self.valid
        return EpochPasses([[n] for n in range(len(valid))], 0, valid, self.objective, 1) if valid else []

    def configure_optimizers(self) -> Any:
        device = self.lm.device
        mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        optimizer = make_optimizer(self.optimizer_name, list(self.master), self.lr, device.type == "cuda", mixed)
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
        causal = self.lm.causal.train()
        if not self.objective.drops_out:
            without_dropout(causal)

    def training_step(self, batch: Pass, batch_idx: int) -> Tensor:
        """Loss of one pass, in the measure in which it is a part of the step's mean.

        Lightning divides by the passes a step, and DDP by the processes: hence the factor.
        """
        place = (self.seed * 1_000_003 + batch.step) * 65_536 + batch.number + (self.rank << 40)
        torch.manual_seed(place % 2**63)
        if batch.number == 0:
            self.step_loss = torch.zeros((), device=self.lm.device)
        self.learnt = bool(batch.tokens)
        if batch.examples:
            loss = self.objective.loss(self.lm, batch.examples) / batch.weight
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
            self.objective.watch(measured)
            self.tokens += batch.tokens
            self.log_dict({f"{self.adapter}/train/{name}": value for name, value in (facts | measured).items()})
        return loss * (self.passes * self.size)

    def on_train_batch_end(self, outputs: Any, batch: Pass, batch_idx: int) -> None:
        self.lm.causal.eval()

    def validation_step(self, batch: Pass, batch_idx: int) -> None:
        """The loss of one held-out example; what is logged is the mean over all, by what each counts."""
        loss = self.objective.loss(self.lm, batch.examples)
        name = f"{self.adapter}/valid/loss"
        self.log(name, loss / batch.weight, on_epoch=True, batch_size=max(1, round(batch.weight)))

    def on_validation_epoch_end(self) -> None:
        self.objective.meter.take()  # what it measured of held-out examples is none of the next step's

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
        norm = nn.utils.get_total_norm([g for g in gradients if g is not None])
        if bool(torch.isfinite(norm)):
            self.left_out = 0
        elif self.trainer.scaler is None or self.left_out == LEFT_OUT:
            cure = f"lower lr (now {self.lr:g})"
            if step == 0:  # nothing has been learnt at any rate
                cure = "the base model itself gives no finite numbers: look at its weights, or set llm.dtype=float32"
            raise TrainingError(f"step {step + 1}: the gradient is not finite; {cure}")
        else:  # a scaler leaves this step out, and makes the next one's scale half as large
            self.left_out += 1
            self.all_left_out += 1

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
