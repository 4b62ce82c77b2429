"""How fast raw reviews become splits, and in how much memory: `python experiments/bench/prepare.py REVIEWS`.

Writes raw files of that size (raw_files.py) unless FOLDER holds them, prepares them from .json.gz to parquet as
`target=split` does, and puts the measurement into prepare.json, beside those of other sizes and memory limits.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from raw_files import META, REVIEWS, write_raw_files

from r4r.configuration.schema import DatasetConfig
from r4r.data.prepare import prepare

RESULT = Path(__file__).with_name("prepare.json")


def measure(folder: Path, memory_limit: str) -> dict[str, object]:
    """Prepare the raw files of a folder.

    Returns:
        counts, wall and CPU seconds, raw reviews a second of both, and the peak resident memory of the process.
    """
    dataset = DatasetConfig(
        name="bench", source="amazon2014", category="thing", reviews=REVIEWS, meta=META, memory_limit=memory_limit
    )
    with tempfile.TemporaryDirectory(dir=folder) as out:
        wall, cpu = time.perf_counter(), time.process_time()
        report = prepare(dataset, folder.resolve(), Path(out))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kept = pq.read_metadata(Path(out) / "rows.parquet").num_rows
    read = report["waterfall"][0]["left"]
    return {
        "raw_rows": read,
        "kept_rows": kept,
        "raw_mib": (folder / REVIEWS).stat().st_size >> 20,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "raw_rows_per_s": round(read / wall),
        "raw_rows_per_cpu_s": round(read / cpu),
        "peak_memory_mib": peak >> 10,
        "memory_limit": memory_limit,
        "cores": len(os.sched_getaffinity(0)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews", type=int)
    parser.add_argument("--folder", type=Path, help="for raw and temporary files; they are removed if it is left out")
    parser.add_argument("--memory-limit", default=DatasetConfig.model_fields["memory_limit"].default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        if not (folder / META).exists():  # written last
            write_raw_files(folder, arguments.reviews)
        result = measure(folder, arguments.memory_limit)
    print(json.dumps(result))
    old = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    kinds = {(row["raw_rows"], row["memory_limit"]): row for row in [*old, result]}
    text = ",\n  ".join(json.dumps(row) for _, row in sorted(kinds.items()))
    RESULT.write_text(f"[\n  {text}\n]\n", encoding="utf-8")
