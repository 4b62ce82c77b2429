"""Single jobs: a list of them, all that one of them says, and how two differ."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from r4r.configuration.targets import close_names
from r4r.errors import DataError
from r4r.report.compare import compare, find, origins, predictions
from r4r.report.records import RESULT, Run
from r4r.report.settings import as_text
from r4r.teacher.said import visible

NOT_SETTINGS = ("paths", "logger", "name", "plan", "verbose")  # of the configuration: they change no result
WIDTH = 400  # characters of a text that are shown


def shown(text: object, limit: int = WIDTH) -> str:
    """One line that is safe on a terminal."""
    return visible(str(text), limit)


def listed(runs: Sequence[Run]) -> list[dict[str, object]]:
    """A line a job, the oldest first: folder, status, overrides, headline, seconds, when it started."""
    return [
        {
            "folder": str(run.path.parent),
            "status": run.record["status"],
            "overrides": " ".join(map(str, run.record.get("overrides") or ())),
            "method": run.method,
            "dataset": run.dataset,
            "seed": run.seed,
            "headline": headline(run),
            "seconds": run.record.get("wall_s", ""),
            "started": run.started,
        }
        for run in runs
    ]


def headline(run: Run) -> str:
    """The method's errors, or why there are none."""
    if not run.ok:
        return run.said()
    own = next((s for s in run.record.get("metrics") or () if s["decoding"] == "mean"), None)
    if own is None:
        return f"stopped at target={run.config.get('target')}"
    return f"{own['label']}: MAE {own['mae']:.4f}, RMSE {own['rmse']:.4f} on {own['n']} rows"


