"""Teachers behind an address, over a real socket: answers, failures of one call, failures of all, retries, pace."""

import gzip
import json
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from teacher_server import TeacherServer, echo

from r4r.configuration.teachers import KINDS, PriceConfig
from r4r.errors import (
    AnswerBroken,
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
from r4r.teacher.wire import TooLarge

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
        own = chosen | {"timeout_s": 5, "retries": 3} | settings
        config = KINDS[own["kind"]](**own)
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


@pytest.mark.parametrize("fault", ["500", "503", "drop", "html"])
def test_a_call_that_always_fails_is_one_failure_and_the_others_go_on(
    server: TeacherServer, make: Make, fault: str
) -> None:
    bad = Call(f"[flaky={fault},always]", 1.0, 20)
    outcomes = make(concurrency=2, retries=1).ask([*calls(6), bad, *calls(6, "more")])
    assert [type(outcome) for outcome in outcomes] == [Answer] * 6 + [CallRejected] + [Answer] * 6
    assert "no answer after 2 retries, while others get theirs" in str(outcomes[6])
    assert server.log.tries[bad.prompt] == 3  # the last one after another call was answered
    (again,) = make(retries=0).ask([bad])  # alone: whether the server answers at all is asked
    assert type(again) is CallRejected
    assert bad.prompt not in [row["prompt"] for row in make().cache.export()]


def test_a_call_that_is_answered_once_the_server_is_back_is_an_answer(server: TeacherServer, make: Make) -> None:
    (answer,) = make(retries=1).ask([Call("[flaky=500,500]", 1.0, 20)])
    assert isinstance(answer, Answer)


def test_an_outage_stops_the_job_and_keeps_what_was_answered(server: TeacherServer, make: Make) -> None:
    def mortal(body: dict[str, Any], tried: int) -> tuple[int, bytes, str] | None:
        return (503, b"overloaded", "text/plain") if server.log.completed.total() >= 10 else None

    server.instead = mortal
    wanted = calls(30)
    with pytest.raises(TeacherUnavailable, match=r"HTTP 503: overloaded\. .*run the same command again"):
        make(concurrency=2, retries=1).ask(wanted)
    kept = [r["prompt"] for r in make().cache.export()]
    assert sorted(kept) == sorted(server.log.completed)  # whatever was paid is there
    assert len(kept) >= 10


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


# what servers say


def reply(body: Any, status: int = 200, kind: str = "application/json") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request, tried: (status, data, kind)


SSE = b'data: {"choices": [{"delta": {"content": "The"}}]}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (reply({"error": {"message": "upstream overloaded", "code": 502}}), "HTTP 502: upstream overloaded"),
        (reply({"error": "no GPU is free"}), "no GPU is free"),
        (reply({"detail": "still loading"}), "still loading"),
        (reply({"error": {"message": "bad", "metadata": {"raw": "it says so"}}}), "bad; it says so"),
        (reply(b"<!doctype html><title>Open UI</title><body>x", kind="text/html"), "an HTML page, no answer: Open UI"),
        (reply(b'data: {"error": {"message": "slow down"}}\n\n', kind="text/event-stream"), "slow down"),
        (reply(SSE, kind="text/event-stream"), "a stream of events, though none was asked for"),
        (reply(b"Not today", kind="text/plain"), "Not today"),
        (reply(b'{"a":' * 100_000, kind="application/json"), "an unreadable reply"),
        (reply({"error": {"message": "\x1b[2J\x1b]0;owned\x07 gone"}}), r"\x1b[2J\x1b]0;owned\x07 gone"),
    ],
)
def test_a_reply_that_is_no_answer_is_shown_in_the_servers_words(
    server: TeacherServer, make: Make, said: Any, shown: str
) -> None:
    server.instead = said
    with pytest.raises(TeacherUnavailable) as error:
        make(retries=1).ask(calls(1))
    assert shown in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "said",
    [
        reply(b"404 page not found", 404, "text/plain"),
        reply({"detail": "Not Found"}, 404),
        reply({"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
    ],
)
def test_an_address_without_its_version_says_so(server: TeacherServer, make: Make, said: Any) -> None:
    server.instead = said
    address = server.url.removesuffix("/v1")
    with pytest.raises(TeacherDenied, match=f"mostly end in /v1: try teacher.base_url={address}/v1"):
        make(base_url=address).ask(calls(3))
    assert sum(server.log.tries.values()) <= 3
    with pytest.raises(TeacherDenied) as error:
        make().ask(calls(3))
    assert "end in /v1" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "Your input was flagged for: harassment.", "code": 403}}, AnswerRefused),
        ({"error": {"message": "no", "metadata": {"reasons": ["hate"]}, "code": 403}}, AnswerRefused),
        ({"error": {"message": "blocked by content policy"}}, AnswerRefused),
        ({"error": "Forbidden"}, CallRejected),  # of a key that is good for other calls
    ],
)
def test_a_403_for_one_prompt_is_that_calls_failure(server: TeacherServer, make: Make, body: Any, kind: type) -> None:
    refuse = reply(body, 403)
    server.instead = lambda request, tried: refuse(request, tried) if "no 3" in str(request["messages"]) else None
    outcomes = make(concurrency=1).ask([Call(f"no {n}", 1.0, 20) for n in range(6)])
    assert [type(outcome) for outcome in outcomes] == [Answer] * 3 + [kind] + [Answer] * 2


