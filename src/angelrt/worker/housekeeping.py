"""The loop for what must happen now and then: dead workers are struck off, old outcomes forgotten."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

import orjson

from ..errors import RedisRefused, RedisUnavailable

if TYPE_CHECKING:
    from ..store import Store

log = logging.getLogger("angelrt.worker")

PAUSE_S: Final = 5.0


class HousekeepingLoop:
    """Looks every five seconds, jittered, so that a fleet does not look all at once."""

    def __init__(self, store: Store, worker: str, lease_ms: int) -> None:
        """Keep the collaborators."""
        self._store = store
        self._worker = worker
        self._lease_ms = lease_ms

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S * random.uniform(0.7, 1.3))  # noqa: S311 - jitter
            try:
                await self.strike_dead_workers()
                await self._store.settle(self._worker, [])
                await self.finish_sweeps()
            except RedisRefused:
                log.exception("housekeeping is refused")
            except RedisUnavailable as error:
                log.warning("housekeeping waits for its next turn: %s", error)

    async def finish_sweeps(self) -> None:
        """Go on with opening the lanes of a changed limit, where whoever changed it has not come to the end."""
        fields = await self._store.command("HKEYS", self._store.keys.key("rules"))
        for field in fields:
            if field.endswith(b"~"):
                await self._store.control("sweep", field.decode()[:-1])

    async def strike_dead_workers(self) -> None:
        """Give back what workers hold that have not beaten for a whole lease. Being wrong is harmless: tokens fence."""
        keys = self._store.keys
        horizon = self._store.server_ms() - self._lease_ms
        stale = await self._store.command("ZRANGEBYSCORE", keys.key("beats"), "-inf", horizon, "WITHSCORES")
        for name, beat_ms in zip(stale[::2], stale[1::2], strict=True):
            worker = name.decode()
            info = await self._store.command("HGET", keys.key("workers"), worker)
            queues = orjson.loads(info)["queues"] if info else await self._store.queues()
            given_back = await self._store.expire_worker(worker, queues, died=True, beat_ms=float(beat_ms))
            if given_back >= 0:
                log.warning("worker %s has not beaten for %g s: %d jobs taken back", worker, self._lease_ms / 1000, given_back)
