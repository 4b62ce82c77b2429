"""Table 3: how well reasons match the reviews, by several metrics, beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from r4r.metrics.significance import ALPHA, holm
from r4r.report.beside import REASON_METRICS
from r4r.report.candidates import Standing, of_own_code, of_preset, same_rows, standing
from r4r.report.compare import Comparison, compare_reasons
from r4r.report.documents import EFFECTS, effect_columns, shown_effect
from r4r.report.paper import beside
from r4r.report.records import Run
from r4r.report.settings import Ask
from r4r.report.tables import REASONS, Row, axes
from r4r.report.text import DAGGER, DOUBLE_DAGGER, Document, Grid, Text

PUBLISHED = ("gptscore", "bleurt")
PLANTED = ("planted_verdict", "planted_claims")  # shown where all rows have them: jobs of other tables do
EVERYTHING = Ask()
Score = Mapping[str, Any]  # label, metric, mean, se, n, model; in Found its run as well
Found = dict[str, dict[int, Score]]  # metric -> seed -> score


def reason_table(
    runs: Sequence[Run], ask: Ask = EVERYTHING, headline: str = REASONS.headline
) -> tuple[Document | None, list[str]]:
    """Scores of each row's reasons, a grid a data set: mean and standard deviation over seeds; higher is closer.

    Which records may stand in the table, `candidates` says; the newest of a row, seed and metric does. Only records of
    the same evaluated rows, and scores by the same model, are put side by side: those of the table's own preset first,
    else the newest; what is left out is said.

    Args:
        headline: the row that the others are compared with.
    Returns:
        The document, None where no record scores the reasons of any row; and sentences on data sets without scores.
    """
    runs = [
        run
        for run in of_preset(runs, ask.experiment)
        if any(row.fits(run) for row in REASONS.rows) and not (run.ok and not _scores(run))
    ]
    made = Document(REASONS.name, REASONS.title, REASONS.command)
    missing = []
    for name in ask.datasets or dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == name]
        stands = standing(REASONS, own, ask)
        if stands.chosen:
            _block(made, name, own, stands, headline, ask)
        else:
            failed = [f"; the newest job {run.said()} ({run.path})" for run in own[-1:] if not run.ok]
            sentence = f"{name}: no scores of reasons; run {REASONS.command} dataset={name}"
            missing += ["".join([sentence, *failed]), *(f"{name}: {told}" for told in stands.remarks())]
    if not made.grids:
        return None, missing
    made.problems += missing
    made.notes.append(
        "Mean ± standard deviation over seeds; of one seed, its value ± the standard error over reviews (se). Higher "
        "is closer to the review. GPTScore: 0 to 100, by a judge. Similarity is the cosine of embeddings: it does not "
        f"see a reason turned on its head. Bold: the best of its column. {DAGGER} differs from {headline}: paired "
        f"bootstrap over reviews, p < {ALPHA} for every seed that both have, where the scores are still on disk. "
        f"{DOUBLE_DAGGER} differs pooled over seeds, p < {ALPHA} after Holm's adjustment for the comparisons of its "
        "column."
    )
    return made, missing


def _scores(run: Run) -> list[Score]:
    return (run.record.get("reasons") or {}).get("scores") or []


def _block(made: Document, dataset: str, runs: Sequence[Run], stands: Standing, headline: str, ask: Ask) -> None:
    """Add a data set's grids, its lines for the CSV file, and what is to be said of it."""
    stands, left_out = same_rows(REASONS, stands)
    made.notes += [f"{dataset}: {sentence}" for sentence in [*left_out, *stands.remarks()]]
    scored = sorted(stands.runs, key=lambda run: (run.experiment == REASONS.name, run.started))
    models = {score["metric"]: score["model"] for run in scored for score in _scores(run)}  # the last one stands
    cells = {row.name: _found(row, scored, models) for row in REASONS.rows}
    foreign = sorted(
        {
            f"{REASON_METRICS[score['metric']]} by {score['model']}"
            for run in scored
            for score in _scores(run)
            if score["model"] != models[score["metric"]]
        }
    )
    own = [found for found in cells.values() if found]
    shown = [m for m in REASON_METRICS if m in models and (m not in PLANTED or all(m in found for found in own))]
    made.notes.append(f"{dataset}: " + "; ".join(f"{REASON_METRICS[m]} by {models[m]}" for m in shown) + ".")
    code = {name: [s["run"].own_code for of in found.values() for s in of.values()] for name, found in cells.items()}
    made.notes += [f"{dataset}: {sentence}" for sentence in of_own_code(code)]
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
    compared = _compared(cells, headline, shown)
    lines = []
    for row in REASONS.rows:
        found = cells[row.name]
        status = _explain(made, dataset, row, found, runs, ask)
        seeds = sorted({seed for scores in found.values() for seed in scores})
        counts = sorted({int(score["n"]) for scores in found.values() for score in scores.values()})
        line = [Text(row.name)]
        for metric in shown:
            has = metric in found
            mark = _marks(compared.get((row.name, metric)), metric)
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
        for metric in [*(m for m in REASON_METRICS if m not in PLANTED), *(m for m in shown if m in PLANTED)]:
            made.rows.append(_csv_row(dataset, row, metric, found.get(metric, {}), status, numbers))
            made.rows[-1] |= _effect_columns(compared.get((row.name, metric)), metric)
    headers = [
        "",
        *(REASON_METRICS[m] for m in shown),
        "reviews",
        "seeds",
        *(f"paper, {paper}: {REASON_METRICS[m]}" for m in PUBLISHED),
    ]
    made.grids.append(Grid(dataset, headers, lines))
    rows = [row.name for row in REASONS.rows if any(compared.get((row.name, m)) for m in shown)]
    if any(comparison.effect for comparison in compared.values()):
        heads = ["", *(head for m in shown for head in (f"{REASON_METRICS[m]} difference", "p", "p, Holm", "visible"))]
        effects = []
        for name in rows:
            line = [Text(name)]
            for m in shown:
                one = compared.get((name, m))
                line += shown_effect(one.effect.get(m) if one else None, _digits(m))
            effects.append(line)
        made.grids.append(Grid(f"{dataset}: differences from {headline}", heads, effects))
        if EFFECTS not in made.notes:
            made.notes.append(EFFECTS)


