"""The only module that speaks Redis: one typed method per script, and the few plain reads that views need.

Every script is harmless when it is repeated, so a call whose reply is lost is sent again, with growing jittered pauses and a log line each
time, until the deadline of the caller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from redis.exceptions import NoScriptError, ResponseError

from . import scripts
from .config import BATCH_MAX_BYTES, BATCH_MAX_JOBS, BLOB_MIN_BYTES, EVENTS_MAX, Retention, redact
from .errors import RedisFull, RedisUnavailable
from .job import blob_field
from .link import Link, LinkLost, ReplicatedLink, pause_s
from .new_jobs import flow_of, packed
from .refusals import passes, refusal
from .scripts import QueueIndex, evalsha
from .server_clock import ServerClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from .keys import Keys
    from .new_jobs import NewJob, NewJobFields
    from .scripts import Script

log = logging.getLogger("angelrt")

T = TypeVar("T")
SEND_DEADLINE_S: Final = 10.0
BLOCK_S: Final = 1
STATES: Final = ("ready", "delayed", "leased", "lanes")
OUTCOMES: Final = ("completed", "failed", "cancelled")
CHANGED_MEANWHILE: Final = -1
LONG_WAY_S: Final = 1.0
"""So long a verb goes its long way when its short one has declined: what is not plain seldom comes alone, and this saves round trips."""
EXPIRE_PAGE: Final = 500


class Delivery(NamedTuple):
    """A claimed job as the server answers it."""

    id: bytes
    queue: str
    rank: bytes
    record: bytes
    lease: bytes


class Claimed(NamedTuple):
    """The answer of a claim; `again` is 1 where more is claimable, 2 where suspects wait for a worker that holds nothing."""

    now_ms: float
    next_due_ms: float
    again: int
    parked: list[str]
    deliveries: list[Delivery]


@dataclass(slots=True)  # made for each run: a tuple with names takes half as long again
class Verdict:
    """How one run ended; `code` is one of those in the header of settle.lua.

    `counters` is what it counts under: `queue|actor`, and behind that the words of `stats.run_words` for a run that began.
    """

    queue: str
    id: str
    token: str
    code: str
    delay_ms: int
    payload: bytes
    counters: str
    children: tuple[NewJob, ...] = ()
    gates: str = ""

    def told(self, queue: str) -> str:
        """Return all but id and payload in one argument, the same for many runs: each argument costs both sides time."""
        how = self.code
        if self.delay_ms or self.gates or self.children:
            how = f"{how} {self.delay_ms} {self.gates} {len(self.children)}"
        return f"{self.token} {queue} {how}\0{self.counters}"


class Lease(NamedTuple):
    """One run's right to a job."""

    queue: str
    id: str
    token: str


class Placed(NamedTuple):
    """All that is stored of one job."""

    id: str
    state: str
    queue: str
    score: float
    record: bytes
    run: bytes
    result: bytes
    note: bytes


def told_retention(kept: Retention) -> str:
    """Return the argument of `settle` that tells how long ended jobs are kept, and how many."""
    return " ".join(f"{keep.age_ms} {keep.number}" for keep in (kept.completed, kept.failed, kept.cancelled))


