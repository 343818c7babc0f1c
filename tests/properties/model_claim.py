"""Claim in the model: who is first in line, and where each waits who cannot be let through."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.properties.model_gates import is_gate

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from tests.properties.model import Model
    from tests.properties.model_parts import Job


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

    def serve(self, queue: str, worker: str, token: str, lease_ms: int) -> bool:
        """Lease what is first in line of what is ready and in open lanes; answer whether more is claimable."""
        model = self.model
        if f"q{queue}" in model.paused:
            return False
        self.closed, self.joined = {}, {}
        lanes = self._open_lanes(queue)
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
            model.enter(job)
            model.lease(job, worker, token, lease_ms)
            self.ids.append(first)
        more = self._first(queue, lanes) is not None
        self._mark_again(queue, lanes)
        return more or bool(lanes and model.open_gates(queue))

    def _open_lanes(self, queue: str) -> list[str]:
        model = self.model
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
