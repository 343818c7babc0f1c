"""What happened minute by minute, over the whole fleet or in one queue or of one actor; for a day."""

from __future__ import annotations

from collections import Counter
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Final, TypeAlias

from .errors import InvalidOptions
from .job import View, at_ms
from .keys import MINUTE_MS
from .stats import Figures, add_up, completion_rate, figures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .store import Store

Sums: TypeAlias = dict[tuple[str, str], Counter[str]]
MINUTES_MAX: Final = 24 * 60


class Minute(View):
    """The figures of one minute, from `at` on. Times are milliseconds, None where nothing began or ended."""

    at: datetime
    sent: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    lost: int = 0
    pickup_p50_ms: float | None = None
    pickup_p99_ms: float | None = None
    run_p50_ms: float | None = None
    run_p99_ms: float | None = None

    @property
    def completion_rate(self) -> float | None:
        """Completed jobs over all that ended by their own verdict, from 0 to 1; None before the first ended."""
        return completion_rate(self.completed, self.failed)


async def series(store: Store, minutes: int, queue: str | None, actor: str | None) -> list[Minute]:
    """Return the last minutes, the one that runs at the end. Raises InvalidOptions."""
    if isinstance(minutes, bool) or not isinstance(minutes, int) or not 1 <= minutes <= MINUTES_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"series(minutes={minutes!r}): use a whole number from 1 to {MINUTES_MAX}, which is a day"
        raise InvalidOptions(message)
    return [_minute(ms, sums, queue, actor) for ms, sums in await read_minutes(store, minutes)]


async def read_minutes(store: Store, minutes: int) -> list[tuple[int, Sums]]:
    """Return the last minutes, the one that runs at the end: each with its begin in ms since 1970, and its counters by queue and actor."""
    last = int(store.server_ms() // MINUTE_MS)
    times_ms = [minute * MINUTE_MS for minute in range(last - minutes + 1, last + 1)]
    found = await store.commands(*(["HGETALL", store.keys.minute(ms)] for ms in times_ms))
    return [(ms, add_up([dict(zip(flat[::2], flat[1::2], strict=True))])) for ms, flat in zip(times_ms, found, strict=True)]


def summed(sums: Iterable[Sums], queue: str | None = None, actor: str | None = None) -> Figures:
    """Return the figures of some minutes together, of a queue, an actor, or all."""
    wanted = (
        counts
        for minute in sums
        for (of_queue, of_actor), counts in minute.items()
        if queue in (None, of_queue) and actor in (None, of_actor)
    )
    return figures(queue or "*", actor or "*", sum(wanted, Counter[str]()))


def _minute(ms: int, sums: Sums, queue: str | None, actor: str | None) -> Minute:
    shown = summed([sums], queue, actor).model_dump(include=Minute.model_fields.keys() - {"at"})
    return Minute(at=at_ms(ms), **shown)
