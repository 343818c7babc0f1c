"""Counters and log-bucket histograms as the scripts write them, and the figures that people read from them.

A bucket is a quarter of an octave wide (19%), from 1/16 ms up; a quantile is given as the middle of its bucket, so within 9.5%.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from .job import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PER_OCTAVE: Final = 4
LOWEST_MS: Final = 1 / 16
BUCKETS: Final = 128
WORDS: Final = ("sent", "completed", "failed", "cancelled", "retried", "snoozed", "released", "lost", "expired", "poisoned")
BOUNDS_MS: Final = tuple(LOWEST_MS * math.exp2(index / PER_OCTAVE) for index in range(1, BUCKETS))
PICKUP_WORDS, RUN_WORDS = (tuple(f"\0{letter}{index}" for index in range(BUCKETS)) for letter in "pr")


def bucket(milliseconds: float) -> int:
    """Return the bucket of a duration."""
    return bisect_right(BOUNDS_MS, milliseconds)


def run_words(pickup_ms: float, run_ms: float) -> str:
    """Return the words under which a run is counted by how late it began and how long it took: `NUL p17 NUL r3`."""
    return PICKUP_WORDS[bisect_right(BOUNDS_MS, pickup_ms)] + RUN_WORDS[bisect_right(BOUNDS_MS, run_ms)]


def bucket_ms(index: int) -> float:
    """Return the middle of a bucket in milliseconds."""
    return LOWEST_MS * math.exp2((index + 0.5) / PER_OCTAVE)


def quantile_ms(histogram: Mapping[int, int], q: float) -> float | None:
    """Return the duration in milliseconds below which the share `q` (0 to 1) of a histogram lies; None for an empty one."""
    total = sum(histogram.values())
    if not total:
        return None
    rank = q * total
    seen = 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= rank:
            return bucket_ms(index)
    return bucket_ms(max(histogram))


def completion_rate(completed: int, failed: int) -> float | None:
    """Return completed jobs over all that ended by their own verdict, from 0 to 1; None where none did."""
    ended = completed + failed
    return completed / ended if ended else None


class Figures(View):
    """What happened to the jobs of one actor in one queue, or of all of them. Times are milliseconds."""

    queue: str
    actor: str
    sent: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    snoozed: int = 0
    released: int = 0
    lost: int = 0
    expired: int = 0
    poisoned: int = 0
    pickup_p50_ms: float | None = None
    pickup_p99_ms: float | None = None
    run_p50_ms: float | None = None
    run_p99_ms: float | None = None

    @property
    def completion_rate(self) -> float | None:
        """Completed jobs over all that ended by their own verdict, from 0 to 1; None before the first ended."""
        return completion_rate(self.completed, self.failed)


class QueueDepth(View):
    """How many jobs stand where in one queue, and for how long the oldest ready one has waited, in milliseconds.

    Where priorities age, that is the oldest of the first hundred in line: nobody overtakes by more than nine steps of aging.
    """

    queue: str
    ready: int
    delayed: int
    leased: int
    lanes: int
    oldest_ready_ms: float | None = None


class Stats(View):
    """The figures of the last hours over the whole fleet, from Redis alone."""

    hours: int
    total: Figures
    actors: list[Figures]
    queues: list[QueueDepth]

    @property
    def pickup_p50_ms(self) -> float | None:
        """Half of all jobs started within this many milliseconds after they were ready."""
        return self.total.pickup_p50_ms

    @property
    def pickup_p99_ms(self) -> float | None:
        """99% of all jobs started within this many milliseconds after they were ready."""
        return self.total.pickup_p99_ms

    @property
    def completion_rate(self) -> float | None:
        """Completed jobs over all that ended by their own verdict, from 0 to 1; None before the first ended."""
        return self.total.completion_rate

    def summary(self) -> dict[str, Any]:
        """Return plain data with camelCase names, the rates included, for programs."""
        data = self.model_dump(mode="json", by_alias=True)
        rates = {"completionRate": self.completion_rate, "pickupP50Ms": self.pickup_p50_ms, "pickupP99Ms": self.pickup_p99_ms}
        return {**rates, **data}


def add_up(hashes: Iterable[Mapping[bytes, bytes]]) -> dict[tuple[str, str], Counter[str]]:
    """Return the counters of several hours by (queue, actor); their fields are `queue|actor|word`."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for fields in hashes:
        for field, number in fields.items():
            queue, actor, word = field.decode().split("|")
            sums.setdefault((queue, actor), Counter())[word] += int(number)
    return sums


def figures(queue: str, actor: str, counts: Mapping[str, int]) -> Figures:
    """Return readable figures of one set of counters."""
    pickup = _histogram(counts, "p")
    run = _histogram(counts, "r")
    return Figures(
        queue=queue,
        actor=actor,
        **{word: counts.get(word, 0) for word in WORDS},
        pickup_p50_ms=quantile_ms(pickup, 0.5),
        pickup_p99_ms=quantile_ms(pickup, 0.99),
        run_p50_ms=quantile_ms(run, 0.5),
        run_p99_ms=quantile_ms(run, 0.99),
    )


def _histogram(counts: Mapping[str, int], letter: str) -> dict[int, int]:
    return {int(word[1:]): number for word, number in counts.items() if word[0] == letter and word[1:].isdigit()}


def total(sums: Mapping[tuple[str, str], Counter[str]]) -> Figures:
    """Return the figures of everything together."""
    return figures("*", "*", sum(sums.values(), Counter[str]()))
