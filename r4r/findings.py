"""What a job found, a sentence each: whether it beats simple baselines, and, on the simulated world, whether its steps
found what was planted. A sentence says plainly where a difference is not significant, or lies the other way."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from r4r.lexicon import KINDS, aspects_in
from r4r.metrics.significance import ALPHA, paired_scores
from r4r.rows import CANDIDATES, REVIEWS, SUMMARIES
from r4r.stages.planted import PlantedWorld, planted_grade, planted_world
from r4r.stages.planted_reasons import claims_share, right_verdict, verdict_is_right
from r4r.stages.score_reasons import reasons_of
from r4r.stages.stage import Job, Stage
from r4r.store.artifact import Artifact

BASELINES = ("User+item bias", "Item mean", "MF")  # what every method is to beat
SAMPLES = 2000
Finding = dict[str, Any]
"""kind, sentence, and the numbers in it."""


def findings(job: Job, final: Stage, record: Mapping[str, Any]) -> list[Finding]:
    """What can be told of a finished job.

    Args:
        final: the stage of the method's predictions, in the store.
        record: its scores (see `r4r.scores.score`).
    """
    found = against_baselines(record["metrics"], record["comparisons"])
    if job.config.dataset.source != "simulated":
        return found
    stages = {stage.name: stage for stage in final.upstream()}

    def made(name: str) -> Artifact:
        return job.materialize(stages[name])

    world = planted_world(job.config)
    if "summaries" in stages and "summarizer" in stages["summaries"].inputs:
        learnt = set(made("teacher_summaries").table(SUMMARIES)["row_id"])
        summaries = made("summaries").table(SUMMARIES)
        held_out = summaries[~summaries["row_id"].isin(learnt)]
        if len(held_out) > 1:
            found.append(of_summaries(held_out, world.reviews(made("split").table(REVIEWS))))
    if "reasons" in stages and made("reasons").path.joinpath("candidates.parquet").exists():
        candidates = made("reasons").table(CANDIDATES, "candidates.parquet")
        found += of_candidates(candidates, world.reviews(made("split").table(REVIEWS)))
    label = record["metrics"][0]["label"]
    reasons = reasons_of(made(final.name), rows := made("split").table(REVIEWS))
    if reasons is not None and (reasons["label"] == label).sum() > 1:
        found.append(of_reasons(reasons[reasons["label"] == label], world, rows))
    return found


def against_baselines(metrics: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The method's first label against each of BASELINES that was scored beside it.

    Args:
        metrics, comparisons: as in a record; a comparison is that of `against` minus `label`.
    """
    scores = {row["label"]: row for row in metrics if row["decoding"] == "mean"}
    found = []
    for entry in comparisons:
        label, own = entry["label"], entry["against"]
        if label not in BASELINES or own in BASELINES:
            continue
        lower = {m: entry[m]["p"] < ALPHA and entry[m]["difference"] < 0 for m in ("mae", "rmse")}
        higher = {m: entry[m]["p"] < ALPHA and entry[m]["difference"] > 0 for m in ("mae", "rmse")}
        told = ", ".join(
            f"{m.upper()} {scores[own][m]:.3f} against {scores[label][m]:.3f} ({_said(entry[m]['p'])})"
            for m in ("mae", "rmse")
        )
        if any(higher.values()):
            lead = f"Reversed: {own} is worse than {label} in {' and '.join(m.upper() for m in higher if higher[m])}"
        elif all(lower.values()):
            lead = f"{own} beats {label}"
        elif any(lower.values()):
            lead = f"{own} beats {label} in {'MAE' if lower['mae'] else 'RMSE'} alone"
        else:
            lead = f"{own} is not shown to differ from {label}"
        found.append(
            {
                "kind": "against_baseline",
                "baseline": label,
                "sentence": f"{lead}: {told}.",
                **{m: {name: entry[m][name] for name in ("difference", "low", "high", "p")} for m in ("mae", "rmse")},
            }
        )
    return found


def of_summaries(summaries: pd.DataFrame, planted: pd.DataFrame, seed: int = 0) -> Finding:
    """F1 of the aspects that summaries name, all kinds together, and what the summary of another review would have.

    Args:
        summaries: rows.SUMMARIES, of reviews that the Summarizer did not learn from.
        planted: rows of `PlantedWorld.reviews`.
    """
    own = aspect_counts(summaries, planted)
    turned = summaries.assign(summary=np.roll(summaries["summary"].to_numpy(), 1))
    other = aspect_counts(turned, planted)
    draws = np.random.default_rng(seed).integers(0, len(own), size=(SAMPLES, len(own)))
    drawn = _f1(own[draws].sum(axis=1))
    gap = drawn - _f1(other[draws].sum(axis=1))
    right, named, there = own.sum(axis=0)
    f1, chance = float(_f1(own.sum(axis=0))), float(_f1(other.sum(axis=0)))
    low, high = (float(value) for value in np.quantile(drawn, [0.025, 0.975]))
    p = _two_sided(gap)
    verdict = "no better than" if p >= ALPHA else "worse than" if f1 < chance else "against"
    return {
        "kind": "summaries",
        "sentence": (
            f"The Summarizer's aspects on {len(own)} held-out reviews, against the planted ones: F1 {f1:.3f} (95 % "
            f"interval {low:.3f} to {high:.3f}), {verdict} {chance:.3f} of another review's summary ({_said(p)})."
        ),
        "reviews": len(own),
        "f1": f1,
        "low": low,
        "high": high,
        "precision": float(right / max(named, 1)),
        "recall": float(right / max(there, 1)),
        "chance": chance,
        "p": p,
    }


