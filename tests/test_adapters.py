"""Adapters: saved and loaded, side by side on one base model, merged into its weights and taken out again."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trained import PROMPTS, TEXTS, Load, adapter, farthest, logits, train

from r4r.errors import ModelError
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF
from r4r.lm.loss import response_loss
from r4r.training.objectives.base import encode


@pytest.mark.parametrize("train_lm_head", [False, True], ids=["adapter", "adapter and head"])
def test_a_saved_adapter_answers_as_the_trained_one(load_tiny: Load, tmp_path: Path, train_lm_head: bool) -> None:
    lm = load_tiny()
    before = lm.logits(lm.hidden(input_ids=torch.tensor([lm.chat.prompt_ids(PROMPTS[1])])).last_hidden_state)
    train(lm, tmp_path, lr=1e-2, train_lm_head=train_lm_head)
    trained = logits(lm)
    assert float((trained - before).abs().max()) > 1e-2
    fresh = load_tiny()
    fresh.load_adapter("predictor", tmp_path / "adapter")
    torch.testing.assert_close(logits(fresh), trained, rtol=0, atol=1e-6)
    with lm.using(None), torch.no_grad():
        base = lm.logits(lm.hidden(input_ids=torch.tensor([lm.chat.prompt_ids(PROMPTS[1])])).last_hidden_state)
    torch.testing.assert_close(base, before, rtol=0, atol=0)


def test_two_adapters_on_one_base_do_not_mix(load_tiny: Load, tmp_path: Path) -> None:
    alone = load_tiny()
    train(alone, tmp_path / "alone")
    both = load_tiny()
    both.new_adapter("reasoner", Lora(r=8), train_head=True, seed=9)
    train(both, tmp_path / "both")
    assert farthest(adapter(tmp_path / "alone"), adapter(tmp_path / "both")) == 0
    with both.using("reasoner"):
        pass
    torch.testing.assert_close(logits(both), logits(alone), rtol=0, atol=0)


def test_an_adapter_with_a_head_can_be_dropped(load_tiny: Load, tmp_path: Path) -> None:
    lm = load_tiny()
    before = lm.logits(lm.hidden(input_ids=torch.tensor([lm.chat.prompt_ids(PROMPTS[1])])).last_hidden_state)
    lm.new_adapter("reasoner", Lora(r=4), train_head=True, seed=0)
    lm.drop_adapter("reasoner")
    lm.new_adapter("reasoner", Lora(r=4), train_head=True, seed=0)
    lm.new_adapter("predictor", Lora(r=4), train_head=False, seed=0)  # B is zero: answers as the base does
    torch.testing.assert_close(logits(lm), before, rtol=0, atol=1e-6)
    lm.drop_adapter("reasoner")
    torch.testing.assert_close(logits(lm), before, rtol=0, atol=1e-6)


def base_weights(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: p.clone() for name, p in lm.causal.named_parameters() if "lora_" not in name}


@pytest.mark.parametrize("train_lm_head", [False, True], ids=["adapter", "adapter and head"])
def test_merged_adapters_answer_as_they_do_apart(load_tiny: Load, tmp_path: Path, train_lm_head: bool) -> None:
    lm, apart = load_tiny(), load_tiny(merge_adapters=False)
    together, alone = HF(lm), HF(apart)
    for n, name in enumerate(("predictor", "reasoner")):
        train(load_tiny(), tmp_path / name, lr=(n + 1) * 1e-2, train_lm_head=train_lm_head)
        for engine in (together, alone):
            engine.load_adapter(name, tmp_path / name / "adapter")
    before = base_weights(lm)
    prompts = [lm.chat.prompt_ids(text) for text in PROMPTS]
    for name in ("predictor", "reasoner", None, "predictor"):
        assert together.write(prompts, name, 12) == alone.write(prompts, name, 12)
        torch.testing.assert_close(together.rate(prompts, name), alone.rate(prompts, name), rtol=0, atol=1e-5)
    assert any(not torch.equal(weight, before[name]) for name, weight in base_weights(lm).items()), "nothing is merged"
    assert not torch.equal(together.rate(prompts, "reasoner"), together.rate(prompts, "predictor"))
    torch.testing.assert_close(logits(lm), logits(apart), rtol=0, atol=0)


@pytest.mark.parametrize("then", ["train", "drop"])
def test_the_base_model_is_its_own_again_after_a_merge(load_tiny: Load, tmp_path: Path, then: str) -> None:
    lm = load_tiny()
    before = base_weights(lm)
    train(lm, tmp_path / "first", lr=1e-2)
    HF(lm).rate([lm.chat.prompt_ids("music")], "predictor")
    if then == "drop":
        lm.drop_adapter("predictor")
    else:
        train(lm, tmp_path / "second", lr=1e-2)
        assert farthest(adapter(tmp_path / "first"), adapter(tmp_path / "second")) == 0
    after = {name.replace("base_layer.", ""): weight for name, weight in base_weights(lm).items()}
    assert after.keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"merge_adapters": False}], ids=str)
def test_an_adapter_stays_apart_where_it_would_be_rounded_away(load_tiny: Load, settings: dict[str, Any]) -> None:
    lm = load_tiny(**settings)
    weights = lm.new_adapter("predictor", Lora(r=4, alpha=8), train_head=False, seed=0)
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.01)
    own = base_weights(lm)
    HF(lm).rate([lm.chat.prompt_ids("music")], "predictor")
    assert all(torch.equal(weight, own[name]) for name, weight in base_weights(lm).items())


def test_sixteen_bits_take_an_adapter_where_that_is_asked_for(load_tiny: Load, tmp_path: Path) -> None:
    train(load_tiny(), tmp_path, lr=1e-2)
    rated = {}
    for merge in (None, True):
        lm = load_tiny(dtype="bfloat16", merge_adapters=merge)
        own, engine = base_weights(lm), HF(lm)
        engine.load_adapter("predictor", tmp_path / "adapter")
        rated[merge] = engine.rate([lm.chat.prompt_ids("music")], "predictor")
        loaded = {name.replace("base_layer.", ""): weight for name, weight in base_weights(lm).items()}
        assert any(not torch.equal(weight, own[name]) for name, weight in loaded.items()) == bool(merge)
    torch.testing.assert_close(rated[True], rated[None], rtol=0, atol=0.01)


def test_a_saved_adapters_settings_are_the_same_on_every_run(load_tiny: Load, tmp_path: Path) -> None:
    saved = []
    for number in range(2):
        train(load_tiny(), tmp_path / str(number))
        saved.append((tmp_path / str(number) / "adapter" / "adapter_config.json").read_bytes())
    settings = json.loads(saved[0])
    assert saved[0] == saved[1]
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert str(tmp_path) not in saved[0].decode()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "0/adapter").iterdir()}
    (tmp_path / "usual").touch()
    assert modes == {stat.S_IMODE((tmp_path / "usual").stat().st_mode)}


def test_only_the_adapter_is_saved(load_tiny: Load, tmp_path: Path) -> None:
    lm = load_tiny()
    train(lm, tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    weights = adapter(tmp_path)
    assert all("lora_" in name for name in weights)
    rank, layers = 4, 2
    widths = 2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64)  # q and o, k and v, gate, up and down
    assert sum(w.numel() for w in weights.values()) == layers * rank * widths


def test_a_folder_without_adapter_is_named(load_tiny: Load, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        load_tiny().load_adapter("predictor", tmp_path)


def test_four_bit_weights_pass_gradients_after_evaluation(load_tiny: Load) -> None:
    lm = load_tiny(quantization="nf4")
    (example,) = encode(lm, TEXTS[:1])
    weights = lm.new_adapter("predictor", Lora(r=4), train_head=False, seed=0)
    lm.causal.eval()
    with torch.no_grad():
        response_loss(lm, [example])
    lm.causal.train()
    response_loss(lm, [example]).backward()
    alive = [weight for weight in weights if weight.grad is not None and bool(weight.grad.any())]
    assert len(alive) == len(weights) / 2, "every B matrix has a gradient, and A none before B has moved"
