"""Cancelling: what waits never runs, what runs is stopped as its kind allows, and whoever waits for the result hears who did it."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Context, JobCancelled, JobNotFound, Retry, RetryPolicy, RuntimeNotOpen, Status
from angelrt.config import whoami
from angelrt.worker import run as run_module
from tests.worker import actors
from tests.worker.waiting import until, until_ended, until_gone, until_info

if TYPE_CHECKING:
    from pathlib import Path

    from angelrt import Job, Runtime
    from tests.worker.conftest import NewRuntime

RESULT_S = 10
LONG_S = 3600
LEASE_S = 60
"""Renewed every twenty seconds: what a worker hears sooner has come by the news."""


async def is_running(job: Job[Any]) -> None:
    """Return when a job runs."""
    await until_info(job, lambda info: info.status is Status.PROCESSING, f"job {job.id} runs")


async def cancelled(job: Job[Any]) -> str:
    """Return the words with which a job's result says that it was cancelled."""
    with pytest.raises(JobCancelled) as caught:
        await job.result(RESULT_S)
    assert await job.status() is Status.CANCELLED
    return str(caught.value)


# -- what waits -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"delay": LONG_S}, {"priority": 0, "attempts": 1}], ids=["ready", "delayed", "with options"])
async def test_a_job_that_waits_is_cancelled_at_once_and_never_runs(rt: Runtime[Any], options: Any) -> None:
    ran: list[int] = []

    @rt.actor()
    async def job(number: int) -> None:
        ran.append(number)

    handle = await job.options(**options).send(1)
    assert await handle.cancel(by="Mary Ann") is True
    assert await cancelled(handle) == f"job {handle.id} was cancelled by Mary Ann"
    async with rt.worker():
        await (await job.send(2)).result(RESULT_S)
    assert ran == [2]


async def test_who_waits_for_the_result_is_told_at_once(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def job() -> None: ...

    handle = await job.send()
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await handle.cancel()
    with pytest.raises(JobCancelled) as caught:
        await asyncio.wait_for(waiting, RESULT_S)
    assert str(caught.value) == f"job {handle.id} was cancelled by {whoami()}"


@pytest.mark.parametrize("who", ["a,b", "k=1 *", "\u00e4\u00f6 \U0001f600", "100%", "x" * 2_000, "line\nbreak"])
async def test_whoever_it_was_is_named_as_given(rt: Runtime[Any], who: str) -> None:
    @rt.actor()
    async def job() -> None: ...

    handle = await job.send()
    await handle.cancel(by=who)
    assert who in await cancelled(handle)


async def test_a_job_that_waits_for_its_retry_does_not_run_again(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=5, base=LONG_S, cap=LONG_S))
    async def job() -> None:
        raise Retry(after=LONG_S)

    async with rt.worker():
        handle = await job.send()
        await until_info(handle, lambda info: info.state == "delayed", "it waits for its retry")
        assert await handle.cancel()
    info = await handle.info()
    assert (info.status, info.attempts, [run.ended_as for run in info.timeline]) == (Status.CANCELLED, 1, ["retried"])


