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
from generation import in_units, one_by_one
from workload import clock, engine_options, expert_texts, open_engines, short

from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import Engine
from r4r.lm.rating_tokens import rating_tokens

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
    engine_options(parser)
    arguments = parser.parse_args()
    lm, engines = open_engines(arguments)
    texts = expert_texts(arguments.rows, arguments.history)
    prefix = rating_tokens(lm.chat).prefix
    reading = [lm.chat.prompt_ids(prompt) for _, prompt, _ in texts["reasoner"]]
    rated = [[*lm.chat.prompt_ids(prompt), *prefix] for _, prompt, _ in texts["predictor"]]
    for name, rank in (("reasoner", 16), ("predictor", 8)):
        lm.new_adapter(name, Lora(r=rank, alpha=2 * rank), train_head=False, seed=0)
    result: dict[str, Any] = {"rows": len(reading), "new_tokens": arguments.tokens, **engines["hf"].setup, "ways": {}}

    def timed(name: str, rows: int, write: Any, rate: Any) -> None:
        write(reading[:1])  # warm
        started = clock(lm.device, children=True)
        write(reading[:rows])
        between = clock(lm.device, children=True)
        rate(rated[:rows])
        ended = clock(lm.device, children=True)
        result["ways"][name] = {
            "rows": rows,
            "seconds_a_prediction": (ended - started) / rows,
            "of_which_rating": (ended - between) / rows,
        }

    timed(
        "transformers, one by one",
        min(arguments.one_by_one, len(reading)),
        one_by_one(lm, "reasoner", arguments.tokens),
        lambda prompts: rate_one_by_one(lm, prompts),
    )
    with TemporaryDirectory() as folder:
        if arguments.vllm:
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
        way["gain"] = first / way["seconds_a_prediction"]
    print(json.dumps(short(result | {"paper": PAPER}), indent=2))


if __name__ == "__main__":  # vLLM's processes import this file
    main()
