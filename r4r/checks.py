"""Is this configuration right? Every fault at once, as sentences, before any model loads."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from r4r.config import Config
from r4r.errors import ConfigError
from r4r.files import conf_dir
from r4r.kinds import stranger, strangers, without_strangers
from r4r.targets import close_names, constructor_schema, fitting, misplaced, setting_names

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
FOR_ALL = {"accelerator", "threads"}  # settings of the trainer that methods without experts read too
UNION_MEMBER = re.compile(r"str|int|float|bool|(list|dict|literal|constrained|function)[\[-].*")  # in pydantic's places
LARGEST = 2**32 - 1  # of any whole number; what libraries take as a seed


def validate(cfg: DictConfig, classes: bool = True) -> Config:
    """The typed configuration of a composed job; folders become absolute, from where the command is run.

    Args:
        classes: false leaves the classes that a `_target_` names alone: importing them takes seconds.
    Raises:
        ConfigError: with every fault found: missing values, dead interpolations, unknown keys, wrong types and values,
            classes that may not stand where they do, and settings that their constructors do not take.
    """
    cfg = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"}, flags={"allow_objects": True})
    problems = _unresolved(cfg)
    dead = {problem.split(":")[0] for problem in problems}
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    unmounted = _unmounted(values)
    folders = values.get("paths")
    if isinstance(folders, dict):
        values["paths"] = {
            k: Path(v).expanduser().absolute() if v and isinstance(v, str) else v for k, v in folders.items()
        }
    problems += misplaced(values)
    strange = strangers(values, plugins_in(values))
    without_strangers(values, strange)
    if not values.get("experiment"):  # what a preset brings for another kind is not read, and no fault
        problems += [text for key, text in strange.items() if key not in dead]
    found = _too_large(values)
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        found = [*_sentences(error, Config, ""), *found]
    problems += [text for key, text in dict(reversed(found)).items() if key not in dead][::-1]
    if classes:
        plugins = plugins_in(values)
        for where, node in _targets(values):
            found = _constructor_problems(where, unmounted.get(where, node), plugins)
            problems += [text for key, text in found if key not in dead]
        if config and config.timing.rows:
            problems += _untimed(config)
    if config and classes and not problems:
        from r4r.teacher_reach import beyond_simulator

        problems += beyond_simulator(config)
    if config and config.llm.engine == "vllm":
        problems += [
            f"experts.{name}.train_lm_head=true: vLLM serves LoRA adapters alone, never a trained output head; set it "
            "to false, or llm.engine=hf"
            for name, node in config.experts.items()
            if name not in unmounted and node.get("train_lm_head")
        ]
    if problems or config is None:
        raise ConfigError(problems)
    return config.model_copy(
        update={"experts": {k: v for k, v in config.experts.items() if f"experts.{k}" not in unmounted}}
    )


def plugins_in(values: Mapping[Any, Any] | DictConfig) -> tuple[str, ...]:
    """The modules that a configuration lists as plugins; none where the list is none."""
    listed = values.get("plugins")
    return tuple(map(str, listed)) if isinstance(listed, list | ListConfig) else ()


def named_classes(cfg: DictConfig) -> set[str]:
    """The classes that a composed configuration names."""
    nodes = [node.get("_target_") for _, node in _targets(cfg)]
    return {target for target in nodes if isinstance(target, str)}


def _too_large(node: Any, path: str = "") -> list[tuple[str, str]]:
    """(key, sentence) for every whole number beyond what any setting means."""
    if isinstance(node, dict):
        return [
            fault for key, inner in node.items() for fault in _too_large(inner, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(node, list):
        return [fault for index, inner in enumerate(node) for fault in _too_large(inner, f"{path}.{index}")]
    if isinstance(node, int) and abs(node) > LARGEST:
        return [(path, f"{path}={node}: should be at most {LARGEST}")]
    return []


def _unmounted(values: Mapping[Any, Any]) -> dict[str, dict[Any, Any]]:
    """Experts that a recipe or a preset has settings for but this job's strategy does not mount, filled in as they
    would be if it did, by dotted key."""
    experts = values.get("experts")
    found = {}
    for name, node in experts.items() if isinstance(experts, dict) else ():
        file = conf_dir() / "expert" / f"{name}.yaml"
        if isinstance(node, dict) and "_target_" not in node and file.exists():
            own = cast(dict[Any, Any], OmegaConf.to_container(OmegaConf.load(file)))
            own.pop("defaults", None)
            found[f"experts.{name}"] = {**own, **node}
    return found


def _untimed(config: Config) -> list[str]:
    """A sentence where predictions are to be timed and the method says that it has none to time."""
    try:
        uses = getattr(fitting("method", str(config.method.get("_target_")), config.plugins), "uses", {"timing"})
    except ConfigError:  # reported with the other targets
        return []
    if "timing" in uses:
        return []
    why = "does not write and rate by a language model of its own, so there is nothing to time; set timing=none"
    return [f"timing.rows={config.timing.rows}: method={config.method.get('name')} {why}"]


def construct(node: Mapping[str, Any], where: str, plugins: Iterable[str] = ()) -> Any:
    """The object that a checked `_target_` node describes, its settings coerced to the constructor's types.

    Args:
        where: dotted key of the node, which says what kind of class belongs there.
        plugins: modules outside r4r that may be imported.
    Raises:
        ConfigError: where the settings do not fit the constructor.
    """
    plugins = tuple(plugins)
    problems = _constructor_problems(where, node, plugins)
    if problems:
        raise ConfigError([text for _, text in problems])
    target = fitting(where, str(node["_target_"]), plugins)
    settings = constructor_schema(target).model_validate({k: v for k, v in node.items() if k != "_target_"})
    return target(**{name: getattr(settings, name) for name in settings.model_fields_set})


def ignored(cfg: DictConfig, overrides: Iterable[str]) -> list[str]:
    """A sentence for every command-line override that no method of this job reads."""
    named = {"method": cfg.get("method")}
    named |= {f"references.{name}": node for name, node in (cfg.get("references") or {}).items()}
    nodes = list(named.values())
    used: set[str] = set()
    trained: set[str] = set()
    idle = unread(cfg)
    for where, node in named.items():
        try:
            target = fitting(where, str(node["_target_"]), plugins_in(cfg))
        except Exception:  # a broken target is validate's to report
            return []
        uses = getattr(target, "uses", None)
        if uses is None:
            return []
        used |= set(uses)
        if "experts" in uses:
            trained |= set(getattr(target, "experts", cfg.get("experts") or ()))
    names = ", ".join(dict.fromkeys(str(node.get("name")) for node in nodes))
    found = []
    experts = cfg.get("experts") or {}
    mounted = [name for name, node in experts.items() if isinstance(node, DictConfig) and "_target_" in node]
    chosen = cfg.get("strategy") or {}
    for override in overrides:
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
        elif fault := _unread(inner, override, cfg) if root == "llm" else _strange(key, cfg):
            found.append(f"{override}: {fault}")
        elif root == "reason_source" and chosen.get("reasons") is False:
            found.append(f"{override}: this strategy predicts without reasons; drop the override")
    return found


def _strange(key: str, cfg: DictConfig) -> str:
    """Why a setting of another kind is refused although a preset may bring it; without a preset, `validate` says so."""
    return stranger(key, cfg, plugins_in(cfg)) if cfg.get("experiment") else ""


def _trains(key: str, inner: str) -> bool:
    """Whether an override is of a setting that only the training of experts reads."""
    return inner == "ddp" if key == "trainer" else key.startswith("trainer.") and inner not in FOR_ALL


def unread(cfg: DictConfig) -> dict[str, str]:
    """Dotted key below `experts` -> the method, with the settings for which it does not read it (see Method.unread)."""
    nodes = {"method": cfg.get("method")}
    nodes |= {f"references.{name}": node for name, node in (cfg.get("references") or {}).items()}
    found = {}
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
    if inner == "vllm" and engine == "hf":
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


def settable(cfg: DictConfig) -> set[str]:
    """Dotted keys that the schemas know, whether or not a YAML file spells them out; `<node>.*` where a class's source
    does not tell its settings."""
    found: set[str] = set()

    def walk(model: type[BaseModel], path: str) -> None:
        for name in model.model_fields:
            found.add(f"{path}{name}")
            for inner in _models(model.model_fields[name].annotation):
                walk(inner, f"{path}{name}.")

    walk(Config, "")
    for where, node in _targets(cfg):
        found |= node_settings(where, str(node.get("_target_")), plugins_in(cfg))
    return found


def node_settings(where: str, target: str, plugins: tuple[str, ...]) -> set[str]:
    """Dotted keys of the settings that the class at a node takes; `<node>.*` where its source does not tell them."""
    names = setting_names(target, plugins)
    return {f"{where}.*"} if names is None else {f"{where}.{name}" for name in names}


def _unresolved(cfg: DictConfig) -> list[str]:
    """Sentences for missing values and interpolations that lead nowhere; those nodes are set to null in `cfg`."""
    problems: list[str] = []

    def walk(node: DictConfig | ListConfig, path: str) -> None:
        for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
            where = f"{path}.{key}" if path else str(key)
            if OmegaConf.is_missing(node, key):
                problems.append(f"{where}: has no value; set {where}=...")
            else:
                try:
                    child = node[key]
                except OmegaConfBaseException as error:
                    reason = str(error).strip().splitlines()[0]
                    problems.append(f"{where}: cannot resolve {_raw(node, key)}: {reason}")
                else:
                    if isinstance(child, DictConfig | ListConfig) and not OmegaConf.is_interpolation(node, key):
                        walk(child, where)
                    continue
            OmegaConf.set_readonly(node, False)
            node[key] = None

    walk(cfg, "")
    return problems


def _raw(node: DictConfig | ListConfig, key: Any) -> str:
    """A value as the YAML file has it."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    return str(raw[key])


