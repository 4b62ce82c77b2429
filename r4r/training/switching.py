"""Other adapters in the middle of a training: the same base model writes, rates and refers with them."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from r4r.lm.base import LanguageModel


@contextmanager
def set_aside(lm: LanguageModel, adapter: str) -> Iterator[None]:
    """Use the base model with whichever adapters, while one of them trains; afterwards that one trains on.

    Args:
        adapter: the one that trains.
    """
    weights = [p for p in lm.causal.parameters() if p.requires_grad]
    was_training = lm.causal.training
    lm.causal.eval()
    try:
        yield
    finally:
        with lm.using(adapter):  # takes a merged adapter out of the base model's weights again
            pass
        for weight in weights:
            weight.requires_grad_(True)
        lm.causal.train(was_training)


def without_dropout(model: nn.Module) -> None:
    """Leave a model in training (its layers may be checkpointed), its dropout off."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
