"""From stored bytes to what people and programs see: jobs, outcomes, workers. Pure values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from .errors import JobCancelled, JobFailed, JobNotFound
from .job import (
    PRIORITY_DEFAULT,
    STATUS_OF_STATE,
    Attempt,
    ErrorInfo,
    JobInfo,
    Progress,
    at_ms,
    id_time_ms,
    rank_priority,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import Placed

ENDINGS: Final = {"r": "retried", "s": "snoozed", "l": "lost", "x": "released"}
WAITING: Final = ("ready", "lane")


class Run(NamedTuple):
    """The stored state of a run: `token worker rank deliveries attempts losses started_ms history`."""

    token: str
    worker: str
    rank: float
    deliveries: int
    attempts: int
    losses: int
    started_ms: float
    history: str


def read_run(stored: bytes) -> Run:
    """Return the fields of a run's stored form."""
    token, worker, rank, deliveries, attempts, losses, started, history = stored.decode().split(" ", 7)
    return Run(token, worker, float(rank), int(deliveries), int(attempts), int(losses), float(started), history)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The stored result: `token attempts deliveries started_ms worker history NUL payload`."""

    attempts: int
    deliveries: int
    started_ms: float
    worker: str
    history: str
    payload: bytes


def read_outcome(stored: bytes) -> Outcome:
    """Return the fields of a result's stored form."""
    head, _, payload = stored.partition(b"\0")
    _, attempts, deliveries, started, worker, history = head.decode().split(" ", 5)
    return Outcome(int(attempts), int(deliveries), float(started), worker, history, payload)


def not_found(job_id: str) -> str:
    """Return the words for a job that is not there."""
    return f"no job {job_id!r}: it was never sent to this namespace, or its retention has passed"


def result_of(job_id: str, code: str, stored: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Return the result of a job that completed. Raises JobFailed or JobCancelled for one that did not."""
    if code == "k":
        message = f"job {job_id} was cancelled"
        raise JobCancelled(message)
    outcome = read_outcome(stored)
    if code == "c":
        return decode(outcome.payload)
    failure = orjson.loads(outcome.payload)
    raise JobFailed(
        job_id=job_id,
        actor=failure["actor"],
        error_type=failure["type"],
        error_message=failure["message"],
        remote_traceback=failure["traceback"],
        attempts=outcome.attempts,
    )


def job_info(placed: Placed, blob: bytes | None) -> JobInfo:
    """Return the public view of a job. Raises JobNotFound when nothing is stored."""
    if not placed.state:
        raise JobNotFound(not_found(placed.id))
    record = read_record(placed.record)
    run = read_run(placed.run) if placed.run else None
    outcome = read_outcome(placed.result) if placed.result else None
    ended = placed.state in ("completed", "failed", "cancelled")
    shown = outcome if ended and outcome else run
    started_ms = shown.started_ms if shown else 0
    return JobInfo(
        id=placed.id,
        type=record.actor,
        payload=orjson.loads(record.arguments or blob or b"{}"),
        priority=record.meta.get("p", rank_priority(run.rank) if run else _priority(placed)),
        attempts=shown.attempts if shown else 0,
        status=STATUS_OF_STATE[placed.state],
        created_at=at_ms(record.meta.get("e") or id_time_ms(placed.id)),
        processed_at=at_ms(started_ms) if started_ms else None,
        completed_at=at_ms(placed.score) if ended else None,
        error=_error(outcome) if placed.state != "completed" else None,
        state=placed.state,
        queue=placed.queue or None,
        due_at=at_ms(placed.score) if placed.state == "delayed" else None,
        deliveries=shown.deliveries if shown else 0,
        worker=shown.worker if shown and started_ms else None,
        progress=Progress.model_validate_json(placed.note) if placed.note else None,
        timeline=_timeline(shown.history if shown else ""),
    )


def _priority(placed: Placed) -> int:
    return rank_priority(placed.score) if placed.state in WAITING else PRIORITY_DEFAULT


def _error(outcome: Outcome | None) -> ErrorInfo | None:
    if outcome is None or not outcome.payload.startswith(b'{"actor":'):
        return None
    failure = orjson.loads(outcome.payload)
    return ErrorInfo(type=failure["type"], message=failure["message"], traceback=failure["traceback"])


def _timeline(history: str) -> list[Attempt]:
    attempts: list[Attempt] = []
    for entry in reversed(history.split(";") if history else []):
        how, started, ended, worker = entry.split(",")
        attempts.append(Attempt(ended_as=ENDINGS[how], started_at=at_ms(float(started)), ended_at=at_ms(float(ended)), worker=worker))
    return attempts
