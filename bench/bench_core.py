"""First figures: how fast a queue drains, how soon a job starts, what a job weighs. Run alone: `tox -e bench`."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from angelrt import Runtime
from bench.actors import delay_since, noop, rt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server

JOBS = 20_000
ROUNDS = 5
ARGUMENT = "x" * 100
IDLE_SENDS = 500
DELAYED = 300


async def info(runtime: Runtime, section: str) -> dict[str, str]:
    text = (await runtime.client().store.command("INFO", section)).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def fill(server: Server, namespace: str) -> dict[str, float]:
    """Send the jobs; return how fast that was and what a pending job weighs."""
    runtime = Runtime(server.url, namespace=namespace)
    runtime.include(rt)
    async with runtime:
        await runtime.client().store.command("FLUSHALL")
        before = int((await info(runtime, "memory"))["used_memory"])
        begun_s = time.perf_counter()
        await runtime.send_many(noop.message(ARGUMENT) for _ in range(JOBS))
        took_s = time.perf_counter() - begun_s
        after = int((await info(runtime, "memory"))["used_memory"])
    return {"bulk_sends_per_s": JOBS / took_s, "bytes_per_pending_job": (after - before) / JOBS}


async def server_cpu_s(server: Server) -> float:
    async with Runtime(server.url) as runtime:
        cpu = await info(runtime, "cpu")
    return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])


def test_drain(benchmark: Any, server: Server, record: Callable[..., None], zadd_per_s: float | None) -> None:
    """20,000 jobs that wait, one worker process, concurrency 100, defaults, results kept."""
    sent: list[dict[str, float]] = []
    used: list[dict[str, float]] = []
    started: list[subprocess.Popen[bytes]] = []

    def setup() -> tuple[tuple[subprocess.Popen[bytes]], dict[str, Any]]:
        namespace = f"bench-{len(sent)}"
        sent.append(uvloop.run(fill(server, namespace)))
        command = [sys.executable, "-m", "bench.actors", server.url, namespace, str(JOBS)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        return (worker,), {}

    def drain(worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdin is not None
        assert worker.stdout is not None
        cpu_s = uvloop.run(server_cpu_s(server))
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
        used.append(orjson.loads(worker.stdout.readline()))
        used[-1]["server_cpu_us_per_job"] = (uvloop.run(server_cpu_s(server)) - cpu_s) / JOBS * 1e6

    benchmark.pedantic(drain, setup=setup, rounds=ROUNDS)
    for worker in started:
        worker.communicate()
    rates = [JOBS / one["seconds"] for one in used]
    record(
        server=str(server.program),
        drain_jobs_per_s=statistics.median(rates),
        drain_jobs_per_s_spread=f"{min(rates):,.0f} to {max(rates):,.0f}",
        zadd_per_s_of_this_run=zadd_per_s,
        **{name: statistics.median(one[name] for one in used) for name in used[0] if name != "seconds"},
        **{name: statistics.median(one[name] for one in sent) for name in sent[0]},
    )


@contextmanager
def worker_process(server: Server, namespace: str) -> Iterator[None]:
    """Run `python -m angelrt worker` on a namespace: the command that people run."""
    command = [sys.executable, "-m", "angelrt", "worker", "bench.actors:rt", "--log-level", "warning"]
    process = subprocess.Popen(command, env={**os.environ, "ANGELRT_URL": server.url, "BENCH_NAMESPACE": namespace})
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def percentiles_ms(seconds: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[98] * 1000


def test_idle_pickup(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """From `send` in one process to the first line of the actor in an idle worker process."""

    async def measure() -> list[float]:
        runtime = Runtime(server.url, namespace="bench-pickup")
        runtime.include(rt)
        waits: list[float] = []
        async with runtime:
            await (await runtime.send("delay_since", {"at": time.time()})).result(30)
            for _ in range(IDLE_SENDS):
                await asyncio.sleep(random.uniform(0.002, 0.006))  # noqa: S311 - not in step with anything
                message = delay_since.message(time.time())
                (job,) = await runtime.send_many([message])
                waits.append(await job.result(10))
        return waits

    with worker_process(server, "bench-pickup"):
        waits = benchmark.pedantic(lambda: uvloop.run(measure()), rounds=1)
    p50_ms, p99_ms = percentiles_ms(waits)
    record(idle_pickup_p50_ms=p50_ms, idle_pickup_p99_ms=p99_ms)


def test_delayed_lateness(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """From the time a delayed job is due to the first line of its actor, in an otherwise idle worker process."""

    async def measure() -> list[float]:
        runtime = Runtime(server.url, namespace="bench-delayed")
        runtime.include(rt)
        async with runtime:
            await (await runtime.send("delay_since", {"at": time.time()})).result(30)
            now = time.time()
            dues = [round(now + random.uniform(0.5, 5), 3) for _ in range(DELAYED)]  # noqa: S311 - not in step with anything
            jobs = [await runtime.send("delay_since", {"at": due}, at=datetime.fromtimestamp(due, UTC)) for due in dues]
            return [await job.result(30) for job in jobs]

    with worker_process(server, "bench-delayed"):
        late = benchmark.pedantic(lambda: uvloop.run(measure()), rounds=1)
    p50_ms, p99_ms = percentiles_ms(late)
    record(delayed_lateness_p50_ms=p50_ms, delayed_lateness_p99_ms=p99_ms, delayed_earliest_ms=min(late) * 1000)


def test_import(benchmark: Any, record: Callable[..., None]) -> None:
    """How long `import angelrt` takes in a new interpreter, beyond the interpreter itself."""

    def run(statement: str) -> float:
        begun_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - begun_s

    bare_s = min(run("pass") for _ in range(ROUNDS))
    pydantic_s = min(run("import pydantic, orjson") for _ in range(ROUNDS))
    benchmark.pedantic(run, args=("import angelrt",), rounds=ROUNDS)
    import_s = benchmark.stats.stats.min
    record(import_ms=(import_s - bare_s) * 1000, import_ms_of_pydantic_and_orjson=(pydantic_s - bare_s) * 1000)
