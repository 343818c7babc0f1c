"""The model: what a namespace holds, and what each verb does with it, as small rules that a mutant may replace.

Times are gone: a lease has ended or has not, a mark is open or is not there. One step of the model is one call of a script, since Redis
runs a script alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from .world import rule_of

if TYPE_CHECKING:
    from .world import World

GHOST: Final = "ghost"
"""Stands for every worker that died: who holds what nobody will settle."""
WAITING: Final = ("ready", "lane")
VERDICTS: Final = {"c": "completed", "f": "failed", "k": "cancelled", "r": "delayed", "x": "ready"}
ENDED: Final = ("completed", "failed", "cancelled")


class Place(NamedTuple):
    """Where a job is: unsent, ready, delayed, lane (and which), leased (and by whom), completed, failed, cancelled."""

    state: str
    of: str = ""

    def __str__(self) -> str:
        """Tell it in short."""
        return f"{self.state} {self.of}".rstrip()


class Db(NamedTuple):
    """What a namespace holds. Jobs are numbers, by rank; `overdue` are ended leases, delayed jobs that are due, and what is too late.

    `passed` is what workers remember: the actors whose lanes were marked when a worker that lacks them looked last.
    """

    places: tuple[Place, ...]
    overdue: frozenset[int]
    watched: frozenset[int]
    asked: frozenset[int]
    settled: frozenset[tuple[int, str]]
    marks: frozenset[str]
    marker: bool
    limits: tuple[int, ...]
    sweeping: frozenset[str]
    paused: frozenset[str]
    passed: frozenset[tuple[str, str]]


@dataclass
class Draft:
    """A Db that is being changed."""

    world: World
    places: list[Place]
    overdue: set[int]
    watched: set[int]
    asked: set[int]
    settled: set[tuple[int, str]]
    marks: set[str]
    marker: bool
    limits: list[int]
    sweeping: set[str]
    paused: set[str]
    passed: set[tuple[str, str]]

    def limit(self, gate: str) -> int:
        """Return the limit of a gate."""
        return self.limits[self.world.rules.index(rule_of(gate))]

    def holders(self, gate: str) -> list[int]:
        """Return the jobs that occupy a gate."""
        return [j for j, place in enumerate(self.places) if place.state == "leased" and gate in self.world.jobs[j].gates]

    def waiters(self, lane: str) -> list[int]:
        """Return the jobs that stand in a lane, in order."""
        return [j for j, place in enumerate(self.places) if place == ("lane", lane)]

    def is_open(self, gate: str) -> bool:
        """Whether a gate lets one more through."""
        return f"g{gate}" not in self.paused and len(self.holders(gate)) < self.limit(gate)

    def is_gate(self, lane: str) -> bool:
        """Whether a lane is that of a gate; the others are of actors."""
        return lane in self.world.gates

    def mark(self, lane: str) -> None:
        """Mark a lane anew, so that those who lack its actor hand the marker on again."""
        self.marks.add(lane)
        self.passed = {(actor, worker) for actor, worker in self.passed if actor != lane}

    def freeze(self) -> Db:
        """Return what it has become."""
        passed = frozenset((actor, worker) for actor, worker in self.passed if actor in self.marks)
        return Db(
            tuple(self.places), frozenset(self.overdue), frozenset(self.watched), frozenset(self.asked), frozenset(self.settled),
            frozenset(self.marks), self.marker, tuple(self.limits), frozenset(self.sweeping), frozenset(self.paused), passed,
        )  # fmt: skip


def empty(world: World) -> Db:
    """Return a namespace in which nothing was sent."""
    none: frozenset[int] = frozenset()
    limits = tuple(world.limits[0] for _ in world.rules)
    places = tuple(Place("unsent") for _ in world.jobs)
    return Db(places, none, none, none, frozenset(), frozenset(), False, limits, frozenset(), frozenset(), frozenset())


def draft(world: World, db: Db) -> Draft:
    """Return a copy to be changed."""
    places, overdue, watched, asked, settled, marks, marker, limits, sweeping, paused, passed = db
    return Draft(
        world, list(places), set(overdue), set(watched), set(asked), set(settled), set(marks), marker, list(limits), set(sweeping),
        set(paused), set(passed),
    )  # fmt: skip


class Rules:
    """What the scripts do beside claiming; `Claiming` adds that. A mutant replaces one of them."""

    # -- what several verbs share --------------------------------------------------------------------------------------------------

    def mark_open(self, d: Draft, lane: str) -> None:
        """Whoever frees a gate marks its lane, if somebody waits there."""
        if d.waiters(lane):
            d.mark(lane)
            d.marker = True

    def leave(self, d: Draft, job: int) -> None:
        """Free the gates of a job whose lease ends, whatever ends it."""
        for gate in d.world.jobs[job].gates:
            self.mark_open(d, gate)

    def end_waiting(self, d: Draft, job: int) -> None:
        """End a job that waits; the next one in its lane may need less."""
        state, lane = d.places[job]
        d.places[job] = Place("cancelled")
        d.watched.discard(job)
        d.overdue.discard(job)
        self.forget_verdicts(d, job)
        if state == "lane" and d.is_gate(lane):
            self.mark_open(d, lane)

    def forget_verdicts(self, d: Draft, job: int) -> None:
        """Whoever settled an earlier run, and asks again, is answered that its lease is lost: nothing tells of that run any more."""
        d.settled = {(other, worker) for other, worker in d.settled if other != job}

    def give_back(self, d: Draft, job: int) -> None:
        """Take a lease back: the job waits again, or ends if it was asked to stop."""
        d.places[job] = Place("cancelled" if job in d.asked else "ready")
        d.overdue.discard(job)
        d.asked.discard(job)
        self.leave(d, job)

    def move_overdue(self, d: Draft) -> bool:
        """Do what time alone does; answer whether anything came back to ready."""
        late = sorted(d.overdue & d.watched)
        for job in late:
            self.end_waiting(d, job)
        moved = bool(d.overdue)
        for job in sorted(d.overdue):
            if d.places[job].state == "delayed":
                d.places[job] = Place("ready")
                d.overdue.discard(job)
        for job in sorted(d.overdue):
            self.give_back(d, job)
        return moved

    def first_closed(self, d: Draft, job: int, lane: str, looked: set[str]) -> tuple[str, bool] | None:
        """Return the first gate that is closed to a job out of this lane, and whether its lane has an open mark."""
        for gate in d.world.jobs[job].gates:
            if not d.is_open(gate):
                return gate, False
            if gate != lane and gate not in looked and self.is_before(d, gate, job):
                return gate, gate in d.marks
        return None

    def is_before(self, d: Draft, gate: str, job: int) -> bool:
        """Whether somebody waits at a gate who comes before this job."""
        return any(other < job for other in d.waiters(gate))

    # -- verbs -----------------------------------------------------------------------------------------------------------------------

    def enqueue(self, d: Draft, job: int) -> object:
        """Send a job: to ready, or to the lane of the first gate that is closed."""
        if d.places[job].state != "unsent":
            return 1
        closed = self.first_closed(d, job, "", set())
        if closed:
            d.places[job] = Place("lane", closed[0])
        else:
            d.places[job] = Place("ready")
            d.marker = True
        if d.world.jobs[job].expires:
            d.watched.add(job)
            d.marker = True
        return 1

    def settle(self, d: Draft, worker: str, job: int, verdict: str) -> object:
        """Write the verdict of a run whose token is valid: completed, failed, cancelled, retry, or x: handed back without having begun."""
        if (job, worker) in d.settled:
            return 2
        if d.places[job] != ("leased", worker):
            return 0
        asked = job in d.asked
        d.asked.discard(job)
        d.overdue.discard(job)
        d.settled.add((job, worker))
        state = VERDICTS[verdict]
        if state in ("delayed", "ready") and asked:
            state = "cancelled"
        d.places[job] = Place(state)
        self.leave(d, job)
        if state in ("delayed", "ready"):
            d.marker = d.marker or state == "ready" or not self.has_head(d, job)
        if state == "ready" and d.world.jobs[job].expires:
            d.watched.add(job)
        return 1

    def has_head(self, d: Draft, job: int) -> bool:
        """Whether another job is delayed that is due as early: then this one is no news."""
        return any(place.state == "delayed" for j, place in enumerate(d.places) if j != job)

    def renew(self, d: Draft, worker: str, job: int) -> object:
        """Extend a lease: ok, lost, or asked to stop."""
        if d.places[job] != ("leased", worker):
            return "lost"
        d.overdue.discard(job)
        return "asked" if job in d.asked else "ok"

    def tick(self, d: Draft) -> object:
        """Do what time alone does, and wake a worker for it."""
        if self.move_overdue(d) or any(d.is_gate(lane) for lane in d.marks):
            d.marker = True
        return None

    def cancel(self, d: Draft, job: int) -> object:
        """End a job that waits, ask one that runs to stop."""
        state = d.places[job].state
        if state in ("ready", "lane", "delayed"):
            self.end_waiting(d, job)
            return 1
        if state == "leased":
            d.asked.add(job)
            return 2
        return -1 if state == "unsent" else 0

    def strike(self, d: Draft) -> object:
        """Give back what workers hold that died."""
        for job, place in enumerate(list(d.places)):
            if place == ("leased", GHOST):
                self.give_back(d, job)
                d.marker = True
        return None

    def arrive(self, d: Draft, actors: frozenset[str]) -> object:
        """Register a worker: the lanes of its actors open."""
        for actor in sorted(actors):
            self.mark_open(d, actor)
        return None

    def pause(self, d: Draft, what: str) -> object:
        """Pause a queue, an actor or a gate."""
        d.paused.add(what)
        return None

    def resume(self, d: Draft, what: str) -> object:
        """Take a pause back, and mark what may proceed then."""
        d.paused.discard(what)
        if what == "q":
            d.passed.clear()
            d.marker = True
        else:
            self.mark_open(d, what[1:])
        return None

    def limit(self, d: Draft, rule: str, most: int) -> object:
        """Change a limit; every lane of its rule is marked."""
        index = d.world.rules.index(rule)
        if d.limits[index] != most or rule in d.sweeping:
            d.limits[index] = most
            self.sweep(d, rule)
        return None

    def half_limit(self, d: Draft, rule: str, most: int) -> object:
        """Change a limit, and stop after the first lane; the rule is noted as not swept to its end."""
        d.limits[d.world.rules.index(rule)] = most
        d.sweeping.add(rule)
        for gate in self.lanes_of_rule(d, rule)[:1]:
            self.mark_open(d, gate)
        return None

    def sweep(self, d: Draft, rule: str) -> object:
        """Mark every lane of a rule in which jobs wait."""
        for gate in self.lanes_of_rule(d, rule):
            self.mark_open(d, gate)
        d.sweeping.discard(rule)
        return None

    def lanes_of_rule(self, d: Draft, rule: str) -> list[str]:
        """Return the lanes of a rule in which jobs wait."""
        return [gate for gate in d.world.gates if rule_of(gate) == rule and d.waiters(gate)]
