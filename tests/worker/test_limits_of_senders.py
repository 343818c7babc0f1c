"""Limits hold for what anybody sends: senders may know other limits than the workers do, in a deploy or for good."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Actors, Concurrency, InvalidOptions, Queue, RateLimit
from tests.worker.waiting import until, until_info

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt import Runtime
    from angelrt.limits import Limit
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
JOBS = 40


def declare(rt: Runtime[Any], limits: Sequence[Limit], seen: Counter[str] | None = None) -> Any:
    """Declare one version of an actor, which counts how many of it run at the same time."""
    group, inside = Actors(), [0]

    @group.actor(name="call", limits=limits)
    async def call(customer: int) -> int:
        inside[0] += 1
        if seen is not None:
            seen["most"] = max(seen["most"], inside[0])
        for _ in range(5):
            await asyncio.sleep(0)
        inside[0] -= 1
        return customer

    rt.include(group)
    return call


@pytest.mark.parametrize(
    ("senders", "workers"),
    [
        ([], [Concurrency(1)]),
        ([Concurrency(5, per="customer")], [Concurrency(5, per="customer"), Concurrency(1)]),
        ([Concurrency(5)], [Concurrency(1)]),
        ([RateLimit("1000/s")], [Concurrency(1), RateLimit("1000/s")]),
    ],
    ids=["none", "one less", "another number", "a rate alone"],
)
async def test_the_limits_of_the_workers_hold_whatever_the_senders_know(new_runtime: NewRuntime, senders: Any, workers: Any) -> None:
    seen = Counter[str]()
    async with new_runtime() as rt, new_runtime() as elsewhere:
        declare(rt, workers, seen)
        call = declare(elsewhere, senders)
        async with rt.worker(concurrency=10):
            jobs = await elsewhere.send_many([call.message(number % 3) for number in range(JOBS)])
            assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == [number % 3 for number in range(JOBS)]
    assert seen["most"] == 1


@pytest.mark.parametrize("limits", [[], [Concurrency(5, per="customer")]], ids=["an actor without limits", "an actor with some"])
async def test_the_limit_of_a_queue_holds_for_a_sender_that_does_not_declare_it(new_runtime: NewRuntime, limits: Any) -> None:
    seen = Counter[str]()
    async with new_runtime(queues=[Queue("default", limits=[Concurrency(1)])]) as rt, new_runtime() as elsewhere:
        declare(rt, limits, seen)
        call = declare(elsewhere, limits)
        async with rt.worker(concurrency=10):
            jobs = await elsewhere.send_many([call.message(number % 3) for number in range(JOBS)])
            await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
    assert seen["most"] == 1


async def test_a_limit_that_workers_no_longer_declare_ends_nothing(new_runtime: NewRuntime) -> None:
    """Its rule stays until somebody changes it, so that two versions side by side keep it."""
    async with new_runtime() as rt, new_runtime() as elsewhere:
        declare(rt, [])
        call = declare(elsewhere, [Concurrency(1)])
        async with rt.worker(concurrency=10):
            jobs = await elsewhere.send_many([call.message(number) for number in range(JOBS)])
            assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == list(range(JOBS))


async def test_a_cost_by_name_needs_the_declaration(new_runtime: NewRuntime) -> None:
    async with new_runtime() as rt:
        with pytest.raises(InvalidOptions, match=r"options\(cost=5\): actor nobody is not declared here, and its limits are not known"):
            await rt.send("nobody", cost=5)


async def test_children_that_a_run_sends_have_their_gates(new_runtime: NewRuntime) -> None:
    async with new_runtime() as rt:

        @rt.actor(limits=[RateLimit("2/day")])
        async def child() -> None: ...

        @rt.actor()
        async def parent() -> None:
            rt.context.send(*(child.options(id=f"child{number}").message() for number in range(4)))

        async with rt.worker():
            await (await parent.send()).result(RESULT_S)
            for number in range(2):
                await until_info(rt.job(f"child{number}"), lambda info: info.state == "completed", f"child {number} has run")
            for number in range(2, 4):
                await until_info(rt.job(f"child{number}"), lambda info: info.state == "lane", f"child {number} waits")


async def test_a_worker_of_another_queue_that_starts_first_hides_no_raised_limit(new_runtime: NewRuntime) -> None:
    """A new version raises the limit of a queue, and the first of its workers to start does not serve that queue."""
    go_on, inside = asyncio.Event(), list[int]()
    before = new_runtime(queues=[Queue("slow", limits=[Concurrency(1)])])
    after, again = (new_runtime(queues=[Queue("slow", limits=[Concurrency(3)])]) for _ in range(2))

    @before.actor(queue="slow")
    async def call(number: int) -> None:
        inside.append(number)
        await go_on.wait()

    @after.actor(queue="quick")
    async def quick() -> None: ...

    @again.actor(queue="slow")
    async def unused() -> None: ...

    async with before, after, again, before.worker(concurrency=10):
        jobs = await before.send_many([call.message(number) for number in range(4)])
        await until(lambda: len(inside) == 1, "one runs")
        async with after.worker(), again.worker():
            await until(lambda: len(inside) == 3, "three run")
            go_on.set()
            await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
