"""How the filter fared: acceptance by attempt and by cause, and s_eval before and after it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def acceptance(candidates: pd.DataFrame, pairs: int) -> dict[str, Any]:
    """How many pairs found a reason, and how candidates fared by attempt and by cause.

    Args:
        candidates: rows.CANDIDATES.
        pairs: how many pairs the filter was given, those without any candidate included.
    """
    by_attempt = candidates.groupby("attempt")["accepted"].agg(["size", "sum"])
    return {
        "pairs": pairs,
        "accepted_pairs": int(candidates["accepted"].sum()),
        "acceptance_rate": round(float(candidates["accepted"].sum()) / pairs, 4),
        "by_cause": candidates["cause"].value_counts().to_dict(),
        "by_attempt": {
            int(attempt): {"candidates": int(size), "accepted": int(accepted)}
            for attempt, size, accepted in by_attempt.reset_index().itertuples(index=False)
        },
    }


def plot_acceptance(candidates: pd.DataFrame, tau: float, path: Path) -> None:
    """A PNG: share of candidates accepted at each attempt, and the histogram of s_eval, all and accepted.

    Args:
        candidates: rows.CANDIDATES; leaks, which have no s_eval, are in the left panel alone.
        tau: the threshold, in rating points.
    """
    from matplotlib.figure import Figure  # not pyplot: a job has no window

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_attempt = candidates.groupby("attempt")["accepted"].agg(["size", "mean"])
    attempts = by_attempt.index.to_numpy()
    left.bar(attempts, by_attempt["mean"], color="tab:blue")
    for attempt, size, share in by_attempt.reset_index().itertuples(index=False):
        left.annotate(f"of {size}", (attempt, share), ha="center", va="bottom", fontsize=8)
    hints = bool(candidates["hinted"].any())
    left.set_xticks(attempts, ["no hint" if hints and attempt == 0 else str(attempt) for attempt in attempts])
    left.set(
        xlabel="attempt (1 and above: with the hint)" if hints else "attempt, from 0",
        ylabel="share accepted",
        ylim=(0, 1.1),
    )
    scored = candidates[candidates["s_eval"].notna()]
    if not scored.empty:
        edges = np.histogram_bin_edges(scored["s_eval"], bins=30)
        right.hist(scored["s_eval"], edges, color="0.75", label=f"all {len(scored)} scored")
        accepted = scored.loc[scored["accepted"], "s_eval"]
        right.hist(accepted, edges, color="tab:blue", label=f"{len(accepted)} accepted")
    right.axvline(tau, color="black", linestyle="--", linewidth=1, label=f"tau = {tau:g}")
    right.set(xlabel="s_eval, rating points", ylabel="candidates")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=150)
