"""How fast prompts are rated: `python experiments/bench/rating.py`.

Rates ten reasons of each pair with the reward model's prompt, on a simulated world, four ways: each prompt whole, one
by one, with the logits of all its tokens, as a plain call of the model gives them; with those of the last token alone;
in batches; and with the beginning that a pair's prompts share computed once. Prints one JSON object, ratios taken in
this run; seconds on a CPU are those that were computed. The adapter is a fresh one: speed does not depend on what it
learnt.
"""

import argparse
import json

import torch
from workload import clock, load_model, model_options

from r4r.config import DatasetConfig, HistoryConfig, PrepareConfig, WorldConfig
from r4r.data.prepare import split_frame
from r4r.data.simulator import build_world
from r4r.experts.reward_model import RewardModel
from r4r.lm.base import Lora
from r4r.lm.batches import common_prefix, plan_batches
from r4r.lm.rate import SharedPrefix, rate
from r4r.lm.rating_tokens import rating_tokens
from r4r.rows import Case
from r4r.stages.cases import make_cases


def prompts_of(pairs: int, candidates: int, history: int) -> tuple[list[Case], list[str]]:
    """Cases with summarised reviews a side (reviews cut to a summary's length), and reasons to rate them with."""
    world = WorldConfig(users=40, items=15, reviews_per_user=14)
    rows, _ = split_frame(build_world(world).rows, PrepareConfig(k_core=2))
    shown = HistoryConfig(prompt=history)
    dataset = DatasetConfig(name="simulated", source="simulated", category="Music", world=world, history=shown)
    texts = {row_id: " ".join(text.split()[:30]) for row_id, text in zip(rows["row_id"], rows["review"], strict=True)}
    cases = make_cases(dataset, rows, rows[rows["split"] == "test"].head(pairs), texts)
    reasons = [" ".join(text.split()[:45]) for text in rows["review"].head(pairs * candidates)]
    return cases, reasons


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--history", type=int, default=10, help="reviews a side")
    model_options(parser)
    arguments = parser.parse_args()
    lm = load_model(arguments)
    lm.new_adapter("reward_model", Lora(r=8, alpha=16), train_head=False, seed=0)
    cases, reasons = prompts_of(arguments.pairs, arguments.candidates, arguments.history)
    owner = [n % len(cases) for n in range(len(reasons))]
    ids = [lm.chat.prompt_ids(RewardModel.prompt(cases[o], text)) for o, text in zip(owner, reasons, strict=True)]

    spelled = rating_tokens(lm.chat)

    @torch.inference_mode()
    def full_logits() -> torch.Tensor:
        rows = []
        for prompt in ids:
            logits = lm.causal(torch.tensor([[*prompt, *spelled.prefix]], device=lm.device)).logits
            rows.append(logits[0, -1, list(spelled.digits)].float().softmax(dim=-1).cpu())
        return torch.stack(rows)

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
    for way in (full_logits, one_by_one, batched, shared):
        started = clock(lm.device)
        answers[way.__name__] = way()
        seconds[way.__name__] = clock(lm.device) - started
    apart = max(float((found - answers["full_logits"]).abs().max()) for found in answers.values())
    result = {
        "pairs": len(cases),
        "candidates": arguments.candidates,
        "tokens_a_prompt": round(sum(map(len, ids)) / len(ids)),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "gain_over_full_logits": {name: round(seconds["full_logits"] / value, 2) for name, value in seconds.items()},
        "largest_difference_of_a_probability": round(apart, 6),
        "threads": torch.get_num_threads(),
        "device": str(lm.device),
    }
    print(json.dumps(result, indent=2))