def _targets(values: Mapping[Any, Any]) -> list[tuple[str, Mapping[Any, Any]]]:
    """(dotted key, node) of every node that names a class."""
    groups = dict | DictConfig
    found = [
        (name, values[name]) for name in ("method", "reason_source", "control") if isinstance(values.get(name), groups)
    ]
    for group in ("references", "experts"):
        members = values.get(group)
        if isinstance(members, groups):
            named = cast(Mapping[str, Any], members)
            for name, node in named.items():
                if isinstance(node, groups):
                    found.append((f"{group}.{name}", node))
                    objective = node.get("objective")
                    if isinstance(objective, groups) and "_target_" in node:
                        found.append((f"{group}.{name}.objective", objective))
                        rewards = objective.get("rewards")
                        parts = rewards.items() if isinstance(rewards, groups) else ()
                        found += [
                            (f"{group}.{name}.objective.rewards.{part}", inner)
                            for part, inner in parts
                            if isinstance(inner, groups)
                        ]
    for group, key in (("metrics", "ratings"), ("dataset", "layout")):
        node: Any = values.get(group)
        inner = node.get(key) if isinstance(node, groups) else None
        if isinstance(inner, groups):
            whole = f"{group}.{key}"
            found += [(whole, inner)] if key == "layout" else [(f"{whole}.{n}", each) for n, each in inner.items()]
    return found + _lightnings(values.get("trainer"))


