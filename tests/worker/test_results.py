"""Waiting for what comes of a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobFailed, JobNotFound, Keep, ResultDecodeError, Retention, RetryPolicy, Status
from tests.worker.waiting import until, until_ended, until_true

if TYPE_CHECKING:
    from collections.abc import Callable

    from angelrt import Runtime, WorkerInfo
    from tests.worker.conftest import NewRuntime

RESULT_S = 20


async def test_a_waiter_is_woken_and_does_not_poll(rt: Runtime[Any], new_runtime: NewRuntime, commands_seen: Callable[..., Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    async with new_runtime() as other:
        job = await other.send("works")
        waiters = [asyncio.create_task(job.result(RESULT_S)) for _ in range(50)]
        await asyncio.sleep(0.2)
        before = await commands_seen()
        await asyncio.sleep(1)
        assert await commands_seen() - before <= 3, "fifty waiters ask nothing while they wait"
        async with rt.worker():
            assert await asyncio.gather(*waiters) == ["done"] * 50


async def test_a_result_that_is_there_already_is_answered(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    async with rt.worker():
        job = await works.send()
        await until_ended(job)
    assert await job.result(RESULT_S) == "done"
    assert await job.result(RESULT_S) == "done", "a result may be asked for again"


async def test_many_wait_for_many(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def double(number: int) -> int:
        return 2 * number

    jobs = await rt.send_many([double.message(number) for number in range(600)])
    waiters = [asyncio.create_task(job.result(RESULT_S)) for job in jobs]
    async with rt.worker(concurrency=50):
        assert await asyncio.gather(*waiters) == [2 * number for number in range(600)]


async def test_who_waits_no_longer_gets_the_timeout_error_of_python(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    job = await works.send()
    with pytest.raises(TimeoutError):
        await job.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        await job.result(timeout=0)
    assert await job.status() is Status.PENDING, "the job does not care"
    async with rt.worker():
        assert await job.result(RESULT_S) == "done"


async def test_one_who_gives_up_does_not_take_the_news_from_the_others(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    job = await works.send()
    patient = asyncio.create_task(job.result(RESULT_S))
    with pytest.raises(TimeoutError):
        await job.result(timeout=0.05)
    async with rt.worker():
        assert await patient == "done"


async def test_an_id_that_was_never_sent_is_not_found(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> None:
        """Run by nobody."""

    for job in (rt.job("no such job"), works.job("no such job")):
        for ask in (job.result, job.info, job.status):
            with pytest.raises(JobNotFound, match="no job 'no such job': it was never sent to this namespace, or its retention has passed"):
                await ask()


async def test_a_failure_says_everything_in_one_text(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=1))
    async def breaks() -> None:
        raise LookupError("no such customer")

    async with rt.worker():
        job = await breaks.send()
        with pytest.raises(JobFailed) as caught:
            await job.result(RESULT_S)
    text = str(caught.value)
    assert text.startswith(f"job {job.id} of actor breaks failed after 1 attempt: LookupError: no such customer\n\nremote traceback:\n")
    assert 'raise LookupError("no such customer")' in text


async def test_a_result_of_another_type_than_declared_is_named(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    @rt.actor()
    async def works() -> str:
        return "not a number"

    async with new_runtime() as other:

        @other.remote(name="works")
        def old_works() -> int:
            raise NotImplementedError

        job = await old_works.send()
        async with rt.worker():
            with pytest.raises(ResultDecodeError, match=r"result of actor works.*the annotation changed since the job ran"):
                await job.result(RESULT_S)


async def test_a_large_result_comes_back_whole(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def much(size: int) -> str:
        return "x" * size

    async with rt.worker():
        for size in (4_090, 4_097, 1024 * 1024 - 2):
            assert await (await much.send(size)).result(RESULT_S) == "x" * size


async def test_an_outcome_is_remembered_a_minute_whatever_the_retention(new_runtime: NewRuntime) -> None:
    async with new_runtime(retention=Retention(completed=Keep(0, number=0))) as rt:

        @rt.actor()
        async def works(number: int) -> int:
            return number

        async with rt.worker():
            jobs = [await works.options(id=f"job {number}").send(number) for number in range(5)]
            assert [await job.result(RESULT_S) for job in jobs] == list(range(5))
            again = await works.options(id="job 0").send(0)
            assert not again.created
        assert [await job.status() for job in jobs] == [Status.COMPLETED] * 5


async def test_workers_are_shown_while_they_work_and_not_afterwards(rt: Runtime[Any]) -> None:
    go_on = asyncio.Event()

    @rt.actor(queue="photos")
    async def works() -> None:
        await go_on.wait()

    async with rt.worker(concurrency=3) as worker:
        job = await works.send()
        shown: list[WorkerInfo] = []

        async def is_active() -> bool:
            shown[:] = await rt.workers()
            return shown[0].status == "active"

        await until_true(is_active, "the register shows the worker as active")
        (one,) = shown
        assert (one.id, one.type, one.queues, one.actors, one.concurrency, one.running) == (
            *(worker.id, "embedded", ["photos"], ["works"]),
            *(3, 1),
        )
        go_on.set()
        await job.result(RESULT_S)
        await until(lambda: worker.running.processed == 1, "the job is counted")
        figures = {*one.model_dump(by_alias=True)}
        assert {"id", "type", "status", "lastHeartbeat", "jobsProcessed", "averageProcessingTime"} <= figures
    assert await rt.workers() == []


async def test_the_public_view_of_a_job_has_the_names_that_an_admin_ui_reads(rt: Runtime[Any]) -> None:
    @rt.actor(priority=3)
    async def works(path: str) -> str:
        return path

    async with rt.worker():
        job = await works.send("a.jpg")
        await job.result(RESULT_S)
        shown = (await job.info()).model_dump(mode="json", by_alias=True)
    assert {name: shown[name] for name in ("id", "type", "payload", "priority", "attempts", "status", "error")} == {
        "id": job.id,
        "type": "works",
        "payload": {"path": "a.jpg"},
        "priority": 3,
        "attempts": 1,
        "status": "completed",
        "error": None,
    }
    assert shown["createdAt"] <= shown["processedAt"] <= shown["completedAt"]
