"""Table 3: how well reasons match the reviews, by several metrics, beside the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r4r.report.cells import ALPHA, chosen
from r4r.report.compare import compare_reasons
from r4r.report.paper import beside
from r4r.report.records import Run
from r4r.report.tables import REASONS, Row, axes
from r4r.report.text import DAGGER, Document, Grid, Text

METRICS = {"gptscore": "GPTScore", "bleurt": "BLEURT", "similarity": "similarity", "rouge_l": "ROUGE-L"}
PUBLISHED = ("gptscore", "bleurt")
Score = Mapping[str, Any]  # label, metric, mean, se, n, model; in Found its run as well
Found = dict[str, dict[int, Score]]  # metric -> seed -> score


def reason_table(
    runs: Sequence[Run], datasets: Sequence[str] = (), experiment: str | None = None, headline: str = REASONS.headline
) -> Document | None:
    """Scores of each row's reasons, a grid a data set: mean and standard deviation over seeds; higher is closer.

    The newest record of a row, seed and metric stands. Only records of the same evaluated rows, and scores by the same
    model, are put side by side: those of the table's own preset first, else the newest; what is left out is said.

    Args:
        headline: the row that the others are compared with.
    Returns:
        None where no record scores the reasons of any row.
    """
    runs = [
        run
        for run in chosen(runs, experiment)
        if any(row.fits(run) for row in REASONS.rows) and not (run.ok and not _scores(run))
    ]
    scored = [run for run in runs if run.ok]
    names = list(datasets or dict.fromkeys([*axes(REASONS.name)["dataset"], *(run.dataset for run in runs)]))
    if not any(run.dataset in names for run in scored):
        return None
    made = Document(REASONS.name, REASONS.title, REASONS.command)
    for name in names:
        own = [run for run in runs if run.dataset == name]
        if any(run.ok for run in own):
            _block(made, name, own, headline)
        else:
            said = f"; the newest job {own[-1].said()} ({own[-1].path})" if own else ""
            made.problems.append(f"{name}: no scores of reasons; run {REASONS.command} dataset={name}{said}")
    made.notes.append(
        "Mean ± standard deviation over seeds; of one seed, its value ± the standard error over reviews (se). Higher "
        "is closer to the review. GPTScore: 0 to 100, by a judge. Similarity is the cosine of embeddings: it does not "
        f"see a reason turned on its head. Bold: the best of its column. {DAGGER} differs from {headline}: "
        f"paired bootstrap over reviews, p < {ALPHA} for every seed that both have, where the scores are still on disk."
    )
    return made


def _scores(run: Run) -> list[Score]:
    return (run.record.get("reasons") or {}).get("scores") or []


def _block(made: Document, dataset: str, runs: Sequence[Run], headline: str) -> None:
    """Add a data set's grid, its lines for the CSV file, and what is to be said of it."""
    scored = sorted((run for run in runs if run.ok), key=lambda run: (run.experiment == REASONS.name, run.started))
    best = scored[-1]
    others = [run for run in scored if run.rows_scored != best.rows_scored]
    if others:
        made.notes.append(
            f"{dataset}: {len(others)} of the records scored other rows or another split and are left out: "
            f"{', '.join(str(run.path) for run in others[:3])}. The table shows what scored the rows of {best.path}."
        )
    scored = [run for run in scored if run.rows_scored == best.rows_scored]
    models = {score["metric"]: score["model"] for run in scored for score in _scores(run)}  # the last one stands
    cells = {row.name: _found(row, scored, models) for row in REASONS.rows}
    foreign = sorted(
        {
            f"{METRICS[score['metric']]} by {score['model']}"
            for run in scored
            for score in _scores(run)
            if score["model"] != models[score["metric"]]
        }
    )
    shown = [metric for metric in METRICS if metric in models]
    made.notes.append(f"{dataset}: " + "; ".join(f"{METRICS[m]} by {models[m]}" for m in shown) + ".")
    if foreign:
        made.notes.append(f"{dataset}: left out, as another model scored: {'; '.join(foreign)}.")
    if models.get("gptscore") == "simulator":
        made.notes.append(
            f"{dataset}: the simulated judge reads the simulated world's words; its scores stand beside no paper's."
        )
    paper, published = beside(REASONS.name, dataset)
    if paper != dataset:
        made.notes.append(
            f"{dataset}: the paper has no such data; its numbers for {paper} stand beside. Compare the order of the "
            "rows, not the values."
        )
    top = {m: max((_mean(found[m]) for found in cells.values() if m in found), default=None) for m in shown}
    theirs = {m: max(row[m] for row in published.values()) for m in PUBLISHED}
    lines = []
    for row in REASONS.rows:
        found = cells[row.name]
        status = _explain(made, dataset, row, found, runs)
        seeds = sorted({seed for scores in found.values() for seed in scores})
        counts = sorted({int(score["n"]) for scores in found.values() for score in scores.values()})
        line = [Text(row.name)]
        for metric in shown:
            has = metric in found
            mark = DAGGER if has and _differs(found[metric], cells[headline].get(metric, {})) else ""
            best_of = has and _mean(found[metric]) == top[metric]
            line.append(Text(_text(metric, found[metric]) + mark, best_of) if has else Text(status))
        line += [Text(" to ".join(f"{n:,}" for n in dict.fromkeys([*counts[:1], *counts[-1:]])) or status)]
        line += [Text(str(len(seeds)))]
        for metric in PUBLISHED:
            number = published.get(row.paper, {}).get(metric)
            text = "—" if number is None else f"{number:.{_digits(metric)}f}"
            line.append(Text(text, number == theirs[metric]))
        lines.append(line)
        numbers = published.get(row.paper, {}) if paper == dataset else {}
        made.rows += [_csv_row(dataset, row, metric, found.get(metric, {}), status, numbers) for metric in METRICS]
    headers = [
        "",
        *(METRICS[m] for m in shown),
        "reviews",
        "seeds",
        *(f"paper, {paper}: {METRICS[m]}" for m in PUBLISHED),
    ]
    made.grids.append(Grid(dataset, headers, lines))


