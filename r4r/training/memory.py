"""How much of a step fits into memory at once, and what to do where it did not."""

import gc
import resource
from typing import Any

import torch

from r4r.lm.base import LanguageModel

CPU_TOKENS = 1536  # 5 GiB of activations at 135M parameters; more is no faster
SHARE = 0.8  # of the free memory that a pass may take
LEAST, MOST = 64, 65_536
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def micro_batch_tokens(lm: LanguageModel) -> tuple[int, str]:
    """Padded tokens of a training pass by the device's free memory, and how that was found, for people to read."""
    if lm.device.type != "cuda":
        return CPU_TOKENS, "the CPU's default"
    free, _ = torch.cuda.mem_get_info(lm.device)
    free += torch.cuda.memory_reserved(lm.device) - torch.cuda.memory_allocated(lm.device)
    return tokens_for(free, lm.causal.config, lm.dtype.itemsize, lm.spec.gradient_checkpointing)


def tokens_for(free: int, shape: Any, item_bytes: int, checkpointing: bool) -> tuple[int, str]:
    """As `micro_batch_tokens`, for so many free bytes and a model of this shape.

    An estimate of what the backward pass needs to be kept of a token: in each layer the inputs of the seven adapted
    projections, those of attention, norms and activation, and the adapters' own copies; with checkpointing the
    layers' inputs alone and one layer in full; logits in float32, twice, for every tenth token.
    """
    hidden, inner, layers = shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers
    layer = (16 * hidden + 6 * inner) * item_bytes
    kept = layers * hidden * item_bytes + layer if checkpointing else layers * layer
    a_token = kept + 2 * 4 * shape.vocab_size // 10
    tokens = min(MOST, max(LEAST, int(SHARE * free / a_token)))
    return tokens, f"{free / 2**30:.1f} GiB free, about {a_token / 2**20:.2f} MiB a token"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or beside it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def release() -> None:
    """Give back what a failed pass has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_gib(device: torch.device) -> float:
    """The most memory in use at once: on a GPU since the training began, else of this process at all."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def sentence(adapter: str, tokens: int) -> str:
    """What to change where a single example does not fit: first what changes no artifact."""
    return (
        f"{adapter}: memory ran out with one example of {tokens} tokens a pass. Without any change of the result: "
        "llm.gradient_checkpointing=true, llm.engine=hf beside no other program, or trainer=ddp on more devices. Else "
        "experts.<name>.optimizer=paged_adamw_8bit, llm.quantization=nf4, or shorter prompts (dataset.history.prompt, "
        "dataset.history.review_tokens); what is finished is kept"
    )
