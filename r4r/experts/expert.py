"""What all experts share: one LoRA adapter, trained on the response tokens, as a LightningModule (paper 3, SPEC 2)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from pydantic import Field
from torch import nn

from r4r.errors import TrainingError
from r4r.experts.parallel import share, sum_gradients
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.batches import plan_batches
from r4r.lm.loss import Example, response_loss

CHECKPOINT = "checkpoint.pt"
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Expert(pl.LightningModule):
    """An adapter and how it is trained. Subclasses say what it reads, what it learns to say, and how it decodes.

    Only the adapter's weights are parameters of this module: the base model is held aside, so no checkpoint ever
    stores it. Weights are trained in float32; where the base computes in another type, the adapter holds a copy in it.
    """

    templates: tuple[str, ...] = ()  # prompt files, part of the artifact key

    def __init__(
        self,
        lora: Lora,
        lr: Positive,
        epochs: Count,
        batch_size: Count,
        warmup: Annotated[float, Field(ge=0)],
        train_lm_head: bool = False,
        max_grad_norm: Positive = 1.0,
    ):
        """
        Args:
            lr: peak learning rate of the linear schedule.
            batch_size: examples an optimizer step, however many forward passes that takes.
            warmup: optimizer steps, or below 1 a share of all steps.
            train_lm_head: train and save the output head too.
        """
        super().__init__()
        self.automatic_optimization = False
        self.lora = lora if isinstance(lora, Lora) else Lora(**lora)
        self.lr, self.epochs, self.batch_size, self.warmup = lr, epochs, batch_size, warmup
        self.train_lm_head, self.max_grad_norm = train_lm_head, max_grad_norm
        self.master = nn.ParameterList()
        self._aside: dict[str, Any] = {}  # the base model and its adapter's weights, hidden from torch.nn

    # training

    def prepare(
        self,
        lm: LanguageModel,
        adapter: str,
        examples: Sequence[Example],
        seed: int,
        micro_batch_tokens: int,
        on_step: Callable[[int, dict[str, float]], None],
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """Put a fresh adapter on the base model and lay out every step's batch.

        Args:
            rank: this process's among the `size` that share each step.

        Raises:
            TrainingError: nothing to train on, or no trainable parameter.
        """
        if not examples:
            raise TrainingError(f"{adapter}: there is no example to train on")
        lm.drop_adapter(adapter)
        weights = lm.new_adapter(adapter, self.lora, self.train_lm_head, seed)
        if not weights or not any(p.requires_grad for p in weights):
            raise TrainingError(f"{adapter}: the adapter has no trainable parameter")
        self.master = nn.ParameterList(p if p.dtype == torch.float32 else p.detach().float() for p in weights)
        self._aside = {"lm": lm, "weights": weights, "examples": examples, "on_step": on_step}
        self.seed, self.micro_batch_tokens = seed, micro_batch_tokens
        self.rank, self.size = rank, size
        self.first_step = 0
        self.steps = self._plan(len(examples))

    def _plan(self, count: int) -> list[list[int]]:
        """Example indices of every optimizer step of every epoch: a function of the seed alone."""
        steps = []
        for epoch in range(self.epochs):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 1000 + epoch)).tolist()
            steps += [order[start : start + self.batch_size] for start in range(0, count, self.batch_size)]
        return steps

    def rate_at(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear up, then linear down to zero."""
        total = len(self.steps)
        warm = self.warmup if self.warmup >= 1 else self.warmup * total
        if step < warm:
            return (step + 1) / (warm + 1)
        return max(0.0, (total - step) / max(1.0, total - warm))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self._aside["lm"].device.type == "cuda":
            from bitsandbytes.optim import PagedAdamW8bit

            return PagedAdamW8bit(self.master, lr=self.lr, weight_decay=0.0)
        return torch.optim.AdamW(self.master, lr=self.lr, weight_decay=0.0)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One optimizer step; `batch` is its number. The loss is the mean over all response tokens of the step."""
        step, lm, weights = batch, self._aside["lm"], self._aside["weights"]
        # dropout depends on the step and the process, not on what ran before
        torch.manual_seed(self.seed * 1_000_003 + step + (self.rank << 40))
        examples = [self._aside["examples"][index] for index in self.steps[step]]
        tokens = sum(len(e.response) for e in examples)
        for weight in weights:
            weight.grad = None
        total = 0.0
        lm.causal.train()
        mine = [examples[row] for row in share([len(e) for e in examples], self.rank, self.size)]
        for rows in plan_batches([len(e) for e in mine], self.micro_batch_tokens):
            loss = response_loss(lm, [mine[row] for row in rows]) / tokens
            loss.backward()
            total += float(loss.detach())
        lm.causal.eval()
        if self.size > 1:
            total = sum_gradients(weights, total)
        self._check_gradients(weights, step)
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        for group in optimizer.param_groups:
            group["lr"] = self.lr * self.rate_at(step)
        for master, weight in zip(self.master, weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.to(master.dtype)
        norm = nn.utils.clip_grad_norm_(self.master, self.max_grad_norm)
        if not torch.isfinite(norm):
            raise TrainingError(f"step {step + 1}: the gradient is not finite; lower lr (now {self.lr:g})")
        optimizer.step()
        self._publish()
        facts = {"loss": total, "lr": self.lr * self.rate_at(step), "tokens": float(sum(len(e) for e in examples))}
        self._aside["on_step"](step + 1, facts)

    def _check_gradients(self, weights: Sequence[nn.Parameter], step: int) -> None:
        """An adapter that gets no gradient would train to nothing without a word. B is zero at first, so A waits."""
        if step - self.first_step > 1:
            return
        dead = sum(1 for w in weights if w.grad is None or not bool(w.grad.any()))
        if dead == len(weights) or (step > 0 and dead > len(weights) / 2):
            raise TrainingError(
                f"step {step + 1}: {dead} of {len(weights)} adapter weights have a gradient of exactly zero; the base "
                "model's kernels do not pass gradients here. Try llm.quantization=none or another bitsandbytes version."
            )

    @torch.no_grad()
    def _publish(self) -> None:
        """Copy the trained weights into the adapter, where that is another type."""
        for master, weight in zip(self.master, self._aside["weights"], strict=True):
            if master is not weight:
                weight.copy_(master)

    # a killed training continues

    def save_progress(self, folder: Path, step: int) -> None:
        """Write weights and optimizer state after `step` steps: the old file or the new one, never half of one."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        state = {"step": step, "master": list(self.master), "optimizer": optimizer.state_dict()}
        temporary = folder / (CHECKPOINT + ".tmp")
        torch.save(state, temporary)
        temporary.replace(folder / CHECKPOINT)

    @torch.no_grad()
    def load_progress(self, folder: Path) -> None:
        """Take up what `save_progress` left, if anything; the optimizer's state waits until there is one."""
        if not (folder / CHECKPOINT).exists():
            return
        state = torch.load(folder / CHECKPOINT, weights_only=True, map_location=self._aside["lm"].device)
        for master, saved in zip(self.master, state["master"], strict=True):
            master.copy_(saved)
        self._publish()
        self._aside["optimizer"] = state["optimizer"]
        self.first_step = state["step"]

    def on_fit_start(self) -> None:
        if "optimizer" in self._aside:
            optimizer: Any = self.optimizers(use_pl_optimizer=False)
            optimizer.load_state_dict(self._aside.pop("optimizer"))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # a step's number


class Writer(Expert):
    """An expert that answers in text."""

    def __init__(
        self,
        lora: Lora,
        lr: Positive,
        epochs: Count,
        batch_size: Count,
        warmup: Annotated[float, Field(ge=0)],
        max_new_tokens: Count,
        train_lm_head: bool = False,
        max_grad_norm: Positive = 1.0,
    ):
        super().__init__(lora, lr, epochs, batch_size, warmup, train_lm_head, max_grad_norm)
        self.max_new_tokens = max_new_tokens