def _compared(cells: Mapping[str, Found], headline: str, metrics: Sequence[str]) -> dict[tuple[str, str], Comparison]:
    """Each row's comparison with the headline row, by row and metric, with p adjusted for those of its metric."""
    found: dict[tuple[str, str], Comparison] = {}
    for metric in metrics:
        theirs = {seed: (score["run"], score["label"]) for seed, score in cells[headline].get(metric, {}).items()}
        for name, own in cells.items():
            mine = {seed: (score["run"], score["label"]) for seed, score in own.get(metric, {}).items()}
            if name != headline and mine.keys() & theirs.keys():
                found[name, metric] = compare_reasons(mine, theirs, metric)
        told = [one for (_, of), one in found.items() if of == metric and metric in one.effect]
        for one, p in zip(told, holm([one.effect[metric].p for one in told]), strict=True):
            one.effect[metric] = replace(one.effect[metric], holm=p)
    return found


def _marks(found: Comparison | None, metric: str) -> str:
    if found is None:
        return ""
    alone = metric in found.p and not found.untold and max(found.p[metric]) < ALPHA
    over = metric in found.effect and found.effect[metric].holm < ALPHA
    return DAGGER * alone + DOUBLE_DAGGER * over


def _effect_columns(found: Comparison | None, metric: str) -> dict[str, object]:
    if found is None or metric not in found.effect:
        return {}
    return effect_columns(found.effect[metric])


def _found(row: Row, runs: Sequence[Run], models: Mapping[str, str]) -> Found:
    """The newest score of each metric and seed, the method's own label alone."""
    found: Found = {}
    for run in sorted((run for run in runs if row.fits(run)), key=lambda run: run.started):
        label = run.record["metrics"][0]["label"]
        for score in _scores(run):
            if score["label"] == label and score["model"] == models[score["metric"]]:
                found.setdefault(score["metric"], {})[run.seed] = {**score, "run": run}
    return found


def _explain(made: Document, dataset: str, row: Row, found: Found, runs: Sequence[Run], ask: Ask) -> str:
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
    lacking = [str(seed) for seed in ask.seeds if seed not in seen and seed not in failed]
    if lacking or not (seen or failed):
        chosen = row.settings[0].overrides(axes(REASONS.name))
        which = f" for seed {', '.join(lacking)}" if lacking else ""
        seeds = f" seed={','.join(lacking)}" if lacking else ""
        command = f"{REASONS.command} dataset={dataset} {chosen}{seeds}"
        made.problems.append(f"{dataset}: {row.name}: no scores{which}; run {command}")
    return "failed" if failed and not found else "missing"


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