def aspect_counts(summaries: pd.DataFrame, planted: pd.DataFrame, kinds: Sequence[str] = KINDS) -> np.ndarray:
    """How many aspects each summary names rightly, how many in all, and how many were planted: int [summaries, 3]."""
    true: dict[Any, Any] = planted.set_index("row_id")[list(kinds)].to_dict("index")
    counts = []
    for row_id, text in zip(summaries["row_id"], summaries["summary"], strict=True):
        said = {(kind, aspect) for kind, aspects in aspects_in(text).items() if kind in kinds for aspect in aspects}
        there = {(kind, aspect) for kind in kinds for aspect in true[row_id][kind]}
        counts.append((len(said & there), len(said), len(there)))
    return np.array(counts).reshape(-1, 3)


def of_candidates(candidates: pd.DataFrame, planted: pd.DataFrame) -> list[Finding]:
    """Whether reasons that the filter accepts agree with the planted match more often than those that it rejects.

    Of the first candidates alone, one a pair: the later ones know the rating, so that they agree whatever the filter
    does, and pairs that are hard to please have many.

    Args:
        candidates: rows.CANDIDATES.
        planted: rows of `PlantedWorld.reviews`.
    """
    from scipy import stats

    first = candidates[~candidates["hinted"].astype(bool)].drop_duplicates("row_id")
    if first.empty:
        return []
    match = dict(zip(planted["row_id"], planted["match"], strict=True))
    agrees = [
        verdict_is_right(reason, planted_grade(match[row_id]))
        for row_id, reason in zip(first["row_id"], first["reason"], strict=True)
    ]
    right, accepted = np.array(agrees, dtype=bool), first["accepted"].to_numpy(dtype=bool)
    table = [[int((right & side).sum()), int((~right & side).sum())] for side in (accepted, ~accepted)]
    (yes, no), (rejected_yes, rejected_no) = table
    if not (yes + no and rejected_yes + rejected_no):
        every = "accepted" if yes + no else "rejected"
        return [
            {
                "kind": "filter",
                "sentence": f"The filter {every} each of {len(first)} reasons without a hint: nothing to compare.",
            }
        ]
    p = float(stats.fisher_exact(table).pvalue)
    share, other = yes / (yes + no), rejected_yes / (rejected_yes + rejected_no)
    if p >= ALPHA:
        lead = "Reasons that the filter accepts are not shown to agree with the planted match more often"
    elif share < other:
        lead = "Reversed: reasons that the filter accepts agree with the planted match less often"
    else:
        lead = "Reasons that the filter accepts agree with the planted match more often"
    return [
        {
            "kind": "filter",
            "sentence": (
                f"{lead} than those that it rejects: {share:.0%} of {yes + no} against {other:.0%} of "
                f"{rejected_yes + rejected_no}, without the hint ({_said(p)})."
            ),
            "accepted": yes + no,
            "rejected": rejected_yes + rejected_no,
            "accepted_agree": share,
            "rejected_agree": other,
            "p": p,
        }
    ]


def of_reasons(reasons: pd.DataFrame, world: PlantedWorld, rows: pd.DataFrame) -> Finding:
    """How many reasons have the right verdict, and how much of what they claim is true, beside another pair's reason.

    Args:
        reasons: row_id, label and reason, of one method.
        rows: rows.REVIEWS of all splits.
    """
    pairs: list[Any] = list(world.reviews(rows).set_index("row_id").loc[reasons["row_id"]].itertuples())

    def truth(texts: Sequence[str]) -> tuple[list[float], list[float]]:
        told = list(zip(pairs, texts, strict=True))
        right = [right_verdict(world, row, text) for row, text in told]
        return right, [claims_share(world, row, text) for row, text in told]

    own, other = truth(reasons["reason"].tolist()), truth(np.roll(reasons["reason"].to_numpy(dtype=object), 1).tolist())
    shares = [(float(np.mean(one)), float(np.mean(two))) for one, two in zip(own, other, strict=True)]
    p = [paired_scores(np.array(one), np.array(two))["p"] for one, two in zip(own, other, strict=True)]
    verdicts, claims = (
        f"{one:.0%}, {'below' if one < two and each < ALPHA else 'against'} {two:.0%} of another pair's reason "
        f"({_said(each)})"
        for (one, two), each in zip(shares, p, strict=True)
    )
    return {
        "kind": "reasons",
        "sentence": (
            f"{reasons['label'].iloc[0]}'s reasons for {len(pairs)} pairs: the verdict agrees with the planted "
            f"match in {verdicts}; true of what they claim: {claims}."
        ),
        "pairs": len(pairs),
        "right_verdicts": shares[0][0],
        "verdict_chance": shares[0][1],
        "verdict_p": p[0],
        "true_claims": shares[1][0],
        "claim_chance": shares[1][1],
        "claim_p": p[1],
    }


def _f1(counts: np.ndarray) -> np.ndarray:
    """Of [..., 3] counts: named rightly, named, planted."""
    right, named, there = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    return 2 * right / np.maximum(named + there, 1)


def _two_sided(drawn: np.ndarray) -> float:
    """p of a resampled difference, as in `paired_bootstrap`."""
    ties = (drawn == 0).sum() / 2
    return float(min(1.0, 2 * (min((drawn < 0).sum(), (drawn > 0).sum()) + ties + 1) / (len(drawn) + 1)))


def _said(p: float) -> str:
    told = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    return told if p < ALPHA else f"{told}, not significant"
