"""Ids, records, ranks and the public views: pure values."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import InvalidOptions, JobInfo, Status, WorkerInfo
from angelrt.job import (
    ALPHABET,
    EPOCH_MS,
    ID_CHARS,
    PRIORITY_DEFAULT,
    PRIORITY_MAX,
    PRIORITY_STEP,
    STATUS_OF_STATE,
    TICKS_PER_MS,
    Attempt,
    ErrorInfo,
    IdMaker,
    Progress,
    Record,
    at_ms,
    blob_field,
    check_id,
    id_time_ms,
    rank_ready_ms,
    read_record,
    write_number,
    write_record,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_ids_have_fourteen_characters_that_sort_as_they_were_made() -> None:
    maker = IdMaker()
    ids = [maker.next() for _ in range(50_000)]
    assert {len(job_id) for job_id in ids} == {ID_CHARS} == {14}
    assert set("".join(ids)) <= set(ALPHABET)
    assert sorted(set(ids)) == ids


def test_an_id_is_one_that_a_caller_may_use() -> None:
    job_id = IdMaker().next()
    assert check_id(job_id) == job_id


def test_an_id_carries_the_millisecond_at_which_it_was_made() -> None:
    maker = IdMaker()
    before_ms = time.time_ns() // 1_000_000
    made_ms = id_time_ms(maker.next())
    assert before_ms <= made_ms <= time.time_ns() // 1_000_000


def test_ids_grow_while_the_clock_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times_ns = iter([5_000_000_000, 5_000_000_000, 4_000_000_000, 5_000_999_999, 5_001_000_000])
    monkeypatch.setattr("angelrt.job.time.time_ns", lambda: next(times_ns))
    maker = IdMaker()
    ids = [maker.next() for _ in range(5)]
    assert sorted(set(ids)) == ids
    assert [id_time_ms(job_id) for job_id in ids] == [5_000, 5_000, 5_000, 5_000, 5_001]


class Drawn(random.Random):
    """Draws the same bits each time, and counts how often."""

    def __init__(self, drawn: int) -> None:
        """Take what is drawn."""
        super().__init__()
        self.drawn = drawn
        self.times = 0

    def getrandbits(self, k: int, /) -> int:
        """Return it."""
        assert self.drawn < 1 << k
        self.times += 1
        return self.drawn


@pytest.mark.parametrize(
    ("drawn", "times", "last_ms"),
    [(0x123_4567_89AB, 1, 5_000), (0, 1, 5_000), ((1 << 42) - 5_000, 2, 5_001), ((1 << 42) - 1, 10_000, 14_999)],
    ids=["any", "enough", "used up once", "one in each millisecond"],
)
def test_ids_grow_when_a_millisecond_is_used_up(monkeypatch: pytest.MonkeyPatch, drawn: int, times: int, last_ms: int) -> None:
    monkeypatch.setattr("angelrt.job.time.time_ns", lambda: 5_000_000_000)
    bits = Drawn(drawn)
    monkeypatch.setattr("angelrt.job.Random", lambda _: bits)
    maker = IdMaker()
    ids = [maker.next() for _ in range(10_000)]
    assert sorted(set(ids)) == ids
    assert ids[0] == write_number(5_000 << 42 | drawn, 14)
    assert bits.times == times
    assert id_time_ms(ids[-1]) == last_ms


def test_two_makers_start_apart_in_the_same_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("angelrt.job.time.time_ns", lambda: 5_000_000_000)
    ids = [maker.next() for maker in [IdMaker() for _ in range(200)] for _ in range(50)]
    assert len(set(ids)) == len(ids)


def test_the_nonce_of_a_process_has_four_characters() -> None:
    nonces = {IdMaker().nonce for _ in range(100)}
    assert {len(nonce) for nonce in nonces} == {4}
    assert len(nonces) > 90


@given(st.lists(st.integers(0, 64**7 - 1), min_size=2, max_size=2))
def test_written_numbers_sort_as_numbers(numbers: list[int]) -> None:
    written = [write_number(number, 7) for number in numbers]
    assert {len(text) for text in written} == {7}
    assert (written[0] < written[1]) == (numbers[0] < numbers[1])
    assert [id_time_ms(text) for text in written] == numbers


def test_an_id_that_nobody_made_here_carries_no_time_that_matters() -> None:
    assert id_time_ms("é") == 0
    assert id_time_ms("") == 0


@pytest.mark.parametrize(
    "job_id", ["x", "a b", "order:7/refund", "größe", "日本語", "🙂", "{n}:jobs", "*", '"', "a=b", "x" * 128, "é" * 64, "🙂" * 32]
)
def test_a_caller_may_use_up_to_128_bytes_of_printable_text(job_id: str) -> None:
    assert check_id(job_id) == job_id


@pytest.mark.parametrize(
    "job_id", ["", "x" * 129, "é" * 65, "🙂" * 33, "a\0", "a\nb", "a\r", "\t", "\x7f", "\x85", "\ud800", "a\u200b", "a\u2028b"]
)
def test_any_other_id_is_refused_with_what_is_allowed(job_id: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        check_id(job_id)
    assert str(caught.value) == f"id {job_id[:60]!r}: use 1 to 128 bytes of printable text"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("job_id", [".", ".."])
def test_an_id_that_no_address_can_hold_is_refused(job_id: str) -> None:
    with pytest.raises(InvalidOptions, match="stands for a folder in every address"):
        check_id(job_id)
    assert check_id("...") == "..."


@pytest.mark.parametrize("job_id", [7, b"x", None])
def test_an_id_that_is_no_text_is_refused_too(job_id: object) -> None:
    with pytest.raises(InvalidOptions, match="printable text"):
        check_id(job_id)  # type: ignore[arg-type]


@given(st.integers(0, PRIORITY_MAX), st.integers(0, 40 * 365 * 86_400_000 * TICKS_PER_MS))
def test_a_rank_holds_priority_and_time_exactly(priority: int, ticks: int) -> None:
    rank = float(priority * PRIORITY_STEP + ticks)
    assert int(rank) == priority * PRIORITY_STEP + ticks  # a double holds it
    assert rank // PRIORITY_STEP == priority
    assert rank_ready_ms(rank) == ticks / TICKS_PER_MS + EPOCH_MS


def test_priority_goes_before_time() -> None:
    assert PRIORITY_STEP > 60 * 365 * 86_400_000 * TICKS_PER_MS  # sixty years of one priority
    assert (PRIORITY_MAX + 1) * PRIORITY_STEP < 2**53
    assert PRIORITY_DEFAULT == 5


@pytest.mark.parametrize(
    "record",
    [
        Record("a", {}, b"{}"),
        Record("shop.größe", {"p": 3, "a": 2, "t": 1.5, "e": 1_700_000_000_000}, b'{"path":"\\u0000\\n"}'),
        Record("a", {}, b""),
        Record("a", {"p": 0}, b""),
    ],
)
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    assert read_record(write_record(record.actor, "abcd", record.meta, record.arguments)) == record


def test_a_record_holds_nothing_that_equals_its_default() -> None:
    assert write_record("thumbnail", "abcd", {}, b'{"path":"a.jpg"}') == b'thumbnail\0abcd\0{"path":"a.jpg"}'


def test_arguments_that_are_kept_apart_lie_under_the_id_and_the_nonce() -> None:
    assert blob_field("order=7", write_record("a", "abcd", {"p": 0}, b"")) == "order=7=abcd"
    assert blob_field("x", write_record("a", "abcd", {}, b"{}")) == "x=abcd"


def test_five_words_for_people_cover_every_state() -> None:
    assert [status.value for status in Status] == ["pending", "processing", "completed", "failed", "cancelled"]
    assert set(STATUS_OF_STATE.values()) == set(Status)
    assert set(STATUS_OF_STATE) == {"ready", "delayed", "lane", "leased", "completed", "failed", "cancelled"}


def test_times_are_utc() -> None:
    assert at_ms(1_767_355_200_250) == datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)


def full_job() -> JobInfo:
    """Make a job of which everything is known."""
    return JobInfo(
        id="x",
        type="thumbnail",
        payload={"image_path": "a.jpg"},
        priority=5,
        attempts=2,
        status=Status.FAILED,
        created_at=NOON,
        processed_at=NOON,
        completed_at=NOON,
        error=ErrorInfo(type="ValueError", message="no picture", traceback="Traceback"),
        state="failed",
        queue="photos",
        due_at=NOON,
        deliveries=3,
        worker="w",
        progress=Progress(done=0.5, message="half", log=["a line"]),
        timeline=[Attempt(ended_as="retried", started_at=NOON, ended_at=NOON, worker="w")],
    )


def test_a_job_has_the_names_that_an_admin_page_reads() -> None:
    shown = json.loads(full_job().to_json())
    assert list(shown)[:10] == [
        *("id", "type", "payload", "priority", "attempts", "status", "createdAt", "processedAt", "completedAt", "error"),
    ]
    assert set(shown) - set(list(shown)[:10]) == {"state", "queue", "dueAt", "deliveries", "worker", "progress", "timeline"}
    assert shown["error"] == {"type": "ValueError", "message": "no picture", "traceback": "Traceback"}
    assert shown["timeline"] == [
        {"endedAs": "retried", "startedAt": "2026-01-02T12:00:00Z", "endedAt": "2026-01-02T12:00:00Z", "worker": "w"}
    ]
    assert shown["createdAt"] == "2026-01-02T12:00:00Z"
    assert shown["status"] == "failed"


def test_the_names_inside_a_payload_are_the_users_own() -> None:
    assert json.loads(full_job().to_json())["payload"] == {"image_path": "a.jpg"}


def test_what_is_not_known_is_null_and_never_left_out() -> None:
    job = JobInfo(id="x", type="a", payload={}, priority=5, attempts=0, status=Status.PENDING, created_at=NOON, state="ready")
    shown = json.loads(job.to_json())
    assert [name for name, value in shown.items() if value is None] == [
        *("processedAt", "completedAt", "error", "queue", "dueAt", "worker", "progress"),
    ]
    assert (shown["deliveries"], shown["timeline"]) == (0, [])


def test_a_worker_has_the_names_that_an_admin_page_reads() -> None:
    worker = WorkerInfo(
        id="w",
        type="worker",
        status="idle",
        last_heartbeat=NOON,
        jobs_processed=3,
        average_processing_time=12.5,
        queues=["photos"],
        actors=["thumbnail"],
        concurrency=10,
        running=0,
        host="h",
        pid=7,
    )
    shown = json.loads(worker.to_json())
    assert list(shown)[:6] == ["id", "type", "status", "lastHeartbeat", "jobsProcessed", "averageProcessingTime"]
    assert set(shown) - set(list(shown)[:6]) == {
        *("queues", "actors", "concurrency", "running", "host", "pid", "blockedBy", "blockedS", "longestBlockBy", "longestBlockS")
    }


def test_a_view_reads_its_own_json_and_cannot_be_changed() -> None:
    job = full_job()
    assert JobInfo.model_validate_json(job.to_json()) == job
    with pytest.raises(ValueError, match="frozen"):
        job.priority = 1
