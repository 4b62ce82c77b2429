"""Is this configuration right? Every fault at once, as sentences, before any model loads."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from r4r.configuration.construct import constructor_problems
from r4r.configuration.constructors import setting_names
from r4r.configuration.faults import models, sentences
from r4r.configuration.kinds import strangers, without_strangers
from r4r.configuration.schema import Config
from r4r.configuration.targets import fitting, misplaced
from r4r.errors import ConfigError
from r4r.files import conf_dir

OBJECTIVE = "/objective@objective"  # in an expert's defaults
OVERRIDE = "override /"  # in those of an option that changes another group's
STRATEGY = "strategy@_global_.strategy"  # which a method changes that is a strategy by another name
OBJECTIVES = "objective@_global_."  # which a strategy changes that is named after one
Further = Callable[[Config], list[str]]
LARGEST = 2**32 - 1  # of any whole number; what libraries take as a seed


def validate(cfg: DictConfig, classes: bool = True, further: Further | None = None) -> Config:
    """The typed configuration of a composed job; folders become absolute, from where the command is run.

    Args:
        classes: false leaves the classes that a `_target_` names alone: importing them takes seconds.
        further: gives a sentence for each thing that the job's stages would have against a configuration without other
            faults; not asked where `classes` is false.
    Raises:
        ConfigError: with every fault found: missing values, dead interpolations, unknown keys, wrong types and values,
            classes that may not stand where they do, settings that their constructors do not take, and a strategy
            that takes the place of the method's own.
    """
    outvoted = _outvoted(OmegaConf.select(cfg, "hydra.runtime.choices") or {})
    cfg = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"}, flags={"allow_objects": True})
    problems = [*outvoted, *_unresolved(cfg)]
    dead = {problem.split(":")[0] for problem in problems}
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    unmounted = _unmounted(values)
    folders = values.get("paths")
    if isinstance(folders, dict):
        problems += [*_homeless(folders), *_filled_in(folders)]
        values["paths"] = {
            k: Path(os.path.expanduser(v)).absolute() if v and isinstance(v, str) else v for k, v in folders.items()
        }
    problems += misplaced(values)
    strange = strangers(values, plugins_in(values))
    without_strangers(values, strange)
    brought = "" if values.get("experiment") else "experts."  # by a preset, or by a recipe: not read, and no fault
    problems += [text for key, text in strange.items() if key not in dead and not key.startswith(brought)]
    found = _too_large(values)
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        found = [*sentences(error, Config, ""), *found]
    problems += [text for key, text in dict(reversed(found)).items() if key not in dead][::-1]
    if classes:
        plugins = plugins_in(values)
        for where, node in _targets(values):
            found = constructor_problems(where, unmounted.get(where, node), plugins)
            problems += [text for key, text in found if key not in dead]
        if config and config.timing.rows:
            problems += _untimed(config)
    if config and classes and further and not problems:
        problems += further(config)
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
            own = _read(file)
            chosen = [entry for entry in own.pop("defaults", ()) if isinstance(entry, dict)]
            found[f"experts.{name}"] = {**own, **node}
            for option in (entry[OBJECTIVE] for entry in chosen if OBJECTIVE in entry):
                parts = (
                    _read(conf_dir() / "objective" / f"{option}.yaml"),
                    own.get("objective"),
                    node.get("objective"),
                )
                whole = {key: value for part in parts for key, value in (part or {}).items() if key != "defaults"}
                # rewards have classes, which are named where they are mounted
                found[f"experts.{name}.objective"] = whole | ({"rewards": {}} if "rewards" in whole else {})
    return found


def _homeless(folders: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each folder whose ~ cannot be expanded, or would not be where Hydra makes the job's own folder."""
    for name, folder in folders.items():
        if not isinstance(folder, str) or not folder.startswith("~"):
            continue
        if os.path.expanduser(folder).startswith("~"):
            yield f"paths.{name}={folder}: there is no user of that name; write the folder in full"
        elif name == "outputs":
            told = "in a file, write the folder in full; ~ is known on the command line and in R4R_OUTPUTS"
            yield f"paths.outputs={folder}: {told}"


def _filled_in(folders: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each folder in whose name Hydra would fill something in."""
    for name, folder in folders.items():
        if isinstance(folder, str) and "${" in str(Path(folder).absolute()):
            place = Path(folder).absolute()
            yield f"paths.{name}={folder}: Hydra would fill in what stands behind ${{ in {place}; rename the folder"


def _outvoted(choices: Mapping[Any, Any]) -> list[str]:
    """A sentence where the method is one strategy's other name, or the strategy is named after an objective, and a
    command line, preset or recipe chose another, which would run in its place under that name."""
    method, strategy = choices.get("method"), choices.get("strategy")
    own = dict(_overridden("method", method)).get(STRATEGY, strategy)
    found = []
    if own != strategy:
        found.append(
            f"strategy={strategy}: method={method} is Reason4Rec with strategy={own}, and the command line or a preset "
            f"chose another; set strategy={own}, or method=reason4rec"
        )
    for group, objective in _overridden("strategy", strategy):
        where = group.replace("_global_.", "")
        if group.startswith(OBJECTIVES) and choices.get(where) != objective:
            found.append(
                f"{where}={choices.get(where)}: strategy={strategy} learns by {objective}, and the command line, a "
                "preset or a recipe chose another; take strategy=multistep, or leave the objective to it"
            )
    return found


def _overridden(group: str, option: object) -> list[tuple[str, str]]:
    """(group, option) of the choices that a group's option changes."""
    file = conf_dir() / group / f"{option}.yaml"
    entries = _read(file).get("defaults", ()) if file.exists() else ()
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return [(key.removeprefix(OVERRIDE), chosen) for key, chosen in pairs if key.startswith(OVERRIDE)]


def _read(file: Path) -> dict[Any, Any]:
    return deepcopy(_parsed(file))


@cache
def _parsed(file: Path) -> dict[Any, Any]:
    return cast(dict[Any, Any], OmegaConf.to_container(OmegaConf.load(file)))


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


def settable(cfg: DictConfig) -> set[str]:
    """Dotted keys that the schemas know, whether or not a YAML file spells them out; `<node>.*` where a class's source
    does not tell its settings."""
    found: set[str] = set()

    def walk(model: type[BaseModel], path: str) -> None:
        for name in model.model_fields:
            found.add(f"{path}{name}")
            for inner in models(model.model_fields[name].annotation):
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
            for name, member in named.items():
                if isinstance(member, groups):
                    where = f"{group}.{name}"
                    found.append((where, member))
                    objective: Any = member.get("objective")
                    if isinstance(objective, groups):
                        found.append((f"{where}.objective", objective))
                        rewards: Any = (objective.get("rewards") or {}) if "_target_" in member else {}
                        found += [(f"{where}.objective.rewards.{part}", each) for part, each in rewards.items() if each]
    for group, key in (("metrics", "ratings"), ("dataset", "layout")):
        node: Any = values.get(group)
        inner: Any = node.get(key) if isinstance(node, groups) else None
        if isinstance(inner, groups):
            whole = f"{group}.{key}"
            members = {"": inner} if key == "layout" else cast(Mapping[str, Any], inner)
            found += [(f"{whole}.{name}".rstrip("."), each) for name, each in members.items()]
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
