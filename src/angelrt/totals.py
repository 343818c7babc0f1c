"""Counters that only grow, out of hours that Redis forgets after a day: what is over is added up before it goes.

Whoever reads does that, and keeps the sum in Redis. It is of all hours up to one, so any two readers write the same, however they meet.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from .errors import RedisFull, RedisRefused
from .keys import HOUR_MS
from .stats import add_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .store import Store

Counts = dict[tuple[str, str], Counter[str]]

KEPT_HOURS: Final = 24
"""So many hours that are over can be read for certain; the one before them may have expired."""
LATE_HOURS: Final = 1
"""An hour is added up when it has been over for so long: a call that is sent again counts in the hour of its first try."""
PAIRS_MAX: Final = 1_000
"""The most pairs of queue and actor that are told apart; all others are counted together. Names can be sent that no code declares."""
OTHERS: Final = ("*", "*")
FIELD: Final = "sum"


class Sum(NamedTuple):
    """The counters of all hours up to `through`, an hour since 1970."""

    through: int
    counts: Counts


async def totals(store: Store) -> Counts:
    """Return the counters since the first call, or of the last day where that is longer, by queue and actor.

    When nobody has called for a day, some hours are lost, and the counters begin anew with those since the last call: smaller, as a counter
    that starts again, and never counted twice.
    """
    now_hour = int(store.server_ms() // HOUR_MS)
    kept = _read(await store.command("HGET", store.keys.key("totals"), FIELD))
    if kept is None or kept.through < now_hour - KEPT_HOURS - 1:
        kept = Sum(now_hour - KEPT_HOURS, {})
    hours = range(kept.through + 1, now_hour + 1)
    found = await store.commands(*(["HGETALL", store.keys.stats(hour * HOUR_MS)] for hour in hours)) if hours else []
    counted = [add_up([dict(zip(flat[::2], flat[1::2], strict=True))]) for flat in found]
    over = max(len(hours) - 1 - LATE_HOURS, 0)
    if over:
        kept = Sum(hours[over - 1], _added(kept.counts, counted[:over]))
        with contextlib.suppress(RedisFull, RedisRefused):  # kept by the next reader; this one has them
            await store.command("HSET", store.keys.key("totals"), FIELD, _written(kept))
    return _added(kept.counts, counted[over:])


def _added(counts: Counts, hours: Iterable[Counts]) -> Counts:
    """Return the counters with those of some hours, by no more than PAIRS_MAX pairs."""
    found = {pair: words.copy() for pair, words in counts.items()}
    for hour in hours:
        for pair in sorted(hour):
            place = pair if pair in found or len(found) < PAIRS_MAX else OTHERS
            found.setdefault(place, Counter()).update(hour[pair])
    return found


def _read(stored: bytes | None) -> Sum | None:
    if stored is None:
        return None
    told = orjson.loads(stored)
    return Sum(told["through"], {(queue, actor): Counter(words) for queue, actor, words in told["counts"]})


def _written(kept: Sum) -> bytes:
    return orjson.dumps({"through": kept.through, "counts": [[*pair, words] for pair, words in kept.counts.items()]})
