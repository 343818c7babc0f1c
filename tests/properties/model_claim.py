"""Claim in the model: who is first in line, and where each waits who cannot be let through."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.properties.model_gates import is_gate
from tests.properties.model_parts import APART_FOR, ROOM, deaths_of

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from tests.properties.model import Model
    from tests.properties.model_parts import Job

TOGETHER_MAX, ALONE, PROVEN = 8, 2, 3
TURN_MS, ROOM_AFTER_MS, ROOM_MS = 500, 1_000, 1_000


@dataclass
class Serving:
    """One claim of a worker that knows some actors; jobs with gates come only while fewer than `free` are leased."""

    model: Model
    known: AbstractSet[str]
    capacity: int
    free: int
    ids: list[str]
    missing: dict[str, None] = field(default_factory=dict)
    closed: dict[str, float] = field(default_factory=dict)
    joined: dict[str, float] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)
    together: int = 0
    resend: bool = False
    makes_room: bool = False
    has_more: bool = False

    def __post_init__(self) -> None:
        """Take nothing beside suspects that the token holds already."""
        if any(0 < deaths_of(self.model.jobs[job_id].flow) < PROVEN for job_id in self.ids):
            self.capacity = len(self.ids)

    def serve(self, queue: str, worker: str, token: str, lease_ms: int) -> bool:
        """Lease what is first in line of what is ready and in open lanes; answer whether more is claimable."""
        model = self.model
        if f"q{queue}" in model.paused:
            return False
        self.closed, self.joined, self.has_more = {}, {}, False
        lanes = self._open_lanes(queue)
        if not self.resend:
            self._serve_suspects(queue, lanes, worker, token, lease_ms, is_turn=True)
        left = self.capacity - len(self.ids)
        if not any(of_queue == queue for of_queue, _ in model.opens):
            left = min(left, math.ceil(len(model.line(queue)) / max(len(model.beats), 1)))
        before = len(self.ids)
        while len(self.ids) - before < left and (first := self._first(queue, lanes)):
            job = model.jobs[first]
            if self._is_held(job, lanes):
                continue
            if job.gates and len(self.ids) >= self.free:
                break
            if 0 < self._deaths(job) < PROVEN:
                self._stand_apart(job)
                continue
            model.enter(job)
            model.lease(job, worker, token, lease_ms)
            self.ids.append(first)
        self._serve_suspects(queue, lanes, worker, token, lease_ms, is_turn=False)
        more = self._first(queue, lanes) is not None
        self._mark_again(queue, lanes)
        return more or self.has_more or bool(lanes and model.open_gates(queue))

    def _deaths(self, job: Job) -> int:
        return self.model.judge(job)[0] if deaths_of(job.flow) else 0

    def _stand_apart(self, job: Job) -> None:
        """Let a suspect wait for a worker that holds nothing."""
        lane = APART_FOR + job.actor
        self.model.stand_in(job, lane)
        self.suspects.add(lane)
        if (job.queue, lane) not in self.model.opens:
            self.model.opens[job.queue, lane] = self.model.now_ms
            self.model.wakes.add(job.queue)

    def _serve_suspects(self, queue: str, lanes: list[str], worker: str, token: str, lease_ms: int, *, is_turn: bool) -> None:
        """Lease suspects to a worker that holds nothing, in their turn or where there is nothing else; ask a busy one to make room."""
        model = self.model
        waiters = self._waiting_suspects(queue)
        since_ms = min((model.opens[queue, lane] for lane in self.suspects), default=math.inf)
        if not waiters or self.ids or self.capacity <= 0 or (is_turn and since_ms > model.now_ms):
            return
        if model.held(worker):
            if not self.makes_room and since_ms + ROOM_AFTER_MS <= model.now_ms and model.opens.get((queue, ROOM), 0) <= model.now_ms:
                model.opens[queue, ROOM] = model.now_ms + ROOM_MS
                self.makes_room = True
            return
        for job in waiters[: min(self.capacity, TOGETHER_MAX)]:
            if not self._is_held(job, lanes):
                if not self._may_join(job):
                    break
                model.enter(job)
                model.lease(job, worker, token, lease_ms)
                self.ids.append(job.id)
        if self.together:
            self._end_turn(queue)
        else:
            left = self._waiting_suspects(queue)
            self.has_more = bool(left) and left[0] is not waiters[0]

    def _waiting_suspects(self, queue: str) -> list[Job]:
        """Return the first of each lane of suspects, in order; a lane without any loses its mark."""
        model = self.model
        for lane in [lane for lane in self.suspects if not model.lane(queue, lane)]:
            self.suspects.remove(lane)
            model.opens.pop((queue, lane), None)
            model.opens.pop((queue, ROOM), None)
        waiters = [model.jobs[job_id] for lane in self.suspects for job_id in model.lane(queue, lane)[:TOGETHER_MAX]]
        return sorted(waiters, key=lambda job: job.order)

    def _may_join(self, job: Job) -> bool:
        if job.gates and len(self.ids) >= self.free:
            return False
        deaths = self._deaths(job)
        if not 0 < deaths < PROVEN:
            return not self.together
        if len(self.ids) > self.together or self.together >= (1 if deaths >= ALONE else TOGETHER_MAX):
            return False
        self.together = TOGETHER_MAX if deaths >= ALONE else self.together + 1
        return True

    def _end_turn(self, queue: str) -> None:
        model = self.model
        self.capacity = len(self.ids)
        model.opens.pop((queue, ROOM), None)
        for lane in self.suspects:
            if not model.lane(queue, lane):
                del model.opens[queue, lane]
            elif model.opens[queue, lane] != model.now_ms + TURN_MS:
                model.opens[queue, lane] = model.now_ms + TURN_MS
                model.wakes.add(queue)

    def _open_lanes(self, queue: str) -> list[str]:
        model = self.model
        self.suspects = {
            APART_FOR + actor for actor in self.known if f"a{actor}" not in model.paused and (queue, APART_FOR + actor) in model.opens
        }
        actors = [actor for actor in self.known if f"a{actor}" not in model.paused and (queue, actor) in model.opens]
        return [*actors, *model.open_gates(queue)]

    def _first(self, queue: str, lanes: list[str]) -> str | None:
        model = self.model
        heads = [model.line(queue), *(model.lane(queue, lane) for lane in lanes if lane not in self.closed)]
        return min((head[0] for head in heads if head), key=lambda job_id: model.jobs[job_id].order, default=None)

    def _is_held(self, job: Job, lanes: list[str]) -> bool:
        """Let a job wait in the lane of what holds it; a gate's lane in which one has to wait is closed to all who come after it."""
        model = self.model
        if job.actor not in self.known or f"a{job.actor}" in model.paused:
            model.stand_in(job, job.actor)
            if job.actor not in self.known:
                self.missing[job.actor] = None
            model.opens[job.queue, job.actor] = model.now_ms
            model.wakes.add(job.queue)
            return True
        found = model.first_closed(job, {*lanes} - self.closed.keys())
        if found is None:
            return False
        lane, at_ms = found
        if job.place == "ready" or job.lane != lane:
            model.stand_in(job, lane)
            model.look_again(job.queue, lane, at_ms)
            self.joined[lane] = min(at_ms, self.joined.get(lane, math.inf))
        self.closed.setdefault(lane, at_ms)
        return True

    def _mark_again(self, queue: str, lanes: list[str]) -> None:
        """An empty lane needs no look, a closed one when it opens for who was first or has come to it; the others wait for their turn."""
        opens = self.model.opens
        for lane in lanes:
            at_ms = min(self.closed.get(lane, self.model.now_ms), self.joined.get(lane, math.inf))
            if at_ms == math.inf or (lane not in self.closed and not self.model.lane(queue, lane)):
                del opens[queue, lane]
            elif is_gate(lane):
                opens[queue, lane] = at_ms
