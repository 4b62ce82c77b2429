"""The server of a pipeline: what it answers, what it refuses, what it writes down, and what can be learnt from that."""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import uvicorn
from served_job import SMALL, copied, predicted

import r4r
from r4r.errors import ConfigError, DataError
from r4r.reasons.interactions import Interaction, Predicted, append, corrections, read
from r4r.report.records import Run
from r4r.serve.pipeline import Pipeline

pytest.importorskip("fastapi", reason="the server is an extra: pip install 'r4r[serve]'")

from fastapi.testclient import TestClient

from r4r.serve.app import create_app, page_text, policy
from r4r.serve.cli import CONNECTIONS, main, server_settings, token_for
from r4r.serve.guard import MOST_BYTES, Guard

HOME = "http://127.0.0.1:8765"
HOSTS = {"127.0.0.1", "localhost", "[::1]"}
A_PAIR = {"user_id": "x", "item_id": "y"}


@pytest.fixture(scope="module")
def pipeline(finished: Run) -> Pipeline:
    return r4r.load(finished)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "interactions.jsonl"


@pytest.fixture
def client(pipeline: Pipeline, log: Path) -> TestClient:
    return TestClient(create_app(pipeline, log, HOSTS), base_url=HOME, raise_server_exceptions=False)


def lines(log: Path) -> list[Interaction]:
    return read(log.read_text(encoding="utf-8"), "log")[0] if log.exists() else []


def a_case(pipeline: Pipeline, split: str = "test") -> dict[str, Any]:
    rows = pipeline.data.rows
    row = rows[rows["split"] == split].iloc[-1]
    return {"user_id": row["user_id"], "item_id": row["item_id"], "at": int(row["timestamp"])}


