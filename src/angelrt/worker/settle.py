"""The loop that writes verdicts: what gathers while one call is in flight leaves in the next."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..config import BATCH_MAX_BYTES, BATCH_MAX_JOBS
from ..errors import RedisFull, RedisRefused
from .failure import failure_json

if TYPE_CHECKING:
    from ..store import Store, Verdict
    from .running import Running

log = logging.getLogger("angelrt.worker")

REFUSED_PAUSE_S: Final = 1.0
FULL_DELAY_MS: Final = 5_000
LOST: Final = 0
VERDICT_BYTES: Final = 64
"""What a verdict weighs in a batch beside its payload and children."""


class SettleLoop:
    """Batches verdicts, bounded in number and bytes, and lets leases go when they are written."""

    def __init__(self, store: Store, worker: str, running: Running) -> None:
        """Start with nothing to write."""
        self._store = store
        self._worker = worker
        self._running = running
        self._waiting: list[Verdict] = []
        self._news = asyncio.Event()

    def put(self, verdict: Verdict) -> None:
        """Take a verdict to be written soon; bounded by the slots, since an unwritten verdict keeps its lease."""
        if not self._waiting:
            self._news.set()
        self._waiting.append(verdict)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._write(self._next_batch())

    def _next_batch(self) -> list[Verdict]:
        count = weight = 0
        for verdict in self._waiting[:BATCH_MAX_JOBS]:
            weight += len(verdict.payload) + VERDICT_BYTES
            if verdict.children:
                weight += sum(child.size_bytes for child in verdict.children)
            if count and weight > BATCH_MAX_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _write(self, batch: list[Verdict]) -> None:
        try:
            codes = await self._store.settle(self._worker, batch)
        except RedisFull as error:
            log.warning("%s; child jobs cannot be sent: their parents are tried again in %g s", error, FULL_DELAY_MS / 1000)
            self._waiting[:0] = [_without_children(verdict, error) for verdict in batch]
            await asyncio.sleep(REFUSED_PAUSE_S)
            return
        except RedisRefused:
            log.exception("verdicts of %d jobs are refused; trying again in %g s", len(batch), REFUSED_PAUSE_S)
            self._waiting[:0] = batch
            await asyncio.sleep(REFUSED_PAUSE_S)
            return
        for verdict, code in zip(batch, codes, strict=True):
            if verdict.code == "n":
                continue
            if code == LOST:
                log.warning("job %s: its lease was lost before it was settled; another run decides", verdict.id)
            self._running.settled(verdict.id, verdict.token)


def _without_children(verdict: Verdict, error: RedisFull) -> Verdict:
    """Return the verdict to write while Redis takes no new work: a run with child jobs is tried again later, the others stand."""
    if not verdict.children:
        return verdict
    actor = verdict.counters.partition("\0")[0].partition("|")[2]
    return replace(verdict, code="r", delay_ms=FULL_DELAY_MS, payload=failure_json(actor, error), children=())
