"""Group commit: what gathers while calls are in flight leaves in the next, and each caller awaits its own durable answer.

No timer: a lone caller waits for one round trip, two have a call each, ten share one, and a hundred share two, so that the server works on
the one while the callers of the other go on. Where the last call had one caller, the next leaves in its caller's own turn of the event
loop; else whoever else calls in that turn shares it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from .eager import begin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")
Group: TypeAlias = "tuple[list[T], int, asyncio.Future[Sequence[R]]]"
"""Items of one caller, their bytes, and the answers that it awaits."""
CALLS_MAX: Final = 2
HALF_MIN: Final = 16
"""So many groups are worth a second call beside a shared one in flight; beside a lone one, any group is."""


class GroupCommit(Generic[T, R]):
    """Collects groups of items into calls of `flush`, bounded in number and weight; a group is never divided."""

    def __init__(self, flush: Callable[[list[T]], Awaitable[Sequence[R]]], *, most_items: int, most_bytes: int) -> None:
        """Keep the call, and the bounds of what it carries."""
        self._flush = flush
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._waiting: deque[Group[T, R]] = deque()
        self._flushers: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._last_groups = 0

    def submit(self, items: list[T], size_bytes: int) -> asyncio.Future[Sequence[R]]:
        """Return the answers for these items, of so many bytes in all, or what the call that carries them will raise."""
        future: asyncio.Future[Sequence[R]] = asyncio.Future()  # as loop.create_future() makes it, in less than half of the time
        if not items:
            future.set_result([])
            return future
        self._waiting.append((items, size_bytes, future))
        if len(self._flushers) < CALLS_MAX and (not self._flushers or self._in_flight == 1 or len(self._waiting) >= HALF_MIN):
            self._begin_call()
        return future

    def _begin_call(self) -> None:
        loop = asyncio.get_running_loop()
        is_lone = not self._flushers and self._last_groups == 1
        flusher = begin(self._run(), loop=loop) if is_lone else loop.create_task(self._run())
        flusher.set_name("angelrt group commit")
        if not flusher.done():
            self._flushers.add(flusher)

    async def drain(self) -> None:
        """Wait until nothing is waiting."""
        while self._flushers:
            await asyncio.wait(self._flushers)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, items = self._next_batch()
                self._last_groups = len(batch)
                self._in_flight += len(batch)
                try:
                    _answer(batch, len(items), await self._flush(items))
                except Exception as error:  # noqa: BLE001 - it is for those who wait
                    _fail(batch, error)
                except BaseException:
                    _give_up(batch)
                    raise
                else:
                    if len(batch) > 1:
                        await asyncio.sleep(0)  # those who have their answer may call again at once, and share with who waits already
                finally:
                    self._in_flight -= len(batch)
        finally:
            current = asyncio.current_task()
            self._flushers = {task for task in self._flushers if task is not current}

    def _next_batch(self) -> tuple[list[Group[T, R]], list[T]]:
        """Take as many groups as one call carries, and their items."""
        if len(self._waiting) == 1:
            group = self._waiting.popleft()
            return [group], group[0]
        number = len(self._waiting) + self._in_flight
        most = (number + 1) // CALLS_MAX if number >= CALLS_MAX * HALF_MIN else number
        groups = list(islice(self._waiting, min(most, self._most_items)))
        batch = groups[: self._fitting(groups)]
        for _ in batch:
            self._waiting.popleft()
        return batch, [item for items, _, _ in batch for item in items]

    def _fitting(self, groups: list[Group[T, R]]) -> int:
        """Return how many of the groups one call carries: one at least."""
        left_items, left_bytes = self._most_items, self._most_bytes
        for number, (items, size_bytes, _) in enumerate(groups):
            left_items -= len(items)
            left_bytes -= size_bytes
            if number and (left_items < 0 or left_bytes < 0):
                return number
        return len(groups)


def _answer(batch: list[Group[T, R]], asked: int, answers: Sequence[R]) -> None:
    if asked != len(answers):
        message = f"a call of {asked} items was answered by {len(answers)}"
        raise ValueError(message)
    # No group is empty, so where they are as many as the items, each has one.
    parts = [[answer] for answer in answers] if asked == len(batch) else _divided(answers, [len(items) for items, _, _ in batch])
    for (_, _, future), part in zip(batch, parts, strict=True):
        if not future.done():
            future.set_result(part)


def _divided(answers: Sequence[R], numbers: list[int]) -> list[list[R]]:
    rest = iter(answers)
    return [list(islice(rest, number)) for number in numbers]


def _fail(batch: list[Group[T, R]], error: Exception) -> None:
    for _, _, future in batch:
        if not future.done():
            future.set_exception(error)


def _give_up(batch: list[Group[T, R]]) -> None:
    for _, _, future in batch:
        future.cancel()
