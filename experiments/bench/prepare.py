"""How fast raw files are prepared, and in how much memory: `python experiments/bench/prepare.py FOLDER`.

FOLDER holds what `raw_files.py` wrote. Prints one JSON line: rows a second end to end, and the peak memory.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
from raw_files import META, REVIEWS

from r4r.config import DatasetConfig
from r4r.data.history import HistoryIndex
from r4r.data.prepare import prepare

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory-limit", default="1GB")
    arguments = parser.parse_args()
    dataset = DatasetConfig(
        name="bench",
        source="amazon2014",
        category="thing",
        reviews=REVIEWS,
        meta=META,
        memory_limit=arguments.memory_limit,
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as out:
        started = time.perf_counter()
        report = prepare(dataset, arguments.folder.resolve(), Path(out))
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows = pd.read_parquet(
            Path(out) / "rows.parquet", columns=["row_id", "user_id", "item_id", "rating", "timestamp"]
        )
        started = time.perf_counter()
        HistoryIndex(rows).before(rows)
        history = time.perf_counter() - started
    read = report["waterfall"][0]["left"]
    result = {
        "raw_rows": read,
        "kept_rows": len(rows),
        "seconds": round(seconds, 1),
        "raw_rows_per_s": round(read / seconds),
        "peak_memory_mib": peak >> 10,
        "histories_per_s": round(len(rows) / history),
    }
    print(json.dumps(result))
