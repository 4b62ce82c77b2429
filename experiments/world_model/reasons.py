"""How far a Reasoner follows teacher and planted truth: `python experiments/world_model/reasons.py RUN`.

RUN is the folder of a finished job on a simulated data set. Printed: precision and recall of the aspects that parts of
a reason name, the teacher's reason for the same pair as reference; how verdicts and planted match correlate; and what
lines on item mean and verdict, or item mean and marks, fitted to the experts' pairs, make of the test pairs.
"""

import re
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd

import r4r
from r4r.lexicon import ASPECTS
from r4r.report.records import Run
from r4r.serve.finished import finished_job
from r4r.stages.planted import planted_world
from r4r.teacher.simulated_reasons import verdict_of

PARTS = {
    "what the user listens for": r"(?:listens mainly for|cares about) ([^.]*)\.",
    "what the record is praised for": r"praised for ([^.]*?)(?: but|\.)",
    "what it is criticised for": r"criticised for ([^.]*?)\.",
}
OF_ITEM = tuple(PARTS)[1:]
MARK = re.compile(r"(\w+), important to them")  # the feature that it is said of
NAMES = [name.lower() for name in ASPECTS]


def named(part: str, text: str) -> set[str]:
    found = re.search(PARTS[part], text)
    return {name for name in NAMES if found and name in found[1].lower()}


def marked(part: str, text: str) -> set[str]:
    """The features of a part that are said to matter to the user."""
    found = re.search(PARTS[part], text)
    return {name.lower() for name in MARK.findall(found[1])} if found else set()


def verdict(text: str) -> float:
    return verdict_of(text) or 3


def marks(text: str) -> float:
    """How many good features matter to the user, less how many bad ones."""
    good, bad = (len(marked(part, text)) for part in OF_ITEM)
    return good - bad


def texts(run: Run, stage: str, column: str) -> pd.Series:
    return pd.read_parquet(r4r.open_artifact(run, stage).path / "data.parquet").set_index("row_id")[column]


def by_a_line(rows: pd.DataFrame, learnt: pd.Series, test: pd.Series, read: Callable[[str], float]) -> float:
    """MAE on the test pairs of a line on item mean and what is read from a reason.

    Args:
        learnt, test: the Reasoner's texts by row_id, of the experts' pairs, which the line is fitted to, and of the
            test pairs.
    """
    means = rows[rows["split"] == "train"].groupby("item_id")["rating"].mean()
    known = rows.set_index("row_id")

    def table(texts: pd.Series) -> tuple[np.ndarray, pd.Series]:
        own = known.loc[texts.index]
        item = own["item_id"].map(means).fillna(means.mean())
        return np.column_stack([np.ones(len(own)), item, texts.map(read)]), own["rating"]

    line = np.linalg.lstsq(*table(learnt), rcond=None)[0]
    shown, rating = table(test)
    return float(np.abs(shown @ line - rating).mean())


def correlation(one: pd.Series, other: pd.Series) -> str:
    """With the standard error of Fisher's z, about."""
    return f"{np.corrcoef(one, other)[0, 1]:.2f} (se {1 / np.sqrt(len(one) - 3):.2f}, {len(one)} pairs)"


def main() -> None:
    run = r4r.open_record(sys.argv[1])
    job = finished_job(run, None, ())
    rows = pd.read_parquet(r4r.open_artifact(run, "split").path / "data.parquet")
    match = planted_world(job.config).reviews(rows).set_index("row_id")["match"]
    taught = texts(run, "reasons", "reason")
    own, test = texts(run, "write/reasoner/experts", "text"), texts(run, "write/reasoner/test", "text")
    both = own.index.intersection(taught.index)
    print("| part of the reason | precision | recall |\n| --- | --- | --- |")
    readers = [(part, named, part) for part in PARTS] + [
        (part, marked, f"{part}, important to them") for part in OF_ITEM
    ]
    for part, reader, label in readers:
        pairs = [(reader(part, own[n]), reader(part, taught[n])) for n in both]
        right = sum(len(a & b) for a, b in pairs)
        said, there = sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)
        print(f"| {label} | {right / max(said, 1):.2f} | {right / max(there, 1):.2f} |")
    for name, found in (("teacher", taught), ("Reasoner, its training pairs", own), ("Reasoner, test pairs", test)):
        told = found.map(verdict_of).astype(float).dropna()
        print(f"{name}: verdict and planted match correlate {correlation(told, match[told.index])}")
        print(f"{name}: marks and planted match correlate {correlation(found.map(marks), match[found.index])}")
    rating = rows.set_index("row_id").loc[test.index, "rating"]
    predicted = texts(run, "predict/test", "mean")[test.index]
    print(f"MAE of the Predictor: {np.abs(predicted - rating).mean():.3f}")
    for label, read in (("verdict", verdict), ("marks", marks)):
        print(f"MAE of a line on item mean and {label}: {by_a_line(rows, own, test, read):.3f}")
    for label, found in (("verdicts", test.map(verdict)), ("marks", test.map(marks)), ("Predictor's", predicted)):
        print(f"test ratings and {label} correlate {correlation(found, rating)}")


if __name__ == "__main__":
    main()
