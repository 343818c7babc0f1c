"""Rules of the scripts that are wrong on purpose, each with the world that must show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..claiming import Claimed, Claiming
from ..fleet import Protocols
from ..model import Place
from ..world import (
    ACTOR_OF_ONE,
    ACTOR_OF_THE_LAST,
    LIMITS,
    LINE,
    PAUSES,
    RENEWALS,
    SWEEPS,
    THREE,
    TOO_LATE,
    TWO_OF_AN_ACTOR,
    TWO_OF_ONE_KEY,
    World,
)  # fmt: skip

if TYPE_CHECKING:
    from ..claiming import Look
    from ..model import Draft


class Mutant(NamedTuple):
    """What is wrong, where it must show, and the rules: of scripts, or of workers."""

    what: str
    world: World
    rules: type[Claiming] = Claiming
    fleets: type[Protocols] = Protocols


class OpensTheNext(Claiming):
    """Whoever frees a gate hands the place to the first waiter, and marks nothing."""

    def leave(self, d: Draft, job: int) -> None:
        for gate in d.world.jobs[job].gates:
            for first in d.waiters(gate)[:1]:
                d.places[first] = Place("ready")
                d.marker = True


class LeavesUnmarked(Claiming):
    def leave(self, d: Draft, job: int) -> None:
        pass


class MarksWithoutWaking(Claiming):
    def mark_open(self, d: Draft, lane: str) -> None:
        if d.waiters(lane):
            d.marks.add(lane)


class NeverAgain(Claiming):
    def is_more(self, d: Draft, look: Look, *, more: bool) -> bool:
        return False


class AgainWhileReady(Claiming):
    """Claim sets the marker whenever ready is not empty, even where the queue is paused."""

    def claim(self, d: Draft, worker: str, actors: frozenset[str], resend: bool) -> Claimed:  # noqa: FBT001 - as the rule has it
        claimed = super().claim(d, worker, actors, resend)
        is_more = any(place.state == "ready" for place in d.places)
        d.marker = d.marker or is_more
        return Claimed(claimed.job, claimed.again or is_more)


class MarkGoesWithTheLook(Claiming):
    def mark_again(self, d: Draft, look: Look) -> None:
        d.marks -= set(look.lanes)


class MarkGoesWithTheFirst(Claiming):
    """A job that moves from one lane to another takes the mark of the first one with it."""

    def place(self, d: Draft, look: Look, job: int) -> int | None:
        lane = d.places[job].of
        leased = super().place(d, look, job)
        if leased is None and lane:
            d.marks.discard(lane)
            look.closed.setdefault(lane, False)
        return leased


class CancelLeavesUnmarked(Claiming):
    def end_waiting(self, d: Draft, job: int) -> None:
        d.places[job] = Place("cancelled")
        d.watched.discard(job)
        d.overdue.discard(job)


class MarkOfTheEmptied(CancelLeavesUnmarked):
    """The mark goes with the waiter that is cancelled or expires."""

    def end_waiting(self, d: Draft, job: int) -> None:
        d.marks.discard(d.places[job].of)
        super().end_waiting(d, job)


class LimitMarksNothing(Claiming):
    def sweep(self, d: Draft, rule: str) -> object:
        d.sweeping.discard(rule)
        return None


class HalfSweepForgotten(Claiming):
    def half_limit(self, d: Draft, rule: str, most: int) -> object:
        super().half_limit(d, rule, most)
        d.sweeping.discard(rule)
        return None


class ResumeMarksNothing(Claiming):
    def resume(self, d: Draft, what: str) -> object:
        d.paused.discard(what)
        d.marker = True
        return None


class ResumeWakesNobody(Claiming):
    def resume(self, d: Draft, what: str) -> object:
        was_set = d.marker
        super().resume(d, what)
        d.marker = was_set
        return None


class SendWakesNobody(Claiming):
    def enqueue(self, d: Draft, job: int) -> object:
        was_set = d.marker
        super().enqueue(d, job)
        d.marker = was_set
        return 1


class SendPassesTheLine(Claiming):
    """A job that is sent to a closed gate goes to ready, and nobody is told."""

    def first_closed(self, d: Draft, job: int, lane: str, looked: set[str]) -> tuple[str, bool] | None:
        return None


class OnlyTheFirstGate(Claiming):
    def first_closed(self, d: Draft, job: int, lane: str, looked: set[str]) -> tuple[str, bool] | None:
        gate = d.world.jobs[job].gates[0]
        return None if d.is_open(gate) else (gate, False)


class MissLeavesTheLaneClosed(Claiming):
    def miss(self, d: Draft, actor: str) -> None:
        d.marker = True


class HandsNothingOn(Claiming):
    """A worker that lacks the actor of a lane keeps the marker."""

    def hand_on(self, d: Draft, worker: str, actors: frozenset[str]) -> None:
        pass


class HandsOnForEver(Claiming):
    """A worker does not remember which marks it has seen."""

    def hand_on(self, d: Draft, worker: str, actors: frozenset[str]) -> None:
        if any(not d.is_gate(lane) and lane not in actors for lane in d.marks):
            d.marker = True


class ResumedQueueIsNoNews(Claiming):
    """The lanes of a queue that is resumed keep their old marks."""

    def resume(self, d: Draft, what: str) -> object:
        passed = set(d.passed)
        super().resume(d, what)
        if what == "q":
            d.passed = passed
        return None


class LeaseEndsUnmarked(Claiming):
    """A lease that ends by itself frees its gates without a mark."""

    def give_back(self, d: Draft, job: int) -> None:
        marks = set(d.marks)
        super().give_back(d, job)
        d.marks = marks


class LeaseEndsForGood(Claiming):
    """A lease that ends stays with its gates: nobody takes it back."""

    def give_back(self, d: Draft, job: int) -> None:
        d.overdue.discard(job)


class TickWakesNobody(Claiming):
    def tick(self, d: Draft) -> object:
        was_set = d.marker
        super().tick(d)
        d.marker = was_set
        return None


class AskedWaitsAgain(Claiming):
    """A job that was asked to stop is put back, and nobody asks again: it runs although it was cancelled."""

    def give_back(self, d: Draft, job: int) -> None:
        d.places[job] = Place("ready")
        d.overdue.discard(job)
        self.leave(d, job)


class NoFence(Claiming):
    """A settle goes by the job alone: a worker that lost its lease ends what another one runs."""

    def settle(self, d: Draft, worker: str, job: int, verdict: str) -> object:
        if d.places[job].state == "leased":
            d.places[job] = Place("leased", worker)
        return super().settle(d, worker, job, verdict)


class RepeatedSettleCounts(Claiming):
    def settle(self, d: Draft, worker: str, job: int, verdict: str) -> object:
        if (job, worker) in d.settled and d.places[job].state == "delayed":
            d.settled.discard((job, worker))
            d.places[job] = Place("leased", worker)
        return super().settle(d, worker, job, verdict)


class StaleRenew(Claiming):
    """A renewal goes by the job alone."""

    def renew(self, d: Draft, worker: str, job: int) -> object:
        if d.places[job].state == "ready":
            d.places[job] = Place("leased", worker)
        return super().renew(d, worker, job)


class ResendLeasesNothing(Claiming):
    """A claim that is sent again does not find what it leased."""

    def claim(self, d: Draft, worker: str, actors: frozenset[str], resend: bool) -> Claimed:  # noqa: FBT001 - as the rule has it
        return super().claim(d, worker, actors, resend=False)


class BlockWithoutLimit(Protocols):
    """The marker that a worker had popped when it died is restored by the limit of the others' blocks, and by nothing else."""

    block_has_limit = False