def _found(row: Row, runs: Sequence[Run], models: Mapping[str, str]) -> Found:
    """The newest score of each metric and seed, the method's own label alone."""
    found: Found = {}
    for run in sorted((run for run in runs if row.fits(run)), key=lambda run: run.started):
        label = run.record["metrics"][0]["label"]
        for score in _scores(run):
            if score["label"] == label and score["model"] == models[score["metric"]]:
                found.setdefault(score["metric"], {})[run.seed] = {**score, "run": run}
    return found


def _explain(made: Document, dataset: str, row: Row, found: Found, runs: Sequence[Run]) -> str:
    """Say what a row lacks and why.

    Returns:
        What stands in its empty cells.
    """
    if not row.exists:
        made.problems.append(f"{dataset}: {row.name}: not built, there is no conf/method/{row.settings[0].method}.yaml")
        return "not built"
    seen = {seed for scores in found.values() for seed in scores}
    failed = {run.seed: run for run in runs if not run.ok and row.fits(run) and run.seed not in seen}
    for seed, run in sorted(failed.items()):
        made.problems.append(f"{dataset}: {row.name}, seed {seed}: {run.said()} ({run.path})")
    lacking = [seed for seed in axes(REASONS.name)["seed"] if int(seed) not in seen and int(seed) not in failed]
    if lacking:
        chosen = row.settings[0].overrides(axes(REASONS.name))
        made.problems.append(
            f"{dataset}: {row.name}: no scores for seed {', '.join(lacking)}; run {REASONS.command} dataset={dataset} "
            f"{chosen} seed={','.join(lacking)}"
        )
    return "failed" if failed and not found else "missing"


def _differs(scores: Mapping[int, Score], headline: Mapping[int, Score]) -> bool:
    """Whether a row's scores differ from the headline's for every seed that both have."""
    found = [
        compare_reasons(own["run"], own["label"], other["run"], other["label"], own["metric"])
        for own, other in ((scores[seed], headline[seed]) for seed in scores.keys() & headline.keys())
        if own["run"] is not other["run"]
    ]
    return bool(found) and all(p is not None and p < ALPHA for p in found)


def _mean(scores: Mapping[int, Score]) -> float:
    return float(np.mean([score["mean"] for score in scores.values()]))


def _sd(scores: Mapping[int, Score]) -> float | None:
    values = [score["mean"] for score in scores.values()]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _se(scores: Mapping[int, Score]) -> float | None:
    """Over reviews, averaged over seeds; None where a record has none."""
    errors = [score["se"] for score in scores.values()]
    return None if None in errors else float(np.mean(errors))


def _digits(metric: str) -> int:
    return 2 if metric == "gptscore" else 4


def _text(metric: str, scores: Mapping[int, Score]) -> str:
    digits, sd, error = _digits(metric), _sd(scores), _se(scores)
    spread = f" ± {sd:.{digits}f}" if sd is not None else f" ± {error:.{digits}f} se" if error is not None else ""
    return f"{_mean(scores):.{digits}f}{spread}"


def _csv_row(
    dataset: str, row: Row, metric: str, scores: Mapping[int, Score], status: str, paper: Mapping[str, float]
) -> dict[str, object]:
    first: dict[str, object] = {"table": REASONS.name, "dataset": dataset, "row": row.name, "metric": metric}
    if not scores:
        return first | {"status": status, "paper": paper.get(metric, "")}
    sd, error = _sd(scores), _se(scores)
    return first | {
        "status": "ok",
        "mean": _mean(scores),
        "sd": "" if sd is None else sd,
        "standard_error": "" if error is None else error,
        "n": " ".join(map(str, sorted({int(score["n"]) for score in scores.values()}))),
        "seeds": " ".join(map(str, sorted(scores))),
        "model": next(iter(scores.values()))["model"],
        "paper": paper.get(metric, ""),
    }
