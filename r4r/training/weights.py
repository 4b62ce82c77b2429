"""An adapter's weights in float32 while it trains, whatever type the base model computes in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from r4r.errors import TrainingError


class _Rounded(nn.Module):
    """A weight as the base model computes with it."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype)


class Masters:
    """The float32 weights of an adapter, of which each pass computes with a rounded copy.

    A copy in another type is part of the graph, so gradients reach the float32 weight, and add up there: in bf16, the
    gradients of many passes would lose what each adds.
    """

    def __init__(self, model: nn.Module, weights: Sequence[nn.Parameter]):
        """
        Args:
            model: the one whose modules hold the weights.
        """
        self.device, self.dtypes = weights[0].device, [weight.dtype for weight in weights]
        self.weights: list[nn.Parameter] = []
        self._owners: list[tuple[Any, str]] = []
        held = {
            id(p): (module, name) for module in model.modules() for name, p in module.named_parameters(recurse=False)
        }
        for weight in weights:
            owner, name = held[id(weight)]
            if weight.dtype != torch.float32:
                parametrize.register_parametrization(owner, name, _Rounded(weight.dtype), unsafe=True)
                weight = nn.Parameter(weight.detach().float())
                parametrized: Any = owner.parametrizations
                parametrized[name].original = weight
            self.weights.append(weight)
            self._owners.append((owner, name))

    @torch.no_grad()
    def settle(self) -> None:
        """Leave the weights where they were, in the type that they had; Lightning has moved them to the CPU."""
        for weight, (owner, name), dtype in zip(self.weights, self._owners, self.dtypes, strict=True):
            weight.data, weight.grad = weight.data.to(self.device), None
            if dtype != torch.float32:
                parametrize.remove_parametrizations(owner, name, leave_parametrized=False)
                setattr(owner, name, nn.Parameter(weight.to(dtype)))
        self._owners = []


@torch.no_grad()
def begin_with(lm: Any, adapter: str, folder: Path) -> None:
    """Give a fresh adapter the weights of a trained one.

    Args:
        folder: the trained adapter, in peft's format.

    Raises:
        TrainingError: it has another shape.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(folder), device="cpu")
    try:
        found: Any = set_peft_model_state_dict(lm.peft, weights, adapter_name=adapter)
    except RuntimeError as error:
        raise TrainingError(f"{adapter}: cannot begin with {folder}, whose shape is another one") from error
    if found.unexpected_keys:
        raise TrainingError(f"{adapter}: cannot begin with {folder}, which has weights that this adapter has not")


def check_moved(adapter: str, folder: Path, start: Path | None) -> None:
    """Check that a saved adapter is not the one that its training began with.

    Args:
        start: that one's folder; None: a fresh adapter, whose every B is zero.

    Raises:
        TrainingError: not one of its weights has changed.
    """
    from peft import load_peft_weights

    weights = load_peft_weights(str(folder), device="cpu")
    if start is None:
        moved = any(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name)
    else:
        before = load_peft_weights(str(start), device="cpu")
        moved = any(not torch.equal(weight, before[name]) for name, weight in weights.items())
    if not moved:
        raise TrainingError(
            f"{adapter}: the training changed not one weight of the adapter. Raise lr; where it learns from rewards, "
            f"{folder.parent / 'steps.png'} shows whether any answer was rewarded more than another"
        )
