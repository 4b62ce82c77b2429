"""Training an adapter: the loss is transformers' own, batching does not change it, and a killed run continues."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from r4r.configuration.schema import TrainerConfig
from r4r.configuration.trainer import TAKEN, trainer_arguments
from r4r.errors import ModelError, TrainingError
from r4r.experts.predictor import Predictor
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF
from r4r.lm.loss import Example, response_loss
from r4r.lm.memory import Shape, shape_of
from r4r.training import memory, module, ranks
from r4r.training.fit import CHECKPOINT, fit
from r4r.training.memory import tokens_for
from r4r.training.objectives import sft
from r4r.training.objectives.base import encode
from r4r.training.objectives.sft import SFT
from r4r.training.weights import Masters

Load = Callable[..., LanguageModel]

PROMPTS = [
    "music",
    "the user would enjoy the melody",
    "title 1: " + "predict the rating. " * 5,
    "lyrics and vocals " * 3,
]
REPLIES = ["Predicted Rating: 5.0", "the vocals", "Predicted Rating: 1.0", "dislike because of the rhythm"]
TEXTS = [(n, PROMPTS[n % 4] + str(n), REPLIES[n % 4]) for n in range(8)]


class Killed(Exception):
    pass


def train(
    lm: LanguageModel,
    folder: Path,
    log: Callable[[dict[str, float]], None] = lambda metrics: None,
    texts: list[tuple[int, str, str]] = TEXTS,
    micro_batch_tokens: int | None = 2048,
    every_s: float = 3600,
    trainer: dict[str, Any] | None = None,
    valid: list[tuple[int, str, str]] | None = None,
    start: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    chosen: dict[str, Any] = {"lora": {"r": 4, "alpha": 8}, "lr": 1e-3, "epochs": 2, "batch_size": 4, "warmup": 0.1}
    folder.mkdir(exist_ok=True)
    own: dict[str, Any] = {"micro_batch_tokens": micro_batch_tokens, "checkpoint_every_s": every_s}
    config = TrainerConfig(**{"accelerator": "cpu", **own, **(trainer or {})})
    expert = Predictor(**(chosen | settings))
    examples, held_out = (expert.objective.encode(lm, part) for part in (texts, valid or []))
    return fit(expert, lm, "predictor", examples, folder, config, 3, log, held_out, start)


def adapter(folder: Path) -> dict[str, Tensor]:
    (file,) = (folder / "adapter").glob("*.safetensors")
    return load_file(file)


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


def logits(lm: LanguageModel) -> Tensor:
    with torch.no_grad(), lm.using("predictor"):
        ids = torch.tensor([lm.chat.prompt_ids(PROMPTS[1])])
        return lm.logits(lm.hidden(input_ids=ids).last_hidden_state)


# the loss


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


# what is learnt and kept


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


# a killed run


@pytest.mark.parametrize("killed_at", [1, 2, 3, 6])
def test_a_killed_training_ends_as_an_unbroken_one(load_tiny: Load, tmp_path: Path, killed_at: int) -> None:
    settings: dict[str, Any] = {"epochs": 3, "lora": {"r": 4, "alpha": 8, "dropout": 0.2}}
    train(load_tiny(), tmp_path / "unbroken", **settings)

    def kill(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "broken", kill, every_s=0, **settings)
    assert not (tmp_path / "broken" / "adapter").exists()
    steps: list[float] = []
    facts = train(
        load_tiny(), tmp_path / "broken", lambda m: steps.append(m["predictor/train/step"]), every_s=0, **settings
    )
    kept = min(killed_at, 5)  # the last step's checkpoint is the adapter
    assert steps == list(range(kept + 1, 7))
    assert facts["resumed_at_step"] == kept
    assert farthest(adapter(tmp_path / "unbroken"), adapter(tmp_path / "broken")) == 0
    assert not (tmp_path / "broken" / CHECKPOINT).exists()


def test_a_checkpoint_holds_the_adapter_and_not_the_base(load_tiny: Load, tmp_path: Path) -> None:
    def kill(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(load_tiny(), tmp_path, kill, every_s=0)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    train(load_tiny(), tmp_path)
    assert sum(w.numel() for w in state["state_dict"].values()) == sum(w.numel() for w in adapter(tmp_path).values())


def test_the_seed_decides_the_adapter(load_tiny: Load, tmp_path: Path) -> None:
    lm = load_tiny()
    train(lm, tmp_path / "one")
    torch.manual_seed(99)
    train(lm, tmp_path / "two")
    assert farthest(adapter(tmp_path / "one"), adapter(tmp_path / "two")) == 0


class Paged(torch.optim.AdamW):
    """Marks its states as paged memory, as bitsandbytes does; where one marked is not of its making, it would exit."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.own: set[int] = set()

    def step(self, closure: Any = None) -> Any:
        for state in self.state.values():
            for value in state.values():
                assert id(value) in self.own or not hasattr(value, "is_paged"), "the process ends here"
        done = super().step(closure)
        for state in self.state.values():
            for value in state.values():
                value.is_paged = True
                self.own.add(id(value))
        return done


