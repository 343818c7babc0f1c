"""The loop that keeps schedules going: when an occurrence is due, the one after it is inserted.

Every worker that could run an occurrence tries, and compare-and-set lets one succeed; so there is no leader to be lost. A worker without
the actor, or that does not serve its queue, leaves the schedule alone: then nothing piles up that nobody runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from .. import schedules
from ..actor import Message, SendOptions
from ..config import BATCH_MAX_BYTES
from ..cron import CATCH_UP_MAX
from ..errors import RedisFull, RedisRefused, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..actor import Actor
    from ..client import Client
    from ..cron import Steps
    from ..new_jobs import NewJob
    from ..schedules import Schedule, Stored

log = logging.getLogger("angelrt.worker")

READ_AGAIN_S: Final = 10.0
"""How often schedules are read again, for those that somebody added, changed or resumed; errors are logged as often."""
SPREAD_S: Final = 0.2
"""Workers wake up this far apart, so that most find the work of the first done."""


class ScheduleLoop:
    """Sleeps until a schedule needs its next occurrence, and inserts it."""

    def __init__(
        self, client: Client, actors: Mapping[str, Actor[..., Any]], queues: Sequence[str], declared: Sequence[Schedule]
    ) -> None:  # fmt: skip
        """Keep the collaborators; `declared` are the schedules of the code."""
        self._client = client
        self._actors = actors
        self._queues = queues
        self._unregistered = list(declared)
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Hear that an occurrence has been claimed here, so that another is wanted, perhaps of a schedule that is new."""
        self._hurried.set()

    async def register(self) -> None:
        """Store the schedules that the code declares, now or, at the server's memory limit, later: a full server is to be drained."""
        try:
            while self._unregistered:
                await schedules.put(self._client, self._unregistered[0])
                del self._unregistered[0]
        except RedisFull as error:
            log.warning("schedules are not stored yet: %s", error)

    async def run(self) -> None:
        """Keep going until cancelled."""
        while True:
            self._hurried.clear()
            read_again_s = READ_AGAIN_S * random.uniform(0.7, 1.3)  # noqa: S311 - jitter
            try:
                await self.register()
                next_ms = await self.advance()
            except (RedisRefused, RedisFull, RedisUnavailable) as error:
                log.warning("schedules wait, and are tried again in %.1f s: %s", read_again_s, error)
                await asyncio.sleep(read_again_s)
                continue
            wait_s = (next_ms - self._client.store.server_ms()) / 1000 + random.uniform(0, SPREAD_S)  # noqa: S311 - jitter
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(min(wait_s, read_again_s), 0)):
                    await self._hurried.wait()

    async def advance(self) -> float:
        """Insert what follows occurrences that are due; return the time of the next one in ms, infinity for none."""
        earliest = math.inf
        for stored in await schedules.find_all(self._client.store):
            while (next_ms := await self._advance(stored)) <= self._client.store.server_ms():
                again = await schedules.find(self._client.store, stored.name)
                if again is None:
                    break
                stored = again  # noqa: PLW2901 - the same schedule, as it is now
            else:
                earliest = min(earliest, next_ms)
        return earliest

    async def _advance(self, stored: Stored) -> float:
        """Insert what follows the occurrence of one schedule, if that is due; return when it is to be looked at again, in ms."""
        actor = self._actors.get(stored.plan["actor"])
        if stored.is_paused or actor is None or stored.plan["queue"] not in self._queues:
            return math.inf
        now_ms = self._client.store.server_ms()
        if stored.next_ms > now_ms:
            return stored.next_ms
        try:
            steps, jobs = self._following(stored, actor, now_ms)
        except Exception:  # a record of another version, arguments that the actor no longer takes
            log.exception("schedule %s cannot go on here; it is tried again in about %g s", stored.name, READ_AGAIN_S)
            return math.inf
        new = replace(stored, last_ms=self._last_ms(stored, steps), next_ms=steps.next_ms)
        if new == stored:
            return math.inf
        previous = schedules.occurrence_id(stored.name, stored.next_ms) if steps.missed_ms else ""
        how = str(steps.missed_ms or "")
        applied, codes = await self._client.store.schedule(stored.name, stored.head, new.head, jobs, previous=previous, how=how)
        if applied:
            self._tell(stored, steps, now_ms, codes)
        return steps.next_ms or math.inf

    def _following(self, stored: Stored, actor: Actor[..., Any], now_ms: float) -> tuple[Steps, list[NewJob]]:
        plan = stored.plan
        message: Message[Any] = Message(actor, plan["arguments"].encode(), SendOptions(**plan["options"]))
        due_ms = stored.next_ms or max(stored.last_ms, stored.since_ms)
        most = max(1, min(CATCH_UP_MAX, BATCH_MAX_BYTES // (len(message.arguments) + 1)))
        steps = stored.times.steps(plan["misfire"], due_ms, now_ms, most)
        return steps, [schedules.occurrence(self._client, stored, message, ms) for ms in steps.times_ms]

    @staticmethod
    def _last_ms(stored: Stored, steps: Steps) -> int:
        """Return the latest occurrence that has come due; the time of a resumption is none."""
        return steps.last_ms if stored.next_ms or steps.last_ms > stored.since_ms else stored.last_ms

    @staticmethod
    def _tell(stored: Stored, steps: Steps, now_ms: float, codes: Sequence[int | bytes]) -> None:
        drained = next((code.decode()[1:] for code in codes if isinstance(code, bytes) and code.startswith(b"#")), "")
        if drained:
            log.warning("schedule %s: an occurrence is left out, since %s is drained", stored.name, drained)
        if len(steps.times_ms) > 1 or (stored.next_ms and stored.times.after(stored.next_ms) != steps.next_ms):
            late_s = (now_ms - (stored.next_ms or stored.since_ms)) / 1000
            log.warning("schedule %s: nobody was there for %.0f s; missed occurrences: %s", stored.name, late_s, stored.plan["misfire"])
