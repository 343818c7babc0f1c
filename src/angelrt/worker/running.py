"""The runs of one worker: who occupies a slot, and whose lease is to be renewed until its verdict is written."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..actor import Actor
    from ..context import Context


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
    deadline_s: float = math.inf
    begun: bool = False
    hangs: bool = False
    task: asyncio.Task[None] | None = None
    context: Context[Any] | None = None
    why_cancelled: str = ""

    def begin(self) -> None:
        """Note that the actor is called now: from here its timeout counts, not while it waits for a thread or a process."""
        now_s = time.monotonic()
        self.started_ms += (now_s - self.started_s) * 1000
        self.started_s = now_s
        self.deadline_s = now_s + self.timeout_s
        self.begun = True

    def cancel(self, why: str) -> None:
        """Ask the run to stop, with the reason (timeout, lost, shutdown); a second call asks again, for a run that swallowed the first."""
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
        self.leases: dict[str, Run] = {}
        self.processed = 0
        self.busy_ms = 0.0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self.concurrency - len(self.slots)

    def start(self, run: Run) -> None:
        """Take a slot and a lease; an older run of the same job, which has lost its lease then, is told to stop."""
        older = self.leases.get(run.id)
        if older is not None:
            older.cancel("lost")
        self.slots.add(run)
        self.leases[run.id] = run
        self._idle.clear()
        if self.free <= 0:
            self._room.clear()

    def end(self, run: Run) -> None:
        """Free the slot; the lease stays until `settled`."""
        self.slots.discard(run)
        if self.free > 0:
            self._room.set()

    def settled(self, job_id: str, token: str) -> None:
        """Let the lease go, once the verdict is written or refused."""
        run = self.leases.get(job_id)
        if run is not None and run.token == token:
            del self.leases[job_id]
            if not self.leases:
                self._idle.set()

    async def room(self) -> None:
        """Wait until a slot is free."""
        await self._room.wait()

    async def idle(self) -> None:
        """Wait until every run has its verdict written; a thread that outlived its run is not waited for."""
        await self._idle.wait()