def lines(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """The list for a terminal: two lines a job."""
    for row in rows:
        seconds = f", {row['seconds']:,.0f} s" if isinstance(row["seconds"], int | float) else ""
        yield f"{row['status']:<12}{shown(row['folder'])}  {shown(row['overrides']) or '(no overrides)'}"
        yield f"{'':<12}{_when(str(row['started']))}{seconds}: {shown(row['headline'])}"


def chosen(name: str, runs: Sequence[Run]) -> Run:
    """The job that a folder, a record's path or the end of a folder's name means.

    Raises:
        DataError: there is none, or several.
    """
    path = Path(name)
    if path.name == RESULT:
        path = path.parent
    same = [run for run in runs if run.path.parent.resolve() == path.resolve()]
    found = same or [run for run in runs if f"/{run.path.parent}".endswith(f"/{str(path).strip('/')}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{name}: could be {' or '.join(str(run.path.parent) for run in found[:6])}; write more of it")
    known = [str(run.path.parent) for run in runs]
    raise DataError(f"{name}: there is no record of such a job; {close_names(name, known)}; r4r-report runs lists them")


def told(run: Run) -> Iterator[str]:
    """All that a job's record says, for a terminal."""
    record = run.record
    yield f"{shown(run.path.parent)}: {record['status']}"
    yield f"  {shown(headline(run))}"
    yield f"  started {_when(run.started)}, took {_number(record.get('wall_s'), ',.0f')} s"
    yield f"  method {shown(run.method)}, data {shown(run.dataset)}, seed {run.seed}"
    yield f"  overrides: {shown(' '.join(map(str, record.get('overrides') or ()))) or 'none'}"
    groups = (f"{k}={as_text(v)}" for k, v in run.choices.items() if not k.startswith("hydra/") and v is not None)
    yield f"  groups: {shown(' '.join(groups), 2000)}"
    for name in ("r4r", "commit", "device", "versions", "source"):
        if record.get(name):
            yield f"  {name}: {shown(as_text(record[name]))}"
    names = _metrics(run)
    if record.get("metrics"):
        yield ""
        heads = (f"{shown(name, 15)} ± se" for name in names.values())
        yield f"  {'':28}{'n':>7}  {'  '.join(f'{head:>20}' for head in heads)}"
    for score in record.get("metrics") or ():
        name = score["label"] if score["decoding"] == "mean" else f"  {score['decoding']} of the rating"
        errors = (f"{score[m]:.4f} ± {_number(score[f'{m}_se'], '.4f')}" for m in names)
        yield f"  {shown(name, 28):28}{score['n']:>7}  {'  '.join(f'{error:>20}' for error in errors)}"
    for one in record.get("comparisons") or ():
        for metric, title in names.items():
            if metric in one:  # a record of an earlier version has none of further metrics
                sides = f"{shown(one['label'])} minus {shown(one['against'])}"
                yield f"  {sides}, {shown(title)}: {_effect(one[metric], -1)}"
    for score in (record.get("reasons") or {}).get("scores") or ():
        mean = f"{score['mean']:.4f} over {score['n']} by {shown(score['model'])}"
        yield f"  {shown(score['label'])}, {shown(score['metric'])}: {mean}"
    total = (record.get("cost") or {}).get("total") or {}
    if total:
        yield f"  cost: {', '.join(f'{name} {value:,.6g}' for name, value in total.items() if value)}"
    for stage, key in run.artifacts.items():
        found = find(run, stage)
        yield f"  {'in the store' if found else 'gone':14}{shown(stage)}/{shown(key)}"


def difference(first: Run, second: Run, rows: int = 5) -> Iterator[str]:
    """How two jobs differ: settings, artifacts, metrics, and the rows whose predictions changed most."""
    yield f"A  {shown(first.path.parent)}: {first.record['status']}, {shown(headline(first))}"
    yield f"B  {shown(second.path.parent)}: {second.record['status']}, {shown(headline(second))}"
    yield ""
    changed = dict(_changed(*({**dict(_leaves(run.settings)), **_sources(run)} for run in (first, second))))
    yield f"Settings: {len(changed)} differ" if changed else "Settings: the same"
    for setting, (before, after) in changed.items():
        yield f"  {shown(setting)}: {shown(before)} -> {shown(after)}"
    ours, theirs = first.artifacts, second.artifacts
    both = [stage for stage in ours if stage in theirs]
    same = [stage for stage in both if ours[stage] == theirs[stage]]
    yield f"Artifacts: {len(same)} shared" + (f" ({shown(', '.join(same))})" if same else "")
    for stage in dict.fromkeys((*ours, *theirs)):
        if stage not in same:
            yield f"  {shown(stage)}: {shown(ours.get(stage, 'none'))} -> {shown(theirs.get(stage, 'none'))}"
    yield from _scores(first, second)
    yield from _largest(first, second, rows)


def _scores(first: Run, second: Run) -> Iterator[str]:
    """The metrics of both, and whether their methods differ on the same rows."""
    own = " -> ".join(dict.fromkeys((_label(first), _label(second))))  # the jobs' own rows stand side by side

    def scored(run: Run) -> dict[tuple[str, str], Any]:
        rows = run.record.get("metrics") or ()
        return {(own if s["label"] == _label(run) else s["label"], s["decoding"]): s for s in rows}

    ours, theirs, metrics = scored(first), scored(second), {**_metrics(first), **_metrics(second)}
    if not ours or not theirs:
        yield "Metrics: not both jobs were scored"
        return
    yield "Metrics (A -> B):"
    for label, decoding in dict.fromkeys((*ours, *theirs)):
        pair = [of.get((label, decoding)) for of in (ours, theirs)]
        told = (
            f"{shown(name)} {' -> '.join('none' if s is None or m not in s else f'{s[m]:.4f}' for s in pair)}"
            for m, name in metrics.items()
        )
        yield f"  {shown(label)}{'' if decoding == 'mean' else f' ({decoding})'}: {', '.join(told)}"
    if first.rows_scored != second.rows_scored:
        yield "  The two scored other rows, or rows of another split: their errors do not compare."
        return
    found = compare({0: (second, _label(second))}, {0: (first, _label(first))})
    names = f"{shown(_label(second))} of B minus {shown(_label(first))} of A"
    for metric, effect in found.effect.items():
        yield f"  {names}, {metric.upper()}: {_effect(vars(effect), 1)}"
    if found.untold:
        yield "  No difference is told: the predictions of one of them are not on disk."


def _largest(first: Run, second: Run, count: int) -> Iterator[str]:
    """The rows whose predictions are furthest apart, with their texts."""
    if first.artifacts.get("split") != second.artifacts.get("split"):
        yield "Predictions: of other splits; no row is the same"
        return
    ours, theirs = (predictions(run, _label(run)) if run.record.get("metrics") else None for run in (first, second))
    split = find(first, "split") or find(second, "split")
    if ours is None or theirs is None or split is None:
        yield "Predictions: not all of them are on disk"
        return
    from r4r.rows import REVIEWS

    known = split.table(REVIEWS).set_index("row_id")
    apart = (theirs - ours).dropna()  # aligned by row
    order = apart.abs().sort_values(ascending=False, kind="stable").index
    yield f"Predictions: {int((apart.abs() > 1e-6).sum())} of {len(apart)} rows changed" + (
        f"; the {min(count, len(order))} largest changes:" if count and len(order) else ""
    )
    reasons = [_reasons(run, known.reset_index()) for run in (first, second)]
    for row_id in order[:count]:
        row = known.loc[row_id]
        told = f"{ours[row_id]:.2f} -> {theirs[row_id]:.2f}, true {row['rating']:g}"
        yield f"  row {row_id}: {told}; {shown(row['title']) or '(no title)'}"
        yield f"    review: {shown(row['review']) or '(empty)'}"
        for name, said in zip("AB", reasons, strict=True):
            if row_id in said:
                yield f"    reason of {name}: {shown(said[row_id]) or '(empty)'}"


def _reasons(run: Run, rows: Any) -> Mapping[int, str]:
    """row_id -> reason, where the method gives reasons that are on disk."""
    from r4r.stages.score_reasons import reasons_of

    for stage, key, own in origins(run, _label(run)):
        artifact = find(run, stage, key)
        table = reasons_of(artifact, rows) if artifact else None
        if table is not None and own in set(table["label"]):
            return dict(table.loc[table["label"] == own, ["row_id", "reason"]].itertuples(index=False, name=None))
    return {}


def _metrics(run: Run) -> dict[str, str]:
    """Name -> title of each metric of ratings that a job's scores have."""
    further = run.record.get("rating_metrics") or {}
    return {"mae": "MAE", "rmse": "RMSE", **{name: own["title"] for name, own in further.items()}}


def _label(run: Run) -> str:
    return str(run.record["metrics"][0]["label"]) if run.record.get("metrics") else run.method


def _leaves(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        where = f"{before}{key}"
        if where in NOT_SETTINGS:
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{where}.")
        else:
            yield where, value


def _sources(run: Run) -> dict[str, str]:
    beside = {k: v for own in (run.record.get("reference_source") or {}).values() for k, v in own.items()}
    return {f"source of {file}": digest for file, digest in {**beside, **run.own_code}.items()}


def _changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterable[tuple[str, tuple[str, str]]]:
    for key in dict.fromkeys((*ours, *theirs)):
        if ours.get(key) != theirs.get(key) or (key in ours) != (key in theirs):
            pair = (as_text(of[key]) if key in of else "none" for of in (ours, theirs))
            yield key, (next(pair), next(pair))


def _effect(effect: Mapping[str, Any], sign: int) -> str:
    """A difference with its interval, p and the smallest that could have been seen; what a record lacks is left out.

    Args:
        sign: -1 turns a record's difference (`against` minus `label`) around.
    """
    ends = [effect.get(name) for name in ("difference", "low", "high")]
    parts = []
    if None not in ends:
        middle, low, high = (sign * float(end) for end in ends if end is not None)
        parts.append(f"{middle:+.4f} [{min(low, high):+.4f}, {max(low, high):+.4f}]")
    parts.append(f"p {effect['p']:.4f}")
    if effect.get("visible") is not None:
        parts.append(f"visible {effect['visible']:.4f}")
    return ", ".join(parts)


def _number(value: Any, form: str) -> str:
    return "—" if value is None else f"{value:{form}}"


def _when(started: str) -> str:
    try:
        return f"{datetime.fromisoformat(started):%Y-%m-%d %H:%M}"
    except ValueError:
        return shown(started, 40)
