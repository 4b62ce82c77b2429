"""A text expert answers many prompts; finished batches survive a kill."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from r4r.lm.write import write_batches
from r4r.progress import bar
from r4r.stages.stage import Work
from r4r.store.journal import Journal, Row


def write_all(
    work: Work,
    adapter: str,
    row_ids: Sequence[int],
    prompts: Sequence[str],
    max_new_tokens: int,
    what: str,
    temperature: float = 0.0,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One text a row: a table of row_id and text, by row_id, and facts for the manifest.

    Args:
        adapter: the expert's, ready on the base model.
        what: is written, in words, for the progress bar.
        temperature: 0 takes the likeliest token each time; above, texts are drawn by the seed.
    """
    engine = work.job.engine
    journal = Journal(work.folder / "rows.jsonl")
    known = {row["row_id"] for row in journal.rows()}
    done = {place for place, row_id in enumerate(row_ids) if row_id in known}
    with bar(f"write {what}", len(prompts), len(done)) as advance:
        for places, texts in write_batches(engine, prompts, max_new_tokens, adapter, temperature, seed, done):
            rows = [
                {
                    "row_id": int(row_ids[p]),
                    "text": text.text,
                    "tokens_in": text.tokens_in,
                    "tokens_out": text.tokens_out,
                    "cut": not text.finished,
                }
                for p, text in zip(places, texts, strict=True)
            ]
            journal.append(first_of(rows), rows)
            advance(len(rows), "")
    table = pd.DataFrame(journal.rows()).sort_values("row_id").reset_index(drop=True)
    facts = {
        "texts": len(table),
        "tokens_in": int(table["tokens_in"].sum()),
        "tokens_out": int(table["tokens_out"].sum()),
        "cut_at_limit": int(table["cut"].sum()),
        "engine": engine.about,
    }
    return table, facts


def first_of(rows: Sequence[Row]) -> str:
    """A unit's name in a journal, which no unit of another size takes: its rows are not done again."""
    return f"from row {rows[0]['row_id']}"
