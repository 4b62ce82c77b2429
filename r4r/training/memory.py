"""How much of a step fits into memory at once, and what to do where it did not."""

import resource

import torch

from r4r.lm.base import LanguageModel
from r4r.lm.memory import Shape, free_bytes, is_out_of_memory, release, shape_of

__all__ = ["is_out_of_memory", "micro_batch_tokens", "peak_gib", "release", "sentence", "tokens_for"]

CPU_TOKENS = 1536  # 5 GiB of activations at 135M parameters; more is no faster
SHARE = 0.8  # of the free memory that a pass may take
LEAST, MOST = 64, 65_536


def micro_batch_tokens(lm: LanguageModel) -> tuple[int, str]:
    """Padded tokens of a training pass by the device's free memory, and how that was found, for people to read."""
    if lm.device.type != "cuda":
        return CPU_TOKENS, "the CPU's default"
    return tokens_for(free_bytes(lm.device), shape_of(lm.causal), lm.dtype.itemsize, lm.spec.gradient_checkpointing)


def tokens_for(free: int, shape: Shape, item_bytes: int, checkpointing: bool) -> tuple[int, str]:
    """As `micro_batch_tokens`, for so many free bytes and a model of this shape."""
    token = shape.training_bytes(checkpointing, item_bytes)
    tokens = min(MOST, max(LEAST, int(SHARE * free / token)))
    return tokens, f"{free / 2**30:.1f} GiB free, about {token / 2**20:.2f} MiB a token"


def peak_gib(device: torch.device) -> float:
    """The most memory in use at once: on a GPU since the training began, else of this process at all."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def broken_off(adapter: str, in_step: bool) -> str:
    """What to change where memory ran out and the training cannot go on in smaller passes by itself.

    Args:
        in_step: whether the optimizer was moving the weights; else one of several processes was in a pass.
    """
    what = "as the optimizer moved the weights" if in_step else "in one of several processes"
    return (
        f"{adapter}: memory ran out {what}. Started again, the job goes on from the last checkpoint; without any "
        "change of the result, lower trainer.micro_batch_tokens or set llm.gradient_checkpointing=true. Else "
        "experts.<name>.optimizer=paged_adamw_8bit or llm.quantization=nf4"
    )


def sentence(adapter: str, tokens: int) -> str:
    """What to change where a single example does not fit: first what changes no artifact."""
    return (
        f"{adapter}: memory ran out with one example of {tokens} tokens a pass. Without any change of the result: "
        "llm.gradient_checkpointing=true, llm.engine=hf beside no other program, or trainer=ddp on more devices. Else "
        "experts.<name>.optimizer=paged_adamw_8bit, llm.quantization=nf4, or shorter prompts (dataset.history.prompt, "
        "dataset.history.review_tokens); what is finished is kept"
    )
