"""The loop that keeps time: due jobs are moved when they are due, runs are stopped at their deadline.

A block's timeout is no clock (on an idle server it fires up to 100 ms late), so the timers are of the event loop. One watcher serves
all deadlines: a timer for each job would cost as much as starting it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from ..errors import RedisRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store import Store
    from .running import Run, Running

log = logging.getLogger("angelrt.worker")

ASK_AGAIN_S: Final = 0.5
"""A run that swallowed its cancellation is asked again after this."""
REFUSED_PAUSE_S: Final = 1.0
SLACK_MS: Final = 5
"""By so much the server's time as learnt from two replies may differ, and nothing is made of it."""


class DueLoop:
    """Calls `tick` when the next delayed job or lease is due."""

    def __init__(self, store: Store, queues: Sequence[str]) -> None:
        """Start with nothing due."""
        self._store = store
        self._queues = queues
        self._due_ms = math.inf
        self._waits_until_s = math.inf
        self._sooner = asyncio.Event()

    def due(self, due_ms: float) -> None:
        """Hear that something is due at this time of the server, in ms; -1 for never."""
        if 0 <= due_ms < self._due_ms:
            self._due_ms = due_ms
            self._sooner.set()
        # What is due may be so sooner than it seemed: a reply that was read late has told a time that was over.
        elif self._due_ms - self._store.server_ms() < (self._waits_until_s - time.monotonic()) * 1000 - SLACK_MS:
            self._sooner.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._sooner.clear()
            wait_s = (self._due_ms - self._store.server_ms()) / 1000
            self._waits_until_s = time.monotonic() + wait_s
            if wait_s > 0:
                await _wait(self._sooner, wait_s)
                continue
            self._due_ms = math.inf
            try:
                _, next_due_ms = await self._store.tick(self._queues)
            except RedisRefused:
                log.exception("ticks are refused; trying again in %g s", REFUSED_PAUSE_S)
                await asyncio.sleep(REFUSED_PAUSE_S)
                next_due_ms = self._store.server_ms()
            self.due(next_due_ms)


class DeadlineLoop:
    """Cancels runs that last longer than their timeout, and again while they go on."""

    def __init__(self, running: Running) -> None:
        """Start with no deadline."""
        self._running = running
        self._next_s = math.inf
        self._sooner = asyncio.Event()

    def started(self, run: Run) -> None:
        """Hear of a run that has started."""
        if run.deadline_s < self._next_s:
            self._next_s = run.deadline_s
            self._sooner.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._sooner.clear()
            wait_s = self._next_s - time.monotonic()
            if wait_s > 0:
                await _wait(self._sooner, wait_s)
                continue
            now_s = time.monotonic()
            for run in list(self._running.slots):
                if run.deadline_s <= now_s and run.task is not None:
                    run.cancel("timeout")
                    run.deadline_s = now_s + ASK_AGAIN_S
            self._next_s = min((run.deadline_s for run in self._running.slots if run.task is not None), default=math.inf)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event, at most so long."""
    try:
        async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
            await event.wait()
    except TimeoutError:
        return
