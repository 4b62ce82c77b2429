"""What it changes to merge an adapter in 16 bits: `python experiments/bench/merge.py` (`llm.merge_adapters=true`).

Trains a Reasoner and a Predictor in float32 on a simulated world; then reasons are written and ratings given for
other rows of it in float32, and in bf16 with the adapter apart and merged. Prints one JSON object: how far each way's
ratings lie from float32's, by the same text, how many of its greedy reasons are float32's to the letter, and its
seconds; on a CPU those that were computed.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from training import with_r4r
from workload import clock, expert_texts, load_model, model_options

from r4r.lm.engine import HF
from r4r.lm.rating_tokens import rating_tokens
from r4r.scale import PAPER

WAYS: dict[str, dict[str, Any]] = {
    "float32, apart": {"dtype": "float32", "merge_adapters": False},
    "bf16, apart": {"dtype": "bfloat16", "merge_adapters": False},
    "bf16, merged": {"dtype": "bfloat16", "merge_adapters": True},
}


def answers(
    arguments: argparse.Namespace, settings: dict[str, Any], texts: dict[str, list[str]], folder: Path
) -> tuple[list[list[int]], torch.Tensor, dict[str, float]]:
    """The reasons' tokens, the expected ratings [row], and the seconds of writing and of rating."""
    lm = load_model(arguments, batch_tokens=16384, **settings)
    engine = HF(lm)
    for name in texts:
        lm.load_adapter(name, folder / name)
    ids = {name: [lm.chat.prompt_ids(prompt) for prompt in prompts] for name, prompts in texts.items()}
    prefix = rating_tokens(lm.chat).prefix
    whole = [[*prompt, *prefix] for prompt in ids["predictor"]]
    engine.rate(whole[:1], "predictor")  # warm
    started = clock(lm.device)
    written: list[list[int]] = [[] for _ in ids["reasoner"]]
    for places in engine.plan([len(prompt) for prompt in ids["reasoner"]], arguments.tokens):
        found = engine.write([ids["reasoner"][p] for p in places], "reasoner", arguments.tokens)
        for place, text in zip(places, found, strict=True):
            written[place] = text
    between = clock(lm.device)
    shares = torch.empty(len(whole), len(PAPER.values))
    for places in engine.plan([len(prompt) for prompt in whole]):
        shares[places] = engine.rate([whole[p] for p in places], "predictor").cpu()
    seconds = {"writing": between - started, "rating": clock(lm.device) - between}
    return written, shares @ torch.tensor(PAPER.values, dtype=torch.float32), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learn", type=int, default=200, help="texts that each expert learns from")
    parser.add_argument("--rows", type=int, default=200, help="rows to write and rate")
    parser.add_argument("--tokens", type=int, default=96, help="new tokens a reason at most")
    parser.add_argument("--history", type=int, default=5, help="reviews a side")
    model_options(parser)
    parser.set_defaults(model="package:world_3m")
    arguments = parser.parse_args()
    known = expert_texts(arguments.learn + arguments.rows, arguments.history)
    with TemporaryDirectory() as place:
        folder = Path(place)
        lm = load_model(arguments, dtype="float32")
        for name in ("reasoner", "predictor"):
            with_r4r(lm, name, known[name][: arguments.learn], 2, folder / name)
            lm.save_adapter(name, folder / name)
        texts = {
            name: [prompt for _, prompt, _ in known[name][arguments.learn :]] for name in ("reasoner", "predictor")
        }
        found = {way: answers(arguments, settings, texts, folder) for way, settings in WAYS.items()}
    reasons, ratings, _ = found["float32, apart"]
    result = {
        way: {
            "mean_difference_of_ratings": round(float((rated - ratings).abs().mean()), 5),
            "largest_difference_of_ratings": round(float((rated - ratings).abs().max()), 5),
            "same_reasons": sum(a == b for a, b in zip(written, reasons, strict=True)) / len(reasons),
            "seconds": {what: round(value, 2) for what, value in seconds.items()},
            "of_the_time_apart": {
                what: round(value / found["bf16, apart"][2][what], 2) for what, value in seconds.items()
            },
        }
        for way, (written, rated, seconds) in found.items()
    }
    about = {"model": arguments.model, "rows": arguments.rows, "learnt_from": arguments.learn}
    print(json.dumps({**about, "ratings_sd": round(float(ratings.std()), 3), "ways": result}, indent=2))


if __name__ == "__main__":
    main()
