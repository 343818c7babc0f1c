"""What a namespace holds, told in the words of the model, so that the two can be compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from angelrt.job import blob_field
from angelrt.views import read_outcome, read_run
from tests.properties.model_gates import Counted, is_gate
from tests.properties.model_parts import APART_FOR, DEFAULT_PRIORITY, NOTHING, PRIORITY_STEP, ROOM, WAITING, Ended, Event, Outcome, rule_of

if TYPE_CHECKING:
    from collections import Counter

    from tests.properties.model_lives import Lives
    from tests.properties.model_parts import Job
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
    """All that can be seen of a namespace; of what was counted at gates, what still counts."""

    jobs: dict[str, Seen]
    queues: set[str]
    wakes: set[str]
    opens: dict[tuple[str, str], float]
    holders: set[tuple[str, str]]
    counted: dict[str, Counted]
    rules: dict[str, str]
    paused: set[str]
    watched: dict[str, float]
    beats: dict[str, float]
    workers: dict[str, bytes]
    watchers: dict[str, list[str]]
    counts: Counter[str]
    events: list[Event]
    uniques: dict[str, str]
    schedules: dict[str, str]


def expected(model: Lives) -> Partition:
    """Return what should be seen, by the model."""
    return Partition(
        jobs={job_id: _expected_job(job) for job_id, job in model.jobs.items()},
        queues=model.queues,
        wakes=model.wakes,
        opens={(queue, lane_of(lane)): ms if is_gate(lane) else -ms for (queue, lane), ms in model.opens.items()},
        holders={
            (lane_of(gate.name), job_id)
            for job_id, job in model.jobs.items()
            if job.place == "leased"
            for gate in job.gates
            if not gate.is_rate
        },
        counted=_telling({lane_of(gate): (rule_of(gate), counted) for gate, counted in model.counted.items()}, model),
        rules=model.rules,
        paused=model.paused,
        watched={job_id: job.watched_ms for job_id, job in model.jobs.items() if job.watched_ms is not None},
        beats=model.beats,
        workers=model.workers,
        watchers=model.watchers,
        counts=model.counts,
        events=model.events,
        uniques={key: holder for key in model.uniques if (holder := model.holder(key))},
        schedules=model.schedules,
    )


def lane_of(lane: str) -> str:
    """Return the name of the lane of an actor, of its suspects, of a gate, or of those over its limit; of the note of room."""
    rule, dear, cost = lane.partition("=>")
    if dear:
        return f"{_digest(rule)[:8]}={int(cost):011}"
    if is_gate(lane):
        return _digest(rule_of(lane))[:8] + _digest(lane)[:12]
    if lane == ROOM:
        return "S"
    if lane.startswith(APART_FOR):
        return "s" + _digest(lane.removeprefix(APART_FOR))[:12]
    return _digest(lane)[:12]


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _telling(found: dict[str, tuple[str, Counted]], model: Lives) -> dict[str, Counted]:
    """Return of the states of gates, given by lane, what has not passed."""
    telling: dict[str, Counted] = {}
    for lane, (rule, counted) in found.items():
        limit = model.limit(rule)
        times = (counted.hold_ms * (counted.hold_ms > model.now_ms), counted.full_ms * (counted.full_ms > model.now_ms))
        slices = counted.taken(limit, model.now_ms) if limit and limit.window_ms else {}
        telling[lane] = Counted(*times, {int(till): tokens for till, tokens in slices.items()})
    return {lane: counted for lane, counted in telling.items() if counted != Counted()}


def _expected_job(job: Job) -> Seen:
    if job.place not in (*WAITING, "leased"):
        return Seen(job.record, job.blob, job.place, job.score, None, "", (), job.outcome, job.note)
    run = (job.worker, job.deliveries, job.attempts, job.losses, job.started_ms, job.flow, job.history)
    place = f"{job.place}:{job.queue}" + (f":{lane_of(job.lane)}" if job.place == "lane" else "")
    return Seen(job.record, job.blob, place, job.score, job.priority, job.token, run, job.outcome, job.note)


def seen(state: State, model: Lives) -> Partition:
    """Return what is seen; a job that stands in several places shows all of them."""
    queues = state.queues.items()
    return Partition(
        jobs={job_id: _seen_job(state, job_id, places) for job_id, places in state.places().items() if job_id in state.jobs},
        queues=set(state.registered),
        wakes={name for name, queue in queues if queue.wake},
        opens={(name, lane): ms for name, queue in queues for lane, ms in queue.opens.items()},
        holders=set(state.holders),
        counted=_telling({lane: _counted(lane, stored, model) for lane, stored in state.gates.items()}, model),
        rules={rule: spec.decode() for rule, spec in state.rules.items()},
        paused=set(state.control),
        watched={job_id: ms for _, queue in queues for job_id, ms in queue.expires.items()},
        beats=state.beats,
        workers=state.workers,
        watchers={job_id: clients.decode().split(" ") for job_id, clients in state.watch.items()},
        counts=state.stats,
        events=[Event(event.verb, event.worker, event.jobs) for event in state.events],
        uniques={key: holder for key, stored in state.unique.items() if (holder := _holder(state, stored, model.now_ms))},
        schedules={name: record.decode() for name, record in state.schedules.items()},
    )


def _holder(state: State, stored: bytes, now_ms: float) -> str:
    """Return who has a unique key; what is stored of a job that has ended says nothing any more."""
    job_id, _, until_ms = stored.decode().partition("\0")
    is_held = float(until_ms) > now_ms if until_ms else job_id in state.runs and job_id in state.jobs
    return job_id if is_held else ""


def _counted(lane: str, stored: bytes, model: Lives) -> tuple[str, Counted]:
    """Return the rule and the state of a gate as it is stored: `hold_ms full_ms end_ms:tokens ...`."""
    hold_ms, full_ms, *slices = stored.decode().split(" ")
    rule = next((rule for rule in map(_rule, model.rules) if _digest(rule)[:8] == lane[:8]), "")
    by_end = {int(ends): int(tokens) for ends, tokens in (entry.split(":") for entry in slices)}
    return rule, Counted(float(hold_ms), float(full_ms), by_end)


def _rule(name: str) -> str:
    return name.rstrip("!~")


def _seen_job(state: State, job_id: str, places: list[str]) -> Seen:
    record, note = state.jobs[job_id], state.notes.get(job_id, b"")
    blob = state.blobs.get(str(blob_field(job_id, record))) if record.endswith(b"\0") else None
    places = [place for place in places if not place.startswith("lane")] or places  # it may have gone out of another line
    place, score = ",".join(places), _score(state, job_id, places[0])
    if place in OUTCOMES:
        return Seen(record, blob, place, score, None, "", (), _outcome(state, job_id), note)
    stored = state.runs.get(job_id)
    run = read_run(stored) if stored else None
    rank = score if place.startswith(("ready", "lane")) else run.rank if run else DEFAULT_PRIORITY * PRIORITY_STEP
    token = run.token if run and not run.token.startswith("!") else ""
    counters = (run.deliveries, run.attempts, run.losses, run.started_ms, run.flow) if run else (0, 0, 0, 0, NOTHING)
    shown = (run.worker if run else "-", *counters, ended_runs(run.history) if run else ())
    if place.startswith("lane"):
        place += f":{next(waiter.lane for waiter in state.queues[places[0][5:]].lanes if waiter.id == job_id)}"
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


def ended_runs(history: str) -> tuple[Ended, ...]:
    """Return the runs of a stored history."""
    runs = [entry.split(",") for entry in history.split(";") if entry]
    return tuple(Ended(how, int(started), int(ended), worker) for how, started, ended, worker in runs)


def _outcome(state: State, job_id: str) -> Outcome | None:
    result = state.results.get(job_id)
    if result is None:
        return None
    run, payload = read_outcome(result)
    if payload == APART:
        payload = state.blobs.get(f"{job_id}={run.token}", b"")
    counters = (run.deliveries, run.attempts, run.losses, int(run.started_ms))
    return Outcome(run.token.strip("!"), run.worker, *counters, run.flow, ended_runs(run.history), payload)
