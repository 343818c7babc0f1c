"""The loop that notices dead workers: by their closed connection within about a second, else by a silence as long as a lease.

A worker that beats costs nobody more than a look at who is silent. Being wrong is harmless: tokens fence.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..errors import RedisRefused, RedisUnavailable
from ..store import SEND_DEADLINE_S

if TYPE_CHECKING:
    from ..store import Store

log = logging.getLogger("angelrt.worker")

LOOK_S: Final = 0.5
"""The longest time between two looks."""
SPREAD_S: Final = 0.1
"""Over so long the looks of a fleet at one that falls silent are spread: most find that another has struck it off."""
SILENT_MS: Final = 1_000
"""Two beats that did not come."""
SILENT_MAX: Final = 16
"""How many silent workers one look asks about; after one that found a death the next follows at once."""
GAP_S: Final = 1.0
TRUST_S: Final = 3.0
"""After a gap of more than GAP_S between two looks, or a jump of the server's clock, the silence of others proves nothing for so long."""


class DeathsLoop:
    """Looks when the next worker could have been silent for too long, and twice a second in any case."""

    def __init__(self, store: Store, worker: str, lease_ms: int) -> None:
        """Keep the collaborators."""
        self._store = store
        self._worker = worker
        self._lease_ms = lease_ms
        self.pause_s = 0.0
        """Until nobody can fall silent after the last look, and LOOK_S at most."""
        self._looked_s = 0.0
        self._in_touch_s = 0.0
        self._ahead_s = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self.pause_s + random.uniform(0, SPREAD_S))  # noqa: S311 - jitter
            try:
                while await self.look():
                    pass
            except RedisRefused:
                log.exception("looking for dead workers is refused")
            except RedisUnavailable as error:
                log.warning("looking for dead workers waits for its next turn: %s", error)

    async def look(self) -> int:
        """Strike off the dead among the silent; return how many."""
        beats, names, now_ms = self._store.keys.key("beats"), self._store.keys.key("workers"), self._store.server_ms()
        # A beat of the future is one of before the clock jumped back.
        silent_ms, future_ms = now_ms - SILENT_MS, now_ms + SILENT_MS
        spans = [("-inf", silent_ms, SILENT_MAX), (future_ms, "+inf", SILENT_MAX), (f"({silent_ms}", "+inf", 2)]
        self.pause_s = LOOK_S
        past, future, coming = await self._store.commands(
            *(["ZRANGEBYSCORE", beats, least, most, "WITHSCORES", "LIMIT", 0, number] for least, most, number in spans)
        )
        self.pause_s = min([LOOK_S, *((beat_ms - silent_ms) / 1000 for beat_ms in self._others(coming).values())])
        is_in_touch = self._keep_in_touch(now_ms)
        silent = self._others([*past, *future][: 2 * SILENT_MAX])
        if not silent or not is_in_touch:
            return 0
        await self._store.learn_time(SEND_DEADLINE_S)  # the clock may have jumped since it was last looked at
        now_ms = self._store.server_ms()
        if not self._keep_in_touch(now_ms):
            return 0
        infos = dict(zip(silent, await self._store.command("HMGET", names, *silent), strict=True))
        lost = [name for name, beat_ms in silent.items() if abs(now_ms - beat_ms) >= self._lease_ms]
        watched = [name for name in silent if name not in lost and infos[name]]
        gone = await self._gone([(name, orjson.loads(infos[name])) for name in watched]) if watched else []
        struck = 0
        for name in [*lost, *gone]:
            why = "its connection is closed" if name in gone else f"it has not beaten for {self._lease_ms / 1000:g} s"
            struck += await self._strike(name, silent[name], infos[name], why)
        return struck

    def _others(self, found: list[bytes]) -> dict[str, float]:
        """Return names and last beats, in milliseconds, of all but this worker."""
        beats_ms = {name.decode(): float(beat_ms) for name, beat_ms in zip(found[::2], found[1::2], strict=True)}
        beats_ms.pop(self._worker, None)
        return beats_ms

    def _keep_in_touch(self, now_ms: float) -> bool:
        """Whether looks have been answered without a gap, by one clock, for long enough to tell a worker's silence from the server's."""
        now_s = time.monotonic()
        ahead_s = now_ms / 1000 - now_s
        if now_s - self._looked_s > GAP_S or abs(ahead_s - self._ahead_s) > GAP_S:
            self._in_touch_s = now_s
        self._looked_s, self._ahead_s = now_s, ahead_s
        return now_s - self._in_touch_s >= TRUST_S

    async def _gone(self, infos: list[tuple[str, dict[str, Any]]]) -> list[str]:
        """Return those whose connection the server has no more. Ids begin anew when a server starts, so only its own ones count."""
        watched = {name: (info["server"], info["client"]) for name, info in infos if info["client"]}
        if not watched:
            return []
        try:
            about, listed = await self._store.commands(
                ["INFO", "server"], ["CLIENT", "LIST", "ID", *(client for _, client in watched.values())]
            )
        except RedisRefused:
            return []  # the lease thread has said so
        server = next((line[7:].strip().decode() for line in about.splitlines() if line.startswith(b"run_id:")), "")
        there = {int(line.split(b" ", 1)[0][3:]) for line in listed.splitlines() if line.startswith(b"id=")}
        return [name for name, (of, client) in watched.items() if of == server and client not in there]

    async def _strike(self, worker: str, beat_ms: float, info: bytes | None, why: str) -> int:
        queues = orjson.loads(info)["queues"] if info else await self._store.queues()
        given_back = await self._store.expire_worker(worker, queues, died=True, beat_ms=beat_ms)
        if given_back < 0:
            return 0
        log.warning("worker %s is struck off, since %s: %d jobs taken back", worker, why, given_back)
        return 1
