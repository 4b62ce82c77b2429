"""Train one expert's adapter with Lightning: resumable, exact, in several processes, and refusing to learn nothing."""

import copy
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch.utils.data import DataLoader

from r4r.config import LLMConfig, TrainerConfig
from r4r.errors import TrainingError
from r4r.experts.expert import CHECKPOINT, Expert
from r4r.experts.parallel import together
from r4r.interrupts import as_interrupts
from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example
from r4r.progress import bar

MICRO_BATCH_TOKENS = {"cpu": 1536, "cuda": 8192}  # on CPU 5 GiB of activations at 135M parameters


def encode(lm: LanguageModel, texts: Sequence[tuple[int, str, str]]) -> list[Example]:
    """Training texts as token ids.

    Args:
        texts: (row_id, prompt, response).

    Raises:
        TrainingError: naming the row whose text is longer than llm.max_length.
    """
    examples = []
    for row_id, prompt, response in texts:
        example = Example(tuple(lm.chat.prompt_ids(prompt)), tuple(lm.chat.reply_ids(response)))
        if len(example) > lm.spec.max_length:
            raise TrainingError(
                f"row {row_id}: prompt and response take {len(example)} tokens, over llm.max_length="
                f"{lm.spec.max_length}; lower dataset.history.prompt or dataset.history.review_tokens, or raise that"
            )
        examples.append(example)
    return examples


def fit(
    expert: Expert,
    lm: LanguageModel,
    adapter: str,
    examples: Sequence[Example],
    folder: Path,
    trainer: TrainerConfig,
    seed: int,
    log: Callable[[dict[str, float]], None],
    cache: Path | None = None,
) -> dict[str, Any]:
    """Train the adapter and write it to `folder/adapter`.

    What is left of an earlier, killed call in the folder is taken up: the result is that of an unbroken one. Where
    several processes train, this one alone writes, and the others load the base model for themselves.

    Args:
        cache: where they find it converted; needed for several processes alone.

    Returns:
        Facts for the manifest: steps, tokens, losses, tokens a second, processes.
    Raises:
        TrainingError: nothing would be learnt, or another process failed.
    """
    size = trainer.processes
    losses: list[float] = []
    tokens = 0.0
    last_saved = started = time.monotonic()
    meter: list[Callable[[int, str], None]] = []  # the bar, which opens once the number of steps is known

    def on_step(step: int, facts: dict[str, float]) -> None:
        nonlocal last_saved, tokens
        losses.append(facts["loss"])
        tokens += facts["tokens"]
        log({f"{adapter}/train/loss": facts["loss"], f"{adapter}/train/lr": facts["lr"], f"{adapter}/train/step": step})
        meter[0](1, f"loss {facts['loss']:.3f}")
        if time.monotonic() - last_saved >= trainer.checkpoint_every_s and step < len(expert.steps):
            expert.save_progress(folder, step)
            last_saved = time.monotonic()

    micro = trainer.micro_batch_tokens or MICRO_BATCH_TOKENS[lm.device.type]
    same = copy.deepcopy(expert), lm.spec, trainer, cache, adapter, list(examples), folder, seed, micro
    expert.prepare(lm, adapter, examples, seed, micro, on_step, size=size)
    expert.load_progress(folder)
    with (
        together(size, lm.device.type == "cuda", _join_in, *same),
        bar(f"train {adapter}", len(expert.steps), expert.first_step) as advance,
    ):
        meter.append(advance)
        _take_steps(expert, lm)
    lm.save_adapter(adapter, folder / "adapter")
    (folder / CHECKPOINT).unlink(missing_ok=True)
    seconds = time.monotonic() - started
    return {
        "examples": len(examples),
        "steps": len(expert.steps),
        "resumed_at_step": expert.first_step or None,
        "processes": size,
        "train_tokens": int(tokens),
        "train_tokens_per_s": round(tokens / seconds, 1),
        "first_loss": round(losses[0], 4) if losses else None,
        "last_loss": round(losses[-1], 4) if losses else None,
    }


def _join_in(
    rank: int,
    join: Callable[[], None],
    expert: Expert,
    spec: LLMConfig,
    trainer: TrainerConfig,
    cache: Path,
    adapter: str,
    examples: Sequence[Example],
    folder: Path,
    seed: int,
    micro_batch_tokens: int,
) -> None:
    """What each further process does: the same training, of which nothing is kept."""
    threads = max(1, (trainer.threads or torch.get_num_threads()) // trainer.processes)
    lm = LanguageModel.load(spec, trainer.model_copy(update={"threads": threads}), cache)
    expert.prepare(lm, adapter, examples, seed, micro_batch_tokens, lambda step, facts: None, rank, trainer.processes)
    expert.load_progress(folder)
    join()
    _take_steps(expert, lm)


def _take_steps(expert: Expert, lm: LanguageModel) -> None:
    """All steps that are still to do, one batch each."""
    remaining: Any = range(expert.first_step, len(expert.steps))
    steps: Any = DataLoader(remaining, batch_size=None)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and the like does not fit here
        loop = pl.Trainer(
            max_epochs=1,
            accelerator="gpu" if lm.device.type == "cuda" else "cpu",
            devices=1,
            plugins=[LightningEnvironment()],  # on a cluster, Lightning would write and requeue for itself
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with as_interrupts():
            loop.fit(expert, steps)
