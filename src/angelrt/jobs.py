"""Lists of jobs by state, queue, actor, time and text, in pages that stay cheap however many jobs there are."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import orjson

from . import views
from .actor import check_actor_name
from .errors import InvalidOptions
from .job import JobInfo, View
from .queue import check_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from .client import Client
    from .store import Placed, Store

JobState = Literal["leased", "ready", "lane", "delayed", "failed", "completed", "cancelled"]
STATES: Final[tuple[JobState, ...]] = get_args(JobState)
ENDED: Final = ("failed", "completed", "cancelled")
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
LOOK_MAX: Final = 1_000
"""The most jobs that are looked at for one page, where few of them are what is asked for."""


class JobPage(View):
    """A page of jobs, and the cursor of the next one: None at the end. A page may be short, or empty, before the end."""

    jobs: list[JobInfo]
    cursor: str | None


class _Place(NamedTuple):
    """Where in the walk: the state, its queue ('' for what has ended), and the last member that was seen, with its score."""

    state: str
    queue: str
    score: float | None = None
    member: str = ""

    def write(self) -> str:
        return urlsafe_b64encode(orjson.dumps([*self])).decode().rstrip("=")


class _Wanted(NamedTuple):
    state: JobState | None
    queue: str | None
    actor: str | None
    text: str | None
    since: datetime | None
    until: datetime | None

    @property
    def is_picky(self) -> bool:
        """Whether jobs are looked at one by one."""
        return (self.queue, self.actor, self.text, self.since, self.until) != (None,) * 5

    def has(self, job: JobInfo) -> bool:
        """Whether a job is what is asked for."""
        return (
            self.queue in (None, job.queue)
            and self.actor in (None, job.type)
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
            and (self.text is None or self.text in _words(job))
        )


class Jobs:
    """The jobs of the namespace, as lists; get it as `rt.jobs`."""

    def __init__(self, client: Callable[[], Client]) -> None:
        """Keep how the open client is found."""
        self._client = client

    async def list(
        self, *, state: JobState | None = None, queue: str | None = None, actor: str | None = None, text: str | None = None,
        since: datetime | None = None, until: datetime | None = None, cursor: str | None = None, limit: int = PAGE_DEFAULT,
    ) -> JobPage:  # fmt: skip
        """Return the next jobs: what runs, what waits, what has ended; those that ended last first, others in the order of their state.

        `since` and `until` are of `created_at`; `text` is looked for in ids, actors, arguments, errors and logs, whatever its case. The
        queue of a job that completed or was cancelled is not kept, so `queue` means those that wait, run or failed. One call looks at a
        thousand jobs at most: go on with `cursor` until it is None. Raises InvalidOptions.
        """
        wanted = _wanted(state, queue, actor, text, since, until)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= PAGE_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"list(limit={limit!r}): use a whole number from 1 to {PAGE_MAX}"
            raise InvalidOptions(message)
        store = self._client().store
        places = _places(wanted, await store.queues())
        if cursor is not None:
            begin = _read(cursor)
            if not any((begin.state, begin.queue) == (place.state, place.queue) for place in places):
                message = f"list(cursor={cursor[:60]!r}): a cursor goes on with the list that gave it; ask for the same state and queue"
                raise InvalidOptions(message)
            places = _from(begin, places)
        return await _page(store, wanted, places, limit)

    async def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        store = self._client().store
        places = [(place, _key(store, place)) for place in _places(_wanted(), await store.queues())]
        numbers = await store.commands(*(["ZCARD", key] for _, key in places))
        found: dict[str, int] = dict.fromkeys(map(str, STATES), 0)
        for (place, _), number in zip(places, numbers, strict=True):
            found[place.state] += number
        return found


def _wanted(
    state: JobState | None = None, queue: str | None = None, actor: str | None = None, text: str | None = None,
    since: datetime | None = None, until: datetime | None = None,
) -> _Wanted:  # fmt: skip
    if state is not None and state not in STATES:
        message = f"list(state={state!r}): use one of {', '.join(STATES)}"
        raise InvalidOptions(message)
    for name, time in (("since", since), ("until", until)):
        if time is not None and time.tzinfo is None:
            message = f"list({name}={time!r}): give a time with a zone, as datetime.now(UTC)"
            raise InvalidOptions(message)
    checked = (None if queue is None else check_queue(queue), None if actor is None else check_actor_name(actor))
    return _Wanted(state, *checked, text.casefold() if text else None, since, until)


def _places(wanted: _Wanted, queues: Sequence[str]) -> list[_Place]:
    states = [
        state for state in STATES if wanted.state in (None, state) and (wanted.queue is None or state not in ("completed", "cancelled"))
    ]
    served = [queue for queue in queues if wanted.queue in (None, queue)]
    return [_Place(state, queue) for state in states for queue in ([""] if state in ENDED else served)]


def _from(begin: _Place, places: Sequence[_Place]) -> list[_Place]:
    """Return the walk from a place on: a queue that is new since then is met in its turn."""
    order = list[str](STATES)

    def position(place: _Place) -> tuple[int, str]:
        return order.index(place.state), place.queue

    return [begin, *(place for place in places if position(place) > position(begin))]


def _read(cursor: str) -> _Place:
    try:
        state, queue, score, member = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = _Place(str(state), check_queue(queue) if queue else "", None if score is None else float(score), str(member))
    except (ValueError, TypeError, InvalidOptions):
        place = _Place("", "")
    if place.state not in STATES or (place.queue == "") != (place.state in ENDED):
        message = f"list(cursor={cursor[:60]!r}): pass what the page before gave as `cursor`"
        raise InvalidOptions(message)
    return place


async def _page(store: Store, wanted: _Wanted, places: list[_Place], limit: int) -> JobPage:
    jobs: list[JobInfo] = []
    looked = 0
    while places and looked < LOOK_MAX and len(jobs) < limit:
        most = PAGE_MAX if wanted.is_picky else limit - len(jobs)
        found = await _after(store, wanted, places[0], most)
        looked += len(found)
        for place, job in await _infos(store, places[0].state, found):
            if len(jobs) == limit:
                break
            places[0] = place
            if job is not None and wanted.has(job):
                jobs.append(job)
        else:
            if len(found) < most:
                places.pop(0)
    return JobPage(jobs=jobs, cursor=places[0].write() if places else None)


def _key(store: Store, place: _Place) -> str:
    if place.state in ENDED:
        return store.keys.key(place.state)
    ready, delayed, leased, lanes, *_ = store.keys.queue(place.queue)
    return {"ready": ready, "delayed": delayed, "leased": leased, "lane": lanes}[place.state]


async def _after(store: Store, wanted: _Wanted, place: _Place, most: int) -> list[_Place]:
    """Return the next members of a place. Those that share a score are read again with each page, up to the one that was seen last."""
    key, command = _key(store, place), _range(wanted, place)
    number = most
    while True:
        reply = await store.command(command[0], key, *command[1:], "LIMIT", 0, number)
        scored = [(member, None) for member in reply] if place.state == "lane" else zip(reply[::2], map(float, reply[1::2]), strict=True)
        members = [_Place(place.state, place.queue, score, member.decode()) for member, score in scored]
        fresh = members if place.score is None else [found for found in members if _is_later(found, place)]
        if len(fresh) >= most or len(members) < number:
            return fresh[:most]
        number *= 2


def _range(wanted: _Wanted, place: _Place) -> list[Any]:
    """Return the command, without its key, that reads a place from where it was left."""
    if place.state == "lane":
        return ["ZRANGEBYLEX", f"({place.member}" if place.member else "-", "+"]
    if place.state in ENDED:
        ended_after = "-inf" if wanted.since is None else wanted.since.timestamp() * 1000  # what was made after it ended after it, too
        return ["ZREVRANGEBYSCORE", "+inf" if place.score is None else place.score, ended_after, "WITHSCORES"]
    return ["ZRANGEBYSCORE", "-inf" if place.score is None else place.score, "+inf", "WITHSCORES"]


def _is_later(found: _Place, seen: _Place) -> bool:
    mine, other = ((place.score or 0, place.member.encode()) for place in (found, seen))
    return mine < other if seen.state in ENDED else mine > other


async def _infos(store: Store, state: str, places: Sequence[_Place]) -> list[tuple[_Place, JobInfo | None]]:
    """Return each place with its job; None for one that has gone on meanwhile."""
    ids = [place.member.rpartition("\0")[2] for place in places]
    placed = await store.inspect(ids)
    blobs = await store.payloads((job.id, job.record) for job in placed if job.state)
    return [(place, _info(job, state, blobs.get(job.id))) for place, job in zip(places, placed, strict=True)]


def _info(job: Placed, state: str, blob: bytes | None) -> JobInfo | None:
    return views.job_info(job, blob) if job.state == state else None


def _words(job: JobInfo) -> str:
    error = f"{job.error.type} {job.error.message}" if job.error else ""
    log = " ".join(job.progress.log) if job.progress else ""
    return f"{job.id} {job.type} {orjson.dumps(job.payload, default=str).decode()} {error} {log}".casefold()
