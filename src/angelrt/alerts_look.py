"""What one round of alerts reads, each thing once however many rules ask for it."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from .series import read_minutes, summed

if TYPE_CHECKING:
    from .job import WorkerInfo
    from .runtime import Runtime
    from .series import Sums
    from .stats import Figures, Stats

SLICES: Final = 64
"""A rate's window is counted in so many slices; see _gates.lua."""
RATE_PARTS: Final = 3
SLICE: Final = re.compile(r"(\d+):(\d+)")


class Look:
    """The figures of one moment."""

    def __init__(self, rt: Runtime[Any]) -> None:
        """Take an open runtime; nothing is read yet."""
        self._rt = rt
        self._store = rt.client().store
        self._minutes: list[tuple[int, Sums]] = []
        self._stats: Stats | None = None
        self._workers: list[WorkerInfo] | None = None

    @property
    def namespace(self) -> str:
        """The namespace of the runtime."""
        return self._store.keys.namespace

    async def stats(self) -> Stats:
        """Return what `rt.stats()` says."""
        if self._stats is None:
            self._stats = await self._rt.stats()
        return self._stats

    async def live_workers(self, queue: str | None) -> int:
        """Return how many live workers there are, or serve a queue."""
        if self._workers is None:
            self._workers = await self._rt.workers()
        return sum(one.is_live and queue in (None, *one.queues) for one in self._workers)

    async def figures(self, minutes: int, queue: str | None = None, actor: str | None = None) -> Figures:
        """Return the figures of the last minutes together, the one that runs included, over the whole fleet or a part."""
        return summed((sums for _, sums in await self.minutes(minutes)), queue, actor)

    async def minutes(self, minutes: int) -> list[tuple[int, Sums]]:
        """Return what `read_minutes` says of the last minutes."""
        if len(self._minutes) < minutes:
            self._minutes = await read_minutes(self._store, minutes)
        return self._minutes[-minutes:]

    async def quota_used(self, rule: str, gate: str) -> float | None:
        """Return the share of a limit that is taken at one gate; None for a rule that no worker has declared."""
        key = self._store.keys.key
        lane = _lane(rule, gate)
        changed, declared, state, holders = await self._store.commands(
            ["HGET", key("rules"), f"{rule}!"],
            ["HGET", key("rules"), rule],
            ["HGET", key("gates"), lane],
            ["ZLEXCOUNT", key("holders"), f"[{lane}\0", f"({lane}\1"],
        )
        spec = (changed or declared or b"").decode().split()
        if not spec:
            return None
        most = int(spec[0])
        taken = _tokens(state or b"", int(spec[1]), self._store.server_ms()) if len(spec) == RATE_PARTS else int(holders)
        return taken / most


def _lane(rule: str, gate: str) -> str:
    return _sha1(rule)[:8] + _sha1(gate)[:12]


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _tokens(state: bytes, window_ms: int, now_ms: float) -> int:
    """Return the tokens that count at a rate: a slice does until a window and a slice after its end."""
    horizon_ms = now_ms - window_ms - max(window_ms // SLICES, 1)
    return sum(int(tokens) for ends, tokens in SLICE.findall(state.decode()) if int(ends) > horizon_ms)