class Store:
    """The verbs of one partition over one shared connection.

    `long_until_s` has, by the name of each short way that has declined, until when it is not asked again (of `time.monotonic`): so many
    seconds as `long_way_s`, which only tests change.
    """

    def __init__(
        self, url: str, keys: Keys, *, retention: Retention | None = None, events_max: int = EVENTS_MAX, replicated: bool = False
    ) -> None:
        """Prepare; connects at the first call. `replicated`: a send counts as stored when a replica has it, too."""
        self.url = url
        self.keys = keys
        self.link = Link(url)
        self._replicated = ReplicatedLink(url, keys.inbox("nobody")) if replicated else None
        self.clock: Callable[[], float] | None = None
        self._retention = told_retention(retention or Retention())
        self._events_max = str(events_max) if events_max else ""
        self._server_clock = ServerClock()
        self.long_way_s = LONG_WAY_S
        self.long_until_s: dict[str, float] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self.link.close()
        if self._replicated is not None:
            await self._replicated.close()

    def new_link(self) -> Link:
        """Return a connection of its own, for a call that waits; its user closes it."""
        return Link(self.url)

    # -- verbs ---------------------------------------------------------------------------------------------------------------------

    async def enqueue(self, jobs: Sequence[NewJobFields]) -> list[int | bytes]:
        """Put up to BATCH_MAX_JOBS jobs into their queues; 1 for each that is stored as sent, 0 for an id of another record.

        For one whose unique key is taken: the id of the job that has it, behind `!` where the send is to be refused.

        Raises RedisUnavailable after ten seconds without an answer, RedisFull at the server's memory limit, and NotReplicated.
        """
        index = QueueIndex(await self.queues() if _replaces(map(flow_of, jobs)) else ())
        argument, blobs, is_plain = packed(index, jobs)
        return cast(
            "list[int | bytes]",
            await self._run(
                scripts.ENQUEUE, index, [self._now(), self._events_max, argument], blobs,
                short=scripts.ENQUEUE_PLAIN if is_plain else None, deadline_s=SEND_DEADLINE_S, link=self._replicated,
            ),
        )  # fmt: skip

    async def settle(
        self, worker: str, verdicts: Sequence[Verdict], *, deadline_s: float | None = None, blob_min_bytes: int = BLOB_MIN_BYTES
    ) -> list[int]:
        """Write verdicts; per run 1 settled, 2 settled before by this token, 0 lease lost. Without verdicts, only forget what is old.

        Results over `blob_min_bytes` go past Lua. At the memory limit the server refuses that way, so they go through Lua then: slow,
        but running work drains. Raises RedisFull only for verdicts with children.
        """
        replaces = _replaces(child.flow for verdict in verdicts if verdict.children for child in verdict.children)
        index = QueueIndex(await self.queues(deadline_s) if replaces else ())
        runs, children, blobs = self._verdict_arguments(index, verdicts, blob_min_bytes)
        arguments: list[Any] = [self._now(), self._events_max, worker, self._retention, len(verdicts), *runs, *children]
        script = scripts.SETTLE_WITH_CHILDREN if children else scripts.SETTLE
        short = scripts.SETTLE_PLAIN if verdicts and all(one.code == "c" and not one.gates for one in verdicts) and not children else None
        try:
            return cast("list[int]", await self._run(script, index, arguments, blobs, short=short, deadline_s=deadline_s))
        except RedisFull:
            if children or not blobs:
                raise
            return await self.settle(worker, verdicts, deadline_s=deadline_s, blob_min_bytes=BATCH_MAX_BYTES)

    def _verdict_arguments(
        self, index: QueueIndex, verdicts: Sequence[Verdict], blob_min_bytes: int
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the arguments of runs, that of their children if there are any, and what is stored apart."""
        runs: list[Any] = []
        children: list[NewJob] = []
        blobs: list[Any] = []
        for verdict in verdicts:
            payload = verdict.payload
            if len(payload) > blob_min_bytes and verdict.code != "n":
                blobs += (f"{verdict.id}={verdict.token}", payload)
                payload = b"\1"
            runs += (verdict.id, payload, verdict.told(index[verdict.queue]))
            children += verdict.children
        if not children:
            return runs, [], blobs
        argument, apart, _ = packed(index, children)
        return runs, [argument], blobs + apart

    async def claim(
        self, link: Link, worker: str, token: str, *,
        queues: Sequence[str], lease_ms: int, capacity: int, free: int, actors: bytes, block: bool, looked_ms: float = 0,
    ) -> Claimed:  # fmt: skip
        """Lease up to `capacity` jobs under one token; with `block`, first wait up to a second for the marker of one of the queues.

        Jobs with gates come only while less than `free` are leased: claimed ahead of a slot, they would hold their gates and not run.
        `looked_ms` is the `now_ms` of the worker's last claim. A call whose answer is lost is sent again at once and gets what it holds.
        """
        wake = ["BZPOPMIN", *(self.keys.queue(queue)[5] for queue in queues), BLOCK_S]
        sent_s, is_resent = time.monotonic(), False

        def attempt() -> Awaitable[Any]:
            nonlocal is_resent
            how, short = ("r", None) if is_resent else ("w" if block else "-", scripts.CLAIM_PLAIN)
            arguments = [self._now(), self._events_max, worker, token, lease_ms, capacity, actors, how, free, looked_ms]
            is_resent = True
            return self._once(link, scripts.CLAIM, queues, arguments, short, [wake] if how == "w" else [])

        return self._claimed(await self._retrying(attempt, None), queues, sent_s)

    async def tick(self, queues: Sequence[str]) -> tuple[float, float]:
        """Move what is due; return the server's time and the next due time (-1 for never), in milliseconds."""
        sent_s = time.monotonic()
        reply = await self._run(scripts.TICK, queues, [self._now()])
        return self._server_time(reply[0], sent_s), float(reply[1])

    async def beat(self, worker: str, info: bytes, queues: Sequence[str], actors: Sequence[str] = ()) -> float:
        """Register a worker or keep it alive; with actors, open the lanes that waited for them. Returns the server's time in ms."""
        sent_s = time.monotonic()
        return self._server_time(await self._run(scripts.BEAT, queues, [self._now(), worker, info, *actors]), sent_s)

    async def expire_worker(
        self, worker: str, queues: Sequence[str], *, died: bool, beat_ms: float | None = None, deadline_s: float | None = None
    ) -> int:
        """Give back all that a worker holds; returns how many, or CHANGED_MEANWHILE when it beat again since `beat_ms`."""
        total = 0
        check = "" if beat_ms is None else repr(beat_ms)
        while True:
            arguments = [self._now(), self._events_max, worker, "l" if died else "x", check]
            given_back: int = await self._run(scripts.EXPIRE_WORKER, queues, arguments, deadline_s=deadline_s)
            if given_back == CHANGED_MEANWHILE:
                return CHANGED_MEANWHILE
            total += given_back
            if given_back < EXPIRE_PAGE:
                return total
            check = ""

    async def renew(self, leases: Sequence[Lease], lease_ms: int) -> tuple[list[str], list[str]]:
        """Extend leases; return the ids of those that are lost, and of those whose runs were asked to stop."""
        return renewed(await self._run(scripts.RENEW, *self._renewal(leases, lease_ms)))

    def renew_command(self, leases: Sequence[Lease], lease_ms: int) -> list[Any]:
        """Return the command of `renew`, for the lease thread."""
        return self._command(scripts.RENEW, *self._renewal(leases, lease_ms))

    def _renewal(self, leases: Sequence[Lease], lease_ms: int) -> tuple[QueueIndex, list[Any]]:
        index = QueueIndex()
        arguments: list[Any] = [self._now(), lease_ms]
        for lease in leases:
            arguments += (index[lease.queue], lease.id, lease.token)
        return index, arguments

    def beat_command(self, worker: str, info: bytes) -> list[Any]:
        """Return the command of `beat` without registration, for the lease thread."""
        return self._command(scripts.BEAT, [], [self._now(), worker, info])

    async def cancel(self, ids: Sequence[str], who: str) -> list[int]:
        """Cancel up to BATCH_MAX_JOBS jobs; 1 ended now, 2 asked to stop, 0 ended before, -1 not known. `who` is quoted as in a URL."""
        arguments = [self._now(), self._events_max, who, *ids]
        return cast("list[int]", await self._run(scripts.CANCEL, await self.queues(), arguments, deadline_s=SEND_DEADLINE_S))

    async def replay(self, failures: Sequence[tuple[NewJob, int, str]]) -> tuple[float, list[int | bytes]]:
        """Let failed jobs (each with its failed_ms and void), some dozens, wait again; returns the server's time in ms, and codes."""
        index = QueueIndex()
        arguments: list[Any] = [self._now(), self._events_max]
        for job, failed_ms, void in failures:
            arguments += (index[job.queue], job.id, failed_ms, job.when, job.record, void, job.flow)
        blobs = [part for job, *_ in failures if job.blob is not None for part in (blob_field(job.id, job.record), job.blob)]
        sent_s = time.monotonic()
        reply = await self._run(scripts.REPLAY, index, arguments, blobs, deadline_s=SEND_DEADLINE_S)
        return self._server_time(reply[0], sent_s), reply[1:]

    async def purge(self, failures: Sequence[tuple[str, int]]) -> list[int]:
        """Forget failed jobs, some dozens, given as (id, failed_ms); 1 for each that is gone, 0 for another failure or none."""
        arguments = [self._now(), self._events_max, *(part for failure in failures for part in failure)]
        return cast("list[int]", await self._run(scripts.PURGE, [], arguments, deadline_s=SEND_DEADLINE_S))

    async def schedule(
        self, name: str, expected: str, new: str, jobs: Sequence[NewJob] = (), *, previous: str = "", how: str = ""
    ) -> tuple[bool, list[int | bytes]]:
        """Change a schedule's record if its head still is `expected`; tell whether it is as wanted, and what became of the jobs."""
        index = QueueIndex(await self.queues() if previous and how == "d" else ())
        argument, blobs, _ = packed(index, jobs)
        script = scripts.SCHEDULE if jobs else scripts.UNSCHEDULE
        arguments = [self._now(), self._events_max, name, expected, new, previous, how, argument]
        reply = await self._run(script, index, arguments, blobs, deadline_s=SEND_DEADLINE_S, link=self._replicated)
        return reply[0] == 1, reply[1:]

    async def control(self, verb: str, what: str, value: str = "", queues: Sequence[str] | None = None) -> None:
        """Pause, resume or change a limit; see control.lua. A sweep over many lanes takes several calls."""
        served = await self.queues() if queues is None else queues
        arguments = [self._now(), verb, what, value]
        while cursor := await self._run(scripts.CONTROL, served, arguments, deadline_s=SEND_DEADLINE_S):
            arguments = [self._now(), "sweep", what, cursor]

    async def watch(self, client: str, ids: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return (code, result) per job: c, f, k ended; w the client's inbox will hear of it; m no such job."""
        reply = await self._run(scripts.WATCH, [], [client, *ids], deadline_s=SEND_DEADLINE_S)
        codes = [code.decode() for code in reply[::2]]
        results = [await self.blob_result(job_id, result) for job_id, result in zip(ids, reply[1::2], strict=True)]
        return list(zip(codes, results, strict=True))

    async def inspect(self, ids: Sequence[str]) -> list[Placed]:
        """Return all that is stored of each job; `state` is '' for one that is not known."""
        placed: list[Placed] = []
        queues = await self.queues()
        for first in range(0, len(ids), BATCH_MAX_JOBS):
            some = ids[first : first + BATCH_MAX_JOBS]
            reply = await self._run(scripts.INSPECT, queues, some, deadline_s=SEND_DEADLINE_S)
            for job_id, row in zip(some, zip(*[iter(reply)] * 7, strict=True), strict=True):
                state, queue, score, record, run, result, note = row
                full = await self.blob_result(job_id, result)
                placed.append(Placed(job_id, state.decode(), queue.decode(), float(score or 0), record, run, full, note))
        return placed

    async def explain(self, job_id: str, queues: Sequence[str], actors: str) -> list[Any]:
        """Return what explain.lua tells of one job."""
        return cast("list[Any]", await self._run(scripts.EXPLAIN, queues, [self._now(), job_id, actors], deadline_s=SEND_DEADLINE_S))

    # -- plain reads ---------------------------------------------------------------------------------------------------------------

    async def command(self, *command: Any) -> Any:
        """Run one plain read and return its reply."""
        return (await self.commands(command))[0]

    async def commands(self, *commands: Sequence[Any], deadline_s: float | None = SEND_DEADLINE_S, link: Link | None = None) -> list[Any]:
        """Run plain reads in one round trip and return their replies; the first error among them is raised, as its own type."""

        async def attempt() -> list[Any]:
            replies = await (link or self.link).call(*commands)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

        return await self._retrying(attempt, deadline_s)

    async def load(self, needed: Iterable[Script]) -> None:
        """Give the server scripts before they are called: it takes some milliseconds to compile one, while all others wait."""
        for script in needed:
            await self.commands(["SCRIPT", "LOAD", script.source], deadline_s=None)

    async def queues(self, deadline_s: float | None = SEND_DEADLINE_S) -> list[str]:
        """Return the names of all queues that ever held a job."""
        [names] = await self.commands(["ZRANGE", self.keys.key("queues"), 0, -1], deadline_s=deadline_s)
        return [name.decode() for name in names]

    async def payloads(self, jobs: Iterable[tuple[str, bytes]], *, deadline_s: float | None = SEND_DEADLINE_S) -> dict[str, bytes]:
        """Return the arguments that are kept apart, by id, of those jobs (id and record) whose are."""
        apart = {job_id: blob_field(job_id, record) for job_id, record in jobs if record.endswith(b"\0")}
        found = await self.commands_list("HMGET", self.keys.key("blobs"), list(apart.values()), deadline_s)
        return {job_id: blob for job_id, blob in zip(apart, found, strict=True) if blob is not None}

    async def commands_list(self, name: str, key: str, members: Sequence[Any], deadline_s: float | None = SEND_DEADLINE_S) -> list[Any]:
        """Run one variadic read in batches bounded in number."""
        some = range(0, len(members), BATCH_MAX_JOBS)
        replies = [await self.commands([name, key, *members[i : i + BATCH_MAX_JOBS]], deadline_s=deadline_s) for i in some]
        return [found for reply in replies for found in reply[0]]

    async def blob_result(self, job_id: str, result: bytes) -> bytes:
        """Return a stored result in full, fetching a payload that is kept apart."""
        head, _, payload = result.partition(b"\0")
        if payload != b"\1":
            return result
        blob = await self.command("HGET", self.keys.key("blobs"), b"%b=%b" % (job_id.encode(), head.partition(b" ")[0]))
        return head + b"\0" + (blob or b"")

    # -- how a call is made --------------------------------------------------------------------------------------------------------

    def server_ms(self) -> float:
        """Return the server's time as last learnt, in milliseconds since 1970."""
        return self.clock() if self.clock else self._server_clock.now_ms()

    async def learn_time(self, deadline_s: float) -> None:
        """Ask the server for its time; raises RedisUnavailable when it does not answer."""
        sent_s = time.monotonic()
        seconds, microseconds = (await self.commands(["TIME"], deadline_s=deadline_s))[0]
        self._server_clock.hear(int(seconds) * 1000 + int(microseconds) / 1000, sent_s)

    def _server_time(self, reply: bytes, sent_s: float) -> float:
        now_ms = float(reply)
        self._server_clock.hear(now_ms, sent_s)
        return now_ms

    def _now(self) -> str:
        return f"{self.clock():.3f}" if self.clock else ""

    def _command(self, script: Script, queues: Iterable[str], arguments: Sequence[Any]) -> list[Any]:
        return evalsha(self.keys, script, queues, arguments, self.server_ms())

    def _run(
        self, script: Script, queues: Iterable[str], arguments: Sequence[Any], blobs: Sequence[Any] = (), *,
        short: Script | None = None, deadline_s: float | None = None, link: Link | None = None,
    ) -> Awaitable[Any]:  # fmt: skip
        """Call a script until it answers; with fields and values of `blobs`, which are stored with it."""
        line = link or self.link
        attempt: Callable[[], Awaitable[Any]] = partial(self._once, line, script, queues, arguments, short)
        if blobs:
            key = self.keys.key("blobs")
            stores = [["HSETNX", key, field, value] for field, value in zip(blobs[::2], blobs[1::2], strict=True)]
            attempt = partial(line.transaction, script, self._command(script, queues, arguments), stores)
        return self._retrying(attempt, deadline_s)

    async def _once(
        self, link: Link, script: Script, queues: Iterable[str], arguments: Sequence[Any], short: Script | None,
        before: Sequence[list[Any]] = (),
    ) -> Any:  # fmt: skip
        """Call a script once, each time behind what stands `before`; first its short way, unless that has declined lately."""
        if short is not None and time.monotonic() >= self.long_until_s.get(short.name, 0):
            reply = await self._call(link, short, queues, arguments, before)
            if reply is not None:
                return reply
            self.long_until_s[short.name] = time.monotonic() + self.long_way_s
        return await self._call(link, script, queues, arguments, before)

    async def _call(
        self, link: Link, script: Script, queues: Iterable[str], arguments: Sequence[Any], before: Sequence[list[Any]]
    ) -> Any:  # fmt: skip
        command = self._command(script, queues, arguments)
        reply = (await link.call(*before, command))[-1]
        if isinstance(reply, NoScriptError):
            reply = (await link.call(scripts.as_eval(script, command)))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _retrying(self, attempt: Callable[[], Awaitable[T]], deadline_s: float | None) -> T:
        loop = asyncio.get_running_loop()
        give_up_at = None if deadline_s is None else loop.time() + deadline_s
        tries = 0
        while True:
            try:
                return await attempt()
            except (LinkLost, ResponseError) as error:
                if isinstance(error, ResponseError) and not passes(error):
                    raise refusal(error, self.url) from error
                tries += 1
                wait_s = pause_s(tries)
                if give_up_at is not None and loop.time() + wait_s > give_up_at:
                    message = f"Redis at {redact(self.url)} did not answer within {deadline_s:g} s: {error}"
                    raise RedisUnavailable(message) from error
                log.warning("Redis at %s: %s; trying again in %.2f s (attempt %d)", redact(self.url), error, wait_s, tries)
            await asyncio.sleep(wait_s)

    def _claimed(self, reply: list[Any], queues: Sequence[str], sent_s: float) -> Claimed:
        now_ms = self._server_time(reply[0], sent_s)
        parked = [name.decode(errors="replace") for name in reply[3]]
        named = map(["", *queues].__getitem__, reply[5::5])
        rows = zip(reply[4::5], named, reply[6::5], reply[7::5], reply[8::5], strict=True)
        # Not by the class, whose constructor is Python and would take as long as all else that is done here.
        new = partial(tuple.__new__, Delivery)  # pyright: ignore[reportUnknownMemberType] - of a tuple of anything
        return Claimed(now_ms, float(reply[1]), reply[2], parked, list(map(new, rows)))


def renewed(reply: list[Any]) -> tuple[list[str], list[str]]:
    """Return the ids of lost leases, and of runs that were asked to stop, out of the answer of `renew`."""
    ids = [job_id.decode() for job_id in reply[1:]]
    return ids[: reply[0]], ids[reply[0] :]


def _replaces(flows: Iterable[str]) -> bool:
    """Whether a job of one of these flows replaces another, which may wait in any queue."""
    return "*r" in ",".join(flows)
