"""Which optimizer, and its state in a form that can be written to disk and read back."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from r4r.errors import TrainingError

Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]


def make_optimizer(
    name: Optimizer, weights: Sequence[nn.Parameter], lr: float, on_gpu: bool, mixed: bool = False
) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) without weight decay; with 8-bit moments (arXiv 2110.02861) on a GPU alone.

    An adapter of 42 million weights has 335 MB of moments in float32; eight bits are for trained output heads.

    Args:
        mixed: whether Lightning's mixed precision clips the gradients (bf16-mixed, 16-mixed), which it refuses to do
            for a fused optimizer, as that one could unscale them only after clipping.

    Raises:
        TrainingError: eight bits are asked for without a GPU.
    """
    if name == "adamw":
        return torch.optim.AdamW(weights, lr=lr, weight_decay=0.0, fused=on_gpu and not mixed)
    if not on_gpu:
        raise TrainingError(f"optimizer={name} works on a GPU alone; take experts.<name>.optimizer=adamw")
    import bitsandbytes.optim

    kind = bitsandbytes.optim.PagedAdamW8bit if name == "paged_adamw_8bit" else bitsandbytes.optim.AdamW8bit
    return kind(weights, lr=lr, weight_decay=0.0)


def plain(state: Any) -> Any:
    """An optimizer's state with each tensor as an ordinary one in CPU memory.

    bitsandbytes marks paged tensors by an attribute that outlives saving and loading. It would then prefetch ordinary
    memory as if it were paged, and end the process, without an error that Python could tell.
    """
    if isinstance(state, Tensor):
        return torch.empty_like(state, device="cpu", memory_format=torch.contiguous_format).copy_(state.detach())
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(plain(value) for value in state)
    return state