def test_paged_states_are_resumed_as_ordinary_ones(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == 2:
            raise Killed

    train(load_tiny(), tmp_path / "unbroken")
    monkeypatch.setattr(
        module,
        "make_optimizer",
        lambda name, weights, lr, on_gpu, scaled: Paged(weights, lr=lr, weight_decay=0.0),
    )
    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "paged", kill, every_s=0)
    assert train(load_tiny(), tmp_path / "paged")["resumed_at_step"] == 2
    assert farthest(adapter(tmp_path / "unbroken"), adapter(tmp_path / "paged")) == 0


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


# memory


def test_passes_are_halved_where_memory_runs_out(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def short(lm: LanguageModel, examples: list[Example]) -> Tensor:
        calls.append(len(examples) * max(len(e) for e in examples))
        if calls[-1] > 300 and len(calls) > 1:  # one pass still fits, then something else takes the memory
            raise torch.OutOfMemoryError("CUDA out of memory")
        return response_loss(lm, examples)

    monkeypatch.setattr(sft, "response_loss", short)
    steps: list[float] = []
    facts = train(
        load_tiny(), tmp_path / "short", lambda m: steps.append(m["predictor/train/step"]), epochs=3, batch_size=8
    )
    assert max(calls[1:]) > 300
    assert calls[-1] <= 300
    assert steps == [1, 2, 3]
    assert facts["passes_a_step"] > 1
    assert "memory ran out; going on with passes of" in capfd.readouterr().err
    train(load_tiny(), tmp_path / "roomy", epochs=3, batch_size=8, micro_batch_tokens=2048)
    assert farthest(adapter(tmp_path / "roomy"), adapter(tmp_path / "short")) < 1e-5


def test_memory_that_runs_out_in_the_optimizer_is_told(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(optimizer: Any, closure: Any) -> Any:
        closure()  # Lightning's: forward, backward, clipping
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingError, match=r"as the optimizer moved the weights.*trainer\.micro_batch_tokens"):
        train(load_tiny(), tmp_path)


def test_a_training_gives_back_what_it_does_not_use(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each process's GPU: else who writes next, on the same ones, finds no room."""
    told: list[str] = []
    monkeypatch.setattr(memory, "release", lambda: told.append("released"))
    monkeypatch.setattr(ranks, "every", lambda own: told.append("met") or [own])
    train(load_tiny(), tmp_path)
    assert told[-2:] == ["released", "met"]


def test_an_example_that_does_not_fit_names_what_changes_no_artifact_first(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(lm: LanguageModel, examples: list[Example]) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sft, "response_loss", none)
    with pytest.raises(
        TrainingError, match=r"one example of \d+ tokens.*gradient_checkpointing=true.*quantization=nf4"
    ):
        train(load_tiny(), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_the_size_of_a_pass_follows_from_the_free_memory(tiny: LanguageModel) -> None:
    small = shape_of(tiny.causal)
    sizes = [tokens_for(free * 2**30, small, 2, checkpointing)[0] for free in (0.001, 1) for checkpointing in (0, 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1]
    llama3_8b = Shape(linear=0, rest=0, cached=0, layers=32, hidden=4096, intermediate=14336, vocabulary=128256)
    assert 1000 < tokens_for(18 * 2**30, llama3_8b, 2, False)[0] < 4000  # 24 GB beside the weights in NF4
    assert tokens_for(18 * 2**30, llama3_8b, 2, True)[0] > 15_000


# objectives


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


# what is measured, and when a training stops


def test_held_out_texts_are_measured_after_each_epoch(load_tiny: Load, tmp_path: Path) -> None:
    lm, seen = load_tiny(), []
    train(lm, tmp_path, seen.append, valid=[(9, "lyrics", "the vocals"), (10, "music", "a melody")], epochs=3)
    losses = [entry["predictor/valid/loss"] for entry in seen if "predictor/valid/loss" in entry]
    assert len(losses) == 3
    with torch.no_grad(), lm.using("predictor"):
        examples = encode(lm, [(9, "lyrics", "the vocals"), (10, "music", "a melody")])
        possible = [float(response_loss(lm, [e])) / len(e.response) for e in examples]
    assert losses[-1] in [pytest.approx(loss, abs=1e-4) for loss in possible]  # one text to eight examples
    steps = [entry["predictor/train/step"] for entry in seen if "predictor/valid/loss" in entry]
    assert steps == [2, 4, 6]


def test_measuring_held_out_texts_changes_nothing_that_is_learnt(load_tiny: Load, tmp_path: Path) -> None:
    states = []
    for name, valid in (("plain", []), ("measured", [(9, "lyrics", "the vocals")])):
        dropout = {"lora": {"r": 4, "alpha": 8, "dropout": 0.3}}
        train(load_tiny(), tmp_path / name, valid=valid, epochs=3, **dropout)
        states.append(torch.random.get_rng_state())
    assert farthest(adapter(tmp_path / "plain"), adapter(tmp_path / "measured")) == 0
    assert torch.equal(*states)


def test_a_callback_stops_a_training(load_tiny: Load, tmp_path: Path) -> None:
    stop = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "predictor/valid/loss"}
    callbacks = {"callbacks": {"stop": {**stop, "min_delta": 100.0, "patience": 1}}}
    facts = train(load_tiny(), tmp_path, trainer=callbacks, valid=TEXTS[:4], epochs=5)
    assert (facts["epochs"], facts["steps"], facts["stopped"]) == (2, 4, "a callback stopped it")
    facts = train(load_tiny(), tmp_path, trainer={"max_steps": 3}, epochs=5)
    assert (facts["steps"], facts["stopped"]) == (3, "max_steps")


def test_arguments_of_the_trainer_are_passed_on(load_tiny: Load, tmp_path: Path) -> None:
    train(load_tiny(), tmp_path / "plain")
    train(load_tiny(), tmp_path / "mixed", trainer={"precision": "bf16-mixed", "log_every_n_steps": 2})
    assert farthest(adapter(tmp_path / "plain"), adapter(tmp_path / "mixed")) > 0
    with pytest.raises(TrainingError, match=r"Lightning refuses these settings: .*profiler"):
        train(load_tiny(), tmp_path / "wrong", trainer={"profiler": "smple"})


def test_what_changes_an_adapter_is_in_its_key() -> None:
    stop = {"callbacks": {"stop": {"_target_": "pytorch_lightning.callbacks.EarlyStopping"}}}
    assert TrainerConfig(valid_rows=8).identity() == TrainerConfig().identity()
    assert TrainerConfig(valid_rows=8, **stop).identity() != TrainerConfig(**stop).identity()
    same = {"devices": "auto", "strategy": "ddp", "benchmark": True, "log_every_n_steps": 5, "precision": "32-true"}
    assert TrainerConfig(**same, micro_batch_tokens=64).identity() == {}
    callbacks = [{"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "x"}]
    told = {"max_steps": 5, "precision": "bf16-mixed", "callbacks": callbacks}
    assert TrainerConfig(**told).identity() == told


def test_every_argument_of_the_trainer_is_a_setting_or_refused() -> None:
    import inspect

    import pytorch_lightning as pl

    names = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert names == set(trainer_arguments()) <= set(TrainerConfig.model_fields)
    assert set(TAKEN) <= names


# refusals


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
