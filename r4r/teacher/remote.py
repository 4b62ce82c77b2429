"""Teachers behind an address. `RemoteTeacher` asks the cache first; `ChatTeacher` sends many calls at once."""

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import openai

from r4r.configuration.teachers import RemoteConfig
from r4r.errors import BudgetReached, CallRejected, TeacherError, TeacherStopped, TeacherUnavailable
from r4r.progress import say
from r4r.teacher.api import KEPT, Api, Passing
from r4r.teacher.base import Answer, Call, remote_identity
from r4r.teacher.cache import TeacherCache, key_of_call, messages
from r4r.teacher.database import FileBusy
from r4r.teacher.pace import Halted
from r4r.teacher.price import dollars, price_of, tokens_about, worst_case
from r4r.teacher.reply import read_reply, read_usage
from r4r.teacher.said import read_json, visible
from r4r.teacher.wire import TooLarge, reply_bytes

CLAIM_S = 120.0  # a claim of another machine's process holds so long after it died
LOOK_S = 0.25  # between two looks for what another process asks, or at a locked cache
PROBE = Call("Reply with the word yes.", None, 16)  # asked where one prompt keeps failing: does any get an answer?
# words of a model's name that do not tell it from others: dates, ways of packing
PACKED = re.compile(r"[-._]i?q\d(?:_[0-9a-z]+)*\b|[-_]?\d+bit\b|:free\b")
OF_A_FILE = re.compile(r"\d{2,}|latest|preview|gguf|q\d+|[fb]p?f?\d{1,2}|int\d|awq|gptq|k|m|s|instruct|chat|it|hf")
Outcome = Answer | TeacherError
T = TypeVar("T")


class RemoteTeacher(ABC):
    """What the chat and the batch teacher share: identity, cache, price, one call for equal calls."""

    def __init__(self, teacher: RemoteConfig, cache: TeacherCache):
        """
        Raises:
            TeacherDenied: no key is set.
        """
        self.config = teacher
        self.cache = cache
        self.api = Api(teacher)
        self.price = price_of(teacher)
        self._other: Any = None  # model that was told to answer in place of the one that is asked

    @property
    def identity(self) -> dict[str, Any]:
        return remote_identity(self.config)

    def ask(self, calls: Sequence[Call]) -> list[Outcome]:
        """As Teacher.ask. Each answer is in the cache before the next is looked at, whatever happens afterwards."""
        keys = [key_of_call(self.identity, call) for call in calls]
        found: dict[str, Outcome] = {}
        todo: dict[str, Call] = {}
        for key, call in zip(keys, calls, strict=True):
            known = self.known(key)
            if known is None:
                todo[key] = call
            else:
                found[key] = known
        if todo:
            self.api.pace.halt = asyncio.Event()  # an event belongs to one loop
            found |= asyncio.run(self.fetch(todo))
        outcomes = []
        seen: set[str] = set()
        for key in keys:
            outcomes.append(_again(found[key]) if key in seen else found[key])
            seen.add(key)
        return outcomes

    def known(self, key: str) -> Outcome | None:
        """What the cache holds; a remembered failure counts unless teacher.retry_failures."""
        known = self.cache.get(key)
        return None if isinstance(known, TeacherError) and self.config.retry_failures else known

    @abstractmethod
    async def fetch(self, todo: Mapping[str, Call]) -> dict[str, Outcome]:
        """Ask what the cache does not know (key -> call), keep it there, and return it."""

    def body(self, call: Call) -> dict[str, Any]:
        """The request."""
        body: dict[str, Any] = {"model": self.config.model, "messages": messages(call.prompt)}
        if call.temperature is not None:
            body["temperature"] = call.temperature
        if self.config.token_limit_field is not None:
            body[self.config.token_limit_field] = call.max_tokens
        return body | self.config.extra_body

    def refuse_what_is_sent(self, calls: Mapping[str, Call], here: str = "") -> None:
        """
        Args:
            here: an address whose batches are this teacher's to read.
        Raises:
            TeacherStopped: some of the calls are in a batch that is paid for and not read yet.
        """
        for name, server_id, address, count in self.cache.open_batches(calls):
            if address != here:
                raise TeacherStopped(
                    f"{count} of the calls to ask are in batch {server_id} at {address}, which is sent and not read. "
                    f"Read it with teacher=openai_batch teacher.base_url={address}, or give it up with r4r-teacher "
                    f"forget-batch {name}"
                )

    def over_budget(self, next_dollars: float) -> BudgetReached:
        spent, reserved = self.cache.money()
        lost = f", and calls in flight or broken off may have taken up to ${reserved:.4f}" if reserved else ""
        return BudgetReached(
            f"teacher.budget_usd={self.config.budget_usd:g} would be passed: ${spent:.4f} is spent{lost}, and the next "
            f"call may take up to ${next_dollars:.4f}. Raise the budget. {KEPT}"
        )


