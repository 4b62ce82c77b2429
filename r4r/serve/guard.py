"""Who may ask the server, how much, and what a browser may do with its answers."""

import asyncio
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BYTES = 256 * 1024  # of a request's body
BODY_SECONDS = 20.0
BURST, A_SECOND = 60.0, 10.0  # requests of one client at once, and in the long run
CLIENTS = 1024  # whose requests are counted
ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Refused(Exception):
    """A request is not answered.

    Attributes:
        status: of HTTP.
        headers: of the answer.
    """

    def __init__(self, status: int, told: str, **headers: str):
        super().__init__(told)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


class Guard:
    """ASGI middleware: checks host, origin, token, rate and size of a request before the application sees it."""

    def __init__(self, app: Any, hosts: Collection[str], token: str | None, policy: str, clock: Any = time.monotonic):
        """
        Args:
            hosts: names that the server is asked by, without ports. Another one is a page's whose name leads here.
            token: what requests to anything but the page itself must bring; None: nothing.
            policy: the Content-Security-Policy.
        """
        self.app, self.token, self.clock = app, token, clock
        self.hosts = {host.lower() for host in hosts}
        self.headers = {**ALWAYS, "content-security-policy": policy}
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> requests left, at which time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in self.headers.items()]
                kept = [(name, value) for name, value in message["headers"] if name.decode().lower() != "server"]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        try:
            if scope["type"] != "http":
                raise Refused(400, "only HTTP is answered")
            self._check(scope)
            body = await _body(scope, receive)
        except Refused as refused:
            await _refuse(refused, answer)
            return
        told = False

        async def replay() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, answer)

    def _check(self, scope: Scope) -> None:
        headers = _headers(scope)
        self._count(str((scope.get("client") or ["?"])[0]))
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            raise Refused(421, f"this server is not {host or 'without a name'}; r4r-serve --allow-host adds a name")
        origin = headers.get("origin")
        if (origin is not None and not _is_of(origin, host)) or headers.get("sec-fetch-site") == "cross-site":
            raise Refused(403, "pages from elsewhere may not ask this server")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refused(405, "only GET and POST are answered", allow="GET, POST")
        if scope["method"] == "POST" and headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise Refused(415, "what is sent must be application/json")
        if self.token is not None and scope["path"] != "/":
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
                raise Refused(401, "the token is missing or wrong", www_authenticate="Bearer")

    def _count(self, client: str) -> None:
        now = self.clock()
        left, then = self._left.pop(client, (BURST, now))
        left = min(BURST, left + (now - then) * A_SECOND)
        self._left[client] = max(0.0, left - 1), now
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            raise Refused(429, "too many requests; wait a second", retry_after="1")


def _is_of(origin: str, host: str) -> bool:
    """Whether a page comes from this server."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # no address
        return False


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The request's body.

    Raises:
        Refused: it is too large, or does not come.
    """
    told = _headers(scope).get("content-length", "0")
    if not told.isdigit() or int(told) > MOST_BYTES:
        raise Refused(413, f"a request has at most {MOST_BYTES:,} bytes")
    body, more = b"", True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the request broke off")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST_BYTES:
                    raise Refused(413, f"a request has at most {MOST_BYTES:,} bytes")
    except TimeoutError:
        raise Refused(408, "the request took too long") from None
    return body


async def _refuse(refused: Refused, send: Send) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> Mapping[str, str]:
    """The request's headers by lower-case name; of a name that comes twice, all values: no single one fits then."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        found[key] = f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
    return found


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
