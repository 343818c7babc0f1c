"""The actors of the benchmarks, and the worker process that drains a queue on a signal.

`python -m bench.actors URL NAMESPACE JOBS` connects, says `ready`, waits for a line on standard input, runs a worker with default settings
until it has ended that many jobs, and prints what it used as one JSON line.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
import time

import orjson
import uvloop

from angelrt import Runtime

CONCURRENCY = 100

rt = Runtime(namespace=os.environ.get("BENCH_NAMESPACE", "bench"))


@rt.actor()
async def noop(data: str) -> None:
    """Do nothing with 100 bytes."""


@rt.actor()
async def delay_since(at: float) -> float:
    """Return the seconds since a time (UNIX, this machine's clock)."""
    return time.time() - at


def hold_open(path: str) -> socket.socket:
    """Connect to who measures: the connection ends with the actor, whatever ends it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


@rt.actor()
async def hold(path: str) -> None:
    """Go on until it is cancelled."""
    with hold_open(path):
        await asyncio.sleep(3600)


@rt.thread_actor()
def hold_thread(path: str) -> None:
    """Look each millisecond whether it is cancelled."""
    with hold_open(path):
        while not rt.context.cancelled:
            time.sleep(0.001)


@rt.process_actor()
def hold_process(path: str) -> None:
    """Go on until the process is killed."""
    with hold_open(path):
        time.sleep(3600)


async def drain(url: str, namespace: str, jobs: int) -> None:
    """Drain when told to."""
    runtime = Runtime(url, namespace=namespace)
    runtime.include(rt)
    async with runtime:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        cpu_s, begun_s = time.process_time(), time.perf_counter()
        async with runtime.worker(concurrency=CONCURRENCY) as worker:
            while worker.running.processed < jobs:  # noqa: ASYNC110 - the worker tells nobody how far it is
                await asyncio.sleep(0.005)
            await worker.running.idle()
            took_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.buffer.write(orjson.dumps({"seconds": took_s, "worker_cpu_us_per_job": cpu_s / jobs * 1e6, "worker_rss_kb": rss_kb}) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(drain(sys.argv[1], sys.argv[2], int(sys.argv[3])))
