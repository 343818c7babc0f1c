"""Claims run a little ahead of the slots, and nobody has to wait for that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Actors, Concurrency, Status
from angelrt.scripts import CLAIM, RENEW, SETTLE, TICK
from angelrt.store import Store
from angelrt.worker.claim import ClaimLoop
from angelrt.worker.running import Running
from tests.worker.waiting import until

if TYPE_CHECKING:
    from angelrt import Runtime
    from angelrt.store import Claimed
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
LONG_S = 3600
QUICK_JOBS = 300
SERVER_STOPS_S = 0.1
TURNS = 10


async def test_the_server_knows_the_scripts_of_a_run_before_the_first_is_claimed(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def nothing() -> None: ...

    store = rt.client().store
    await store.command("SCRIPT", "FLUSH")
    async with rt.worker():
        assert await store.command("SCRIPT", "EXISTS", CLAIM.sha, TICK.sha, SETTLE.sha, RENEW.sha) == [1, 1, 1, 1]


async def test_a_job_claimed_ahead_of_a_slot_goes_to_whoever_has_one(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    go_on, group = asyncio.Event(), Actors()

    @group.actor()
    async def quick(number: int) -> int:
        return number

    @group.actor()
    async def long() -> None:
        await go_on.wait()

    rt.include(group)
    async with new_runtime() as other:
        other.include(group)
        async with rt.worker(concurrency=2) as full:
            quick_ones = [quick.message(number) for number in range(QUICK_JOBS)]
            jobs = await rt.send_many([*quick_ones, long.message(), long.message(), *quick_ones[:5]])
            try:
                await until(lambda: full.running.processed >= QUICK_JOBS and full.running.free == 0, "both slots are taken for long")
                async with other.worker(concurrency=2):
                    assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs[-5:])) == list(range(5))
            finally:
                go_on.set()
            for job in jobs[-5:]:
                assert (await job.info()).attempts == 1, "to be handed back costs no attempt"


async def test_a_stop_in_the_midst_of_many_short_jobs_is_prompt_and_exact(rt: Runtime[Any]) -> None:
    ran: Counter[str] = Counter()

    @rt.actor()
    async def quick() -> None:
        ran[rt.context.job.id] += 1
        await asyncio.sleep(0)

    def has_run(enough: int) -> bool:
        return len(ran) >= enough

    jobs = await rt.send_many([quick.message() for _ in range(2_000)])
    for stop in range(1, 8):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(rt.worker(concurrency=20, grace=LONG_S))
            await until(partial(has_run, 200 * stop), "some have run")
            async with asyncio.timeout(20):
                await stack.aclose()
        infos = await rt.client().infos([job.id for job in jobs])
        completed = {info.id for info in infos if info.status is Status.COMPLETED}
        assert completed == ran.keys(), "what has run is settled"
        assert {(info.status, info.attempts) for info in infos if info.id not in ran} <= {(Status.PENDING, 0)}, "what has not, waits"
    assert set(ran.values()) == {1}


async def test_a_flood_is_run_once_each_by_several_workers(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    ran: Counter[int] = Counter()
    group = Actors()

    @group.actor()
    async def quick(number: int) -> int:
        ran[number] += 1
        return number

    rt.include(group)
    async with new_runtime() as other:
        other.include(group)
        async with rt.worker(concurrency=10), other.worker(concurrency=10):
            jobs = await rt.send_many([quick.message(number) for number in range(2_000)])
            assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == list(range(2_000))
    assert ran == Counter(range(2_000))


def seen_claims(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that tells from now on of each claim that leaves, and whether it got jobs."""
    seen: list[str] = []
    claim = Store.claim

    async def noted(store: Store, *arguments: Any, **options: Any) -> Claimed:
        seen.append("claim")
        claimed = await claim(store, *arguments, **options)
        seen.append("got" if claimed.deliveries else "nothing")
        return claimed

    monkeypatch.setattr(Store, "claim", noted)
    return seen


