"""What holds jobs back in the model: limits, pauses, tokens, and the lanes with the times at which they are looked at again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.properties.model_parts import APART_FOR, ROOM, Job, Limit, limit_of, rule_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from tests.properties.model_parts import Gate

SLICES: Final = 64
"""Tokens are counted in so many slices of a window, each until a window and a slice after its end."""


@dataclass
class Counted:
    """What was taken at a gate: tokens by the end of their slice, when its burst is whole again, until when it is held back."""

    hold_ms: float = 0
    full_ms: float = 0
    slices: dict[int, int] = field(default_factory=dict)
    void_ms: float = 0

    def taken(self, limit: Limit, now_ms: float) -> dict[int, int]:
        """Return the slices that still count, the oldest first, by the time until which they do."""
        until = {ends + limit.window_ms + slice_ms(limit): tokens for ends, tokens in sorted(self.slices.items())}
        return {till: tokens for till, tokens in until.items() if till > now_ms}


def slice_ms(limit: Limit) -> int:
    """Return the length of a slice."""
    return max(limit.window_ms // SLICES, 1)


@dataclass
class Gates:
    """Jobs where they are, and what each gate says. `opens` tells when a lane of a queue is looked at again."""

    now_ms: float
    jobs: dict[str, Job] = field(default_factory=dict)
    queues: set[str] = field(default_factory=set)
    wakes: set[str] = field(default_factory=set)
    opens: dict[tuple[str, str], float] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    counted: dict[str, Counted] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    refunds: list[tuple[str, Gate, int, float]] = field(default_factory=list)

    @property
    def whole_ms(self) -> int:
        """The millisecond that has begun, as the scripts write times."""
        return math.floor(self.now_ms)

    # -- control -------------------------------------------------------------------------------------------------------------------

    def control(self, verb: str, what: str, value: str) -> None:
        """Pause or resume a queue, an actor or a gate; declare or change a rule. What may proceed by it is marked open."""
        if verb == "pause":
            self.paused.add(what)
        elif verb == "resume":
            self.paused -= {what, f"d{what}"}
            if what[0] == "q":
                self.wakes |= {what[1:]} & self.queues
                self.opens |= {(queue, lane): self.now_ms for queue, lane in self.opens if queue == what[1:] and is_actors(lane)}
            else:
                self.open_lanes(what[1:])
        else:
            name = f"{what}!" if verb == "limit" else what
            if self.rules.get(name, "") != value:
                if " " in value and not self.limit(what):
                    self.rules[f"{what}^"] = str(self.whole_ms)
                self.rules[name] = value
                self.rules = {rule: spec for rule, spec in self.rules.items() if spec}
                for lane in {job.lane for job in self.jobs.values() if job.place == "lane" and rule_of(job.lane) == what}:
                    self.open_lanes(lane)

    def open_lanes(self, lane: str, queues: Iterable[str] | None = None) -> None:
        """Mark the lane in each queue in which somebody waits there."""
        for queue in self.queues if queues is None else queues:
            if self.lane(queue, lane):
                self.opens[queue, lane] = self.now_ms
                self.wakes.add(queue)

    def hand_on(self, queue: str, known: AbstractSet[str], looked_ms: float) -> None:
        """Wake one more for each lane of an actor that this worker lacks, if it was marked since the worker looked last."""
        if f"q{queue}" not in self.paused:
            marks = [ms for (of, lane), ms in self.opens.items() if of == queue and is_actors(lane) and lane not in known]
            self.wakes |= {queue for ms in marks if looked_ms < ms <= self.now_ms}

    # -- what a gate says ----------------------------------------------------------------------------------------------------------

    def limit(self, rule: str) -> Limit | None:
        """Return the limit that holds: the changed one, or the declared one; None for a rule that nobody declared."""
        return limit_of(self.rules.get(f"{rule}!") or self.rules.get(rule, ""))

    def opens_at(self, gate: Gate) -> float:
        """Return when a gate lets a job through: 0 for now, infinity for when somebody opens it."""
        if f"g{gate.name}" in self.paused:
            return math.inf
        limit, counted = self.limit(gate.rule), self.counted.get(gate.name, Counted())
        held_until = counted.hold_ms if counted.hold_ms > self.now_ms else 0
        if limit is None:
            return held_until
        if not gate.is_rate:
            return math.inf if self.holders(gate.name) >= limit.most else held_until
        return max(held_until, self._tokens_at(limit, counted, gate.cost))

    def _tokens_at(self, limit: Limit, counted: Counted, cost: int) -> float:
        if cost > limit.most:
            return math.inf
        taken = counted.taken(limit, self.now_ms)
        needed, at_ms = sum(taken.values()) + cost - limit.most, 0.0
        for till, tokens in taken.items():
            if needed > 0:
                needed, at_ms = needed - tokens, till
        if limit.burst < limit.most:
            owed = cost - max(limit.burst, cost)
            at_ms = max(at_ms, max(counted.full_ms, self.now_ms) + owed * (limit.window_ms / limit.most))
        return 0 if at_ms <= self.now_ms else math.ceil(at_ms)

    def holders(self, gate: str) -> int:
        """Return how many run behind a concurrency gate."""
        return sum(job.place == "leased" and any(gate == own.name for own in job.gates) for job in self.jobs.values())

    def first_closed(self, job: Job, passed: set[str]) -> tuple[str, float] | None:
        """Return the lane in which a job waits for the first of its gates that is closed, and when that opens.

        A gate is closed, too, while others wait there who come before the job, unless its lane is among the `passed`.
        """
        for gate in job.gates:
            at_ms = self.opens_at(gate)
            if not at_ms and gate.name not in passed:
                waiters = self.lane(job.queue, gate.name)
                if waiters and self.jobs[waiters[0]].order < job.order:
                    at_ms = self.opens.get((job.queue, gate.name), math.inf)
            if at_ms:
                return self._lane_at(gate), at_ms
        return None

    def _lane_at(self, gate: Gate) -> str:
        """Who takes more tokens than there ever are waits apart, with those that take as many."""
        limit = self.limit(gate.rule)
        return f"{gate.rule}=>{gate.cost}" if gate.is_rate and limit and gate.cost > limit.most else gate.name

    # -- what jobs do to gates -----------------------------------------------------------------------------------------------------

    def stand_in(self, job: Job, lane: str) -> None:
        """Let a job wait in a lane."""
        job.place, job.lane, job.score = "lane", lane, job.rank

    def look_again(self, queue: str, lane: str, at_ms: float) -> None:
        """Look at a lane at this time, unless it is earlier."""
        if at_ms < self.opens.get((queue, lane), math.inf):
            self.opens[queue, lane] = at_ms
            self.wakes.add(queue)

    def take_tokens(self, gate: Gate, tokens: int, ms: float) -> None:
        """Charge tokens as of a time; less than 0 are given back."""
        limit = self.limit(gate.rule)
        if limit is None:
            return
        counted = self._touch(gate.name)
        ends = (math.floor(ms / slice_ms(limit)) + 1) * slice_ms(limit)
        is_new = ends not in counted.slices
        counted.slices[ends] = max(counted.slices.get(ends, 0) + tokens, 0)
        dead = [end for end in counted.slices if end + limit.window_ms + slice_ms(limit) <= self.now_ms and not (is_new and end == ends)]
        for end in (*dead, *[end for end, left in counted.slices.items() if not left]):
            counted.slices.pop(end, None)
        counted.full_ms = max(counted.full_ms, self.now_ms) + tokens * limit.window_ms / limit.most

    def enter(self, job: Job) -> None:
        """Charge a run that begins; a place is taken by its lease."""
        for gate in job.gates:
            if gate.is_rate:
                self.take_tokens(gate, gate.cost, self.now_ms)

    def leave(self, job: Job) -> None:
        """Let others in where a run ends; its lease is given up by the caller, before anybody looks."""
        for gate in job.gates:
            if not gate.is_rate:
                self.open_lanes(gate.name, [job.queue])

    def correct(self, job: Job, note: str, *, has_begun: bool, delay_ms: int) -> None:
        """Note what a run did not use, charge what it used beyond its cost, and hold its gates back for a time."""
        used = int(note[1:].rstrip("h")) if note.startswith("u") else None
        for gate in job.gates:
            if note.endswith("h"):
                counted = self._touch(gate.name)
                counted.hold_ms = max(counted.hold_ms, math.ceil(self.now_ms + delay_ms))
            is_told = not has_begun or (used is not None and gate.has_cost)
            if gate.is_rate and self.limit(gate.rule) and is_told and self._was_charged(job, gate):
                tokens = (used or 0) * has_begun - gate.cost
                if tokens < 0:
                    self.refunds.append((job.queue, gate, tokens, job.started_ms))
                else:
                    self.take_tokens(gate, tokens, job.started_ms)

    def _was_charged(self, job: Job, gate: Gate) -> bool:
        """Tell whether the rule had a limit when the run was leased."""
        return job.started_ms > float(self.rules.get(f"{gate.rule}^", 0))

    def _touch(self, gate: str) -> Counted:
        self.touched.add(gate)
        return self.counted.setdefault(gate, Counted())

    def refund(self) -> None:
        """Give back what the runs of this call did not use: the jobs that they sent do not have it yet, but are looked at again."""
        for queue, gate, tokens, ms in self.refunds:
            self.take_tokens(gate, tokens, ms)
            self.open_lanes(gate.name, [queue])
        self.refunds.clear()

    def end_call(self) -> None:
        """Note at the end of a call until when the state of the gates that it touched says something."""
        for gate in self.touched:
            counted, limit = self.counted[gate], self.limit(rule_of(gate))
            counted.full_ms = math.ceil(counted.full_ms)
            last_ms = max(counted.slices, default=0) + limit.window_ms + slice_ms(limit) if limit and counted.slices else 0
            counted.void_ms = math.ceil(max(self.now_ms, last_ms, counted.hold_ms, counted.full_ms))
        self.touched.clear()

    # -- looks ---------------------------------------------------------------------------------------------------------------------

    def _is(self, job: Job, queue: str, place: str) -> bool:
        return job.queue == queue and job.place == place

    def _in(self, queue: str, place: str) -> list[Job]:
        return [job for job in self.jobs.values() if self._is(job, queue, place)]

    def line(self, queue: str) -> list[str]:
        """Return the ids that are ready, in order."""
        return self._ordered(job_id for job_id, job in self.jobs.items() if self._is(job, queue, "ready"))

    def lane(self, queue: str, lane: str) -> list[str]:
        """Return the ids that wait for an actor or at a gate, in order."""
        return self._ordered(job_id for job_id, job in self.jobs.items() if self._is(job, queue, "lane") and job.lane == lane)

    def _ordered(self, ids: Iterable[str]) -> list[str]:
        return sorted(ids, key=lambda job_id: self.jobs[job_id].order)

    def open_gates(self, queue: str) -> list[str]:
        """Return the gates whose lanes are to be looked at now."""
        return [lane for (of_queue, lane), ms in self.opens.items() if of_queue == queue and is_gate(lane) and ms <= self.now_ms]

    def next_due_ms(self, queues: Sequence[str]) -> float:
        """Return when something here changes by itself; -1 for never."""
        jobs = [job for job in self.jobs.values() if job.queue in queues]
        times: list[float] = [math.ceil(job.score) for job in jobs if job.place in ("delayed", "leased")]
        times += [job.watched_ms for job in jobs if job.watched_ms is not None]
        return math.ceil(min([*times, *self._next_opens(queues)], default=-1))

    def next_open_ms(self, queues: Sequence[str]) -> float:
        """Return when the lane of a gate is looked at by time alone; -1 for never."""
        return min(self._next_opens(queues), default=-1)

    def _next_opens(self, queues: Sequence[str]) -> list[float]:
        return [ms for (queue, lane), ms in self.opens.items() if queue in queues and is_gate(lane) and ms > self.now_ms]


def is_gate(lane: str) -> bool:
    """Whether a lane is of a gate, not of an actor."""
    return "=" in lane


def is_actors(lane: str) -> bool:
    """Whether a lane is of an actor that some worker lacks."""
    return not is_gate(lane) and lane != ROOM and not lane.startswith(APART_FOR)
