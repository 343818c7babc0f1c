"""A lease is the right to a job: who lost it stops and changes nothing, and who holds it keeps it, whatever its actor does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobFailed, RetryPolicy, Status
from angelrt.keys import QUEUE_KEYS
from angelrt.store import Store
from angelrt.worker.lease import PULSE_S
from tests.worker.apart import working_apart
from tests.worker.waiting import until, until_info, until_true

if TYPE_CHECKING:
    from angelrt import Job, Runtime
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
LONG_S = 3600
QUEUE = "default"
BLOCK_S = 3


async def lose_leases(store: Store, queue: str = QUEUE) -> None:
    """Let every lease of a queue have run out, and the grace of one that is found late: half a millisecond tells that it had it."""
    leased = store.keys.queue(queue)[QUEUE_KEYS.index("leased")]
    for job_id in await store.command("ZRANGE", leased, 0, -1):
        await store.command("ZADD", leased, 1.5, job_id)
    await store.tick([queue])


async def is_processing(job: Job[Any], attempt: int = 1) -> None:
    """Wait until a job runs for the so-manieth time."""
    await until_info(job, lambda info: info.status == "processing" and info.attempts == attempt, f"attempt {attempt} runs")


async def test_a_lost_lease_cancels_the_run_which_writes_nothing(
    new_runtime: NewRuntime, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    async with new_runtime(lease=1) as rt:

        @rt.actor()
        async def works() -> str:
            try:
                await asyncio.sleep(LONG_S if rt.context.attempt == 1 else 0)
            except asyncio.CancelledError:
                seen.append(rt.context.why_cancelled)
                raise
            return f"run {rt.context.attempt}"

        async with rt.worker(concurrency=1):
            job = await works.send()
            await is_processing(job)
            await lose_leases(store)
            assert await job.result(RESULT_S) == "run 2"
            info = await job.info()
    assert seen == ["lost"]
    assert f"works: the lease of job {job.id} is lost; its run is cancelled" in caplog.text
    assert (info.attempts, info.deliveries) == (2, 2)
    assert [run.ended_as for run in info.timeline] == ["lost"], "the run that lost its lease noted nothing of its own"


async def test_a_result_that_comes_after_the_lease_was_lost_is_not_written(
    new_runtime: NewRuntime, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    results = iter(["too late", "in time"])
    go_on = asyncio.Event()
    async with new_runtime() as rt:

        @rt.actor()
        async def child() -> None:
            """Run by nobody."""

        @rt.actor(queue="works")
        async def works() -> str:
            result = next(results)
            rt.context.send(child.options(id=result).message())
            if result == "too late":
                await go_on.wait()
            return result

        async with rt.worker(concurrency=1, queues=["works"]):
            job = await works.send()
            await is_processing(job)
            await lose_leases(store, "works")
            go_on.set()
            assert await job.result(RESULT_S) == "in time"
        assert await child.job("in time").status() is Status.PENDING
        with pytest.raises(Exception, match="no job 'too late'"):
            await child.job("too late").info()
    assert f"job {job.id}: its lease was lost before it was settled; another run decides" in caplog.text


async def test_a_run_is_cancelled_when_its_own_worker_gets_the_job_again(new_runtime: NewRuntime, store: Store) -> None:
    """The worker has free slots, so it claims the job before it notices that the first run lost it."""
    seen: list[str] = []
    async with new_runtime(lease=1) as rt:

        @rt.actor()
        async def works() -> str:
            try:
                await asyncio.sleep(LONG_S if rt.context.attempt == 1 else 0)
            except asyncio.CancelledError:
                seen.append(rt.context.why_cancelled)
                raise
            return f"run {rt.context.attempt}"

        async with rt.worker(concurrency=2, grace=0) as worker:
            job = await works.send()
            await is_processing(job)
            await lose_leases(store)
            assert await job.result(RESULT_S) == "run 2"
            await until(lambda: worker.running.free == 2, "the first run is gone too")
    assert seen == ["lost"]


async def test_a_job_whose_worker_is_lost_in_its_last_attempt_fails_without_another_run(rt: Runtime[Any], store: Store) -> None:
    started: list[int] = []

    @rt.actor(retry=RetryPolicy(attempts=2, base=0))
    async def works() -> None:
        started.append(rt.context.attempt)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG_S)

    async with rt.worker(grace=0):
        job = await works.send()
        for attempt in (1, 2):
            await is_processing(job, attempt)
            await lose_leases(store)
        with pytest.raises(JobFailed, match="its 2 attempts are used up") as caught:
            await job.result(RESULT_S)
        info = await job.info()
    assert started == [1, 2]
    assert caught.value.error_type.endswith("WorkerLost")
    assert (caught.value.attempts, info.attempts) == (2, 2), "only runs are attempts"
    assert [run.ended_as for run in info.timeline] == ["lost", "lost"]


@pytest.mark.parametrize("priority", [0, 9])
async def test_runs_are_never_kept_in_a_list_that_the_server_searches_from_its_beginning(
    rt: Runtime[Any], store: Store, priority: int
) -> None:
    seen = asyncio.Event()

    @rt.actor(priority=priority)
    async def waits() -> None:
        await seen.wait()

    async with rt.worker(concurrency=1):
        await is_processing(await waits.send())
        encoding = await store.command("OBJECT", "ENCODING", store.keys.key("runs"))
        seen.set()
    assert encoding == b"hashtable"


@pytest.mark.parametrize("kind", ["sleeps", pytest.param("computes", marks=pytest.mark.long)])
async def test_an_actor_that_blocks_the_loop_keeps_its_lease_and_is_named(
    new_runtime: NewRuntime, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    blocked, rt = new_runtime(lease=1.5), new_runtime(lease=1.5)

    @blocked.actor(name="block")
    async def block() -> str:
        if kind == "sleeps":
            time.sleep(BLOCK_S)  # noqa: ASYNC251 - the fault that is tested
        else:
            end_s = time.monotonic() + BLOCK_S
            while time.monotonic() < end_s:
                pass
        return "done"

    @rt.thread_actor(name="block")
    def take_over() -> str:
        return "taken by another worker"

    with working_apart(blocked):
        async with rt:
            job = await take_over.send()
            await is_processing(job)
            async with rt.worker():
                assert await job.result(RESULT_S) == "done"
                await until(lambda: "the event loop goes on" in caplog.text, "the end of the block is said, too")

                async def is_shown() -> bool:
                    return ("block", None) in [(one.longest_block_by, one.blocked_by) for one in await rt.workers()]

                await until_true(is_shown, "the register names who has blocked it")
                (worker,) = [one for one in await rt.workers() if one.longest_block_by]
            info = await job.info()
    assert (info.deliveries, info.timeline) == (1, [])
    assert worker.longest_block_s is not None
    assert worker.longest_block_s >= BLOCK_S - PULSE_S
    assert "by block (job" in caplog.text
    assert "declare it as thread_actor or process_actor" in caplog.text


async def test_a_run_longer_than_its_lease_keeps_it(new_runtime: NewRuntime) -> None:
    async with new_runtime(lease=1) as rt:

        @rt.actor()
        async def works() -> str:
            await asyncio.sleep(1.6)
            return "done"

        async with rt.worker():
            job = await works.send()
            assert await job.result(RESULT_S) == "done"
            info = await job.info()
    assert (info.deliveries, info.timeline) == (1, [])


async def test_a_worker_that_is_silent_is_shown_as_an_error_and_struck_off(
    rt: Runtime[Any], server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    an_hour_ago = Store(server_url, rt.keys)
    an_hour_ago.clock = lambda: (time.time() - LONG_S) * 1000
    silent = rt.new_worker()
    await an_hour_ago.beat(silent.id, silent.info(), [QUEUE])
    await an_hour_ago.close()
    assert [(one.id, one.status) for one in await rt.workers()] == [(silent.id, "error")]
    async with rt.worker() as worker:
        await until(lambda: "struck off" in caplog.text, "the other worker strikes it off")
        assert [(one.id, one.status) for one in await rt.workers()] == [(worker.id, "idle")]
    assert f"worker {silent.id} is struck off, since it has not beaten for 15 s: 0 jobs taken back" in caplog.text
