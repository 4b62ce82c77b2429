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

# the SDK's HTTP library, httpx or the one that took its place
HTTP = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
LOGGERS = ("openai", "httpx", "httpcore", "httpx2", "httpcore2")
ERROR_BYTES = 2**16  # of an error's body; the rest is not read
ANSWER_BYTES, TOKEN_BYTES = 2**20, 2**10  # of a reply whatever is asked for, and for each token of max_tokens


class TooLarge(AnswerBroken):
    """A reply is larger than any that was asked for; the rest of it is not read."""


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
    TooLarge. What comes zipped, unasked, is unzipped here, so that it is counted as it will be read."""
    inner, failed = response.stream, response.status_code >= 400
    most = ERROR_BYTES if failed else limit
    zipped = response.headers.pop("content-encoding", "identity").strip().lower()
    unzip = zlib.decompressobj(47) if zipped in ("gzip", "x-gzip", "deflate") else None

    class Bounded(HTTP.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            taken = 0
            async for chunk in inner:
                data = unzip.decompress(chunk, most - taken + 1) if unzip else chunk
                taken += len(data)
                if taken > most:
                    if failed:
                        return
                    raise TooLarge(f"is larger than {most:,} bytes, far beyond what was asked for")
                yield data

        async def aclose(self) -> None:
            await inner.aclose()

    return Bounded()


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
