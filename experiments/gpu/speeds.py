"""What a GPU gives: its own rates, and on a model of Llama-3-8B's shape in NF4 seconds a prediction, tokens a second of
training and of writing, and memory, beside a plain transformers loop in the same run and the paper's 5.86 s on an A800.
"""

import importlib.util
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from setting import Setting, forget, gib, load, predictor, prompts, train

PAPER_SECONDS, PAPER_TOKENS = 5.86, 148  # a prediction by Llama-3-8B on an A800 (Table 6), and its tokens
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "pytorch-lightning", "tokenizers", "triton", "vllm")


def machine(setting: Setting, _: None = None) -> dict[str, Any]:
    """What the proof runs on, and how fast it multiplies and copies."""
    import torch
    from workload import copy_rate

    from r4r.lm.device import device_name, pick_device, pick_dtype
    from r4r.lm.memory import free_bytes

    device = pick_device("auto")
    dtype = pick_dtype("auto", device)
    facts: dict[str, Any] = {"device": device_name(device), "python": platform.python_version()}
    facts["packages"] = {name: found for name in PACKAGES if (found := _version(name))}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        facts |= {"memory_gib": round(about.total_memory / 2**30, 1), "free_gib": round(free_bytes(device) / 2**30, 1)}
        facts |= {"capability": f"{about.major}.{about.minor}", "cuda": torch.version.cuda}
        if torch.distributed.is_nccl_available():
            facts["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    facts["dtype"] = str(dtype).removeprefix("torch.")
    facts["matmul_tflops"] = _matmul_rate(setting, device, dtype) / 1e12
    facts["copy_gb_per_s"] = 0.0 if setting.rehearsal else copy_rate(device) / 1e9
    return facts


def _matmul_rate(setting: Setting, device: Any, dtype: Any) -> float:
    """Operations a second on matrices as the model has them; the rehearsal knows none."""
    from workload import matmul_rate

    return 0.0 if setting.rehearsal else matmul_rate(device, dtype, setting.hidden)


@cache
def _expert_texts(setting: Setting) -> Any:
    """Texts of each expert on a simulated world, for predictions and for training."""
    from workload import expert_texts

    return expert_texts(max(setting.rows[-1], setting.steps * setting.batch), setting.history)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def load_whole(setting: Setting) -> Any:
    return load(setting, whole=True)


def _expert_prompts(setting: Setting, lm: Any, rows: int) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids that the Reasoner reads, and those up to the Predictor's rating."""
    from r4r.lm.rating_tokens import rating_tokens

    found = {name: texts[:rows] for name, texts in _expert_texts(setting).items()}
    prefix = rating_tokens(lm.chat).prefix
    reading = [lm.chat.prompt_ids(prompt) for _, prompt, _ in found["reasoner"]]
    return reading, [[*lm.chat.prompt_ids(prompt), *prefix] for _, prompt, _ in found["predictor"]]


def _adapters(lm: Any) -> None:
    from r4r.lm.base import Lora

    for name, rank in (("reasoner", 16), ("predictor", 8)):
        lm.drop_adapter(name)
        lm.new_adapter(name, Lora(r=rank, alpha=2 * rank), train_head=False, seed=0)
    lm.chat.end_ids = ()  # every way writes as many tokens


def predictions(setting: Setting, lm: Any) -> dict[str, Any]:
    """Seconds a prediction: a reason of as many tokens as the paper counts, then its rating."""
    from generation import in_units, one_by_one
    from headline import rate_in_units, rate_one_by_one
    from workload import clock

    from r4r.lm.engine import HF

    ends = lm.chat.end_ids
    _adapters(lm)
    rows = setting.rows[-1]
    reading, rated = _expert_prompts(setting, lm, rows)
    engine = HF(lm)

    def seconds(count: int, write: Any, rate: Any) -> float:
        write(reading[:1])  # warm
        started = clock(lm.device)
        write(reading[:count])
        rate(rated[:count])
        return (clock(lm.device) - started) / count

    def singly(work: Any) -> Any:
        return lambda many: [work([one]) for one in many]

    together = (in_units(engine, "reasoner", setting.tokens), lambda many: rate_in_units(engine, many))
    forget(lm)
    few = setting.one_by_one
    plain = one_by_one(lm, "reasoner", setting.tokens)
    found = {
        "plain_transformers": seconds(few, plain, lambda many: rate_one_by_one(lm, many)),
        "one_by_one": seconds(few, singly(together[0]), singly(together[1])),
        "batched": seconds(rows, *together),
    }
    lm.chat.end_ids = ends
    for name in ("reasoner", "predictor"):
        lm.drop_adapter(name)
    return {
        "seconds_a_prediction": found,
        "batched_beside_plain": found["plain_transformers"] / found["batched"],
        "paper_beside": {name: PAPER_SECONDS / value for name, value in found.items()},
        "rows": len(reading),
        "batch_tokens": engine.batch_tokens,
        "new_tokens": setting.tokens,
        "tokens_a_prompt": round(sum(map(len, reading)) / len(reading)),
        "gib": gib(lm.device),
    }


def writing(setting: Setting, lm: Any) -> dict[str, Any]:
    """Seconds of a decoding step, and tokens a second, by rows of a batch."""
    from workload import clock

    from r4r.lm.engine import HF

    ends = lm.chat.end_ids
    _adapters(lm)
    engine = HF(lm)
    short, long = max(2, setting.tokens // 8), max(4, setting.tokens // 2)
    found: dict[str, Any] = {}
    for rows in setting.rows:
        forget(lm)
        asked = prompts(lm, [setting.words] * rows)
        times = []
        for new in (short, short, long):  # the first one warms
            started = clock(lm.device)
            engine.write(asked, "reasoner", new)
            times.append(clock(lm.device) - started)
        step = max(times[2] - times[1], 1e-9) / (long - short)
        read = max(times[1] - short * step, 1e-9)
        found[str(rows)] = {
            "ms_a_step": step * 1e3,
            "tokens_per_s": rows / step,
            "tokens_read_per_s": sum(map(len, asked)) / read,
            "gib": gib(lm.device),
        }
    lm.chat.end_ids = ends
    for name in ("reasoner", "predictor"):
        lm.drop_adapter(name)
    return {"tokens_a_prompt": len(asked[0]), "rows": found}


def training(setting: Setting, lm: Any) -> dict[str, Any]:
    """Tokens a second of the Predictor's training, with checkpointed layers and without, beside what the GPU
    multiplies: four operations a weight and token, forward, and back to the inputs."""
    from workload import clock, projection_weights

    from r4r.training.objectives.base import encode

    lessons = _expert_texts(setting)["predictor"][: setting.steps * setting.batch]
    tokens = sum(map(len, encode(lm, lessons)))
    most = _matmul_rate(setting, lm.device, lm.dtype) / (4 * projection_weights(lm))
    facts: dict[str, Any] = {"tokens_a_text": round(tokens / len(lessons)), "limit_tokens_per_s": most}
    for name in ("checkpointed", "whole"):
        if name == "whole":
            lm.causal.gradient_checkpointing_disable()
            lm.spec = lm.spec.model_copy(update={"gradient_checkpointing": False})
        forget(lm)
        folder = setting.work / "speed" / name
        if not setting.rehearsal:
            train(lm, predictor(batch_size=setting.batch), lessons[: setting.batch], folder)  # warm
        started = clock(lm.device)
        done = train(lm, predictor(batch_size=setting.batch), lessons, folder)
        rate = tokens / (clock(lm.device) - started)
        facts[name] = {
            "tokens_per_s": rate,
            "share_of_matmul_rate": rate / most if most else None,
            "passes_a_step": done["passes_a_step"],
            "gib": done["train_peak_gib"],
        }
    return facts


def by_vllm(setting: Setting, _: None = None) -> dict[str, Any]:
    """Seconds a prediction by vLLM in this process, where it can be imported."""
    if importlib.util.find_spec("vllm") is None:
        return {"skipped": "vLLM is not installed"}
    os.environ.pop("PYTORCH_ALLOC_CONF", None)  # vLLM cannot sleep with segments that expand
    from headline import rate_in_units
    from workload import clock

    from r4r.lm.vllm import open_vllm

    lm = load(setting, whole=True)
    _adapters(lm)
    rows = setting.rows[-1]
    reading, rated = _expert_prompts(setting, lm, rows)
    homes = {name: setting.work / "vllm" / name for name in ("reasoner", "predictor")}
    for name, home in homes.items():
        home.parent.mkdir(parents=True, exist_ok=True)
        lm.save_adapter(name, home)
    spec, device = lm.spec.model_copy(update={"engine": "vllm"}), lm.device
    del lm
    engine = open_vllm(spec, [16], setting.work)
    engine.chat.end_ids = ()
    for name, home in homes.items():
        engine.load_adapter(name, home)
    engine.write(reading[:1], "reasoner", 4)
    started = clock(device)
    engine.write(reading, "reasoner", setting.tokens)
    rate_in_units(engine, rated)
    found = (clock(device) - started) / rows
    engine.close()
    return {"seconds_a_prediction": found, "paper_beside": PAPER_SECONDS / found, "rows": rows, **engine.about}
