"""What it saves that heads share keys without copies (`r4r.lm.attention`): `python experiments/bench/attention.py`.

On a random model with four query heads to a key, as Llama-3-8B has them, at a smaller width: texts of several lengths
are written together, reasons are rated behind prompts that are held, and a step is trained, with transformers' own
attention and with r4r's in turn. Prints one JSON object: seconds of the faster of three rounds each (on a CPU, those
that this process computed), and their ratio.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from random_llama import write_llama
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from workload import clock

from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.lm.attention import attend
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.device import device_name
from r4r.lm.engine import HF
from r4r.lm.loss import response_loss
from r4r.lm.tiny import build_tiny
from r4r.training.objectives.base import encode

WAYS = {"transformers": sdpa_attention_forward, "shared": attend}
ROUNDS = 3


def model(folder: Path, layers: int, hidden: int) -> LanguageModel:
    (folder / "tokenizer").mkdir()
    build_tiny(folder / "tokenizer")
    write_llama(folder / "model", folder / "tokenizer", layers, hidden, 0)
    spec = LLMConfig(name="random", source=f"path:{folder / 'model'}", max_length=8192, batch_tokens=2**17)
    return LanguageModel.load(spec, TrainerConfig(), folder)


def works(lm: LanguageModel, rows: int, words: int, tokens: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    texts = ["a review of music " * ((words - n) // 4) + str(n) for n in range(rows)]
    prompts, engine = [lm.chat.prompt_ids(text) for text in texts], HF(lm)
    keep, pairs = [len(prompt) - 8 for prompt in prompts], [row for row in range(rows) for _ in range(8)]
    shared = engine.share(prompts, keep, None)
    weights = lm.new_adapter("expert", Lora(r=8, alpha=16), train_head=False, seed=0)
    examples = encode(lm, [(n, text, "Predicted Rating: 4.0") for n, text in enumerate(texts[:8])])
    lm.chat.end_ids = ()  # from here on every way writes as many tokens

    def train() -> None:
        with lm.using("expert"):
            for weight in weights:  # which it takes from them, for those who only read
                weight.requires_grad_(True)
            lm.causal.train()
            response_loss(lm, examples).backward()
            lm.causal.eval()

    return {
        "writing": lambda: engine.write(prompts, None, tokens),
        "rating": lambda: shared.rate(pairs, [prompts[row] for row in pairs]),
        "training": train,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--words", type=int, default=800, help="of the longest prompt")
    parser.add_argument("--tokens", type=int, default=32, help="that are written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lm = model(Path(folder), arguments.layers, arguments.hidden)
        seconds: dict[str, dict[str, float]] = {}
        for name, work in works(lm, arguments.rows, arguments.words, arguments.tokens).items():
            found: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(ROUNDS + 1):  # the first one warms
                for way, function in WAYS.items():
                    ALL_ATTENTION_FUNCTIONS["sdpa"] = function
                    started = clock(lm.device)
                    work()
                    found[way].append(clock(lm.device) - started)
            seconds[name] = {way: min(times[1:]) for way, times in found.items()}
    told = {
        "device": device_name(lm.device),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "setting": vars(arguments),
        "seconds": {name: {way: round(s, 3) for way, s in each.items()} for name, each in seconds.items()},
        "times_as_fast": {name: round(each["transformers"] / each["shared"], 2) for name, each in seconds.items()},
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
