"""The batch teacher over a real socket: what a batch loses, fails or repeats, and what a bad server does to it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from teacher_server import TeacherServer, echo

from r4r.configuration.teachers import KINDS, PriceConfig
from r4r.errors import (
    AnswerRefused,
    BudgetReached,
    CallRejected,
    R4RError,
    TeacherDenied,
    TeacherStopped,
    TeacherUnavailable,
)
from r4r.teacher.base import Answer, Call
from r4r.teacher.batch import BatchTeacher
from r4r.teacher.cache import TeacherCache
from r4r.teacher.cli import main as cli
from r4r.teacher.price import worst_case
from r4r.teacher.remote import ChatTeacher

Make = Callable[..., BatchTeacher]


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with TeacherServer(key="sk-1234567890") as server:
        yield server


@pytest.fixture
def make(server: TeacherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890")

    def build(cls: type = BatchTeacher, **settings: Any) -> Any:
        chosen = {"kind": "openai_batch", "model": "m", "base_url": server.url, "backoff_s": 0.01, "retries": 3}
        chosen |= settings if "kind" in settings else {"batch_poll_s": 0.02, **settings}
        config = KINDS[chosen["kind"]](**chosen)
        return cls(config, TeacherCache(tmp_path / "teacher.sqlite"))

    return build


def calls(count: int) -> list[Call]:
    return [Call(f"prompt {n}", 1.0, 20) for n in range(count)]


def right(wanted: list[Call], outcomes: list[Any]) -> bool:
    return [getattr(o, "text", o) for o in outcomes] == [echo(call.prompt, 0) for call in wanted]


def test_results_are_matched_by_id_and_cut_to_batches(server: TeacherServer, make: Make) -> None:
    wanted = calls(25)
    outcomes = make(batch_calls=10).ask(wanted)
    assert right(wanted, outcomes)
    assert len(server.log.batches) == 3
    first = server.content(next(iter(server.log.batches.values()))["input_file_id"])
    assert first is not None
    assert json.loads(first.splitlines()[0])["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "prompt 0"}],
        "temperature": 1.0,
        "max_tokens": 20,
    }
    assert right(wanted, make(ChatTeacher, kind="openai").ask(wanted))  # the same answers, from the same cache
    assert set(server.log.completed.values()) == {1}
    assert not server.log.tries


def test_what_a_batch_loses_is_asked_again_and_what_it_repeats_counts_once(server: TeacherServer, make: Make) -> None:
    seen: set[str] = set()

    def faults(prompt: str) -> str | None:
        number = int(prompt.split()[1])
        first = prompt not in seen
        seen.add(prompt)
        return (
            "twice" if number % 5 == 0 else ["missing", "500", "expired", None, None][number % 5 - 1] if first else None
        )

    server.batch_faults = faults
    wanted = calls(20)
    teacher = make()
    assert right(wanted, teacher.ask(wanted))
    assert server.log.completed == {call.prompt: 1 for call in wanted}
    assert len(server.log.batches) == 2
    assert teacher.cache.spent()[0][1:4] == (20, server.log.tokens_in, server.log.tokens_out)


def test_items_that_fail_for_good_are_typed(server: TeacherServer, make: Make) -> None:
    server.batch_faults = {"prompt 1": "400"}.get
    fine, rejected, refused = make().ask([*calls(2), Call("[refuse]", 1.0, 20)])
    assert isinstance(fine, Answer)
    assert type(rejected) is CallRejected
    assert type(refused) is AnswerRefused
    assert len(server.log.batches) == 1


def test_items_that_never_come_stop_the_job(server: TeacherServer, make: Make) -> None:
    server.batch_faults = {"prompt 1": "missing"}.get
    with pytest.raises(TeacherUnavailable, match="1 calls got no result in 3 batches"):
        make().ask(calls(3))
    assert server.log.completed == {"prompt 0": 1, "prompt 2": 1}


def test_an_item_that_always_fails_is_one_failure_and_the_others_go_on(server: TeacherServer, make: Make) -> None:
    server.batch_faults = lambda prompt: "500" if prompt == "bad" else None
    outcomes = make().ask([Call(name, 1.0, 20) for name in ("a", "bad", "b")])
    assert [type(outcome) for outcome in outcomes] == [Answer, CallRejected, Answer]
    assert "failed in 3 batches, while others got answers: HTTP 500: no 500" in str(outcomes[1])
    server.batch_faults = lambda prompt: "500"
    with pytest.raises(TeacherUnavailable, match="2 calls failed in 3 batches each"):
        make().ask([Call(name, 1.0, 20) for name in ("c", "d")])


def test_a_batch_without_a_budget_is_counted_by_a_later_one(server: TeacherServer, make: Make) -> None:
    price = PriceConfig(input=1000, output=5000, date="today")
    calls = [Call(f"c{n}", 1.0, 20) for n in range(3)]
    server.batch_tricks = {"fail": 99}
    teacher = make(prices={"m": price})
    assert teacher._plan("mine", {str(n): call for n, call in enumerate(calls)}, False)  # then it is killed
    assert teacher.cache.money()[1] == pytest.approx(sum(worst_case(price, call) for call in calls))


@pytest.mark.parametrize("trick", ["upload_500", "create_drop", "content_truncated"])
def test_a_bad_server_makes_no_second_batch(server: TeacherServer, make: Make, trick: str) -> None:
    server.batch_tricks = {trick: 2}
    wanted = calls(12)
    assert right(wanted, make().ask(wanted))
    assert server.log.completed == {call.prompt: 1 for call in wanted}
    assert len(server.log.batches) == 1


def test_a_batch_that_is_not_accepted_says_why_and_is_not_waited_for_again(server: TeacherServer, make: Make) -> None:
    server.batch_tricks = {"fail": 1}
    with pytest.raises(TeacherDenied, match="Enqueued token limit reached"):
        make().ask(calls(3))
    assert right(calls(3), make().ask(calls(3)))


def test_an_open_batch_is_read_by_the_next_run(server: TeacherServer, make: Make) -> None:
    server.polls = 10**9
    teacher = make(retries=0)
    call = teacher.api.call

    async def cut_off(send: Any, **kwargs: Any) -> Any:
        server.down = bool(server.log.batches)  # from the creation of the batch on
        return await call(send, **kwargs)

    teacher.api.call = cut_off  # type: ignore[method-assign]
    with pytest.raises(TeacherUnavailable, match="HTTP 503"):
        teacher.ask(calls(3))
    server.down, server.polls = False, 1
    assert right(calls(3), make().ask(calls(3)))
    assert len(server.log.batches) == 1


def test_a_batch_that_the_server_no_longer_knows_can_be_given_up(
    server: TeacherServer, make: Make, tmp_path: Path, capsys: Any
) -> None:
    cache = TeacherCache(tmp_path / "teacher.sqlite")
    cache.plan_batch("name", {"kind": "openai", "model": "m"}, server.url, calls(2), 0.5, 1.0)
    cache.sent_batch("name", "batch_gone")
    with pytest.raises(TeacherDenied, match="r4r-teacher forget-batch batch_gone"):
        make().ask(calls(2))
    assert cache.money() == (0, 0.5)
    assert cli(["--cache", str(tmp_path / "teacher.sqlite"), "forget-batch", "batch_gone"]) == 0
    assert cli(["--cache", str(tmp_path / "teacher.sqlite"), "forget-batch", "batch_gone"]) == 1
    assert "knows no batch batch_gone" in capsys.readouterr().err
    assert cache.money() == (0, 0)
    assert right(calls(2), make().ask(calls(2)))


@pytest.mark.parametrize("kind", ["openai", "openai_batch"])
def test_what_is_in_an_open_batch_elsewhere_is_not_paid_twice(
    kind: str, server: TeacherServer, make: Make, tmp_path: Path, capsys: Any
) -> None:
    cache = TeacherCache(tmp_path / "teacher.sqlite")
    cache.plan_batch("name", {"kind": "openai", "model": "m"}, "http://elsewhere/v1", calls(2), 0.5, 1.0)
    cache.sent_batch("name", "batch_1")
    with pytest.raises(TeacherStopped, match="2 of the calls to ask are in batch batch_1 at http://elsewhere/v1"):
        make(ChatTeacher if kind == "openai" else BatchTeacher, kind=kind).ask(calls(3))
    assert not server.log.tries
    assert not server.log.batches
    assert cli(["--cache", str(tmp_path / "teacher.sqlite"), "show"]) == 0
    assert "open batch name: 2 calls in batch_1 at http://elsewhere/v1" in capsys.readouterr().out
    cache.forget_batch("name")
    assert right(calls(3), make(ChatTeacher, kind="openai").ask(calls(3)))


def test_a_budget_sends_what_it_covers(server: TeacherServer, make: Make) -> None:
    price = PriceConfig(input=1000, output=5000, date="today")
    wanted = calls(10)
    budget = 1.5 * worst_case(price, wanted[0])
    with pytest.raises(BudgetReached):
        make(prices={"m": price}, budget_usd=budget).ask(wanted)
    paid = (server.log.tokens_in * 1000 + server.log.tokens_out * 5000) / 1e6
    assert 0 < paid <= budget
    assert len(server.log.batches) > 1  # what a batch did not need went into the next
    assert right(wanted, make(prices={"m": price}, budget_usd=100 * budget).ask(wanted))
    assert set(server.log.completed.values()) == {1}


def test_a_refused_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-key-987654")
    with pytest.raises(R4RError, match="refuses the key in OPENAI_API_KEY") as error:
        make().ask(calls(1))
    assert "987654" not in str(error.value)
