"""Dead letters: the jobs that ended as failed. Find them, let them run again as they are or with other arguments, or forget them."""

from __future__ import annotations

import contextlib
import math
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, Unpack

import orjson
from pydantic_core import from_json, to_json

from . import views
from .actor import QUEUE_DEFAULT, check_actor_name
from .codec import plain_codec
from .config import BATCH_MAX_JOBS, BLOB_MIN_BYTES
from .errors import Draining, DuplicateJob, InvalidArguments, InvalidOptions, JobNotFound
from .job import NONCE_CHARS, ErrorInfo, View, at_ms, blob_field, id_time_ms, shown_payload, shown_record, write_number, write_record
from .new_jobs import NewJob
from .queue import check_queue
from .retry import MAX_DELAY_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from .actor import Actor
    from .client import Client
    from .handle import Job
    from .job import Record
    from .store import Store
    from .views import Run

PAGE_DEFAULT: Final = 50
WALK_JOBS: Final = 50
"""Jobs in a page of a walk, and in one call that replays or purges: with records, errors and gates of every size it stays below 10 ms."""
ERRORS_AT_ONCE: Final = 25
"""Errors that are kept apart, in one reply: each is at most three texts of 8,000 characters."""
ARGUMENTS_AT_ONCE: Final = 4
"""Arguments that are kept apart, in one reply: each is at most 1 MiB."""
PER_SECOND_MIN: Final = 1 / 86_400
PER_SECOND_MAX: Final = 1_000_000
REPLAYED: Final = 1


class DeadLetter(View):
    """A job that ended as failed; times are UTC. `payload` is its arguments by name, None when they are over 4 KiB: see `rt.job(id)`."""

    id: str
    actor: str
    queue: str
    error: ErrorInfo
    attempts: int
    failed_at: datetime
    created_at: datetime
    payload: dict[str, Any] | None = None


class DeadLetterPage(View):
    """Some dead letters, the newest first; `before` is the cursor of the next page, None after the last; `total` counts all there are."""

    letters: list[DeadLetter]
    before: str | None
    total: int


class Replays(View):
    """What came of a replay of many: how many wait again, when the last of them is due (UTC), and how many were refused.

    Refused are those whose unique key another job has by now, and those of a queue, an actor or a key that is drained.
    """

    replayed: int = 0
    refused: int = 0
    last_due_at: datetime | None = None


