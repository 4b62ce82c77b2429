"""Kind `openai_batch`: the Batch API, at half the price and within a day. A kill at any point pays nothing twice.

What is about to be sent is written down first, under a name of ours that goes along as the batch's metadata. After a
kill, a batch without a known server id is looked for by that name; one that is found is read like any other. Results
are matched by custom_id, and each is kept, counted and crossed off in one transaction, so that reading a result file
twice, or a result that it holds twice, changes nothing.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import openai
from filelock import FileLock
from openai.types import Batch

from r4r.configuration.teachers import BatchConfig
from r4r.errors import CallRejected, TeacherDenied, TeacherError, TeacherStopped, TeacherUnavailable
from r4r.progress import say
from r4r.teacher.api import KEPT, NotThere, Passing
from r4r.teacher.base import Answer, Call
from r4r.teacher.cache import canonical
from r4r.teacher.price import worst_case
from r4r.teacher.remote import Outcome, RemoteTeacher
from r4r.teacher.reply import read_reply
from r4r.teacher.said import read_json, reported, visible
from r4r.teacher.wire import TooLarge

NAME = "r4r_batch"  # metadata key
ENDPOINT: Final = "/v1/chat/completions"
ROUNDS = 3  # batches that an item may go missing in, or fail in passing, before the job stops
SETTLE_POLLS = 2  # polls to wait before a batch planned just now counts as never created
TRANSFER_S = 1800.0  # to move a file
FILE_BYTES, ITEM_BYTES, TOKEN_BYTES = 2**24, 2**14, 2**6  # what a result file may hold: at all, an item, a token


class BatchTeacher(RemoteTeacher):
    """As ChatTeacher, by batches of at most `teacher.batch_calls`."""

    config: BatchConfig

    async def fetch(self, todo: Mapping[str, Call]) -> dict[str, Outcome]:
        self._rejected: dict[str, Outcome] = {}
        self._failing: dict[str, Passing] = {}  # what the server failed at, rather than never came to
        missed: Counter[str] = Counter()
        found: dict[str, Outcome] = {}
        most = min(len(todo), self.config.batch_calls)
        limit = FILE_BYTES + most * (ITEM_BYTES + TOKEN_BYTES * max(call.max_tokens for call in todo.values()))
        async with self.api.client(limit) as client:
            while open_calls := {key: call for key, call in todo.items() if key not in found}:
                sent = await self._send(client, open_calls)
                for name, server_id in sent.items():
                    await self._read(client, name, server_id)
                for key in open_calls:
                    outcome = self._rejected.get(key) or self.known(key)
                    if outcome is not None:
                        found[key] = outcome
                    elif key in self._covered:
                        missed[key] += 1
                lost = [key for key, count in missed.items() if count >= ROUNDS and key not in found]
                if lost and any(key not in self._failing for key in lost):
                    raise TeacherUnavailable(f"{len(lost)} calls got no result in {ROUNDS} batches each. {KEPT}")
                if lost and not any(isinstance(outcome, Answer) for outcome in found.values()):
                    last = self._failing[lost[0]]
                    raise TeacherUnavailable(f"{len(lost)} calls failed in {ROUNDS} batches each: {last}. {KEPT}")
                for key in lost:
                    last = self._failing[key]
                    found[key] = CallRejected(f"failed in {ROUNDS} batches, while others got answers: {last}")
        return found

    # sending

    async def _send(self, client: openai.AsyncOpenAI, calls: Mapping[str, Call]) -> dict[str, str]:
        """Batches, by our name, that hold these calls: those of earlier runs, and new ones for the rest."""
        path = self.cache.path
        with FileLock(f"{path}.batches.lock"):  # a plan of a process that lives is not one that a kill left
            sent = {}
            covered: set[str] = set()
            for name, server_id, planned in self.cache.batches(self.identity, self.api.address):
                items = self.cache.batch_calls(name)
                if not items.keys() & calls.keys():
                    continue
                server_id = server_id or await self._find(client, name, planned)
                if server_id is None:  # killed before it was created
                    self.cache.forget_batch(name)
                    continue
                sent[name] = server_id
                covered |= items.keys()
            if sent:
                say(f"  teacher: {len(sent)} batches of an earlier run are still open")
            rest = {key: call for key, call in calls.items() if key not in covered}
            self.refuse_what_is_sent(rest, here=self.api.address)
            for part in self._parts(rest):
                name = uuid.uuid4().hex
                chosen = self._plan(name, part, bool(sent))
                if chosen:
                    covered |= chosen.keys()
                    sent[name] = await self._create(client, name, chosen)
            self._covered = covered
        return sent

    def _parts(self, calls: Mapping[str, Call]) -> Iterator[dict[str, Call]]:
        """Calls by the batch, within batch_calls and batch_mb."""
        part: dict[str, Call] = {}
        size = 0
        for key, call in calls.items():
            line = len(self._line(key, call))
            if part and (len(part) >= self.config.batch_calls or size + line > self.config.batch_mb * 1e6):
                yield part
                part, size = {}, 0
            part[key] = call
            size += line
        if part:
            yield part

    def _plan(self, name: str, part: Mapping[str, Call], more_to_come: bool) -> dict[str, Call]:
        """Write the batch down, with as many of the calls as the budget surely covers; their worst case is set aside.

        Raises:
            BudgetReached: it covers none, and no open batch will give reserved money back.
        """
        chosen = dict(part)
        total, budget = 0.0, self.config.budget_usd
        if self.price is not None and budget is None:
            total = sum(worst_case(self.price, call) for call in part.values())
        elif self.price is not None and budget is not None:
            room = budget - sum(self.cache.money())
            chosen = {}
            for key, call in part.items():
                worst = worst_case(self.price, call)
                if total + worst > room:
                    break
                chosen[key] = call
                total += worst
        plan = (name, self.identity, self.api.address, list(chosen.values()), total, budget)
        if chosen and self.cache.plan_batch(*plan):
            return chosen
        if more_to_come:
            return {}
        assert self.price is not None
        raise self.over_budget(worst_case(self.price, next(iter(part.values()))))

    def _line(self, key: str, call: Call) -> bytes:
        request = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": self.body(call)}
        return canonical(request).encode() + b"\n"

    async def _create(self, client: openai.AsyncOpenAI, name: str, calls: Mapping[str, Call]) -> str:
        """Upload and create a batch that is written down; returns the server's id."""
        planned = time.time()
        content = b"".join(self._line(key, call) for key, call in calls.items())
        tries = 0

        async def create() -> str:
            nonlocal tries
            tries += 1
            if tries > 1 and (found := await self._look(client, name, planned)):
                return found  # the reply to an earlier try was lost
            batch = await client.batches.create(
                input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={NAME: name}
            )
            return batch.id

        try:
            file, _ = await self.api.call(
                lambda: client.files.create(file=(f"{name}.jsonl", content), purpose="batch", timeout=TRANSFER_S),
                timeout_s=TRANSFER_S,
            )
            server_id, _ = await self.api.call(create)
        except (CallRejected, TeacherDenied) as error:
            self.cache.forget_batch(name)
            if isinstance(error, TeacherStopped):
                raise
            raise TeacherDenied(f"{self.api.address} takes no batch: {error}. {KEPT}") from None
        self.cache.sent_batch(name, server_id)
        say(f"  teacher: batch {visible(server_id)} with {len(calls)} calls is sent; killing the job now loses nothing")
        return server_id

    async def _find(self, client: openai.AsyncOpenAI, name: str, planned: float) -> str | None:
        """The server's id of a batch that an earlier run planned; None once it is sure that it was not created."""
        while True:
            server_id, _ = await self.api.call(lambda: self._look(client, name, planned))
            if server_id is not None:
                self.cache.sent_batch(name, server_id)
                return server_id
            young = planned + SETTLE_POLLS * self.config.batch_poll_s - time.time()
            if young <= 0:
                return None
            await self.api.pace.sleep(min(young, self.config.batch_poll_s))

    async def _look(self, client: openai.AsyncOpenAI, name: str, planned: float) -> str | None:
        async for batch in client.batches.list(limit=100):
            if (batch.metadata or {}).get(NAME) == name:
                return batch.id
            if batch.created_at < planned - 86_400:  # the newest come first
                break
        return None

    # reading

    async def _read(self, client: openai.AsyncOpenAI, name: str, server_id: str) -> None:
        """Wait for a batch's end and keep its results. Items without one stay open."""
        batch = await self._ended(client, server_id)
        if batch.status == "failed":
            self.cache.forget_batch(name)
            errors = batch.errors.data if batch.errors and batch.errors.data else []
            told = self.api.redact("; ".join(f"{e.code}: {e.message}" for e in errors[:3]) or "no reason given")
            raise TeacherDenied(
                f"batch {server_id} was not accepted ({told}). Where the queue is full, wait, or lower "
                f"teacher.batch_calls. {KEPT}"
            )
        calls = self.cache.batch_calls(name)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                for record in await self._download(client, file_id):
                    self._keep(name, calls, record)
        left = len(self.cache.batch_calls(name)) - sum(key in self._rejected for key in calls)
        if left:
            how = f"{visible(server_id)} {visible(str(batch.status))}"
            say(f"  teacher: batch {how} without a result for {left} calls; they are sent again")
        self.cache.forget_batch(name)

    async def _ended(self, client: openai.AsyncOpenAI, server_id: str) -> Batch:
        while True:
            try:
                batch, _ = await self.api.call(lambda: client.batches.retrieve(server_id))
            except NotThere:
                raise TeacherDenied(
                    f"{self.api.address} does not know batch {server_id}, which an earlier run sent. Use that run's "
                    f"key, or give the batch up: r4r-teacher forget-batch {server_id}. {KEPT}"
                ) from None
            if batch.status in ("completed", "expired", "cancelled", "failed"):
                return batch
            await self.api.pace.sleep(self.config.batch_poll_s)

    async def _download(self, client: openai.AsyncOpenAI, file_id: str) -> list[dict[str, Any]]:
        """A result file, whole: one that breaks off is fetched again."""

        async def content() -> list[dict[str, Any]]:
            try:
                text = (await client.files.content(file_id, timeout=TRANSFER_S)).content
            except TooLarge as error:
                raise TeacherDenied(f"the result file {file_id} {error}. {KEPT}") from None
            records = [read_json(line) for line in text.split(b"\n") if line.strip()]
            if not all(isinstance(record, dict) for record in records):
                raise ValueError("a line is no object")
            return records

        return (await self.api.call(content, timeout_s=TRANSFER_S))[0]

    def _keep(self, name: str, calls: Mapping[str, Call], record: Mapping[str, Any]) -> None:
        """One line of a result file. What failed in passing, or is no completion, stays open.

        Raises:
            TeacherDenied: the item was refused as every call would be.
        """
        key = str(record.get("custom_id"))
        call = calls.get(key)
        if call is None:
            return  # kept already, or none of ours
        response = record.get("response") or {}
        body = response.get("body") if isinstance(response, dict) else None
        if isinstance(body, dict) and response.get("status_code") == 200:
            try:
                outcome: Outcome = read_reply(body, call, self.price)
            except ValueError:
                return
            self.cache.put(self.identity, call, outcome, batch=name)
            return
        code, said = reported(body if isinstance(body, dict) else dict(record))
        status = response.get("status_code") if isinstance(response, dict) else None
        if not isinstance(status, int):
            return  # batch_expired and the like: it never ran
        verdict = self.api.verdict(status, code, self.api.redact(said))
        if isinstance(verdict, TeacherStopped):
            raise verdict
        if isinstance(verdict, TeacherError):
            self._rejected[key] = verdict
        elif isinstance(verdict, Passing):
            self._failing[key] = verdict
