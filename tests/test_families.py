"""Model families: our logits and texts are the model's own, every linear layer is trained, or it is refused at load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import FAMILIES, build_family
from stand_in_gpu import on_a_stand_in
from torch import nn
from transformers import AutoTokenizer
from transformers.pytorch_utils import Conv1D

from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.errors import ModelError
from r4r.lm.architecture import check_model
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF
from r4r.lm.loss import Example, response_loss
from r4r.lm.rate import SharedPrefix, rate, rate_next
from r4r.lm.rating_tokens import rating_tokens
from r4r.scale import PAPER, Scale
from r4r.training.likelihood import frozen_logps

REFUSED = {
    "qwen3_next": "mixture of experts",
    "mixtral": "mixture of experts",
    "falcon_h1": "Mamba's kernels pass it by",
    "mamba": "takes no",
    "gpt_neo": "whose attention counts padding",
}
# of each kind one: plain, a scale behind the head, a cap there and a window, fused projections, recurrent layers
QUICK = ["granite", "gemma2", "phi3", "lfm2"]
HISTORY = "please predict the rating of the user " * 9
TEXTS = ["music", HISTORY + "Analysis: a", HISTORY + "Analysis: the vocals"]
WHICH = [(1, 2), (2, 1), (1, 1), (1, 3)]  # prompt, length of the answer
HALVES = Scale(lowest=1, highest=5, step=0.5)


def of(names: list[str]) -> list[Any]:
    return [pytest.param(n, marks=() if n in QUICK else (pytest.mark.slow,)) for n in names]


def load(name: str, folder: Path, accelerator: str = "cpu", **settings: Any) -> LanguageModel:
    spec = LLMConfig(
        name=name, source=f"path:{build_family(name, folder / name)}", dtype="float32", max_length=1024, **settings
    )
    return LanguageModel.load(spec, TrainerConfig(accelerator=accelerator, threads=1), folder)


def own_logits(lm: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Of the model's own forward, of one row, at each token."""
    with torch.inference_mode():
        return lm.causal(torch.tensor([ids], device=lm.device)).logits[0].float().cpu()


def by_itself(lm: LanguageModel, ids: list[int], tokens: int) -> list[int]:
    """What transformers writes behind one row."""
    one, ends = torch.tensor([ids], device=lm.device), list(lm.chat.end_ids)
    settings = {"do_sample": False, "max_new_tokens": tokens, "eos_token_id": ends, "pad_token_id": 0}
    out: Any = lm.causal.generate(one, attention_mask=torch.ones_like(one), **settings)
    return out[0, len(ids) :].tolist()


def brute_force(lm: LanguageModel, prompt: list[int], scale: Scale) -> torch.Tensor:
    """The likelihood of each value's whole string, one forward pass of the model's own a value."""
    spelled = rating_tokens(lm.chat, scale=scale)
    start = len(prompt) + len(spelled.prefix) - 1
    likelihoods = []
    for tail in spelled.tails:
        logits = own_logits(lm, [*prompt, *spelled.prefix, *tail])
        total = 0.0
        for step, token in enumerate(tail):
            ways = sorted({other[step] for other in spelled.tails if other[:step] == tail[:step] and len(other) > step})
            total += float(logits[start + step, ways].log_softmax(-1)[ways.index(token)])
        likelihoods.append(total)
    return torch.tensor(likelihoods).softmax(-1)


TAKEN = of([name for name in FAMILIES if name not in REFUSED])


@pytest.mark.parametrize("name", TAKEN)
def test_a_family_is_read_written_and_trained_as_its_own_code_does(name: str, tmp_path: Path) -> None:
    lm = load(name, tmp_path)
    check_model(lm.spec, tmp_path)
    compare_with_its_own_code(lm)


@pytest.mark.parametrize("name", TAKEN)
def test_a_family_does_so_on_a_gpu(name: str, tmp_path: Path) -> None:
    def work(gpu: Any) -> None:
        lm = load(name, tmp_path, "gpu")
        compare_with_its_own_code(lm)
        assert bool(gpu.replays) == lm.records_steps == lm.shares_prefixes

    on_a_stand_in(work)


