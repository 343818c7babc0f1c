"""Unique jobs and tenants as applications meet them: handles, errors, bursts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import DuplicateJob, JobCancelled, Queue, Retry, RetryPolicy, Status, Unique
from tests.worker.waiting import until_info

if TYPE_CHECKING:
    from angelrt import Runtime
    from tests.worker.conftest import NewRuntime

RESULT_S = 20


async def test_second_send_gets_the_handle_of_the_first(rt: Runtime[Any]) -> None:
    @rt.actor(unique=Unique("path"))
    async def thumbnail(path: str, size: int = 256) -> str:
        return f"{path} {size}"

    first = await thumbnail.send("a")
    again, other = await thumbnail.send("a", size=64), await thumbnail.send("b")
    assert (first.created, again.created, other.created) == (True, False, True)
    assert (again.id, other.id == first.id) == (first.id, False)
    async with rt.worker(concurrency=2):
        assert await again.result(RESULT_S) == "a 256"
        later = await thumbnail.send("a", size=64)
        assert (later.created, await later.result(RESULT_S)) == (True, "a 64")


async def test_duplicate_is_refused_by_the_id_of_the_one_that_is_there(rt: Runtime[Any]) -> None:
    @rt.actor(unique=Unique("path", on_conflict="reject"))
    async def thumbnail(path: str) -> str:
        return path

    there = await thumbnail.send("a")
    with pytest.raises(DuplicateJob) as caught:
        await thumbnail.send("a")
    assert caught.value.job_id == there.id
    assert str(caught.value) == (
        f"actor thumbnail: job {there.id} does the same work and stands in the way; Unique(on_conflict=) decides what happens then"
    )
    with pytest.raises(DuplicateJob):
        await rt.send_many([thumbnail.message("b"), thumbnail.message("a")])


async def test_replaced_job_ends_as_cancelled_and_tells_by_which(rt: Runtime[Any]) -> None:
    @rt.actor(unique=Unique("path", on_conflict="replace"))
    async def thumbnail(path: str, size: int) -> str:
        return f"{path} {size}"

    old = await thumbnail.send("a", 1)
    waiting = asyncio.create_task(old.result(RESULT_S))
    new = await thumbnail.send("a", 2)
    with pytest.raises(JobCancelled) as caught:
        await waiting
    assert str(caught.value) == f"job {old.id} was replaced by job {new.id}, which does the same work"
    async with rt.worker(concurrency=1):
        assert await new.result(RESULT_S) == "a 2"
    assert await old.status() == Status.CANCELLED
    found = await rt.explain(old.id)
    assert f"was replaced by job {new.id}" in found.text


async def test_burst_is_run_once_with_the_last_arguments(rt: Runtime[Any]) -> None:
    ran: list[int] = []

    @rt.actor(unique=Unique("document", debounce=0.3))
    async def index(document: str, version: int) -> int:
        ran.append(version)
        return len(document)

    async with rt.worker(concurrency=5):
        await rt.send_many(index.message("a", version) for version in range(5))
        jobs = [await index.send("a", version) for version in range(5, 10)]
        assert await jobs[-1].result(RESULT_S) == 1
    assert ran == [9]


async def test_run_that_is_tried_again_still_stands_in_the_way(rt: Runtime[Any]) -> None:
    @rt.actor(unique=Unique("path"), retry=RetryPolicy(attempts=2, base=0))
    async def thumbnail(path: str) -> str:
        if rt.context.attempt == 1:
            raise Retry(after=0.2)
        return path

    job = await thumbnail.send("a")
    async with rt.worker(concurrency=1):
        await until_info(job, lambda info: info.attempts == 1 and info.state == "delayed", "the first run has ended")
        assert (await thumbnail.send("a")).id == job.id
        assert await job.result(RESULT_S) == "a"


async def test_child_that_is_there_already_is_not_sent_twice(rt: Runtime[Any]) -> None:
    @rt.actor(unique=Unique("path"), queue="later")
    async def thumbnail(path: str) -> str:
        return path

    @rt.actor()
    async def gallery() -> None:
        rt.context.send(*(thumbnail.message(path) for path in "aab"))

    await thumbnail.send("b")
    async with rt.worker(concurrency=1, queues=["default"]):
        await (await gallery.send()).result(RESULT_S)
    stats = await rt.stats()
    assert stats.total.sent == 3, "gallery, a and b"


async def test_tenants_take_turns(new_runtime: NewRuntime) -> None:
    order: list[str] = []
    async with new_runtime(queues=[Queue("renders", weights={"gold": 3})]) as rt:

        @rt.actor(queue="renders")
        async def render(tenant: str) -> None:
            order.append(tenant)

        await rt.send_many(render.options(tenant="bulk").message("bulk") for _ in range(100))
        await rt.send_many(render.options(tenant="gold").message("gold") for _ in range(12))
        await rt.send_many(render.message("nobody") for _ in range(4))
        async with rt.worker(concurrency=1) as worker:
            await worker.wait_empty()
    assert len(order) == 116
    shares = Counter(order[:20])
    assert shares["gold"] == 12
    assert (shares["bulk"], shares["nobody"]) == (4, 4)


@pytest.mark.parametrize("priority", [None, 0, 9])
async def test_priority_is_shown_as_it_was_sent_where_it_ages(new_runtime: NewRuntime, priority: int | None) -> None:
    async with new_runtime(queues=[Queue("default", aging=60)]) as rt:

        @rt.actor()
        async def work() -> int:
            return 1

        job = await work.options(priority=priority).send()
        assert (await job.info()).priority == (5 if priority is None else priority)
        async with rt.worker(concurrency=1):
            await job.result(RESULT_S)
        info = await job.info()
        assert info.priority == (5 if priority is None else priority)
        stats = await rt.stats()
    assert stats.pickup_p99_ms is not None
    assert stats.pickup_p99_ms < RESULT_S * 1000
