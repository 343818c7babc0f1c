"""Group commit: what gathers while one call is in flight leaves in the next, and each caller awaits its own durable answer.

No timer: a lone caller waits for one round trip, a hundred callers share one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Collects groups of items into calls of `flush`, bounded in number and weight; a group is never divided."""

    def __init__(
        self, flush: Callable[[list[T]], Awaitable[Sequence[R]]], *, most_items: int, most_bytes: int, weigh: Callable[[T], int]
    ) -> None:
        """Keep the call; `weigh` gives an item's bytes."""
        self._flush = flush
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._weigh = weigh
        self._waiting: deque[tuple[list[T], asyncio.Future[Sequence[R]]]] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def submit(self, items: list[T]) -> Sequence[R]:
        """Return the answers for these items, or raise what the call that carried them raised."""
        future: asyncio.Future[Sequence[R]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._run(), name="angelrt group commit")
        return await future

    async def drain(self) -> None:
        """Wait until nothing is waiting."""
        while self._flusher is not None:
            await asyncio.wait([self._flusher])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._call(self._next_batch())
        finally:
            self._flusher = None

    def _next_batch(self) -> list[tuple[list[T], asyncio.Future[Sequence[R]]]]:
        batch: list[tuple[list[T], asyncio.Future[Sequence[R]]]] = []
        count = weight = 0
        while self._waiting:
            items = self._waiting[0][0]
            count += len(items)
            weight += sum(map(self._weigh, items))
            if batch and (count > self._most_items or weight > self._most_bytes):
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _call(self, batch: list[tuple[list[T], asyncio.Future[Sequence[R]]]]) -> None:
        try:
            answers = await self._flush([item for items, _ in batch for item in items])
        except BaseException as error:
            for _, future in batch:
                if future.done():
                    continue
                if isinstance(error, Exception):
                    future.set_exception(error)
                else:
                    future.cancel()
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for items, future in batch:
            if not future.done():
                future.set_result(answers[start : start + len(items)])
            start += len(items)
