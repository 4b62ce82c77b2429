"""How fast prompts are rated: `python experiments/bench/rating.py`.

Rates ten reasons of each pair with the reward model's prompt, on a simulated world, four ways: each prompt whole, one
by one, with the logits of all its tokens, as a plain call of the model gives them; then by r4r's engine: one by one,
with the last token's logits alone; in batches; and with the beginning that a pair's prompts share computed once. Prints
one JSON object, ratios taken in this run; seconds on a CPU are those that were computed. The adapter is a fresh one:
speed does not depend on what it learnt.
"""

import argparse
import json

import torch
from workload import clock, load_model, model_options, shipped

from r4r.configuration.schema import DatasetConfig, HistoryConfig, PrepareConfig, WorldConfig
from r4r.data.prepare import split_frame
from r4r.data.simulator import build_world
from r4r.experts.reward_model import RewardModel
from r4r.lm.base import Lora
from r4r.lm.batches import common_prefix
from r4r.lm.engine import HF
from r4r.lm.rating_tokens import rating_tokens
from r4r.rows import Case
from r4r.stages.cases import make_cases

NAME = "reward_model"


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
    parser.add_argument("--batch-tokens", type=int, default=32768, help="llm.batch_tokens")
    model_options(parser)
    arguments = parser.parse_args()
    lm = load_model(arguments, batch_tokens=arguments.batch_tokens)
    lm.new_adapter(NAME, Lora(r=8, alpha=16), train_head=False, seed=0)
    cases, reasons = prompts_of(arguments.pairs, arguments.candidates, arguments.history)
    judge = shipped(RewardModel)
    owner = [n % len(cases) for n in range(len(reasons))]
    ids = [lm.chat.prompt_ids(judge.prompt(cases[o].thinking(text))) for o, text in zip(owner, reasons, strict=True)]

    spelled, engine = rating_tokens(lm.chat), HF(lm)
    whole = [[*prompt, *spelled.prefix] for prompt in ids]

    @torch.inference_mode()
    def full_logits() -> torch.Tensor:
        rows = []
        with lm.using(NAME):
            for prompt in whole:
                logits = lm.causal(torch.tensor([prompt], device=lm.device)).logits
                rows.append(logits[0, -1, list(spelled.digits)].float().softmax(dim=-1).cpu())
        return torch.stack(rows)

    def one_by_one() -> torch.Tensor:
        return torch.cat([engine.rate([prompt], NAME) for prompt in whole])

    def batched() -> torch.Tensor:
        out = torch.empty(len(ids), 5)
        for places in engine.plan([len(prompt) for prompt in whole]):
            out[places] = engine.rate([whole[p] for p in places], NAME)
        return out

    def shared() -> torch.Tensor:
        first = [lm.chat.prompt_ids(judge.prompt(case.thinking("A"))) for case in cases]
        other = [lm.chat.prompt_ids(judge.prompt(case.thinking("0"))) for case in cases]
        keep = [common_prefix([a, b]) for a, b in zip(first, other, strict=True)]
        scorer = engine.share(first, keep, NAME)
        rounds = [range(start, start + len(cases)) for start in range(0, len(ids), len(cases))]
        return torch.cat([scorer.rate([owner[n] for n in r], [ids[n] for n in r]) for r in rounds])

    engine.rate(whole[:1], NAME)  # warm
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
        **engine.setup,
    }
    print(json.dumps(result, indent=2))
