"""Are a record's settings those of a table's row? The preset, composed as for that row, against what the job had.

What makes no difference to a result is left out of the comparison: where files lie, devices, batches, loggers, names,
and all that the row's method does not read (its `uses`, as the record says).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from r4r.configuration.kinds import strangers, without_strangers
from r4r.configuration.schema import Config
from r4r.configuration.trainer import TrainerConfig
from r4r.errors import ConfigError, DataError
from r4r.report.records import Run
from r4r.report.tables import Row, Setting, Table

# settings that change no result, by group; what a record has beyond the schema is compared
SAME_RESULT = {
    "dataset": ("name", "memory_limit", "reviews_url", "meta_url"),
    "llm": (
        *("name", "batch_tokens", "prefix_gb", "merge_adapters", "cuda_graphs", "gradient_checkpointing"),
        *("engine", "vllm"),
    ),
    "teacher": (
        *("base_url", "key_env", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "retries"),
        *(
            "backoff_s",
            "max_wait_s",
            "retry_failures",
            "prices",
            "budget_usd",
            "batch_poll_s",
            "batch_calls",
            "batch_mb",
        ),
        *("batch_tokens", "token_limit_field", "max_failed_share", "max_empty_share"),
    ),
}
ALL = ("dataset", "llm", "teacher", "strategy", "reason_source", "experts")  # what a method that does not say may read
SWEPT = ("dataset", "llm", "teacher", "recipe")  # groups whose choice a whole table may share
UNSET = "???"
UNKNOWN = "unknown here"  # of a group's option that is in no folder at hand
Differences = dict[str, tuple[str, str]]  # key -> (in the record, in the preset)


@dataclass(frozen=True)
class Ask:
    """What a command line asks of a table.

    Attributes:
        datasets: only these; none given takes all.
        experiment: only records of this preset; None: of any but the smoke preset.
        given: overrides of the table's settings, as in `llm=llama3_8b`.
        config_dir: a folder of the user's own options.
        seeds: that each row is to have; those that lack are named.
    """

    datasets: tuple[str, ...] = ()
    experiment: str | None = None
    given: tuple[str, ...] = ()
    config_dir: str | None = None
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Distance:
    """How a record's settings differ from those of a row.

    Attributes:
        shared: choices and settings of dataset, llm, teacher and recipe, which a whole table may have in common.
        own: all others; a record with any of these is no result of the row.
        keys: every key that was compared.
    """

    shared: Differences = field(default_factory=dict)
    own: Differences = field(default_factory=dict)
    keys: frozenset[str] = frozenset()

    def fits(self, setting: Differences) -> bool:
        """Whether the record belongs into a table with this setting: it has all of it that its method reads."""
        return not self.own and self.shared == {key: pair for key, pair in setting.items() if key in self.keys}


def distance(table: Table, row: Row, setting: Setting, run: Run, ask: Ask, reference: str | None = None) -> Distance:
    """Compare a record with the preset as composed for a row.

    Args:
        setting: the row's that the record has.
        reference: name under `references` of the method whose scores are meant; None: the record's own.
    Raises:
        DataError: the preset cannot be composed as asked.
    """
    reads = _reads(run, reference)
    groups = {group for group in SWEPT if group in reads and group not in row.own}
    groups |= {"recipe"} if any(name.startswith("experts") for name in reads) else set()
    where = Composition(table.name, setting, ask.experiment, ask.given, ask.config_dir)
    preset = _options(where)
    fixed = {override.partition("=")[0] for override in ask.given}
    data = str(run.choices.get("dataset", ""))
    if data and "dataset" not in fixed and _exists(where, "dataset", data):  # which may choose a base model
        preset = {**_options(where, (("dataset", data),)), "dataset": preset.get("dataset")}
    theirs = {group: as_text(run.choices.get(group, preset.get(group))) for group in SWEPT}
    named = tuple(
        (group, option)
        for group, option in theirs.items()
        if option != preset.get(group) and group not in fixed and _exists(where, group, option)
    )
    mine = run.settings if reference is None else {**run.settings, "method": run.config["references"][reference]}
    expected = _expected(where, named, run.seed, mine)
    shared: Differences = {}
    own: Differences = {}
    for group in sorted(groups):
        option, known = theirs[group], group in fixed or (group, theirs[group]) in named
        if option == preset.get(group) or (group == "dataset" and known and option == run.dataset):
            continue
        # with a recipe that only the user knows, whose settings the experts' should be is not known either
        into = own if group == "recipe" and not known else shared
        into[group] = (option, str(preset.get(group)) if known else UNKNOWN)
    left, right = (dict(_leaves(values, reads)) for values in (mine, expected))
    keys = {key for key in (*left, *right) if key.partition(".")[0] not in row.own}
    for key in sorted(keys):
        if left.get(key) != right.get(key):
            into = shared if key.partition(".")[0] in SWEPT else own
            into[key] = (as_text(left.get(key)), as_text(right.get(key)))
    return Distance(shared, own, frozenset(keys | groups))


def read_settings(run: Run) -> dict[str, Any]:
    """Dotted key -> value of all that the run's own method reads and that may change a result."""
    return dict(_leaves(run.settings, _reads(run, None)))


def data_settings(run: Run) -> str:
    """All that says which rows a job scores: two jobs that share it, and the raw files, score the same."""
    return json.dumps(dict(_leaves(run.settings, ("dataset",))), sort_keys=True)


