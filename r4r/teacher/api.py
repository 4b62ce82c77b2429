"""One OpenAI-compatible server: its key, its client, retries that are ours and counted, its errors as sentences.

The key comes from the environment only, and is taken out of every text that leaves this file.
"""

import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

import openai

from r4r.configuration.teachers import RemoteConfig
from r4r.errors import AnswerRefused, CallRejected, TeacherDenied, TeacherError, TeacherUnavailable
from r4r.progress import say
from r4r.teacher.pace import Pace
from r4r.teacher.said import MODERATION, sentence, visible
from r4r.teacher.wire import TooLarge, Unreadable, open_client

OPENAI_URL = "https://api.openai.com/v1"
LONGEST_BACKOFF_S = 60.0
KEPT = "What is answered is kept: run the same command again to go on"
UNSENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}  # the transport's errors before a request is on its way
# A setting that a model refuses, and what to set in its place.
CURES = (
    (r"temperature", "a model without one: teacher.summary_temperature=null teacher.reason_temperature=null"),
    (r"max_completion_tokens", "teacher.token_limit_field=max_completion_tokens"),
    (r"max_tokens", "teacher.token_limit_field=max_completion_tokens, or null to send no limit"),
    (r"enable_thinking", "teacher.extra_body={enable_thinking: false}"),
)
UNKNOWN_SETTING = re.compile(
    r"unsupported|not support|un(?:known|recogni[sz]ed|expected)|not (?:allowed|permitted)|must be|invalid|deprecated",
    re.IGNORECASE,
)
ABOUT_THE_KEY = re.compile(
    r"\bkeys?\b|token|credential|authenti|authori[sz]|permission|account|billing|country|region|subscription",
    re.IGNORECASE,
)
NO_SUCH_PATH = re.compile(r"unexpected endpoint|no such (?:path|route|endpoint)|not found", re.IGNORECASE)
T = TypeVar("T")


class Passing(Exception):
    """An error that may be gone at the next try.

    Attributes:
        wait_s: how long the server asks to wait.
        unsure: the server may have done, and charged for, the work all the same.
        of_the_call: another call may be answered meanwhile: the prompt may be what the server fails at.
    """

    def __init__(self, text: str, wait_s: float | None = None, unsure: bool = False, of_the_call: bool = True):
        super().__init__(text)
        self.wait_s = wait_s
        self.unsure = unsure
        self.of_the_call = of_the_call


class NotThere(TeacherDenied):
    """HTTP 404."""


