"""Sending jobs and waiting for them: what every process that only sends needs, and no more."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import WeakSet

from . import views
from .actor import AS_DECLARED
from .codec import plain_codec
from .config import BATCH_MAX_BYTES, BATCH_MAX_JOBS, BLOB_MIN_BYTES
from .errors import Draining, DuplicateJob, InvalidOptions, JobNotFound, RedisRefused, RuntimeNotOpen
from .group_commit import GroupCommit
from .handle import Job
from .inbox import Inbox
from .job import NONCE_CHARS, PRIORITY_DEFAULT, IdMaker, JobInfo, read_record, record_head, write_number, write_record
from .limits import gates_of, quoted
from .new_jobs import ID, NewJob

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

    from .actor import Actor, Message, SendOptions
    from .limits import Limit
    from .new_jobs import NewJobFields
    from .queue import Queue
    from .store import Store
    from .tracing import Tracing

T = TypeVar("T")
R = TypeVar("R")
COLLISIONS_MAX: Final = 3
WATCH_MAX_IDS: Final = 500
CLOSED: Final = "the runtime is not open: it was closed; keep `async with rt:` (or `with rt:`) open around what sends and waits"
FORKED: Final = "this process was forked after the runtime was opened: a connection cannot be shared, open the runtime in the child"
_open: Final[WeakSet[Client]] = WeakSet()


def _note_fork() -> None:
    for client in _open:
        client.shut = FORKED


os.register_at_fork(after_in_child=_note_fork)


class RunSync(Protocol):
    """Runs a coroutine on the runtime's loop from another thread, and waits for it."""

    def __call__(self, call: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """Return what the coroutine returns, or raise what it raises."""
        ...


class Client:
    """Sends messages in group commits and waits for outcomes over one subscription."""

    tracing: Tracing | None = None
    shut = ""
    """Why nothing is sent or awaited any more; empty while it may be."""

    def __init__(self, store: Store, run_sync: RunSync, queues: Mapping[str, Queue] | None = None) -> None:
        """Take over the store of an open runtime; `run_sync` runs a coroutine on the runtime's loop from another thread."""
        self.store = store
        self.queues = queues or {}
        self.run_sync = run_sync
        self._ids = IdMaker()
        self._name = write_number(secrets.randbits(48), 8)
        self._sends: GroupCommit[NewJobFields, int | bytes] = GroupCommit(
            self.store.enqueue, most_items=BATCH_MAX_JOBS, most_bytes=BATCH_MAX_BYTES
        )
        self._watches: GroupCommit[str, tuple[str, bytes]] = GroupCommit(self._watch, most_items=WATCH_MAX_IDS, most_bytes=BATCH_MAX_BYTES)
        self._plain: dict[Actor[..., Any], tuple[str, bytes] | None] = {}
        self._inbox = Inbox(store.url, store.keys.inbox(self._name), self._on_news)
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        _open.add(self)

    def check_open(self) -> None:
        """Raise RuntimeNotOpen when the runtime was closed, or this process was forked after it was opened."""
        if self.shut:
            raise RuntimeNotOpen(self.shut)

    async def close(self) -> None:
        """Finish what is being sent, tell those who wait for results, and end the subscription."""
        self.shut = CLOSED
        await self._sends.drain()
        for waiting in self._waiting.values():
            for news in waiting:
                if not news.done():
                    news.set_exception(RuntimeNotOpen(CLOSED))
        await self._inbox.close()

    # -- sending -------------------------------------------------------------------------------------------------------------------

    async def send(self, actor: Actor[Any, R], arguments: bytes, options: SendOptions = AS_DECLARED) -> Job[R]:
        """Send one call, whose arguments are encoded already; see `Actor.send`."""
        job = self._new_job(actor, arguments, options)
        (code,) = await self._sends.submit([job], len(arguments))
        job_id, created = job[ID], code == 1
        if not created:
            job_id, created = await self._accepted(job, code, options)
        return Job(job_id, created, self, actor)

    def send_sync(self, message: Message[R]) -> Job[R]:
        """Send one message from code that is not asynchronous."""

        async def send() -> Job[R]:
            self.check_open()  # it may have been closed since
            return await self.send(message.actor, message.arguments, message.options)

        return self.run_sync(send)

    async def send_many(self, messages: Iterable[Message[R]]) -> list[Job[R]]:
        """Send messages in batches, each atomic; returns handles in order. On an error, sending again with ids is safe.

        A batch is made while the one before is stored: where one is refused, the next may be stored all the same.
        """
        self.check_open()
        handles: list[Job[R]] = []
        sent: deque[tuple[list[tuple[Message[R], NewJobFields]], asyncio.Future[Sequence[int | bytes]]]] = deque()
        try:
            for batch, size_bytes in _batches((one, self._new_job(one.actor, one.arguments, one.options)) for one in messages):
                sent.append((batch, self._sends.submit([job for _, job in batch], size_bytes)))
                if len(sent) > 1:
                    handles += await self._handles(*sent.popleft())
                else:
                    await asyncio.sleep(0)  # it leaves now, and the next batch is made while the server stores it
            while sent:
                handles += await self._handles(*sent.popleft())
        finally:
            for _, answers in sent:
                answers.cancel()
        return handles

    async def _handles(
        self, batch: Sequence[tuple[Message[R], NewJobFields]], answers: asyncio.Future[Sequence[int | bytes]]
    ) -> list[Job[R]]:
        handles: list[Job[R]] = []
        for (message, job), code in zip(batch, await answers, strict=True):
            job_id, created = job[ID], code == 1
            if not created:
                job_id, created = await self._accepted(job, code, message.options)
            handles.append(Job(job_id, created, self, message.actor))
        return handles

    async def send_plain(self, actor: str, queue: str, arguments: Mapping[str, Any], options: SendOptions) -> Job[Any]:
        """Send plain JSON data to an actor that is not declared here. Raises InvalidArguments and PayloadTooLarge."""
        self.check_open()
        if options.cost is not None:
            message = f"options(cost={options.cost}): actor {actor} is not declared here, and its limits are not known"
            raise InvalidOptions(message)
        encoded = plain_codec(actor).encode(dict(arguments))
        job = self._job(actor, queue, options.priority, encoded, options, self.gates(actor, queue, encoded))
        codes = await self._sends.submit([job], len(encoded))
        job_id, created = await self._accepted(job, codes[0], options)
        return Job(job_id, created, self, None)

    def handle(self, job_id: str, actor: Actor[Any, R] | None) -> Job[R]:
        """Return the handle of a saved id."""
        return Job(job_id, created=False, _client=self, _actor=actor)

    def new_job(self, message: Message[Any]) -> NewJob:
        """Return the stored form of a message, with an id."""
        return NewJob._make(self._new_job(message.actor, message.arguments, message.options))

    def _new_job(self, actor: Actor[Any, Any], arguments: bytes, options: SendOptions) -> NewJobFields:
        if options is AS_DECLARED and len(arguments) <= BLOB_MIN_BYTES:
            try:
                plain = self._plain[actor]
            except KeyError:
                plain = self._find_plain(actor)
            if plain is not None:
                queue, head = plain
                return queue, self._ids.next(), head + arguments, None, "", None, ""
        definition = actor.definition
        definition.check_send(options)
        priority = definition.priority if options.priority is None else options.priority
        queue = options.queue or definition.queue
        flow = self.gates(definition.name, queue, arguments, actor, options.cost)
        if definition.unique is not None:
            flow.append(definition.unique.item(definition.name, arguments, actor.signature.defaults))
            if definition.unique.debounce_s is not None and options.delay_s is None and options.at_ms is None:
                options = replace(options, delay_s=definition.unique.debounce_s)
        return self._job(definition.name, queue, priority, arguments, options, flow)

    def _find_plain(self, actor: Actor[Any, Any]) -> tuple[str, bytes] | None:
        """Return queue and head of the records of an actor whose sends, as declared, ask for nothing but a place; None for others."""
        asked = actor.definition
        is_plain = asked.priority == PRIORITY_DEFAULT and not (asked.limits or asked.unique or self.limits_of(asked.queue) or self.tracing)
        found = self._plain[actor] = (asked.queue, record_head(asked.name, self._ids.nonce, {})) if is_plain else None
        return found

    def limits_of(self, queue: str) -> Sequence[Limit]:
        """Return the limits of all jobs of a queue."""
        return self.queues[queue].limits if queue in self.queues else ()

    def gates(self, name: str, queue: str, arguments: bytes, actor: Actor[..., Any] | None = None, cost: int | None = None) -> list[str]:
        """Return the gates of a job, its queue's first. Raises InvalidArguments for a key that cannot be one."""
        found = gates_of(self.limits_of(queue), "", queue, arguments, {})
        if actor is not None and actor.definition.limits:
            found += gates_of(actor.definition.limits, name, queue, arguments, actor.signature.defaults, cost)
        return list(dict.fromkeys(found)) if found else found

    def _job(self, actor: str, queue: str, priority: int | None, arguments: bytes, options: SendOptions, flow: list[str]) -> NewJob:
        meta: dict[str, Any] = {} if priority in (None, PRIORITY_DEFAULT) else {"p": priority}
        nonce, when = self._ids.nonce, ""
        if options is not AS_DECLARED:
            when = _when(options)
            meta |= {key: value for key, value in (("a", options.attempts), ("t", options.timeout_s)) if value is not None}
            flow = [*flow, *self._own_flow(options)]
        if self.tracing is not None:
            meta |= self.tracing.carried(actor, queue)
        if options.id is not None:
            meta["e"] = time.time_ns() // 1_000_000
            nonce = write_number(secrets.randbits(24), NONCE_CHARS)
        blob = arguments if len(arguments) > BLOB_MIN_BYTES else None
        record = write_record(actor, nonce, meta, b"" if blob else arguments)
        own = None if priority == PRIORITY_DEFAULT else priority
        return NewJob(queue, options.id or self._ids.next(), record, own, when, blob, ",".join(flow))

    def _own_flow(self, options: SendOptions) -> Iterator[str]:
        if options.tenant is not None:
            yield f"t{quoted(options.tenant)}"
        if options.expires_s is not None:
            yield f"x{self.store.server_ms() + options.expires_s * 1000:.0f}"

    async def cancel(self, job_id: str, by: str) -> bool:
        """Cancel a job; tell whether it had not ended before. Raises JobNotFound."""
        self.check_open()
        code = (await self.store.cancel([job_id], quoted(by)))[0]
        if code < 0:
            raise JobNotFound(views.not_found(job_id))
        return code > 0

    async def _accepted(self, sent: NewJobFields, code: int | bytes, options: SendOptions) -> tuple[str, bool]:
        """Return the id and whether it was created; an id drawn here that collides with another's is drawn again.

        The record need not change: it names neither its id nor its time, and its nonce is of this process.
        """
        job = NewJob._make(sent)
        if isinstance(code, bytes):
            return self._conflicting(job, code.decode())
        if code or options.id is not None:
            return job.id, bool(code)
        for _ in range(COLLISIONS_MAX):
            job = job._replace(id=self._ids.next())
            code = (await self._sends.submit([job], job.size_bytes))[0]
            if isinstance(code, bytes):
                return self._conflicting(job, code.decode())
            if code:
                return job.id, True
        text = f"{COLLISIONS_MAX} new ids in a row belong to other jobs: is this process's clock or random source broken?"
        raise RedisRefused(text)

    @staticmethod
    def _conflicting(job: NewJob, answer: str) -> tuple[str, bool]:
        """Return the job that is there already, or raise what the answer says: DuplicateJob, Draining."""
        if answer.startswith("#"):
            raise Draining.of(answer[1:])
        if not answer.startswith("!"):
            return answer, False
        actor = read_record(job.record).actor
        message = (
            f"actor {actor}: job {answer[1:]} does the same work and stands in the way; Unique(on_conflict=) decides what happens then"
        )
        raise DuplicateJob(message, answer[1:])

    # -- waiting -------------------------------------------------------------------------------------------------------------------

    async def outcome(self, job_id: str) -> tuple[str, bytes]:
        """Wait for a job to end; return c, f or k and the stored result. Raises JobNotFound."""
        self.check_open()
        await self._inbox.open()
        while True:
            news = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(job_id, []).append(news)
            try:
                code, stored = (await self._watches.submit([job_id], len(job_id)))[0]
                if code == "w":
                    await news
                    continue
            finally:
                self._forget(job_id, news)
            if code == "m":
                raise JobNotFound(views.not_found(job_id))
            return code, stored

    async def infos(self, ids: Sequence[str]) -> list[JobInfo]:
        """Return what is known of each job. Raises JobNotFound."""
        self.check_open()
        placed = await self.store.inspect(ids)
        blobs = await self.store.payloads((job.id, job.record) for job in placed)
        return [views.job_info(job, blobs.get(job.id)) for job in placed]

    async def _watch(self, ids: list[str]) -> list[tuple[str, bytes]]:
        return await self.store.watch(self._name, ids)

    def _on_news(self, job_id: str | None) -> None:
        ids = list(self._waiting) if job_id is None else [job_id]
        for one in ids:
            for news in self._waiting.get(one, ()):
                if not news.done():
                    news.set_result(None)

    def _forget(self, job_id: str, news: asyncio.Future[None]) -> None:
        waiting = self._waiting[job_id]
        waiting.remove(news)
        if not waiting:
            del self._waiting[job_id]


def _when(options: SendOptions) -> str:
    if options.at_ms is not None:
        return f"{options.at_ms:.0f}"
    return "" if options.delay_s is None else f"+{options.delay_s * 1000:.0f}"


def _batches(sends: Iterable[tuple[Message[R], NewJobFields]]) -> Iterable[tuple[list[tuple[Message[R], NewJobFields]], int]]:
    """Divide what is to be sent into lists bounded in number and bytes; yields each with its bytes."""
    batch: list[tuple[Message[R], NewJobFields]] = []
    batch_bytes = 0
    for message, job in sends:
        size_bytes = len(message.arguments)
        if batch and (len(batch) >= BATCH_MAX_JOBS or batch_bytes + size_bytes > BATCH_MAX_BYTES):
            yield batch, batch_bytes
            batch, batch_bytes = [], 0
        batch.append((message, job))
        batch_bytes += size_bytes
    if batch:
        yield batch, batch_bytes
