"""Table 6: seconds and generated tokens a prediction, by method, beside the paper's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from r4r.metrics.significance import POWER, holm, unpaired
from r4r.report.candidates import of_own_code, of_preset, standing
from r4r.report.compare import Effect
from r4r.report.documents import effect_columns, shown_effect
from r4r.report.paper import beside
from r4r.report.records import Run
from r4r.report.settings import Ask
from r4r.report.tables import COST, axes
from r4r.report.text import Document, Grid, Text

SINGLE, BATCHED = "single", "batched"
EVERYTHING = Ask()
DIFFERENCES = (
    "Differences of one-by-one predictions by Welch's test over predictions, in brackets their 95 % interval; records "
    "hold no single prediction's cost, so that nothing is paired. Visible: the smallest true difference that the "
    f"comparison would have found with {POWER:.0%} probability."
)
PUBLISHED = {"seconds": "s", "tokens": "tokens"}
Timing = Mapping[str, Any]  # as in a record: the setup, and its modes


def timing_table(runs: Sequence[Run], ask: Ask = EVERYTHING) -> tuple[Document | None, list[str]]:
    """Cost of a prediction, a grid a data set and setup: seconds of two machines, or two base models, do not compare.

    Which records may stand in the table, `candidates` says; the newest of a row and setup does.

    Returns:
        The document, None where no job of these rows was timed; and sentences on data sets without one.
    """
    runs = [
        run
        for run in of_preset(runs, ask.experiment)
        if any(row.fits(run) for row in COST.rows) and (run.config.get("timing") or {}).get("rows")
    ]
    made = Document(COST.name, COST.title, COST.command)
    missing = []
    for name in ask.datasets or dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == name]
        stands = standing(COST, [run for run in own if run.record.get("timing")], ask)
        setups: dict[str, list[Run]] = {}
        for run in stands.runs:
            setups.setdefault(_setup(run), []).append(run)
        if not setups:
            failed = [f"; the newest job {run.said()} ({run.path})" for run in own[-1:] if not run.ok]
            missing.append("".join([f"{name}: not timed; run {COST.command} dataset={name}", *failed]))
            missing += [f"{name}: {sentence}" for sentence in stands.remarks()]
            continue
        for alike in setups.values():
            _grid(made, name, alike)
        made.notes += [f"{name}: {sentence}." for sentence in stands.remarks()]
        _explain(made, name, own, list(setups.values()))
        paper, _ = beside(COST.name, name)
        if paper != name:
            made.notes.append(
                f"{name}: the paper has no such data; its numbers for {paper} stand beside. Compare the order of the "
                "rows, not the values."
            )
    if not made.grids:
        return None, missing
    made.problems += missing
    made.notes += [
        "Seconds a prediction of writing and rating alone: summaries and profiles are made beforehand and not counted. "
        "One by one: mean ± standard error over predictions (se), and the median; batched: the whole over its "
        "predictions. Each after a warm-up. Rating: the share of the one-by-one seconds that gives the rating. It is "
        "decoded from the logits of its digit: by Reason4Rec after a prompt of its own, by the others behind their "
        "answer, which is read once more for it.",
        "Tokens: all that the model writes for a prediction, the end of its turn and the rating's digit included.",
        "The paper measured 100 Book predictions on one NVIDIA A800. Bold: the least of its column.",
    ]
    return made, missing


def _setup(run: Run) -> str:
    """What two records must share for their seconds to be comparable."""
    timing: Timing = run.record["timing"]
    shared = {key: value for key, value in timing.items() if key != "modes"}
    return json.dumps(
        [shared, _mode(timing, SINGLE)["n"], run.config["timing"]["seed"], run.rows_scored], sort_keys=True
    )


def _mode(timing: Timing, name: str) -> Mapping[str, Any]:
    return next(mode for mode in timing["modes"] if mode["mode"] == name)


def _grid(made: Document, dataset: str, runs: Sequence[Run]) -> None:
    """Add the grid of records that share a setup, and its lines for the CSV file."""
    setup: Timing = runs[-1].record["timing"]
    paper, published = beside(COST.name, dataset)
    found = {row.name: [run for run in runs if row.fits(run)][-1:] for row in COST.rows}
    timed = {name: own[0].record["timing"] for name, own in found.items() if own}
    best = {
        (mode, number): min(_mode(timing, mode)[number] for timing in timed.values())
        for mode in (SINGLE, BATCHED)
        for number in ("seconds", "tokens")
    }
    lines = []
    before = len(made.rows)
    for row in COST.rows:
        theirs = published.get(row.paper, {})
        line = [Text(row.name)]
        if row.name in timed:
            single, batched = (_mode(timed[row.name], mode) for mode in (SINGLE, BATCHED))
            line += [
                Text(_spread(single, "seconds", 3), single["seconds"] == best[SINGLE, "seconds"]),
                Text(f"{single['seconds_median']:.3f}"),
                Text(f"{single['rating_seconds'] / single['seconds']:.0%}"),
                Text(f"{batched['seconds']:.3f}", batched["seconds"] == best[BATCHED, "seconds"]),
                Text(f"{batched['n'] / batched['batches']:.1f}"),
                Text(_spread(single, "tokens", 2), single["tokens"] == best[SINGLE, "tokens"]),
            ]
        else:
            line += [Text("missing")] * 6
        for number in PUBLISHED:
            least = min(numbers[number] for numbers in published.values())
            value = theirs.get(number)
            line.append(Text("—" if value is None else f"{value:.2f}", value == least))
        lines.append(line)
        first: dict[str, object] = {"table": COST.name, "dataset": dataset, "row": row.name}
        beside_ours = {f"paper_{number}": theirs.get(number, "") if paper == dataset else "" for number in PUBLISHED}
        for own in found[row.name]:
            shared = {key: value for key, value in own.record["timing"].items() if key != "modes"}
            made.rows += [
                first | {"status": "ok"} | mode | shared | {"seed": own.seed, "record": str(own.path)} | beside_ours
                for mode in own.record["timing"]["modes"]
            ]
        if not found[row.name]:
            made.rows.append(first | {"status": "missing"} | beside_ours)
    code = {name: [run.own_code for run in own] for name, own in found.items()}
    made.notes += [f"{dataset}: {sentence}" for sentence in of_own_code(code)]
    cut = [f"{name} {one['cut']} of {one['n']}" for name in timed if (one := _mode(timed[name], SINGLE))["cut"]]
    if cut:
        made.notes.append(
            f"{dataset}, {setup['device']}: texts cut at their limit (max_new_tokens), which bounds their seconds and "
            f"tokens: {', '.join(cut)}."
        )
    headers = ["", "s, one by one", "median", "rating", "s, batched", "rows a batch", "tokens"]
    headers += [f"paper, {paper}: {name}" for name in PUBLISHED.values()]
    made.grids.append(Grid(f"{dataset}: {_named(setup)}", headers, lines))
    _differences(made, dataset, setup, timed, made.rows[before:])


def _differences(
    made: Document, dataset: str, setup: Timing, timed: Mapping[str, Timing], rows: Sequence[dict[str, object]]
) -> None:
    """Add each row's differences from the headline row, where both have standard errors.

    Args:
        rows: the setup's lines of the CSV file, which get those of the seconds.
    """
    numbers = ("seconds", "tokens")
    single = {name: _mode(timing, SINGLE) for name, timing in timed.items()}
    found: dict[tuple[str, str], Effect] = {}
    for number in numbers:
        told = {name: _summary(mode, number) for name, mode in single.items()}
        theirs = told.pop(COST.headline, None)
        effects = {name: unpaired(own, theirs) for name, own in told.items() if own and theirs}
        adjusted = holm([effect["p"] for effect in effects.values()])
        for (name, effect), p in zip(effects.items(), adjusted, strict=True):
            found[name, number] = Effect(**effect, seeds=1, worlds=1, holm=p)
    if not found:
        return
    heads = [
        head for unit in ("s, one by one", "tokens") for head in (f"{unit}: difference", "p", "p, Holm", "visible")
    ]
    lines = [
        [Text(name), *(text for number in numbers for text in shown_effect(found.get((name, number)), 3))]
        for name in single
        if any((name, number) in found for number in numbers)
    ]
    made.grids.append(Grid(f"{dataset}, differences from {COST.headline}: {_named(setup)}", ["", *heads], lines))
    for row in rows:
        name = str(row["row"])
        if row.get("mode") == SINGLE and (name, "seconds") in found:
            row |= effect_columns(found[name, "seconds"])
    if DIFFERENCES not in made.notes:
        made.notes.append(DIFFERENCES)


def _summary(mode: Mapping[str, Any], number: str) -> tuple[float, float, int] | None:
    """Mean, standard error and number of predictions; None where a single one has no error."""
    error = mode[f"{number}_se"]
    return None if error is None or mode["n"] < 2 else (float(mode[number]), float(error), int(mode["n"]))


def _named(setup: Timing) -> str:
    """A setup in words."""
    quantized = f", {setup['quantization']}" if setup["quantization"] != "none" else ""
    head = f"{_mode(setup, SINGLE)['n']} predictions by {setup['base_model']} ({setup['dtype']}{quantized})"
    if "engine" in setup:
        return f"{head} with vLLM {setup['engine']['version']} on {setup['device']}"
    how = ", adapters merged" if setup.get("merged") else ""
    how += ", steps recorded" if setup.get("steps_recorded") else ""
    threads = f"{setup['threads']} thread{'s' if setup['threads'] > 1 else ''}"
    return (
        f"{head} on {setup['device']}, {threads}, batches of {setup['batch_tokens']:,} tokens{how}, "
        f"torch {setup['torch']}"
    )


def _spread(mode: Mapping[str, Any], name: str, digits: int) -> str:
    """Mean and standard error; a single prediction has none."""
    error = mode[f"{name}_se"]
    return f"{mode[name]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f} se")


def _explain(made: Document, dataset: str, runs: Sequence[Run], setups: Sequence[Sequence[Run]]) -> None:
    """Name the rows that a setup lacks, and the jobs that failed."""
    for row in COST.rows:
        own = [run for run in runs if row.fits(run)]
        if own and not own[-1].ok:
            made.problems.append(f"{dataset}: {row.name}: the newest job {own[-1].said()} ({own[-1].path})")
        timed = sum(any(row.fits(run) for run in alike) for alike in setups)
        if timed < len(setups) or not own:
            which = f" in {len(setups) - timed} of {len(setups)} setups" if len(setups) > 1 else ""
            settings = row.settings[0].overrides(axes(COST.name))
            made.problems.append(
                f"{dataset}: {row.name}: not timed{which}; run {COST.command} dataset={dataset} {settings}"
            )
