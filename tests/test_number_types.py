"""Adapters of base models that compute in 16 bits: their weights and gradients are float32's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trained import Load, adapter, farthest, train

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example, response_loss
from r4r.training import module
from r4r.training.objectives import sft
from r4r.training.weights import Masters


def test_gradients_add_up_in_float32() -> None:
    """One and one, a thousand times: in bf16 a sum of ones ends at 256."""
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16))
    masters = Masters(model, list(model.parameters()))
    for _ in range(1000):
        model(torch.ones(1, 1, dtype=torch.bfloat16)).backward()
    (weight,) = masters.weights
    assert weight.grad is not None
    assert float(weight.grad) == 1000
    with torch.no_grad():
        weight.fill_(1.001)
    masters.settle()
    assert model[0].weight.dtype == torch.bfloat16
    assert model[0].weight.item() == 1.0
    assert type(model[0]) is torch.nn.Linear


def test_an_adapter_of_a_bf16_model_trains_in_float32(load_tiny: Load, tmp_path: Path) -> None:
    for name, budget in (("whole", 2048), ("parts", 64)):
        train(load_tiny(dtype="bfloat16"), tmp_path / name, micro_batch_tokens=budget, lr=1e-2)
    whole = adapter(tmp_path / "whole")
    assert {weight.dtype for weight in whole.values()} == {torch.bfloat16}
    assert farthest(whole, adapter(tmp_path / "parts")) < 2e-3  # what rounding of activations to bf16 leaves


@pytest.mark.parametrize("precision", [None, "32-true"])
def test_small_gradients_of_a_float16_model_are_not_lost(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str | None
) -> None:
    """The mean over a step of many tokens makes each one's gradient small: here a thousandth of what it is."""
    monkeypatch.setattr(sft, "response_loss", lambda lm, examples: response_loss(lm, examples) * 1e-3)
    found: dict[str, list[Tensor]] = {}
    check = module.ExpertModule.on_before_optimizer_step
    for dtype in ("float32", "float16"):
        own = found.setdefault(dtype, [])

        def kept(trained: module.ExpertModule, optimizer: Any, own: list[Tensor] = own) -> None:
            own.extend(p.grad.clone() for p in trained.master if p.grad is not None)
            check(trained, optimizer)

        monkeypatch.setattr(module.ExpertModule, "on_before_optimizer_step", kept)
        facts = train(load_tiny(dtype=dtype), tmp_path / dtype, epochs=1, trainer={"precision": precision})
        assert facts["steps_left_out"] is None
    exact, rounded = (torch.cat([g.flatten() for g in found[dtype]]) for dtype in found)
    assert float((exact - rounded).norm() / exact.norm()) < 0.05
    assert int(((rounded == 0) & (exact != 0)).sum()) < 0.01 * len(exact)


def test_a_step_that_float16_cannot_hold_is_left_out_and_counted(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def at_first_too_large(lm: LanguageModel, examples: list[Example]) -> Tensor:
        calls.append(1)
        return response_loss(lm, examples) * (1e9 if len(calls) == 2 else 1)

    monkeypatch.setattr(sft, "response_loss", at_first_too_large)
    facts = train(load_tiny(dtype="float16"), tmp_path / "once", epochs=3)
    assert facts["steps_left_out"] == 1
    monkeypatch.setattr(sft, "response_loss", lambda lm, examples: response_loss(lm, examples) * float("inf"))
    with pytest.raises(TrainingError, match="not finite"):
        train(load_tiny(dtype="float16"), tmp_path / "never", epochs=30)
