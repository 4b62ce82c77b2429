"""A job's record: `result.json`, written whatever happens to the job."""

import errno
import hashlib
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r4r.configuration.schema import Config
from r4r.configuration.targets import locate
from r4r.errors import ModelError, R4RError
from r4r.pipeline.facts import COUNTED, TEACHER
from r4r.pipeline.stage import Stage, named_targets
from r4r.prompts.render import template
from r4r.provenance import machine
from r4r.stages.split import all_rows
from r4r.stages.stage import Job
from r4r.store.artifact import write_json
from r4r.store.source import source_of

if TYPE_CHECKING:
    from hydra.conf import HydraConf

RESULT = "result.json"
FORMAT = 1
RESERVE = 32 * 1024  # bytes kept for the last word of a job that fills the disk
NOT_TOLD = ("paths.", "logger", "hydra", "name=", "verbose=")  # overrides that a folder's name leaves out
UNUSUAL = re.compile(r"[^A-Za-z0-9._=,+-]+")  # in a folder's name
FOLDER_NAME = 100  # characters of it at most
FREE = "free it, or name another place (R4R_OUTPUTS), and run the same command again: finished stages are kept"
FULL = ("no space left on device", "disk quota exceeded", "disk is full", "pytorchstreamwriter failed writing")


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM)."""


@contextmanager
def recording(
    config: Config, folder: Path, overrides: Sequence[str] = (), choices: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """A block whose outcome becomes `folder/result.json`; the block fills the dictionary it gets.

    The file is there from the start, saying `interrupted`: that is what a job is that dies without a word (`note` keeps
    up what it had come to). At the end it says ok, failed (with the error) or interrupted. Where the disk is full by
    then, it is written into the room that the first one took.

    Args:
        overrides: the job's own on the command line.
        choices: the option that each config group has (see `group_choices`).
    Raises:
        ModelError: in place of an out-of-memory error, saying what to lower.
        R4RError: in place of an error of a full disk, and where the record itself cannot be written.
        KeyboardInterrupt: in place of the SystemExit that Lightning makes of one.
    """
    started = time.monotonic()
    record: dict[str, Any] = {
        "format": FORMAT,
        "status": "interrupted",
        "error": None,
        "name": config.name,
        "experiment": config.experiment,
        "method": str(config.method.get("name")),
        "dataset": config.dataset.name,
        "seed": config.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "overrides": list(overrides),
        "choices": dict(choices or {}),
        "reads": _reads(config),
        "config": config.model_dump(mode="json"),
    }
    first = dict(record)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RESULT, record, RESERVE)
    except OSError as error:
        _tidy(folder)
        raise R4RError(f"{folder}: no record can be written there ({error.strerror}); {FREE}") from error
    try:
        yield record
        record["status"] = "ok"
    except Exception as error:
        record["status"] = "failed"
        memory, disk = memory_sentence(error), disk_sentence(error)
        told = ModelError(memory) if memory else R4RError(disk) if disk else error
        record["error"] = {"kind": type(error).__name__, "message": str(told)}
        if told is not error:
            raise told from error
        raise
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        record |= {**machine(), "wall_s": round(time.monotonic() - started, 2)}
        _finish(folder, record, first)


def note(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what a job has come to so far; a full disk keeps what was written last."""
    try:
        write_json(folder / RESULT, _plain(dict(record)), RESERVE)
    except OSError:
        _tidy(folder)


def named_folder(folder: Path, overrides: Sequence[str]) -> Path:
    """Rename a job's folder, which Hydra has just made, so that it says what the job was given: `3-dim=8,seed=1`.

    Where a folder of that name is there, it is this job's, which was stopped and started again.

    Returns:
        Where the folder is now; where it was, if the disk refuses.
    """
    given = [override for override in overrides if not override.startswith(NOT_TOLD)]
    short = []
    for key, _, value in (override.partition("=") for override in given):
        last = key.rpartition(".")[2].lstrip("~+")
        short.append(f"{last}={value}" if value else f"without_{last}")
    words = UNUSUAL.sub("_", ",".join(short)).strip("._")
    if len(words) > FOLDER_NAME:
        words = f"{words[:FOLDER_NAME]}-{hashlib.sha256(','.join(given).encode()).hexdigest()[:8]}"
    wanted = folder.with_name(f"{folder.name}-{words}") if words else folder
    try:
        if wanted != folder and wanted.is_dir():
            folder.rmdir()
        elif wanted != folder:
            folder.rename(wanted)
    except OSError:
        return folder
    return wanted


def _finish(folder: Path, record: dict[str, Any], first: dict[str, Any]) -> None:
    """Write the record's last state; where that fails, as much of it as fits into the first one's room.

    Raises:
        R4RError: the job was done, and its scores cannot be written. A job that failed has an error of its own.
    """
    try:
        write_json(folder / RESULT, _plain(record))
    except OSError as error:
        _tidy(folder)
        done = record["status"] == "ok"
        message = f"{folder / RESULT}: the scores cannot be written ({error.strerror}); {FREE}"
        if done:
            record |= {"status": "failed", "error": {"kind": type(error).__name__, "message": message}}
        with suppress(OSError):
            last = {key: record[key] for key in ("status", "error", "wall_s", "artifacts") if key in record}
            _write_into(folder / RESULT, first | last)
        if done:
            raise R4RError(message) from error


