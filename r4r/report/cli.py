"""The command `r4r-report`: records into the paper's tables and figures, beside the paper's numbers."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from r4r.errors import DataError, R4RError
from r4r.files import a_path, outputs_folder
from r4r.spreadsheet import write_row
from r4r.terminal import speak_any_terminal

HELP = """\
Gathers result.json records and writes, for each table or figure: NAME.md, NAME.tex (booktabs) and NAME.csv; of figures
3 and 4 also NAME.png and NAME.pdf, of figure 5 figure5.html, a page of cases that holds all it needs. What failed or is
missing is named in each. Records of the smoke preset count only with --experiment smoke. Exit codes: 0 done, 1 nothing
to report, 2 wrong command line.

  r4r-report sweep [DIR ...]   any sweep: what varies, and what each setting gave
  r4r-report runs [DIR ...]    all jobs, with filters
  r4r-report show RUN          one job
  r4r-report diff A B          how two jobs differ
Each has its own --help."""


def main() -> None:
    """The command line."""
    os.environ["MPLBACKEND"] = "Agg"  # as in `r4r`: figures go into files alone
    speak_any_terminal()
    try:
        code = report(sys.argv[1:])
    except R4RError as error:
        print(f"r4r-report: {error}", file=sys.stderr)
        code = 1
    except OSError as error:
        print(
            f"r4r-report: {error.filename or 'output'}: cannot be read or written ({error.strerror})", file=sys.stderr
        )
        code = 1
    sys.exit(code)


def report(argv: Sequence[str]) -> int:
    """Write what the command line asks for, and print the Markdown and the files.

    Returns:
        0, or 1 where one of the tables that were asked for by name has no record.
    Raises:
        DataError: a folder of records is not there, or none of them is of the table.
    """
    from r4r.report.commands import COMMANDS

    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:], outputs_folder())
    args = _parse(argv)
    from r4r.report.blocks import blocks
    from r4r.report.cases import LIMIT, case_studies
    from r4r.report.data_table import data_table
    from r4r.report.documents import document
    from r4r.report.reason_table import reason_table
    from r4r.report.records import gather
    from r4r.report.settings import Ask
    from r4r.report.tables import CASES, COST, NAMES, REASONS, TABLES, command
    from r4r.report.text import latex, markdown
    from r4r.report.timing_table import timing_table

    ask = Ask(tuple(args.data), args.experiment, tuple(args.set), args.config_dir, args.seeds)
    folders = args.records or [outputs_folder()]
    runs, faults = gather(folders)
    for fault in faults:
        print(f"r4r-report: {fault}", file=sys.stderr)
    names = NAMES if args.name == "all" else (args.name,)
    written = 0
    for name in names:
        drawn = []
        missing: list[str] = []
        if name == "table1":
            made = data_table(runs, ask)
        elif name == REASONS.name:
            made, missing = reason_table(runs, ask, args.against or REASONS.headline)
        elif name == COST.name:
            made, missing = timing_table(runs, ask)
        elif name == CASES.name:
            studies = case_studies(runs, ask, args.rows or (), args.cases or LIMIT)
            made = studies.document if studies else None
        else:
            table = replace(TABLES[name], headline=args.against or TABLES[name].headline)
            found, missing = blocks(table, runs, ask)
            made = document(table, found, missing, args.decoding) if found else None
        if made is None:
            where = ", ".join(str(folder) for folder in folders)
            of = f" of {', '.join(args.data)}" if args.data else ""
            preset = f" by experiment={args.experiment}" if args.experiment else ""
            sentence = f"no record of a job of {name}{of}{preset} below {where}; run {command(name)}"
            sentence = "; ".join([sentence, *missing])
            if args.name != "all":
                raise DataError(sentence)
            print(f"r4r-report: {sentence}", file=sys.stderr)
            continue
        made.problems += faults
        args.out.mkdir(parents=True, exist_ok=True)
        for suffix, text in (("md", markdown(made)), ("tex", latex(made)), ("csv", as_csv(made.rows))):
            (args.out / f"{name}.{suffix}").write_text(text, encoding="utf-8", newline="")
            drawn.append(args.out / f"{name}.{suffix}")
        if name == CASES.name and studies:
            from r4r.report.case_page import case_page

            drawn.append(args.out / f"{name}.html")
            drawn[-1].write_text(case_page(studies, args.serve_url), encoding="utf-8", newline="")
        elif name.startswith("figure"):
            from r4r.report.figure import draw, save

            drawn += save(draw(TABLES[name], found, args.decoding), args.out, name)
        print(markdown(made))
        print(*drawn, sep="\n", end="\n\n")
        written += 1
    return 0 if written else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    from r4r.configuration.targets import close_names
    from r4r.report.commands import COMMANDS
    from r4r.report.tables import CASES, NAMES, REASONS, TABLES

    parser = argparse.ArgumentParser(
        "r4r-report", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("name", help=f"{', '.join(NAMES)} or all")
    parser.add_argument(
        "--records",
        nargs="+",
        type=a_path,
        metavar="DIR",
        help="folders that hold records (default: multirun_outputs)",
    )
    parser.add_argument("--out", type=a_path, metavar="DIR", help="default: report, in the outputs folder")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME", help="only these data sets")
    parser.add_argument("--experiment", metavar="NAME", help="only records of this preset")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the table beside the preset's: overrides"
    )
    parser.add_argument("--seeds", type=_numbers, default=(), metavar="N,...", help="name what lacks of these seeds")
    parser.add_argument(
        "--config-dir", type=os.path.expanduser, metavar="DIR", help="folder of options of yours, as in r4r"
    )
    parser.add_argument("--decoding", default="mean", choices=("mean", "median", "mode"), help="default: mean")
    parser.add_argument(
        "--against", metavar="ROW", help="the row that † compares the others with (default: the table's own)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rows", type=_numbers, metavar="ID,...", help="figure5: these cases, by row_id")
    which.add_argument("--cases", type=positive, metavar="N", help="figure5: how many a data set (default: 24)")
    parser.add_argument("--serve-url", type=_address, metavar="URL", help="figure5: link each case to this r4r-serve")
    args = parser.parse_args(argv)
    if args.name not in (*NAMES, "all"):
        known = (*NAMES, "all", *COMMANDS)
        parser.error(f"{args.name}: there is no such table or figure; {close_names(args.name, known)}")
    if args.against:
        compared = {**TABLES, REASONS.name: REASONS}
        if args.name not in compared:
            parser.error(f"{args.name}: --against is of {', '.join(sorted(compared))}, one at a time")
        rows = [row.name for row in compared[args.name].rows]
        if args.against not in rows:
            parser.error(f"{args.name} has no row {args.against!r}; {close_names(args.against, rows)}")
    if args.name not in (CASES.name, "all") and (args.rows or args.cases):
        parser.error(f"{args.name}: --rows and --cases are of {CASES.name}")
    _check_settings(parser, args)
    args.out = args.out or outputs_folder() / "report"
    return args


def _check_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a sentence where --set names what is no setting, or what rows differ by."""
    if args.config_dir and not Path(args.config_dir).is_dir():
        parser.error(f"--config-dir {args.config_dir}: there is no such folder")
    rows = {"method", "strategy", "reason_source", "control", "seed", "experiment"}
    for override in args.set:
        if override.split("=")[0] in rows or "=" not in override:
            parser.error(f"--set {override}: must be KEY=VALUE, and none of {', '.join(sorted(rows))}")
    if args.set:
        from r4r.configuration.composing import make_loader
        from r4r.configuration.overrides import check_overrides

        problems = check_overrides(args.set, make_loader(args.config_dir)).problems
        if problems:
            parser.error("--set " + "; ".join(problems))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be whole numbers with commas between, as in 1,2,3") from None


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text}: must begin with http:// or https://")
    return text


def positive(text: str) -> int:
    """A command line's whole number of one or more.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 1 or more")
    return number


def as_csv(rows: Sequence[dict[str, object]]) -> str:
    """A CSV file, a line a dictionary, whose cells no spreadsheet takes for formulas, nor a terminal for commands."""
    from r4r.report.text import UNREADABLE

    columns = list(dict.fromkeys(column for row in rows for column in row))
    out = io.StringIO(newline="")
    write_row(out, columns)
    for row in rows:
        write_row(out, [row.get(column, "") for column in columns])
    return UNREADABLE.sub("\ufffd", out.getvalue().replace("\r\n", "\n")).replace("\n", "\r\n")


if __name__ == "__main__":
    main()
