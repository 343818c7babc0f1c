"""The life of one job as a history tells it: its deliveries, how each ended, and the fault that a lost one is tied to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from tests.chaos.schedule import OF_SERVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Fact = dict[str, Any]
SLACK_MS: Final = 5_000.0
"""What a worker takes after a fault is over may still be taken from it: until it has beaten again, it looks dead."""
EARLY_MS: Final = 10.0
"""Between the clocks of the server and of this process, which are one, and their rounding."""
NOTICE_MS: Final = 10_000.0
"""A lease that has run out is noticed at the next claim, which an outage of the server may delay."""


@dataclass(eq=False)
class Fault:
    """A fault that met something: `worker` is its worker's id, or its process where that is none; '' for the server."""

    number: int
    kind: str
    worker: str
    begin: float
    end: float

    @classmethod
    def of(cls, fact: Fact, workers: Mapping[int, str]) -> Self:
        """Read it from its fact."""
        met = "" if fact["kind"] in OF_SERVER else workers.get(fact["pid"], str(fact["pid"]))
        return cls(fact["number"], fact["kind"], met, fact["begin"], fact["end"])


@dataclass(eq=False)
class Delivery:
    """One delivery: times in ms since 1970 by the server's clock. `how` is l lost, r retried, x handed back, '' the last one."""

    worker: str
    started: float
    ended: float
    how: str
    fault: Fault | None = None


@dataclass(eq=False)
class Life:
    """A job from its first delivery to its end; `runs` are the facts that its actor left."""

    id: str
    end: Fact
    deliveries: list[Delivery]
    runs: Sequence[Fact]

    def noted(self, kind: str, workers: Mapping[int, str]) -> Counter[str]:
        """Return how many facts of this kind each worker has left."""
        return Counter(workers.get(fact["pid"], "?") for fact in self.runs if fact["fact"] == kind)

    @property
    def began(self) -> float | None:
        """When an actor first began to run it."""
        return min((fact["at"] for fact in self.runs if fact["fact"] == "began"), default=None)


def deliveries_of(end: Fact) -> list[Delivery]:
    """Return the deliveries of a job that ended, in order."""
    deliveries = [Delivery(worker, started, ended, how) for how, started, ended, worker in end["timeline"]]
    if "worker" in end:
        deliveries.append(Delivery(end["worker"], end["started"], end["at"], ""))
    return deliveries


def explained_by(delivery: Delivery, faults: Iterable[Fault], lease_ms: float) -> Fault | None:
    """Return the fault that a lost delivery is tied to: it met its worker or the server while the worker held the job.

    Of several, a kill, which explains all that its worker held; else the one that met this very worker and began last.
    """

    def fits(fault: Fault) -> bool:
        return (
            fault.worker in ("", delivery.worker)
            and fault.begin - EARLY_MS <= delivery.ended <= fault.end + lease_ms + NOTICE_MS
            and delivery.started <= fault.end + SLACK_MS
        )

    return max(filter(fits, faults), key=lambda fault: (fault.worker != "", fault.kind == "kill", fault.begin), default=None)
