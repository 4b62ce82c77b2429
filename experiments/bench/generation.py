"""How fast an expert writes: `python experiments/bench/generation.py` (`--vllm`: vLLM too, with that extra).

The prompts of the Summarizer and of the Reasoner on a simulated world, a fixed number of new tokens each, by
transformers' `generate` one by one, by r4r's hf engine in batches, and by vLLM in this process; the adapters are fresh
ones. One by one writes the first few of the prompts, the others write all. Seconds on a CPU are those that this process
and its children computed, so neighbours on the same cores do not count. Prints one JSON object, ratios of seconds a
text, taken in this run.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from workload import (
    clock,
    copy_rate,
    engine_options,
    expert_texts,
    matmul_rate,
    open_engines,
    projection_weights,
    short,
)

from r4r.lm.base import LanguageModel, Lora
from r4r.lm.batches import common_prefix
from r4r.lm.engine import Engine

WRITERS = ("summarizer", "reasoner")
Prompts = list[list[int]]


def one_by_one(lm: LanguageModel, adapter: str, tokens: int) -> Callable[[Prompts], int]:
    """As users of transformers write it."""

    def write(prompts: Prompts) -> int:
        written = 0
        with lm.using(adapter), torch.inference_mode():
            for ids in prompts:
                known = torch.tensor([ids], device=lm.device)
                out = lm.causal.generate(
                    input_ids=known,
                    attention_mask=torch.ones_like(known),
                    max_new_tokens=tokens,
                    min_new_tokens=tokens,
                    do_sample=False,
                    pad_token_id=0,
                )
                written += out.shape[1] - len(ids)
        return written

    return write


def in_units(engine: Engine, adapter: str, tokens: int) -> Callable[[Prompts], int]:
    def write(prompts: Prompts) -> int:
        plan = engine.plan([len(ids) for ids in prompts], tokens)
        return sum(len(ids) for unit in plan for ids in engine.write([prompts[p] for p in unit], adapter, tokens))

    return write


def measured(write: Callable[[Prompts], int], prompts: Prompts, device: torch.device) -> dict[str, float]:
    write(prompts[:1])  # warm
    started, since = time.perf_counter(), clock(device, children=True)
    tokens = write(prompts)
    took = clock(device, children=True) - since
    return {
        "seconds": took,
        "wall_s": time.perf_counter() - started,
        "new_tokens_per_s": tokens / took,
        "seconds_a_text": took / len(prompts),
        "texts": len(prompts),
        "new_tokens": tokens,
    }


def limits(lm: LanguageModel, weights: int, prompts: Prompts, new: int) -> dict[str, float]:
    """Seconds a text that this machine cannot go below, by its rates of multiplying and of copying.

    One by one, all weights are read for each token; together, each text alone is multiplied with them, and what the
    prompts begin with alike is not read again.

    Args:
        weights: bytes.
    """
    operations, head = 2 * projection_weights(lm), 2 * lm.causal.lm_head.weight.numel()
    multiply = matmul_rate(lm.device, lm.dtype, lm.causal.config.hidden_size)
    read = sum(map(len, prompts)) / len(prompts)
    write = (operations + head) / multiply
    alone = read * operations / multiply + new * max(write, weights / copy_rate(lm.device))
    together = (read - common_prefix(prompts)) * operations / multiply + new * write
    return {"one_by_one": alone, "together": together}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--one-by-one", type=int, default=8, help="how many of them one by one")
    engine_options(parser)
    arguments = parser.parse_args()
    lm, engines = open_engines(arguments)
    weights = sum(parameter.nbytes for parameter in lm.causal.parameters())
    result: dict[str, Any] = {"new_tokens": arguments.tokens, **engines["hf"].setup, "writers": {}}
    if arguments.vllm:
        result["vllm"] = engines["vllm"].about
    texts = expert_texts(arguments.prompts, arguments.history)
    with TemporaryDirectory() as folder:
        for writer in WRITERS:
            lm.new_adapter(writer, Lora(r=16, alpha=32), train_head=False, seed=0)
            lm.save_adapter(writer, Path(folder) / writer)
            prompts = [lm.chat.prompt_ids(prompt) for _, prompt, _ in texts[writer]]
            plain = one_by_one(lm, writer, arguments.tokens)
            ways = {"transformers, one by one": measured(plain, prompts[: arguments.one_by_one], lm.device)}
            for name, engine in engines.items():
                if name == "vllm":
                    engine.load_adapter(writer, Path(folder) / writer)
                ways[name] = measured(in_units(engine, writer, arguments.tokens), prompts, lm.device)
            for way in ways.values():
                way["gain"] = ways["transformers, one by one"]["seconds_a_text"] / way["seconds_a_text"]
            tokens = round(sum(map(len, prompts)) / len(prompts))
            result["writers"][writer] = {
                "prompts": len(prompts),
                "tokens_a_prompt": tokens,
                "tokens_that_all_share": common_prefix(prompts),
                "ways": ways,
                "limit_seconds_a_text": limits(lm, weights, prompts, arguments.tokens),
            }
        for engine in engines.values():
            engine.close()
    memory = (
        torch.cuda.max_memory_allocated()
        if lm.device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(json.dumps(short(result | {"peak_memory_gib": memory / 2**30}), indent=2))


if __name__ == "__main__":  # vLLM's processes import this file
    main()
