"""Training an adapter: the loss is that of transformers, however it is batched; what cannot be learnt is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from trained import TEXTS, Load, adapter, farthest, train

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.loss import Example, response_loss
from r4r.training.objectives import sft
from r4r.training.objectives.base import encode
from r4r.training.objectives.sft import SFT


def test_the_loss_is_that_of_transformers_with_the_prompt_masked(tiny: LanguageModel) -> None:
    examples = encode(tiny, TEXTS[:4])
    width = max(len(e) for e in examples)
    ids = torch.zeros(4, width, dtype=torch.long)
    labels = torch.full((4, width), -100)
    mask = torch.zeros(4, width, dtype=torch.long)
    for n, e in enumerate(examples):
        ids[n, : len(e)] = torch.tensor((*e.prompt, *e.response))
        labels[n, len(e.prompt) : len(e)] = torch.tensor(e.response)
        mask[n, : len(e)] = 1
    with torch.no_grad():
        mean = tiny.causal(input_ids=ids, attention_mask=mask, labels=labels).loss
        summed = response_loss(tiny, examples)
    assert float(summed / sum(len(e.response) for e in examples)) == pytest.approx(float(mean), abs=1e-5)


def test_the_end_of_the_turn_is_learnt(tiny: LanguageModel) -> None:
    (example,) = encode(tiny, TEXTS[:1])
    assert example.response[-1] == tiny.chat.end_ids[0]
    assert example.prompt == tuple(tiny.chat.prompt_ids(TEXTS[0][1]))


def test_gradients_add_up_over_micro_batches(load_tiny: Load) -> None:
    lm = load_tiny()
    weights = lm.new_adapter("predictor", Lora(r=4, alpha=8), train_head=False, seed=0)
    with torch.no_grad():  # B begins at zero, which leaves A without a gradient
        for weight in weights:
            weight.add_(0.01)
    examples = encode(lm, TEXTS)

    def gradients(groups: list[list[Example]]) -> list[Tensor]:
        for weight in weights:
            weight.grad = None
        for group in groups:
            response_loss(lm, group).backward()
        return [weight.grad.clone() for weight in weights if weight.grad is not None]

    whole, parts = gradients([examples]), gradients([examples[:1], examples[1:4], examples[4:]])
    assert len(whole) == len(parts) == len(weights)
    assert all(bool(gradient.any()) for gradient in whole)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_micro_batches_do_not_change_the_adapter(load_tiny: Load, tmp_path: Path) -> None:
    train(load_tiny(), tmp_path / "large", batch_size=8)
    train(load_tiny(), tmp_path / "small", batch_size=8, micro_batch_tokens=64)
    assert farthest(adapter(tmp_path / "large"), adapter(tmp_path / "small")) < 1e-5


def test_checkpointed_layers_are_computed_twice_and_learn_the_same(load_tiny: Load, tmp_path: Path) -> None:
    calls: dict[str, int] = {}
    for name in ("plain", "checkpointed"):
        lm = load_tiny(gradient_checkpointing=name == "checkpointed")
        count: list[int] = []
        lm.causal.model.layers[1].mlp.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        train(lm, tmp_path / name, lora={"r": 4, "alpha": 8, "dropout": 0.2})
        calls[name] = len(count)
    assert calls["checkpointed"] == 2 * calls["plain"] > 0
    assert farthest(adapter(tmp_path / "plain"), adapter(tmp_path / "checkpointed")) < 1e-6


def test_four_examples_are_learnt_by_heart(load_tiny: Load, tmp_path: Path) -> None:
    lm = load_tiny()
    seen: list[dict[str, float]] = []
    facts = train(
        lm, tmp_path, seen.append, TEXTS[:4], lora={"r": 16, "alpha": 32}, lr=2e-2, epochs=40, train_lm_head=True
    )
    losses = [entry["predictor/train/loss"] for entry in seen]
    assert len(losses) == facts["steps"] == 40
    assert losses[0] > 4
    assert losses[-1] < losses[0] / 4
    assert losses[0] == pytest.approx(facts["first_loss"], abs=1e-4)
    assert losses[-1] == pytest.approx(facts["last_loss"], abs=1e-4)


def test_the_rate_rises_and_falls_to_zero(load_tiny: Load, tmp_path: Path) -> None:
    rates: list[float] = []
    train(load_tiny(), tmp_path, lambda m: rates.append(m["predictor/train/lr"]), epochs=5, warmup=3)
    top = rates.index(max(rates))
    assert len(rates) == 10
    assert top == 3
    assert max(rates) == pytest.approx(1e-3)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.2 * max(rates)


def test_the_rating_alone_is_learnt_where_asked_for(load_tiny: Load) -> None:
    lm = load_tiny()
    (whole,), (digit,) = (SFT(on).encode(lm, TEXTS[:1]) for on in ("response", "digit"))
    learnt = [digit.response[place] for place in digit.places]
    assert lm.chat.tokenizer.decode(learnt).strip() == "5.0"
    assert SFT("digit").weight(digit) == len(learnt) < SFT().weight(whole) == len(whole.response)
    other = replace(digit, response=tuple(t if n in digit.places else 0 for n, t in enumerate(digit.response)))
    lengths = {len(example.places) for example in (digit, other)}
    assert lengths == {len(learnt)}
    with torch.no_grad():
        assert float(response_loss(lm, [digit])) < float(response_loss(lm, [whole]))
    with pytest.raises(TrainingError, match=r"row 1: .*loss_on=digit"):
        SFT("digit").encode(lm, TEXTS[1:2])


def test_an_objective_that_begins_with_another_adapter_does(load_tiny: Load, tmp_path: Path) -> None:
    class Onward(SFT):
        starts_from = "sft"

    train(load_tiny(), tmp_path / "first", lr=1e-2)
    train(load_tiny(), tmp_path / "onward", objective=Onward(), start=tmp_path / "first" / "adapter", lr=1e-9)
    assert farthest(adapter(tmp_path / "first"), adapter(tmp_path / "onward")) < 1e-6
    with pytest.raises(TrainingError, match="needs the adapter that sft trained"):
        train(load_tiny(), tmp_path / "alone", objective=Onward())


def test_an_objective_that_lacks_a_service_is_refused(load_tiny: Load, tmp_path: Path) -> None:
    class Rewarded(SFT):
        needs = frozenset({"reward"})

    with pytest.raises(TrainingError, match="Rewarded needs reward"):
        train(load_tiny(), tmp_path, objective=Rewarded())


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epoch_is_an_error(load_tiny: Load, tmp_path: Path, epochs: int) -> None:
    with pytest.raises(TrainingError, match="trains nothing"):
        train(load_tiny(), tmp_path, epochs=epochs)
    assert not (tmp_path / "adapter").exists()


def test_eight_bits_need_a_gpu(load_tiny: Load, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="optimizer=paged_adamw_8bit works on a GPU alone"):
        train(load_tiny(), tmp_path, optimizer="paged_adamw_8bit")


def test_a_gradient_of_zero_is_an_error(load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sft, "response_loss", lambda lm, examples: response_loss(lm, examples) * 0)
    with pytest.raises(TrainingError, match="gradient of exactly zero"):
        train(load_tiny(), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_a_gradient_that_is_not_finite_is_an_error(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "response_loss", lambda lm, examples: response_loss(lm, examples) * float("inf"))
    with pytest.raises(TrainingError, match="not finite"):
        train(load_tiny(), tmp_path)


def test_nothing_to_train_on_is_an_error(load_tiny: Load, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no example"):
        train(load_tiny(), tmp_path, texts=[])


def test_a_text_that_is_too_long_names_its_row(load_tiny: Load) -> None:
    lm = load_tiny(max_length=64)
    with pytest.raises(TrainingError, match=r"row 7:.*max_length=64"):
        encode(lm, [(3, "music", "the melody"), (7, "music " * 80, "the melody")])
