"""Overrides on the command line that nothing in the job would read: refused, since they would change nothing."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from r4r.configuration.checks import plugins_in
from r4r.configuration.kinds import stranger
from r4r.configuration.targets import fitting

# what only some methods read: an override of these that no method of the job uses is refused
GUARDED = {
    "llm": "llm",
    "teacher": "teacher",
    "strategy": "strategy",
    "reason_source": "reason_source",
    "control": "control",
    "experts": "experts",
    "expert": "experts",
    "objective": "experts",
    "reward": "experts",
    "recipe": "experts",
}
# what one way of running the base model reads, and the others do not
HF_ONLY = {"batch_tokens", "prefix_gb", "merge_adapters", "cuda_graphs"}
IN_PROCESS_ONLY = {
    "tensor_parallel",
    "data_parallel",
    "memory_share",
    "eager",
    "max_num_seqs",
    "max_num_batched_tokens",
}
# setting -> the step of preparation that reads it
PREPARED = {
    "dataset.prepare.window_months": "window",
    "dataset.prepare.require_title": "require_title",
    "dataset.prepare.require_text": "require_text",
    "dataset.prepare.dedupe": "dedupe",
    "dataset.prepare.k_core": "k_core",
}
FOR_ALL = {"accelerator", "threads"}  # settings of the trainer that methods without experts read too


def ignored(cfg: DictConfig, overrides: Iterable[str]) -> list[str]:
    """A sentence for every command-line override that no method of this job reads."""
    named = {"method": cfg.get("method")}
    named |= {f"references.{name}": node for name, node in (cfg.get("references") or {}).items()}
    nodes = list(named.values())
    used: set[str] = set()
    trained: set[str] = set()
    instead: dict[str, str] = {}
    idle = unread_settings(cfg)
    for where, node in named.items():
        try:
            target = fitting(where, str(node["_target_"]), plugins_in(cfg))
        except Exception:  # a broken target is validate's to report
            return []
        uses = getattr(target, "uses", None)
        if uses is None:
            return []
        used |= set(uses)
        instead |= getattr(target, "instead", {}) if where == "method" else {}
        if "experts" in uses:
            trained |= set(getattr(target, "experts", cfg.get("experts") or ()))
    names = ", ".join(dict.fromkeys(str(node.get("name")) for node in nodes))
    found = []
    experts = cfg.get("experts") or {}
    mounted = [name for name, node in experts.items() if isinstance(node, DictConfig) and "_target_" in node]
    chosen = cfg.get("strategy") or {}
    for override in (each.removeprefix("++") for each in overrides):  # put before what no file spells out
        root, inner = [*re.split(r"[.@/=]", override.lstrip("+~")), ""][:2]
        key = override.lstrip("+~").partition("=")[0].rpartition("@")[2]
        if root in GUARDED and GUARDED[root] not in used:
            found.append(f"{override}: this job's methods ({names}) do not use {GUARDED[root]}; drop the override")
        elif root == "experts" and inner in experts and inner not in mounted:
            found.append(f"{override}: this strategy has no {inner}, it mounts {', '.join(mounted)}; drop the override")
        elif root == "experts" and inner in experts and inner not in trained:
            found.append(f"{override}: this job's methods ({names}) train no {inner}; drop the override")
        elif owner := next((idle[k] for k in idle if key == k or key.startswith(f"{k}.")), ""):
            found.append(f"{override}: is not read by {owner}; drop the override")
        elif "experts" not in used and _trains(key, inner):
            found.append(f"{override}: this job's methods ({names}) train no expert; drop the override")
        elif own := instead.get(key):
            found.append(f"{override}: {cfg.method.get('name')} reads {own} in its place; set that")
        elif root == "experts" and (own := _taken(key, experts)):
            found.append(f"{override}: {own} stands in its place; set that, or null")
        elif fault := _unread(inner, override, cfg) if root == "llm" else _strange(key, cfg):
            found.append(f"{override}: {fault}")
        elif root in ("references", "method") and _is_itself(key, cfg):
            told = "is the method itself here; give the reference another name, as in +method@references.other=METHOD"
            found.append(f"{override}: {told}")
        elif step := _left_out(key, cfg):
            found.append(f"{override}: dataset.prepare.order leaves out {step}; add it there, or drop the override")
        elif root == "reason_source" and chosen.get("reasons") is False:
            found.append(f"{override}: this strategy predicts without reasons; drop the override")
    return found


def _is_itself(key: str, cfg: DictConfig) -> bool:
    """Whether a reference that is set has the method's name and class: its row would be the method's."""
    group, _, rest = key.partition(".")
    own, name = cfg.method, rest.partition(".")[0]
    reference = (cfg.get("references") or {}).get(name) if group == "references" else None
    return reference is not None and (name, reference.get("_target_")) == (own.get("name"), own.get("_target_"))


def _left_out(key: str, cfg: DictConfig) -> str:
    """The step of preparation that would read a setting, where the order leaves it out; else empty."""
    step, order = PREPARED.get(key, ""), OmegaConf.select(cfg, "dataset.prepare.order")
    again = step == "k_core" and OmegaConf.select(cfg, "dataset.prepare.sample_users")  # has a core of its own
    return "" if order is None or step in order or again else step


def _taken(key: str, experts: Mapping[Any, Any] | DictConfig) -> str:
    """The setting of an expert's objective that is read in the place of the expert's own; empty where this one is.

    An objective that goes on from SFT leaves the expert's own to that.
    """
    place, _, setting = key.removeprefix("experts.").partition(".")
    objective = (experts.get(place) or {}).get("objective") or {}
    taken = objective.get("start") == "none" and objective.get(setting) is not None
    return f"experts.{place}.objective.{setting}" if taken else ""


def _strange(key: str, cfg: DictConfig) -> str:
    """Why a setting of another kind is refused that a preset or a recipe may bring; of others `validate` says so."""
    brought = cfg.get("experiment") or key.startswith("experts.")
    return stranger(key, cfg, plugins_in(cfg)) if brought else ""


def _trains(key: str, inner: str) -> bool:
    """Whether an override is of a setting that only the training of experts reads."""
    return inner == "ddp" if key == "trainer" else key.startswith("trainer.") and inner not in FOR_ALL


def unread_settings(cfg: DictConfig) -> dict[str, str]:
    """Dotted key below `experts` -> the method, with the settings for which it does not read it (see Method.unread)."""
    nodes = {"method": cfg.get("method")}
    nodes |= {f"references.{name}": node for name, node in (cfg.get("references") or {}).items()}
    found: dict[str, str] = {}
    for where, node in nodes.items():
        try:
            target = fitting(where, str(node["_target_"]), plugins_in(cfg))
        except Exception:  # a broken target is validate's to report
            continue
        settings = {str(key): value for key, value in node.items() if key not in ("_target_", "name")}
        told = ", ".join([str(node.get("name")), *(f"{key}={value}" for key, value in settings.items())])
        found |= {key: told for key in getattr(target, "unread", lambda settings: ())(settings)}
    return found


def _unread(inner: str, override: str, cfg: DictConfig) -> str:
    """Why the chosen engine does not read an override of `llm`; empty where it does."""
    engine = OmegaConf.select(cfg, "llm.engine") or "hf"
    if inner == "vllm" and engine != "vllm":
        return "read by llm.engine=vllm alone; add that, or drop the override"
    if inner in HF_ONLY and engine == "vllm":
        return "vLLM makes its own batches, keeps common beginnings and applies adapters itself; drop the override"
    setting = override.partition("=")[0].rpartition(".")[2]
    server = OmegaConf.select(cfg, "llm.vllm.base_url")
    if inner == "vllm" and setting in IN_PROCESS_ONLY and server:
        return f"the server at {server} was started with its own; drop the override"
    if inner == "vllm" and setting == "key_env" and not server:
        return "vLLM in this process needs no key; set llm.vllm.base_url, or drop the override"
    return ""
