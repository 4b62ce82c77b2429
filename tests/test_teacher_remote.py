"""Teachers behind an address, over a real socket: answers, failures of one call, failures of all, retries, pace."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from teacher_server import TeacherServer, echo

from r4r.config import PriceConfig, TeacherConfig
from r4r.errors import (
    AnswerCut,
    AnswerEmpty,
    AnswerRefused,
    BudgetReached,
    CallRejected,
    TeacherDenied,
    TeacherUnavailable,
)
from r4r.teacher.base import Answer, Call, remote_identity
from r4r.teacher.cache import TeacherCache
from r4r.teacher.price import worst_case
from r4r.teacher.remote import ChatTeacher

KEY = "sk-canary-0123456789abcdef"
Make = Callable[..., ChatTeacher]


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with TeacherServer() as server:
        yield server


@pytest.fixture
def make(server: TeacherServer, tmp_path: Path) -> Make:
    def build(**settings: Any) -> ChatTeacher:
        chosen = {"kind": "server", "model": "m", "base_url": server.url, "key_env": None, "backoff_s": 0.01}
        config = TeacherConfig(**(chosen | {"timeout_s": 5, "retries": 3} | settings))
        return ChatTeacher(config, TeacherCache(tmp_path / "teacher.sqlite"))

    return build


def calls(count: int, suffix: str = "") -> list[Call]:
    return [Call(f"prompt {n} {suffix}", 1.0, 20) for n in range(count)]


def text(outcome: Any) -> str:
    assert isinstance(outcome, Answer), outcome
    return outcome.text


# answers


def test_answers_come_in_order_and_are_paid_once(server: TeacherServer, make: Make) -> None:
    wanted = calls(40)
    first = make().ask(wanted)
    assert [text(a) for a in first] == [echo(call.prompt, 0) for call in wanted]
    assert not any(a.cached for a in first)
    again = make().ask(wanted[::-1])
    assert [text(a) for a in again] == [text(a) for a in first[::-1]]
    assert all(a.cached for a in again)
    assert set(server.log.completed.values()) == {1}


def test_equal_calls_are_asked_once_and_attempts_are_samples_of_their_own(server: TeacherServer, make: Make) -> None:
    same = Call("a", 1.0, 20)
    others = [Call("a", 1.0, 20, attempt=1), Call("a", 0.5, 20), Call("a", 1.0, 21)]
    outcomes = make().ask([same, same, *others])
    assert server.log.completed["a"] == 4
    assert [o.cached for o in outcomes] == [False, True, False, False, False]


def test_calls_run_side_by_side_and_no_more_than_allowed(server: TeacherServer, make: Make) -> None:
    make(concurrency=5).ask(calls(20, "[flaky=slowx0.02]"))
    assert server.log.most_in_flight == 5


def test_another_address_is_the_same_teacher(server: TeacherServer, make: Make) -> None:
    make().ask(calls(3))
    with TeacherServer() as other:
        assert all(a.cached for a in make(base_url=other.url, concurrency=1, retries=0).ask(calls(3)))
    assert not any(a.cached for a in make(model="n").ask(calls(3)))
    assert not any(a.cached for a in make(revision="q4").ask(calls(3)))


# one call fails


@pytest.mark.parametrize(
    ("mark", "kind", "said"),
    [
        ("[refuse]", AnswerRefused, "refused"),
        ("[filter]", AnswerRefused, "content_filter"),
        ("[cut]", AnswerCut, "cut off at 20 tokens"),
        ("[empty]", AnswerEmpty, "empty"),
        ("[flaky=400,always]", CallRejected, "HTTP 400"),
        ("[flaky=422,always]", CallRejected, "HTTP 422"),
    ],
)
def test_a_call_that_fails_is_typed_and_is_no_answer(make: Make, mark: str, kind: type, said: str) -> None:
    teacher = make()
    fine, failed = teacher.ask([Call("fine", 1.0, 20), Call(mark, 1.0, 20)])
    assert isinstance(fine, Answer)
    assert type(failed) is kind
    assert said in str(failed)
    rows = list(teacher.cache.export())
    assert [r["prompt"] for r in rows if r["text"] is not None] == ["fine"]


def test_a_failure_that_was_paid_is_asked_again_only_on_demand(server: TeacherServer, make: Make) -> None:
    call = Call("[cut] one two three", 1.0, 20)
    (first,) = make().ask([call])
    (second,) = make().ask([call])
    assert (first.cached, second.cached, server.log.completed[call.prompt]) == (False, True, 1)
    assert type(second) is AnswerCut
    assert (second.tokens_in, second.tokens_out) == (first.tokens_in, first.tokens_out) == (4, 1)
    make(retry_failures=True).ask([call])
    assert server.log.completed[call.prompt] == 2


def test_a_rejected_call_costs_nothing_and_is_not_remembered(server: TeacherServer, make: Make) -> None:
    call = Call("[flaky=400]", 1.0, 20)
    (first,) = make().ask([call])
    assert type(first) is CallRejected
    assert isinstance(make().ask([call])[0], Answer)


# errors that pass


@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "drop", "html", "truncated", "half"])
def test_what_passes_is_tried_again_and_counted(server: TeacherServer, make: Make, fault: str) -> None:
    call = Call(f"x [flaky={fault},{fault}]", 1.0, 20)
    (answer,) = make().ask([call])
    assert text(answer) == echo(call.prompt, 0)
    assert answer.retries == 2
    assert server.log.tries[call.prompt] == 3
    assert server.log.completed[call.prompt] == 1


@pytest.mark.parametrize("fault", ["hang", "trickle"])
def test_a_server_that_is_silent_or_trickles_is_left_after_the_timeout(make: Make, fault: str) -> None:
    started = time.monotonic()
    (answer,) = make(timeout_s=0.4).ask([Call(f"[flaky={fault}]", 1.0, 20)])
    assert isinstance(answer, Answer)
    assert answer.retries == 1
    assert time.monotonic() - started < 3


def test_retry_after_is_honoured_by_all_calls(server: TeacherServer, make: Make) -> None:
    make(concurrency=1).ask([Call("[flaky=429x0.6]", 1.0, 20)])
    first, second = server.log.arrivals
    assert second - first >= 0.6


def test_a_wait_too_long_stops_at_once(make: Make) -> None:
    with pytest.raises(TeacherUnavailable, match="asks to wait 86400 s"):
        make().ask([Call("[flaky=429x86400]", 1.0, 20)])


def test_an_outage_stops_the_job_and_keeps_what_was_answered(server: TeacherServer, make: Make) -> None:
    wanted = [*calls(10), Call("[flaky=500,500,always]", 1.0, 20), *calls(10, "more")]
    with pytest.raises(TeacherUnavailable, match="run the same command again"):
        make(concurrency=2).ask(wanted)
    assert sum(server.log.completed.values()) >= 10
    kept = [r["prompt"] for r in make().cache.export()]
    assert sorted(kept) == sorted(server.log.completed)  # whatever was paid is there


def test_a_server_that_is_gone_stops_the_job(make: Make) -> None:
    with TeacherServer() as gone:
        url = gone.url
    with pytest.raises(TeacherUnavailable, match="does not answer after 1 retries"):
        make(base_url=url, retries=1).ask(calls(3))


# errors of every call


def test_an_unknown_model_stops_at_once(server: TeacherServer, make: Make) -> None:
    server.models = {"other"}
    with pytest.raises(TeacherDenied, match="knows no model m "):
        make(concurrency=2).ask(calls(30))
    assert sum(server.log.tries.values()) <= 2


def test_an_empty_account_stops_at_once(server: TeacherServer, make: Make) -> None:
    with pytest.raises(TeacherDenied, match="no credit left"):
        make().ask([Call("[flaky=quota,always]", 1.0, 20)])
    assert sum(server.log.tries.values()) == 1


@pytest.mark.parametrize("value", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_missing_or_impossible_key_is_said_before_anything_is_sent(
    make: Make, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(TeacherDenied, match="MY_KEY") as error:
        make(key_env="MY_KEY")
    assert not value or value not in str(error.value)


@pytest.mark.parametrize("fault", ["", "403", "400", "500"])
def test_the_key_is_sent_and_never_told(
    server: TeacherServer, make: Make, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The server repeats the key in its errors; ours must not, nor what they are chained to."""
    monkeypatch.setenv("MY_KEY", KEY)
    server.key = None if fault else "another key"
    said: list[BaseException] = []
    try:
        said += make(key_env="MY_KEY", retries=1).ask([Call(f"[flaky={fault},always]", 1.0, 20)])  # type: ignore[arg-type]
    except TeacherDenied as error:
        said.append(error)
    except TeacherUnavailable as error:
        said.append(error)
    assert server.log.authorization == {f"Bearer {KEY}"}
    (error,) = said
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert KEY not in str(error)
    assert "canary" not in str(error)


