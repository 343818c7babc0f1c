"""Every Redis key of a partition, by name. No other module spells a key.

All keys of a partition share one hash tag, so that one Redis Cluster slot holds them and every script is atomic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMESPACE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
QUEUE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
ACTOR = re.compile(r"[\w.:/<>-]{1,128}")

QUEUE_KEYS = ("ready", "delayed", "leased", "lanes", "opens", "wake", "expires", "turns")
"""The keys of one queue, in the order in which scripts take them."""

OWN_KEYS = (
    *("jobs", "runs", "blobs", "results", "notes", "held", "watch", "completed", "failed", "cancelled", "queues", "events"),
    *("beats", "workers", "holders", "gates", "gates_void", "rules", "control", "unique", "unique_void", "schedules"),
)
"""The keys of a partition beside those of its queues and the hours of its counters, in the order in which scripts take them."""

COUNTER_KEYS = ("stats", "minute")
"""What stands behind `OWN_KEYS` in a call: the counters of the hour, and those of the minute."""

PAGE_KEYS = ("audit", "alerts", "alerts_history", "totals")
"""The keys that no script takes: what was done by hand, alerts that fire and those that did, and counters of all hours that are over."""

STATS_HOURS = 26
"""Length of the ring of hourly counters: a day, the hour that runs, and one to be written while it expires."""

STATS_MINUTES = 1_500
"""Length of the ring of counters by the minute: 25 hours; a minute is gone half an hour before its key is used again."""

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def matches(pattern: re.Pattern[str], name: object) -> bool:
    """Whether a name is text of this form, for callers without a type checker too."""
    return isinstance(name, str) and pattern.fullmatch(name) is not None


class Keys:
    """The keys of one partition, named by a namespace.

    Without `minutes`, nothing is counted by the minute. Raises ConfigError when the namespace could not be part of a key.
    """

    def __init__(self, namespace: str, *, minutes: bool = True) -> None:
        """Check and keep the namespace."""
        if not matches(NAMESPACE, namespace):
            message = f"namespace {namespace!r}: use 1 to 64 letters, digits, '_', '.', ':' or '-'"
            raise ConfigError(message)
        self.namespace = namespace
        self._tag = "{" + namespace + "}:"
        self._queues: dict[str, tuple[str, ...]] = {}
        self._own = tuple(map(self.key, OWN_KEYS))
        self._has_minutes = minutes
        self._minute, self._own_now = -1, self._own

    def key(self, name: str) -> str:
        """Return the key of one of the partition's own structures, as `jobs` or `held`."""
        return self._tag + name

    def queue(self, queue: str) -> tuple[str, ...]:
        """Return the keys of a queue in the order of `QUEUE_KEYS`."""
        found = self._queues.get(queue)
        if found is None:
            found = self._queues[queue] = tuple(f"{self._tag}{name}:{queue}" for name in QUEUE_KEYS)
        return found

    def own(self, now_ms: float) -> tuple[str, ...]:
        """Return the partition's own keys, and the counters of the hour and minute that hold `now_ms`.

        The hour stands for the minute, too, where nothing is counted by the minute.
        """
        minute = int(now_ms // MINUTE_MS)
        if minute != self._minute:
            hour = self.stats(now_ms)
            self._own_now = (*self._own, hour, self.minute(now_ms) if self._has_minutes else hour)
            self._minute = minute
        return self._own_now

    def stats(self, now_ms: float) -> str:
        """Return the key of the counters of the hour that holds `now_ms`."""
        return f"{self._tag}stats:{int(now_ms // HOUR_MS) % STATS_HOURS}"

    def minute(self, now_ms: float) -> str:
        """Return the key of the counters of the minute that holds `now_ms`."""
        return f"{self._tag}minutes:{int(now_ms // MINUTE_MS) % STATS_MINUTES}"

    def every_stats(self) -> list[str]:
        """Return every key of the ring of hourly counters."""
        return [f"{self._tag}stats:{hour}" for hour in range(STATS_HOURS)]

    def every(self, queues: Iterable[str]) -> list[str]:
        """Return every key that the partition can have, given the names of its queues."""
        counters = [*self.every_stats(), *(self.minute(minute * MINUTE_MS) for minute in range(STATS_MINUTES))]
        return [*map(self.key, (*OWN_KEYS, *PAGE_KEYS)), *counters, *(key for queue in queues for key in self.queue(queue))]

    def inbox(self, client: str) -> str:
        """Return the channel on which one client hears of jobs that ended."""
        return f"{self._tag}ended:{client}"

    def asked(self, worker: str) -> str:
        """Return the channel on which one worker hears of runs that were asked to stop."""
        return f"{self._tag}asked:{worker}"