class DeadLetterFilter(TypedDict, total=False):
    """Which dead letters are meant; all that is given must hold.

    `actor` and `queue` are names. `error` is the type of the error, qualified or not ("TimeoutError", "httpx.ReadTimeout"). `text` stands
    somewhere in the error's message or traceback or in the JSON of the arguments, in upper or lower case. The job failed at or after
    `since` and before `until`, aware datetimes.
    """

    actor: str | None
    queue: str | None
    error: str | None
    text: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A filter that was checked; times are milliseconds, both included."""

    actor: str | None
    queue: str | None
    error: str | None
    text: str | None
    since_ms: int | None
    until_ms: int | None


class _Head(NamedTuple):
    """A failure: when, and of which job. In this order they are listed."""

    failed_ms: int
    id: str


class _Failure(NamedTuple):
    """All that is stored of a failure; the error may be kept apart and is then fetched."""

    head: _Head
    stored: bytes
    record: Record
    run: Run
    error: ErrorInfo

    @property
    def queue(self) -> str:
        """The queue in which the job failed."""
        return views.failed_in(self.run.flow) or QUEUE_DEFAULT


class DeadLetters:
    """What `rt.dead_letters` is. A walk over all of them holds one page of 50 in memory, whatever their number."""

    def __init__(self, client: Callable[[], Client], actors: Mapping[str, Actor[..., Any]]) -> None:
        """Keep the way to the open client, and the actors that are declared here."""
        self._client = client
        self._actors = actors

    # -- finding -------------------------------------------------------------------------------------------------------------------

    async def list(self, limit: int = PAGE_DEFAULT, before: str | None = None) -> DeadLetterPage:
        """Return up to `limit` (1 to 200) dead letters, the newest first; `before` is the cursor that the page before has given.

        A cursor stays good while jobs fail, are replayed and are forgotten. Raises InvalidOptions.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= BATCH_MAX_JOBS:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"list(limit={limit!r}): use a whole number from 1 to {BATCH_MAX_JOBS}"
            raise InvalidOptions(message)
        store = self._client().store
        after = None if before is None else _read_cursor(before)
        heads = await _heads(store, _filter(), after, limit)
        total = await store.command("ZCARD", store.keys.key("failed"))
        letters = [_letter(failure) for failure in await _failures(store, heads)]
        more = f"{heads[-1].failed_ms}:{heads[-1].id}" if len(heads) == limit else None
        return DeadLetterPage(letters=letters, before=more, total=total)

    async def search(self, **wanted: Unpack[DeadLetterFilter]) -> AsyncGenerator[DeadLetter]:
        """Iterate over the dead letters that a filter means (see `DeadLetterFilter`), the newest first, read in pages of 50.

        Raises InvalidOptions.
        """
        async for page in self._pages(_filter(**wanted)):
            for failure in page:
                yield _letter(failure)

    # -- again ---------------------------------------------------------------------------------------------------------------------

    async def replay(self, job_id: str) -> Job[Any]:
        """Let a failed job run again, under its id, at its priority, all its attempts before it; returns its handle.

        It passes its gates again and forgets what would have let it expire; the failed run stays in its timeline. Raises JobNotFound for
        a job that is none or has not failed, DuplicateJob when another job has its unique key by now, Draining.
        """
        failure = await self._failure(job_id)
        return await self._again(failure, _as_it_is(failure))

    async def replay_all(self, *, per_second: float | None = None, **wanted: Unpack[DeadLetterFilter]) -> Replays:
        """Replay what a filter means, without one all there is, in the order in which it failed.

        With `per_second`, each job is due one interval after the one before it, from now on, and after ten years at the latest: the jobs
        wait as delayed ones, and this call returns as soon as all are placed. What fails again meanwhile is left alone. Raises
        InvalidOptions.
        """
        interval_ms = 0.0 if per_second is None else 1000 / _check_rate(per_second)
        store = self._client().store
        first_ms: float | None = None
        placed = refused = taken = 0
        async for page in self._pages(_filter(**wanted), oldest_first=True):
            jobs = [_as_it_is(failure, _when(first_ms, _capped((placed + n) * interval_ms))) for n, failure in enumerate(page)]
            now_ms, codes = await store.replay([(job, failure.head.failed_ms, "") for job, failure in zip(jobs, page, strict=True)])
            first_ms = now_ms if first_ms is None else first_ms
            placed += len(page)
            refused += sum(isinstance(code, bytes) for code in codes)
            taken += codes.count(REPLAYED)
        last_due_at = at_ms(first_ms + _capped((placed - 1) * interval_ms)) if first_ms is not None and taken else None
        return Replays(replayed=taken, refused=refused, last_due_at=last_due_at)

    async def edit_and_replay(self, job_id: str, without: Iterable[str] = (), /, **arguments: Any) -> Job[Any]:
        """Replay a failed job with some arguments changed, added, or (`without`, by name) left out; the others stay as they were sent.

        Where the actor is declared, its signature checks them and its limits give the gates, as for a send; any other gets plain JSON.
        Raises InvalidArguments, PayloadTooLarge, and what `replay` raises; the failed job is then as it was.
        """
        client, failure = self._client(), await self._failure(job_id)
        stored = await self._arguments(failure)
        dropped = {without} if isinstance(without, str) else set(without)
        missing = dropped - from_json(stored).keys()
        if missing:
            message = f"job {job_id} has no argument {', '.join(sorted(missing))} that could be left out"
            raise InvalidArguments(message)
        actor = self._actors.get(failure.record.actor)
        encoded = _edited(actor, failure.record.actor, stored, dropped, arguments)
        flow = client.gates(failure.record.actor, failure.queue, encoded, actor)
        if actor is not None and actor.definition.unique is not None:
            flow.append(actor.definition.unique.item(actor.name, encoded, actor.signature.defaults))
        return await self._again(failure, _with_arguments(failure, encoded, flow))

    # -- forgetting ----------------------------------------------------------------------------------------------------------------

    async def purge(self, job_id: str | None = None, /, *, everything: bool = False, **wanted: Unpack[DeadLetterFilter]) -> int:
        """Forget one failed job, those that a filter means, or with `everything=True` all of them; returns how many.

        Nothing is left of them: a later send with such an id is a new job. Raises JobNotFound, and InvalidOptions when nothing is named.
        """
        store, checked = self._client().store, _filter(**wanted)
        named = [job_id is not None, everything, checked != _filter()]
        if sum(named) != 1:
            message = "purge: name one job, or a filter, or everything=True"
            raise InvalidOptions(message)
        if job_id is not None:
            failure = await self._failure(job_id)
            return sum(await store.purge([(job_id, failure.head.failed_ms)]))
        purged = 0
        async for page in self._pages(checked):
            purged += sum(await store.purge([(failure.head.id, failure.head.failed_ms) for failure in page]))
        return purged

    # -- for code that is not asynchronous -----------------------------------------------------------------------------------------

    def list_sync(self, limit: int = PAGE_DEFAULT, before: str | None = None) -> DeadLetterPage:
        """Do what `list` does, from code that is not asynchronous."""
        return self._client().run_sync(lambda: self.list(limit, before))

    def search_sync(self, **wanted: Unpack[DeadLetterFilter]) -> Iterator[DeadLetter]:
        """Do what `search` does, from code that is not asynchronous."""
        pages = self._pages(_filter(**wanted))
        run_sync = self._client().run_sync

        async def next_page() -> Sequence[_Failure]:
            async for page in pages:
                return page
            return ()

        while page := run_sync(next_page):
            yield from map(_letter, page)

    def replay_sync(self, job_id: str) -> Job[Any]:
        """Do what `replay` does, from code that is not asynchronous."""
        return self._client().run_sync(lambda: self.replay(job_id))

    def replay_all_sync(self, *, per_second: float | None = None, **wanted: Unpack[DeadLetterFilter]) -> Replays:
        """Do what `replay_all` does, from code that is not asynchronous."""
        return self._client().run_sync(lambda: self.replay_all(per_second=per_second, **wanted))

    def edit_and_replay_sync(self, job_id: str, without: Iterable[str] = (), /, **arguments: Any) -> Job[Any]:
        """Do what `edit_and_replay` does, from code that is not asynchronous."""
        return self._client().run_sync(lambda: self.edit_and_replay(job_id, without, **arguments))

    def purge_sync(self, job_id: str | None = None, /, *, everything: bool = False, **wanted: Unpack[DeadLetterFilter]) -> int:
        """Do what `purge` does, from code that is not asynchronous."""
        return self._client().run_sync(lambda: self.purge(job_id, everything=everything, **wanted))

    # -- one failure, and many -----------------------------------------------------------------------------------------------------

    async def _failure(self, job_id: str) -> _Failure:
        store = self._client().store
        score = await store.command("ZSCORE", store.keys.key("failed"), job_id)
        found = [] if score is None else await _failures(store, [_Head(int(float(score)), job_id)])
        if found:
            return found[0]
        [placed] = await store.inspect([job_id])
        message = f"job {job_id!r} is no dead letter: it is {placed.state}" if placed.state else views.not_found(job_id)
        raise JobNotFound(message)

    async def _arguments(self, failure: _Failure) -> bytes:
        apart = await self._client().store.payloads([(failure.head.id, failure.stored)])
        return failure.record.arguments or apart.get(failure.head.id, b"{}")

    async def _again(self, failure: _Failure, job: NewJob) -> Job[Any]:
        void = blob_field(job.id, failure.stored) if job.record and failure.stored.endswith(b"\0") else ""
        _, [code] = await self._client().store.replay([(job, failure.head.failed_ms, void)])
        if isinstance(code, bytes):
            raise _refusal(job.id, code.decode())
        if code != REPLAYED:
            message = f"job {job.id!r} is no dead letter any more: somebody else has just replayed or purged it"
            raise JobNotFound(message)
        return self._client().handle(job.id, self._actors.get(failure.record.actor))

    async def _pages(self, wanted: _Wanted, *, oldest_first: bool = False) -> AsyncGenerator[Sequence[_Failure]]:
        """Yield what a filter means in pages that are not empty; what fails after the walk has begun is not met."""
        store = self._client().store
        newest = await store.command("ZRANGE", store.keys.key("failed"), -1, -1, "WITHSCORES")
        if not newest:
            return
        limit_ms = int(float(newest[1]))
        until_ms = limit_ms if wanted.until_ms is None else min(wanted.until_ms, limit_ms)
        bounded = _Wanted(wanted.actor, wanted.queue, wanted.error, wanted.text, wanted.since_ms, until_ms)
        last: _Head | None = None
        while heads := await _heads(store, bounded, last, WALK_JOBS, oldest_first=oldest_first):
            last = heads[-1]
            page = [failure for failure in await _failures(store, heads) if _is_of(failure, bounded)]
            found = page if wanted.text is None else await _with_text(store, page, wanted.text.casefold())
            if found:
                yield found