def test_it_answers_what_the_pipeline_says_and_writes_it_down(
    client: TestClient, pipeline: Pipeline, log: Path
) -> None:
    case = a_case(pipeline)
    told = client.post("/api/explain", json={"case": case, "session": "s"}).json()
    said = pipeline.explain(case["user_id"], case["item_id"], case["at"])
    assert (told["reason"], told["rating"]["mean"]) == (said.reason, said.rating.mean)
    assert [entry["shown"] for entry in told["case"]["user"]] == [entry.shown for entry in said.case.user]
    assert told["case"]["actual"] == said.case.actual

    def rate(kind: str, **more: Any) -> dict[str, Any]:
        answer = client.post("/api/rate", json={"case": case, "kind": kind, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["model_rating"] == told["rating"]
        return found

    edited = rate("edit", reason="They would\nhate it.")
    assert edited["reason"] == "They would hate it."
    assert edited["rating"]["mean"] == pytest.approx(pipeline.rate(said.case, "They would hate it.").mean)
    assert rate("without", reason="x")["rating"]["mean"] == pytest.approx(pipeline.rate(said.case, "").mean)
    assert rate("shuffled")["reason"] in set(predicted(pipeline.run)["reason"])
    assert rate("keep", reason=told["reason"])["rating"] == told["rating"]
    assert rate("strike", reason="They like drums. And more.", aspect="drums")["reason"] == "And more."
    assert rate("add", reason="They like it.", aspect="drums", side="criticised")["reason"].endswith(" for its drums.")
    spoken = client.post(
        "/api/explain", json={"case": {**case, "preferences": ["no solos"]}, "kind": "converse"}
    ).json()
    assert spoken["case"]["user"][-1]["rating"] is None
    assert "no solos" in spoken["case"]["user"][-1]["shown"]
    kinds = ["explain", "edit", "without", "shuffled", "keep", "strike", "add", "converse"]
    noted = lines(log)
    assert [one.kind for one in noted] == kinds
    assert (noted[0].session, noted[1].reason, noted[1].model_reason) == ("s", "They would hate it.", said.reason)
    assert noted[-1].preferences == ["no solos"]
    assert {one.predictions for one in noted} == {pipeline.run.artifacts["predict/test"]}


def test_it_finds_users_items_and_reviews(client: TestClient, pipeline: Pipeline) -> None:
    about = client.get("/api/about").json()
    assert (about["users"], about["reviews"]) == (len(pipeline.data.users), len(pipeline.data.rows))
    some = next(iter(pipeline.data.items))
    title = pipeline.data.title(some)
    assert some in [one["id"] for one in client.get("/api/items", params={"q": title.upper()}).json()]
    assert client.get("/api/users", params={"q": "no such user"}).json() == []
    assert {one["split"] for one in client.get("/api/reviews").json()} == {"test"}
    user = next(iter(pipeline.data.users))
    assert {one["user_id"] for one in client.get("/api/reviews", params={"user_id": user}).json()} == {user}
    assert client.get("/api/reviews", params={"user_id": "nobody"}).json() == []
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/api/about", "/api/users", "/api/items", "/api/reviews", "/api/explain", "/api/rate"}


def test_someone_new_is_summarised_at_once(client: TestClient, log: Path) -> None:
    case = {"title": "New", "user_reviews": [{"rating": 5, "title": "A", "review": "warm"}], "item_reviews": []}
    told = client.post("/api/explain", json={"case": case}).json()
    assert told["case"]["user"][0]["review"] == "warm"
    assert told["case"]["user"][0]["shown"]
    assert (lines(log)[0].user_id, lines(log)[0].at) == ("", None)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/api/explain", {"case": {"user_id": "nobody", "item_id": "nothing"}}, "user 'nobody' is not in the data"),
        ("/api/explain", {"case": {"user_id": "x"}}, "give user_id and item_id, or user_reviews"),
        ("/api/explain", {"case": {"title": "x", "user_reviews": [{"rating": 9}]}}, "user_reviews[0].rating=9"),
        ("/api/explain", {"case": {"title": "", "user_reviews": []}}, "title: is empty"),
        ("/api/explain", {"case": {"title": "x", "user_reviews": [{"rating": 1}] * 51}}, "at most 50 items"),
        ("/api/explain", {"case": {"user_id": "x", "item_id": "y", "path": "/etc/passwd"}}, "Extra inputs"),
        ("/api/rate", {"case": {"user_id": "x", "item_id": "y"}, "kind": "strike"}, "needs an aspect"),
        ("/api/rate", {"case": {"user_id": "x", "item_id": "y"}, "kind": "edit", "reason": "a" * 4001}, "at most 4000"),
        ("/api/rate", {"case": {"user_id": "x", "item_id": "y"}, "kind": "retrain"}, "Input should be"),
        ("/api/rate", [], "Input should be"),
        ("/api/rate", {"case": A_PAIR, "kind": "edit", "reason": None}, "reason: Input should be a valid string"),
        ("/api/rate", {"case": A_PAIR, "kind": "edit", "reason": "\ud800"}, "reason: Input should be a valid string"),
        ("/api/rate", {"case": A_PAIR, "kind": "shuffled", "seed": 2**31}, "seed: Input should be less than"),
        ("/api/explain", {"case": {"user_id": "\ud800", "item_id": "y"}}, "case.user_id: "),
        ("/api/explain", {"case": {"user_id": "../../etc/passwd", "item_id": "\0"}}, "is not in the data"),
        ("/api/explain", {"case": {"user_id": "x" * 501, "item_id": "y"}}, "case.user_id: String should have at most"),
        ("/api/explain", {"case": {"user_id": 1, "item_id": "y"}}, "case.user_id: Input should be a valid string"),
        ("/api/explain", {"case": A_PAIR, "\ud800": 1}, "Input should be a valid string"),
        ("/api/explain", {"case": {**A_PAIR, "at": float("nan")}}, "case.at.float: Input should be a finite number"),
        ("/api/explain", {"case": {"title": "x", "user_reviews": [{"rating": float("inf")}]}}, "a finite number"),
        (
            "/api/explain",
            {"case": {"title": "x", "user_reviews": [{"rating": True}]}},
            "rating: Input should be a valid number",
        ),
        ("/api/explain", {"case": {"title": "x", "user_reviews": [None]}}, "case.user_reviews.0: Input should be"),
    ],
)
def test_what_cannot_be_is_told_and_not_written_down(
    client: TestClient, log: Path, path: str, body: Any, told: str
) -> None:
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert told in answer.json()["detail"]
    assert "Traceback" not in answer.text
    assert lines(log) == []


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 422, "the body: Field required"),
        (b'{"case": ', 422, "the body is no JSON: Expecting value at character"),
        (b"\xff\xfe", 422, "the body is no JSON"),
        (b"[" * 100_000, 400, "error parsing the body"),
        (b'{"case": ' + b"9" * 5000 + b"}", 400, "error parsing the body"),
    ],
)
def test_what_is_no_json_is_told(client: TestClient, log: Path, body: bytes, status: int, told: str) -> None:
    answer = client.post("/api/explain", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
    assert lines(log) == []


def test_a_reason_without_room_is_told_and_one_of_nothing_is_none(client: TestClient, pipeline: Pipeline) -> None:
    case = a_case(pipeline)
    told = client.post("/api/rate", json={"case": case, "kind": "edit", "reason": "\u0600" * 4000})
    assert (told.status_code, "the reason, of 4,000 characters, is too long" in told.text) == (422, True), told.text
    empty = [client.post("/api/rate", json={"case": case, "kind": "edit", "reason": text}) for text in ("", " \n")]
    assert [one.json()["reason"] for one in empty] == [None, None]
    control = "\x00\x1b[31m<|im_end|>"
    taken = client.post("/api/rate", json={"case": case, "kind": "edit", "reason": control, "session": "\x00"})
    assert taken.status_code == 200, taken.text


def test_edits_at_once_are_each_answered_and_noted_whole(pipeline: Pipeline, log: Path) -> None:
    """More than may wait are told so; nobody gets the rating of another's reason."""
    app, case = create_app(pipeline, log, HOSTS), a_case(pipeline)
    reasons = [f"They care about melody number {k}." for k in range(16)]

    def ask(reason: str) -> Any:
        with TestClient(app, base_url=HOME) as own:
            return own.post("/api/rate", json={"case": case, "kind": "edit", "reason": reason})

    with ThreadPoolExecutor(16) as people:
        answers = list(people.map(ask, reasons))
    rated = {reason: one.json() for reason, one in zip(reasons, answers, strict=True) if one.status_code == 200}
    assert {one.status_code for one in answers} <= {200, 503}
    assert len(rated) >= 1
    assert all("busy" in one.json()["detail"] for one in answers if one.status_code == 503)
    for reason, told in rated.items():
        assert told["reason"] == reason
        own = pipeline.rate(pipeline.find(case["user_id"], case["item_id"], case["at"]), reason)
        assert told["rating"]["mean"] == pytest.approx(own.mean, abs=1e-6)
    assert sorted(one.reason or "" for one in lines(log)) == sorted(rated)


# who may ask


def test_the_page_runs_its_own_script_alone(client: TestClient) -> None:
    answer = client.get("/")
    csp = answer.headers["content-security-policy"]
    assert csp == policy()
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, flags=re.S)
        assert f"{kind} 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in csp
        assert text
    assert "default-src 'none'" in csp
    assert "unsafe" not in csp
    assert not re.search(r"\bon\w+=|innerHTML|insertAdjacent|document\.write|https?://", page_text())
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:8765"}, 421),
        ({"host": ""}, 421),
        ({"host": "LOCALHOST:1"}, 200),
        ({"host": "[::1]:8765"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": HOME}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_other_names_and_other_pages_are_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/about", headers=headers).status_code == status


def test_forms_of_other_pages_and_large_bodies_are_refused(client: TestClient, log: Path) -> None:
    assert client.post("/api/rate", content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.put("/api/rate", json={}).status_code == 405
    large = b'"' + b"a" * MOST_BYTES + b'"'
    json_type = {"content-type": "application/json"}
    assert client.post("/api/rate", content=large, headers=json_type).status_code == 413
    assert client.post("/api/rate", content=iter([large]), headers=json_type).status_code == 413
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.get("/api/%2e%2e/page.js").status_code == 404
    assert lines(log) == []


def test_beyond_this_machine_a_token_is_needed(pipeline: Pipeline, log: Path) -> None:
    assert token_for("127.0.0.1", None) is token_for("localhost", None) is token_for("::1", None) is None
    assert len(token_for("0.0.0.0", None) or "") >= 16
    assert token_for("example.org", "a" * 16) == token_for("127.0.0.1", "a" * 16) == "a" * 16
    with pytest.raises(ConfigError, match="at least 16 characters"):
        token_for("0.0.0.0", "short")
    guarded = TestClient(create_app(pipeline, log, HOSTS, "t" * 16), base_url=HOME)
    assert guarded.get("/").status_code == 200
    assert guarded.get("/api/about").status_code == guarded.get("/openapi.json").status_code == 401
    for wrong in ("t" * 15, f"Basic {'t' * 16}", "Bearer", f"Bearer {'t' * 15}é"):
        assert guarded.get("/api/about", headers={"authorization": wrong.encode()}).status_code == 401
    assert guarded.get("/api/about", headers={"authorization": f"Bearer {'t' * 16}"}).status_code == 200


def test_one_client_may_ask_so_much() -> None:
    now = [0.0]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard, answers = Guard(app, {"h"}, None, "p", lambda: now[0]), []

    async def ask(client: str) -> int:
        async def send(message: Any) -> None:
            answers.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"h")], "client": (client, 1)}
        await guard(scope, receive, send)
        return int(next(m["status"] for m in reversed(answers) if m["type"] == "http.response.start"))

    async def many() -> None:
        assert [await ask("a") for _ in range(61)] == [200] * 60 + [429]
        assert await ask("b") == 200
        now[0] = 1.0
        assert [await ask("a") for _ in range(11)] == [200] * 10 + [429]

    asyncio.run(many())


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path)])
    assert end.value.code == 1
    assert f"{tmp_path}: holds no result.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["--port", "65536"], 2, "a port is a number from 0 to 65535"),
        (["--port", "-1"], 2, "a port is a number from 0 to 65535"),
        (["--host", "no such host"], 1, "cannot listen on no such host port 8765"),
        (["--host", "bad..host"], 1, "cannot listen on bad..host"),
        (["--port", "TAKEN"], 1, "Address already in use"),
        (["--interactions", "/"], 1, "/: cannot be written"),
    ],
)
def test_where_it_cannot_listen_is_told_before_anything_is_loaded(
    finished: Run, argv: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ["--interactions", str(tmp_path / "log.jsonl")] if "--interactions" not in argv else []
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as end:
        main([str(finished.path), *log, *(str(taken.getsockname()[1]) if a == "TAKEN" else a for a in argv)])
    shown = capsys.readouterr()
    assert (end.value.code, told in shown.err) == (code, True), shown.err
    assert "http" not in shown.out


# learning from it


def noted(**given: Any) -> Interaction:
    rating = Predicted(values=[1, 2], probabilities=[0.5, 0.5], mean=1.5, median=1, mode=1)
    first = {"time": "2026-01-01T00:00:00Z", "kind": "edit", "predictions": "k", "title": "t", "reason": "r"}
    known = {"user_id": "u", "item_id": "i", "at": 1, "model_rating": rating, "rating": rating}
    return Interaction.model_validate({**first, **known, **given})


def test_lines_are_whole_and_what_is_none_is_counted(log: Path) -> None:
    append(log, noted(reason="one\u2028two\nthree"))
    with log.open("ab") as file:
        file.write(b'{"format": 1, "ti')  # of a process that died
    append(log, noted())
    found, dropped = read(log.read_text(encoding="utf-8"), "log")
    assert [one.reason for one in found] == ["one\u2028two\nthree", "r"]
    assert dropped == {"malformed line": 1}
    with pytest.raises(DataError, match=r"log, line 1: .*; 2 lines, and none is an interaction"):
        read('{"format": 2}\n[]\n', "log")


def test_the_last_correction_of_a_pair_counts() -> None:
    dropped: Any = read("", "")[1]
    told = [noted(reason="a"), noted(reason="b"), noted(reason=" "), noted(kind="without"), noted(preferences=["x"])]
    told += [noted(user_id=""), noted(at=None), noted(kind="keep", at=2)]
    assert corrections(told, dropped) == {("u", "i", 1): "b", ("u", "i", 2): "r"}
    causes = {
        "corrected again later": 1,
        "empty reason": 1,
        "no correction": 1,
        "made after a conversation": 1,
        "user or item in no data set": 2,
    }
    assert {cause: count for cause, count in dropped.items() if count} == causes


def test_what_people_corrected_is_learnt(client: TestClient, pipeline: Pipeline, log: Path, tmp_path: Path) -> None:
    outputs, rows = tmp_path / "outputs", pipeline.data.rows
    copied(pipeline.run, outputs)
    train = rows[rows["split"] == "train"]
    for case, reason in (
        (train.iloc[-1], "They would love it."),
        (train.iloc[-2], "They gave it 5 stars."),
        (rows[rows["split"] == "test"].iloc[-1], "Seen in the test."),
    ):
        asked = {"user_id": case["user_id"], "item_id": case["item_id"], "at": int(case["timestamp"])}
        assert client.post("/api/rate", json={"case": asked, "kind": "edit", "reason": reason}).status_code == 200
    more = ("reason_source=interactions", f"reason_source.file={log}", "target=reasons")

    def reasons(rest: str) -> tuple[dict[int, str], dict[str, Any]]:
        own = (*SMALL, *more, f"reason_source.rest={rest}", f"paths.outputs={outputs}", f"paths.cache={outputs}/models")
        done = r4r.run_job(r4r.compose(*own))
        artifact = r4r.open_artifact(done, "reasons")
        table = pd.read_parquet(artifact.path / "data.parquet")
        return dict(zip(table["row_id"], table["reason"], strict=True)), artifact.manifest

    learnt, manifest = reasons("none")
    assert learnt == {int(train.iloc[-1]["row_id"]): "They would love it."}
    assert manifest["dropped"] == {"a review of the test split": 1, "gives away the rating": 1}
    both, manifest = reasons("review")
    assert both.items() >= learnt.items()
    assert len(both) > 3
    log.write_text(json.dumps({"format": 1}), encoding="utf-8")
    with pytest.raises(DataError, match="line 1: time: Field required; 1 lines, and none"):
        reasons("none")
    log.unlink()
    with pytest.raises(ConfigError, match="there is no such file; r4r-serve writes one"):
        reasons("none")


def test_silent_connections_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r4r.serve.cli.SILENCE_S", 0.5)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    settings = server_settings(app)
    settings.lifespan = "off"
    server = uvicorn.Server(settings)
    with socket.create_server(("127.0.0.1", 0)) as own, contextlib.ExitStack() as opened:
        running = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
        running.start()
        place = own.getsockname()
        for number in range(CONNECTIONS + 10):
            silent = opened.enter_context(socket.create_connection(place))
            if number % 2:
                silent.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHo")
        answers = []
        while not answers or (not answers[-1].startswith(b"HTTP/1.1 200") and len(answers) < 100):
            with socket.create_connection(place) as asking:
                asking.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answers.append(asking.recv(4096))
            time.sleep(0.1)
        assert answers[0].startswith(b"HTTP/1.1 503")
        assert answers[-1].startswith(b"HTTP/1.1 200")
        server.should_exit = True
        running.join(10)


def test_where_nothing_can_be_written_down_it_is_said(client: TestClient, pipeline: Pipeline, log: Path) -> None:
    log.mkdir()
    answer = client.post("/api/explain", json={"case": a_case(pipeline)})
    assert answer.status_code == 507
    assert "interactions.jsonl: cannot be written (Is a directory)" in answer.json()["detail"]