@pytest.mark.parametrize(("jobs", "goes_on"), [(1, False), (QUICK_JOBS, True)])
async def test_what_was_claimed_begins_before_the_next_claim_unless_there_is_more_to_claim(
    rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch, *, jobs: int, goes_on: bool
) -> None:
    seen = seen_claims(monkeypatch)

    @rt.actor()
    async def quick() -> None:
        seen.append("run")

    sent = await rt.send_many([quick.message() for _ in range(jobs)])
    async with rt.worker(concurrency=10):
        await asyncio.gather(*(job.result(RESULT_S) for job in sent))
    assert (("got", "claim") in pairwise(seen)) == goes_on


async def test_the_next_claim_leaves_before_what_has_ended_is_settled(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a job that comes meanwhile would wait for that."""
    seen, settle = seen_claims(monkeypatch), Store.settle

    async def settles(store: Store, *arguments: Any, **options: Any) -> list[int]:
        seen.append("settle")
        return await settle(store, *arguments, **options)

    @rt.actor()
    async def quick() -> None:
        seen.append("run")

    monkeypatch.setattr(Store, "settle", settles)
    async with rt.worker():
        for _ in range(3):
            await (await quick.send()).result(RESULT_S)
    got = [number for number, what in enumerate(seen) if what == "got"]
    assert [seen[number + 1 : number + 4] for number in got] == [["run", "claim", "settle"]] * 3


async def test_each_claim_brings_the_time_of_the_one_before(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    answered: list[float] = []
    claim = Store.claim

    async def noted(store: Store, *arguments: Any, looked_ms: float, **options: Any) -> Claimed:
        asked.append(looked_ms)
        claimed = await claim(store, *arguments, looked_ms=looked_ms, **options)
        answered.append(claimed.now_ms)
        return claimed

    @rt.actor()
    async def quick() -> None: ...

    monkeypatch.setattr(Store, "claim", noted)
    async with rt.worker():
        for _ in range(3):
            await (await quick.send()).result(RESULT_S)
    assert len(answered) >= 3
    assert asked == [0, *answered][: len(asked)], "it would hand on the same mark for ever, or none"


async def test_jobs_with_gates_come_for_half_of_the_slots_at_a_time_and_never_ahead(
    rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One half runs while the next is on its way."""
    places: list[int] = []
    claim = Store.claim

    async def noted(store: Store, *arguments: Any, free: int, **options: Any) -> Claimed:
        places.append(free)
        return await claim(store, *arguments, free=free, **options)

    @rt.actor(limits=[Concurrency(1_000)])
    async def quick() -> None: ...

    monkeypatch.setattr(Store, "claim", noted)
    jobs = await rt.send_many([quick.message() for _ in range(QUICK_JOBS)])
    async with rt.worker(concurrency=10):
        for job in jobs:
            await job.result(RESULT_S)
    assert set(places) <= set(range(6))
    assert places.count(5) > QUICK_JOBS // 10


def test_a_worker_of_one_slot_takes_one_job_with_gates() -> None:
    assert [Running(slots).places() for slots in (1, 2, 3)] == [1, 1, 2]


async def test_a_claim_that_waits_takes_nothing_once_it_is_closed(rt: Runtime[Any]) -> None:
    """Or it would take what its worker hands back as it stops, and keep it for as long as a run keeps the worker from leaving."""

    @rt.actor()
    async def works() -> None: ...

    store, told = rt.client().store, list[bool]()
    server = int((await store.command("INFO", "server")).partition(b"process_id:")[2].split()[0])
    options: dict[str, Any] = {"queues": ["default"], "actors": {works.name: works}, "lease_ms": 15_000}
    claims = ClaimLoop(
        store, "w1", Running(1), **options, start=told.append, begin=lambda: None, refuse=lambda *_: None, on_due=lambda _: None
    )
    await (await works.send()).cancel()
    assert await claims.claim_once(1, block=True) == 0, "it has its connection now, has taken the marker, and the server knows the scripts"

    os.kill(server, signal.SIGSTOP)  # a busy server reads a claim, and what others have sent since, before the end of its connection
    waiting = asyncio.create_task(claims.claim_once(1, block=True))
    for _ in range(TURNS):
        await asyncio.sleep(0)
    waiting.cancel()
    asyncio.get_running_loop().call_later(SERVER_STOPS_S, os.kill, server, signal.SIGCONT)
    await claims.close()
    job = await works.send()
    assert (await job.info()).state == "ready"
    await asyncio.wait([waiting])
