"""A text expert answers many prompts; finished batches survive a kill."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from r4r.lm.write import write_batches
from r4r.progress import bar
from r4r.stages.stage import Work
from r4r.store.journal import Journal

PLURAL = {"summary": "summaries", "reason": "reasons", "answer": "answers"}


def write_all(
    work: Work, adapter: str, row_ids: Sequence[int], prompts: Sequence[str], max_new_tokens: int, column: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One text a row: a table with row_id and `column`, by row_id, and facts for the manifest."""
    lm = work.job.lm
    journal = Journal(work.folder / "rows.jsonl")
    done = frozenset(int(row["unit"]) for row in journal.rows())
    with bar(f"write {PLURAL[column]}", len(prompts), len(journal.rows())) as advance, lm.using(adapter):
        for number, places, texts in write_batches(lm, prompts, max_new_tokens, skip=done):
            rows = [
                {
                    "row_id": int(row_ids[p]),
                    column: text.text,
                    "tokens_in": text.tokens_in,
                    "tokens_out": text.tokens_out,
                    "cut": not text.finished,
                    "unit": number,
                }
                for p, text in zip(places, texts, strict=True)
            ]
            journal.append(str(number), rows)
            advance(len(rows), "")
    table = pd.DataFrame(journal.rows()).sort_values("row_id").reset_index(drop=True)
    facts = {
        "texts": len(table),
        "tokens_in": int(table["tokens_in"].sum()),
        "tokens_out": int(table["tokens_out"].sum()),
        "cut_at_limit": int(table["cut"].sum()),
    }
    return table, facts
