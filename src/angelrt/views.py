"""From stored bytes to what people and programs see: jobs, outcomes, workers. Pure values, no I/O."""

from __future__ import annotations

from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

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
    shown_payload,
    shown_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import Placed

ENDINGS: Final = {"r": "retried", "d": "died", "s": "snoozed", "l": "lost", "x": "released", "f": "failed"}
ENDED: Final = ("completed", "failed", "cancelled")


class Run(NamedTuple):
    """The stored state of a run: `token worker rank deliveries attempts losses started_ms flow history`."""

    token: str
    worker: str
    rank: float
    deliveries: int
    attempts: int
    losses: int
    started_ms: float
    flow: str
    history: str


def read_run(stored: bytes) -> Run:
    """Return the fields of a run's stored form."""
    token, worker, rank, deliveries, attempts, losses, started, flow, history = stored.decode().split(" ", 8)
    return Run(token, worker, float(rank), int(deliveries), int(attempts), int(losses), float(started), flow, history)


@lru_cache(maxsize=256)
def read_lease(told: bytes) -> tuple[str, int, str, str]:
    """Return token, attempts, flow and history of a lease, which is the same for most jobs of a claim."""
    token, attempts, flow, history = told.decode().split(" ", 3)
    return token, int(attempts), flow, history


def deaths_of(flow: str) -> int:
    """Return in how many deaths of workers in a row a job ran, by its flow."""
    return next((int(item[1:]) for item in flow.split(",") if item[0] == "d"), 0)


def process_deaths_of(history: str) -> int:
    """Return how many of the latest runs in a row ended with the death of their own process, by a job's history."""
    return sum(1 for _ in takewhile(lambda ended: ended.startswith("d,"), history.split(";")))


def read_outcome(stored: bytes) -> tuple[Run, bytes]:
    """Return a result's stored form, `run NUL payload`: the run that settled the job, and what it brought."""
    run, _, payload = stored.partition(b"\0")
    return read_run(run), payload


def not_found(job_id: str) -> str:
    """Return the words for a job that is not there."""
    return f"no job {job_id!r}: it was never sent to this namespace, or its retention has passed"


def result_of(job_id: str, code: str, stored: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Return the result of a job that completed. Raises JobFailed or JobCancelled for one that did not."""
    run, payload = read_outcome(stored)
    if code == "k":
        message = f"job {job_id} {why_cancelled(run.flow)}"
        raise JobCancelled(message)
    if code == "c":
        return decode(payload)
    failure = orjson.loads(payload)
    raise JobFailed(
        job_id=job_id,
        actor=failure["actor"],
        error_type=failure["type"],
        error_message=failure["message"],
        remote_traceback=failure["traceback"],
        attempts=run.attempts,
    )


def why_cancelled(flow: str) -> str:
    """Return in words why a job was cancelled: who did it, or that it expired."""
    items = flow.split(",")
    if "e" in items:
        return "was cancelled: it had not begun before it expired"
    replaced = next((item[1:] for item in items if item[0] == "o"), "")
    if replaced:
        return f"was replaced by job {unquote(replaced)}, which does the same work"
    who = next((item[1:] for item in items if item[0] == "k"), "")
    return f"was cancelled by {unquote(who)}" if who else "was cancelled"


def job_info(placed: Placed, blob: bytes | None) -> JobInfo:
    """Return the public view of a job. Raises JobNotFound when nothing is stored."""
    if not placed.state:
        raise JobNotFound(not_found(placed.id))
    record = shown_record(placed.record)
    run = read_run(placed.run) if placed.run else None
    settled, payload = read_outcome(placed.result) if placed.result else (None, b"")
    ended = placed.state in ENDED
    shown = settled if ended and settled else run
    started_ms = shown.started_ms if shown else 0
    return JobInfo(
        id=placed.id,
        type=record.actor,
        payload=shown_payload(record.arguments or blob or b"{}"),
        priority=record.meta.get("p", PRIORITY_DEFAULT),
        attempts=shown.attempts if shown else 0,
        status=STATUS_OF_STATE[placed.state],
        created_at=at_ms(record.meta.get("e") or id_time_ms(placed.id)),
        processed_at=at_ms(started_ms) if started_ms else None,
        completed_at=at_ms(placed.score) if ended else None,
        error=error_of(payload) if placed.state != "completed" else None,
        state=placed.state,
        queue=placed.queue or (failed_in(shown.flow) if shown else None),
        due_at=at_ms(placed.score) if placed.state == "delayed" else None,
        deliveries=shown.deliveries if shown else 0,
        worker=shown.worker if shown and started_ms else None,
        progress=Progress.model_validate_json(placed.note) if placed.note else None,
        timeline=_timeline(shown.history if shown else ""),
    )


def failed_in(flow: str) -> str | None:
    """Return the queue in which a job failed, out of the flow in its result; None for a job that did not fail."""
    return next((item[1:] for item in flow.split(",") if item.startswith("q")), None)


def error_of(payload: bytes) -> ErrorInfo | None:
    """Return the error that a result holds; None for one that holds none."""
    if not payload.startswith(b'{"actor":'):
        return None
    failure = orjson.loads(payload)
    return ErrorInfo(type=failure["type"], message=failure["message"], traceback=failure["traceback"])


def _timeline(history: str) -> list[Attempt]:
    attempts: list[Attempt] = []
    for entry in reversed(history.split(";") if history else []):
        how, started, ended, worker = entry.split(",")
        attempts.append(Attempt(ended_as=ENDINGS[how], started_at=at_ms(float(started)), ended_at=at_ms(float(ended)), worker=worker))
    return attempts