def _write_into(path: Path, record: dict[str, Any]) -> None:
    """Write over a file in place, without room of its own; blanks fill the rest."""
    text = json.dumps(_plain(record), indent=2, default=str).encode("ascii")
    with path.open("r+b") as file:
        file.write(text.ljust(path.stat().st_size - 1) + b"\n")


def _tidy(folder: Path) -> None:
    """Remove what a failed write left."""
    with suppress(OSError):
        for path in folder.glob(f"{RESULT}.*"):
            path.unlink()


def group_choices(hydra: "HydraConf") -> dict[str, Any]:
    """Each config group's option, or list of options, as composed.

    Args:
        hydra: Hydra's own settings of the job, with its overrides.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    chosen = {str(group): option for group, option in hydra.runtime.choices.items()}
    parser = OverridesParser.create()
    for text in hydra.overrides.task:  # Hydra's choices leave out a group that has several
        override = parser.parse_override(text)
        value = override.value()
        if isinstance(value, list) and "." not in override.key_or_group and override.key_or_group not in chosen:
            chosen[override.key_or_group] = [str(option) for option in value]
    return chosen


def _reads(config: Config) -> dict[str, Any]:
    """What of the configuration each method of the job reads, as dotted keys; null: whatever there is.

    Returns:
        method: the job's own; references: by name.
    """

    def of(node: Mapping[str, Any]) -> list[str] | None:
        target = locate(str(node["_target_"]), config.plugins)
        uses = getattr(target, "uses", None)
        if uses is None:
            return None
        experts = getattr(target, "experts", None)
        found = set(uses) - {"experts", "recipe", "timing"}  # a recipe is settings of experts
        found |= {f"experts.{name}" for name in experts} if experts else {"experts"} & set(uses)
        return sorted(found)

    return {"method": of(config.method), "references": {name: of(node) for name, node in config.references.items()}}


def sources(config: Config, final: Stage) -> dict[str, str]:
    """File -> digest of the code and prompts outside of r4r's release that shape what a job scores: those of its method
    and of its metrics of ratings."""
    found = code_of(final)
    for target in named_targets(config.metrics.ratings):
        found |= source_of(target)
    for node in config.experts.values():
        for file in (node.get("prompts") or {}).values():
            found[str(file)] = hashlib.sha256(template(file).encode()).hexdigest()[:16]
    return dict(sorted(found.items()))


def code_of(final: Stage) -> dict[str, str]:
    """File -> digest of the code outside of r4r's release in the stages of a method."""
    found: dict[str, str] = {}
    for stage in final.upstream():
        found |= stage.unreleased
    return dict(sorted(found.items()))


def _plain(value: Any) -> Any:
    """JSON has no NaN: such a value becomes null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def memory_sentence(error: BaseException) -> str | None:
    """What to lower, if the error says that memory ran out."""
    from r4r.lm.memory import ADVICE, is_out_of_memory

    if not is_out_of_memory(error):
        return None
    torch = sys.modules["torch"]
    place = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "the machine"
    detail = (str(error).strip().splitlines() or ["no detail"])[0]
    return f"{place} ran out of memory ({detail}). {ADVICE}. Finished stages are kept."


def disk_sentence(error: BaseException) -> str | None:
    """What to do, if the error, or one that it came of, says that a disk is full."""
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(word in str(cause).lower() for word in FULL):
            place = f" at {cause.filename}" if isinstance(cause, OSError) and cause.filename else ""
            return f"the disk is full{place} ({(str(cause).strip().splitlines() or ['no detail'])[0]}); {FREE}"
        cause = cause.__cause__ or cause.__context__
    return None


def training_pairs(job: Job, final: Stage) -> int | None:
    """How many pairs a method's ratings were learnt from; None where none were: a model was asked as it is.

    Args:
        final: the stage of its predictions, in the store.
    """
    trained = [stage for stage in (*_rater(final), *final.inputs.values()) if stage.name.startswith("train/")]
    if trained:
        return int(job.materialize(trained[0]).manifest["examples"])
    if "teacher_calls" in job.materialize(final).manifest:
        return None
    return int((all_rows(job)["split"] == "train").sum())


def _rater(final: Stage) -> list[Stage]:
    return [final.trained] if hasattr(final, "trained") else []


def cost(job: Job, final: Stage) -> dict[str, Any]:
    """Seconds, tokens and dollars of all stages of a method, from their manifests, and what this job itself spent.

    A manifest counts every answer that its artifact is made of, whichever run paid it; `this_job` counts the teacher's
    tokens and dollars that this process paid. `unknown` lists stages whose artifact is gone: their cost is not in the
    sums; `unpriced` those whose teacher's price is not known: their dollars are not.
    """
    total: dict[str, float] = dict.fromkeys(("wall_s", *COUNTED), 0)
    here = dict(total)
    unknown, unpriced = [], []
    for stage in final.upstream():
        found = job.store.find(stage.name, stage.key)
        if found is None:
            unknown.append(stage.name)
            continue
        manifest = found.manifest
        if manifest.get("dollars", 0) is None:
            unpriced.append(stage.name)
        for name in total:
            spent = manifest.get(name) or 0
            total[name] += spent
            here[name] += spent if (stage.name, stage.key) in job.built else 0
    teacher = vars(job).get("teacher")  # only where it was needed
    paid = teacher.tally.facts() if teacher else {}
    here |= {name: paid.get(name) or 0 for name in TEACHER}
    return {"total": total, "this_job": here, "unknown": unknown, "unpriced": unpriced}