@pytest.mark.parametrize("said", ["Invalid API key", "Country, region, or territory not supported", "Forbidden", ""])
def test_a_403_for_the_key_stops_the_job(server: TeacherServer, make: Make, said: str) -> None:
    server.instead = reply({"error": {"message": said}}, 403)
    with pytest.raises(TeacherDenied, match=rf"refuses a call without a key \(HTTP 403\).*{said}"):
        make(concurrency=1).ask(calls(9))
    assert sum(server.log.tries.values()) == 1


def test_a_reply_is_not_read_beyond_what_was_asked_for(server: TeacherServer, make: Make) -> None:
    price = PriceConfig(input=1000, output=5000, date="today")
    answer = {"choices": [{"message": {"content": "x" * 3_000_000}, "finish_reason": "stop"}]}
    server.instead = reply(answer)
    (outcome,) = make(prices={"m": price}).ask(calls(1))
    assert type(outcome) is TooLarge
    assert "larger than" in str(outcome)
    assert outcome.tokens_out == 20  # it was finished, and so paid
    (again,) = make().ask(calls(1))
    assert isinstance(again, AnswerBroken)
    assert again.cached
    server.instead = reply({"error": "y" * 3_000_000}, 400)
    (rejected,) = make().ask(calls(2)[1:])
    assert type(rejected) is CallRejected
    assert len(str(rejected)) < 400


def test_a_reply_that_grows_as_it_is_unzipped_is_not_read_to_its_end(server: TeacherServer, make: Make) -> None:
    zipped = gzip.compress(json.dumps({"choices": [{"message": {"content": "x" * 20_000_000}}]}).encode(), 1)
    server.instead, server.headers = reply(zipped), {"Content-Encoding": "gzip"}
    (outcome,) = make().ask(calls(1))
    assert type(outcome) is TooLarge
    fine = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
    server.instead = reply(gzip.compress(json.dumps(fine).encode()))
    assert text(make().ask(calls(2)[1:])[0]) == "yes"


