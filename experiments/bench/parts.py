"""What single choices give: `python experiments/bench/parts.py`.

Each beside what PyTorch or transformers do without it, in this process, one after the other: the attention mask and the
dropout of a training pass, the key-value cache and the number of rows in writing, adapters that are merged or not.
Prints one JSON object; seconds on a CPU are those that were computed.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from workload import clock, load_model, model_options, short

from r4r.lm.base import LanguageModel, Lora
from r4r.lm.cache import Cache, extend
from r4r.lm.dropout import QuickDropout


def timed(work: Callable[[], object], device: torch.device, rounds: int = 3) -> float:
    """Seconds a round, after a first one."""
    work()
    started = clock(device)
    for _ in range(rounds):
        work()
    return (clock(device) - started) / rounds


def dropout(device: torch.device, layer: nn.Module) -> float:
    """Forward and back, on what a projection reads of three texts of 450 tokens."""
    x = torch.randn(1350, 576, device=device, requires_grad=True)
    return timed(lambda: layer.train()(x).sum().backward(), device, rounds=20)


def pass_of_training(lm: LanguageModel, masked: bool, layer: nn.Module) -> float:
    """Forward and back over texts of 450, 400 and 350 tokens, padded on the right; adapters with this dropout."""
    for module in lm.peft.modules():
        if "learning" in getattr(module, "lora_dropout", ()):
            module.lora_dropout["learning"] = layer
    ids = torch.randint(10, 1_000, (3, 450), device=lm.device)
    mask = (torch.arange(450) < torch.tensor([[450], [400], [350]])).long().to(lm.device)
    more = {"attention_mask": mask} if masked else {}

    def run() -> None:
        lm.hidden(input_ids=ids, use_cache=False, **more).last_hidden_state.sum().backward()

    lm.causal.train()
    took = timed(run, lm.device, rounds=1)
    lm.causal.eval()
    return took


@torch.inference_mode()
def step_of_writing(lm: LanguageModel, rows: int, tokens: int, copying: bool = False) -> float:
    """One more token for each row behind so many. `copying`: transformers' cache."""
    ids = torch.randint(10, 1_000, (rows, tokens), device=lm.device)
    mask = torch.ones_like(ids)
    cache = Cache(DynamicCache(), mask[:, :0]) if copying else None
    _, cache = extend(lm, cache, ids, mask)

    def step() -> None:
        nonlocal cache
        hidden, cache = extend(lm, cache, ids[:, :1], torch.cat([cache.mask, mask[:, :1]], dim=1))
        lm.logits(hidden[:, -1])

    return timed(step, lm.device, rounds=8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=300, help="before each row's next one")
    model_options(parser)
    arguments = parser.parse_args()
    lm = load_model(arguments)
    result: dict[str, Any] = {
        "dropout of 1350 x 576": {
            "torch": dropout(lm.device, nn.Dropout(0.1)),
            "r4r": dropout(lm.device, QuickDropout(0.1)),
        }
    }
    bare = {rows: step_of_writing(lm, rows, arguments.tokens) for rows in (16, 40)}
    lm.new_adapter("reasoner", Lora(r=16, alpha=32), train_head=False, seed=0)
    with lm.using("reasoner"):
        result["a step of writing"] = {
            f"{rows} rows": {
                "transformers' cache": step_of_writing(lm, rows, arguments.tokens, copying=True),
                "r4r's": step_of_writing(lm, rows, arguments.tokens),
                "without adapters": bare[rows],
            }
            for rows in bare
        }
    lm.new_adapter("learning", Lora(r=16, alpha=32), train_head=False, seed=0)
    result["a pass of training"] = {
        "mask, torch's dropout": pass_of_training(lm, True, nn.Dropout(0.1)),
        "torch's dropout": pass_of_training(lm, False, nn.Dropout(0.1)),
        "r4r's dropout": pass_of_training(lm, False, QuickDropout(0.1)),
    }
    print(json.dumps(short(result), indent=2))
