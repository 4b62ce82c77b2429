"""What a finished job prints: its scores, what it found, its reasons' scores, its timing and its cost."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


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
    more = record.get("rating_metrics") or {}
    titles = {"mae": "MAE", "rmse": "RMSE", **{name: own["title"] for name, own in more.items()}}
    for column in ("n", *(head for title in titles.values() for head in (f"{title} ± se", "p"))):
        table.add_column(column, justify="right")
    p = {(entry["label"], m): f"{entry[m]['p']:.3f}" for entry in record["comparisons"] for m in titles}
    for row in record["metrics"]:
        name = row["label"] if row["decoding"] == "mean" else f"  {row['decoding']} of the rating"
        cells = [str(row["n"])]
        for m in titles:
            compared = p.get((row["label"], m), "") if row["decoding"] == "mean" else ""
            cells += [_with_error(row[m], row[f"{m}_se"]), compared]
        table.add_row(name, *cells)
    console.print(table)
    if p:
        console.print(f"p: paired bootstrap against {record['metrics'][0]['label']} on the same rows.", markup=False)
    for found in record["findings"]:
        console.print(found["sentence"], markup=False)
    if "reasons" in record:
        show_reasons(record["reasons"], console)
    if "timing" in record:
        show_timing(record["timing"], console)
    console.print(cost_line(record["cost"]), markup=False)
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
        mean = _with_error(row["mean"], row["se"], 2 if row["metric"] == "gptscore" else 4)
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


def _with_error(mean: float, error: float | None, digits: int = 4) -> str:
    """A mean with its standard error; a single row has none."""
    return f"{mean:.{digits}f} ± {'—' if error is None else f'{error:.{digits}f}'}"


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


def cost_line(cost: dict[str, Any]) -> str:
    """What the method's own model took: all of it, and what this job did."""
    total, here = cost["total"], cost["this_job"]
    words = {"train_tokens": "trained on", "tokens_in": "read", "tokens_out": "written"}

    def told(counts: Mapping[str, Any]) -> str:
        return (
            ", ".join(f"{counts[name]:,.0f} {word}" for name, word in words.items()) + f" in {counts['wall_s']:.0f} s"
        )

    gone = f" (not counted, since no longer on disk: {', '.join(cost['unknown'])})" if cost["unknown"] else ""
    return f"tokens: {told(total)}{gone}; by this job: {told(here)}"


def teacher_line(cost: dict[str, Any]) -> str:
    """What the teacher's answers took, and how much of it this job paid."""
    total, here = cost["total"], cost["this_job"]
    unpriced = " and what has no price" if cost["unpriced"] else ""
    return (
        f"teacher: {total['teacher_calls']} calls ({total['teacher_cached']} from the cache), "
        f"{total['teacher_tokens_in']} tokens in, {total['teacher_tokens_out']} out, "
        f"${total['dollars']:.4f}{unpriced}; this job asked {here['teacher_calls']} and paid ${here['dollars']:.4f}"
    )
