"""The HTTP client of a teacher's server: bounded in what it takes in, quiet, and plain about proxies."""

import importlib
import logging
import os
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

import openai

from r4r.errors import AnswerBroken, TeacherDenied
from r4r.teacher.said import visible

# the SDK's HTTP library, httpx or the one that took its place
HTTP = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
LOGGERS = ("openai", "httpx", "httpcore", "httpx2", "httpcore2")
FEW = 4  # bytes by which a format can be told
ZIPPED = ("gzip", "x-gzip", "deflate")
ERROR_BYTES = 2**16  # of an error's body; the rest is not read
ANSWER_BYTES, TOKEN_BYTES = 2**20, 2**10  # of a reply whatever is asked for, and for each token of max_tokens


class TooLarge(AnswerBroken):
    """A reply is larger than any that was asked for; the rest of it is not read."""


class Unreadable(AnswerBroken):
    """A reply came in a form that cannot be read."""


def reply_bytes(max_tokens: int) -> int:
    """What a reply may hold: its answer, escaped and with log-probabilities, beside thinking and reports."""
    return ANSWER_BYTES + TOKEN_BYTES * max_tokens


def open_client(address: str, key: str | None, timeout_s: float, limit: int) -> openai.AsyncOpenAI:
    """A client for one event loop, which never retries by itself and takes no reply of more than `limit` bytes.

    Raises:
        TeacherDenied: the proxy that the environment names cannot be used.
    """
    if not os.environ.get("OPENAI_LOG"):  # a line a call would break the progress bar
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)

    async def asked(request: Any) -> None:
        request.headers["accept-encoding"] = "identity"

    async def bound(response: Any) -> None:
        response.stream = _bounded(response, limit)

    try:
        return openai.AsyncOpenAI(
            api_key=key or "no-key-needed",
            base_url=address,
            max_retries=0,
            timeout=timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [asked], "response": [bound]}),
        )
    except (ImportError, ValueError) as error:
        raise TeacherDenied(_proxy_sentence(error)) from None


def _bounded(response: Any, limit: int) -> Any:
    """The body's bytes: those of an error up to ERROR_BYTES, those of a reply up to `limit`, at which it raises
    TooLarge. What comes zipped, unasked, is unzipped here, so that it is counted as it will be read; in another
    encoding it is Unreadable, and of an error nothing."""
    inner, failed = response.stream, response.status_code >= 400
    most = ERROR_BYTES if failed else limit
    encoding = response.headers.pop("content-encoding", "identity").strip().lower()
    unzip = _Unzipped(encoding) if encoding in ZIPPED else None

    class Bounded(HTTP.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            if encoding not in (*ZIPPED, "identity", ""):
                if failed:
                    return
                raise Unreadable(f"came in the encoding {visible(encoding, 40)}, which was not asked for")
            taken = 0
            async for chunk in inner:
                try:
                    data = unzip.read(chunk, most - taken + 1) if unzip else chunk
                except zlib.error as error:
                    if failed:
                        return
                    raise Unreadable(f"cannot be unzipped, though it says that it is {encoding}") from error
                taken += len(data)
                if taken > most:
                    if failed:
                        return
                    raise TooLarge(f"is larger than {most:,} bytes, far beyond what was asked for")
                yield data

        async def aclose(self) -> None:
            await inner.aclose()

    return Bounded()


class _Unzipped:
    """A zipped body, piece by piece. A body that is plain, whatever its header says, is left as it is; deflate may come
    without the header of zlib, and gzip in several members."""

    def __init__(self, encoding: str):
        self.kinds = [47, *([-15] if encoding == "deflate" else [])]  # window bits, by which zlib knows a format
        self.inner = zlib.decompressobj(self.kinds[0])
        self.begun = self.plain = False
        self.held = b""  # of the beginning, until it can be told what it is

    def read(self, chunk: bytes, most: int) -> bytes:
        """What a piece holds, of which no more than `most` bytes are unzipped.

        Raises:
            zlib.error: it breaks off in the middle, or is damaged.
        """
        if self.plain:
            return chunk
        if not self.begun:
            self.held += chunk
            if len(self.held) < FEW:
                return b""
        data = self.inner.decompress(chunk, most) if self.begun else self._begin(self.held, most)
        # the next member; zeros fill up a block
        while self.inner.unused_data.strip(b"\0") and len(data) < most and not self.plain:
            rest = self.inner.unused_data
            self.inner = zlib.decompressobj(self.kinds[0])
            data += self.inner.decompress(rest, most - len(data))
        return data

    def _begin(self, chunk: bytes, most: int) -> bytes:
        self.begun = True
        for kind in self.kinds:
            self.inner = zlib.decompressobj(kind)
            try:
                return self.inner.decompress(chunk, most)
            except zlib.error:
                continue
        self.plain = True
        return chunk


def _proxy_sentence(error: Exception) -> str:
    """What is wrong with the proxy of the environment; never its address, which may hold a password."""
    names = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
    values = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in names}
    named = [f"{name}={value.partition(':')[0]}://..." for name, value in values.items() if value]
    if not named:
        return f"the HTTP client cannot be made ({type(error).__name__}: {re.sub(r'://[^@ ]*@', '://', str(error))})"
    if isinstance(error, ImportError):
        cure = "a SOCKS proxy needs one more package (pip install socksio); or"
    else:
        cure = "it must begin with http://, https:// or socks5://; correct it, or"
    return (
        f"the proxy of the environment cannot be used ({', '.join(named)}): {cure} unset it, or list the teacher's "
        "host in NO_PROXY"
    )
