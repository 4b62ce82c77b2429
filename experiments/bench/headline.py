"""Seconds a prediction (Table 6): `python experiments/bench/headline.py` (`--vllm`: by vLLM too, with that extra).

Steps 2 and 3 for rows of a simulated world: the Reasoner writes as many tokens as the paper counts, and the Predictor
reads them and rates; by transformers one by one (the first few rows), with the logits of all tokens, as the published
code does; by r4r in batches; by vLLM. The paper's 5.86 s are Llama-3-8B's on an A800. Prints one JSON object, ratios
taken in this run.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from generation import in_units, one_by_one, seconds
from workload import expert_texts, load_model, model_options

from r4r.config import VLLMConfig
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF, Engine
from r4r.lm.rating_tokens import rating_tokens
from r4r.lm.vllm import open_vllm

PAPER = {"seconds": 5.86, "tokens": 148}
Prompts = list[list[int]]


def rate_one_by_one(lm: LanguageModel, prompts: Prompts) -> None:
    digits = list(rating_tokens(lm.chat).digits)
    with lm.using("predictor"), torch.inference_mode():
        for ids in prompts:
            lm.causal(torch.tensor([ids], device=lm.device)).logits[0, -1, digits].float().softmax(dim=-1).cpu()


def rate_in_units(engine: Engine, prompts: Prompts) -> None:
    for unit in engine.plan([len(ids) for ids in prompts]):
        engine.rate([prompts[place] for place in unit], "predictor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--one-by-one", type=int, default=6, help="how many of them one by one")
    parser.add_argument("--tokens", type=int, default=PAPER["tokens"])
    parser.add_argument("--history", type=int, default=2, help="reviews a side; the paper's 10 for long prompts")
    parser.add_argument("--batch-tokens", type=int, default=16384, help="llm.batch_tokens of hf")
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--memory-share", type=float, default=0.2, help="llm.vllm.memory_share")
    model_options(parser)
    arguments = parser.parse_args()
    lm = load_model(arguments, batch_tokens=arguments.batch_tokens)
    lm.chat.end_ids = ()  # no text ends early: every way writes as many tokens
    texts = expert_texts(arguments.rows, arguments.history)
    prefix = rating_tokens(lm.chat).prefix
    reading = [lm.chat.prompt_ids(prompt) for _, prompt, _ in texts["reasoner"]]
    rated = [[*lm.chat.prompt_ids(prompt), *prefix] for _, prompt, _ in texts["predictor"]]
    for name, rank in (("reasoner", 16), ("predictor", 8)):
        lm.new_adapter(name, Lora(r=rank, alpha=2 * rank), train_head=False, seed=0)
    engines: dict[str, Engine] = {"hf": HF(lm)}
    result: dict[str, Any] = {"rows": len(reading), "new_tokens": arguments.tokens, **engines["hf"].setup, "ways": {}}

    def timed(name: str, rows: int, write: Any, rate: Any) -> None:
        write(reading[:1])  # warm
        started = seconds(lm.device)
        write(reading[:rows])
        between = seconds(lm.device)
        rate(rated[:rows])
        ended = seconds(lm.device)
        result["ways"][name] = {
            "rows": rows,
            "seconds_a_prediction": round((ended - started) / rows, 3),
            "of_which_rating": round((ended - between) / rows, 3),
        }

    timed(
        "transformers, one by one",
        min(arguments.one_by_one, len(reading)),
        one_by_one(lm, "reasoner", arguments.tokens),
        lambda prompts: rate_one_by_one(lm, prompts),
    )
    with TemporaryDirectory() as folder:
        if arguments.vllm:
            own = VLLMConfig(memory_share=arguments.memory_share)
            spec = lm.spec.model_copy(update={"engine": "vllm", "vllm": own})
            engines["vllm"] = open_vllm(spec, [16], arguments.cache)
            engines["vllm"].chat.end_ids = ()
            for name in ("reasoner", "predictor"):
                lm.save_adapter(name, Path(folder) / name)
                engines["vllm"].load_adapter(name, Path(folder) / name)
        for name, engine in engines.items():
            timed(
                name,
                len(reading),
                in_units(engine, "reasoner", arguments.tokens),
                lambda prompts, engine=engine: rate_in_units(engine, prompts),
            )
            engine.close()
    first = result["ways"]["transformers, one by one"]["seconds_a_prediction"]
    for way in result["ways"].values():
        way["gain"] = round(first / way["seconds_a_prediction"], 1)
    print(json.dumps(result | {"paper": PAPER}, indent=2))


if __name__ == "__main__":  # vLLM's processes import this file
    main()
