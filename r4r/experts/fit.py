"""Train one expert's adapter with Lightning: resumable, exact, and refusing to learn nothing."""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from r4r.config import TrainerConfig
from r4r.errors import TrainingError
from r4r.experts.expert import CHECKPOINT, Expert
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
) -> dict[str, Any]:
    """Train the adapter and write it to `folder/adapter`.

    What is left of an earlier, killed call in the folder is taken up: the result is that of an unbroken one.

    Returns:
        Facts for the manifest: steps, tokens, losses, tokens a second.
    """
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
    expert.prepare(lm, adapter, examples, seed, micro, on_step)
    expert.load_progress(folder)
    remaining: Any = range(expert.first_step, len(expert.steps))
    steps: Any = DataLoader(remaining, batch_size=None)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with bar(f"train {adapter}", len(expert.steps), expert.first_step) as advance, warnings.catch_warnings():
        meter.append(advance)
        warnings.simplefilter("ignore")  # Lightning's advice on workers and the like does not fit here
        trainer_loop = pl.Trainer(
            max_epochs=1,
            accelerator="gpu" if lm.device.type == "cuda" else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with as_interrupts():
            trainer_loop.fit(expert, steps)
    lm.save_adapter(adapter, folder / "adapter")
    (folder / CHECKPOINT).unlink(missing_ok=True)
    seconds = time.monotonic() - started
    return {
        "examples": len(examples),
        "steps": len(expert.steps),
        "resumed_at_step": expert.first_step or None,
        "train_tokens": int(tokens),
        "train_tokens_per_s": round(tokens / seconds, 1),
        "first_loss": round(losses[0], 4) if losses else None,
        "last_loss": round(losses[-1], 4) if losses else None,
    }
