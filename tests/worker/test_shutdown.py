"""How a worker stops: it claims no more, lets runs finish, cancels what is left, writes every verdict and hands the rest back."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import RetryPolicy, Status
from tests.worker.actors import group
from tests.worker.waiting import until, until_info

if TYPE_CHECKING:
    from pathlib import Path

    from angelrt import Job, JobInfo, Runtime
    from angelrt.worker.running import Run

RESULT_S = 20
LONG_S = 3600


def assert_handed_back(info: JobInfo) -> None:
    """Check that a job waits as if its run had never been charged.

    The server may still serve the last claim of a worker that stops, with a job that it has just handed back: it is handed back again.
    """
    assert (info.status, info.state, info.attempts) == (Status.PENDING, "ready", 0)
    assert {run.ended_as for run in info.timeline} == {"released"}


async def test_running_jobs_finish_within_the_grace_and_no_more_are_claimed(rt: Runtime[Any]) -> None:
    go_on, started = asyncio.Event(), list[int]()

    @rt.actor()
    async def works(number: int) -> int:
        started.append(number)
        await go_on.wait()
        return number

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(rt.worker(concurrency=2, grace=LONG_S))
        jobs = [await works.send(number) for number in range(4)]
        await until(lambda: len(started) == 2, "two jobs run")
        stopping = asyncio.create_task(stack.aclose())
        jobs.append(await works.send(4))
        go_on.set()
        await stopping
    assert started == [0, 1]
    assert [await job.status() for job in jobs] == [*[Status.COMPLETED] * 2, *[Status.PENDING] * 3]
    assert [(await job.info()).attempts for job in jobs] == [1, 1, 0, 0, 0]


async def test_what_is_left_after_the_grace_is_cancelled_and_handed_back(rt: Runtime[Any], caplog: pytest.LogCaptureFixture) -> None:
    seen, started = list[str](), asyncio.Event()

    @rt.actor(retry=RetryPolicy(attempts=1))
    async def works() -> str:
        started.set()
        try:
            await asyncio.sleep(LONG_S if not seen else 0)
        finally:
            seen.append(rt.context.why_cancelled)
        return "done"

    async with rt.worker(grace=0.05):
        job = await works.send()
        await started.wait()
    assert seen == ["shutdown"]
    assert "1 runs did not end within the grace and are cancelled" in caplog.text
    assert_handed_back(await job.info())
    async with rt.worker():
        assert await job.result(RESULT_S) == "done"
    assert (await job.info()).attempts == 1


async def test_a_run_whose_clean_up_fails_at_the_stop_is_handed_back_too(rt: Runtime[Any]) -> None:
    started = asyncio.Event()

    @rt.actor(retry=RetryPolicy(attempts=1))
    async def works() -> None:
        started.set()
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            raise ConnectionError("libraries turn a cancellation into an error of their own") from None

    async with rt.worker(grace=0.05):
        job = await works.send()
        await started.wait()
    assert_handed_back(await job.info())


async def test_a_run_that_ends_in_spite_of_its_cancellation_keeps_its_result(rt: Runtime[Any]) -> None:
    started = asyncio.Event()

    @rt.actor()
    async def works() -> str:
        started.set()
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            return "saved what there was"
        return "not reached"

    async with rt.worker(grace=0.05):
        job = await works.send()
        await started.wait()
    assert await job.result(RESULT_S) == "saved what there was"


async def test_a_second_stop_cuts_the_grace_short(rt: Runtime[Any]) -> None:
    started = asyncio.Event()

    @rt.actor()
    async def works() -> None:
        started.set()
        await asyncio.sleep(LONG_S)

    async with rt.worker(grace=LONG_S) as worker:
        job = await works.send()
        await started.wait()
        worker.stop()
        await worker.wait_stopped()
        assert await job.status() is Status.PROCESSING, "the first stop cancels nothing"
        asyncio.get_running_loop().call_later(0.05, worker.stop)
    assert_handed_back(await job.info())


async def test_what_waits_for_a_thread_is_handed_back_at_once(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("angelrt.worker.THREADS", 1)
    go_on, started = threading.Event(), list[int]()

    @rt.thread_actor()
    def works(number: int) -> int:
        started.append(number)
        go_on.wait()
        return number

    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(rt.worker(grace=LONG_S))
        jobs = [await works.send(number) for number in range(3)]
        try:
            await until(lambda: len(started) == 1 and len(worker.running.leases) == 3, "one has the thread and two wait for it")
            stopping = asyncio.create_task(stack.aclose())
            for job in jobs[1:]:
                assert_handed_back(await until_info(job, lambda info: info.state == "ready", "what has not begun is handed back"))
        finally:
            go_on.set()  # a thread that waits for ever would keep the tests from ending
        await stopping
    assert await jobs[0].result(RESULT_S) == 0


async def test_a_thread_that_goes_on_is_left_behind_and_its_job_handed_back(rt: Runtime[Any]) -> None:
    go_on, started = threading.Event(), threading.Event()

    @rt.thread_actor()
    def works() -> None:
        started.set()
        go_on.wait()

    try:
        async with rt.worker(grace=0.05):
            job = await works.send()
            await until(started.is_set, "the thread runs the actor")
        assert_handed_back(await job.info())
    finally:
        go_on.set()


async def test_a_thread_that_hangs_does_not_keep_the_worker_from_stopping(rt: Runtime[Any]) -> None:
    go_on = threading.Event()

    @rt.thread_actor(timeout=0.1, retry=RetryPolicy(attempts=1))
    def hangs() -> None:
        go_on.wait()

    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(rt.worker(grace=LONG_S))
            job = await hangs.send()
            await until_info(job, lambda info: info.status == "failed", "the timeout is written")
            async with asyncio.timeout(10):
                await stack.aclose()
    finally:
        go_on.set()


async def test_a_process_is_killed_after_the_grace_and_its_job_handed_back(rt: Runtime[Any], tmp_path: Path) -> None:
    rt.include(group)
    pid = tmp_path / "pid"
    async with rt.worker(grace=0.05):
        job = await rt.send("hang", {"path": str(pid)})
        await until(pid.exists, "the process runs the actor")
    assert_handed_back(await job.info())


async def test_verdicts_of_the_last_runs_are_written_before_the_worker_leaves(rt: Runtime[Any]) -> None:
    go_on, started = asyncio.Event(), list[str]()

    @rt.actor()
    async def works() -> str:
        started.append(rt.context.job.id)
        await go_on.wait()
        return "x" * 10_000

    async with rt.worker(concurrency=50, grace=LONG_S):
        jobs = await rt.send_many([works.message() for _ in range(50)])
        await until(lambda: len(started) == 50, "all run")
        go_on.set()
    assert {await job.status() for job in jobs} == {Status.COMPLETED}


async def test_leaving_by_an_error_hands_back_too(rt: Runtime[Any]) -> None:
    started = asyncio.Event()

    @rt.actor()
    async def works() -> None:
        started.set()
        await asyncio.sleep(LONG_S)

    jobs: list[Job[None]] = []

    async def host() -> None:
        async with rt.worker(grace=0):
            jobs.append(await works.send())
            await started.wait()
            raise LookupError("of the host")

    with pytest.raises(LookupError, match="of the host"):
        await host()
    assert_handed_back(await jobs[0].info())


async def test_a_host_that_is_cancelled_while_it_stops_loses_nothing(rt: Runtime[Any]) -> None:
    started = asyncio.Event()

    @rt.actor()
    async def works() -> None:
        started.set()
        await asyncio.sleep(LONG_S)

    jobs: list[Job[None]] = []

    async def host() -> None:
        async with rt.worker(grace=0):
            jobs.append(await works.send())
            await asyncio.sleep(LONG_S)

    task = asyncio.create_task(host())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_handed_back(await jobs[0].info())


async def test_a_run_that_is_cancelled_before_its_first_step_is_handed_back(rt: Runtime[Any]) -> None:
    """A task that is cancelled before it starts never runs: at a stop amid short jobs this happens, and must leave nothing behind."""
    cancelled: list[str] = []

    @rt.actor(retry=RetryPolicy(attempts=1))
    async def works() -> str:
        return "done"

    async with rt.worker(concurrency=1) as worker:
        start = worker._claim._start  # noqa: SLF001 - there is no other way to be this quick

        def start_and_cancel_the_first(run: Run) -> None:
            start(run)
            if not cancelled:
                cancelled.append(run.id)
                run.cancel("shutdown")

        worker._claim._start = start_and_cancel_the_first  # noqa: SLF001
        job = await works.send()
        assert await job.result(RESULT_S) == "done"
        info = await job.info()
    assert cancelled == [job.id]
    assert (info.attempts, [run.ended_as for run in info.timeline]) == (1, ["released"])
