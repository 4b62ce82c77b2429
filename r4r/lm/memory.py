"""Memory: what a base model takes by its shape, how much work fits what is free, and what to do when it ran out."""

import gc
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.lm.architecture import own_cache, skeleton, text_config
from r4r.lm.fetch import resolve_texts

T = TypeVar("T")

CARDS_GB = (16, 24, 48, 80)
USABLE = 0.9  # of a card: drivers, kernels and fragments take the rest
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight: 4 bits, and scales of 64 weights that are quantized themselves
ADAPTER_BYTES = 4 + 4 + 8  # a weight of an adapter in training: itself, its gradient, AdamW's two moments, in float32
RANK = 16  # of the adapters that estimates are made for
LEARNT = 0.15  # share of a training text's tokens that belong to the response, whose logits are computed
CPU_BATCH_TOKENS, CPU_PREFIX_GB = 4096, 4.0  # fixed: what a CPU job writes does not depend on the machine's state
LEAST_TOKENS, MOST_TOKENS = 1024, 2**17
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
ADVICE = (  # what changes no artifact's key stands first
    "Lower llm.batch_tokens (writing and rating), llm.prefix_gb (filter) or trainer.micro_batch_tokens (training), or "
    "set llm.merge_adapters=false or llm.gradient_checkpointing=true: none of these rebuilds an artifact. Else lower "
    "llm.max_length or dataset.history.prompt, or set llm.quantization=nf4"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a base model, in weights or values.

    Attributes:
        linear: weights of the decoder's linear layers, which NF4 packs.
        rest: all other weights: embeddings, output layer, norms.
        cached: values that a token leaves in the cache.
        layers, hidden, intermediate, vocabulary: as in the model's configuration.
    """

    linear: int
    rest: int
    cached: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    def weights_bytes(self, quantization: str, size: int = 2) -> int:
        """The base model loaded.

        Args:
            size: bytes of a number: 2 in bf16 and float16, 4 in float32.
        """
        return int(self.linear * (NF4_BYTES if quantization == "nf4" else size) + self.rest * size)

    def writing_bytes(self, size: int = 2) -> int:
        """A padded token of a batch that writes or rates: its cache, a copy of it while rows leave the batch, and one
        layer's activations."""
        return size * (2 * self.cached + 6 * self.hidden + 3 * self.intermediate)

    def training_bytes(self, checkpointing: bool, size: int = 2) -> int:
        """A padded token of a training pass: what every layer keeps for its gradient (checkpointed: its input alone,
        and one layer's inner values), and the logits of the tokens that are learnt."""
        layer = 16 * self.hidden + 5 * self.intermediate  # the inputs of each projection, plain and dropped out
        kept = self.layers * self.hidden + layer if checkpointing else self.layers * layer
        return int(size * kept + LEARNT * 3 * 4 * self.vocabulary)

    def adapter_bytes(self) -> int:
        """An adapter of rank 16 in training, about: seven projections a layer."""
        return RANK * self.layers * (10 * self.hidden + 3 * self.intermediate) * ADAPTER_BYTES


@dataclass(frozen=True)
class Fit:
    """What fits a card: None where not even the least does."""

    card_gb: int
    weights_gb: float
    batch_tokens: int | None
    micro_batch_tokens: int | None


def shape_of(causal: Any) -> Shape:
    """The sizes of a model, also of one without weights (`r4r.lm.architecture.skeleton`)."""
    config = text_config(causal)
    decoder = causal.get_decoder()
    layers = [module for module in decoder.modules() if isinstance(module, nn.Linear | Conv1D)]
    held_as = sum(module.weight.numel() for module in layers)  # two weights in one number where NF4 packs them
    linear = sum(m.in_features * m.out_features if isinstance(m, nn.Linear) else m.weight.numel() for m in layers)
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    held = getattr(config, "num_key_value_heads", None) or heads
    attending = sum(hasattr(layer, "get_seq_length") for layer in own_cache(causal).layers)
    return Shape(
        linear=linear,
        rest=sum(p.numel() for p in causal.parameters()) - held_as,
        cached=2 * attending * held * head,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocabulary=config.vocab_size,
    )


def fit(shape: Shape, card_gb: int, quantization: str, checkpointing: bool) -> Fit:
    """How much of a job fits a card of so many GB, in bf16 beside the base model. Pure arithmetic."""
    weights = shape.weights_bytes(quantization)
    room = USABLE * card_gb * 1e9 - weights
    return Fit(
        card_gb,
        round(weights / 1e9, 1),
        _tokens(room / shape.writing_bytes()),
        _tokens((room - shape.adapter_bytes()) / shape.training_bytes(checkpointing)),
    )


def estimate(spec: LLMConfig, cache: Path) -> list[str]:
    """A sentence a card for plans: what would fit it, from the model's configuration alone.

    Raises:
        ModelError: as `r4r.lm.architecture.skeleton`.
    """
    shape = shape_of(skeleton(resolve_texts(spec.source, spec.sha256, spec.revision, cache)))
    lines = []
    for card in CARDS_GB:
        found = fit(shape, card, spec.quantization, spec.gradient_checkpointing)
        what = f"{card} GB: base model {found.weights_gb:g} GB"
        if found.batch_tokens is None:
            lines.append(f"{what}: does not fit")
            continue
        trained = f"{found.micro_batch_tokens:,} in training" if found.micro_batch_tokens else "training does not fit"
        lines.append(f"{what}; tokens at once: {found.batch_tokens:,} in writing and rating, {trained}")
    return lines


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that this process may still take, what PyTorch holds in reserve included."""
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device)
    allowed = int(torch.cuda.get_per_process_memory_fraction(device) * total) - reserved
    return max(0, min(free, allowed)) + reserved - torch.cuda.memory_allocated(device)


def batch_tokens(spec: LLMConfig, causal: Any, device: torch.device) -> int:
    """`llm.batch_tokens`; null: on a GPU what half of the free memory holds, on a CPU 4,096."""
    if spec.batch_tokens is not None:
        return spec.batch_tokens
    if device.type != "cuda":
        return CPU_BATCH_TOKENS
    token = shape_of(causal).writing_bytes(causal.get_input_embeddings().weight.element_size())
    return _tokens(free_bytes(device) / 2 / token) or LEAST_TOKENS


def prefix_bytes(spec: LLMConfig, device: torch.device) -> int:
    """`llm.prefix_gb` in bytes; null: on a GPU a quarter of the free memory, on a CPU 4 GB."""
    if spec.prefix_gb is not None:
        return int(spec.prefix_gb * 2**30)
    return free_bytes(device) // 4 if device.type == "cuda" else int(CPU_PREFIX_GB * 2**30)


def memory_share(spec: LLMConfig, device: torch.device, beside: int = 0) -> float:
    """`llm.vllm.memory_share`; null: on a GPU nine tenths of what is free beside the base model that experts are
    trained on (while they are, vLLM sleeps); on a CPU half of the machine's memory.

    Args:
        beside: bytes of that base model, which may have been loaded before, or is yet to come.
    """
    if spec.vllm.memory_share is not None:
        return spec.vllm.memory_share
    if device.type != "cuda":
        return 0.5
    free = free_bytes(device) - max(0, beside - torch.cuda.memory_allocated(device))
    total = torch.cuda.get_device_properties(device).total_memory
    share = int(100 * USABLE * free / total) / 100  # rounded down
    if share <= 0:
        raise ModelError(
            f"{free / 2**30:.1f} GiB of the GPU are free for vLLM, which is too little; free some, or set llm.engine=hf"
        )
    return share


def _tokens(most: float) -> int | None:
    """The largest power of two within bounds: a little more or less free memory gives the same batches."""
    if most < LEAST_TOKENS:
        return None
    return min(MOST_TOKENS, 2 ** (int(most).bit_length() - 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's or the machine's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def forget(error: BaseException) -> None:
    """Let go of what the frames of an error, and of those that it came of, still hold: a model, in a failed job."""
    left: list[BaseException | None] = [error]
    known: set[int] = set()  # causes and contexts may lead in a circle
    while left:
        found = left.pop()
        if found is None or id(found) in known:
            continue
        known.add(id(found))
        traceback.clear_frames(found.__traceback__)
        left += [found.__cause__, found.__context__]


def release() -> None:
    """Give unused memory back: to other processes, and to allocations of other sizes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_halves(compute: Callable[[Sequence[int]], list[T]], rows: Sequence[int], what: str) -> list[T]:
    """A result for each row, computed all at once; where memory runs out, half of them at a time, and so on.

    Args:
        what: what is computed, for the error.

    Raises:
        ModelError: memory does not suffice for a single row.
    """
    try:
        return compute(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) == 1:
            told = (str(error).strip().splitlines() or ["no detail"])[0]
            raise ModelError(f"memory does not suffice to {what} a single row ({told}). {ADVICE}.") from error
    release()  # here, as the error's frames hold what was computed so far
    middle = len(rows) // 2
    return in_halves(compute, rows[:middle], what) + in_halves(compute, rows[middle:], what)
