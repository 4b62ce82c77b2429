"""A job's record: `result.json`, written whatever happens to the job, and its table of scores."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r4r.config import Config
from r4r.errors import ModelError
from r4r.stages.stage import Job, Stage, machine
from r4r.store.artifact import write_json

if TYPE_CHECKING:
    from rich.console import Console

RESULT = "result.json"
FORMAT = 1
TEACHER = ("teacher_calls", "teacher_cached", "teacher_tokens_in", "teacher_tokens_out", "dollars")
COUNTED = ("tokens_in", "tokens_out", *TEACHER)  # the first two are the job's own model's


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM)."""


@contextmanager
def recording(config: Config, folder: Path, overrides: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A block whose outcome becomes `folder/result.json`; the block fills the dictionary it gets.

    The file is there from the start, saying `interrupted`: that is what a job is that dies without a word. At the end
    it says ok, failed (with the error) or interrupted.

    Raises:
        ModelError: in place of an out-of-memory error, saying what to lower.
        KeyboardInterrupt: in place of the SystemExit that Lightning makes of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
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
        "config": config.model_dump(mode="json"),
    }
    write_json(folder / RESULT, record)
    try:
        yield record
        record["status"] = "ok"
    except Exception as error:
        record["status"] = "failed"
        short = memory_sentence(error)
        told: Exception = ModelError(short) if short else error
        record["error"] = {"kind": type(error).__name__, "message": str(told)}
        if told is not error:
            raise told from error
        raise
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        record |= {**machine(), "wall_s": round(time.monotonic() - started, 2)}
        write_json(folder / RESULT, _plain(record))


def _plain(value: Any) -> Any:
    """JSON has no NaN: the standard error of a single row becomes null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def memory_sentence(error: BaseException) -> str | None:
    """What to lower, if the error says that memory ran out."""
    torch = sys.modules.get("torch")
    gpu = torch is not None and isinstance(error, torch.OutOfMemoryError)
    words = ("can't allocate memory", "not enough memory", "CUDA out of memory")
    host = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))
    if not gpu and not host:
        return None
    place = "the GPU" if gpu else "the machine"
    detail = (str(error).strip().splitlines() or ["no detail"])[0]
    return (
        f"{place} ran out of memory ({detail}). Lower trainer.micro_batch_tokens (training), llm.batch_tokens (writing "
        "and rating), llm.prefix_gb (filter), llm.max_length or dataset.history.prompt, or set "
        "llm.gradient_checkpointing=true, llm.merge_adapters=false or llm.quantization=nf4. Finished stages are kept."
    )


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
            here[name] += spent if stage.name in job.built else 0
    teacher = vars(job).get("teacher")  # only where it was needed
    paid = teacher.tally.facts() if teacher else {}
    here |= {name: paid.get(name) or 0 for name in TEACHER}
    return {"total": total, "this_job": here, "unknown": unknown, "unpriced": unpriced}


def show(record: dict[str, Any]) -> None:
    """Print the scores: headline decoding `mean`, and median and mode where a method has them."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=120)
    title = f"{record['name']}: {record['dataset']}, {record['metrics'][0]['n']} {record['evaluated']} rows"
    if record["excluded"]:
        title += f" ({len({row for rows in record['excluded'].values() for row in rows})} excluded)"
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for column in ("n", "MAE ± se", "RMSE ± se", "p (MAE)"):
        table.add_column(column, justify="right")
    p = {entry["label"]: entry["mae"]["p"] for entry in record["comparisons"]}
    for row in record["metrics"]:
        name = row["label"] if row["decoding"] == "mean" else f"  {row['decoding']} of the rating"
        compared = f"{p[row['label']]:.3f}" if row["decoding"] == "mean" and row["label"] in p else ""
        mae, rmse = (f"{row[m]:.4f} ± {row[m + '_se']:.4f}" for m in ("mae", "rmse"))
        table.add_row(name, str(row["n"]), mae, rmse, compared)
    console.print(table)
    if p:
        console.print(f"p: paired bootstrap against {record['metrics'][0]['label']} on the same rows.", markup=False)
    if "reasons" in record:
        show_reasons(record["reasons"], console)
    if "timing" in record:
        show_timing(record["timing"], console)
    if record["cost"]["total"]["teacher_calls"]:
        console.print(teacher_line(record["cost"]), markup=False)


def show_reasons(reasons: dict[str, Any], console: "Console") -> None:
    """Print how well the reasons match the reviews, and which methods give none."""
    from rich.table import Table

    table = Table(title="reasons against reviews (higher is closer)", title_justify="left")
    table.add_column("method")
    table.add_column("metric")
    for column in ("n", "mean ± se"):
        table.add_column(column, justify="right")
    table.add_column("scored by")
    for row in reasons["scores"]:
        digits = 2 if row["metric"] == "gptscore" else 4
        mean = f"{row['mean']:.{digits}f} ± {row['se']:.{digits}f}"
        n = f"{row['n']} ({row['empty']} empty)" if row["empty"] else str(row["n"])
        table.add_row(row["label"], row["metric"], n, mean, row["model"])
    if reasons["scores"]:
        console.print(table)
    if reasons["unscored"]:
        console.print(f"No reasons to score: {', '.join(reasons['unscored'])}.", markup=False)
    cost = reasons["cost"]
    if cost.get("teacher_calls"):
        paid = "at a price that is not known" if cost["dollars"] is None else f"${cost['dollars']:.4f}"
        console.print(f"judge: {cost['teacher_calls']} calls ({cost['teacher_cached']} cached), {paid}", markup=False)


def show_timing(timing: dict[str, Any], console: "Console") -> None:
    """Print what a prediction took."""
    threads = f", {timing['threads']} threads" if "threads" in timing else ""  # a server's are not known
    for mode in timing["modes"]:
        median, error = mode["seconds_median"], mode["seconds_se"]
        spread = "" if error is None else f" ± {error:.3f} (median {median:.3f})"
        console.print(
            f"{mode['mode']}: {mode['seconds']:.3f}{spread} s and {mode['tokens']:.1f} generated tokens a prediction, "
            f"{mode['n']} predictions in {mode['batches']} batches on {timing['device']}{threads}",
            markup=False,
        )


def teacher_line(cost: dict[str, Any]) -> str:
    """What the teacher's answers took, and how much of it this job paid."""
    total, here = cost["total"], cost["this_job"]
    unpriced = " and what has no price" if cost["unpriced"] else ""
    return (
        f"teacher: {total['teacher_calls']} calls ({total['teacher_cached']} from the cache), "
        f"{total['teacher_tokens_in']} tokens in, {total['teacher_tokens_out']} out, "
        f"${total['dollars']:.4f}{unpriced}; this job asked {here['teacher_calls']} and paid ${here['dollars']:.4f}"
    )
