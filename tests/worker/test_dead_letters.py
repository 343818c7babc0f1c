"""Failed jobs that run again under real workers: replayed, edited, spaced, and with people who wait for them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Concurrency, Context, Fail, JobFailed, RetryPolicy, Status
from tests.worker.waiting import until, until_ended, until_info, until_true

if TYPE_CHECKING:
    from angelrt import Job, Runtime
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
AT_ONCE = RetryPolicy(attempts=2, base=0)


class Switch:
    """A service that is down until the test puts it right; notes who called it."""

    def __init__(self) -> None:
        """Start broken."""
        self.works = False
        self.calls: list[tuple[str, int]] = []


def declare(rt: Runtime[Any], **options: Any) -> Switch:
    """Declare an actor `deliver` that fails as long as its switch says so."""
    switch = Switch()

    @rt.actor(name="deliver", retry=AT_ONCE, **options)
    async def _deliver(to: str, size: int = 1) -> str:
        context = Context.current()
        switch.calls.append((context.job.id, context.attempt))
        if to == "nowhere":
            raise Fail(to)
        if not switch.works:
            raise ConnectionError(to)
        return f"{to} {size}"

    return switch


async def failed(rt: Runtime[Any], *places: str, **options: Any) -> list[Job[Any]]:
    """Send a job for each place, and return the handles when all have failed."""
    jobs = [await rt.send("deliver", {"to": to}, **options) for to in places]
    assert {(await until_ended(job)).status for job in jobs} == {Status.FAILED}
    return jobs


async def test_a_replayed_job_runs_with_all_its_attempts_and_its_history(rt: Runtime[Any]) -> None:
    switch = declare(rt)
    async with rt.worker():
        [job] = await failed(rt, "home", priority=2)
        again = await rt.dead_letters.replay(job.id)
        with pytest.raises(JobFailed) as caught:
            await again.result(RESULT_S)
        assert caught.value.attempts == 2
        switch.works = True
        assert await (await rt.dead_letters.replay(job.id)).result(RESULT_S) == "home 1"
        info = await job.info()
    assert [run.ended_as for run in info.timeline] == ["retried", "failed", "retried", "failed"]
    assert (info.id, info.status, info.attempts, info.deliveries, info.error) == (job.id, Status.COMPLETED, 1, 5, None)
    assert [attempt for _, attempt in switch.calls] == [1, 2, 1, 2, 1]
    assert (await rt.dead_letters.list()).total == 0


async def test_a_job_that_waits_to_run_again_still_shows_its_error(rt: Runtime[Any]) -> None:
    declare(rt)
    async with rt.worker():
        [job] = await failed(rt, "home")
    await rt.dead_letters.replay(job.id)
    info = await job.info()
    assert (info.status, info.attempts, info.queue) == (Status.PENDING, 0, "default")
    assert info.error is not None
    assert info.error.type == "ConnectionError"
    with pytest.raises(TimeoutError):
        await job.result(0.05)
    assert await job.cancel()


async def test_who_waits_for_a_replayed_job_hears_of_its_end(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    switch = declare(rt)
    async with rt.worker():
        [job] = await failed(rt, "home")
    async with new_runtime() as other:
        await rt.dead_letters.replay(job.id)
        waiting = [asyncio.create_task(each.job(job.id).result(RESULT_S)) for each in (rt, other) for _ in range(3)]

        async def noted() -> bool:
            return len((await rt.client().store.command("HGET", rt.keys.key("watch"), job.id) or b"").split()) == 2

        await until_true(noted, "both clients are noted as waiting")
        switch.works = True
        async with rt.worker():
            assert await asyncio.gather(*waiting) == ["home 1"] * 6


async def test_an_edited_job_runs_with_its_new_arguments(rt: Runtime[Any]) -> None:
    switch = declare(rt)
    switch.works = True
    async with rt.worker():
        [job] = await failed(rt, "nowhere")
        again = await rt.dead_letters.edit_and_replay(job.id, to="x" * 10_000)
        assert await again.result(RESULT_S) == f"{'x' * 10_000} 1"
    assert len(switch.calls) == 2


async def test_five_hundred_failures_are_replayed_by_a_filter_and_all_complete(rt: Runtime[Any]) -> None:
    switch = declare(rt)
    async with rt.worker(concurrency=100):
        jobs = [await rt.send("deliver", {"to": f"{n}"}) for n in range(500)]
        await rt.send("deliver", {"to": "nowhere"})

        async def all_failed() -> bool:
            return (await rt.dead_letters.list(1)).total == 501

        await until_true(all_failed, "all have failed")
        switch.works = True
        assert (await rt.dead_letters.replay_all(error="ConnectionError")).replayed == 500
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == [f"{n} 1" for n in range(500)]
        assert [letter.error.type async for letter in rt.dead_letters.search()] == ["angelrt.retry.Fail"]
        assert await rt.dead_letters.purge(error="Fail") == 1


async def test_no_replay_at_a_rate_starts_before_it_is_due(rt: Runtime[Any]) -> None:
    switch = declare(rt)
    async with rt.worker():
        jobs = await failed(rt, *(f"{n}" for n in range(8)))
        switch.works = True
        done = await rt.dead_letters.replay_all(per_second=20)
        for job in jobs:
            await job.result(RESULT_S)
    assert done.replayed == 8
    assert done.last_due_at is not None
    started = sorted(info.processed_at for info in [await job.info() for job in jobs] if info.processed_at)
    due = [done.last_due_at - n * timedelta(milliseconds=50) for n in reversed(range(8))]
    early = [at for at, due_at in zip(started, due, strict=True) if at < due_at - timedelta(milliseconds=1)]
    assert early == []


async def test_a_replayed_job_passes_its_gate_again(rt: Runtime[Any]) -> None:
    running: list[str] = []
    most: list[int] = []
    hold = asyncio.Event()
    broken = True

    @rt.actor(name="one", retry=RetryPolicy(attempts=1), limits=[Concurrency(1, per="customer")])
    async def _one(customer: str) -> str:
        if broken:
            raise ConnectionError(customer)
        running.append(customer)
        most.append(len(running))
        await hold.wait()
        running.remove(customer)
        return customer

    async with rt.worker():
        jobs = [await rt.send("one", {"customer": "ann"}) for _ in range(3)]
        for job in jobs:
            await until_ended(job)
        broken = False
        assert (await rt.dead_letters.replay_all()).replayed == 3
        await until(lambda: len(running) == 1, "one runs")
        waiting = [await job.info() for job in jobs]
        assert sorted(info.status for info in waiting) == [Status.PENDING, Status.PENDING, Status.PROCESSING]
        hold.set()
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == ["ann"] * 3
    assert max(most) == 1


async def test_a_job_edited_where_its_actor_is_not_known_gets_its_gates_from_the_worker(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    broken = True

    @rt.actor(name="one", retry=RetryPolicy(attempts=1), limits=[Concurrency(1, per="customer")])
    async def _one(customer: str) -> str:
        if broken:
            raise ConnectionError(customer)
        return customer

    async with rt.worker():
        job = await rt.send("one", {"customer": "ann"})
        await until_ended(job)
        broken = False
        async with new_runtime() as stranger:
            again = await stranger.dead_letters.edit_and_replay(job.id, customer="bob")
            assert await again.result(RESULT_S) == "bob"
        info = await until_info(job, lambda info: info.status == Status.COMPLETED, "it completes")
    assert [run.ended_as for run in info.timeline] == ["failed", "released"]