def test_a_usage_that_cannot_be_costs_no_answer_and_no_budget(
    server: TeacherServer, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    price = PriceConfig(input=1000, output=5000, date="today")
    usages: list[Any] = [{"prompt_tokens": -(10**6), "completion_tokens": 5}, {"prompt_tokens": 10**15}, "\x1b[31m"]
    for n, usage in enumerate(usages):
        answer = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": usage}
        server.instead = reply(answer)
        teacher = make(prices={"m": price}, budget_usd=100)
        (outcome,) = teacher.ask([Call(f"four {n}", 1.0, 20)])
        assert (outcome.tokens_in, outcome.tokens_out) == (2, 1)
        assert teacher.cache.money() == (pytest.approx((n + 1) * 7 / 1000), 0)
    said = capsys.readouterr().err
    assert "usage that cannot be" in said
    assert "\x1b" not in said


# requests


def test_what_a_model_does_not_take_is_not_sent(server: TeacherServer, make: Make) -> None:
    def strict(body: dict[str, Any], tried: int) -> tuple[int, bytes, str] | None:
        for name in ("temperature", "max_tokens"):
            if name in body:
                said = f"Unsupported parameter: '{name}' is not supported with this model."
                return 400, json.dumps({"error": {"message": said}}).encode(), "application/json"
        return None

    server.instead = strict
    (first,) = make().ask([Call("a", 0.2, 20)])
    assert "teacher.summary_temperature=null" in str(first)
    (second,) = make().ask([Call("a", None, 20)])
    assert "teacher.token_limit_field=max_completion_tokens" in str(second)
    for field in ("max_completion_tokens", None):
        assert isinstance(make(token_limit_field=field).ask([Call(f"a{field}", None, 20)])[0], Answer)
    assert set(server.asked[-1]) == {"model", "messages"}


def test_further_fields_go_along_and_tell_the_teacher_from_others(server: TeacherServer, make: Make) -> None:
    body = {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": False}}
    teacher = make(extra_body=body)
    teacher.ask(calls(1))
    assert server.asked[-1]["chat_template_kwargs"] == {"enable_thinking": False}
    assert (server.asked[-1]["enable_thinking"], server.asked[-1]["temperature"]) == (False, 1.0)
    assert teacher.identity["extra_body"] == body
    assert not make().ask(calls(1))[0].cached
    for field in ("stream", "messages", "n"):
        with pytest.raises(ValidationError, match=f"must leave {field} alone"):
            make(extra_body={field: 1})


def test_no_line_a_call_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().setLevel(logging.INFO)
    make().ask(calls(2))
    assert not [record for record in caplog.records if record.levelno < logging.WARNING]


@pytest.mark.parametrize("proxy", ["socks5://user:secret@127.0.0.1:9", "socks://127.0.0.1:7891/", "ftp://x:1"])
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "http_proxy"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    for other in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(name, proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(TeacherDenied, match=r"the proxy of the environment cannot be used .*NO_PROXY") as error:
        make(retries=0).ask(calls(1))
    assert "secret" not in str(error.value)


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


def test_money_of_a_run_without_a_budget_counts_when_one_is_set(server: TeacherServer, make: Make) -> None:
    """What was killed, or broke off, while no budget held may have been paid all the same."""
    price = PriceConfig(input=1000, output=5000, date="today")
    call = Call("[flaky=half,half,always]", 1.0, 20)
    down = reply(b"", 503)
    server.instead = lambda request, tried: None if "flaky" in str(request["messages"]) else down(request, tried)
    with pytest.raises(TeacherUnavailable):
        make(prices={"m": price}, retries=1).ask([call])
    worst = worst_case(price, call)
    teacher = make(prices={"m": price}, budget_usd=2.5 * worst)
    assert teacher.cache.money()[1] == pytest.approx(2 * worst)
    with pytest.raises(BudgetReached):
        teacher.ask([call])


def test_a_locked_cache_loses_no_answer(
    server: TeacherServer, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a call may take, calls that are done wait with their answers, and none is asked again."""
    teacher = make(timeout_s=0.5, retries=0)
    unlocked = threading.Event()
    locked = sqlite3.connect(tmp_path / "teacher.sqlite", isolation_level=None, check_same_thread=False)

    def lock_then_answer(body: dict[str, Any], tried: int) -> None:
        with server.lock:
            if not locked.in_transaction and not unlocked.is_set():
                locked.execute("BEGIN EXCLUSIVE")
                threading.Timer(1.5, lambda: (unlocked.set(), locked.execute("ROLLBACK"))).start()

    server.instead = lock_then_answer
    outcomes = teacher.ask(calls(8))
    assert unlocked.is_set()
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert set(server.log.completed.values()) == {1}
    assert len(list(teacher.cache.export())) == 8


def test_without_a_price_dollars_are_unknown(make: Make) -> None:
    assert make().ask(calls(1))[0].dollars is None


# identity


def test_identity() -> None:
    def of(**settings: Any) -> dict[str, Any]:
        own = {"kind": "openai", "model": "m"} | settings
        return remote_identity(KINDS[own["kind"]](**own))

    assert of() == of(kind="openai_batch") == of(base_url="http://proxy/v1", concurrency=2, timeout_s=9, retries=1)
    price = {"m": PriceConfig(input=1, output=1, date="x")}
    assert of() == of(prices=price, budget_usd=3, key_env="OTHER_KEY")
    server = {"kind": "server", "base_url": "http://a/v1"}
    assert of(**server) == of(**(server | {"base_url": "http://b/v1"}))
    assert len({str(i) for i in (of(), of(model="n"), of(**server), of(**server, revision="q4"))}) == 4
