"""The loop that claims: it waits for room, then for work, and hands each delivery to the runner."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..config import BATCH_MAX_JOBS
from ..eager import first_steps
from ..errors import RedisRefused
from ..job import rank_ready_ms, read_record
from ..link import REPLY_TIMEOUT_S, Link, LinkLost
from ..store import BLOCK_S
from ..views import deaths_of, process_deaths_of, read_lease
from .running import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..actor import Actor
    from ..store import Claimed, Delivery, Store
    from .running import Running

log = logging.getLogger("angelrt.worker")

REFUSED_PAUSE_S: Final = 1.0
TOKEN_CHARS: Final = 20
"""So that a run is longer than 64 bytes: the server keeps a hash of up to 512 shorter ones as a list, which it searches each time."""
MAKE_ROOM: Final = 2
"""What a claim answers where suspects wait for a worker that holds nothing, and this one is to be it."""


class ClaimLoop:
    """Keeps the slots full. One claim is outstanding at a time, while it waits on a connection of its own."""

    def __init__(
        self,
        store: Store,
        worker: str,
        running: Running,
        *,
        queues: Sequence[str],
        actors: Mapping[str, Actor[..., Any]],
        lease_ms: int,
        start: Callable[[Run], None],
        begin: Callable[[], None],
        refuse: Callable[[Delivery, Exception], None],
        on_due: Callable[[float], None],
    ) -> None:
        """Keep the collaborators.

        `start` takes a run that begins soon, `begin` lets those taken begin now, `on_due` hears the next due time (ms, -1 for never).
        """
        self._store = store
        self._worker = worker
        self._running = running
        self._queues = list(queues)
        self._actors = actors
        self._known = "\0".join(("", *actors, "")).encode()
        self._lease_ms = lease_ms
        self._start = start
        self._begin = begin
        self._refuse = refuse
        self._on_due = on_due
        self._link = Link(store.url, reply_timeout_s=REPLY_TIMEOUT_S + BLOCK_S)
        self._named: set[str] = set()
        self._looked_ms = 0.0
        self.more = True
        """Whether the last claim left work behind, so that the next one need not wait for a marker."""

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            # After a time without room, another worker may have eaten the marker of work that only this one can do: look first.
            was_full = self._running.wanted() <= 0
            wanted = await self._running.room()
            try:
                await self.claim_once(wanted, block=not self.more and not was_full)
            except RedisRefused:
                log.exception("claims are refused; trying again in %g s", REFUSED_PAUSE_S)
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def claim_once(self, wanted: int, *, block: bool) -> int:
        """Claim and start what came; return how many. Only a claim that waits uses the own connection."""
        claimed = await self._store.claim(
            self._link if block else self._store.link,
            self._worker,
            secrets.token_hex(TOKEN_CHARS // 2),
            queues=self._queues,
            lease_ms=self._lease_ms,
            capacity=min(wanted, self._running.concurrency, BATCH_MAX_JOBS),
            free=self._running.places(),
            actors=self._known,
            block=block,
            looked_ms=self._looked_ms,
        )
        self._looked_ms = claimed.now_ms
        self.more = claimed.again == 1
        if claimed.again == MAKE_ROOM:
            self._running.make_room()
        if claimed.deliveries:
            await self._hand_over(claimed)
            if not self.more:
                # The next claim will only wait, so what came begins before it. What has ended by then is settled after it: a job that
                # comes meanwhile need not wait for that.
                self._begin()
                await first_steps()
        elif self.more and self._running.free <= 0:
            self._running.slow_down()  # what is left has gates, and those are not claimed ahead of a slot
        self._on_due(claimed.next_due_ms)
        self._name_missing(claimed.parked)
        self._queues.append(self._queues.pop(0))
        return len(claimed.deliveries)

    async def close(self) -> None:
        """Close the own connection: the server forgets a claim that waits on it.

        A busy server may read the claim, and then what this worker hands back, before it sees the end of the connection: the claim would
        take it, for nobody. So the server answers twice first: once in the turn in which it reads the claim, once after that.
        """
        await self._link.close()
        with suppress(LinkLost):
            for _ in range(2):
                await self._store.link.call(["PING"])

    async def _hand_over(self, claimed: Claimed) -> None:
        # Without a deadline: the jobs are leased, and a worker outlives any outage of its server.
        apart = [(delivery.id.decode(), delivery.record) for delivery in claimed.deliveries if delivery.record.endswith(b"\0")]
        blobs = await self._store.payloads(apart, deadline_s=None) if apart else {}
        now_s = time.monotonic()
        for delivery in claimed.deliveries:
            try:
                self._start(self._run_of(delivery, blobs, claimed.now_ms, now_s))
            except Exception as error:  # noqa: BLE001 - what stands in one record must not end the loop that serves all others
                self._refuse(delivery, error)

    def _run_of(self, delivery: Delivery, blobs: Mapping[str, bytes], now_ms: float, now_s: float) -> Run:
        record = read_record(delivery.record)
        token, attempts, flow, history = read_lease(delivery.lease)
        job_id = delivery.id.decode()
        actor, meta = self._actors[record.actor], record.meta
        attempts_max = meta.get("a", actor.definition.retry.attempts)
        timeout_s = meta.get("t", actor.definition.timeout_s)
        return Run(
            job_id, delivery.queue, token, actor, record.arguments or blobs.get(job_id) or b"", attempts, attempts_max, timeout_s,
            rank_ready_ms(float(delivery.rank)), now_ms, now_s, flow, deaths_of(flow) if flow != "-" else 0,
            process_deaths_of(history) if history else 0, meta,
        )  # fmt: skip

    def _name_missing(self, parked: Sequence[str]) -> None:
        for actor in parked:
            if actor not in self._named:
                self._named.add(actor)
                log.warning("actor %s is not known to this worker: its jobs wait for a worker that has it", actor)
