"""How fast an expert trains, beside TRL's SFTTrainer: `python experiments/bench/training.py`.

Trains each expert for a few steps on the texts that it has on a simulated world, three ways, each in a process of its
own: r4r; SFTTrainer with its defaults (in the type that the machine computes in); the same without gradient
checkpointing, which is on by default there. Tokens are those of prompts and responses, padding not counted; seconds
are those of the whole call that trains, on a CPU those that it computed. Needs `pip install trl`. Prints JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from workload import Texts, clock, expert_texts, load_model, matmul_rate, model_options, peft_config, projection_weights

from r4r.configuration.schema import TrainerConfig
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.experts.reward_model import RewardModel
from r4r.experts.summarizer import Summarizer
from r4r.lm.base import LanguageModel
from r4r.training.expert import Expert
from r4r.training.fit import fit
from r4r.training.objectives.base import encode

KINDS: dict[str, tuple[type[Expert], dict[str, Any]]] = {  # the paper's adapters
    "summarizer": (Summarizer, {"lora": {"r": 16, "alpha": 32, "dropout": 0.0}, "max_new_tokens": 48}),
    "reward_model": (RewardModel, {"lora": {"r": 8, "alpha": 16, "dropout": 0.0}}),
    "reasoner": (Reasoner, {"lora": {"r": 16, "alpha": 32, "dropout": 0.1}, "max_new_tokens": 72}),
    "predictor": (Predictor, {"lora": {"r": 8, "alpha": 16, "dropout": 0.0}}),
}
WAYS = ("r4r", "trl", "trl_without_checkpointing")


def with_r4r(lm: LanguageModel, name: str, texts: Texts, batch: int, folder: Path) -> None:
    kind, settings = KINDS[name]
    expert = kind(lr=1e-3, epochs=1, batch_size=batch, warmup=0.1, **settings)
    fit(expert, lm, name, encode(lm, texts), folder, TrainerConfig(), 0, lambda facts: None)


def trl_trainer(lm: LanguageModel, name: str, texts: Texts, batch: int, checkpointing: bool, folder: str) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"prompt": [{"role": "user", "content": p}], "completion": [{"role": "assistant", "content": r}]}
        for _, p, r in texts
    ]
    return SFTTrainer(
        model=lm.causal,
        processing_class=lm.chat.tokenizer,
        train_dataset=Dataset.from_list(rows),
        peft_config=peft_config(lm, KINDS[name][1]["lora"]),
        args=SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            bf16=lm.dtype == torch.bfloat16,
            gradient_checkpointing=checkpointing,
            max_length=None,
            use_cpu=lm.device.type == "cpu",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
    )


def one(arguments: argparse.Namespace, name: str, way: str) -> dict[str, Any]:
    """Train one expert one way, in this process."""
    texts = expert_texts(arguments.batch * arguments.steps, arguments.history)[name]
    lm = load_model(arguments, gradient_checkpointing=way == "r4r" and arguments.checkpointing)
    examples = encode(lm, texts)
    read, learnt = (sum(lengths) for lengths in zip(*((len(e), len(e.response)) for e in examples), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        if way == "r4r":
            started = clock(lm.device)
            with_r4r(lm, name, texts, arguments.batch, Path(folder))
        else:
            trainer = trl_trainer(lm, name, texts, arguments.batch, way == "trl", folder)
            started = clock(lm.device)
            trainer.train()
        seconds = clock(lm.device) - started
    limit = matmul_rate(lm.device, lm.dtype, lm.causal.config.hidden_size) / (4 * projection_weights(lm))
    memory = (
        torch.cuda.max_memory_allocated()
        if lm.device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "expert": name,
        "way": way,
        "tokens_a_text": round(read / len(examples)),
        "learnt_tokens_a_text": round(learnt / len(examples)),
        "tokens_per_s": round(read / seconds, 1),
        "limit_tokens_per_s": round(limit, 1),  # 4 operations a weight of the projections: forward, and back to inputs
        "peak_memory_gib": round(memory / 2**30, 2),
        "threads": torch.get_num_threads(),
        "device": str(lm.device),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--batch", type=int, default=4, help="texts a step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--history", type=int, default=2, help="reviews a side; the paper's 10 for long prompts")
    parser.add_argument("--checkpointing", action="store_true", help="r4r with llm.gradient_checkpointing")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    model_options(parser)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(one(arguments, arguments.experts[0], arguments.ways[0])))
        sys.exit()
    results = []
    for name in arguments.experts:
        for way in arguments.ways:
            own = ["--here", "--experts", name, "--ways", way]
            ran = subprocess.run([sys.executable, *sys.argv, *own], stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(ran.stdout.splitlines()[-1]))
            print(results[-1], file=sys.stderr)
    print(json.dumps(results, indent=2))