def _filter(
    *,
    actor: str | None = None,
    queue: str | None = None,
    error: str | None = None,
    text: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> _Wanted:
    """Return a checked filter. Raises InvalidOptions."""
    for name, value in (("error", error), ("text", text)):
        if value is not None and not (isinstance(value, str) and value):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"{name}={value!r}: give the text that is looked for"
            raise InvalidOptions(message)
    return _Wanted(
        actor if actor is None else check_actor_name(actor),
        queue if queue is None else check_queue(queue),
        error,
        text,
        None if since is None else math.ceil(_time_ms("since", since)),
        None if until is None else math.ceil(_time_ms("until", until)) - 1,
    )


def _time_ms(name: str, time: datetime) -> float:
    if not isinstance(time, datetime) or time.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"{name}={time!r}: give a datetime with a zone, as datetime.now(UTC) - timedelta(hours=1)"
        raise InvalidOptions(message)
    return time.timestamp() * 1000


def _check_rate(per_second: float) -> float:
    if isinstance(per_second, bool) or not isinstance(per_second, int | float) or not PER_SECOND_MIN <= per_second <= PER_SECOND_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"replay_all(per_second={per_second!r}): use one a day to {PER_SECOND_MAX:,} a second"
        raise InvalidOptions(message)
    return per_second


def _capped(delay_ms: float) -> float:
    return min(delay_ms, MAX_DELAY_S * 1000)


def _read_cursor(cursor: str) -> _Head:
    failed_ms, _, job_id = cursor.partition(":")
    if not failed_ms.isdecimal() or not job_id:
        message = f"{cursor[:60]!r} is no cursor: pass what the page before gave"
        raise InvalidOptions(message)
    return _Head(int(failed_ms), job_id)


async def _heads(store: Store, wanted: _Wanted, after: _Head | None, most: int, *, oldest_first: bool = False) -> list[_Head]:
    """Return the next `most` failures after one in the order of the walk, fewer only at its end.

    Jobs that failed in the same millisecond are read again with each page, up to the one after which it begins.
    """
    low_ms, high_ms = wanted.since_ms, wanted.until_ms
    if after is not None and oldest_first:
        low_ms = max(after.failed_ms, low_ms or 0)
    elif after is not None:
        high_ms = after.failed_ms if high_ms is None else min(after.failed_ms, high_ms)
    low, high = "-inf" if low_ms is None else low_ms, "+inf" if high_ms is None else high_ms
    command = ("ZRANGEBYSCORE", low, high) if oldest_first else ("ZREVRANGEBYSCORE", high, low)
    number = most + 1
    while True:
        reply = await store.command(command[0], store.keys.key("failed"), *command[1:], "WITHSCORES", "LIMIT", 0, number)
        heads = [_Head(int(float(score)), job_id.decode()) for job_id, score in zip(reply[::2], reply[1::2], strict=True)]
        fresh = [head for head in heads if after is None or (head > after if oldest_first else head < after)]
        if len(fresh) >= most or len(heads) < number:
            return fresh[:most]
        number *= 2


async def _failures(store: Store, heads: Sequence[_Head]) -> list[_Failure]:
    """Return what is stored of failures, without those that were forgotten meanwhile."""
    ids = [head.id for head in heads]
    records = await store.commands_list("HMGET", store.keys.key("jobs"), ids)
    results = await store.commands_list("HMGET", store.keys.key("results"), ids)
    there = [(head, *both) for head, *both in zip(heads, records, results, strict=True) if None not in both]
    outcomes = [views.read_outcome(result) for _, _, result in there]
    apart = [f"{head.id}={run.token}" for (head, *_), (run, payload) in zip(there, outcomes, strict=True) if payload == b"\1"]
    blobs = dict(zip(apart, await _blobs(store, apart, ERRORS_AT_ONCE), strict=True))
    return [
        _Failure(head, stored, shown_record(stored), run, _error(blobs.get(f"{head.id}={run.token}", payload)))
        for (head, stored, _), (run, payload) in zip(there, outcomes, strict=True)
    ]


async def _blobs(store: Store, names: Sequence[str], at_once: int) -> list[bytes]:
    found: list[bytes] = []
    for first in range(0, len(names), at_once):
        found += [blob or b"" for blob in await store.command("HMGET", store.keys.key("blobs"), *names[first : first + at_once])]
    return found


async def _with_text(store: Store, page: Sequence[_Failure], text: str) -> list[_Failure]:
    """Return the failures in which a text stands; arguments that are kept apart are looked at a few at a time, and not kept."""
    found = {failure.head for failure in page if _has(text, failure.error.message, failure.error.traceback, failure.record.arguments)}
    rest = [failure for failure in page if failure.head not in found and failure.stored.endswith(b"\0")]
    for first in range(0, len(rest), ARGUMENTS_AT_ONCE):
        some = rest[first : first + ARGUMENTS_AT_ONCE]
        blobs = await _blobs(store, [blob_field(failure.head.id, failure.stored) for failure in some], ARGUMENTS_AT_ONCE)
        found |= {failure.head for failure, blob in zip(some, blobs, strict=True) if _has(text, blob)}
    return [failure for failure in page if failure.head in found]


def _has(text: str, *where: str | bytes) -> bool:
    return any(text in (part if isinstance(part, str) else part.decode()).casefold() for part in where)


def _is_of(failure: _Failure, wanted: _Wanted) -> bool:
    kind = failure.error.type
    return (
        wanted.actor in (None, failure.record.actor)
        and wanted.queue in (None, failure.queue)
        and (wanted.error is None or kind == wanted.error or kind.endswith(f".{wanted.error}"))
    )


def _error(payload: bytes) -> ErrorInfo:
    failure = orjson.loads(payload or b"{}")
    return ErrorInfo(type=failure.get("type", ""), message=failure.get("message", ""), traceback=failure.get("traceback", ""))


def _letter(failure: _Failure) -> DeadLetter:
    record = failure.record
    return DeadLetter(
        id=failure.head.id,
        actor=record.actor,
        queue=failure.queue,
        error=failure.error,
        attempts=failure.run.attempts,
        failed_at=at_ms(failure.head.failed_ms),
        created_at=at_ms(record.meta.get("e") or id_time_ms(failure.head.id)),
        payload=shown_payload(record.arguments) if record.arguments else None,
    )


def _when(first_ms: float | None, after_ms: float) -> str:
    """Return when a job is due: after the first call's time, which is the server's and known when that call was answered."""
    if not after_ms:
        return ""
    return f"+{after_ms:.3f}" if first_ms is None else f"{first_ms + after_ms:.3f}"


def _as_it_is(failure: _Failure, when: str = "") -> NewJob:
    return NewJob(failure.queue, failure.head.id, b"", None, when)


def _with_arguments(failure: _Failure, encoded: bytes, gates: list[str]) -> NewJob:
    """Return a failed job with other arguments and gates; it keeps its tenant, its priority and its options."""
    old, record = blob_field(failure.head.id, failure.stored), failure.record
    nonce = old[-NONCE_CHARS:]
    while old.endswith(nonce):
        nonce = write_number(secrets.randbits(6 * NONCE_CHARS), NONCE_CHARS)
    blob = encoded if len(encoded) > BLOB_MIN_BYTES else None
    flow = [*gates, *(item for item in failure.run.flow.split(",") if item[0] in "pt")]
    stored = write_record(record.actor, nonce, record.meta, b"" if blob else encoded)
    return _as_it_is(failure)._replace(record=stored, blob=blob, flow=",".join(flow) or "-")


def _edited(
    actor: Actor[..., Any] | None, name: str, stored: bytes, dropped: set[str], arguments: Mapping[str, Any]
) -> bytes:  # fmt: skip
    """Return the JSON of changed arguments. Raises InvalidArguments and PayloadTooLarge."""
    kept = {key: value for key, value in from_json(stored).items() if key not in dropped}
    if actor is None:
        return plain_codec(name).encode({**kept, **arguments})
    with contextlib.suppress(InvalidArguments):  # what is wrong in them may be what is changed now
        kept = actor.signature.decode(to_json(kept))
    return actor.signature.encode((), {**kept, **arguments})


def _refusal(job_id: str, answer: str) -> DuplicateJob | Draining:
    if answer.startswith("#"):
        return Draining.of(answer[1:])
    return DuplicateJob(f"job {job_id} cannot be replayed now: job {answer} does the same work", answer)
