"""What `top` sees when it looks once, and what has happened between two looks: pure values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .job import View

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .control import Pause
    from .job import WorkerInfo
    from .series import Minute
    from .stats import Figures, QueueDepth, Stats

LEAST_S: Final = 0.001
COUNTED: Final = ("sent", "completed", "failed")


class Rates(View):
    """Jobs in a second, over the last `over_s` seconds."""

    over_s: float
    sent: float
    completed: float
    failed: float


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at one time; `minutes` are the last of them, the one that runs at the end."""

    at: datetime
    stats: Stats
    workers: Sequence[WorkerInfo]
    minutes: Sequence[Minute]
    pauses: Sequence[Pause]

    def rates(self, before: Look | None) -> Rates:
        """Return the throughput since the look before; of the first look, that of the last one to two minutes."""
        over_s = _seconds(self.at, before.at if before else self.minutes[-2].at)
        return Rates(over_s=over_s, **{word: self._more(word, before) / over_s for word in COUNTED})

    def _more(self, word: str, before: Look | None) -> int:
        """Return how many more were counted than at the look before."""
        if before is None:
            return _sum(word, self.minutes[-2:])
        begin = before.minutes[-1]
        by_minute = _sum(word, [minute for minute in self.minutes if minute.at >= begin.at]) - _sum(word, [begin])
        # A sum over all hours becomes smaller when the oldest leaves it; of the minutes nothing is counted where events are off.
        return max(by_minute, int(getattr(self.stats.total, word)) - int(getattr(before.stats.total, word)), 0)

    def busiest(self, before: Look | None) -> list[tuple[Figures, float | None]]:
        """Return the actors with the jobs that they ended in a second since the look before, the busiest first."""
        known = {(one.queue, one.actor): _ended(one) for one in before.stats.actors} if before else {}

        def per_s(one: Figures) -> float | None:
            more = max(_ended(one) - known.get((one.queue, one.actor), 0), 0)
            return more / _seconds(self.at, before.at) if before else None

        found = [(one, per_s(one)) for one in self.stats.actors]
        return sorted(found, key=lambda pair: (pair[1] or 0, _ended(pair[0])), reverse=True)

    def fullest(self) -> list[QueueDepth]:
        """Return the queues, the one with the most jobs that could run first."""
        return sorted(self.stats.queues, key=lambda one: (one.ready + one.lanes, one.leased, one.delayed), reverse=True)

    def held(self, kind: str, name: str) -> str:
        """Return `paused`, `drained` or nothing for a queue or an actor."""
        return next((pause.how for pause in self.pauses if (pause.kind, pause.name) == (kind, name)), "")

    def summary(self, before: Look | None) -> dict[str, Any]:
        """Return plain data with camelCase names: that of `stats`, and what has happened lately."""
        of_actors = [{**_plain(one), "endedPerS": per_s} for one, per_s in self.busiest(before)]
        lately = {
            "at": self.at.isoformat(),
            "perS": _plain(self.rates(before)),
            "minute": _plain(self.minutes[-1]),
            "lastMinute": _plain(self.minutes[-2]),
        }
        return {**lately, **self.stats.summary(), "actors": of_actors, "workers": list(map(_plain, self.workers))}


def _sum(word: str, minutes: Sequence[Minute]) -> int:
    return sum(int(getattr(minute, word)) for minute in minutes)


def _seconds(until: datetime, since: datetime) -> float:
    return max((until - since).total_seconds(), LEAST_S)


def _ended(one: Figures) -> int:
    return one.completed + one.failed


def _plain(view: View) -> dict[str, Any]:
    return view.model_dump(mode="json", by_alias=True)
