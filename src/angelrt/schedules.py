"""Schedules: messages that are sent again and again, by cron or at an interval, without a leader.

The next occurrence of a schedule is an ordinary delayed job. When its time has come, a worker that could run it inserts the one after it:
whoever is first, by compare-and-set on the schedule's record. A record is `REV LAST SINCE NEXT NUL JSON`: a random word for each change by
hand, the latest time that has come due, the time before which there is no occurrence, and the time of the job that waits; times are
milliseconds since 1970, 0 for none.
"""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass, fields, replace
from datetime import datetime  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic_core import from_json

from .actor import Message, SendOptions
from .config import whoami
from .cron import Timetable, check_misfire, timetable
from .errors import InvalidOptions
from .job import View, at_ms, write_number
from .keys import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from .client import Client
    from .new_jobs import NewJob
    from .store import Store

log = logging.getLogger("angelrt")

NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
OCCURRENCE: Final = "cron:"
"""The ids of occurrences begin so; the schedule's name and the time in ms follow."""
REV_CHARS: Final = 6
OF_THE_FLEET: Final = {"paused", "anchor_ms"}
"""What a stored plan has beside what the code declares."""


class ScheduleInfo(View):
    """A schedule. `every` is in seconds, times are UTC; `next_job` is the id of the job that waits for `next_at`."""

    name: str
    actor: str
    queue: str
    payload: dict[str, Any]
    cron: str | None = None
    every: float | None = None
    zone: str
    misfire: str
    next_at: datetime | None = None
    last_at: datetime | None = None
    next_job: str | None = None
    paused_by: str | None = None
    paused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is declared: what is sent, when, and what becomes of occurrences that were missed."""

    name: str
    message: Message[Any]
    times: Timetable
    misfire: str

    def plan(self) -> dict[str, Any]:
        """Return what is stored of the declaration."""
        options = {field.name: getattr(self.message.options, field.name) for field in fields(SendOptions)}
        definition = self.message.actor.definition
        return {
            "actor": definition.name,
            "queue": self.message.options.queue or definition.queue,
            "arguments": self.message.arguments.decode(),
            "options": {name: value for name, value in options.items() if value is not None},
            "cron": self.times.cron,
            "every_ms": self.times.every_ms,
            "zone": self.times.zone,
            "misfire": self.misfire,
        }


def declare(
    name: str, message: Message[Any], *, cron: str | None, every: float | timedelta | None, zone: str, misfire: str
) -> Schedule:  # fmt: skip
    """Return a checked schedule. Raises InvalidOptions."""
    if not matches(NAME, name):
        text = f"schedule {str(name)[:60]!r}: a name is 1 to 64 letters, digits, '_', '.', ':', '/' or '-'"
        raise InvalidOptions(text)
    if not isinstance(message, Message):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        text = f"schedule {name}: pass what is to be sent as actor.message(...), not {message!r}"
        raise InvalidOptions(text)
    options = message.options
    if options.id is not None or options.delay_s is not None or options.at_ms is not None:
        text = f"schedule {name}: it sets id and time of each occurrence itself; leave id=, delay= and at= out of the message's options"
        raise InvalidOptions(text)
    message.actor.definition.check_send(options)
    return Schedule(name, message, timetable(cron=cron, every=every, zone=zone), check_misfire(misfire))


@dataclass(frozen=True, slots=True)
class Stored:
    """A schedule's record. Times are milliseconds since 1970, 0 for none."""

    name: str
    plan: dict[str, Any]
    rev: str
    last_ms: int = 0
    since_ms: int = 0
    next_ms: int = 0

    @classmethod
    def read(cls, name: str, value: bytes) -> Stored:
        """Return what a record says."""
        head, _, plan = value.partition(b"\0")
        rev, *times = head.decode().split()
        return cls(name, from_json(plan), rev, *map(int, times))

    @property
    def head(self) -> str:
        """What a change of the record is compared by."""
        return f"{self.rev} {self.last_ms} {self.since_ms} {self.next_ms}"

    @property
    def value(self) -> str:
        """The whole record."""
        return f"{self.head}\0{orjson.dumps(self.plan).decode()}"

    @property
    def times(self) -> Timetable:
        """When it comes."""
        plan = self.plan
        return Timetable(cron=plan["cron"], every_ms=plan["every_ms"], zone=plan["zone"], anchor_ms=plan["anchor_ms"])

    @property
    def is_paused(self) -> bool:
        """Whether it inserts nothing."""
        return "paused" in self.plan

    def declared(self) -> dict[str, Any]:
        """Return what the code has declared of it."""
        return {name: value for name, value in self.plan.items() if name not in OF_THE_FLEET}

    def came_due(self, now_ms: float) -> int:
        """Return the latest time that has come due."""
        return self.next_ms if 0 < self.next_ms <= now_ms else self.last_ms

    def jobs(self) -> str:
        """Name the jobs that may wait, parted by spaces."""
        return " ".join(occurrence_id(self.name, ms) for ms in (self.last_ms, self.next_ms) if ms)

    def info(self, now_ms: float) -> ScheduleInfo:
        """Return the public view."""
        plan, last_ms, paused = self.plan, self.came_due(now_ms), self.plan.get("paused", {})
        upcoming = None if paused else self.next_ms or self.times.after(max(now_ms, self.last_ms))
        return ScheduleInfo(
            name=self.name,
            actor=plan["actor"],
            queue=plan["queue"],
            payload=from_json(plan["arguments"] or "{}"),
            cron=plan["cron"],
            every=None if plan["every_ms"] is None else plan["every_ms"] / 1000,
            zone=plan["zone"],
            misfire=plan["misfire"],
            next_at=at_ms(upcoming) if upcoming else None,
            last_at=at_ms(last_ms) if last_ms else None,
            next_job=occurrence_id(self.name, self.next_ms) if self.next_ms else None,
            paused_by=paused.get("by"),
            paused_at=at_ms(paused["at"]) if paused else None,
        )