def said(differences: Differences, limit: int = 6) -> str:
    """Differences in words; of an option that only the user knows, its name stands for its settings."""
    hidden = {key for key, (_, preset) in differences.items() if preset == UNKNOWN}
    shown = []
    for key, (value, preset) in differences.items():
        if key in hidden:
            shown.append(f"{key}={value} (no option here: --config-dir names the folder of yours)")
        elif not any(key.startswith(f"{group}.") for group in hidden):
            shown.append(f"{key}={value} (preset: {preset})")
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def _reads(run: Run, reference: str | None) -> tuple[str, ...]:
    """What of the configuration the method reads, the method's own settings first."""
    reads = run.record.get("reads") or {}
    found = reads.get("method") if reference is None else (reads.get("references") or {}).get(reference)
    deliberates = (run.config.get("strategy") or {}).get("reason", True)
    names = [name for name in found or ALL if deliberates or name != "reason_source"]
    trains = any(name.startswith("experts") for name in names)
    return ("method", *names, *(["trainer"] if trains else []))


def _leaves(config: Mapping[str, Any], reads: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is read and may change a result; a list is one value."""

    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping) and (value or key == "trainer"):
            for name, inner in value.items():
                yield from walk(inner, f"{key}.{name}")
        else:
            yield key, value

    for name in reads:
        value: Any = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if name == "trainer":
            value = _learnt_by(value or {})
        left_out = SAME_RESULT.get(name, ())
        if isinstance(value, Mapping):
            value = {key: inner for key, inner in value.items() if key not in left_out}
        yield from walk(value, name)


def _learnt_by(trainer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those settings of a trainer that change what an adapter learns; of another version of the schema, none."""
    try:
        return TrainerConfig.model_validate(trainer).identity()
    except ValidationError:
        return {}


def as_text(value: Any) -> str:
    """A setting's value, as on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Composition:
    """A preset as composed for a row."""

    preset: str
    setting: Setting
    experiment: str | None
    given: tuple[str, ...]
    config_dir: str | None


@cache
def _loader(config_dir: str | None) -> Any:
    from r4r.configuration.composing import make_loader

    return make_loader(config_dir)


def _exists(where: Composition, group: str, option: str) -> bool:
    return _loader(where.config_dir).repository.config_exists(f"{group}/{option}")


def _options(where: Composition, named: tuple[tuple[str, str], ...] = ()) -> Mapping[str, Any]:
    """Each group's option."""
    return {str(group): option for group, option in _composed(where, named).hydra.runtime.choices.items()}


@cache
def _composed(where: Composition, named: tuple[tuple[str, str], ...]) -> DictConfig:
    """The configuration, not resolved, with the named options."""
    from r4r.configuration.composing import compose

    loader = _loader(where.config_dir)
    presets = [where.preset, *([where.experiment] if where.experiment not in (None, where.preset) else [])]
    setting = where.setting
    parts = {"method": setting.method, "strategy": setting.strategy, "reason_source": setting.source}
    parts |= {"control": setting.control, **dict(named)}
    overrides = [f"experiment=[{','.join(presets)}]" if len(presets) > 1 else f"experiment={where.preset}"]
    overrides += [f"{group}={option}" for group, option in parts.items() if option]
    try:
        cfg = compose(loader, "config", overrides)
        for override in where.given:
            key = override.partition("=")[0]
            expert = key.split(".")[1] if key.startswith("experts.") else None
            if loader.repository.group_exists(key.partition("@")[0]):
                overrides.append(override)
            elif expert is None or expert in cfg.experts:  # of those that this row mounts
                overrides.append(f"++{override}")
        return compose(loader, "config", overrides)
    except (ConfigError, HydraException) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{' '.join(overrides)}: {told}; --config-dir names the folder of options of yours") from error


def _expected(
    where: Composition, named: tuple[tuple[str, str], ...], seed: int, record: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The configuration of a job of the preset with this seed; what only a user can set is as the record has it."""
    values, complete = _resolved(where, named, seed)
    return values if complete else _dumped(_filled(values, record))


@cache
def _resolved(where: Composition, named: tuple[tuple[str, str], ...], seed: int) -> tuple[Mapping[str, Any], bool]:
    """The resolved configuration, and whether it lacks nothing."""
    composed = _composed(where, named)
    cfg = OmegaConf.create({key: composed._get_node(key) for key in composed if key != "hydra"})
    OmegaConf.set_readonly(cfg, False)
    cfg.seed = seed
    cfg.name = ""  # no part of a result; that of data which only a user can name leads nowhere
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    values["experts"] = {name: node for name, node in (values.get("experts") or {}).items() if "_target_" in node}
    without_strangers(values, strangers(values))
    complete = UNSET not in as_text(values)
    return (_dumped(values) if complete else values), complete


def _filled(value: Any, there: Any) -> Any:
    """The value with each of its unset parts taken from another."""
    if isinstance(value, dict):
        inner = there if isinstance(there, Mapping) else {}
        return {key: _filled(one, inner.get(key)) for key, one in value.items()}
    return there if value == UNSET else value


def _dumped(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the schema's defaults, as in a record; a combination that no job can have stays as it is."""
    try:
        return Config.model_validate(values).model_dump(mode="json")
    except ValidationError:
        return values