async def test_what_has_ended_is_not_cancelled(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def job() -> int:
        return 7

    async with rt.worker():
        handle = await job.send()
        assert await handle.result(RESULT_S) == 7
    assert await handle.cancel() is False
    assert await handle.result(RESULT_S) == 7


async def test_what_is_not_there_is_not_cancelled(rt: Runtime[Any]) -> None:
    with pytest.raises(JobNotFound):
        await rt.job("nobody").cancel()


# -- an asynchronous actor ------------------------------------------------------------------------------------------------------------


async def test_a_run_is_cancelled_where_it_waits_and_may_clean_up(new_runtime: NewRuntime) -> None:
    seen: list[str] = []
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job() -> None:
            try:
                await asyncio.sleep(LONG_S)
            finally:
                seen.append(rt.context.why_cancelled)
                await asyncio.sleep(0.01)
                seen.append("cleaned up")

        async with rt.worker():
            handle = await job.send()
            await is_running(handle)
            assert await handle.cancel(by="tester") is True
            assert await cancelled(handle) == f"job {handle.id} was cancelled by tester"
            assert (await handle.info()).attempts == 1
    assert seen == ["cancelled", "cleaned up"]


async def test_a_slot_is_free_again_for_the_next_job(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job(seconds: float) -> str:
            await asyncio.sleep(seconds)
            return "done"

        async with rt.worker(concurrency=1):
            first, second = await job.send(LONG_S), await job.send(0)
            await is_running(first)
            await first.cancel()
            assert await second.result(RESULT_S) == "done"


async def test_an_actor_that_swallows_its_cancellation_is_asked_again(new_runtime: NewRuntime) -> None:
    asked: list[int] = []
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.sleep(LONG_S)
                except asyncio.CancelledError:
                    asked.append(1)
                    if len(asked) == 3:
                        raise

        async with rt.worker():
            handle = await stubborn.send()
            await is_running(handle)
            await handle.cancel()
            await cancelled(handle)
    assert len(asked) == 3


async def test_an_actor_that_ends_its_work_in_spite_of_it_has_ended_well(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job() -> str:
            try:
                await asyncio.sleep(LONG_S)
            except asyncio.CancelledError:
                return "saved what there was"
            return ""

        async with rt.worker():
            handle = await job.send()
            await is_running(handle)
            assert await handle.cancel() is True
            assert await handle.result(RESULT_S) == "saved what there was"


@pytest.mark.parametrize("error", [Retry(after=0), ValueError("no matter what")], ids=["retry", "error"])
async def test_an_actor_that_answers_with_an_error_is_cancelled_all_the_same(new_runtime: NewRuntime, error: Exception) -> None:
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job() -> None:
            try:
                await asyncio.sleep(LONG_S)
            except asyncio.CancelledError:
                raise error from None

        async with rt.worker():
            handle = await job.send()
            await is_running(handle)
            await handle.cancel()
            await cancelled(handle)
            assert (await handle.info()).deliveries == 1


async def test_what_a_cancelled_run_wanted_to_send_is_not_sent(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def child() -> None: ...

        @rt.actor()
        async def job() -> None:
            rt.context.send(child.options(id="child").message())
            await asyncio.sleep(LONG_S)

        async with rt.worker():
            handle = await job.send()
            await is_running(handle)
            await handle.cancel()
            await cancelled(handle)
        with pytest.raises(JobNotFound):
            await rt.job("child").info()


async def test_many_are_cancelled_at_the_same_time(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job() -> None:
            await asyncio.sleep(LONG_S)

        async with rt.worker(concurrency=20) as worker:
            handles = await rt.send_many([job.message() for _ in range(50)])
            await until(lambda: len(worker.running.slots) == 20, "all slots are taken")
            assert all(await asyncio.gather(*(handle.cancel() for handle in handles)))
            for handle in handles:
                await cancelled(handle)
        assert (await rt.stats()).total.cancelled == 50


# -- threads and processes ------------------------------------------------------------------------------------------------------------


async def test_a_thread_is_told_and_its_slot_is_free_when_it_has_ended(new_runtime: NewRuntime) -> None:
    ended = threading.Event()
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.thread_actor()
        def job() -> None:
            context = Context.current()
            pause = threading.Event()
            while not context.cancelled:
                pause.wait(0.01)
            ended.set()

        @rt.actor()
        async def after() -> bool:
            return ended.is_set()

        async with rt.worker(concurrency=1):
            handle = await job.send()
            await is_running(handle)
            next_one = await after.send()
            await handle.cancel(by="tester")
            assert await cancelled(handle) == f"job {handle.id} was cancelled by tester"
            assert await next_one.result(RESULT_S) is True, "the thread held its slot until it had ended"


async def test_a_process_is_killed(new_runtime: NewRuntime, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    async with new_runtime(lease=LEASE_S) as rt:
        rt.include(actors.group)
        async with rt.worker():
            handle = await rt.send("hang", {"path": str(path)})
            await until(lambda: path.exists() and path.read_text(encoding="ascii") != "", "the process works")
            assert await handle.cancel(by="tester")
            assert await cancelled(handle) == f"job {handle.id} was cancelled by tester"
            await until_gone(int(path.read_text(encoding="ascii")))
            info = await (await rt.send("process", {"what": "return"})).result(RESULT_S)
            assert info == "run 1", "another process does the next job"


async def test_a_job_that_waits_for_a_process_never_begins(new_runtime: NewRuntime, tmp_path: Path) -> None:
    size = os.cpu_count() or 1
    async with new_runtime(lease=LEASE_S) as rt:
        rt.include(actors.group)
        async with rt.worker(concurrency=size + 1):
            busy = [await rt.send("hang", {"path": str(tmp_path / str(n))}) for n in range(size)]
            await until(lambda: all((tmp_path / str(n)).exists() for n in range(size)), "all processes are busy")
            waiting = await rt.send("hang", {"path": str(tmp_path / "never")})
            await is_running(waiting)
            await waiting.cancel()
            await cancelled(waiting)
            for handle in busy:
                await handle.cancel()
                await cancelled(handle)
    assert not (tmp_path / "never").exists()


async def test_a_job_that_was_claimed_ahead_never_begins(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "QUEUED_MAX_S", LONG_S)
    go_on, ran = asyncio.Event(), list[int]()

    @rt.actor()
    async def job(number: int) -> None:
        ran.append(number)
        await go_on.wait()

    first, second = await rt.send_many([job.message(1), job.message(2)])
    async with rt.worker(concurrency=1) as worker:
        worker.running._pace_per_s = 1e9  # noqa: SLF001 - as if it had just ended many short jobs
        await until(lambda: [run.id for run in worker.running.queued] == [second.id], "the second is claimed ahead")
        assert await second.cancel() is True
        await until(lambda: worker.running.leases[second.id].why_cancelled == "cancelled", "the worker has heard of it")
        go_on.set()
        await first.result(RESULT_S)
        await cancelled(second)
    assert ran == [1]


# -- from wherever --------------------------------------------------------------------------------------------------------------------


async def test_another_process_cancels_by_the_id_alone(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=LEASE_S) as rt, new_runtime() as elsewhere:

        @rt.actor()
        async def job() -> None:
            await asyncio.sleep(LONG_S)

        async with rt.worker():
            handle = await job.send()
            await is_running(handle)
            assert await elsewhere.job(handle.id).cancel(by="elsewhere") is True
            assert await cancelled(handle) == f"job {handle.id} was cancelled by elsewhere"


async def test_synchronous_code_cancels_too(new_runtime: NewRuntime) -> None:
    def script(job_id: str) -> bool:
        with new_runtime() as sync:
            return sync.job(job_id).cancel_sync(by="a script")

    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job() -> None:
            await asyncio.sleep(LONG_S)

        async with rt.worker():
            handle = await job.send()
            await is_running(handle)
            assert await asyncio.to_thread(script, handle.id) is True
            assert await cancelled(handle) == f"job {handle.id} was cancelled by a script"
            with pytest.raises(RuntimeNotOpen, match="await the other one"):
                handle.cancel_sync()


async def test_a_run_may_cancel_itself(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=LEASE_S) as rt:

        @rt.actor()
        async def job() -> None:
            await rt.job(rt.context.job.id).cancel(by="myself")
            await asyncio.sleep(LONG_S)

        async with rt.worker():
            handle = await job.send()
            assert await cancelled(handle) == f"job {handle.id} was cancelled by myself"


async def test_a_worker_that_missed_the_news_hears_at_its_next_renewal(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=1) as rt:

        @rt.actor()
        async def job() -> None:
            await asyncio.sleep(LONG_S)

        async with rt.worker() as worker:
            handle = await job.send()
            await is_running(handle)
            await worker._inbox.close()  # noqa: SLF001 - as if its subscription was down just then
            await handle.cancel()
            await cancelled(handle)


async def test_a_job_that_was_not_begun_in_time_says_so(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def job() -> None: ...

    handle = await job.options(expires=0.05).send()
    await rt.control.pause(queue="default")
    async with rt.worker():
        assert (await until_ended(handle)).status is Status.CANCELLED
        assert await cancelled(handle) == f"job {handle.id} was cancelled: it had not begun before it expired"
    await rt.control.resume(queue="default")
    total = (await rt.stats()).total
    assert (total.cancelled, total.expired) == (1, 1)
