"""What deaths of workers make of their jobs, checked as it happens: who is struck off, what runs apart, what is failed for it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.simulation.ledger import Fault, Lease
    from tests.simulation.loop import Process

TOGETHER_MAX: Final = 8
ALONE: Final = 2
PROVEN: Final = 3
BEATEN_MS: Final = 600
"""A worker whose last beat came so shortly before its lease was lost, or later, stood still at most."""
CLOSING: Final = ("request", "reply", "greeting", "cut off")
"""Faults by which a worker may be without any connection for a second: what it sends is lost, or is not answered."""
CLOSED_S: Final = 10.0
"""For so long at most after such a fault: a reply is waited for 5 s, and the next connection may be lost as well."""


@dataclass
class Deaths:
    """`killers` are the processes that a job of theirs has ended, and which job."""

    problem: Callable[[str], None]
    beats: dict[str, float] = field(default_factory=dict)
    killers: dict[Process, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    # -- who is struck off -----------------------------------------------------------------------------------------------------------

    def check_strike(self, worker: str, process: Process | None, faults: Iterable[Fault], now_s: float) -> None:
        """A worker that lives is struck off before its lease is over only if its connections were really gone."""
        if process is None or process.is_dead or process.has_left:  # a beat that comes late enters again who has left
            self.counts["struck off by the connection"] += 1
            return
        own = [fault for fault in faults if fault.process in (None, process)]
        near = [fault for fault in own if fault.until_s + CLOSED_S >= now_s]
        if any(word in fault.name for fault in near for word in CLOSING):
            self.counts["struck off alive"] += 1
            return
        is_reset = any("reset" in fault.name for fault in near)
        if not (is_reset and any(fault.name == "stalled" for fault in near)):
            names = ", ".join(fault.name for fault in near) or "nothing"
            self.problem(f"worker {worker} lives, and is struck off by its connection although only this happened: {names}")

    # -- what a lease makes of the loss of the last one --------------------------------------------------------------------------------

    def check_lease(self, job_id: str, lease: Lease, last: Lease | None, history: str) -> None:
        """A death is counted and uses up no attempt; a worker that has beaten since did not die; a verdict of the job's own clears it."""
        told = lease.deaths, lease.attempts
        expected = (0, 1) if last is None else self._after(last, history)
        if told != expected:
            self.problem(f"job {job_id} under {lease.token}: (deaths, attempts) are {told} instead of {expected}, after {history}")

    def _after(self, last: Lease, history: str) -> tuple[int, int]:
        match history[0] if last.verdict in ("", "x") else last.verdict:  # a worker that leaves names what it has lost before, too
            case "l":
                has_died = self.beats.get(last.worker, -math.inf) <= float(history.split(",")[2]) - BEATEN_MS
                self.counts["runs in a death" if has_died else "runs lost by the living"] += 1
                return (last.deaths + 1, last.attempts) if has_died else (last.deaths, last.attempts + 1)
            case "r":
                return 0, last.attempts + 1
            case "s":
                return 0, last.attempts
            case _:
                return last.deaths, last.attempts  # handed back

    # -- what runs apart ---------------------------------------------------------------------------------------------------------------

    def check_apart(self, worker: str, held: dict[str, Lease]) -> None:
        """Suspects run at most eight together, after a second death alone, and beside them nothing."""
        deaths = {job_id: lease.deaths for job_id, lease in held.items() if lease.deaths < PROVEN}
        if not any(deaths.values()):
            return
        self.counts["claims of suspects"] += 1
        most = 1 if max(deaths.values()) >= ALONE else TOGETHER_MAX
        if len(deaths) > most or not all(deaths.values()):
            self.problem(f"worker {worker} holds together, by how many deaths they were in: {deaths}")

    # -- what is failed for it ----------------------------------------------------------------------------------------------------------

    def check_verdict(self, job_id: str, verdict: str, note: str, leases: list[Lease], process_of: Callable[[str], Process | None]) -> None:
        """A job is failed as Poison exactly when it has run in three deaths, of which no other job has caused the last."""
        is_poison = note == "p"
        self.counts["poison"] += is_poison
        if is_poison != (leases[-1].deaths >= PROVEN) and verdict not in "xk":
            self.problem(f"job {job_id} was in {leases[-1].deaths} deaths, and its verdict is {verdict}{note}")
        if is_poison:
            ran = [lease for lease in leases[:-1] if not lease.verdict]
            process = process_of(ran[-1].worker) if ran else None
            killer = self.killers.get(process, job_id) if process else job_id
            if killer != job_id:
                self.problem(f"job {job_id} is failed as Poison, and it was {killer} that killed its worker at last")
