"""From stored bytes to the public view of a job, and to its result or its error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from angelrt import JobCancelled, JobFailed, JobNotFound, ResultDecodeError, Status
from angelrt.codec import Signature, decode_any
from angelrt.job import EPOCH_MS, PRIORITY_STEP, TICKS_PER_MS, IdMaker, id_time_ms, write_record
from angelrt.store import Placed
from angelrt.views import Run, job_info, read_outcome, read_run, result_of

STARTED_MS = 1_767_355_200_000
ENDED_MS = STARTED_MS + 250
STARTED = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENDED = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
RANK = 5 * PRIORITY_STEP + (STARTED_MS - EPOCH_MS) * TICKS_PER_MS
FAILURE = orjson.dumps({"actor": "shop.thumbnail", "type": "ValueError", "message": "no picture", "traceback": "Traceback"})


def placed(state: str, **changes: Any) -> Placed:
    """Make what is stored of a job in a state."""
    record = write_record("shop.thumbnail", "abcd", {}, b'{"path":"a.jpg"}')
    parts: dict[str, Any] = {
        "id": IdMaker().next(),
        "queue": "photos",
        "score": 0.0,
        "record": record,
        "run": b"",
        "result": b"",
        "note": b"",
    }
    return Placed(state=state, **(parts | changes))


def stored_run(*, lease: str = "t1", rank: int = RANK, attempts: int = 1, flow: str = "-", history: str = "") -> bytes:
    """Make the stored form of a run."""
    return f"{lease} worker {rank} 2 {attempts} 0 {STARTED_MS} {flow} {history}".encode()


def stored_result(payload: bytes, *, flow: str = "-", history: str = "") -> bytes:
    """Make the stored form of a result: the run that settled the job, and what it brought."""
    return stored_run(attempts=2, flow=flow, history=history) + b"\0" + payload


def test_a_run_is_read_field_by_field() -> None:
    history = "r,1,2,w;x,3,4,v"
    assert read_run(stored_run(history=history)) == Run("t1", "worker", float(RANK), 2, 1, 0, STARTED_MS, "-", history)
    assert read_run(stored_run(flow="ca.b@q=7,x5")) == Run("t1", "worker", float(RANK), 2, 1, 0, STARTED_MS, "ca.b@q=7,x5", "")


def test_an_outcome_is_read_up_to_the_first_nul() -> None:
    run, payload = read_outcome(stored_result(b"\0\0 \1", history="r,1,2,w"))
    assert (run.attempts, run.deliveries, run.history, payload) == (2, 2, "r,1,2,w", b"\0\0 \1")


def test_a_ready_job_is_pending_since_the_time_in_its_id() -> None:
    stored = placed("ready", score=float(RANK))
    info = job_info(stored, None)
    assert (info.id, info.type, info.payload, info.queue) == (stored.id, "shop.thumbnail", {"path": "a.jpg"}, "photos")
    assert (info.status, info.state, info.priority, info.attempts, info.deliveries) == (Status.PENDING, "ready", 5, 0, 0)
    assert info.created_at.timestamp() * 1000 == pytest.approx(id_time_ms(stored.id))
    assert (info.processed_at, info.completed_at, info.error, info.worker, info.due_at, info.progress, info.timeline) == (*[None] * 6, [])


def test_a_callers_id_has_its_time_in_the_record() -> None:
    record = write_record("a", "abcd", {"e": STARTED_MS}, b"{}")
    assert job_info(placed("ready", id="order 7", record=record), None).created_at == STARTED


@pytest.mark.parametrize("steps", [0, 4, 9])
@pytest.mark.parametrize("state", ["ready", "lane"])
def test_a_priority_is_not_read_off_a_rank_which_tells_another_where_priorities_age(state: str, steps: int) -> None:
    assert job_info(placed(state, score=float(steps * PRIORITY_STEP + 7)), None).priority == 5


@pytest.mark.parametrize("state", ["ready", "delayed", "leased", "completed", "failed", "cancelled"])
def test_a_priority_of_its_own_is_in_the_record(state: str) -> None:
    record = write_record("a", "abcd", {"p": 0}, b"{}")
    assert job_info(placed(state, record=record), None).priority == 0


def test_a_delayed_job_shows_when_it_is_due() -> None:
    info = job_info(placed("delayed", score=float(ENDED_MS)), None)
    assert (info.status, info.due_at, info.priority) == (Status.PENDING, ENDED, 5)


def test_a_leased_job_is_processing_on_its_worker() -> None:
    info = job_info(placed("leased", score=float(ENDED_MS), run=stored_run()), None)
    assert (info.status, info.processed_at, info.worker, info.attempts, info.deliveries) == (Status.PROCESSING, STARTED, "worker", 1, 2)
    assert (info.due_at, info.completed_at) == (None, None)


def test_a_completed_job_shows_its_times_and_no_error() -> None:
    info = job_info(placed("completed", queue="", score=float(ENDED_MS), result=stored_result(b"1")), None)
    assert (info.status, info.processed_at, info.completed_at, info.queue) == (Status.COMPLETED, STARTED, ENDED, None)
    assert (info.attempts, info.deliveries, info.worker, info.error) == (2, 2, "worker", None)


def test_a_result_that_looks_like_an_error_is_none() -> None:
    info = job_info(placed("completed", score=float(ENDED_MS), result=stored_result(FAILURE)), None)
    assert info.error is None


def test_a_failed_job_shows_the_remote_error() -> None:
    info = job_info(placed("failed", score=float(ENDED_MS), result=stored_result(FAILURE)), None)
    assert info.error is not None
    assert (info.error.type, info.error.message, info.error.traceback) == ("ValueError", "no picture", "Traceback")


def test_a_job_that_waits_for_its_retry_shows_the_last_error() -> None:
    run = stored_run(lease="!t1", history=f"r,{STARTED_MS},{ENDED_MS},worker")
    info = job_info(placed("delayed", score=float(ENDED_MS), run=run, result=stored_result(FAILURE)), None)
    assert info.error is not None
    assert (info.status, info.error.type, info.completed_at) == (Status.PENDING, "ValueError", None)


def test_a_cancelled_job_without_a_run_has_an_end_and_no_worker() -> None:
    info = job_info(placed("cancelled", score=float(ENDED_MS)), None)
    assert (info.status, info.completed_at, info.worker, info.processed_at, info.error) == (Status.CANCELLED, ENDED, None, None, None)


def test_earlier_runs_are_shown_the_oldest_first() -> None:
    history = ";".join(f"{how},{STARTED_MS + n},{ENDED_MS + n},w{n}" for n, how in enumerate("xlsr"))
    info = job_info(placed("leased", run=stored_run(history=history)), None)
    assert [(run.ended_as, run.worker) for run in info.timeline] == [
        ("retried", "w3"),
        ("snoozed", "w2"),
        ("lost", "w1"),
        ("released", "w0"),
    ]
    assert (info.timeline[-1].started_at, info.timeline[-1].ended_at) == (STARTED, ENDED)


def test_a_note_is_shown_as_progress() -> None:
    info = job_info(placed("leased", run=stored_run(), note=b'{"done":0.5,"message":"half","log":["a","b"]}'), None)
    assert info.progress is not None
    assert (info.progress.done, info.progress.message, info.progress.log) == (0.5, "half", ["a", "b"])


def test_arguments_that_are_kept_apart_are_put_in() -> None:
    stored = placed("ready", record=write_record("a", "abcd", {}, b""))
    assert job_info(stored, b'{"text":"long"}').payload == {"text": "long"}
    assert job_info(stored, None).payload == {}


def test_a_job_that_is_not_there_is_an_error_with_both_causes() -> None:
    with pytest.raises(JobNotFound) as caught:
        job_info(placed("", id="order 7"), None)
    assert str(caught.value) == "no job 'order 7': it was never sent to this namespace, or its retention has passed"


def test_a_result_is_decoded() -> None:
    assert result_of("x", "c", stored_result(b'{"a":[1]}'), decode_any) == {"a": [1]}
    assert result_of("x", "c", stored_result(b"null"), decode_any) is None


def test_a_result_that_does_not_fit_is_an_error() -> None:
    def number() -> int:
        return 1

    with pytest.raises(ResultDecodeError):
        result_of("x", "c", stored_result(b'"text"'), Signature(number, "number").decode_result)


def test_a_failure_is_raised_with_all_that_is_known() -> None:
    with pytest.raises(JobFailed) as caught:
        result_of("x", "f", stored_result(FAILURE), decode_any)
    error = caught.value
    assert (error.job_id, error.actor, error.error_type, error.error_message) == ("x", "shop.thumbnail", "ValueError", "no picture")
    assert (error.remote_traceback, error.attempts) == ("Traceback", 2)


WHY = {
    "-": "job x was cancelled",
    "ca.b@q=k7": "job x was cancelled",
    "x5": "job x was cancelled",
    "kann%40host": "job x was cancelled by ann@host",
    "ra@q=e*3,x5,kann%20%2C%20bob": "job x was cancelled by ann , bob",
    "ca@q=,x5,e": "job x was cancelled: it had not begun before it expired",
}


@pytest.mark.parametrize("flow", WHY)
def test_a_cancelled_job_has_no_result_and_says_who_cancelled_it(flow: str) -> None:
    with pytest.raises(JobCancelled) as caught:
        result_of("x", "k", stored_result(b"", flow=flow), decode_any)
    assert str(caught.value) == WHY[flow]
