"""What stands in Redis may be broken, too deep or too large: the job fails with a typed error, and everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from angelrt import InvalidArguments, JobFailed, PayloadTooLarge, ResultDecodeError, RetryPolicy, Status
from angelrt.config import PAYLOAD_MAX_BYTES
from angelrt.job import UNREADABLE
from tests.worker.waiting import until_true

if TYPE_CHECKING:
    from angelrt import Runtime
    from angelrt.store import Store

RESULT_S = 20
DEPTH = 100_000
DEEP = b"[" * DEPTH + b"]" * DEPTH
META = b'{"t":%b}' % DEEP

UNREADABLE_RECORDS = {
    "no arguments": b"keep\0none",
    "a meta that is no JSON": b"keep\0none{\0{}",
    "a meta that is no object": b"keep\0none[1]\0{}",
    "a meta that is too deep": b"keep\0none" + META + b"\0{}",
}
UNFIT_ARGUMENTS = {
    "no JSON": b"{",
    "too deep": b'{"value":' + DEEP + b"}",
    "no object": b"[1]",
    "no text": b'{"value":"\xff"}',
}


async def declare(rt: Runtime[Any]) -> None:
    """Declare an actor that takes anything."""

    @rt.actor(name="keep", retry=RetryPolicy(attempts=3, base=0))
    async def keep(value: Any = None) -> Any:
        return value


async def overwrite(store: Store, job_id: str, record: bytes) -> None:
    """Put another record in the place of a job's own."""
    await store.command("HSET", store.keys.key("jobs"), job_id, record)


async def failure(rt: Runtime[Any], job_id: str) -> JobFailed:
    """Return how a job failed, after checking that another one of the same claim completed, and that it is shown to people."""
    job = rt.job(job_id)
    with pytest.raises(JobFailed) as caught:
        await job.result(RESULT_S)
    assert (await job.info()).status is Status.FAILED
    assert [letter.id for letter in (await rt.dead_letters.list()).letters] == [job_id]
    return caught.value


@pytest.mark.parametrize("record", UNREADABLE_RECORDS.values(), ids=UNREADABLE_RECORDS)
async def test_a_record_that_cannot_be_read_fails_and_is_not_run_again(rt: Runtime[Any], store: Store, record: bytes) -> None:
    await declare(rt)
    jobs = [await rt.send("keep", {"value": number}) for number in range(3)]
    await overwrite(store, jobs[1].id, record)
    assert (await jobs[1].info()).type == "keep"
    async with rt.worker(grace=5) as worker:
        failed = await failure(rt, jobs[1].id)
        assert [await jobs[0].result(RESULT_S), await jobs[2].result(RESULT_S)] == [0, 2]
        assert worker.failure is None
    assert failed.error_type.endswith("InvalidArguments")
    assert "the stored record of the job cannot be read" in failed.error_message
    assert (await jobs[1].info()).deliveries == 1


@pytest.mark.parametrize("arguments", UNFIT_ARGUMENTS.values(), ids=UNFIT_ARGUMENTS)
async def test_arguments_that_cannot_be_read_fail_the_job_at_once(rt: Runtime[Any], store: Store, arguments: bytes) -> None:
    await declare(rt)
    job = await rt.send("keep", {"value": 1})
    await overwrite(store, job.id, b"keep\0none\0" + arguments)
    assert UNREADABLE in (await job.info()).payload
    async with rt.worker(grace=5):
        failed = await failure(rt, job.id)
    assert (failed.error_type, failed.attempts) == ("angelrt.errors.InvalidArguments", 1)
    assert len(failed.error_message) < 1_000


async def test_arguments_over_the_limit_are_not_parsed(rt: Runtime[Any], store: Store) -> None:
    await declare(rt)
    job = await rt.send("keep", {"value": 1})
    await overwrite(store, job.id, b'keep\0none\0{"value":"' + b"x" * PAYLOAD_MAX_BYTES + b'"}')
    async with rt.worker(grace=5):
        failed = await failure(rt, job.id)
    assert (failed.error_type, failed.attempts) == ("angelrt.errors.PayloadTooLarge", 1)


async def test_a_record_without_any_form_waits_for_an_actor_of_its_name(rt: Runtime[Any], store: Store) -> None:
    await declare(rt)
    job = await rt.send("keep", {"value": 1})
    other = await rt.send("keep", {"value": 2})
    await overwrite(store, job.id, b"nobody")
    async with rt.worker(grace=5) as worker:
        assert await other.result(RESULT_S) == 2

        async def waits() -> bool:
            return (await job.info()).state == "lane"

        await until_true(waits, "it waits in a lane")
        assert worker.failure is None
        assert (await rt.explain(job.id)).reasons[0].kind == "missing"
    assert await job.cancel()


async def test_what_is_nested_deeper_than_can_be_read_is_refused_where_it_is_sent(rt: Runtime[Any]) -> None:
    await declare(rt)
    value: Any = None
    for _ in range(300):
        value = [value]
    with pytest.raises(InvalidArguments, match=r"would not come back|no JSON form"):
        await rt.send("keep", {"value": value})


async def test_a_result_that_cannot_be_read_is_a_typed_error(rt: Runtime[Any], store: Store) -> None:
    await declare(rt)
    async with rt.worker(grace=5):
        jobs = [await rt.send("keep", {"value": number}) for number in range(2)]
        assert [await job.result(RESULT_S) for job in jobs] == [0, 1]
    key = store.keys.key("results")
    for job, payload in zip(jobs, (DEEP, b"{"), strict=True):
        head, _, _ = (await store.command("HGET", key, job.id)).partition(b"\0")
        await store.command("HSET", key, job.id, head + b"\0" + payload)
        with pytest.raises(ResultDecodeError):
            await job.result(RESULT_S)
        with pytest.raises(ResultDecodeError):
            await rt.job(job.id).result(RESULT_S)


async def test_a_result_over_the_limit_is_not_parsed(rt: Runtime[Any], store: Store) -> None:
    await declare(rt)
    async with rt.worker(grace=5):
        job = await rt.send("keep", {"value": 1})
        await job.result(RESULT_S)
    key = store.keys.key("results")
    head, _, _ = (await store.command("HGET", key, job.id)).partition(b"\0")
    await store.command("HSET", key, job.id, head + b'\0"' + b"x" * PAYLOAD_MAX_BYTES + b'"')
    with pytest.raises(PayloadTooLarge):
        await rt.registered["keep"].job(job.id).result(RESULT_S)
