"""The protocol in plain Python: what the scripts promise, told without Redis, keys or bytes.

A job has one place at a time. Times are milliseconds of the server's clock, `now_ms`, which only the test moves. Where the scripts
answer something, the method of the same name answers what they must.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from angelrt.store import Lease, NewJob, Verdict

EPOCH_MS: Final = 1_704_067_200_000
TICKS_PER_MS: Final = 256
PRIORITY_STEP: Final = 2**49
DEFAULT_PRIORITY: Final = 5
HISTORY_MAX: Final = 10
FORGET_MAX: Final = 200
FLOOR_MS: Final = 60_000
WAITING: Final = ("ready", "delayed", "lane")
ENDED: Final = {"c": "completed", "f": "failed", "g": "failed", "k": "cancelled"}
UNCHARGED: Final = ("g", "s", "x")
WORDS: Final = {**ENDED, "r": "retried", "s": "snoozed", "x": "released"}


def rank_of(priority: int, ms: float) -> int:
    """Return the place of a job in its queue: by priority, then by time."""
    return priority * PRIORITY_STEP + math.floor((ms - EPOCH_MS) * TICKS_PER_MS)


def lane_of(actor: str) -> str:
    """Return the name of the lane in which the jobs of an actor wait that no worker knows."""
    return hashlib.sha1(actor.encode(), usedforsecurity=False).hexdigest()[:12]


def actor_of(record: bytes) -> str:
    """Return the actor that a record names."""
    return record.split(b"\0", 1)[0].decode()


class Keep(NamedTuple):
    """How long one kind of ended jobs is remembered."""

    age_ms: int
    number: int


class Ended(NamedTuple):
    """One earlier run: how it ended (r retry, s snooze, l lost, x handed back), from when to when, on which worker."""

    how: str
    started_ms: int
    ended_ms: int
    worker: str


class Outcome(NamedTuple):
    """What a run left behind, and what the job had been through by then."""

    token: str
    worker: str
    deliveries: int
    attempts: int
    losses: int
    started_ms: int
    history: tuple[Ended, ...]
    payload: bytes


class Event(NamedTuple):
    """One entry of the event stream: which verb moved how many jobs."""

    verb: str
    worker: str
    jobs: int


class Claimed(NamedTuple):
    """What a claim answers."""

    ids: list[str]
    next_due_ms: float
    again: bool
    parked: list[str]


@dataclass
class Job:
    """One job. `score` is its rank in ready and in a lane, else the time when it is due, when its lease ends, or when it ended."""

    record: bytes
    blob: bytes | None
    queue: str
    place: str
    score: float
    priority: int
    rank: int = 0
    token: str = ""
    settled_by: str = ""
    worker: str = "-"
    deliveries: int = 0
    attempts: int = 0
    losses: int = 0
    started_ms: int = 0
    history: tuple[Ended, ...] = ()
    outcome: Outcome | None = None
    note: bytes = b""

    @property
    def actor(self) -> str:
        """The actor that runs it."""
        return actor_of(self.record)


@dataclass
class Model:
    """A whole partition."""

    now_ms: float
    keeps: dict[str, Keep]
    jobs: dict[str, Job] = field(default_factory=dict)
    queues: set[str] = field(default_factory=set)
    wakes: set[str] = field(default_factory=set)
    opens: dict[tuple[str, str], float] = field(default_factory=dict)
    beats: dict[str, float] = field(default_factory=dict)
    workers: dict[str, bytes] = field(default_factory=dict)
    watchers: dict[str, list[str]] = field(default_factory=dict)
    news: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)

    # -- verbs ---------------------------------------------------------------------------------------------------------------------

    def enqueue(self, new: Sequence[NewJob]) -> list[int]:
        """Store each job once; 1 for one that stands as sent, 0 for an id that belongs to another record."""
        codes = self._store(new)
        self.events.append(Event("enqueue", "-", len(new)))
        return codes

    def claim(
        self, worker: str, token: str, *, queues: Sequence[str], lease_ms: int, capacity: int, known: AbstractSet[str], resend: bool
    ) -> Claimed:
        """Lease what is first in line; a resend answers first what the token holds already."""
        for queue in queues:
            self._move_on(queue)
        ids: list[str] = self._held(worker, token) if resend else []
        parked: dict[str, None] = {}
        again = False
        for queue in queues:
            taken = self._from_lanes(queue, capacity - len(ids), known)
            share = min(capacity - len(ids) - len(taken), math.ceil(len(self._line(queue)) / max(len(self.beats), 1)))
            taken += self._from_ready(queue, share, known, parked)
            for job_id in taken:
                self._lease(self.jobs[job_id], worker, token, lease_ms)
            ids += taken
            if self._is_claimable(queue, known):
                self.wakes.add(queue)
                again = True
        if ids:
            self.events.append(Event("claim", worker, len(ids)))
        return Claimed(ids, self.next_due_ms(queues), again, list(parked))

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
        for verdict in accepted:
            self._apply(verdict)
        for verdict in accepted:
            if verdict.code in ENDED and verdict.children:
                self._store(verdict.children)
                self.queues |= {queue for one in verdicts for queue in (one.queue, *(child.queue for child in one.children))}
        for place in ("completed", "failed", "cancelled"):
            ended = sum(ENDED.get(verdict.code) == place for verdict in accepted)
            self._forget(place, min(2 * ended, FORGET_MAX) if verdicts else FORGET_MAX)  # twice, so that the number comes down
        if written:
            self.events.append(Event("settle", worker, len(written)))
        return codes

    def renew(self, leases: Iterable[Lease], lease_ms: int) -> list[str]:
        """Extend the leases whose token is valid; answer the ids of the others."""
        lost: list[str] = []
        for lease in leases:
            job = self.jobs.get(lease.id)
            if job and job.token == lease.token:
                job.score = math.floor(self.now_ms + lease_ms)
            else:
                lost.append(lease.id)
        return lost

    def tick(self, queues: Sequence[str]) -> float:
        """Move what time moves; answer when the next such thing is due."""
        for queue in queues:
            if self._move_on(queue):
                self.wakes.add(queue)
        return self.next_due_ms(queues)

    def beat(self, worker: str, info: bytes, queues: Iterable[str], actors: Sequence[str]) -> None:
        """Keep a worker in the register; the lanes of the actors that it brings are to be looked at."""
        self.workers[worker] = info
        self.beats[worker] = self.now_ms
        for queue in queues:
            for actor in actors:
                if self.lane(queue, actor):
                    self.opens[queue, actor] = self.now_ms
                    self.wakes.add(queue)

    def expire_worker(self, worker: str, *, died: bool, beat_ms: float | None) -> int:
        """Give back what a worker holds and strike it off, unless it beat since `beat_ms`: -1."""
        if beat_ms is not None and self.beats.get(worker) != beat_ms:
            return -1
        held = self._held(worker)
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
        letters = {"completed": "c", "failed": "f", "cancelled": "k"}
        answers: list[tuple[str, Outcome | None]] = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            code = letters.get(job.place, "w") if job else "m"
            if code == "w" and client not in self.watchers.setdefault(job_id, []):
                self.watchers[job_id].append(client)
            answers.append((code, job.outcome if job and code in ENDED else None))
        return answers

    # -- moves ---------------------------------------------------------------------------------------------------------------------

    def _store(self, new: Sequence[NewJob]) -> list[int]:
        self.queues |= {job.queue for job in new}
        codes: list[int] = []
        for one in new:
            known = self.jobs.get(one.id)
            codes.append(int(known is None or known.record == one.record))
            if known is None:
                self.jobs[one.id] = job = Job(one.record, one.blob, one.queue, "", 0, DEFAULT_PRIORITY)
                job.priority = DEFAULT_PRIORITY if one.priority is None else one.priority
                self._place(one.id, self._due_ms(one.when))
                self.counts[f"{one.queue}|{job.actor}|sent"] += 1
        return codes

    def _due_ms(self, when: str) -> float:
        if not when:
            return self.now_ms
        return self.now_ms + float(when) if when.startswith("+") else float(when)

    def _place(self, job_id: str, due_ms: float) -> None:
        """Put a job that is new into ready, or into delayed until it is due; what is first there wakes a worker."""
        job = self.jobs[job_id]
        if due_ms > self.now_ms:
            self._delay(job, due_ms)
        else:
            self._make_ready(job, rank_of(job.priority, self.now_ms))
            self.wakes.add(job.queue)

    def _delay(self, job: Job, due_ms: float) -> None:
        due_ms = math.ceil(due_ms)
        if all(due_ms < other.score for other in self._in(job.queue, "delayed")):
            self.wakes.add(job.queue)
        job.place, job.score = "delayed", due_ms

    def _make_ready(self, job: Job, rank: int) -> None:
        job.place, job.score, job.rank = "ready", rank, rank

    def _move_on(self, queue: str) -> int:
        """Make ready what is due, at the rank of that time, and what no worker holds any more, at its old rank."""
        due = [job for job in self._in(queue, "delayed") if job.score <= self.now_ms]
        for job in due:
            self._make_ready(job, rank_of(job.priority, job.score))
        expired = [job_id for job_id, job in self.jobs.items() if self._is(job, queue, "leased") and job.score <= self.now_ms]
        self._give_back(expired, "l")
        return len(due) + len(expired)

    def _give_back(self, ids: Iterable[str], how: str) -> None:
        for job in map(self.jobs.__getitem__, ids):
            if how == "l":
                job.losses += 1
                self.counts[f"{job.queue}|*|lost"] += 1
            else:
                job.attempts -= 1
            self._close_run(job, how)
            self._make_ready(job, job.rank)

    def _close_run(self, job: Job, how: str) -> None:
        job.history = (Ended(how, job.started_ms, round(self.now_ms), job.worker), *job.history)[:HISTORY_MAX]
        job.token = ""

    def _lease(self, job: Job, worker: str, token: str, lease_ms: int) -> None:
        job.place, job.score = "leased", math.floor(self.now_ms + lease_ms)
        job.token, job.worker, job.settled_by = token, worker, ""
        job.started_ms = round(self.now_ms)
        job.deliveries += 1
        job.attempts += 1

    def _from_lanes(self, queue: str, most: int, known: AbstractSet[str]) -> list[str]:
        """Take from the lanes that are marked open, the oldest mark first; an empty lane loses its mark."""
        taken: list[str] = []
        for of_queue, actor in sorted(self.opens, key=lambda mark: (self.opens[mark], lane_of(mark[1]))):
            if of_queue != queue or most <= 0:
                continue
            waiters = self.lane(queue, actor)
            if not waiters:
                del self.opens[queue, actor]
            elif actor in known:
                taken += waiters[: most - len(taken)]
        return taken

    def _from_ready(self, queue: str, most: int, known: AbstractSet[str], parked: dict[str, None]) -> list[str]:
        """Take from the head of the line; a job whose actor is not known here goes to its lane and is in nobody's way."""
        taken: list[str] = []
        newly: set[str] = set()
        for job_id in self._line(queue):
            if len(taken) >= most:
                break
            job = self.jobs[job_id]
            if job.actor in known:
                taken.append(job_id)
                continue
            job.place = "lane"
            newly.add(job.actor)
            parked[job.actor] = None
        for actor in newly:
            self.opens[queue, actor] = self.now_ms
            self.wakes.add(queue)
        return taken

    def _code(self, verdict: Verdict) -> int:
        job = self.jobs.get(verdict.id)
        if job is None:
            return 0
        if job.token == verdict.token:
            return 1
        return 2 if verdict.token in (job.settled_by, job.outcome and job.outcome.token) else 0

    def _apply(self, verdict: Verdict) -> None:
        job = self.jobs[verdict.id]
        if verdict.code == "n":
            job.note = verdict.payload
            return
        self.counts[f"{verdict.label}|{WORDS[verdict.code]}"] += 1
        if verdict.run_word:
            self.counts[f"{verdict.label}|{verdict.pickup_word}"] += 1
            self.counts[f"{verdict.label}|{verdict.run_word}"] += 1
        if verdict.code in UNCHARGED:
            job.attempts -= 1
        if verdict.payload or verdict.code in ENDED:
            counters = (job.deliveries, job.attempts, job.losses, job.started_ms)
            job.outcome = Outcome(job.token, job.worker, *counters, job.history, verdict.payload)
        job.settled_by = job.token
        if verdict.code in ENDED:
            job.token = ""
            job.place, job.score = ENDED[verdict.code], round(self.now_ms)
            self.news += [(client, verdict.id) for client in self.watchers.pop(verdict.id, [])]
            return
        self._close_run(job, verdict.code)
        if verdict.delay_ms > 0 and verdict.code != "x":
            self._delay(job, self.now_ms + verdict.delay_ms)
        else:
            self._make_ready(job, job.rank)
            self.wakes.add(job.queue)

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

    # -- looks ---------------------------------------------------------------------------------------------------------------------

    def _is(self, job: Job, queue: str, place: str) -> bool:
        return job.queue == queue and job.place == place

    def _in(self, queue: str, place: str) -> list[Job]:
        return [job for job in self.jobs.values() if self._is(job, queue, place)]

    def _line(self, queue: str) -> list[str]:
        return self._ordered(job_id for job_id, job in self.jobs.items() if self._is(job, queue, "ready"))

    def lane(self, queue: str, actor: str) -> list[str]:
        """Return the ids that wait for an actor, in order."""
        return self._ordered(job_id for job_id, job in self.jobs.items() if self._is(job, queue, "lane") and job.actor == actor)

    def _ordered(self, ids: Iterable[str]) -> list[str]:
        return sorted(ids, key=lambda job_id: (self.jobs[job_id].rank, job_id.encode()))

    def _held(self, worker: str, token: str = "") -> list[str]:
        held = [job_id for job_id, job in self.jobs.items() if job.token and job.worker == worker and token in ("", job.token)]
        return sorted(held, key=str.encode)

    def _is_claimable(self, queue: str, known: AbstractSet[str]) -> bool:
        """Whether a worker that knows these actors would get a job here."""
        return bool(self._line(queue)) or any(
            self.lane(queue, actor) for of_queue, actor in self.opens if of_queue == queue and actor in known
        )

    def next_due_ms(self, queues: Sequence[str]) -> float:
        """Return when something here changes by itself; -1 for never."""
        return min((job.score for job in self.jobs.values() if job.queue in queues and job.place in ("delayed", "leased")), default=-1)
