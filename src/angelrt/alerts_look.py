"""What one round of alerts reads, each thing once however many rules ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .series import read_minutes, summed
from .usage import share_used

if TYPE_CHECKING:
    from .job import WorkerInfo
    from .runtime import Runtime
    from .series import Sums
    from .stats import Figures, Stats


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
        return await share_used(self._store, rule, gate)
