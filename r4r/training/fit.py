"""Train one expert's adapter with Lightning: resumable, exact, in several processes, and refusing to learn nothing."""

import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from r4r.configuration.schema import TrainerConfig
from r4r.errors import TrainingError
from r4r.interrupts import as_interrupts
from r4r.lm.base import LanguageModel
from r4r.progress import say
from r4r.ranks import this_rank
from r4r.training import memory, ranks
from r4r.training.callbacks import Checkpoints, JobLog
from r4r.training.expert import Expert
from r4r.training.meter import Steps
from r4r.training.module import ExpertModule
from r4r.training.objectives.base import Around
from r4r.training.trainer import go_on_from, make_trainer
from r4r.training.weights import check_moved

CHECKPOINT = "checkpoint.pt"
VALID_SHARE = 8  # a training is worth at most one held-out text to so many examples


def fit(
    expert: Expert,
    lm: LanguageModel,
    adapter: str,
    examples: Sequence[Any],
    folder: Path,
    trainer: TrainerConfig,
    seed: int,
    log: Callable[[dict[str, float]], None],
    valid: Sequence[Any] = (),
    start: Path | None = None,
    services: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the adapter and write it to `folder/adapter`.

    What is left of an earlier, killed call in the folder is taken up: the result is that of an unbroken one. Where
    torchrun or srun started several processes, each calls this alike, and rank 0 alone logs and writes.

    Args:
        examples: as the expert's objective encodes them.
        valid: held-out ones, of which a seeded sample of `trainer.valid_rows` is measured after each epoch.
        start: folder of the adapter to begin with, where the objective asks for one.
        services: what the objective needs beside the examples, by name.

    Returns:
        Facts for the manifest: examples, steps, epochs, trained tokens, share of padding, losses, seconds, peak
        memory, and why the training stopped.
    Raises:
        TrainingError: nothing would be learnt, memory does not suffice, or another process failed.
    """
    here = this_rank()
    objective, services = expert.objective, dict(services or {})
    missing = sorted(objective.needs - set(services))
    if missing or bool(objective.starts_from) != bool(start):
        wanted = [*missing, *([f"the adapter that {objective.starts_from} trained"] if objective.starts_from else [])]
        raise TrainingError(
            f"{adapter}: the objective {type(objective).__name__} needs {', '.join(wanted) or 'no start'}"
        )
    if here.rank == 0:
        ranks.call(str(folder))
    began = time.monotonic()
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
    measures = Steps(folder)
    held_out = _sample(valid, len(examples), trainer.valid_rows, seed)
    module = ExpertModule(expert, lm, adapter, examples, held_out, seed, measures, start)
    reference = None
    if start is not None:
        reference = f"{adapter}-start"
        lm.load_adapter(reference, start)
        with lm.using(adapter):
            pass
        module.master.requires_grad_(True)
    objective.begin(Around(lm, adapter, reference, seed, services))
    try:
        steps, resumed_at = _train(module, folder, trainer, log)
    except BaseException:
        ranks.part()
        raise
    finally:
        module.settle()
        if reference:
            lm.drop_adapter(reference)
    if not steps:
        raise TrainingError(f"{adapter}: not a single step was trained; the adapter would be that of the bare model")
    if here.rank == 0:
        lm.save_adapter(adapter, folder / "adapter")
        if measures.rows:
            measures.draw(folder / "steps.png", adapter)
        objective.check(measures.rows)
        check_moved(adapter, folder / "adapter", start)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    seconds = time.monotonic() - began
    memory.release()  # on the GPU of each process, before the first one gives it to who writes next
    with ranks.telling_of_others():
        ranks.every(None)
    return {
        "examples": len(examples),
        "steps": steps,
        "epochs": round(steps / module.steps_an_epoch, 2),
        "resumed_at_step": resumed_at or None,
        "processes": here.size,
        "passes_a_step": module.passes,
        "steps_left_out": module.all_left_out or None,
        "train_tokens": round(module.tokens),
        "padding": round(1 - module.real / module.padded, 3) if module.padded else None,
        "train_seconds": round(seconds, 1),
        "train_tokens_per_s": round((module.tokens - module.resumed_tokens) / seconds, 1),
        "train_peak_gib": memory.peak_gib(lm.device),
        "first_loss": None if module.first_loss is None else round(module.first_loss, 4),
        "last_loss": None if module.last_loss is None else round(module.last_loss, 4),
        "stopped": "all steps done" if steps == len(module.steps) else module.stopped,
    }


def _sample(valid: Sequence[Any], examples: int, most: int, seed: int) -> list[Any]:
    count = min(len(valid), most, max(1, examples // VALID_SHARE))
    return [valid[row] for row in sorted(random.Random(seed).sample(range(len(valid)), count))]


def _train(
    module: ExpertModule, folder: Path, settings: TrainerConfig, log: Callable[[dict[str, float]], None]
) -> tuple[int, int]:
    """All steps that are still to do; where memory runs out, in passes of half the size from there on.

    Returns:
        Steps done in all, and those of them that an earlier call did.
    """
    here, objective = this_rank(), module.objective
    budget, found = settings.micro_batch_tokens, ""
    if budget is None:
        budget, found = memory.micro_batch_tokens(module.lm)
    passes = module.plan_passes(budget, here.rank, here.size)
    if module.lm.device.type == "cuda" and found:
        say(f"  passes of {budget} tokens at most ({found})")
    resumed_at, module.resumed_tokens = _done(folder)
    while not _run(module, folder, settings, passes, log):
        memory.release()
        longest = max(size for example in module.examples for size in objective.sizes(example))
        before = passes
        while passes == before and budget > longest:
            budget = max(longest, budget // 2)
            passes = module.plan_passes(budget, here.rank, here.size)
        if passes == before:
            raise TrainingError(memory.sentence(module.adapter, longest))
        say(f"  memory ran out; going on with passes of {budget} tokens at most, {passes} a step")
    return module.trained_steps, resumed_at


def _done(folder: Path) -> tuple[int, float]:
    """Steps that a checkpoint in the folder has done, and the tokens that they learnt; 0 where there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, 0.0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    return int(kept["global_step"]), float(kept["tokens"])


def _run(
    module: ExpertModule,
    folder: Path,
    settings: TrainerConfig,
    passes: int,
    log: Callable[[dict[str, float]], None],
) -> bool:
    """Lightning's fit, from the checkpoint on if there is one.

    Returns:
        Whether it came to an end; False where memory ran out and the step can be tried again.
    """
    here = this_rank()
    path = folder / CHECKPOINT
    checkpoints = Checkpoints(path, settings.checkpoint_every_s)
    trainer = make_trainer(
        settings, module, passes, here, [checkpoints], JobLog(log, module) if here.rank == 0 else None
    )
    go_on_from(trainer, module, _done(folder)[0])
    try:
        with warnings.catch_warnings(), as_interrupts(), ranks.telling_of_others():
            warnings.simplefilter("ignore")  # Lightning's advice on workers and the like does not fit here
            trainer.fit(module, ckpt_path=path if path.exists() else None, weights_only=True)
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
        if here.size > 1 or checkpoints.in_step:
            raise TrainingError(memory.broken_off(module.adapter, checkpoints.in_step)) from error
        module.objective.meter.take()  # of the step that is begun anew
        return False
    finally:
        module.lm.causal.eval()
    module.trained_steps = trainer.global_step
    module.stopped = "max_steps" if trainer.global_step == trainer.max_steps else "a callback stopped it"
    return True
