"""Jobs whose worker died: a worker that runs them takes nothing beside, and a busy one makes room for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobFailed, RetryPolicy
from tests.worker.waiting import until, until_info

if TYPE_CHECKING:
    from angelrt import Job, Runtime
    from angelrt.store import Store

RESULT_S = 20
TOGETHER_MAX = 8
ROOM_AFTER_MS = 1_000


async def lose(rt: Runtime[Any], number: int) -> list[Job[Any]]:
    """Let a worker die that holds some jobs."""
    store = rt.client().store
    jobs = [await rt.send("wait") for _ in range(number)]
    claimed = await store.claim(
        store.link, "dead", "tokenofdead", queues=["default"], lease_ms=60_000, capacity=200, free=200, actors=b"\0wait\0", block=False
    )
    assert len(claimed.deliveries) == number
    assert await store.expire_worker("dead", ["default"], died=True) == number
    return jobs


async def test_nothing_is_claimed_beside_suspects_until_they_have_ended(rt: Runtime[Any]) -> None:
    go_on = asyncio.Event()
    running: set[str] = set()

    @rt.actor(name="wait")
    async def wait() -> str:
        running.add(rt.context.job.id)
        await go_on.wait()
        return "done"

    suspects = {job.id: job for job in await lose(rt, TOGETHER_MAX + 1)}
    async with rt.worker(concurrency=50) as worker:
        await until(lambda: len(running) == TOGETHER_MAX, "as many run as may run together")
        late = await rt.send("wait")
        assert worker.running.wanted() == 0
        assert running <= suspects.keys()
        go_on.set()
        assert [await job.result(RESULT_S) for job in (*suspects.values(), late)] == ["done"] * (TOGETHER_MAX + 2)
        await worker.running.idle()
        assert worker.running.wanted() >= worker.running.concurrency


async def test_a_busy_worker_makes_room_and_then_runs_the_suspect_alone(rt: Runtime[Any], store: Store) -> None:
    go_on, has_begun = asyncio.Event(), asyncio.Event()

    @rt.actor(name="other")
    async def other() -> str:
        has_begun.set()
        await go_on.wait()
        return "done"

    @rt.actor(name="wait")
    async def wait() -> int:
        return len(worker.running.leases)

    (suspect,) = await lose(rt, 1)
    first = await rt.send("other")
    async with rt.worker(concurrency=50) as worker:
        await has_begun.wait()
        await until_info(suspect, lambda info: info.state == "lane", "the busy worker lets it wait")
        opens = store.keys.queue("default")[4]
        (lane,) = await store.command("ZRANGE", opens, 0, -1)
        await store.command("ZINCRBY", opens, ROOM_AFTER_MS, lane)
        await until(lambda: worker.running.wanted() == 0, "the worker takes no more")
        late = await rt.send("other")
        go_on.set()
        assert await suspect.result(RESULT_S) == 1
        assert [await job.result(RESULT_S) for job in (first, late)] == ["done"] * 2


async def test_what_may_run_once_only_is_not_begun_again_after_a_death(rt: Runtime[Any]) -> None:
    begun: list[str] = []

    @rt.actor(name="wait", retry=RetryPolicy(attempts=1))
    async def wait() -> None:
        begun.append(rt.context.job.id)

    (job,) = await lose(rt, 1)
    async with rt.worker():
        with pytest.raises(JobFailed) as failed:
            await job.result(RESULT_S)
    assert (failed.value.error_type, begun) == ("angelrt.worker.failure.WorkerLost", [])
