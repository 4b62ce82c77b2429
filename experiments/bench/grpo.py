"""How fast GRPO's steps are, beside TRL's GRPOTrainer: `python experiments/bench/grpo.py`.

The Reasoner's prompts of a simulated world, groups of answers to each, a reward that costs nothing, the same loss:
three ways, each in a process of its own: r4r; GRPOTrainer with its defaults (in the type that the machine computes in);
the same without gradient checkpointing. No answer ends early, so that all ways write and learn as many tokens. Seconds
are those from the end of the first step to that of the last: those that passed, and on a CPU those that the process
computed, too. Needs `pip install trl`. Prints JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from workload import clock, expert_texts, load_model, model_options, peft_config

from r4r.configuration.schema import TrainerConfig
from r4r.experts.reasoner import Reasoner
from r4r.lm.base import LanguageModel
from r4r.training.fit import fit
from r4r.training.objectives.grpo import GRPO
from r4r.training.objectives.rollouts import Answer

LORA: dict[str, Any] = {"r": 16, "alpha": 32, "dropout": 0.0}
LR, KL = 1e-5, 0.01
WAYS = ("r4r", "trl", "trl_without_checkpointing")


def now(lm: LanguageModel) -> tuple[float, float]:
    """Seconds computed so far, and the time."""
    return clock(lm.device), time.perf_counter()


def worth(text: str) -> float:
    """A reward that differs between answers."""
    return float(len(set(text.split())))


def with_r4r(
    lm: LanguageModel, prompts: Sequence[tuple[int, str]], arguments: argparse.Namespace, folder: str
) -> list[tuple[float, float]]:
    """When each step ended."""
    ends: list[tuple[float, float]] = []

    def log(facts: dict[str, float]) -> None:
        ends.append(now(lm))

    def reward(answers: Sequence[Answer]) -> dict[str, list[float]]:
        return {"": [worth(answer.text) for answer in answers]}

    lm.chat.end_ids = ()
    objective: Any = GRPO({}, group=arguments.group, kl=KL, start="none")
    expert = Reasoner(LORA, LR, 1, arguments.batch, 0, arguments.tokens, objective=objective)  # type: ignore[arg-type]
    material = [(row_id, prompt, arguments.tokens) for row_id, prompt in prompts]
    examples = objective.encode(lm, material)
    services = {"reward": reward}
    fit(expert, lm, "reasoner", examples, Path(folder), TrainerConfig(), 0, log, services=services)
    return ends


def with_trl(
    lm: LanguageModel, prompts: Sequence[tuple[int, str]], arguments: argparse.Namespace, folder: str, saving: bool
) -> list[tuple[float, float]]:
    """When each step ended."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ends: list[tuple[float, float]] = []

    class Ends(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(now(lm))

    def reward(completions: Sequence[Any], **_: Any) -> list[float]:
        return [worth(completion[0]["content"]) for completion in completions]

    trainer = GRPOTrainer(
        model=lm.causal,
        processing_class=lm.chat.tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": prompt}]} for _, prompt in prompts]),
        peft_config=peft_config(lm, LORA),
        args=GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=arguments.batch * arguments.group,
            num_generations=arguments.group,
            max_completion_length=arguments.tokens,
            generation_kwargs={"min_new_tokens": arguments.tokens},
            max_steps=arguments.steps,
            learning_rate=LR,
            beta=KL,
            loss_type="grpo",
            bf16=lm.dtype == torch.bfloat16,
            gradient_checkpointing=saving,
            use_cpu=lm.device.type == "cpu",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
    )
    trainer.add_callback(Ends())
    trainer.train()
    return ends


def one(arguments: argparse.Namespace, way: str) -> dict[str, Any]:
    """Train one way, in this process."""
    texts = expert_texts(arguments.batch * arguments.steps, arguments.history)["reasoner"]
    prompts = [(row_id, prompt) for row_id, prompt, _ in texts]
    lm = load_model(arguments, batch_tokens=arguments.batch_tokens)
    read = sum(len(lm.chat.prompt_ids(prompt)) for _, prompt in prompts) / len(prompts)
    with tempfile.TemporaryDirectory() as folder:
        if way == "r4r":
            ends = with_r4r(lm, prompts, arguments, folder)
        else:
            ends = with_trl(lm, prompts, arguments, folder, way == "trl")
    assert len(ends) == arguments.steps
    seconds, passed = ((last - first) / (arguments.steps - 1) for first, last in zip(ends[0], ends[-1], strict=True))
    written = arguments.batch * arguments.group * arguments.tokens
    return {
        "way": way,
        "prompts_a_step": arguments.batch,
        "group": arguments.group,
        "tokens_a_prompt": round(read),
        "tokens_written_a_step": written,
        "seconds_a_step": round(seconds, 2),
        "seconds_passed_a_step": round(passed, 2),
        "tokens_written_per_s": round(written / passed, 1),
        "threads": torch.get_num_threads(),
        "device": str(lm.device),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--batch", type=int, default=4, help="prompts a step")
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--tokens", type=int, default=72, help="of an answer")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--history", type=int, default=5, help="reviews a side")
    parser.add_argument("--batch-tokens", type=int, default=16384, help="of r4r's writing; as llm=world_3m has it")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    model_options(parser)
    parser.set_defaults(model="package:world_3m")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(one(arguments, arguments.ways[0])))
        sys.exit()
    results = []
    for way in arguments.ways:
        own = [sys.executable, *sys.argv, "--here", "--ways", way]
        results.append(json.loads(subprocess.check_output(own, text=True).splitlines()[-1]))
        print(results[-1], file=sys.stderr)
    print(json.dumps(results, indent=2))
