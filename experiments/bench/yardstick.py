"""What the stages of a job took: `python experiments/bench/yardstick.py RUN MACHINE > r4r/stages/yardstick.json`.

RUN is the folder of a finished job, MACHINE a few words for what it ran on. A first job's time left is told by it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

import r4r
from r4r.stages.estimate import what_it_took


def main(run: str, machine: str) -> None:
    record = r4r.open_record(run)
    llm: Any = None
    stages = {}
    for name in sorted(record.artifacts):
        folder = Path(r4r.open_artifact(record, name).path)
        llm = llm or yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")).get("llm")
        past = what_it_took(folder)
        stages[name] = [past.rows, past.tokens, round(past.seconds, 1)]
    print(json.dumps({"machine": machine, "llm": llm, "stages": stages}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
