"""How soon a running job ends that another process cancels. Run alone: `tox -e bench`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import uvloop

from angelrt import Runtime
from bench.actors import hold, hold_process, hold_thread, rt
from bench.bench_core import percentiles_ms, worker_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from angelrt import Actor
    from tests.servers import Server

NAMESPACE = "bench-cancel"
CANCELS = 200
CANCELS_OF_PROCESSES = 30
"""Each begins with a new process, which imports what the actor needs."""
KINDS: dict[str, tuple[Actor[[str], None], int]] = {
    "async": (hold, CANCELS),
    "thread": (hold_thread, CANCELS),
    "process": (hold_process, CANCELS_OF_PROCESSES),
}


async def cancelled_after_s(server: Server, path: Path, actor: Actor[[str], None], count: int) -> list[float]:
    """Cancel runs one after the other; return how long each went on after the call of `cancel`."""
    runtime = Runtime(server.url, namespace=NAMESPACE)
    runtime.include(rt)
    began: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    waits: list[float] = []
    async with runtime, await asyncio.start_unix_server(lambda reader, writer: began.put_nowait((reader, writer)), path):
        for _ in range(count):
            job = await runtime.send(actor.name, {"path": str(path)})
            run, held = await began.get()
            begun_s = time.perf_counter()
            asked = asyncio.create_task(job.cancel())
            await run.read()
            waits.append(time.perf_counter() - begun_s)
            held.close()
            assert await asked
    return waits


def test_cancel(benchmark: Any, server: Server, record: Callable[..., None]) -> None:
    """From `cancel` in one process to the end of the actor in a worker process: async, thread and process."""
    path = server.folder / "cancel"

    def measure() -> dict[str, float]:
        found: dict[str, float] = {}
        for kind, (actor, count) in KINDS.items():
            path.unlink(missing_ok=True)
            waits = uvloop.run(cancelled_after_s(server, path, actor, count))
            found[f"cancel_{kind}_p50_ms"], found[f"cancel_{kind}_p99_ms"] = percentiles_ms(waits)
        return found

    with worker_process(server, NAMESPACE):
        record(**benchmark.pedantic(measure, rounds=1))