def compare_with_its_own_code(lm: LanguageModel) -> None:
    prompts = [lm.chat.prompt_ids(text) for text in TEXTS]
    # ratings: right-padded together, and from shared beginnings
    for scale in (PAPER, HALVES):
        expected = torch.stack([brute_force(lm, prompt, scale) for prompt in prompts])
        torch.testing.assert_close(rate(lm, prompts, scale), expected, rtol=0, atol=1e-4)
        shared = SharedPrefix(lm, prompts, [max(1, len(p) - 9) for p in prompts])
        torch.testing.assert_close(
            shared.rate([0, 2, 2], [prompts[n] for n in (0, 2, 1)], scale),
            expected[[0, 2, 1]],
            rtol=0,
            atol=1e-4,
        )
    assert not torch.equal(expected[0], expected[1]), "different prompts must be told apart"
    # texts: left-padded together, against each row alone
    written = [by_itself(lm, ids, 10) for ids in prompts]
    assert HF(lm).write(prompts, None, 10) == written
    # training: an adapter with a gradient on every linear layer of the decoder
    linear = {n for n, m in lm.causal.get_decoder().named_modules() if isinstance(m, nn.Linear | Conv1D)}
    weights = lm.new_adapter("expert", Lora(r=2, alpha=4), train_head=False, seed=0)
    reached = {n for n, m in lm.causal.get_decoder().named_modules() if hasattr(m, "lora_A")}
    assert reached == linear
    with torch.no_grad():  # B begins at zero, which leaves A without a gradient
        for weight in weights:
            weight.add_(0.01)
    response_loss(lm, [Example(tuple(prompts[1]), tuple(lm.chat.reply_ids("the vocals")))]).backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in weights)
    # answers to one prompt, side by side in a row, are as likely as each by itself
    answers = [Example(tuple(prompts[n]), tuple(lm.chat.reply_ids("the vocals " * k))) for n, k in WHICH]
    with lm.using("expert"):
        together = frozen_logps(lm, answers, budget=10_000)
        for one, apart in zip(answers, together, strict=True):
            torch.testing.assert_close(frozen_logps(lm, [one], budget=10_000)[0], apart, rtol=0, atol=1e-4)
    # merged into the weights, the adapter answers as beside them
    with torch.inference_mode(), lm.using("expert"):
        apart = rate_next(lm, prompts)
    torch.testing.assert_close(HF(lm).rate(prompts, "expert"), apart, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", of(list(REFUSED)))
def test_a_family_that_cannot_be_trained_whole_is_refused_without_its_weights(name: str, tmp_path: Path) -> None:
    folder = build_family(name, tmp_path / name)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelError, match=REFUSED[name]):
        check_model(LLMConfig(name=name, source=f"path:{folder}", max_length=1024), tmp_path)


@pytest.mark.parametrize(("positions", "longest"), [("longrope", 256), ("dynamic", 256), ("yarn", 4096)])
def test_positions_that_depend_on_the_batch_are_refused(positions: str, longest: int, tmp_path: Path) -> None:
    """Beyond their original length, a text's own would change with the longest one beside it."""
    folder = build_family("llama3", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= {"rope_type": positions, "factor": 16.0, "original_max_position_embeddings": 256}
    config["rope_parameters"] |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    (folder / "config.json").write_text(json.dumps(config))
    check_model(LLMConfig(name="m", source=f"path:{folder}", max_length=longest), tmp_path)
    with pytest.raises(ModelError, match=f"reads {longest} tokens at most: lower it to {longest}"):
        check_model(LLMConfig(name="m", source=f"path:{folder}", max_length=longest + 1), tmp_path)


def test_a_tokenizer_of_more_tokens_than_the_model_knows_is_refused(tmp_path: Path) -> None:
    folder = build_family("llama3", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    spec = LLMConfig(name="m", source=f"path:{folder}", max_length=1024)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    tokenizer.save_pretrained(folder)
    check_model(spec, tmp_path)  # which no prompt holds
    tokenizer.chat_template = "<|user|>" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"its chat template writes <\|user\|>, for which the model has no embedding"):
        check_model(spec, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_a_whole_job_runs_on_a_family(
    name: str, r4r: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("R4R_CACHE", str(tmp_path / "cache"))
    source = f"llm.source=path:{build_family(name, tmp_path / name)}"
    code = r4r("experiment=smoke", source, f"llm.name={name}", "++llm.dtype=float32", f"paths.outputs={tmp_path}/out")
    assert code == 0, capsys.readouterr().err
