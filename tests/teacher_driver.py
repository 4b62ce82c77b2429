"""Processes that ask a teacher and may be killed at a chosen point: forked from a clean process that has it loaded."""

import json
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from r4r.configuration.teachers import KINDS
from r4r.errors import TeacherStopped
from r4r.teacher.base import Answer, Call
from r4r.teacher.batch import BatchTeacher
from r4r.teacher.cache import TeacherCache
from r4r.teacher.remote import ChatTeacher

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pytest", "r4r.teacher.batch", "openai.resources.chat", "openai.resources.files", "openai.resources.batches"]
)


def start(
    folder: Path, settings: dict[str, Any], calls: list[Call], kill_at: str = "", name: str = "outcomes"
) -> BaseProcess:
    """A process that asks, and leaves its outcomes in `folder/<name>.json` unless it is killed."""
    outcomes = folder / f"{name}.json"
    outcomes.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_ask, args=(folder, settings, calls, kill_at, outcomes), daemon=True)
    process.start()
    return process


def run(folder: Path, settings: dict[str, Any], calls: list[Call], kill_at: str = "") -> Any:
    """Start, wait, and say how it went: a list of [text or error class, message], the sentence that stopped it, or
    None where it was killed."""
    process = start(folder, settings, calls, kill_at)
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0
    return json.loads((folder / "outcomes.json").read_text())


def _ask(folder: Path, settings: dict[str, Any], calls: list[Call], kill_at: str, outcomes: Path) -> None:
    config = KINDS[settings["kind"]](**settings)
    if kill_at:
        _arm(kill_at)
    kind = BatchTeacher if config.kind == "openai_batch" else ChatTeacher
    outcome: Any
    try:
        outcome = [
            [o.text, ""] if isinstance(o, Answer) else [type(o).__name__, str(o)]
            for o in kind(config, TeacherCache(folder / "teacher.sqlite")).ask(calls)
        ]
    except TeacherStopped as error:
        outcome = f"{type(error).__name__}: {error}"
    outcomes.write_text(json.dumps(outcome))


def _arm(point: str) -> None:
    """Kill this process before or after the n-th `upload`, `create`, `poll` or `download`, or the n-th `keep`: as in
    `create:after:1`. `create:after` is when the server has the batch and we have not written down its id."""
    from openai.resources.batches import AsyncBatches
    from openai.resources.files import AsyncFiles

    name, when, number = point.split(":")
    count = 0

    def due(moment: str) -> None:
        if moment == when and count == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            due("before")
            result = await function(*args, **kwargs)
            due("after")
            return result

        return wrapped

    if name == "keep":
        put = TeacherCache.put

        def deadly_put(*args: Any, **kwargs: Any) -> None:
            nonlocal count
            count += 1
            due("before")
            put(*args, **kwargs)
            due("after")

        TeacherCache.put = deadly_put  # type: ignore[method-assign]
        return
    owner, method = {
        "upload": (AsyncFiles, "create"),
        "create": (AsyncBatches, "create"),
        "poll": (AsyncBatches, "retrieve"),
        "download": (AsyncFiles, "content"),
    }[name]
    setattr(owner, method, deadly(getattr(owner, method)))
