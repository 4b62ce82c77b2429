"""What single choices give: `python experiments/bench/parts.py`.

Each beside what PyTorch or transformers do without it, in this process, in turns: the attention mask and the dropout of
a training pass; in writing, the key-value cache, adapters merged or apart, and the number of rows. Prints one JSON
object of medians; seconds on a CPU are those that were computed.
"""

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from workload import clock, load_model, model_options, short

from r4r.lm.base import LanguageModel, Lora
from r4r.lm.cache import Cache, extend, forward_prefix
from r4r.lm.dropout import QuickDropout


def compare(ways: dict[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """Median seconds of each way, after a first go; the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            started = clock(device)
            work()
            if turn:
                seconds[name].append(clock(device) - started)
    return {name: median(found) for name, found in seconds.items()}


def dropout(device: torch.device, layer: nn.Module) -> Callable[[], object]:
    """Forward and back, on what a projection reads of three texts of 450 tokens."""
    x = torch.randn(1350, 576, device=device, requires_grad=True)
    return lambda: layer.train()(x).sum().backward()


def pass_of_training(lm: LanguageModel, masked: bool, layer: nn.Module) -> Callable[[], object]:
    """Forward and back over texts of 450, 400 and 350 tokens, padded on the right; adapters with this dropout."""
    ids = torch.randint(10, 1_000, (3, 450), device=lm.device)
    mask = (torch.arange(450) < torch.tensor([[450], [400], [350]])).long().to(lm.device)
    more = {"attention_mask": mask} if masked else {}

    def run() -> None:
        for module in lm.peft.modules():
            if "learning" in getattr(module, "lora_dropout", ()):
                module.lora_dropout["learning"] = layer
        lm.causal.train()
        lm.hidden(input_ids=ids, use_cache=False, **more).last_hidden_state.sum().backward()
        lm.causal.eval()

    return run


@torch.inference_mode()
def step_of_writing(lm: LanguageModel, rows: int, tokens: int, copying: bool = False) -> Callable[[], object]:
    """One more token for each row behind so many. `copying`: transformers' cache."""
    cache = forward_prefix(lm, [torch.randint(10, 1_000, (tokens,)).tolist()], rows)
    if copying:
        states, layers = DynamicCache(), cache.states.layers
        for number, layer in enumerate(layers):
            states.update(layer.keys, layer.values, number)
        cache = Cache(states, cache.mask)
    new = torch.ones((rows, 1), dtype=torch.long, device=lm.device)

    @torch.inference_mode()
    def step() -> None:
        nonlocal cache
        hidden, cache = extend(lm, cache, new, torch.cat([cache.mask, new], dim=1))
        lm.logits(hidden[:, -1])

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=300, help="before each row's next one")
    model_options(parser)
    arguments = parser.parse_args()
    lm, merged = load_model(arguments), load_model(arguments)
    device = lm.device
    result: dict[str, Any] = {
        "dropout of 1350 x 576": compare(
            {"torch": dropout(device, nn.Dropout(0.1)), "r4r": dropout(device, QuickDropout(0.1))}, device, rounds=20
        )
    }
    for model in (lm, merged):
        model.new_adapter("reasoner", Lora(r=16, alpha=32), train_head=False, seed=0)
    steps = result["a step of writing"] = {}
    with lm.using("reasoner"), merged.using("reasoner", merged=True):
        for rows in (1, 16, 40, 80):
            ways = {
                "transformers' cache": step_of_writing(lm, rows, arguments.tokens, copying=True),
                "r4r's": step_of_writing(lm, rows, arguments.tokens),
            }
            if merged.can_merge:
                ways["and merged"] = step_of_writing(merged, rows, arguments.tokens)
            steps[f"rows: {rows}"] = compare(ways, device, rounds=8)
    lm.new_adapter("learning", Lora(r=16, alpha=32), train_head=False, seed=0)
    passes = {
        "mask, torch's dropout": pass_of_training(lm, True, nn.Dropout(0.1)),
        "torch's dropout": pass_of_training(lm, False, nn.Dropout(0.1)),
        "r4r's dropout": pass_of_training(lm, False, QuickDropout(0.1)),
    }
    result["a pass of training"] = compare(passes, device, rounds=3)
    print(json.dumps(short(result), indent=2))


if __name__ == "__main__":
    main()
