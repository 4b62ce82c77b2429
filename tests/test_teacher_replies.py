"""Replies in forms that servers and proxies do send: zipped in several ways, ended otherwise, by another model."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from teacher_server import TeacherServer

from r4r.configuration.teachers import KINDS
from r4r.errors import AnswerBroken, DataError, TeacherUnavailable
from r4r.stages.ask_all import usable
from r4r.teacher.base import Answer, Call
from r4r.teacher.cache import TeacherCache
from r4r.teacher.remote import ChatTeacher

Ask = Callable[..., Any]


def body(reason: str | None = "stop", **more: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": "yes"}, "finish_reason": reason}
    return json.dumps({"choices": [choice], **more}).encode()


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with TeacherServer() as server:
        yield server


@pytest.fixture
def ask(server: TeacherServer, tmp_path: Path) -> Ask:
    """The outcome of a call that gets this reply, and these headers."""

    def ask(content: bytes, **headers: str) -> Any:
        settings = {"kind": "server", "model": "m", "base_url": server.url, "key_env": None}
        config = KINDS["server"](**settings, backoff_s=0.01, timeout_s=5, retries=1)
        server.instead = lambda request, tried: (200, content, "application/json")
        server.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return ChatTeacher(config, TeacherCache(tmp_path / "teacher.sqlite")).ask([Call("Yes?", 1.0, 20)])[0]

    return ask


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ZIPPED = {
    "gzip": ("gzip", gzip.compress(body())),
    "in members": ("gzip", gzip.compress(body()[:20]) + gzip.compress(body()[20:40]) + gzip.compress(body()[40:])),
    "padded": ("gzip", gzip.compress(body()) + bytes(512)),
    "unpacked by a proxy": ("gzip", body()),
    "deflate": ("deflate", zlib.compress(body())),
    "raw deflate": ("deflate", raw_deflate(body())),
    "identity": ("identity", body()),
}


@pytest.mark.parametrize("how", ZIPPED)
def test_a_zipped_reply_is_read(ask: Ask, how: str) -> None:
    encoding, content = ZIPPED[how]
    outcome = ask(content, Content_Encoding=encoding)
    assert isinstance(outcome, Answer)
    assert outcome.text == "yes"


BROKEN = {
    "damaged": ("gzip", gzip.compress(body())[:24] + b"\xff" * 40, "an unreadable reply"),
    "brotli": (
        "br",
        b"\x8b\x01\x80yes\x03",
        "an unreadable reply: it came in the encoding br, which was not asked for",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_reply_that_cannot_be_unzipped_is_a_sentence(ask: Ask, how: str) -> None:
    encoding, content, told = BROKEN[how]
    with pytest.raises(TeacherUnavailable, match=told):
        ask(content, Content_Encoding=encoding)


@pytest.mark.parametrize("reason", ["stop", "eos_token", "stop_sequence", "end_turn", None])
def test_an_answer_that_came_to_its_end_is_one_whatever_the_server_calls_it(ask: Ask, reason: str | None) -> None:
    assert isinstance(ask(body(reason)), Answer)


def test_an_answer_that_did_not_is_told_without_its_text(ask: Ask) -> None:
    outcome = ask(body("power_failure"))
    assert type(outcome) is AnswerBroken
    assert str(outcome) == "stopped before its end (finish_reason power_failure)"


SAME = ["M", "m-4bit", "m.Q8_0.gguf", "m-IQ4_XS", "models\\m-q4_k_m.gguf", "M-2024-08-06"]


@pytest.mark.parametrize(
    ("model", "told"), [("other-0.5b", True), ("m-mini", True), *((model, False) for model in SAME)]
)
def test_another_model_that_answers_is_told(
    ask: Ask, model: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(ask(body(model=model)), Answer)
    assert (f"asked for m, and the server answers as {model}" in "".join(capsys.readouterr())) is told


@pytest.mark.parametrize(
    ("problem", "told"),
    [("rejected (HTTP 302: )", "look at its address and settings"), ("refused", "Try a stronger teacher")],
)
def test_where_no_answer_can_be_used_it_is_said_what_to_look_at(problem: str, told: str) -> None:
    table = pd.DataFrame({"row_id": [1, 2], "answer": "", "problem": problem})
    with pytest.raises(DataError, match=told):
        usable(table, "summaries")
