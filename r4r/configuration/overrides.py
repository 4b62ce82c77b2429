"""The overrides of a command line: every misspelt group, option and key at once, and the jobs that they stand for."""

import difflib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from r4r.configuration.checks import node_settings, settable
from r4r.configuration.composing import compose, no_option
from r4r.configuration.kinds import stranger
from r4r.configuration.plugins import trusted_plugins
from r4r.configuration.targets import close_names
from r4r.errors import ConfigError

MAX_VARIANTS = 60  # jobs of a sweep that are checked ahead; each is checked again when it starts


@dataclass
class Checked:
    """What a command line's overrides come to.

    Attributes:
        variants: the override lists of the jobs that they stand for, faulty overrides left out.
        problems: a sentence for every fault.
        spelt: override -> what Hydra needs instead. Hydra takes `key=value` only for keys that a YAML file spells out;
            those that only a schema knows need `++`.
    """

    variants: list[list[str]]
    problems: list[str] = field(default_factory=list)
    spelt: dict[str, str] = field(default_factory=dict)


def check_overrides(
    overrides: Sequence[str], loader: ConfigLoaderImpl, name: str = "config", multirun: bool = False
) -> Checked:
    """Find the faults of command-line overrides: all of them, values of sweeps included.

    A preset's own sweep (`hydra.sweeper.params`) is checked like one; as in Hydra, the command line takes the place of
    an axis of the same name.
    """
    asked = multirun or "hydra.mode=MULTIRUN" in overrides
    axes = own_axes(overrides, loader, name) if asked else []
    checked = _check_overrides([*axes, *overrides], loader, name, asked)
    for axis in axes:
        if axis in checked.spelt:
            checked.problems.append(f"{axis}: in a preset's sweep, write ++{axis.partition('=')[0]}")
    return checked


def own_axes(overrides: Sequence[str], loader: ConfigLoaderImpl, name: str) -> list[str]:
    """The sweep axes, as overrides, of the presets that a multirun names; those that it sets itself left out."""
    parser = OverridesParser.create(config_loader=loader)
    read: list[Override] = []
    for text in overrides:
        with suppress(HydraException):  # what cannot be read is reported by the check of all overrides
            read += parser.parse_overrides([text])
    presets = [o for o in read if o.key_or_group.split("/")[0] == "experiment" and not o.is_sweep_override()]
    # Beside the other groups, as the check of all overrides composes it, or else alone.
    groups = [o for o in read if loader.repository.group_exists(o.key_or_group) and not o.is_sweep_override()]
    for chosen in (groups, presets):
        with suppress(ConfigError):  # what does not compose is reported with the others
            cfg = compose(loader, name, [str(override.input_line) for override in chosen])
            break
    else:
        return []
    given = {override.get_key_element() for override in read}
    axes = OmegaConf.select(cfg, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in axes.items() if key not in given]


def _check_overrides(overrides: Sequence[str], loader: ConfigLoaderImpl, name: str, multirun: bool) -> Checked:
    problems: list[str] = []
    parser = OverridesParser.create(config_loader=loader)
    groups: list[list[str]] = []  # the values of each override, spelt out
    keys: list[list[Override]] = []
    for text in overrides:
        try:
            override = parser.parse_overrides([text])[0]
            choices = _choices(override, loader)
        except HydraException as error:
            reason = str(error).strip().splitlines()
            told = reason[0].split(", see")[0]
            home = re.search(r"[=,:\[ ]~", text)  # a ~ begins no value in Hydra's grammar
            problems.append(f"{text}: cannot be read: {'write the folder of ~ in full' if home else told}")
            continue
        if len(choices) > 1 and not multirun:
            problems.append(f"{text}: lists several values; add -m to run a job for each, or quote the value")
            continue
        if len(choices) > 1 and override.key_or_group == "experiment" and _swept(choices, loader, name):
            problems.append(f"{text}: these presets bring sweeps of their own; give each its own command")
            continue
        parsed = [parser.parse_override(choice) for choice in choices]
        value = override.value()
        if isinstance(value, list) and _takes_one(override.key_or_group, loader):
            listed = ",".join(map(str, value))
            job = f"-m {override.get_key_element()}={listed}"
            problems.append(f"{text}: a job has one {override.key_or_group}; for a job each: {job}")
            continue
        if loader.repository.group_exists(override.key_or_group):
            faults = [fault for choice in parsed for fault in _option_faults(choice, loader)]
            problems += faults
            if not faults:
                groups.append(choices)
        else:
            keys.append(parsed)
    groups, faults = _composable(groups, loader, name)
    problems += faults
    composed = [compose(loader, name, variant) for variant in _variants(groups)]
    dotted = [set(_dotted(cfg)) for cfg in composed]
    written = set.intersection(*dotted) if dotted else set()  # by the files of every variant
    known = set().union(*dotted) | {key for cfg in composed for key in settable(cfg)}
    plugins = trusted_plugins(overrides, loader, name)
    for override in [each for parsed in keys for each in parsed if each.key_or_group.endswith("._target_")]:
        known |= node_settings(override.key_or_group.removesuffix("._target_"), str(override.value()), plugins)
    kept = list(groups)
    spelt: dict[str, str] = {}
    for parsed in keys:
        first, key = parsed[0], parsed[0].key_or_group
        lines = [str(override.input_line) for override in parsed]
        if not (first.is_add() or first.is_force_add()) and key not in known and not _open(key, known):
            elsewhere = next((text for cfg in composed if (text := stranger(key, cfg, plugins))), "")
            fault = elsewhere or f"there is no key or group '{key}'; {_near(key, known, loader)}"
            problems.append(f"{lines[0]}: {fault}")
            continue
        if first.type is OverrideType.CHANGE and key not in written:
            lines = [f"++{line}" for line in lines]
            spelt |= {text: f"++{text}" for text in overrides if text.startswith(f"{key}=")}
        kept.append(lines)
    return Checked(_variants(kept), problems, spelt)


