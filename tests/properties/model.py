"""The protocol in plain Python: what the scripts promise, told without Redis, keys or bytes.

A job has one place at a time. Times are milliseconds of the server's clock, `now_ms`, which only the test moves. Where the scripts
answer something, the method of the same name answers what they must.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.properties.model_claim import Serving
from tests.properties.model_moves import Moves
from tests.properties.model_parts import ENDED, WAITING, Claimed, Event, Keep, Outcome, expires_ms, is_asked, with_deaths, with_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from angelrt.new_jobs import NewJob
    from angelrt.store import Lease, Verdict

FORGET_MAX: Final = 200
FLOOR_MS: Final = 60_000
UNCHARGED: Final = ("g", "s", "x", "w")
WORDS: Final = {**ENDED, "r": "retried", "d": "retried", "s": "snoozed", "x": "released", "w": "released"}
LETTERS: Final = {"completed": "c", "failed": "f", "cancelled": "k"}


@dataclass
class Model(Moves):
    """A whole partition."""

    keeps: dict[str, Keep] = field(default_factory=dict)
    workers: dict[str, bytes] = field(default_factory=dict)

    # -- verbs ---------------------------------------------------------------------------------------------------------------------

    def enqueue(self, new: Sequence[NewJob]) -> list[int | str]:
        """Store each job once; 1 for one that stands as sent, 0 for an id of another record, or what stands in its way."""
        codes = self._store(new)
        self.events.append(Event("enqueue", "-", len(new)))
        self.end_call()
        return codes

    def claim(
        self,
        worker: str,
        token: str,
        *,
        queues: Sequence[str],
        lease_ms: int,
        capacity: int,
        free: int,
        known: AbstractSet[str],
        looked_ms: float,
        resend: bool,
    ) -> Claimed:
        """Lease what is first in line; a resend answers first what the token holds already."""
        self.sign_of_life(worker)
        for queue in queues:
            self._move_on(queue)
        serving = Serving(self, known, capacity, free, self.held(worker, token) if resend else [], resend=resend)
        again = False
        for queue in queues:
            if serving.serve(queue, worker, token, lease_ms):
                self.wakes.add(queue)
                again = True
            self.hand_on(queue, known, looked_ms)
        if serving.ids:
            self.events.append(Event("claim", worker, len(serving.ids)))
        self.end_call()
        return Claimed(serving.ids, self.next_due_ms(queues), 2 if serving.makes_room else again, list(serving.missing))

    def settle(self, worker: str, verdicts: Sequence[Verdict]) -> list[int]:
        """Apply each verdict whose token is valid: 1; one applied before under this token: 2; else 0 and nothing changes."""
        codes: list[int] = []
        written: set[str] = set()
        for verdict in verdicts:
            code = 2 if verdict.id in written and self._code(verdict) == 1 else self._code(verdict)
            codes.append(code)
            if code == 1 and verdict.code != "n":
                written.add(verdict.id)
        accepted = [verdict for verdict, code in zip(verdicts, codes, strict=True) if code == 1]
        ended = Counter(self._apply(verdict) for verdict in accepted)
        self.coming_back = {verdict.id for verdict in accepted}
        for verdict in accepted:
            if verdict.code in ENDED and verdict.children:
                self._store(verdict.children, are_children=True)
                self.queues |= {queue for one in verdicts for queue in (one.queue, *(child.queue for child in one.children))}
        self.coming_back.clear()
        self.refund()
        for place in LETTERS:
            self._forget(place, min(2 * ended[place], FORGET_MAX) if verdicts else FORGET_MAX)  # twice, so that the number comes down
        if not verdicts:
            self.counted = {gate: counted for gate, counted in self.counted.items() if counted.void_ms > self.now_ms}
            self.forget_windows()
        if written:
            self.events.append(Event("settle", worker, len(written)))
        self.end_call()
        return codes

    def renew(self, leases: Iterable[Lease], lease_ms: int) -> tuple[list[str], list[str]]:
        """Extend the leases whose token is valid; answer the ids of the others, and of those that were asked to stop."""
        lost: list[str] = []
        asked: list[str] = []
        for lease in leases:
            job = self.jobs.get(lease.id)
            if job and job.token == lease.token:
                job.score = self.whole_ms + lease_ms
                asked += [lease.id] * is_asked(job.flow)
            else:
                lost.append(lease.id)
        return lost, asked

    def cancel(self, ids: Sequence[str], who: str) -> list[int]:
        """End what waits: 1; ask what runs to stop: 2; 0 for what has ended, -1 for what is not known."""
        codes: list[int] = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None:
                codes.append(-1)
            elif job.place in WAITING:
                self.cancel_waiting(job_id, f"k{who}")
                codes.append(1)
            elif job.place == "leased":
                job.flow = job.flow if is_asked(job.flow) else with_item(job.flow, f"k{who}")
                self.news.append((f"asked:{job.worker}", job_id))
                codes.append(2)
            else:
                codes.append(0)
        if touched := sum(code > 0 for code in codes):
            self.events.append(Event("cancel", "-", touched))
        return codes

    def tick(self, queues: Sequence[str]) -> float:
        """Move what time moves; answer when the next such thing is due."""
        moved = {queue for queue in queues if self._move_on(queue)}
        self.wakes |= moved | {queue for queue in queues if self.open_gates(queue)}
        return self.next_due_ms(queues)

    def beat(self, worker: str, info: bytes, queues: Iterable[str], actors: Sequence[str]) -> None:
        """Keep a worker in the register; the lanes of the actors that it brings are to be looked at."""
        self.workers[worker] = info
        self.beats[worker] = self.now_ms
        for actor in actors:
            self.open_lanes(actor, queues)

    def sign_of_life(self, worker: str) -> None:
        """Note that a registered worker has claimed."""
        if worker in self.beats:
            self.beats[worker] = self.now_ms

    def expire_worker(self, worker: str, *, died: bool, beat_ms: float | None) -> int:
        """Give back what a worker holds and strike it off, unless it beat since `beat_ms`: -1."""
        if beat_ms is not None and self.beats.get(worker) != beat_ms:
            return -1
        held = self.held(worker)
        for queue in {self.jobs[job_id].queue for job_id in held}:
            self._give_back([job_id for job_id in held if self.jobs[job_id].queue == queue], "l" if died else "x")
            self.wakes.add(queue)
        self.beats.pop(worker, None)
        self.workers.pop(worker, None)
        if held:
            self.events.append(Event("expire", worker, len(held)))
        return len(held)

    def watch(self, client: str, ids: Iterable[str]) -> list[tuple[str, Outcome | None]]:
        """Answer how each job ended, or note who waits for it."""
        answers: list[tuple[str, Outcome | None]] = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            code = LETTERS.get(job.place, "w") if job else "m"
            if code == "w" and client not in self.watchers.setdefault(job_id, []):
                self.watchers[job_id].append(client)
            answers.append((code, job.outcome if job and code in LETTERS.values() else None))
        return answers

    # -- verdicts ------------------------------------------------------------------------------------------------------------------

    def _code(self, verdict: Verdict) -> int:
        job = self.jobs.get(verdict.id)
        if job is None:
            return 0
        if job.token == verdict.token:
            return 1
        return 2 if verdict.token in (job.settled_by, job.outcome and job.outcome.token) else 0

    def _apply(self, verdict: Verdict) -> str:
        """Carry out a verdict on a valid run; answer how the job ended, '' when it goes on."""
        job, code, has_begun = self.jobs[verdict.id], verdict.code, "\0" in verdict.counters
        if code == "n":
            job.note = verdict.payload
            return ""
        is_stopped = code not in ENDED and is_asked(job.flow)
        code = "k" if is_stopped else code
        self.leave(job)
        self.correct(job, verdict.gates, has_begun=has_begun, delay_ms=verdict.delay_ms)
        self._count(verdict, code)
        if code in UNCHARGED:
            job.attempts -= 1
        if code in ENDED:
            job.flow = with_item(job.flow, f"q{job.queue}") if ENDED[code] == "failed" else job.flow
            self._end(verdict.id, ENDED[code], b"" if is_stopped else verdict.payload)
            return ENDED[code]
        if code == "w":
            job.flow = verdict.payload.decode()
        elif verdict.payload:
            job.outcome = job.outcome_of(verdict.payload)
        if code in "rs":
            job.flow = with_deaths(job.flow, 0)
        if code in "xw" and not has_begun:
            job.watched_ms = expires_ms(job.flow)
        job.settled_by = job.token
        job.close_run("x" if code == "w" else code, self.whole_ms)
        if verdict.delay_ms > 0 and code not in "xw":
            self._delay(job, self.now_ms + verdict.delay_ms)
        else:
            self._make_ready(job, job.rank)
            self.wakes.add(job.queue)
        return ""

    def _count(self, verdict: Verdict, code: str) -> None:
        label, *words = verdict.counters.split("\0")
        self.counts.update(f"{label}|{word}" for word in (WORDS[code], *words))

    def _forget(self, place: str, most: int) -> None:
        """Forget the oldest that are beyond the retention, at most so many, and none that is younger than the floor."""
        keep = self.keeps[place]
        ended = sorted((job.score, job_id) for job_id, job in self.jobs.items() if job.place == place)
        surplus = len(ended) - keep.number
        for position, (ended_ms, job_id) in enumerate(ended[:most]):
            age_ms = self.now_ms - ended_ms
            if age_ms < FLOOR_MS or (age_ms < keep.age_ms and position >= surplus):
                break
            del self.jobs[job_id]
