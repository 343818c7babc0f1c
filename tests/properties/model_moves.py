"""Moves between places in the model, each used by several verbs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.properties.model_gates import is_gate
from tests.properties.model_parts import (
    DEFAULT_PRIORITY,
    NOTHING,
    PRIORITY_STEP,
    TICKS_PER_MS,
    Event,
    Job,
    actor_of,
    deaths_of,
    expires_ms,
    is_asked,
    rank_of,
    with_deaths,
    with_item,
)
from tests.properties.model_unique import Uniques

BEAT_MS: Final = 600

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from angelrt.new_jobs import NewJob

LATE_MS: Final = 2_000
GRACE_MS: Final = 10_000
"""A lease that is found ended for longer than LATE_MS is spared for GRACE_MS, once: nobody could look, so its holder may live."""


@dataclass
class Moves(Uniques):
    """Jobs that begin to wait, come back and end."""

    beats: dict[str, float] = field(default_factory=dict)
    watchers: dict[str, list[str]] = field(default_factory=dict)
    news: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    later: list[Job] = field(default_factory=list)

    def _store(self, new: Sequence[NewJob], *, are_children: bool = False) -> list[int | str]:
        """Store each job once, unless it is refused; the children of a run are taken whatever is drained."""
        self.queues |= {job.queue for job in new}
        taken: dict[str, str] = {}
        last = self.last_of_each_key(new, are_children=are_children)
        codes: list[int | str] = []
        come: dict[str, tuple[bytes, int | str]] = {}
        for one in new:
            known, flow = self.jobs.get(one.id), one.flow or NOTHING
            if one.id in come:
                record, code = come[one.id]
                codes.append(code if record == one.record else int(known is not None and known.record == one.record))
                continue
            refused = None if known or are_children else self.drained(one.queue, actor_of(one.record), flow)
            refused = refused or (None if known else self.conflict(one, taken, last))
            codes.append(refused or int(known is None or known.record == one.record))
            come[one.id] = one.record, codes[-1]
            if known is None and refused is None:
                priority = DEFAULT_PRIORITY if one.priority is None else one.priority
                job = Job(one.id, one.record, one.blob, one.queue, "", 0, priority, self.with_priority(one.queue, priority, flow))
                self.jobs[one.id] = job
                self._place(job, self._due_ms(one.when))
                self.counts[f"{one.queue}|{job.actor}|sent"] += 1
        return codes

    def _due_ms(self, when: str) -> float:
        if not when:
            return self.now_ms
        return self.now_ms + float(when) if when.startswith("+") else float(when)

    def _place(self, job: Job, due_ms: float) -> None:
        """Put a job that is new into ready, into the lane of a gate that is closed, or into delayed until it is due."""
        if due_ms > self.now_ms:
            self._delay(job, due_ms)
        else:
            job.rank = self.rank(job, self.now_ms)
            closed = self.first_closed(job, set())
            if closed:
                self.stand_in(job, closed[0])
                self.look_again(job.queue, closed[0], closed[1])
            else:
                self._make_ready(job, job.rank)
                self.wakes.add(job.queue)
        job.watched_ms = expires_ms(job.flow)
        if job.watched_ms is not None:
            self.wakes.add(job.queue)

    def _step(self, queue: str) -> int:
        aging_ms = self.rules.get(f"aging {queue}")
        return int(aging_ms) * TICKS_PER_MS if aging_ms else PRIORITY_STEP

    def rank(self, job: Job, ms: float) -> int:
        """Return the place of a job that is ready at this time: by priority, or where priorities age, as if it had come later."""
        return job.priority * self._step(job.queue) + rank_of(0, ms)

    def strict_rank(self, job: Job) -> int:
        """Return the rank as a worker is told it, from which it reads priority and time."""
        return job.rank + job.priority * (PRIORITY_STEP - self._step(job.queue))

    def _delay(self, job: Job, due_ms: float) -> None:
        job.place, job.score = "delayed", math.ceil(due_ms)
        self.later.append(job)

    def end_call(self) -> None:
        """Wake somebody, too, where what came to delayed in this call is due before all that was there."""
        for queue in {job.queue for job in self.later}:
            first_ms = min(job.score for job in self.later if job.queue == queue)
            if all(first_ms < other.score or other in self.later for other in self._in(queue, "delayed")):
                self.wakes.add(queue)
        self.later.clear()
        super().end_call()

    def _make_ready(self, job: Job, rank: int) -> None:
        job.place, job.score, job.rank = "ready", rank, rank

    def _move_on(self, queue: str) -> int:
        """Drop what was not begun in time; make ready what is due, at the rank of that time, and what no worker holds, at its old rank."""
        late = [job_id for job_id, job in self.jobs.items() if job.queue == queue and (job.watched_ms or math.inf) <= self.now_ms]
        for job_id in late:
            self.counts[f"{queue}|{self.jobs[job_id].actor}|expired"] += 1
            self.cancel_waiting(job_id, "e")
        due = [job for job in self._in(queue, "delayed") if job.score <= self.now_ms]
        for job in due:
            self._make_ready(job, self.rank(job, job.score))
        ended = [job_id for job_id, job in self.jobs.items() if self._is(job, queue, "leased") and job.score <= self.now_ms]
        spared = [job_id for job_id in ended if self.now_ms - self.jobs[job_id].score > LATE_MS and self.jobs[job_id].score % 1 == 0]
        for job_id in spared:
            self.jobs[job_id].score = self.whole_ms + GRACE_MS + 0.5
        self._give_back([job_id for job_id in ended if job_id not in spared], "l")
        return len(due) + len(ended) - len(spared)

    def cancel_waiting(self, job_id: str, why: str) -> None:
        """End a job that waits; at a gate, the next in line may need less than it did."""
        job = self.jobs[job_id]
        job.flow = with_item(job.flow, why)
        self.counts[f"{job.queue}|{job.actor}|cancelled"] += 1
        lane = job.lane if job.place == "lane" else ""
        self._end(job_id, "cancelled", b"")
        if is_gate(lane):
            self.open_lanes(lane, [job.queue])

    def _end(self, job_id: str, place: str, payload: bytes) -> None:
        job = self.jobs[job_id]
        job.outcome = job.outcome_of(payload)
        self.end_of_key(job)
        job.settled_by = job.token
        job.token, job.watched_ms = "", None
        job.place, job.score = place, self.whole_ms
        self.news += [(f"ended:{client}", job_id) for client in self.watchers.pop(job_id, [])]

    def _give_back(self, ids: Iterable[str], how: str) -> None:
        """Let jobs wait again that nobody holds; one that was asked to stop ends instead."""
        for job_id in ids:
            job = self.jobs[job_id]
            self.leave(job)
            if how == "l":
                job.losses += 1
                job.flow = with_deaths(job.flow, deaths_of(job.flow) + 1)
                self.counts[f"{job.queue}|*|lost"] += 1
            else:
                job.attempts -= 1
            job.close_run(how, self.whole_ms)
            if is_asked(job.flow):
                self.counts[f"{job.queue}|*|cancelled"] += 1
                self._end(job_id, "cancelled", b"")
            else:
                self._make_ready(job, job.rank)

    def lease(self, job: Job, worker: str, token: str, lease_ms: int) -> None:
        """Give a job to a worker; from now on it has begun, and its time does not run out any more."""
        job.place, job.score = "leased", self.whole_ms + lease_ms
        job.token, job.worker, job.settled_by, job.watched_ms = token, worker, "", None
        job.started_ms = self.whole_ms
        if deaths_of(job.flow):
            deaths, is_new = self.judge(job)
            job.flow = with_deaths(job.flow, deaths)
            job.attempts -= is_new
        self.start_of_key(job)
        job.deliveries += 1
        job.attempts += 1

    def judge(self, job: Job) -> tuple[int, bool]:
        """Return in how many deaths a job ran, and whether the last one is new; a worker that has beaten since has not died."""
        deaths, last = deaths_of(job.flow), next(iter(job.history), None)
        if last is None or last.how != "l":
            return deaths, False
        is_alive = self.beats.get(last.worker, -1) > last.ended_ms - BEAT_MS
        return deaths - is_alive, not is_alive

    def held(self, worker: str, token: str = "") -> list[str]:
        """Return what a worker holds, under one token or under any."""
        held = [job_id for job_id, job in self.jobs.items() if job.token and job.worker == worker and token in ("", job.token)]
        return sorted(held, key=str.encode)