def _lightnings(trainer: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """(dotted key, node) of the trainer's arguments that name a class of Lightning's."""
    groups = dict | DictConfig
    if not isinstance(trainer, groups):
        return []
    nodes = [(name, trainer.get(name)) for name in ("strategy", "profiler")]
    for name in ("callbacks", "plugins"):
        listed: Any = trainer.get(name) or {}
        named: Iterable[tuple[Any, Any]] = listed.items() if isinstance(listed, groups) else enumerate(listed)
        nodes += [(f"{name}.{key}", node) for key, node in named]
    return [(f"trainer.{where}", node) for where, node in nodes if isinstance(node, groups)]


def _constructor_problems(where: str, node: Mapping[str, Any], plugins: tuple[str, ...]) -> list[tuple[str, str]]:
    """(key, sentence) for every setting that the node's constructor would not take."""
    path = node.get("_target_")
    if not isinstance(path, str):
        hint = f"mount it with +expert@{where}=..." if where.startswith("experts.") else "it names the class to build"
        return [(where, f"{where}: has no _target_; {hint}")]
    try:
        target = fitting(where, path, plugins)
    except ConfigError as error:
        return [(where, f"{where}.{problem}") for problem in error.problems]
    model = constructor_schema(target)
    try:
        model.model_validate({key: value for key, value in node.items() if key != "_target_"})
    except ValidationError as error:
        return _sentences(error, model, where)
    return []


def _sentences(error: ValidationError, model: type[BaseModel], prefix: str) -> list[tuple[str, str]]:
    """(dotted key, sentence) for each of pydantic's findings."""
    found: list[tuple[str, str]] = []
    for item in error.errors(include_url=False):
        loc = item["loc"]
        if len(loc) > 1 and UNION_MEMBER.fullmatch(str(loc[-1])):  # one of the types that a setting may have
            loc = loc[:-1]
            if found and found[-1][0] == ".".join([*([prefix] if prefix else []), *map(str, loc)]):
                continue
        path, group = _at(model, loc)
        if item["type"].startswith("union_tag"):  # which kind of group it is
            path = [*path, item["ctx"]["discriminator"].strip("'")]
        key = ".".join([*([prefix] if prefix else []), *map(str, path)])
        value, kind = item.get("input"), item["type"]
        if kind == "extra_forbidden":
            _, parent = _at(model, loc[:-1])
            known = list(parent.model_fields) if parent else []
            text = f"{key}: there is no such setting; {close_names(str(loc[-1]), known)}"
        elif kind in ("missing", "union_tag_not_found"):
            text = f"{key}: has no value; set {key}=..."
        elif kind in ("literal_error", "union_tag_invalid"):
            told = item.get("ctx", {})
            value = told.get("tag", value)
            allowed = re.findall(r"'([^']*)'", told.get("expected_tags", told.get("expected", "")))
            text = f"{key}={value}: must be one of {', '.join(allowed)}"
            near = difflib.get_close_matches(str(value), allowed, n=1)
            text += f"; did you mean {near[0]}?" if near else ""
        elif kind in ("model_type", "dict_type"):
            inside = f": {', '.join(group.model_fields)}" if group else ""
            text = f"{key}={value}: must be a group of settings{inside}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:].replace("Input should", "should")
            secret = key.endswith(".key_env") or (key.endswith(".base_url") and "@" in str(value))
            shown = key if secret else f"{key}={value!r}"  # somebody may have typed the key or a password itself
            text = f"{shown}: {message.replace('input should', 'should')}"
        found.append((key, text))
    return found


def _at(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[int | str], type[BaseModel] | None]:
    """A location without the names of the kinds that pydantic puts into it, and the schema of the group there, if it
    has one."""
    path: list[int | str] = []
    kinds, tag = [model], ""
    for part in loc:
        if tag:
            named = [kind for kind in kinds if part in get_args(kind.model_fields[tag].annotation)]
            kinds, tag = named or kinds, ""
            if named:
                continue
        path.append(part)
        field = next((kind.model_fields[str(part)] for kind in kinds if part in kind.model_fields), None)
        kinds = _models(field.annotation) if field else []
        tag = str(field.discriminator or "") if field else ""
    return path, kinds[0] if kinds else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The groups of settings that a type names."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) if not isinstance(inner, str) for found in _models(inner)]