class WaitsAfterRunning(Protocols):
    looks_after_running = False


MUTANTS = (
    Mutant("settle opens exactly the next one", LINE, OpensTheNext),
    Mutant("whoever leaves a gate marks nothing", TWO_OF_ONE_KEY, LeavesUnmarked),
    Mutant("a mark is set and nobody is woken", TWO_OF_ONE_KEY, MarksWithoutWaking),
    Mutant("claim never sets the marker again", PAUSES, NeverAgain),
    Mutant("claim sets the marker while ready is not empty", PAUSES, AgainWhileReady),
    Mutant("a look takes the mark away though waiters are left", LIMITS, MarkGoesWithTheLook),
    Mutant("a job that moves on takes its lane's mark along", THREE, MarkGoesWithTheFirst),
    Mutant("cancel of the only one who was to look leaves no mark", THREE, MarkOfTheEmptied),
    Mutant("a changed limit marks nothing", LIMITS, LimitMarksNothing),
    Mutant("a sweep that stops half-way is not noted", SWEEPS, HalfSweepForgotten),
    Mutant("resume marks nothing", PAUSES, ResumeMarksNothing),
    Mutant("resume wakes nobody", PAUSES, ResumeWakesNobody),
    Mutant("send wakes nobody", TWO_OF_ONE_KEY, SendWakesNobody),
    Mutant("claim does not ask the gates", TWO_OF_ONE_KEY, SendPassesTheLine),
    Mutant("claim asks the first gate alone", THREE, OnlyTheFirstGate),
    Mutant("the lane of a missing actor gets no mark", ACTOR_OF_ONE, MissLeavesTheLaneClosed),
    Mutant("a worker that lacks the actor does not hand the marker on", ACTOR_OF_THE_LAST, HandsNothingOn),
    Mutant("a worker that lacks the actor hands the marker on for ever", ACTOR_OF_THE_LAST, HandsOnForEver),
    Mutant("a queue that is resumed has no news for its lanes", TWO_OF_AN_ACTOR, ResumedQueueIsNoNews),
    Mutant("a lease that ends frees its gates without a mark", TWO_OF_ONE_KEY, LeaseEndsUnmarked),
    Mutant("a lease that ends is never taken back", TWO_OF_ONE_KEY, LeaseEndsForGood),
    Mutant("a timer moves jobs and wakes nobody", TOO_LATE, TickWakesNobody),
    Mutant("what was asked to stop runs again", TWO_OF_ONE_KEY, AskedWaitsAgain),
    Mutant("no fence at settle", TWO_OF_ONE_KEY, NoFence),
    Mutant("a settle that is sent again counts twice", TWO_OF_ONE_KEY, RepeatedSettleCounts),
    Mutant("a stale renewal is accepted", RENEWALS, StaleRenew),
    Mutant("a claim that is sent again loses what it leased", TWO_OF_ONE_KEY, ResendLeasesNothing),
    Mutant("a block has no limit", TWO_OF_ONE_KEY, fleets=BlockWithoutLimit),
    Mutant("a worker waits for the marker after it was full", TWO_OF_ONE_KEY, fleets=WaitsAfterRunning),
)
