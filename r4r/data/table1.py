"""Table 1 of a prepared dataset, beside the paper's where the paper has one."""

from typing import Any

import duckdb
import numpy as np

from r4r.scale import Scale

PAPER = {  # paper Table 1: train, valid, test, users, items
    "music": (43_071, 3_271, 1_296, 4_183, 2_660),
    "book": (71_972, 6_144, 5_541, 13_863, 13_515),
    "yelp": (51_497, 4_757, 4_328, 8_453, 13_426),
}
COLUMNS = ("train", "valid", "test", "users", "items")


def table1(con: duckdb.DuckDBPyConnection, scale: Scale) -> dict[str, Any]:
    """The statistics of the DuckDB table `final` (u, i, rating, timestamp, split).

    Returns:
        counts of rows a split, users and items; sparsity (share of user-item pairs without a review); `history`: train
        reviews a user and an item (mean, median, max); `ratings`: rows a rating, to the half star; `timestamps`: first
        and last second of each split.
    """

    def row(sql: str) -> tuple[Any, ...]:
        found = con.execute(sql).fetchone()
        assert found is not None
        return found

    counts = dict(con.execute("SELECT split, count(*) FROM final GROUP BY split").fetchall())
    users, items, pairs = row("SELECT count(DISTINCT u), count(DISTINCT i), count(DISTINCT (u, i)) FROM final")
    history = {}
    for side, code in (("user", "u"), ("item", "i")):
        mean, median, most = row(
            "SELECT avg(n), median(n), max(n) "
            f"FROM (SELECT count(*) AS n FROM final WHERE split = 'train' GROUP BY {code})"
        )
        history[side] = {"mean": round(mean, 2), "median": float(median), "max": int(most)}
    found = con.execute("SELECT rating, count(*) AS n FROM final GROUP BY rating").fetchnumpy()
    of_value = np.bincount(
        scale.places(np.asarray(found["rating"], dtype=float)), weights=found["n"], minlength=len(scale.values)
    )
    bands = {name: int(of_value[low : high + 1].sum()) for name, low, high in scale.bands()}
    spans = con.execute("SELECT split, min(timestamp), max(timestamp) FROM final GROUP BY split ORDER BY 2").fetchall()
    return {
        **{split: counts.get(split, 0) for split in ("train", "valid", "test")},
        "users": users,
        "items": items,
        "reviews": sum(counts.values()),
        "sparsity": 1 - pairs / (users * items),
        "history": history,
        "scale": scale.model_dump(),
        "ratings": {name: count for name, count in bands.items() if count},
        "timestamps": {split: [first, last] for split, first, last in spans},
    }


def table1_text(report: dict[str, Any], name: str) -> str:
    """Plain text: the counts (beside the paper's, if `name` is one of its datasets), and what each step dropped."""
    table = report["table1"]
    lines = [_row("", COLUMNS), _row(name, [f"{table[column]:,}" for column in COLUMNS])]
    if name in PAPER:
        lines.append(_row("paper", [f"{count:,}" for count in PAPER[name]]))
        ratios = [f"{table[column] / count - 1:+.1%}" for column, count in zip(COLUMNS, PAPER[name], strict=True)]
        lines.append(_row("difference", ratios))
    total = table["reviews"]
    stars = ", ".join(f"{rating}: {count / total:.1%}" for rating, count in table["ratings"].items())
    lines += [
        "",
        f"sparsity {table['sparsity']:.3%}; ratings {stars}",
        *(
            f"train reviews per {side}: mean {n['mean']:.1f}, median {n['median']:g}, most {n['max']:,}"
            for side, n in table["history"].items()
        ),
        "",
    ]
    files = report.get("files", {})
    steps = [(_told(w, files), w) for w in report["waterfall"]]
    wide = max(len(name) for name, _ in steps)
    lines.append(f"{'step':<{wide}} {'dropped':>11} {'repaired':>11} {'left':>11}")
    lines += [f"{name:<{wide}} {w['dropped']:>11,} {w['repaired']:>11,} {w['left']:>11,}" for name, w in steps]
    meta = files.get("meta", {})
    for verb in ("dropped", "repaired"):
        for reason, count in meta.get(verb, {}).items():
            first = meta["first_line"][reason]
            lines.append(f"metadata: {reason} (first in line {first:,}): {count:,} lines {verb}")
    return "\n".join(lines)


def _told(step: dict[str, Any], files: dict[str, Any]) -> str:
    """A step and its reason; of what reading dropped or repaired, also where to look for the first one."""
    first = files.get("reviews", {}).get("first_line", {}).get(step["reason"]) if step["step"] == "read" else None
    return f"{step['step']}: {step['reason']}" + (f" (first in line {first:,})" if first else "")


def _row(head: str, cells: Any) -> str:
    return f"{head:<20}" + "".join(f"{cell:>10}" for cell in cells)
