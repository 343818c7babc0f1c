"""The runs of one worker: who occupies a slot, and whose lease is to be renewed until its verdict is written."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..actor import Actor
    from ..context import Context
    from ..tracing import RunSpan


AHEAD_S: Final = 0.005
"""A claim runs ahead of the slots by what ends in this time: more than a round trip, far less than anybody notices."""
PACE_SAMPLE_S: Final = 0.001
DEATHS_MAX: Final = 3
"""A job that ran in so many deaths was alone in the last: it is not run again. As PROVEN in _suspects.lua."""


@dataclass(slots=True, eq=False)
class Run:
    """One delivery on its way through the worker. Times in seconds are monotonic, those in ms of the server."""

    id: str
    queue: str
    token: str
    actor: Actor[..., Any]
    arguments: bytes
    attempt: int
    attempts_max: int
    timeout_s: float
    ready_ms: float
    started_ms: float
    started_s: float
    flow: str = "-"
    deaths: int = 0
    """In how many deaths of workers in a row the job ran."""
    process_deaths: int = 0
    """How many of its runs in a row ended with the death of their own process."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """That of the job's record."""
    deadline_s: float = math.inf
    begun: bool = False
    hangs: bool = False
    task: asyncio.Task[None] | None = None
    context: Context[Any] | None = None
    span: RunSpan | None = None
    why_cancelled: str = ""

    @property
    def is_suspect(self) -> bool:
        """Whether the job may have killed its last worker, so that nothing runs beside it but others of its kind."""
        return 0 < self.deaths < DEATHS_MAX

    def begin(self) -> None:
        """Note that the actor is called now: from here its timeout counts, not while it waits for a thread or a process."""
        now_s = time.monotonic()
        self.started_ms += (now_s - self.started_s) * 1000
        self.started_s = now_s
        self.deadline_s = now_s + self.timeout_s
        self.begun = True

    def cancel(self, why: str) -> None:
        """Ask the run to stop, with the reason (cancelled, timeout, lost, shutdown); a second call asks again.

        A run may swallow the first. A task that is cancelled before its first step would never give its slot and lease back, so until then
        the reason alone is noted.
        """
        self.why_cancelled = self.why_cancelled or why
        if self.context is not None:
            self.context.why_cancelled = self.why_cancelled
            if self.task is not None:
                self.task.cancel()


class Running:
    """The register that the loops share. A run holds its slot until it ends, and its lease until its verdict is written."""

    def __init__(self, concurrency: int) -> None:
        """Start empty, with `concurrency` slots."""
        self.concurrency = concurrency
        self.slots: set[Run] = set()
        self.queued: deque[Run] = deque()
        """Claimed ahead, waiting for a slot: what short jobs will need before the next claim is answered."""
        self.leases: dict[str, Run] = {}
        self.processed = 0
        self.busy_ms = 0.0
        self._apart = 0
        self._makes_room = False
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pace_per_s = 0.0
        self._ended = 0
        self._paced_s = time.monotonic()

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self.concurrency - len(self.slots)

    def wanted(self) -> int:
        """How many jobs to claim now: one for each free slot, and ahead of that what ends within a few milliseconds at the present pace.

        None beside suspects, and none while room is made for them.
        """
        if self._apart or self._makes_room:
            return 0
        now_s = time.monotonic()
        passed_s = now_s - self._paced_s
        if passed_s >= PACE_SAMPLE_S:
            self._pace_per_s += (self._ended / passed_s - self._pace_per_s) / 2
            self._paced_s, self._ended = now_s, 0
        ahead = min(self.concurrency, int(self._pace_per_s * AHEAD_S))
        return self.free + ahead - len(self.queued)

    def places(self) -> int:
        """How many jobs with gates one claim may take: none ahead of a slot, and half of the slots, so that one half runs meanwhile."""
        return max(min(self.free - len(self.queued), math.ceil(self.concurrency / 2)), 0)

    def slow_down(self) -> None:
        """Claim nothing ahead until the pace is measured again."""
        self._pace_per_s, self._ended, self._paced_s = 0.0, 0, time.monotonic()

    def lease(self, run: Run) -> None:
        """Take a lease; an older run of the same job, which has lost its own then, is told to stop."""
        if not self.leases:
            self._idle.clear()
        older = self.leases.get(run.id)
        if older is not None:
            older.cancel("lost")
            self._apart -= older.is_suspect
        self.leases[run.id] = run
        if run.deaths:
            self._apart += run.is_suspect

    def end(self, run: Run) -> None:
        """Free the slot; the lease stays until `settled`."""
        self.slots.discard(run)
        self._ended += 1

    def look_for_room(self) -> None:
        """Wake who waits for room, if there is some."""
        if self.free > 0:
            self._room.set()

    def settled(self, job_id: str, token: str) -> None:
        """Let the lease go, once the verdict is written or refused."""
        run = self.leases.get(job_id)
        if run is not None and run.token == token:
            del self.leases[job_id]
            if run.deaths:
                self._apart -= run.is_suspect
            if not self.leases:
                self._makes_room = False
                self._idle.set()
                self._room.set()

    def make_room(self) -> None:
        """Claim nothing until no lease is held: suspects run beside nothing else."""
        self._makes_room = bool(self.leases)

    async def room(self) -> int:
        """Wait until there is something to claim for, and return how many jobs are wanted."""
        while (wanted := self.wanted()) <= 0:
            self._room.clear()
            await self._room.wait()
        return wanted

    async def idle(self) -> None:
        """Wait until every run has its verdict written; a thread that outlived its run is not waited for."""
        await self._idle.wait()
