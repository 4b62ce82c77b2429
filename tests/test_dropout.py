"""Dropout on a CPU: the right share falls out, the rest is scaled up, gradients follow the same mask."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r4r.lm.base import LanguageModel, Lora
from r4r.lm.dropout import QuickDropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_a_share_of_p_falls_out_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    out = QuickDropout(p)(torch.ones(1_000, 1_001))
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=0.002)
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    for along in (0, 1):  # no row or column is favoured
        assert float((out == 0).float().mean(dim=along).sub(p).abs().max()) < 0.08


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_any_shape_and_its_gradient_has_the_same_mask(shape: list[int]) -> None:
    x = torch.randn(shape, requires_grad=True)
    out = QuickDropout(0.3)(x)
    assert out.shape == x.shape
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(out, x * x.grad)


def test_it_is_reproducible_and_silent_outside_training() -> None:
    drop, x = QuickDropout(0.5), torch.randn(50, 50)
    torch.manual_seed(1)
    one, other = drop(x), drop(x)
    torch.manual_seed(1)
    assert torch.equal(drop(x), one)
    assert not torch.equal(one, other)
    drop.eval()
    assert torch.equal(drop(x), x)


def test_an_adapter_drops_with_it(load_tiny: Callable[..., LanguageModel]) -> None:
    lm = load_tiny()
    for name, p in (("reasoner", 0.2), ("predictor", 0.0)):
        lm.new_adapter(name, Lora(r=4, alpha=8, dropout=p), train_head=False, seed=0)
    layers = [module.lora_dropout for module in lm.peft.modules() if hasattr(module, "lora_dropout")]
    assert layers
    assert all(isinstance(layer["reasoner"], QuickDropout) and layer["reasoner"].p == 0.2 for layer in layers)
    assert all(isinstance(layer["predictor"], torch.nn.Identity) for layer in layers)
