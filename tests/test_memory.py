"""Memory: what fits a card by a model's shape, and what happens where it does not suffice."""

import gc
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.lm import engine as engines
from r4r.lm import memory
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF
from r4r.lm.memory import CARDS_GB, Shape, batch_tokens, estimate, fit, in_halves, memory_share, prefix_bytes
from r4r.lm.vllm_base import VLLM
from r4r.stages.stage import Job
from r4r.training import likelihood as likelihoods
from r4r.training.likelihood import frozen_logps
from r4r.training.objectives.base import encode

LLAMA3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
SHAPE = Shape(
    linear=32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336),
    rest=2 * 128256 * 4096 + 65 * 4096,
    cached=2 * 32 * 8 * 128,
    layers=32,
    hidden=4096,
    intermediate=14336,
    vocabulary=128256,
)
TEXTS = ["music", "the user would enjoy the melody", "title 1", "lyrics and vocals", "a 5"]


@pytest.fixture
def llama3(tmp_path: Path) -> LLMConfig:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA3_8B))
    return LLMConfig(name="llama3_8b", source=f"path:{tmp_path}", quantization="nf4", gradient_checkpointing=True)


def test_a_shape_is_read_off_the_configuration_alone(llama3: LLMConfig, tmp_path: Path) -> None:
    assert memory.shape_of(memory.skeleton(tmp_path)) == SHAPE
    lines = estimate(llama3, tmp_path)
    assert [line.split(":")[0] for line in lines] == [f"{card} GB" for card in CARDS_GB]
    assert "tokens at once" in lines[1]


def test_llama_3_8b_on_the_usual_cards() -> None:
    """Its weights take 16 GB in bf16 and under 6 in NF4: with these it trains on 16 GB, with those from 24 on."""
    assert SHAPE.weights_bytes("none") == pytest.approx(16.06e9, rel=0.01)
    assert SHAPE.weights_bytes("nf4") == pytest.approx(5.7e9, rel=0.02)
    packed = [fit(SHAPE, card, "nf4", checkpointing=True) for card in CARDS_GB]
    whole = [fit(SHAPE, card, "none", checkpointing=True) for card in CARDS_GB]
    assert all(found.batch_tokens and found.micro_batch_tokens for found in packed)
    assert (whole[0].batch_tokens, whole[0].micro_batch_tokens) == (None, None)
    assert all(found.batch_tokens for found in whole[1:])
    for found in (packed, whole):
        tokens = [one.batch_tokens or 0 for one in found]
        assert tokens == sorted(tokens)
    bare = fit(SHAPE, 24, "nf4", checkpointing=False)
    assert (bare.micro_batch_tokens or 0) < (packed[1].micro_batch_tokens or 0)


def test_on_a_cpu_null_is_a_fixed_number(tiny: LanguageModel) -> None:
    assert tiny.spec.batch_tokens is None
    assert HF(tiny).batch_tokens == 4096
    assert HF(tiny).prefix_bytes == 4 * 2**30
    assert memory_share(tiny.spec, torch.device("cpu")) == 0.5


def test_on_a_gpu_null_is_what_is_free(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, told = torch.device("cuda"), LLMConfig(name="t", source="tiny:", batch_tokens=99, prefix_gb=1)
    found = []
    for free in (2e9, 3e9, 4e10):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: int(free))
        found.append(batch_tokens(tiny.spec, tiny.causal, gpu))
        assert prefix_bytes(tiny.spec, gpu) == int(free) // 4
        assert (batch_tokens(told, tiny.causal, gpu), prefix_bytes(told, gpu)) == (99, 2**30)
    assert found == sorted(found)
    assert all(tokens & (tokens - 1) == 0 for tokens in found), "a little more or less free memory plans the same"


