"""The loop for what must happen now and then: old outcomes are forgotten, changed limits followed up."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from ..errors import RedisRefused, RedisUnavailable

if TYPE_CHECKING:
    from ..store import Store

log = logging.getLogger("angelrt.worker")

PAUSE_S: Final = 5.0


class HousekeepingLoop:
    """Looks every five seconds, jittered, so that a fleet does not look all at once."""

    def __init__(self, store: Store, worker: str) -> None:
        """Keep the collaborators."""
        self._store = store
        self._worker = worker

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S * random.uniform(0.7, 1.3))  # noqa: S311 - jitter
            try:
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
