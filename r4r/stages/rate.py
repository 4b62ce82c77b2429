"""Rate many rows by logit-weighted decoding (paper 3.3); finished units survive a kill."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from r4r.lm.rate import decode
from r4r.progress import bar
from r4r.rows import PREDICTIONS
from r4r.scale import PAPER, Scale
from r4r.stages.stage import Work
from r4r.stages.write import first_of
from r4r.store.artifact import write_table
from r4r.store.journal import Journal


def rate_rows(
    work: Work,
    adapter: str,
    row_ids: Sequence[int],
    encoded: Sequence[Sequence[int]],
    reasons: Mapping[int, str],
    label: str,
    scale: Scale = PAPER,
) -> dict[str, Any]:
    """Rate every row: `data.parquet` (rows.PREDICTIONS), and `detail.parquet` with reason and probabilities too.

    Args:
        encoded: token ids of each row up to where its rating's value stands.
        reasons: by row_id, for `detail.parquet`.
        label: the method's name in tables.

    Returns:
        Facts for the manifest.
    """
    engine = work.job.engine
    journal = Journal(work.folder / "rows.jsonl")
    done = {row["row_id"] for row in journal.rows()}
    with bar("predict", len(encoded), len(done)) as advance:
        for unit in engine.plan([len(ids) for ids in encoded]):
            places = [place for place in unit if row_ids[place] not in done]
            if not places:
                continue
            probabilities = engine.rate([encoded[p] for p in places], adapter, scale)
            decoded = decode(probabilities, scale)
            rows = [
                {"row_id": int(row_ids[p]), "label": label, "reason": reasons.get(row_ids[p])}
                | {decoding: float(values[k]) for decoding, values in decoded.items()}
                | {f"p{value:g}": float(probabilities[k, at]) for at, value in enumerate(scale.values)}
                for k, p in enumerate(places)
            ]
            journal.append(first_of(rows), rows)
            advance(len(rows), "")
    table = pd.DataFrame(journal.rows()).sort_values("row_id").reset_index(drop=True)
    write_table(work.folder / "data.parquet", table[list(PREDICTIONS)], PREDICTIONS)
    table.to_parquet(work.folder / "detail.parquet", index=False)
    tokens_in = sum(len(ids) for ids in encoded)
    return {"predictions": len(table), "tokens_in": tokens_in, "tokens_out": len(table), "engine": engine.about}