def _takes_one(group: str, loader: ConfigLoaderImpl) -> bool:
    """Whether a key is a group of which a job holds one option. Presets and loggers may be several."""
    return group not in ("experiment", "logger") and loader.repository.group_exists(group)


def _swept(presets: list[str], loader: ConfigLoaderImpl, name: str) -> bool:
    """Whether a preset has sweep axes: in a sweep over presets, Hydra would drop them without a word."""
    for preset in presets:
        with suppress(ConfigError):
            if OmegaConf.select(compose(loader, name, [preset]), "hydra.sweeper.params"):
                return True
    return False


def _choices(override: Override, loader: ConfigLoaderImpl) -> list[str]:
    """The override once for each value of its sweep."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if override.is_interval_sweep():
        value = override.value()
        assert isinstance(value, IntervalSweep)
        assert value.start is not None
        assert value.end is not None
        ends = [value.start, value.end]
        if isinstance(value.start, float) or isinstance(value.end, float):  # a whole number it may be at its ends alone
            ends.append(value.start + 0.37 * (value.end - value.start))
        return [f"{key}={end}" for end in ends]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _option_faults(override: Override, loader: ConfigLoaderImpl) -> list[str]:
    group, value = override.key_or_group, override.value()
    if override.is_delete():
        return []
    if value is None:
        given = override.get_key_element()
        return [f"{given}=null: names no option; drop it, name one, or take it out with ~{given}"]
    faults = []
    for option in value if isinstance(value, list) else [value]:
        if "${" in str(option):
            continue
        if not loader.repository.config_exists(f"{group}/{option}"):
            faults.append(f"{override.get_key_element()}={option}: {no_option(group, str(option), loader)}")
    return faults


def _composable(groups: list[list[str]], loader: ConfigLoaderImpl, name: str) -> tuple[list[list[str]], list[str]]:
    """The group choices that Hydra composes, and a sentence for each that it refuses."""
    with suppress(ConfigError):
        for variant in _variants(groups):
            compose(loader, name, variant)
        return groups, []
    kept: list[list[str]] = []
    problems: list[str] = []
    compose(loader, name, [])  # a broken conf/ folder is its own fault, not an override's
    for choices in groups:
        try:
            for choice in choices:
                compose(loader, name, [*(chosen[0] for chosen in kept), choice])
        except ConfigError as error:
            problems += [f"{choice}: {problem}" for problem in error.problems]
        else:
            kept.append(choices)
    return kept, problems


def _variants(axes: list[list[str]]) -> list[list[str]]:
    """All first values, then each further value of one axis beside the others' first."""
    first = [choices[0] for choices in axes if choices]
    axes = [choices for choices in axes if choices]
    others = [[*first[:at], choice, *first[at + 1 :]] for at, choices in enumerate(axes) for choice in choices[1:]]
    return [first, *others][:MAX_VARIANTS]


def _dotted(node: Any, path: str = "") -> Iterable[str]:
    """Every dotted key of a config, groups included, interpolations left alone."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        for name in node:
            key = str(name)
            where = f"{path}.{key}" if path else key
            yield where
            yield from _dotted(node._get_node(key), where)
    elif isinstance(node, ListConfig) and not node._is_none() and not node._is_missing():
        for index in range(len(node)):
            yield f"{path}.{index}"


def _open(key: str, known: set[str]) -> bool:
    """Whether a key lies in a node whose settings only its class can tell."""
    return any(f"{key[:at]}.*" in known for at, letter in enumerate(key) if letter == ".")


def _near(key: str, known: set[str], loader: ConfigLoaderImpl) -> str:
    """Close names among the key's siblings, or the same name elsewhere, or what there is."""
    parent, _, leaf = key.rpartition(".")
    own = {k for k in known if k.startswith("hydra") == key.startswith("hydra.")} | (
        set() if parent else set(loader.list_groups("")) - {"hydra"}
    )
    siblings = {k.rpartition(".")[2] for k in own if k.rpartition(".")[0] == parent}
    elsewhere = sorted(k for k in own if k.rpartition(".")[2] == leaf)
    if elsewhere and not difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.75):
        near = difflib.get_close_matches(key, elsewhere, n=1, cutoff=0.85)  # a parent's name is misspelt
        return f"did you mean {' or '.join(near or elsewhere[:4])}?"
    return close_names(leaf, siblings) if siblings else close_names(key, own)