def occurrence_id(name: str, ms: int) -> str:
    """Return the id of the job of one occurrence, the same whoever inserts it."""
    return f"{OCCURRENCE}{name}:{ms}"


def occurrence(client: Client, stored: Stored, message: Message[Any], ms: int) -> NewJob:
    """Return the job of one occurrence, with the gates that its actor has now.

    It has no unique key: it is inserted while the one before it is due, which would be in its way. One of a schedule that skips expires
    when the next one is due.
    """
    expires_s, is_skipped = message.options.expires_s, stored.plan["misfire"] == "skip"
    following = stored.times.after(ms) if is_skipped else None
    ends = [following or 0, 0 if expires_s is None else ms + round(expires_s * 1000)]
    options = replace(message.options, id=occurrence_id(stored.name, ms), at_ms=float(ms), expires_s=None)
    job = client.new_job(replace(message, options=options))
    flow = [item for item in job.flow.split(",") if item and not item.startswith("u")]
    flow += [f"x{min(filter(None, ends))}"] if any(ends) else []
    return job._replace(flow=",".join(flow))


async def find(store: Store, name: str) -> Stored | None:
    """Return a schedule's record, or None."""
    value = await store.command("HGET", store.keys.key("schedules"), name)
    return None if value is None else Stored.read(name, value)


async def find_all(store: Store) -> list[Stored]:
    """Return every schedule's record, by name; one that cannot be read is left out, for the sake of the others."""
    reply = await store.command("HGETALL", store.keys.key("schedules"))
    found: list[Stored] = []
    for name, value in zip(reply[::2], reply[1::2], strict=True):
        try:
            found.append(Stored.read(name.decode(), value))
        except (ValueError, TypeError):
            log.warning("the record of schedule %s is not of this version of angelrt: it is left alone", name.decode())
    return sorted(found, key=lambda stored: stored.name)


async def put(client: Client, schedule: Schedule) -> Stored:
    """Store a schedule with its first occurrence, or change the one of this name; one that is declared as before is left alone.

    A change takes an occurrence away whose time has not come, and begins anew from now. What was paused stays so.
    """
    store, plan = client.store, schedule.plan()
    while True:
        old = await find(store, schedule.name)
        if old is not None and old.declared() == plan:
            return old
        now_ms = await server_ms(store)
        wanted = _begun(schedule.name, plan, old, now_ms)
        jobs = [occurrence(client, wanted, schedule.message, wanted.next_ms)] if wanted.next_ms else []
        upcoming = occurrence_id(old.name, old.next_ms) if old and old.next_ms > now_ms else ""
        if await _write(store, wanted.name, old, wanted, upcoming, jobs):
            return wanted


