"""A loopback server that speaks OpenAI's chat completions, files and batches, and misbehaves on purpose.

What goes wrong stands in the prompt, so that any client sees the same: a word such as `[flaky=500,drop]` names what
the first tries of a call meet, in order; a last `always` repeats the one before it. `Log` counts what was completed.
"""

import hashlib
import itertools
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FAULTS = re.compile(r"\[flaky=([\w,.]+)\]")


def echo(prompt: str, attempt: int) -> str:
    """The right answer to a call: its attempt is the n-th completion of that prompt."""
    return f"re {hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


@dataclass
class Log:
    """What the server saw and did."""

    tries: Counter = field(default_factory=Counter)  # prompt -> requests
    completed: Counter = field(default_factory=Counter)  # prompt -> completions done in full: what a provider charges
    unread: Counter = field(default_factory=Counter)  # of these, what the client was not there to read
    tokens_in: int = 0
    tokens_out: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    arrivals: list[float] = field(default_factory=list)  # monotonic seconds of chat requests
    authorization: set[str] = field(default_factory=set)
    uploads: int = 0
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)


class TeacherServer:
    """Run with `with TeacherServer(...) as server`; `server.url` is the base_url.

    Args:
        answer: (prompt, attempt) -> text; tokens are counted as words.
        key: the only key that is let in; None lets in all.
        models: the only models that are known; None knows all.
        batch_faults: of results in batches: prompt -> `twice`, `missing`, `500`, `400`, `expired`, or None.
    """

    def __init__(
        self,
        answer: Callable[[str, int], str] = echo,
        key: str | None = None,
        models: set[str] | None = None,
        batch_faults: Callable[[str], str | None] = lambda prompt: None,
        hang_s: float = 30.0,
        port: int = 0,
    ):
        self.answer, self.key, self.models, self.batch_faults, self.hang_s = answer, key, models, batch_faults, hang_s
        self.log = Log()
        self.lock = threading.Lock()
        self.down = False  # every request is answered with 503
        self.polls = 1  # looks at a batch before it is done
        # what a chat request gets in place of its answer: (request, tries before) -> status, body, content type
        self.instead: Callable[[dict[str, Any], int], tuple[int, bytes, str] | None] = lambda body, tried: None
        self.headers: dict[str, str] = {}  # of these replies
        self.asked: list[dict[str, Any]] = []  # chat requests
        self.batch_tricks: dict[str, int] = {}  # trick -> how often it is still played
        self._files: dict[str, bytes] = {}
        self._ids = itertools.count(1)
        self._http = _Quiet(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._stop = threading.Event()

    def __enter__(self) -> "TeacherServer":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()

    def hang(self) -> None:
        self._stop.wait(self.hang_s)

    def trick(self, name: str) -> bool:
        """Whether to play a trick now; counts it."""
        with self.lock:
            left = self.batch_tricks.get(name, 0)
            self.batch_tricks[name] = left - 1
            return left > 0

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion; the prompt's faults may make it a refusal, a cut or an empty one."""
        prompt = body["messages"][-1]["content"]
        with self.lock:
            attempt = self.log.completed[prompt]
            self.log.completed[prompt] += 1
        text: str | None = self.answer(prompt, attempt)
        reason, refusal = "stop", None
        if "[refuse]" in prompt:
            text, refusal = None, "I cannot help with that."
        elif "[filter]" in prompt:
            text, reason = "", "content_filter"
        elif "[cut]" in prompt:
            text, reason = (text or "")[:3], "length"
        elif "[empty]" in prompt:
            text = " \n"
        tokens_in, tokens_out = len(prompt.split()), len((text or "").split())
        with self.lock:
            self.log.tokens_in += tokens_in
            self.log.tokens_out += tokens_out
        return {
            "id": f"chatcmpl-{next(self._ids)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": reason,
                    "message": {"role": "assistant", "content": text, "refusal": refusal},
                }
            ],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
            },
        }

    # files and batches

    def upload(self, content: bytes) -> dict[str, Any]:
        name = f"file-{next(self._ids)}"
        self._files[name] = content
        self.log.uploads += 1
        return {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": "batch.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def create_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{next(self._ids)}"
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "created_at": int(time.time()),
            "metadata": body.get("metadata"),
            "status": "validating",
            "looks": 0,
        }
        with self.lock:
            self.log.batches[name] = batch
        return batch

    def look(self, name: str) -> dict[str, Any] | None:
        batch = self.log.batches.get(name)
        if batch is None:
            return None
        with self.lock:
            batch["looks"] += 1
            due = batch["status"] in ("validating", "in_progress") and batch["looks"] > self.polls
            batch["status"] = "finalizing" if due else batch["status"]
        if due:
            if self.trick("fail"):
                error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
                batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
            else:
                self._work(batch)
        return batch

    def _work(self, batch: dict[str, Any]) -> None:
        """Do the batch: results in an order of the server's own, errors in a file of their own."""
        done, failed, expired = [], [], False
        for line in self._files[batch["input_file_id"]].splitlines():
            item = json.loads(line)
            prompt = item["body"]["messages"][-1]["content"]
            fault = self.batch_faults(prompt)
            known = {"id": f"req_{next(self._ids)}", "custom_id": item["custom_id"]}
            if fault in ("500", "400"):
                error = {"error": {"message": f"no {fault}", "type": "server_error", "code": None}}
                failed.append({**known, "response": {"status_code": int(fault), "body": error}, "error": None})
            elif fault == "expired":
                expired = True
                failed.append({**known, "response": None, "error": {"code": "batch_expired", "message": "too late"}})
            elif fault != "missing":
                body = self.completion(item["body"])
                done += [{**known, "response": {"status_code": 200, "body": body}, "error": None}] * (
                    2 if fault == "twice" else 1
                )
        for kind, records in (("output", done[::-1]), ("error", failed)):
            if records:
                name = f"file-{next(self._ids)}"
                self._files[name] = "".join(json.dumps(record) + "\n" for record in records).encode()
                batch[f"{kind}_file_id"] = name
        batch["status"] = "expired" if expired else "completed"

    def content(self, name: str) -> bytes | None:
        return self._files.get(name)


