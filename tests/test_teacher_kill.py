"""Teachers over a real socket, their process killed: nothing is lost, nothing paid twice but what was in flight."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from teacher_driver import run, start
from teacher_server import TeacherServer, echo

from r4r.configuration.teachers import PriceConfig
from r4r.teacher.base import Call
from r4r.teacher.cache import TeacherCache
from r4r.teacher.price import worst_case

FAULTS = {  # the share of calls, in per mille, that meets each
    "[flaky=429x0.02]": 30,
    "[flaky=429]": 10,
    "[flaky=500,503]": 30,
    "[flaky=drop]": 15,
    "[flaky=truncated]": 15,
    "[flaky=half]": 10,
    "[flaky=html,500]": 5,
    "[flaky=hang]": 2,
    "[flaky=trickle]": 2,
    "[flaky=slowx0.05]": 20,
    "[refuse]": 20,
    "[filter]": 10,
    "[cut]": 20,
    "[empty]": 10,
}
TYPED = {"[refuse]": "AnswerRefused", "[filter]": "AnswerRefused", "[cut]": "AnswerCut", "[empty]": "AnswerEmpty"}
CONCURRENCY = 16


def mixed(count: int) -> list[Call]:
    """Calls, most of them plain, the faults spread among them."""
    marks = [mark for mark, share in FAULTS.items() for _ in range(round(share * count / 1000))]
    gap = count / len(marks)
    at = {int(n * gap): mark for n, mark in enumerate(marks[::7] + [m for n, m in enumerate(marks) if n % 7])}
    return [Call(f"call {n} {at.get(n, '')}", 1.0, 20) for n in range(count)]


def kill_when(process: Any, reached: Any) -> None:
    until = time.monotonic() + 60
    while not reached():
        assert process.is_alive(), "it ended before its kill"
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_calls_to_a_bad_server_with_kills(tmp_path: Path, count: int) -> None:
    calls = mixed(count)
    settings = {"kind": "server", "model": "m", "key_env": None, "concurrency": CONCURRENCY}
    settings |= {"backoff_s": 0.01, "timeout_s": 6, "retries": 8}
    kills = 4
    with TeacherServer() as server:
        settings |= {"base_url": server.url}
        for kill in range(1, kills + 1):
            at = count * kill // (kills + 1)
            kill_when(start(tmp_path, settings, calls), lambda at=at: sum(server.log.completed.values()) >= at)
        outcomes = run(tmp_path, settings, calls)
        for call, (text, said) in zip(calls, outcomes, strict=True):
            mark = next((mark for mark in TYPED if mark in call.prompt), None)
            assert text == (TYPED[mark] if mark else echo(call.prompt, 0)), said
        assert set(server.log.completed) == {call.prompt for call in calls}  # none lost
        twice = sum(server.log.completed.values()) - len(calls)
        assert twice <= kills * CONCURRENCY
        assert max(server.log.completed.values()) <= 1 + kills
        assert sum(server.log.tries.values()) > 1.1 * len(calls)  # it did misbehave
        before = server.log.completed.copy()
        assert run(tmp_path, settings, calls) == outcomes
        assert server.log.completed == before  # all of it is in the cache, failures too
    kept = [row for row in TeacherCache(tmp_path / "teacher.sqlite").export() if row["kind"] == "answer"]
    assert {row["prompt"]: row["text"] for row in kept} == {
        call.prompt: echo(call.prompt, 0) for call in calls if not any(mark in call.prompt for mark in TYPED)
    }


def test_kills_do_not_carry_a_run_past_its_budget(tmp_path: Path) -> None:
    calls = [Call(f"call {n:03}", 1.0, 20) for n in range(200)]
    price = {"input": 1000.0, "output": 5000.0, "date": "today"}
    worst = worst_case(PriceConfig(**price), calls[0])  # type: ignore[arg-type]
    budget = 40 * worst
    settings = {"kind": "server", "model": "m", "key_env": None, "prices": {"m": price}, "budget_usd": budget}
    with TeacherServer(answer=lambda prompt, attempt: "word " * 19) as server:
        settings |= {"base_url": server.url}

        def paid() -> float:
            return (server.log.tokens_in * 1000 + server.log.tokens_out * 5000) / 1e6

        for share in (0.2, 0.5):
            kill_when(start(tmp_path, settings, calls), lambda share=share: paid() >= share * budget)
        stopped = run(tmp_path, settings, calls)
        assert stopped.startswith("BudgetReached: ")
        assert paid() <= budget
        more = settings | {"budget_usd": 100 * budget}
        assert [text for text, _ in run(tmp_path, more, calls)] == [("word " * 19).strip()] * 200


def test_several_processes_share_a_cache(tmp_path: Path) -> None:
    calls = [Call(f"call {n}", 1.0, 20) for n in range(120)]
    settings = {"kind": "server", "model": "m", "key_env": None, "concurrency": 4}
    with TeacherServer() as server:
        settings |= {"base_url": server.url}
        processes = [start(tmp_path, settings, calls, name=name) for name in "abc"]
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        outcomes = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "abc"]
        assert outcomes[0] == outcomes[1] == outcomes[2] == [[echo(call.prompt, 0), ""] for call in calls]
        assert server.log.completed == {call.prompt: 1 for call in calls}


# batches


BATCH = {"kind": "openai_batch", "model": "m", "key_env": "R4R_TEST_KEY", "batch_poll_s": 0.05, "backoff_s": 0.01}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R4R_TEST_KEY", "sk-test-0123456789")  # before the first process is forked


@pytest.mark.parametrize(
    "points",
    [
        ["upload:before:1"],
        ["upload:after:1"],
        ["create:before:1"],
        ["create:after:1"],
        ["poll:before:1"],
        ["poll:after:1", "poll:after:1"],
        ["download:before:1"],
        ["download:after:1"],
        ["keep:before:1"],
        ["keep:after:5", "keep:after:5"],
        ["create:before:2", "create:after:1", "keep:after:3", "download:before:1"],
    ],
    ids="+".join,
)
def test_a_killed_batch_is_found_again_and_paid_once(tmp_path: Path, points: list[str]) -> None:
    calls = [Call(f"call {n} [cut]" if n == 7 else f"call {n}", 1.0, 20) for n in range(30)]
    wanted = [["AnswerCut", "cut off at 20 tokens"] if n == 7 else [echo(c.prompt, 0), ""] for n, c in enumerate(calls)]
    faults = {"call 3": "twice", "call 11": "twice"}
    with TeacherServer(batch_faults=faults.get) as server:
        settings = BATCH | {"base_url": server.url, "batch_calls": 20}
        for point in points:
            assert run(tmp_path, settings, calls, point) is None, f"{point} did not kill it"
        assert run(tmp_path, settings, calls) == wanted
        assert server.log.completed == {call.prompt: 1 for call in calls}
        # a batch that was created is never created again
        assert len(server.log.batches) == 2
    cache = TeacherCache(tmp_path / "teacher.sqlite")
    assert cache.batches({"kind": "openai", "model": "m"}, settings["base_url"]) == []
    (spent,) = cache.spent()
    assert spent[:4] == ("m", 30, server.log.tokens_in, server.log.tokens_out)
