"""What the stages of a job took: `python experiments/bench/yardstick.py RUN MACHINE > r4r/stages/yardstick.json`.

RUN is the folder of a finished job, MACHINE a few words for what it ran on. A first job's time left is told by it.
"""

import json
import sys
from pathlib import Path

import r4r
from r4r.stages.past import files_of, job_kind, what_it_took


def main(run: str, machine: str) -> None:
    job = r4r.open_record(run)
    lines = []
    for name in sorted(job.artifacts):
        folder = Path(r4r.open_artifact(job, name).path)
        manifest, settings = files_of(folder)
        past = what_it_took(manifest, settings)
        took = [settings["class"], past.rows, past.tokens, round(past.seconds, 1)]
        lines.append(f"  {json.dumps(name)}: {json.dumps(took)}")  # a line a stage
    about = [f'"machine": {json.dumps(machine)}', f'"job": {json.dumps(job_kind(job.record["config"]))}']
    print("{\n " + ",\n ".join(about) + ',\n "stages": {\n' + ",\n".join(lines) + "\n }\n}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