def read_key(teacher: RemoteConfig) -> str | None:
    """The key, or None where the server needs none.

    Raises:
        TeacherDenied: the variable is unset, or holds what cannot be a key. The sentence never shows its value.
    """
    if teacher.key_env is None:
        return None
    key = os.environ.get(teacher.key_env, "").strip()
    if not key:
        raise TeacherDenied(
            f"teacher={teacher.kind} needs a key: set the environment variable {teacher.key_env} "
            "(teacher.key_env names another one). Finished stages are kept"
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise TeacherDenied(f"the environment variable {teacher.key_env} holds blanks or signs that no key has")
    return key


class Api:
    """The server of a RemoteConfig. `pace` is shared by all calls of this process."""

    def __init__(self, teacher: RemoteConfig):
        self.teacher = teacher
        self.address = teacher.base_url or OPENAI_URL
        self.pace = Pace(teacher.requests_per_minute, teacher.tokens_per_minute)
        self._key = read_key(teacher)
        self._said = -20.0
        self.answered = 0.0  # when the server last answered a call, in monotonic seconds; 0: never

    def client(self, limit: int) -> openai.AsyncOpenAI:
        """A client for one event loop; it takes no reply of more than `limit` bytes."""
        return open_client(self.address, self._key, self.teacher.timeout_s, limit)

    def redact(self, text: str) -> str:
        """One short line of a server's words, without the key or anything that looks like one."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return visible(re.sub(r"\b(sk|Bearer)[-_ ][\w*.=+/-]{6,}", "[key]", text))

    async def call(
        self,
        send: Callable[[], Awaitable[T]],
        tokens: int = 0,
        before: Callable[[], Awaitable[None]] | None = None,
        failed: Callable[[Passing], None] = lambda error: None,
        timeout_s: float | None = None,
    ) -> tuple[T, int]:
        """What `send` returns, and how many retries it took.

        Args:
            tokens: what the call counts for against tokens_per_minute.
            before: awaited ahead of every try, outside its timeout.
            failed: told of every passing error before the next try.
            timeout_s: of one try, whole: a server that trickles does not get more. Default teacher.timeout_s.

        Raises:
            AnswerRefused, CallRejected, TooLarge: this call alone fails.
            TeacherDenied: every call would.
            TeacherUnavailable: passing errors, all retries long, or a wait longer than teacher.max_wait_s.
            Halted: another call found that none can succeed.
        """
        last = Passing("")
        for tried in range(self.teacher.retries + 1):
            await self.pace.turn(tokens)
            if before:
                await before()
            try:
                return await self.once(send, timeout_s or self.teacher.timeout_s), tried
            except Passing as error:
                last = error
            failed(last)
            if last.wait_s is not None:
                if last.wait_s > self.teacher.max_wait_s:
                    break
                self.pace.pause(last.wait_s)
            if tried < self.teacher.retries:
                self.tell(f"{last}; trying again")
                backoff = min(LONGEST_BACKOFF_S, self.teacher.backoff_s * 2**tried)
                await self.pace.sleep(max(last.wait_s or 0.0, backoff * random.uniform(0.5, 1.0)))
        asked = f" and asks to wait {last.wait_s:.0f} s" if last.wait_s else ""
        failure = TeacherUnavailable(
            f"the teacher at {self.address} does not answer after {tried} retries: {last}{asked}. {KEPT}"
        )
        failure.of_the_call = last.of_the_call
        raise failure

    async def once(self, send: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """`send`, its errors turned into ours. `from None`: the SDK's errors carry the request and its headers."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await send()
            self.answered = time.monotonic()
            return found
        except Unreadable as error:
            raise Passing(f"an unreadable reply: it {error}", unsure=True) from None
        except (TeacherError, Passing):
            raise
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Passing(f"no answer within {timeout_s:g} s", unsure=_sent(error)) from None
        except openai.APIStatusError as error:
            raise self._status(error) from None
        except Exception as error:
            if isinstance(error.__cause__, TooLarge):
                raise error.__cause__ from None
            if isinstance(error.__cause__, Unreadable):
                raise Passing(f"an unreadable reply: it {error.__cause__}", unsure=True) from None
            if isinstance(error, openai.APIConnectionError) or type(error).__module__.startswith("http"):
                cause = error.__cause__ or error
                text, sent = self.redact(f"{type(cause).__name__}: {cause}"), _sent(error)
                raise Passing(f"the connection failed ({text})", unsure=sent, of_the_call=sent) from None
            if isinstance(error, openai.OpenAIError | ValueError | LookupError | TypeError | AttributeError):
                raise Passing(f"an unreadable reply ({type(error).__name__})", unsure=True) from None
            raise

    def _status(self, error: openai.APIStatusError) -> Exception:
        """The sentence of an HTTP error."""
        code, said = sentence(error.response.content)
        return self.verdict(error.status_code, code, self.redact(said), retry_after(error.response.headers))

    def unanswered(self, content: bytes) -> Exception:
        """What a reply means that is no chat completion, though its HTTP status says that all went well."""
        code, said = sentence(content)
        shown = self.redact(said) or "nothing"
        if code.isdigit() and 400 <= int(code) < 600:
            return self.verdict(int(code), code, shown)
        if MODERATION.search(f"{code} {said}") and code:
            return AnswerRefused(f"refused ({shown})")
        if NO_SUCH_PATH.search(said):
            return NotThere(f"the teacher at {self.address} answers no chat there: {shown}{self._path_hint()}. {KEPT}")
        return Passing(f"an unreadable reply (HTTP 200): {shown}{self._path_hint()}", unsure=True)

    def verdict(self, status: int, code: str, said: str, wait_s: float | None = None) -> Exception:
        """What an HTTP status means for the call, and for all calls: `said` is redacted already."""
        model, of_a_prompt = self.teacher.model, MODERATION.search(f"{code} {said}")
        if status == 403 and of_a_prompt:
            return AnswerRefused(f"refused (HTTP 403: {said})")
        if status == 403 and self.answered and not ABOUT_THE_KEY.search(f"{code} {said}"):
            return CallRejected(f"rejected (HTTP 403: {said})")  # the key is good for other calls
        if status in (401, 403):
            named = f"the key in {self.teacher.key_env}" if self.teacher.key_env else "a call without a key"
            words = f": {said}" if said else ""
            return TeacherDenied(f"the teacher at {self.address} refuses {named} (HTTP {status}){words}. {KEPT}")
        if code == "model_not_found" or (status == 404 and "model" in said.lower()):
            return NotThere(f"the teacher at {self.address} knows no model {model} (HTTP {status}: {said}). {KEPT}")
        if status in (404, 405):
            told = f"answers no chat there (HTTP {status}: {said}){self._path_hint()}"
            return NotThere(f"the teacher at {self.address} {told}. {KEPT}")
        if code in ("insufficient_quota", "billing_hard_limit_reached") or status == 402:
            return TeacherDenied(f"the account has no credit left at {self.address} ({code or status}). {KEPT}")
        if status in (408, 409, 425, 429) or status >= 500:
            return Passing(f"HTTP {status}: {said}", wait_s, of_the_call=status not in (425, 429))
        if code in ("content_filter", "content_policy_violation") or (of_a_prompt and status in (400, 422, 451)):
            return AnswerRefused(f"refused ({code if code.startswith('content') else said})")
        unknown = UNKNOWN_SETTING.search(said)
        cure = next((f" (set {cure})" for pattern, cure in CURES if unknown and re.search(pattern, said)), "")
        return CallRejected(f"rejected (HTTP {status}: {said}){cure}")

    def _path_hint(self) -> str:
        """Where a base URL lacks the version that such servers' addresses end in."""
        if re.search(r"/v\d", self.address):
            return ""
        return f"; such servers' addresses mostly end in /v1: try teacher.base_url={self.address}/v1"

    def tell(self, text: str) -> None:
        """A line on the teacher, at most one in 20 s."""
        if time.monotonic() - self._said > 20:
            self._said = time.monotonic()
            say(f"  teacher: {text}")


def _sent(error: BaseException) -> bool:
    """Whether the server may have got the request."""
    return type(error.__cause__ or error).__name__ not in UNSENT


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait: Retry-After as seconds or as a date, or the finer retry-after-ms."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
