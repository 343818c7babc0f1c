"""What a namespace holds, told in the words of the model, so that the two can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from angelrt.job import blob_field
from angelrt.views import read_outcome, read_run
from tests.properties.model import DEFAULT_PRIORITY, PRIORITY_STEP, WAITING, Ended, Event, Outcome, lane_of

if TYPE_CHECKING:
    from collections import Counter

    from tests.properties.model import Job, Model
    from tests.state import State

APART: Final = b"\1"
OUTCOMES: Final = ("completed", "failed", "cancelled")


class Seen(NamedTuple):
    """All that can be seen of a job; fields that have no meaning in its place are empty."""

    record: bytes
    blob: bytes | None
    place: str
    score: float
    priority: int | None
    token: str
    run: tuple[Any, ...]
    outcome: Outcome | None
    note: bytes


class Partition(NamedTuple):
    """All that can be seen of a namespace; of `opens`, the marks of lanes in which jobs wait, since others have no effect."""

    jobs: dict[str, Seen]
    queues: set[str]
    wakes: set[str]
    opens: dict[tuple[str, str], float]
    beats: dict[str, float]
    workers: dict[str, bytes]
    watchers: dict[str, list[str]]
    counts: Counter[str]
    events: list[Event]


def expected(model: Model) -> Partition:
    """Return what should be seen, by the model."""
    return Partition(
        jobs={job_id: _expected_job(job) for job_id, job in model.jobs.items()},
        queues=model.queues,
        wakes=model.wakes,
        opens={(queue, lane_of(actor)): ms for (queue, actor), ms in model.opens.items() if model.lane(queue, actor)},
        beats=model.beats,
        workers=model.workers,
        watchers=model.watchers,
        counts=model.counts,
        events=model.events,
    )


def _expected_job(job: Job) -> Seen:
    if job.place not in (*WAITING, "leased"):
        return Seen(job.record, job.blob, job.place, job.score, None, "", (), job.outcome, job.note)
    run = (job.worker, job.deliveries, job.attempts, job.losses, job.started_ms, job.history)
    return Seen(job.record, job.blob, f"{job.place}:{job.queue}", job.score, job.priority, job.token, run, job.outcome, job.note)


def seen(state: State) -> Partition:
    """Return what is seen; a job that stands in several places shows all of them."""
    queues = state.queues.items()
    lanes = {(name, waiter.lane) for name, queue in queues for waiter in queue.lanes}
    return Partition(
        jobs={job_id: _seen_job(state, job_id, places) for job_id, places in state.places().items() if job_id in state.jobs},
        queues=set(state.registered),
        wakes={name for name, queue in queues if queue.wake},
        opens={(name, lane): ms for name, queue in queues for lane, ms in queue.opens.items() if (name, lane) in lanes},
        beats=state.beats,
        workers=state.workers,
        watchers={job_id: clients.decode().split(" ") for job_id, clients in state.watch.items()},
        counts=state.stats,
        events=[Event(event.verb, event.worker, event.jobs) for event in state.events],
    )


def _seen_job(state: State, job_id: str, places: list[str]) -> Seen:
    record, note = state.jobs[job_id], state.notes.get(job_id, b"")
    blob = state.blobs.get(str(blob_field(job_id, record))) if record.endswith(b"\0") else None
    place, score = ",".join(places), _score(state, job_id, places[0])
    if place in OUTCOMES:
        return Seen(record, blob, place, score, None, "", (), _outcome(state, job_id), note)
    stored = state.runs.get(job_id)
    run = read_run(stored) if stored else None
    rank = score if place.startswith(("ready", "lane")) else run.rank if run else DEFAULT_PRIORITY * PRIORITY_STEP
    token = run.token if run and not run.token.startswith("!") else ""
    shown = (run.worker, run.deliveries, run.attempts, run.losses, run.started_ms, _history(run.history)) if run else ("-", 0, 0, 0, 0, ())
    return Seen(record, blob, place, score, int(rank // PRIORITY_STEP), token, shown, _outcome(state, job_id), note)


def _score(state: State, job_id: str, place: str) -> float:
    name, _, queue = place.partition(":")
    if name in OUTCOMES:
        ended: dict[str, float] = getattr(state, name)
        return ended[job_id]
    if name == "lane":
        return next(waiter.rank for waiter in state.queues[queue].lanes if waiter.id == job_id)
    scores: dict[str, float] = getattr(state.queues[queue], name)
    return scores[job_id]


def _history(history: str) -> tuple[Ended, ...]:
    runs = [entry.split(",") for entry in history.split(";") if entry]
    return tuple(Ended(how, int(started), int(ended), worker) for how, started, ended, worker in runs)


def _outcome(state: State, job_id: str) -> Outcome | None:
    result = state.results.get(job_id)
    if result is None:
        return None
    run, payload = read_outcome(result)
    if payload == APART:
        payload = state.blobs.get(f"{job_id}={run.token}", b"")
    return Outcome(run.token, run.worker, run.deliveries, run.attempts, run.losses, int(run.started_ms), _history(run.history), payload)
