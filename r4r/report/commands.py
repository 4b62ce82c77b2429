"""The commands of `r4r-report` beside the paper's tables: sweep, runs, show, diff."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from r4r.errors import DataError
from r4r.files import a_path
from r4r.report.records import Run, gather

FOLDERS = "folders that hold records"


def sweep_command(argv: Sequence[str], outputs: Path) -> int:
    """Write a sweep's table as Markdown, LaTeX, CSV and HTML, and its pictures."""
    parser = _parser("sweep", "What each setting of a sweep gave: tables, a plot, a heat map and one HTML page.")
    parser.add_argument("folders", nargs="*", type=a_path, metavar="DIR", help=f"{FOLDERS} (default: the newest sweep)")
    parser.add_argument("--against", nargs="+", metavar="KEY=VALUE", help="the row to compare the others with")
    parser.add_argument("--metric", default="mae", help="what is drawn: mae (default), rmse, another metric")
    parser.add_argument("--x", metavar="KEY", help="the axis to draw over (default: the first that has numbers)")
    parser.add_argument("--y", metavar="KEY", help="the heat map's second axis")
    parser.add_argument("--decoding", default="mean", choices=("mean", "median", "mode"), help="default: mean")
    parser.add_argument("--out", type=a_path, metavar="DIR", help="default: report, in the outputs folder")
    parser.add_argument("--name", default="sweep", help="of the files (default: sweep)")
    args = parser.parse_args(argv)
    if Path(args.name).name != args.name or args.name.startswith("."):
        parser.error(f"--name {args.name}: must be a file's name; --out names the folder")
    folders = args.folders or [_newest(outputs)]
    runs, faults = gather(folders)
    from r4r.configuration.targets import close_names
    from r4r.report.beside import reason_metrics
    from r4r.report.cells import METRICS
    from r4r.report.cli import as_csv
    from r4r.report.page import page
    from r4r.report.sweep import MULTIRUN, not_started, sweep
    from r4r.report.sweep_figure import draw_heat, draw_sweep, pick_axes
    from r4r.report.sweep_table import sweep_table
    from r4r.report.text import as_png, latex, markdown

    made = sweep(runs, args.against or ())
    known = [*METRICS, *made.further, *reason_metrics([point.cell for point in made.points])]
    if args.metric not in known:
        raise DataError(f"--metric {args.metric}: no job of this sweep has it; {close_names(args.metric, known)}")
    x, y = pick_axes(made, args.x, args.y)
    for folder in sorted({file.parent for one in folders if one.is_dir() for file in one.rglob(MULTIRUN)}):
        made.problems += [
            f"{job}: not started, or killed before its record ({folder})" for job in not_started(folder, runs)
        ]
    made.problems += faults
    command = ["r4r-report", "sweep", *map(str, folders), *(["--against", *args.against] if args.against else [])]
    document = sweep_table(made, shlex.join(command), args.name, args.decoding)
    out = args.out or outputs / "report"
    out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    if any(point.cell.results for point in made.points):
        pictures[f"{args.name}.png"] = as_png(draw_sweep(made, args.metric, x, args.decoding))
        if x is not None and y is not None:
            pictures[f"{args.name}-heat.png"] = as_png(draw_heat(made, args.metric, x, y, args.decoding))
    files: dict[str, str | bytes] = {
        f"{args.name}.md": markdown(document),
        f"{args.name}.tex": latex(document),
        f"{args.name}.csv": as_csv(document.rows),
        f"{args.name}.html": page(document, pictures),
        **pictures,
    }
    for name, content in files.items():
        (out / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    print(markdown(document))
    print(*(out / name for name in files), sep="\n")
    return 0


def runs_command(argv: Sequence[str], outputs: Path) -> int:
    """List jobs."""
    from r4r.report.cli import as_csv, positive

    parser = _parser("runs", "Lists jobs, the oldest first.")
    parser.add_argument("folders", nargs="*", type=a_path, metavar="DIR", help=f"{FOLDERS} (default: {outputs})")
    parser.add_argument("--status", choices=("ok", "failed", "interrupted"), help="interrupted: or still running")
    for name in ("method", "dataset", "experiment"):
        parser.add_argument(f"--{name}", metavar="NAME", help=f"only jobs of this {name}")
    parser.add_argument("--seed", type=int, metavar="N", help="only jobs of this seed")
    parser.add_argument("--with", dest="having", action="append", default=[], metavar="TEXT", help="in the overrides")
    parser.add_argument("--last", type=positive, metavar="N", help="only the newest so many")
    parser.add_argument("--csv", action="store_true", help="print a CSV file")
    args = parser.parse_args(argv)
    runs, faults = gather(args.folders or [outputs])
    _tell(faults)
    from r4r.report.jobs import lines, listed

    found = [run for run in runs if _fits(run, args)]
    found = found[-args.last :] if args.last else found
    rows = listed(found)
    if args.csv:
        sys.stdout.write(as_csv(rows))
    else:
        print(*lines(rows), sep="\n", end="\n" if rows else "")
        counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "failed", "interrupted")}
        print(f"{len(rows)} of {len(runs)} jobs: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    return 0 if rows else 1


def show_command(argv: Sequence[str], outputs: Path) -> int:
    """Print what one job's record says."""
    parser = _parser("show", "Prints what one job's record says.")
    parser.add_argument("run", metavar="RUN", help="a job's folder, or the end of its path")
    from r4r.report.jobs import told

    print(*told(_job(parser.parse_args(argv).run, outputs)), sep="\n")
    return 0


def diff_command(argv: Sequence[str], outputs: Path) -> int:
    """Print how two jobs differ."""
    parser = _parser("diff", "How two jobs differ: settings, artifacts, metrics, and the rows that changed most.")
    parser.add_argument("first", metavar="A", help="a job's folder, or the end of its path")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--rows", type=int, default=5, metavar="N", help="rows that changed most (default: 5)")
    args = parser.parse_args(argv)
    from r4r.report.jobs import difference

    first, second = (_job(name, outputs) for name in (args.first, args.second))
    print(*difference(first, second, max(0, args.rows)), sep="\n")
    return 0


COMMANDS = {"sweep": sweep_command, "runs": runs_command, "show": show_command, "diff": diff_command}


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(f"r4r-report {name}", description=description, allow_abbrev=False)


def _newest(outputs: Path) -> Path:
    """The newest sweep's folder.

    Raises:
        DataError: there is none.
    """
    found = sorted((outputs / "sweeps").glob("*/*"))
    if not found:
        raise DataError(f"{outputs / 'sweeps'}: there is no sweep; name folders that hold records, or run r4r -m ...")
    return found[-1]


def _job(name: str, outputs: Path) -> Run:
    """A job by name: below a folder that is there, else among all that lie in the outputs folder."""
    from r4r.report.jobs import chosen

    path = Path(name)
    runs, faults = gather([path if path.exists() else outputs])
    if not path.exists():
        return chosen(name, runs)
    _tell(faults)
    return chosen(name, runs)


def _fits(run: Run, args: argparse.Namespace) -> bool:
    asked = {"method": run.method, "dataset": run.dataset, "experiment": run.experiment, "seed": run.seed}
    wanted = {**asked, "status": run.record["status"]}
    given = " ".join(map(str, run.record.get("overrides") or ()))
    return all(getattr(args, name) in (None, value) for name, value in wanted.items()) and all(
        text in given for text in args.having
    )


def _tell(faults: Sequence[str]) -> None:
    from r4r.report.jobs import shown

    for fault in faults:
        print(f"r4r-report: {shown(fault, 1000)}", file=sys.stderr)
