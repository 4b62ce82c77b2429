"""What the tests of vLLM share: a small model that its kernels take, adapters that say something, and comparisons."""

from collections.abc import Sequence
from pathlib import Path

import torch

from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF, Engine
from r4r.lm.generate import generate
from r4r.lm.rate import rate_next
from r4r.lm.rating_tokens import rating_tokens
from r4r.lm.tiny import build_tiny
from r4r.scale import PAPER, Scale

HISTORY = "Item review history: the user would like the music because of its melody. " * 6
PROMPTS = ["music", HISTORY + "title 1", HISTORY + "predict the rating, please", HISTORY, "a " * 40, "title 2: 5"]
NEAR = 1e-3  # logits closer than this are a tie, which rounding decides


def build_small(out: Path) -> None:
    """tiny's tokenizer on a random Llama with heads of 32, the least that vLLM's CPU kernels take."""
    from transformers import LlamaConfig, LlamaForCausalLM

    build_tiny(out)
    config = LlamaConfig.from_pretrained(out)
    config.update({"hidden_size": 128, "intermediate_size": 128, "head_dim": 32})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(out)


def load(source: str, cache: Path) -> LanguageModel:
    spec = LLMConfig(name="small", source=source, dtype="float32", max_length=1024)
    return LanguageModel.load(spec, TrainerConfig(accelerator="cpu", threads=1), cache)


def save_adapter(lm: LanguageModel, name: str, folder: Path, seed: int) -> Path:
    """An adapter that changes every answer."""
    parameters = lm.new_adapter(name, Lora(r=4, alpha=8), False, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(0, 0.2)
    lm.save_adapter(name, folder)
    return folder


SCALES = [PAPER, Scale(lowest=0.5, highest=5, step=0.5), Scale(lowest=1, highest=10)]


def farthest(engine: Engine, lm: LanguageModel, adapter: str | None) -> float:
    """The largest difference of a probability between this engine's ratings and hf's, on any scale; texts are asserted
    equal."""
    prompts = [lm.chat.prompt_ids(text) for text in PROMPTS]
    same_texts(lm, adapter, prompts, engine.write(prompts, adapter, 16))
    gaps = []
    for scale in SCALES:
        encoded = [[*ids, *rating_tokens(lm.chat, scale=scale).prefix] for ids in prompts]
        with lm.using(adapter):
            expected = rate_next(lm, encoded, scale)
        gaps.append(float((engine.rate(encoded, adapter, scale) - expected).abs().max()))
    return max(gaps)


def same_texts(lm: LanguageModel, adapter: str | None, prompts: Sequence[list[int]], found: list[list[int]]) -> None:
    """Equal to hf's greedy texts, or up to a token that hf was about to choose as well."""
    with lm.using(adapter):
        for prompt, out, ours in zip(prompts, found, generate(lm, prompts, 16), strict=True):
            if out == ours:
                continue
            at = next((k for k, (a, b) in enumerate(zip(out, ours, strict=False)) if a != b), min(len(out), len(ours)))
            assert at < min(len(out), len(ours)), f"one text goes on where the other ends: {out} {ours}"
            with torch.no_grad():
                logits = lm.causal(torch.tensor([[*prompt, *ours[:at]]])).logits[0, -1]
            assert float(logits[ours[at]] - logits[out[at]]) < NEAR, f"token {at} of {out} differs from {ours}"


def shared_as_whole(engine: Engine, lm: LanguageModel, adapter: str) -> float:
    """As `farthest`, for candidates that share their pairs' beginnings."""
    prompts = [lm.chat.prompt_ids(text) for text in PROMPTS[1:4]]
    ours, hf = (each.share(prompts, [len(p) - 8 for p in prompts], adapter) for each in (engine, HF(lm)))
    return float((ours.rate([2, 0, 1], prompts) - hf.rate([2, 0, 1], prompts)).abs().max())
