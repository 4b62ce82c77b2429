"""Which order of preparation comes nearest to the paper's counts: `python experiments/table1/orders.py SWEEP`.

SWEEP is the folder that `r4r -m experiment=preparation_orders` left (multirun_outputs/sweeps/<date>/<time>). Prints a
row a job, nearest first: its counts, and the mean of their relative differences from the paper's Table 1.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from r4r.data.table1 import COLUMNS, PAPER


def read_sweep(folder: Path) -> list[dict[str, Any]]:
    """A row a job of the sweep, nearest to the paper first, failed jobs last.

    Returns:
        rows of dataset, prepare (the settings), counts and distance (both None where the job failed), and error.

    Raises:
        SystemExit: the folder has no jobs, or a data set that the paper does not have.
    """
    rows = []
    for path in sorted(folder.glob("*/result.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name = record["dataset"]
        if name not in PAPER:
            raise SystemExit(f"{path}: the paper's Table 1 has no '{name}'; it has {', '.join(PAPER)}")
        row = {"dataset": name, "prepare": record["config"]["dataset"]["prepare"], "counts": None, "distance": None}
        row["error"] = record["error"]["message"] if record["error"] else None
        if record["status"] == "ok":
            manifest = Path(record["target"]["split"]) / "manifest.json"
            found = json.loads(manifest.read_text(encoding="utf-8"))["rows"]
            row["counts"] = {column: found[column] for column in COLUMNS}
            row["distance"] = distance(row["counts"], name)
        rows.append(row)
    if not rows:
        raise SystemExit(f"{folder} holds no jobs (*/result.json)")
    return sorted(rows, key=lambda row: (row["distance"] is None, row["distance"] or 0.0))


def distance(counts: dict[str, int], name: str) -> float:
    """Mean over Table 1's five counts of |ours - paper's| / paper's."""
    paper = dict(zip(COLUMNS, PAPER[name], strict=True))
    return sum(abs(counts[column] - paper[column]) / paper[column] for column in COLUMNS) / len(COLUMNS)


def described(prepare: dict[str, Any]) -> str:
    """The steps that are on, in their order."""
    off = {step for step in ("require_title", "require_text", "dedupe") if not prepare[step]}
    off |= {"window"} if prepare["window_months"] is None else set()
    off |= {"k_core"} if prepare["k_core"] == 1 else set()
    steps = [f"{prepare['k_core']}-core" if step == "k_core" else step for step in prepare["order"] if step not in off]
    return " > ".join(steps) or "no step"


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text: the paper's row first, then the jobs."""
    lines = [f"{'':>9}" + "".join(f"{column:>9}" for column in COLUMNS) + "  order"]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        lines.append(f"{'paper':>9}" + "".join(f"{count:>9,}" for count in PAPER[name]) + f"  {name}")
        for row in (row for row in rows if row["dataset"] == name):
            steps = described(row["prepare"])
            if row["counts"] is None:
                lines.append(f"{'failed':>9}  {steps}: {(row['error'] or 'interrupted').splitlines()[0]}")
            else:
                cells = "".join(f"{row['counts'][column]:>9,}" for column in COLUMNS)
                lines.append(f"{row['distance']:>9.1%}{cells}  {steps}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    arguments = parser.parse_args()
    found = read_sweep(arguments.sweep)
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
