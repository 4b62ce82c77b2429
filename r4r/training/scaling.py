"""Gradients of a base model that computes in float16 (T4, V100), where small ones would round to zero."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pytorch_lightning.plugins.precision import MixedPrecision

FIRST = 2.0**12  # of a loss that is a mean over all tokens of a step, of which there are some thousand


class Scaled(MixedPrecision):
    """Lightning's scaling of losses (arXiv 1710.03740), over a model that computes in its own type, without autocast.

    Where a gradient is not finite, the step is left out and the scale halved.
    """

    def __init__(self, device: str):
        super().__init__("16-mixed", device, torch.amp.GradScaler(device, init_scale=FIRST))

    @contextmanager
    def forward_context(self) -> Iterator[None]:  # type: ignore[override]
        yield