class _Quiet(ThreadingHTTPServer):
    request_queue_size = 128  # a burst of clients is not turned away

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _handler(server: TeacherServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: Any) -> None:
            """Quiet."""

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            if len(content) < length:  # the client died
                self.close_connection = True
                return
            if not self.admitted():
                return
            path = urlsplit(self.path).path.removeprefix("/v1")
            if path == "/chat/completions":
                self.chat(json.loads(content))
            elif path == "/files":
                if server.trick("upload_500"):
                    self.error(500, "try later")
                else:
                    self.reply(server.upload(_file_in(self.headers["Content-Type"], content)))
            elif path == "/batches":
                batch = server.create_batch(json.loads(content))
                if server.trick("create_drop"):  # created, and the client never hears of it
                    self.drop()
                else:
                    self.reply(batch)
            else:
                self.error(404, f"no such path {path}")

        def do_GET(self) -> None:
            if not self.admitted():
                return
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/v1")
            if path == "/batches":
                self.list_batches(parse_qs(parts.query))
            elif path.startswith("/batches/"):
                batch = server.look(path.split("/")[2])
                self.reply(batch) if batch else self.error(404, "No such batch")
            elif path.endswith("/content"):
                data = server.content(path.split("/")[2])
                if data is None:
                    self.error(404, "No such file")
                elif server.trick("content_truncated"):
                    self.send(200, data[: len(data) // 2], "application/octet-stream")
                else:
                    self.send(200, data, "application/octet-stream")
            else:
                self.error(404, f"no such path {path}")

        def admitted(self) -> bool:
            given = self.headers.get("Authorization", "")
            server.log.authorization.add(given)
            if server.down:
                self.error(503, "down for now")
            elif server.key is not None and given != f"Bearer {server.key}":
                self.error(401, f"Incorrect API key provided: {given.removeprefix('Bearer ')}", "invalid_api_key")
            else:
                return True
            return False

        def chat(self, body: dict[str, Any]) -> None:
            prompt = body["messages"][-1]["content"]
            with server.lock:
                server.asked.append(body)
                tried = server.log.tries[prompt]
                server.log.tries[prompt] += 1
                server.log.arrivals.append(time.monotonic())
                server.log.in_flight += 1
                server.log.most_in_flight = max(server.log.most_in_flight, server.log.in_flight)
            try:
                self.misbehave(body, prompt, tried)
            finally:
                with server.lock:
                    server.log.in_flight -= 1

        def misbehave(self, body: dict[str, Any], prompt: str, tried: int) -> None:
            found = FAULTS.search(prompt)
            faults = found[1].split(",") if found else []
            if faults[-1:] == ["always"]:
                fault = faults[min(tried, len(faults) - 2)]
            else:
                fault = faults[tried] if tried < len(faults) else ""
            instead = server.instead(body, tried)
            if instead is not None:
                self.send(*instead, headers=server.headers)
            elif server.models is not None and body["model"] not in server.models:
                self.error(404, f"The model {body['model']} does not exist", "model_not_found")
            elif fault == "quota":
                self.error(429, "You exceeded your current quota", "insufficient_quota")
            elif fault.startswith("429"):
                wait = fault.partition("x")[2] or "0.05"
                self.error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": wait})
            elif fault in ("400", "422", "500", "502", "503", "403"):
                self.error(int(fault), f"the key was {self.headers.get('Authorization')}")
            elif fault == "hang":
                server.hang()
                self.drop()
            elif fault == "drop":
                self.drop()
            elif fault == "html":
                self.send(200, b"<html>bad gateway</html>", "text/html")
            elif fault == "truncated":
                self.send(200, json.dumps({"id": "x", "choices": [{"message": {}}]}).encode()[:-9])
            elif fault == "half":  # fewer bytes than promised
                self.send(200, b'{"id": "x"', length=999)
                self.drop()
            elif fault == "trickle":  # never silent for long, never done
                self.send(200, b"", length=10_000)
                for _ in range(int(server.hang_s / 0.05)):
                    try:
                        self.wfile.write(b" ")
                        self.wfile.flush()
                    except OSError:
                        break
                    time.sleep(0.05)
                self.drop()
            else:
                if fault.startswith("slow"):
                    time.sleep(float(fault.partition("x")[2] or "0.1"))
                reply = server.completion(body)
                try:
                    self.reply(reply)
                except OSError:
                    with server.lock:
                        server.log.unread[prompt] += 1

        def list_batches(self, query: dict[str, list[str]]) -> None:
            every = list(server.log.batches.values())[::-1]
            after = query.get("after", [None])[0]
            start = next((n + 1 for n, b in enumerate(every) if b["id"] == after), 0)
            page = every[start : start + 2]  # small pages: the client must turn them
            more = start + 2 < len(every)
            ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
            self.reply({"object": "list", "data": page, "has_more": more, **ends})

        def drop(self) -> None:
            self.close_connection = True
            self.connection.close()

        def error(self, status: int, said: str, code: str | None = None, headers: dict[str, str] | None = None) -> None:
            body = {"error": {"message": said, "type": "error", "param": None, "code": code}}
            self.send(status, json.dumps(body).encode(), headers=headers)

        def reply(self, body: dict[str, Any]) -> None:
            self.send(200, json.dumps(body).encode())

        def send(
            self,
            status: int,
            data: bytes,
            kind: str = "application/json",
            length: int | None = None,
            headers: dict[str, str] | None = None,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

    return Handler


def _file_in(content_type: str, content: bytes) -> bytes:
    """The file of a multipart upload."""
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content)
    for part in message.get_payload():  # type: ignore[union-attr]
        if 'name="file"' in str(part["Content-Disposition"]):  # type: ignore[index]
            return part.get_payload(decode=True)  # type: ignore[union-attr, return-value]
    raise ValueError("the upload holds no file")