class ChatTeacher(RemoteTeacher):
    """Kinds `openai` and `server`: chat completions, `teacher.concurrency` at a time."""

    async def fetch(self, todo: Mapping[str, Call]) -> dict[str, Outcome]:
        self.refuse_what_is_sent(todo)
        found: dict[str, Outcome] = {}
        self._held: dict[str, int] = {}  # key -> reservation of a call in flight
        self._settled = asyncio.Event()
        self._probing = asyncio.Lock()
        limit = reply_bytes(max(call.max_tokens for call in todo.values()))
        alive = asyncio.create_task(self._keep_claims())
        try:
            async with self.api.client(limit) as client:
                while left := {key: call for key, call in todo.items() if key not in found}:
                    ours = await self._kept(self.cache.claim, left, CLAIM_S)
                    await self._ask_all(client, {key: call for key, call in left.items() if key in ours}, found)
                    for key in left.keys() - ours:  # another process asks these
                        known = await self._kept(self.known, key)
                        if known is not None:
                            found[key] = known
                    if not ours:
                        await asyncio.sleep(LOOK_S)
        finally:
            alive.cancel()
            with suppress(FileBusy), self.cache.at_once():  # the claims end by themselves
                self.cache.unclaim()
        return found

    async def _kept(self, act: Callable[..., T], *args: Any) -> T:
        """What a method of the cache returns. While another process holds the file locked, calls in flight go on."""
        told = time.monotonic()
        while True:
            try:
                with self.cache.at_once():
                    return act(*args)
            except FileBusy as busy:
                if time.monotonic() - told > CLAIM_S / 6:
                    told = time.monotonic()
                    self.api.tell(f"{busy}; what is answered meanwhile is kept and written down afterwards")
            await asyncio.sleep(LOOK_S / 5)

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_S / 3)
            await self._kept(self.cache.renew, CLAIM_S)

    async def _ask_all(self, client: openai.AsyncOpenAI, calls: Mapping[str, Call], found: dict[str, Outcome]) -> None:
        waiting = iter(calls.items())
        workers = [self._work(client, waiting, found) for _ in range(min(self.config.concurrency, len(calls)))]
        ends = await asyncio.gather(*workers, return_exceptions=True)
        for stopped in (TeacherStopped, BaseException):  # the cause before what followed from it
            for end in ends:
                if isinstance(end, stopped) and not isinstance(end, Halted):
                    raise end

    async def _work(
        self, client: openai.AsyncOpenAI, waiting: Iterator[tuple[str, Call]], found: dict[str, Outcome]
    ) -> None:
        """Take calls until none is left. What is in flight when another worker stops still arrives and is kept."""
        for key, call in waiting:
            try:
                found[key] = await self._one(client, key, call)
            except BaseException:
                self.api.pace.halt.set()
                self._settled.set()
                raise

    async def _one(self, client: openai.AsyncOpenAI, key: str, call: Call) -> Outcome:
        known = await self._kept(self.known, key)
        if known is not None:  # another process asked it before we claimed it
            return known
        tried = time.monotonic()

        async def before() -> None:
            nonlocal tried
            await self._reserve(key, call)
            tried = time.monotonic()

        def failed(error: Passing) -> None:
            if error.unsure:  # perhaps charged: the money stays reserved for good
                self._held.pop(key, None)
                self._wake()

        def send() -> Awaitable[Outcome]:
            return self._send(client, call)

        tokens = tokens_about(call.prompt) + call.max_tokens
        try:
            try:
                outcome, retries = await self.api.call(send, tokens, before, failed)
            except TeacherUnavailable as outage:
                if not (outage.of_the_call and await self._answers(client, tried)):
                    raise
                try:  # the server is there, after all: is it this prompt?
                    await before()
                    outcome, retries = await self.api.once(send, self.config.timeout_s), self.config.retries + 1
                except Passing as again:
                    failed(again)
                    raise CallRejected(
                        f"no answer after {self.config.retries + 1} retries, while others get theirs: {again}"
                    ) from None
        except (TeacherStopped, Halted):
            await self._release(key)
            raise
        except TeacherError as error:  # this call alone, and unpaid
            await self._release(key)
            return error
        await self._kept(self.cache.put, self.identity, call, outcome, self._held.pop(key, None))
        self._wake()
        if isinstance(outcome, TeacherError):
            outcome.retries = retries
            return outcome
        return replace(outcome, retries=retries)

    async def _send(self, client: openai.AsyncOpenAI, call: Call) -> Outcome:
        body = self.body(call)
        own = {"model": body.pop("model"), "messages": body.pop("messages")}
        try:
            raw = await client.chat.completions.with_raw_response.create(**own, extra_body=body)
        except TooLarge as failure:  # finished, and charged for
            failure.tokens_in, failure.tokens_out = tokens_about(call.prompt), call.max_tokens
            failure.dollars = dollars(self.price, failure.tokens_in, failure.tokens_out)
            return failure
        try:
            reply = read_json(raw.content)
            outcome = read_reply(reply, call, self.price)
        except ValueError:
            raise self.api.unanswered(raw.content) from None
        self._note_model(reply.get("model"))
        if reply.get("usage") and read_usage(reply["usage"], call) is None:
            usage = visible(str(reply["usage"]), 80)
            self.api.tell(f"reports a usage that cannot be ({usage}); tokens are counted at 4 characters each")
        return outcome

    def _note_model(self, told: Any) -> None:
        """Say once that another model answers than was asked: some servers take what they have loaded."""
        wanted = self.config.model
        if told and told != self._other and _model_words(wanted) != _model_words(str(told)):
            self._other = told
            say(f"  teacher: asked for {wanted}, and the server answers as {visible(str(told), 80)}")

    async def _answers(self, client: openai.AsyncOpenAI, since: float) -> bool:
        """Whether the server has answered any call since then, or answers one now: so what failed is its prompt."""
        async with self._probing:
            if self.api.answered <= since:
                await self._reserve("", PROBE)
                try:
                    outcome = await self.api.once(lambda: self._send(client, PROBE), self.config.timeout_s)
                except (TeacherError, Passing):
                    await self._release("")
                    return False
                await self._kept(self.cache.pay, self.identity, outcome, self._held.pop("", None))
            return True

    async def _reserve(self, key: str, call: Call) -> None:
        """Set the call's worst case aside; where only calls in flight stand in the way, wait for them."""
        if self.price is None or key in self._held:
            return
        worst = worst_case(self.price, call)
        while (reserved := await self._kept(self.cache.reserve, worst, self.config.budget_usd)) is None:
            if self.api.pace.halt.is_set():
                raise Halted
            if not self._held:
                raise self.over_budget(worst)
            self._settled.clear()
            await self._settled.wait()
        self._held[key] = reserved

    async def _release(self, key: str) -> None:
        reserved = self._held.pop(key, None)
        if reserved is not None:
            await self._kept(self.cache.release, reserved)
        self._wake()

    def _wake(self) -> None:
        self._settled.set()


def _again(outcome: Outcome) -> Outcome:
    """The outcome for a second, equal call of one batch: it took nothing more."""
    if isinstance(outcome, Answer):
        return replace(outcome, cached=True)
    copy = type(outcome)(str(outcome))
    copy.tokens_in, copy.tokens_out, copy.dollars, copy.cached = (
        outcome.tokens_in,
        outcome.tokens_out,
        outcome.dollars,
        not isinstance(outcome, CallRejected),
    )
    return copy


def _model_words(name: str) -> set[str]:
    """The parts of a model's name that tell it from others: not its folder, date or way of packing."""
    bare = PACKED.sub("", re.split(r"[/\\]", name.lower())[-1])
    words = re.split(r"[^a-z0-9]+", bare)
    return {word for word in words if word and not OF_A_FILE.fullmatch(word)}
