"""How soon the jobs of a killed worker run elsewhere, and what watching costs in a fleet of a thousand."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvloop

from angelrt import Runtime
from angelrt.keys import Keys
from angelrt.store import Store
from angelrt.worker.deaths import LOOK_S, TRUST_S, DeathsLoop
from angelrt.worker.lease import BEAT_S
from tests.e2e.processes import Application

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

IN_FLIGHT = 200
DEATHS = 12
WORKERS = 1_000
ROUNDS = 20


async def recovered_s(server: Server, number: int) -> float:
    """Kill a worker with 200 jobs in flight beside an idle one, at any moment of its beat; return when the last of them has run there."""
    with TemporaryDirectory() as folder:
        app = Application(Path(folder), server.url, f"bench-deaths-{number}")
        try:
            killed = await app.worker("--concurrency", str(IN_FLIGHT))
            async with app.runtime() as rt:
                jobs = [await rt.send("linger") for _ in range(IN_FLIGHT)]
                while len(app.traces("began")) < IN_FLIGHT:  # noqa: ASYNC110 - another process writes them
                    await asyncio.sleep(0.02)
                await app.worker()
                await asyncio.sleep(TRUST_S + 1 + number / DEATHS * BEAT_S)
                app.let_go(app.processes[1])
                begun_s = time.perf_counter()
                killed.send_signal(9)
                await asyncio.gather(*(job.result(60) for job in jobs))
                return time.perf_counter() - begun_s
        finally:
            for process in app.processes:
                process.send_signal(9)
                process.wait()


def test_deaths(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """The time from kill -9 with 200 jobs in flight, default settings, to the result of the last of them."""
    found: list[float] = []
    benchmark.pedantic(lambda: found.append(uvloop.run(recovered_s(server, len(found)))), rounds=DEATHS)
    record(**{"recovery of 200 jobs, median, s": sorted(found)[DEATHS // 2], "recovery of 200 jobs, longest, s": max(found)})


async def busy_us(store: Store) -> dict[str, float]:
    """Return the time that the server has spent in each command, in us; in a script it counts for the script, too."""
    lines = (await store.command("INFO", "commandstats")).decode().splitlines()
    fields = (line.removeprefix("cmdstat_").split(":") for line in lines if line.startswith("cmdstat_"))
    return {name: float(values.split(",")[1].removeprefix("usec=")) for name, values in fields}


async def spent(store: Store, what: Callable[[], Any], *commands: str) -> float:
    """Return what the server spends in these commands while something is done, in us for each worker."""
    before = await busy_us(store)
    for _ in range(ROUNDS):
        await what()
    after = await busy_us(store)
    return sum(after.get(name, 0) - before.get(name, 0) for name in commands) / ROUNDS / WORKERS


async def costs(server: Server) -> dict[str, float]:
    """Register 1,000 workers and measure a beat and a look of each: while all are well, and while 16 of them stand still, connected."""
    store = Store(server.url, Keys("bench-fleet"))
    rt = Runtime(server.url, namespace="bench-fleet")

    @rt.actor()
    async def idle() -> None: ...

    async with rt:
        server_id = next(line[7:] for line in (await store.command("INFO", "server")).decode().splitlines() if line.startswith("run_id:"))
        info = rt.new_worker().info(server=server_id, client=await store.command("CLIENT", "ID"))
        loops = [DeathsLoop(store, f"w{number}", 15_000) for number in range(WORKERS)]

        async def beat() -> None:
            await asyncio.gather(*(store.beat(f"w{number}", info, []) for number in range(WORKERS)))

        async def look() -> None:
            await asyncio.gather(*(loop.look() for loop in loops))

        await beat()
        found = {"a beat, us": await spent(store, beat, "evalsha")}
        end_s = time.monotonic() + TRUST_S + LOOK_S
        while time.monotonic() < end_s:
            await beat()
            await look()
        found["a look while all are well, us"] = await spent(store, look, "zrangebyscore")
        await beat()
        await store.commands(*[["ZINCRBY", store.keys.key("beats"), -5_000, f"w{number}"] for number in range(16)])
        found["a look at 16 that stand still, us"] = await spent(store, look, "zrangebyscore", "hmget", "info", "client|list")
        await store.command("UNLINK", *store.keys.every([]))
    await store.close()
    return found


def test_fleet_of_1000(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """What 1,000 workers that beat and watch take of the server."""
    found = benchmark.pedantic(lambda: uvloop.run(costs(server)), rounds=1)
    share = WORKERS * (found["a beat, us"] / BEAT_S + found["a look while all are well, us"] / LOOK_S) / 1e6
    still = WORKERS * (found["a beat, us"] / BEAT_S + found["a look at 16 that stand still, us"] / LOOK_S) / 1e6
    record(**found, **{"1,000 workers, share of the server": share, "the same while 16 stand still": still})
