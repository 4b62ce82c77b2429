"""How a job grows with its rows, and what is left of it once all is kept: `python experiments/bench/scale.py`.

Runs the whole pipeline on simulated worlds of growing size, with the random model (so that what is measured is the
framework's own work more than the language model's), and lists each stage's seconds from its manifest. Then runs the
smallest job again, where every stage is in the store: alone, and beside a thousand other artifacts. Prints one JSON
object.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EACH = 20  # reviews a user
SHARE = 0.2  # of all rows that train an expert


def job(outputs: Path, rows: int) -> dict[str, Any]:
    """Run a job of about so many reviews; what it took, and its record."""
    overrides = [
        "experiment=smoke",
        f"dataset.world.users={rows // EACH}",
        f"dataset.world.items={max(40, rows // EACH // 2)}",
        f"dataset.world.reviews_per_user={EACH}",
        f"dataset.pools.total={int(rows * SHARE)}",
        f"dataset.pools.summaries={int(rows * SHARE)}",
        "dataset.evaluate.max_rows=null",
    ]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "r4r.run", *overrides, f"paths.outputs={outputs}"]
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    newest = max(outputs.glob("runs/*/*/result.json"), key=lambda path: path.stat().st_mtime)
    record = json.loads(newest.read_text(encoding="utf-8"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "record": record}


def stages(outputs: Path, record: dict[str, Any]) -> dict[str, float]:
    """Wall seconds of each stage."""
    return {
        stage: json.loads((outputs / "artifacts" / stage / key / "manifest.json").read_text())["wall_s"]
        for stage, key in record["artifacts"].items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 4_000, 16_000])
    parser.add_argument("--artifacts", type=int, default=1_000)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"sizes": []}
    with TemporaryDirectory() as folder:
        for rows in arguments.rows:
            outputs = Path(folder) / str(rows)
            took = job(outputs, rows)
            record = took.pop("record")
            memory = record["peak_memory_gib"]
            result["sizes"].append({"rows": rows, **took, "peak_memory_gib": memory, "stages": stages(outputs, record)})
            print(result["sizes"][-1], file=sys.stderr)
        smallest = Path(folder) / str(arguments.rows[0])
        job(smallest, arguments.rows[0])  # the disk's cache is warm from here on
        alone = job(smallest, arguments.rows[0])
        kinds = sorted(alone.pop("record")["artifacts"])
        for stage in kinds:
            kind = smallest / "artifacts" / stage
            (one,) = (path for path in kind.iterdir() if path.is_dir() and path.suffix == "")
            for number in range(math.ceil(arguments.artifacts / len(kinds))):
                shutil.copytree(one, kind / f"{number:016x}", copy_function=os.link)
        crowded = job(smallest, arguments.rows[0])
        del crowded["record"]
        result["all_cached"] = {"alone": alone, f"beside {arguments.artifacts} artifacts": crowded}
    print(json.dumps(result, indent=2))