def _begun(name: str, plan: dict[str, Any], old: Stored | None, now_ms: float) -> Stored:
    """Return the record of a schedule that is new or changed."""
    anchor_ms, last_ms = int(now_ms), 0
    if old is not None:
        last_ms = old.came_due(now_ms)
        anchor_ms = old.plan["anchor_ms"] if old.plan["every_ms"] == plan["every_ms"] else anchor_ms
        plan = plan | ({"paused": old.plan["paused"]} if old.is_paused else {})
    fresh = Stored(name, plan | {"anchor_ms": anchor_ms}, _rev(), last_ms, int(now_ms))
    upcoming = None if fresh.is_paused else fresh.times.after(max(now_ms, last_ms))
    return replace(fresh, next_ms=upcoming or 0)


async def _write(store: Store, name: str, old: Stored | None, new: Stored | None, taken_away: str, jobs: Sequence[NewJob] = ()) -> bool:
    """Write a record by compare-and-set; None is no record. Jobs that wait unbegun are taken away. Tells whether it is as wanted."""
    expected, value = old.head if old else "", new.value if new else ""
    applied, _ = await store.schedule(name, expected, value, jobs, previous=taken_away, how="d" if taken_away else "")
    return applied


def _rev() -> str:
    return write_number(secrets.randbits(6 * REV_CHARS), REV_CHARS)


async def server_ms(store: Store) -> float:
    """Ask the server for its time: a process that only sends has not learnt it yet."""
    if store.clock is not None:
        return store.clock()
    second, microseconds = await store.command("TIME")
    return int(second) * 1000 + int(microseconds) / 1000


class Schedules:
    """What `rt.schedules` is."""

    def __init__(self, client: Callable[[], Client]) -> None:
        """Keep the way to the client of the open runtime."""
        self._client = client

    async def add(
        self, name: str, message: Message[Any], *, cron: str | None = None, every: float | timedelta | None = None, zone: str = "UTC",
        misfire: str = "skip",
    ) -> ScheduleInfo:  # fmt: skip
        """Send a message again and again: by `cron` in a time zone, or `every` so many seconds (or a timedelta) from now on.

        One of this name is changed; one that is just so is left alone. `misfire` is for occurrences that were missed while no worker ran:
        "skip" drops them, "once" makes up for all of them with one, "all" with each. Raises InvalidOptions.
        """
        stored = await put(self._client(), declare(name, message, cron=cron, every=every, zone=zone, misfire=misfire))
        return await self._info(stored)

    async def list(self) -> Sequence[ScheduleInfo]:
        """Return all schedules, by name."""
        now_ms = await server_ms(self._store)
        return [stored.info(now_ms) for stored in await find_all(self._store)]

    async def get(self, name: str) -> ScheduleInfo:
        """Return one schedule. Raises InvalidOptions for a name that is not there."""
        return await self._info(await self._existing(name))

    async def pause(self, name: str, *, by: str = "") -> ScheduleInfo:
        """Send nothing until `resume`; an occurrence that waits is cancelled, one that has begun goes on. Raises InvalidOptions."""
        while True:
            old, now_ms = await self._existing(name), await server_ms(self._store)
            if old.is_paused:
                return old.info(now_ms)
            plan = old.plan | {"paused": {"by": by or whoami(), "at": now_ms}}
            new = replace(old, plan=plan, rev=_rev(), last_ms=old.came_due(now_ms), next_ms=0)
            if await _write(self._store, name, old, new, old.jobs()):
                return new.info(now_ms)

    async def resume(self, name: str) -> ScheduleInfo:
        """Go on from now; what a pause left out is not made up for. The workers notice within seconds. Raises InvalidOptions."""
        while True:
            old, now_ms = await self._existing(name), await server_ms(self._store)
            if not old.is_paused:
                return old.info(now_ms)
            plan = {field: value for field, value in old.plan.items() if field != "paused"}
            new = replace(old, plan=plan, rev=_rev(), since_ms=int(now_ms))
            if await _write(self._store, name, old, new, ""):
                return new.info(now_ms)

    async def remove(self, name: str) -> None:
        """Forget a schedule; an occurrence that waits is cancelled. One that the code declares comes back with the next worker that starts.

        Raises InvalidOptions for a name that is not there.
        """
        while True:
            old = await self._existing(name)
            if await _write(self._store, name, old, None, old.jobs()):
                return

    @property
    def _store(self) -> Store:
        return self._client().store

    async def _existing(self, name: str) -> Stored:
        stored = await find(self._store, name)
        if stored is None:
            names = ", ".join(one.name for one in await find_all(self._store)) or "there is none"
            message = f"no schedule is named {name!r}: {names}"
            raise InvalidOptions(message)
        return stored

    async def _info(self, stored: Stored) -> ScheduleInfo:
        return stored.info(await server_ms(self._store))