def test_no_key_goes_to_a_server_that_asked_for_none(
    server: TeacherServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    make().ask(calls(1))
    assert KEY not in str(server.log.authorization)


# pace


def test_requests_a_minute(server: TeacherServer, make: Make) -> None:
    teacher, started = make(requests_per_minute=600), time.monotonic()
    teacher.ask(calls(6))
    assert max(server.log.arrivals) - started >= 0.5  # five gaps of 0.1 s


def test_tokens_a_minute(server: TeacherServer, make: Make) -> None:
    teacher, started = make(tokens_per_minute=60_000), time.monotonic()
    teacher.ask([Call("x" * 400 + str(n), 1.0, 99) for n in range(4)])  # 101 + 99 tokens each: 0.2 s
    assert max(server.log.arrivals) - started >= 0.6


# money


def test_the_budget_is_never_passed_and_the_run_goes_on_when_it_is_raised(server: TeacherServer, make: Make) -> None:
    price = PriceConfig(input=1000, output=5000, date="today")
    wanted = calls(60)
    worst = worst_case(price, wanted[0])
    budget = 3 * worst

    def paid() -> float:
        return (server.log.tokens_in * 1000 + server.log.tokens_out * 5000) / 1e6

    with pytest.raises(BudgetReached, match="Raise the budget"):
        make(prices={"m": price}, budget_usd=budget).ask(wanted)
    assert budget - worst < paid() <= budget
    teacher = make(prices={"m": price}, budget_usd=budget * 100)
    outcomes = teacher.ask(wanted)
    assert len([o for o in outcomes if isinstance(o, Answer)]) == 60
    assert set(server.log.completed.values()) == {1}
    assert teacher.cache.money() == (pytest.approx(paid()), 0)
    assert sum(o.dollars or 0 for o in outcomes) == pytest.approx(paid())


def test_money_of_calls_that_broke_off_counts_against_the_budget(server: TeacherServer, make: Make) -> None:
    price = PriceConfig(input=1000, output=5000, date="today")
    call = Call("[flaky=half,half,half]", 1.0, 20)
    worst = worst_case(price, call)
    settings: dict[str, Any] = {"prices": {"m": price}, "concurrency": 1}
    with pytest.raises(BudgetReached, match="broken off"):
        make(budget_usd=2.5 * worst, **settings).ask([call])
    assert server.log.tries[call.prompt] == 2
    (answer,) = make(budget_usd=4.5 * worst, **settings).ask([call])
    assert isinstance(answer, Answer)


def test_without_a_price_dollars_are_unknown(make: Make) -> None:
    assert make().ask(calls(1))[0].dollars is None


# identity


def test_identity() -> None:
    def of(**settings: Any) -> dict[str, Any]:
        return remote_identity(TeacherConfig(**({"kind": "openai", "model": "m"} | settings)))

    assert of() == of(kind="openai_batch") == of(base_url="http://proxy/v1", concurrency=2, timeout_s=9, retries=1)
    price = {"m": PriceConfig(input=1, output=1, date="x")}
    assert of() == of(prices=price, budget_usd=3, key_env="OTHER")
    server = {"kind": "server", "base_url": "http://a/v1"}
    assert of(**server) == of(**(server | {"base_url": "http://b/v1"}))
    assert len({str(i) for i in (of(), of(model="n"), of(**server), of(**server, revision="q4"))}) == 4
