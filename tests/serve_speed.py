"""How long an edit takes to be rated over HTTP, beside the same pipeline without a server: `serve_speed.py RUN`."""

import json
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import r4r
from r4r.serve.pipeline import Pipeline

EDITS = 20


@contextmanager
def served(pipeline: Pipeline, log: Path) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    import uvicorn

    from r4r.serve.app import create_app

    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = create_app(pipeline, log, {"127.0.0.1"})
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            running.should_exit = True
            thread.join()


def post(address: str, body: Any) -> Any:
    """The answer to a question, as JSON."""
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def measured(pipeline: Pipeline, log: Path) -> tuple[float, float]:
    """Median seconds of an edit: over HTTP, and by `pipeline.rate` alone; by turns, each edit another reason."""
    row = pipeline.data.rows[pipeline.data.rows["split"] == "test"].iloc[0]
    asked = {"user_id": row["user_id"], "item_id": row["item_id"], "at": int(row["timestamp"])}
    case, over, alone = pipeline.find(*asked.values()), [], []
    with served(pipeline, log) as address:
        own = post(f"{address}api/explain", {"case": asked})["reason"]
        pipeline.rate(case, own)  # as the server does once a case
        for edit in range(EDITS):
            for taken, rate in (
                (over, lambda text: post(f"{address}api/rate", {"case": asked, "kind": "edit", "reason": text})),
                (alone, lambda text: pipeline.rate(case, text)),
            ):
                start = time.perf_counter()
                rate(f"{own} They care about melody number {edit}, {'served' if taken is over else 'alone'}.")
                taken.append(time.perf_counter() - start)
    return statistics.median(over), statistics.median(alone)


def shown(over: float, alone: float) -> str:
    return f"median of {EDITS} edits: {1000 * over:.0f} ms over HTTP, {1000 * alone:.0f} ms by pipeline.rate alone"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(shown(*measured(r4r.load(sys.argv[1]), Path(folder) / "interactions.jsonl")))