def test_a_plan_says_what_fits_which_card(
    r4r: Any, tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    assert r4r("experiment=smoke", "plan=true", f"paths.outputs={tmp_path}") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory ")]
    assert [line.split()[1] for line in told] == [str(card) for card in CARDS_GB]
    assert "tokens at once: 131,072 in writing and rating" in told[0]


def test_of_a_gpu_as_much_is_free_as_this_process_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"memory_reserved": 6, "memory_allocated": 4, "get_per_process_memory_fraction": 1.0}
    for name in state:
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: state[name])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50, 80))
    gpu = torch.device("cuda")
    assert memory.free_bytes(gpu) == 52, "what is free, and of what is held in reserve what is not in use"
    state["get_per_process_memory_fraction"] = 0.3
    assert memory.free_bytes(gpu) == 24 - 4


def test_vllm_leaves_room_for_the_model_that_is_trained(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, own = torch.device("cuda"), tiny.spec
    monkeypatch.setattr(memory, "free_bytes", lambda device: 60)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert (memory_share(own, gpu), memory_share(own, gpu, beside=20)) == (0.67, 0.45)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert memory_share(own, gpu, beside=20) == 0.67, "it is loaded already"
    with pytest.raises(ModelError, match=r"llm\.engine=hf"):
        memory_share(own, gpu, beside=90)


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("jobs", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_jobs_of_a_sweep_leave_no_model_behind(
    jobs: int,
    r4r: Any,
    tmp_path: Path,
    model_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Of a sweep whose every second job fails in its training, and whose errors are kept to the end."""
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    kept: list[int] = []
    close = Job.close

    def closed(job: Job) -> None:
        assert "lm" in vars(job)
        close(job)
        kept.append(tensors())

    monkeypatch.setattr(Job, "close", closed)
    sizes = [
        "dataset.world.users=12",
        "dataset.pools.summaries=4",
        "experts.summarizer.batch_size=1",
        "experts.summarizer.warmup=0",
    ]
    sweep = [f"seed={','.join(map(str, range(jobs // 2)))}", "experts.summarizer.lr=1e-3,1e30"]
    assert r4r("-m", "experiment=smoke", "target=summarizer", *sizes, *sweep, f"paths.outputs={tmp_path}") == 1
    assert capsys.readouterr().err.count("the gradient is not finite") == jobs // 2
    assert len(kept) == jobs
    assert max(kept[2:]) <= max(kept[:2]), "a job's own frame may hold its model still, those before it may not"


# out of memory


def short_of(rows: int, compute: Any, asked: list[int]) -> Any:
    """As `compute`, of which memory suffices for so many rows."""

    def call(lm: LanguageModel, prompts: Any, *more: Any) -> Any:
        asked.append(len(prompts))
        if len(prompts) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return compute(lm, prompts, *more)

    return call


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batch_too_large_is_written_in_halves_to_the_same_texts(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in TEXTS]
    seeds = list(range(len(prompts)))
    expected = HF(tiny).write(prompts, None, 8, temperature, seeds)
    asked: list[int] = []
    monkeypatch.setattr(engines, "generate", short_of(2, engines.generate, asked))
    assert HF(tiny).write(prompts, None, 8, temperature, seeds) == expected
    assert asked == [5, 2, 3, 1, 2]


def test_a_batch_too_large_is_rated_in_halves(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in TEXTS]
    expected = HF(tiny).rate(prompts, None)
    monkeypatch.setattr(engines, "rate_next", short_of(1, engines.rate_next, []))
    torch.testing.assert_close(HF(tiny).rate(prompts, None), expected, rtol=0, atol=1e-6)


def test_held_prompts_are_parted_where_they_do_not_fit(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in TEXTS]
    keep = [len(prompt) - 3 for prompt in prompts]
    pairs = [4, 0, 2, 0, 3, 1]
    rows = [prompts[pair] for pair in pairs]
    expected = HF(tiny).share(prompts, keep, None).rate(pairs, rows)
    asked: list[int] = []
    monkeypatch.setattr(engines, "SharedPrefix", short_of(2, engines.SharedPrefix, asked))
    shared = HF(tiny).share(prompts, keep, None)
    assert asked == [5, 2, 3, 1, 2]
    assert shared.nbytes > 0
    torch.testing.assert_close(shared.rate(pairs, rows), expected, rtol=0, atol=1e-6)


def test_references_are_weighed_in_halves(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frozen adapter finds of answers: batches as large as those that are written, with logits beside."""
    answers = encode(tiny, [(row, text, "the melody " * (row + 1)) for row, text in enumerate(TEXTS)])
    expected = frozen_logps(tiny, answers, 4096)
    asked: list[int] = []
    monkeypatch.setattr(likelihoods, "likelihood", short_of(2, likelihoods.likelihood, asked))
    for one, other in zip(frozen_logps(tiny, answers, 4096), expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert asked[0] == 5
    monkeypatch.setattr(likelihoods, "likelihood", short_of(0, likelihoods.likelihood, []))
    with pytest.raises(ModelError, match=r"does not suffice to weigh a single row.*llm\.batch_tokens"):
        frozen_logps(tiny, answers, 4096)


def out_of_memory(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_a_model_or_an_adapter_that_does_not_fit_is_told(
    load_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    lm = load_tiny()
    lm.new_adapter("one", Lora(r=2, alpha=4), train_head=False, seed=0)
    lm.save_adapter("one", tmp_path / "one")
    monkeypatch.setattr(PeftModel, "load_adapter", out_of_memory)
    with pytest.raises(ModelError, match="memory does not suffice to load the adapter"):
        lm.load_adapter("two", tmp_path / "one")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", out_of_memory)
    with pytest.raises(ModelError, match=r"memory does not suffice to load tiny on cpu.*llm\.quantization=nf4"):
        load_tiny()


def test_where_merged_weights_do_not_fit_adapters_stay_apart(
    load_tiny: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lm = load_tiny()
    with torch.no_grad():
        for weight in lm.new_adapter("one", Lora(r=2, alpha=4), train_head=False, seed=0):
            weight.add_(0.05)
    prompts = [lm.chat.prompt_ids(text) for text in TEXTS]
    bare, merged = HF(lm).rate(prompts, None), HF(lm).rate(prompts, "one")
    layers = [layer for layer in lm.causal.modules() if hasattr(layer, "get_delta_weight")]
    with lm.using(None):
        monkeypatch.setattr(layers[-1], "get_delta_weight", out_of_memory)  # the others are merged by then
    for _ in range(2):
        torch.testing.assert_close(HF(lm).rate(prompts, "one"), merged, rtol=0, atol=1e-5)
    assert not lm.can_merge
    torch.testing.assert_close(HF(lm).rate(prompts, None), bare, rtol=0, atol=0)
    assert capfd.readouterr().err.count("memory has no room for merged weights") == 1


def test_packed_weights_are_counted_as_what_they_hold(load_tiny: Any) -> None:
    plain, packed = load_tiny(), load_tiny(quantization="nf4")
    assert memory.shape_of(packed.causal) == memory.shape_of(plain.causal)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["GPU", "CPU", "Python"],
)
def test_what_does_not_fit_alone_names_settings_that_rebuild_nothing_first(error: Exception) -> None:
    def compute(rows: Any) -> list[int]:
        raise error

    with pytest.raises(ModelError, match="does not suffice to write a single row") as told:
        in_halves(compute, range(3), "write")
    said = str(told.value)
    assert 0 < said.index("llm.batch_tokens") < said.index("llm.merge_adapters") < said.index("llm.max_length")


def test_another_error_is_not_taken_for_it() -> None:
    asked = []

    def compute(rows: Any) -> list[int]:
        asked.append(len(rows))
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        in_halves(compute, range(4), "write")
    assert asked == [4]


def test_every_engine_can_rest() -> None:
    assert callable(HF.rest)
    assert "rest" in VLLM.__abstractmethods__


def test_errors_that_name_each_other_are_forgotten() -> None:
    """A cause whose own context is the error that it explains."""
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__context__ = second, first
    memory.forget(first)
