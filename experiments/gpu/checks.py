"""What must hold on a GPU, and no CPU run can show: each check gives facts, and under `holds` whether it does.

Every check but that of memory takes a model of Llama-3-8B's widths with few layers, loaded in NF4.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from setting import Setting, forget, gib, load, model, predictor, processes, prompts, quietly, texts, train

NEAR = 0.15  # logits of a random model in bf16 that lie closer than this are a tie, which rounding decides
CLOSE = 0.02  # probabilities, likewise
ALIKE = 0.05  # distance of two adapters, as a share of how far training has moved them: kernels add in any order
TEXTS = 8  # of a training that is killed: two epochs of two steps
KILLED_AT = 2


def gradients(setting: Setting, lm: Any) -> dict[str, Any]:
    """The base model is packed to 4 bits, and every weight of an adapter gets a gradient, after an evaluation too."""
    import torch

    from r4r.lm.base import Lora
    from r4r.lm.loss import response_loss
    from r4r.training.objectives.base import encode

    layer = lm.causal.model.layers[0].mlp.up_proj
    packed = getattr(getattr(layer.weight, "quant_state", None), "quant_type", "none")
    lm.drop_adapter("probe")
    weights = lm.new_adapter("probe", Lora(r=8, alpha=16), False, 0)
    examples = encode(lm, texts(4))
    alive = []
    for moved in (False, True):
        with torch.no_grad():
            response_loss(lm, examples)  # in eval mode, after which some kernels have no gradient
            for weight in weights:
                weight.grad = None
                weight.add_(0.01 if moved else 0.0)
        lm.causal.train()
        response_loss(lm, examples).backward()
        lm.causal.eval()
        found = [w.grad for w in weights if w.grad is not None]
        alive.append(sum(bool(g.any()) and bool(torch.isfinite(g).all()) for g in found) / len(weights))
    own = [p for n, p in lm.causal.named_parameters() if "lora_" not in n]
    facts = {
        "device": str(lm.device),
        "linear": type(layer).__name__,
        "quantization": packed,
        "computes_in": str(lm.dtype).removeprefix("torch."),
        "adapter": sorted({f"{w.dtype} on {w.device}".removeprefix("torch.") for w in weights}),
        "with_gradient_at_first": alive[0],
        "with_gradient_then": alive[1],
        "base_without": all(p.grad is None for p in own),
        "gib": gib(lm.device),
    }
    lm.drop_adapter("probe")
    right = packed == "nf4" and facts["linear"] == "Linear4bit" and facts["base_without"]
    return facts | {"holds": right and alive == [0.5, 1.0]}


def resume(setting: Setting, lm: Any) -> dict[str, Any]:
    """A training that is killed (SIGKILL) and started again ends as an unbroken one."""
    kinds = ["adamw"] if setting.rehearsal else ["adamw", "paged_adamw_8bit"]
    facts: dict[str, Any] = {}
    for kind in kinds:
        facts[kind] = _killed_and_resumed(setting, lm, kind)
    return facts | {"holds": all(found["holds"] for found in facts.values())}


def _killed_and_resumed(setting: Setting, lm: Any, optimizer: str) -> dict[str, Any]:
    home = setting.work / "resume" / optimizer
    losses: dict[str, list[float]] = {"unbroken": [], "resumed": []}

    def expert() -> Any:
        return predictor(epochs=2, batch_size=4, optimizer=optimizer)

    def note(name: str) -> Any:
        return lambda facts: losses[name].append(facts["predictor/train/loss"])

    train(lm, expert(), texts(TEXTS), home / "unbroken", note("unbroken"))
    child = processes(setting).Process(target=_train_until_killed, args=(setting, home / "killed", optimizer))
    child.start()
    child.join()
    done = train(lm, expert(), texts(TEXTS), home / "killed", note("resumed"))
    apart = _apart(lm, home / "unbroken", home / "killed")
    went_on = 0 < (done["resumed_at_step"] or 0) < done["steps"]
    return {
        "exit_code": child.exitcode,
        "resumed_at_step": done["resumed_at_step"],
        "steps": done["steps"],
        "losses_unbroken": losses["unbroken"][-2:],
        "losses_resumed": losses["resumed"][-2:],
        "adapters_apart": apart,
        "holds": child.exitcode == -signal.SIGKILL and went_on and apart < ALIKE,
    }


def _train_until_killed(setting: Setting, folder: Path, optimizer: str) -> None:
    quietly(setting.work / "killed.log")

    def kill(facts: dict[str, float]) -> None:
        if facts["predictor/train/step"] > KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    train(load(setting), predictor(epochs=2, batch_size=4, optimizer=optimizer), texts(TEXTS), folder, kill)


def _apart(lm: Any, one: Path, other: Path) -> float:
    """How far two trainings' adapters lie from each other, as a share of how far one lies from where it began."""
    from safetensors.torch import load_file

    lm.drop_adapter("predictor")
    lm.new_adapter("predictor", predictor().lora, False, 0)
    lm.save_adapter("predictor", one / "begun")
    places = (one / "adapter", other / "adapter", one / "begun")
    trained, again, begun = (load_file(place / "adapter_model.safetensors") for place in places)

    def distance(found: Any) -> float:
        return float(sum((trained[name].float() - found[name].float()).pow(2).sum() for name in trained)) ** 0.5

    return distance(again) / distance(begun)


