"""How fast each engine writes: `python experiments/bench/engines.py` (needs the extra vllm).

The Reasoner's prompts for pairs of a simulated world, ten summarised reviews a side, a fixed number of new tokens each,
by hf one by one, by hf in batches, and by vLLM in process; the adapter is a fresh one. Writes engines.json and prints
the table. CPU seconds are those of all processes, so neighbours on the same cores do not count.
"""

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch
from shared_prefix import SMOLLM2, prompts_of

from r4r.config import LLMConfig, TrainerConfig, VLLMConfig
from r4r.experts.reasoner import Reasoner
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF, Engine
from r4r.lm.vllm import open_vllm


def cpu_s() -> float:
    """CPU seconds of this process and of those that it started."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [own, *own.children(recursive=True)])


def measured(engine: Engine, units: list[list[list[int]]], tokens: int) -> dict[str, float]:
    engine.write(units[0][:2], "reasoner", 4)  # warm
    cpu, started, written = cpu_s(), time.perf_counter(), 0
    for unit in units:
        written += sum(map(len, engine.write(unit, "reasoner", tokens)))
    cpu, wall = cpu_s() - cpu, time.perf_counter() - started
    return {
        "cpu_s": round(cpu, 1),
        "wall_s": round(wall, 1),
        "tokens": written,
        "tokens_a_cpu_s": round(written / cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--memory-share", type=float, default=0.2)
    parser.add_argument("--eager", action="store_true", help="vLLM without compilation")
    parser.add_argument("--cache", type=Path, default=os.environ.get("R4R_CACHE", "~/.cache/r4r"))
    arguments = parser.parse_args()
    cache = Path(arguments.cache).expanduser()
    spec = LLMConfig(**SMOLLM2, dtype="float32", max_length=2048, system="")
    lm = LanguageModel.load(spec, TrainerConfig(), cache)
    lm.new_adapter("reasoner", Lora(r=8, alpha=16), train_head=False, seed=0)
    cases, _ = prompts_of(arguments.prompts, 1)
    ids = [lm.chat.prompt_ids(Reasoner.prompt(case)) for case in cases]
    hf = HF(lm)
    batched = [[ids[place] for place in unit] for unit in hf.plan([len(i) for i in ids], arguments.tokens)]
    with TemporaryDirectory() as folder:
        lm.save_adapter("reasoner", Path(folder) / "adapter")
        own = VLLMConfig(memory_share=arguments.memory_share, eager=arguments.eager)
        vllm = open_vllm(spec.model_copy(update={"engine": "vllm", "vllm": own}), [8], cache)
        rows = {"hf, one by one": measured(hf, [[i] for i in ids], arguments.tokens)}
        rows["hf, batched"] = measured(hf, batched, arguments.tokens)
        started = time.perf_counter()
        vllm.load_adapter("reasoner", Path(folder) / "adapter")
        vllm.rate(ids[:1], "reasoner")
        start_s = round(time.perf_counter() - started, 1)
        rows["vllm"] = measured(vllm, [ids], arguments.tokens)
        result = {
            "prompts": len(ids),
            "tokens_a_prompt": round(sum(map(len, ids)) / len(ids)),
            "new_tokens": arguments.tokens,
            "rows": rows,
            "vllm_start_s": start_s,
            "vllm_eager": arguments.eager,
            "engine": vllm.about,
            **hf.setup,
        }
        vllm.close()
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print("| engine | CPU s | wall s | tokens | tokens a CPU second |\n| --- | ---: | ---: | ---: | ---: |")
    for name, row in rows.items():
        print(f"| {name} | {row['cpu_s']} | {row['wall_s']} | {row['tokens']} | {row['tokens_a_cpu_s']} |")
    print(f"vLLM started in {start_s} s; torch {torch.__version__}")


if __name__ == "__main__":  # vLLM's processes import this file
    main()
