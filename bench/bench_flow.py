"""What the control of flow costs: limits in use, and large backlogs that stand beside a job that may run. Run alone: `tox -e bench`."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

import uvloop

from angelrt import Concurrency, Queue, RateLimit, Runtime
from angelrt.new_jobs import NewJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

JOBS = 10_000
ROUNDS = 5
SMALL_BACKLOG = 10_000
LARGE_BACKLOG = 1_000_000
GATED = 100_000
CLAIMS = 300


def limited(server: Server, namespace: str) -> Runtime:
    """Return a runtime with a plain actor, and one under a rate and a concurrency key that hold nothing back."""
    rt = Runtime(server.url, namespace=namespace, queues=[Queue("fair")])

    @rt.actor(name="plain")
    async def plain(number: int) -> None: ...

    @rt.actor(name="gated", limits=[Concurrency(1_000, per="number"), RateLimit("10000000/minute")])
    async def gated(number: int) -> None: ...

    @rt.actor(name="one_at_a_time", limits=[Concurrency(1, per="number")])
    async def one_at_a_time(number: int) -> None:  # noqa: ARG001 - the key
        await asyncio.sleep(60)

    @rt.actor(name="of_tenant", queue="fair")
    async def of_tenant(number: int) -> None: ...

    return rt


async def drained_per_s(server: Server, actor: str, **options: Any) -> float:
    """Send jobs of one actor, ten keys or tenants among them, and return how fast they drain in this process."""
    rt = limited(server, f"bench-flow-{actor}")
    async with rt:
        await rt.client().store.command("FLUSHALL")
        chosen = rt.registered[actor]
        each: list[dict[str, Any]] = [{word: f"{value}{n % 10}" for word, value in options.items()} for n in range(JOBS)]
        messages = [chosen.options(**own).message(n % 10) for n, own in enumerate(each)]
        await rt.send_many(messages)
        begun_s = time.perf_counter()
        async with rt.worker(concurrency=100) as worker:
            while worker.running.processed < JOBS:  # noqa: ASYNC110 - the worker tells nobody how far it is
                await asyncio.sleep(0.002)
            return JOBS / (time.perf_counter() - begun_s)


def test_limits_in_use(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """The same jobs without limits, with a rate and a concurrency key, and with ten tenants, in turns."""
    rates: dict[str, list[float]] = {"plain": [], "gated": [], "of_tenant": []}

    def turn() -> None:
        for actor, found in rates.items():
            found.append(uvloop.run(drained_per_s(server, actor, **({"tenant": "t"} if actor == "of_tenant" else {}))))

    benchmark.pedantic(turn, rounds=ROUNDS)
    medians = {actor: statistics.median(found) for actor, found in rates.items()}
    record(
        plain_jobs_per_s=medians["plain"],
        rate_and_concurrency_ratio=medians["gated"] / medians["plain"],
        ten_tenants_ratio=medians["of_tenant"] / medians["plain"],
    )


async def claim_ms(server: Server, backlog: int, place: str) -> float:
    """Return the median time of a send and the claim that gets it, beside a backlog in delayed or in lanes."""
    rt = limited(server, "bench-backlog")
    async with rt:
        store = rt.client().store
        await store.command("FLUSHALL")
        await store.control("declare", "one_at_a_time.number@default", "1", ["default"])
        if place == "lanes":
            await rt.control.pause(key="number=1")
        for first in range(0, backlog, 200):
            flow = "cone_at_a_time.number@default=1" if place == "lanes" else ""
            when = "" if place == "lanes" else "+3600000"
            await store.enqueue([NewJob("default", f"b{n}", b"gated\0none\0{}", None, when, None, flow) for n in range(first, first + 200)])
        took: list[float] = []
        for number in range(CLAIMS):
            await store.enqueue([NewJob("default", f"j{number}", b"plain\0none\0{}")])
            begun_s = time.perf_counter()
            claimed = await store.claim(
                store.link, "w1", f"t{number}", queues=["default"], lease_ms=60_000, capacity=10, free=10,
                actors=b"\0plain\0gated\0", block=False,
            )  # fmt: skip
            took.append(time.perf_counter() - begun_s)
            assert [delivery.id for delivery in claimed.deliveries] == [f"j{number}".encode()]
        return statistics.median(took) * 1000


def test_claim_beside_a_backlog(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """A claim beside 10,000 and beside 1,000,000 jobs, delayed or in a lane, in one run."""

    def measure() -> dict[str, float]:
        found: dict[str, float] = {}
        for place in ("delayed", "lanes"):
            small, large = (uvloop.run(claim_ms(server, size, place)) for size in (SMALL_BACKLOG, LARGE_BACKLOG))
            found |= {f"claim_beside_{LARGE_BACKLOG}_{place}_ms": large, f"ratio_to_{SMALL_BACKLOG}_{place}": large / small}
        return found

    record(**benchmark.pedantic(measure, rounds=1))


async def behind_gated_s(server: Server) -> float:
    """Return how long a plain job waits that is sent behind jobs of one key whose place is taken."""
    rt = limited(server, "bench-behind")
    async with rt:
        await rt.client().store.command("FLUSHALL")
        # Sent before any worker has declared the limit, so that all of them stand in ready, and claim has to sort them out.
        await rt.send_many(rt.registered["one_at_a_time"].message(1) for _ in range(GATED))
        last = await rt.registered["plain"].send(1)
        begun_s = time.perf_counter()
        async with rt.worker(concurrency=10, grace=0):
            await last.result(60)
            return time.perf_counter() - begun_s


def test_runnable_behind_gated(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """One runnable job behind 100,000 that wait for one key: from the worker's start to its result."""
    record(runnable_behind_100000_gated_s=benchmark.pedantic(lambda: uvloop.run(behind_gated_s(server)), rounds=1))