def recording(setting: Setting, lm: Any) -> dict[str, Any]:
    """A step of writing is recorded as a CUDA graph; one that waits for the GPU is not, and leaves it as it was."""
    import torch

    from r4r.lm.decoding import record
    from r4r.lm.generate import generate

    if lm.device.type != "cuda":
        return {"skipped": "steps are recorded on a GPU alone"}
    lm.records_steps = True
    generate(lm, prompts(lm, [20, 30]), 16)
    value, refused = torch.zeros(1, device=lm.device), ""
    before = torch.cuda.current_stream()
    try:
        record(lambda: value.add_(float(value)))
    except RuntimeError as error:
        refused = str(error).splitlines()[0]
    same = torch.cuda.current_stream() == before
    torch.cuda.empty_cache()
    kept = float(torch.nn.functional.dropout(torch.ones(1000, device=lm.device)).mean())
    again = float(record(lambda: value + 1)())
    facts = {"model_is_recorded": lm.records_steps, "refused": refused, "same_stream": same, "dropout_then": kept}
    return facts | {"holds": lm.records_steps and bool(refused) and same and 0.5 < kept < 1.5 and again == 1}


def in_float16(setting: Setting, _: Any) -> dict[str, Any]:
    """An adapter trains in float16, as on a T4 or V100, as in float32: its small gradients are not lost."""
    losses: dict[str, list[float]] = {"float16": [], "float32": []}
    facts: dict[str, Any] = {}
    for kind, told in losses.items():
        lm = load(setting, dtype=kind, quantization="none")
        expert, home = predictor(epochs=4, batch_size=TEXTS // 2), setting.work / "float16" / kind

        def note(measured: dict[str, float], told: list[float] = told) -> None:
            told.append(measured["predictor/train/loss"])

        done = train(lm, expert, texts(TEXTS), home, note)
        facts[kind] = {"losses": told, "left_out": done["steps_left_out"], "gib": gib(lm.device)}
        forget(lm)
        del lm
    near = all(abs(a - b) < ALIKE * b for a, b in zip(*losses.values(), strict=True))
    return facts | {"holds": near and facts["float16"]["left_out"] is None}


def batches(setting: Setting, lm: Any) -> dict[str, Any]:
    """Texts written together are those that transformers writes one by one, but for ties."""
    import torch

    from r4r.lm.engine import HF

    asked = prompts(lm, (60, 90, 120, 150, 8))
    new = min(24, setting.tokens)
    ends, lm.chat.end_ids = lm.chat.end_ids, ()
    try:
        _adapt(lm)
        found = HF(lm).write(asked, "probe", new)
        gaps, same = [], 0
        with lm.using("probe"), torch.inference_mode():
            for ids, out in zip(asked, found, strict=True):
                alone = _plainly(lm, ids, new)
                same += out == alone
                at = next((n for n, (a, b) in enumerate(zip(out, alone, strict=True)) if a != b), None)
                if at is not None:
                    logits = lm.causal(torch.tensor([[*ids, *alone[:at]]], device=lm.device)).logits[0, -1]
                    gaps.append(float(logits[alone[at]] - logits[out[at]]))
    finally:
        lm.chat.end_ids = ends
        lm.drop_adapter("probe")
    farthest = max(gaps, default=0.0)
    return {"texts": len(asked), "equal": same, "farthest_logit": farthest, "holds": abs(farthest) < NEAR}


def _adapt(lm: Any) -> None:
    """An adapter that changes every answer."""
    import torch

    from r4r.lm.base import Lora

    lm.drop_adapter("probe")
    weights = lm.new_adapter("probe", Lora(r=8, alpha=16), False, 0)
    draws = torch.Generator(lm.device).manual_seed(1)
    with torch.no_grad():
        for weight in weights:
            weight.normal_(0, 0.02, generator=draws)


def _plainly(lm: Any, ids: Sequence[int], new: int) -> list[int]:
    """As transformers writes one text."""
    import torch

    known = torch.tensor([ids], device=lm.device)
    settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    out = lm.causal.generate(known, attention_mask=torch.ones_like(known), **settings)
    return out[0, len(ids) :].tolist()


def ratings(setting: Setting, lm: Any) -> dict[str, Any]:
    """Ratings from a shared beginning, and together, are those of whole prompts one by one."""
    import torch

    from r4r.lm.engine import HF
    from r4r.lm.rating_tokens import rating_tokens

    asked = prompts(lm, (60, 90, 120, 150))
    spelled = rating_tokens(lm.chat)
    encoded = [[*ids, *spelled.prefix] for ids in asked]
    engine = HF(lm)
    try:
        _adapt(lm)
        shared = engine.share(asked, [len(ids) // 2 for ids in asked], "probe").rate(range(len(asked)), asked)
        together = engine.rate(encoded, "probe")
        with lm.using("probe"), torch.inference_mode():
            rows = [
                lm.causal(torch.tensor([ids], device=lm.device)).logits[0, -1, list(spelled.digits)] for ids in encoded
            ]
    finally:
        lm.drop_adapter("probe")
    own = torch.stack(rows).float().softmax(-1).cpu()
    apart = {name: float((found - own).abs().max()) for name, found in (("shared", shared), ("together", together))}
    return {"farthest_probability": apart, "holds": max(apart.values()) < CLOSE}


def memory(setting: Setting, _: None = None, whole: bool = True) -> dict[str, Any]:
    """All a job does fits the card that it is told of: the sizes of batches follow from what is free there."""
    import torch

    from r4r.lm.engine import HF
    from r4r.lm.rating_tokens import rating_tokens

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, setting.card_gb * 1e9 / total), 0)
    try:
        lm = load(setting, whole)
        engine = HF(lm)
        rows = setting.rows[-1]
        long = prompts(lm, [setting.words] * rows)
        facts: dict[str, Any] = {"card_gb": setting.card_gb, "batch_tokens": engine.batch_tokens}
        done = train(
            lm, predictor(batch_size=setting.batch), texts(2 * setting.batch, setting.words), setting.work / "memory"
        )
        facts |= {"passes_a_step": done["passes_a_step"], "training_gib": done["train_peak_gib"]}
        lm.chat.end_ids = ()
        forget(lm)
        engine = HF(lm)  # what is free has changed
        written = [engine.write([long[p] for p in unit], None, 4) for unit in engine.plan([len(p) for p in long], 4)]
        prefix = rating_tokens(lm.chat).prefix
        rated = engine.share(long, [len(p) - 8 for p in long], None).rate(range(rows), long)
        facts |= {"rows": sum(map(len, written)), "tokens_a_prompt": len(long[0]) + len(prefix)}
        facts["writing_gib"] = gib(lm.device)
        peak = torch.cuda.max_memory_reserved() if lm.device.type == "cuda" else 0
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(1.0, 0)
    whole_batch = facts["rows"] == rows == len(rated)
    return facts | {"reserved_gb": round(peak / 1e9, 2), "holds": whole_batch and peak <= setting.card_gb * 1e9}


def two_processes(setting: Setting, lm: Any) -> dict[str, Any]:
    """Two processes on one GPU train the adapter of one: by NCCL, told that they are two machines, else by gloo."""
    home = setting.work / "two"
    alone = train(lm, predictor(), texts(8), home / "alone", micro_batch_tokens=2048)
    facts: dict[str, Any] = {}
    for backend in ("gloo",) if setting.rehearsal else ("nccl", "gloo"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        members = [
            processes(setting).Process(target=_member, args=(setting, home / backend, backend, rank, port))
            for rank in range(2)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join(70)
            if member.is_alive():
                member.kill()
                member.join()
        facts[backend] = {"exit_codes": [member.exitcode for member in members]}
        if (home / backend / "adapter").exists():
            apart = _apart(lm, home / "alone", home / backend)
            facts[backend]["adapters_apart"] = apart
            return facts | {"steps": alone["steps"], "holds": apart < ALIKE}
    return facts | {"holds": False}


def _member(setting: Setting, folder: Path, backend: str, rank: int, port: int) -> None:
    quietly(setting.work / f"member-{backend}-{rank}.log")
    # as torchrun on two machines would say it: two processes of one machine may not share a GPU
    told = {"RANK": rank, "LOCAL_RANK": 0, "GROUP_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="proof")
    os.environ.update(
        NCCL_HOSTID=f"proof-{rank}", NCCL_SOCKET_IFNAME="lo", NCCL_IB_DISABLE="1", GLOO_SOCKET_IFNAME="lo"
    )
    from torch import distributed

    from r4r.ranks import this_rank
    from r4r.training import ranks

    signal.alarm(65)  # a mistake here would wait for ever
    if backend == "gloo":
        distributed.init_process_group("gloo", rank=rank, world_size=2)
    ranks.join(this_rank())
    if rank:
        ranks.called()
    train(load(setting), predictor(), texts(8), folder, strategy="ddp", devices="auto", micro_batch_tokens=2048)
    os._exit(0)  # NCCL may wait for the other


def job(setting: Setting, _: None = None) -> dict[str, Any]:
    """The smoke job, every stage of it, on the model in NF4."""
    import json

    outputs = setting.work / "job"
    arguments = ["experiment=smoke", "llm=llama3_8b", f"llm.source=path:{model(setting)}", "reason_source.tau=9"]
    arguments += [f"trainer={'smoke' if setting.rehearsal else 'gpu'}", f"paths.outputs={outputs}", "logger=none"]
    if setting.rehearsal:  # the stages to come are those of any smoke job
        arguments += ["target=split"]
    child = processes(setting).Process(target=_run_job, args=(setting, arguments))
    child.start()
    child.join()
    records = sorted((outputs / "runs").rglob("result.json"))
    record = json.loads(records[-1].read_text()) if records else {}
    facts = {"exit_code": child.exitcode, "status": record.get("status"), "stages": len(record.get("artifacts", {}))}
    if child.exitcode:
        facts["said"] = (setting.work / "job.log").read_text(errors="replace").strip().splitlines()[-3:]
    return facts | {"holds": child.exitcode == 0 and record.get("status") == "ok"}


def _run_job(setting: Setting, arguments: list[str]) -> None:
    quietly(setting.work / "job.log")
    from r4r.run import main

    sys.argv = ["r4r", *arguments]
    main()
