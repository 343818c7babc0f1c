"""The thread that keeps a worker's leases, with a connection of its own: an actor that blocks the event loop loses none.

It also watches the loop: it names the actor that blocks it, and stops renewing a job once the loop has stood still longer than
that job's timeout, so that a loop that hangs for ever does not keep its jobs for ever.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import scripts
from ..config import BATCH_MAX_JOBS, redact
from ..errors import RedisRefused
from ..link import BlockingLink, LinkLost
from ..store import Lease, renewed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store
    from .running import Run, Running

log = logging.getLogger("angelrt.worker")

BEAT_S: Final = 0.5
RENEWALS_PER_LEASE: Final = 3
BLOCKED_S: Final = 1.0
PULSE_S: Final = 0.2
STOP_WAIT_S: Final = 5.0
JUMP_MS: Final = 1_000


class Block(NamedTuple):
    """A stretch of time in which the event loop stood still: by which actor, and for how long."""

    by: str
    seconds: float


class LeaseThread:
    """Beats and renews until stopped; runs whose leases are lost are cancelled on the loop."""

    def __init__(
        self,
        store: Store,
        worker: str,
        running: Running,
        *,
        lease_ms: int,
        info: Callable[..., bytes],
        asked: Callable[[str], None],
    ) -> None:
        """Prepare; `info` gives what the register shows, given what this thread knows; `asked` stops a cancelled job."""
        self._store = store
        self._worker = worker
        self._running = running
        self._lease_ms = lease_ms
        self._info = info
        self._asked = asked
        self._loop = asyncio.get_running_loop()
        self._pulse_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="angelrt lease", daemon=True)
        self._gap_s = 0.0
        self._reported_s = 0.0
        self._block: Block | None = None
        self._longest: Block | None = None
        self._identity: tuple[str, int | None] | None = None
        self._is_refused = False
        self._offset_ms = store.server_ms() - time.monotonic() * 1000

    def start(self) -> None:
        """Start the thread and the pulse of the loop that it watches."""
        self._pulse()
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread; leases that are still held run out or are given back by the worker."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, STOP_WAIT_S)

    def _pulse(self) -> None:
        now_s = time.monotonic()
        self._gap_s = max(self._gap_s, now_s - self._pulse_s - PULSE_S)
        self._pulse_s = now_s
        if not self._stop.is_set():
            self._loop.call_later(PULSE_S, self._pulse)

    # -- in the thread -------------------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        link = BlockingLink(self._store.url)
        renew_s = self._lease_ms / 1000 / RENEWALS_PER_LEASE
        next_renewal_s = time.monotonic() + renew_s
        wait_s, losses = 0.0, 0
        while not self._stop.wait(wait_s):
            try:
                has_jumped = self._beat(link)
                if has_jumped or time.monotonic() >= next_renewal_s:
                    next_renewal_s = time.monotonic() + renew_s
                    self._renew(link)
                wait_s, losses = min(BEAT_S, renew_s), 0
            except LinkLost as error:
                # Once at once: a connection that is only renewed shall not look like a death.
                wait_s = random.uniform(0.1, 0.5) if losses else 0.0  # noqa: S311 - jitter
                losses += 1
                self._identity = None
                next_renewal_s = 0
                log.warning("leases on Redis at %s: %s; trying again in %.2f s", redact(self._store.url), error, wait_s)
        link.close()

    def _beat(self, link: BlockingLink) -> bool:
        """Keep the worker in the register, under the identity of the connection that beats: others see by it whether this process lives.

        Answers whether the server's clock has jumped.
        """
        self._watch_loop()
        if self._identity is None:
            self._identity = self._identify(link)
        server, client = self._identity
        info = self._info(block=self._block, longest=self._longest, server=server, client=client)
        return self._has_jumped(float(link.call(scripts.BEAT, self._store.beat_command(self._worker, info))))

    def _identify(self, link: BlockingLink) -> tuple[str, int | None]:
        try:
            return link.identity()
        except RedisRefused as error:
            if not self._is_refused:
                self._is_refused = True
                remedy = "permit +client|id, +client|list and +info to this user, and it takes a second or two"
                log.warning("a dead worker is noticed only after a lease of %g s: %s; %s", self._lease_ms / 1000, error, remedy)
            return "", None

    def _has_jumped(self, now_ms: float) -> bool:
        """Whether the server's clock and this machine's have parted since the last beat: by the new time, leases may have ended."""
        before_ms, self._offset_ms = self._offset_ms, now_ms - time.monotonic() * 1000
        return abs(self._offset_ms - before_ms) > JUMP_MS

    def _renew(self, link: BlockingLink) -> None:
        stood_s = time.monotonic() - self._pulse_s
        runs = [run for run in list(self._running.leases.copy().values()) if stood_s < run.timeout_s]
        for first in range(0, len(runs), BATCH_MAX_JOBS):
            some = runs[first : first + BATCH_MAX_JOBS]
            command = self._store.renew_command([Lease(run.queue, run.id, run.token) for run in some], self._lease_ms)
            lost, asked = map(set, renewed(link.call(scripts.RENEW, command)))
            for run in some:
                if run.id in lost:
                    self._loop.call_soon_threadsafe(self._lose, run)
                elif run.id in asked:
                    self._loop.call_soon_threadsafe(self._asked, run.id)

    def _lose(self, run: Run) -> None:
        if self._running.leases.get(run.id) is run and (run.task is None or not run.task.done()):
            log.warning("%s: the lease of job %s is lost; its run is cancelled", run.actor.name, run.id)
            run.cancel("lost")

    def _watch_loop(self) -> None:
        """Note which actor blocks the loop, and say so in the log: after 1 s, 2 s, 4 s and so on, and when the loop goes on."""
        stood_s = time.monotonic() - self._pulse_s
        if stood_s < BLOCKED_S + PULSE_S:
            self._end_block()
            return
        task = asyncio.current_task(self._loop)
        run = next((run for run in list(self._running.slots.copy()) if run.task is task), None)
        # The loop may go on at any moment: a block keeps the name that was found first.
        name = self._block.by if self._block else run.actor.name if run else "code outside actors"
        if stood_s >= 2 * self._reported_s:
            self._reported_s = stood_s
            log.warning(
                "the event loop has been blocked for %.1f s by %s%s; declare it as thread_actor or process_actor",
                *(stood_s, name, f" (job {run.id})" if run else ""),
            )
        self._block = Block(name, stood_s)

    def _end_block(self) -> None:
        if self._block is None:
            return
        block = self._block._replace(seconds=max(self._gap_s, self._block.seconds))
        log.warning("the event loop goes on: it was blocked for %.1f s by %s", block.seconds, block.by)
        if self._longest is None or block.seconds > self._longest.seconds:
            self._longest = block
        self._block, self._reported_s, self._gap_s = None, 0.0, 0.0
