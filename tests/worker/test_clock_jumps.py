"""A server's clock that jumps while a worker runs jobs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from angelrt.store import Store
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
LEASE_S = 120
YEAR_MS = 365 * 86_400_000


@pytest.mark.parametrize("by_ms", [YEAR_MS, -YEAR_MS], ids=["forward", "back"])
async def test_leases_are_renewed_by_the_new_time_at_once_and_nothing_runs_twice(new_runtime: NewRuntime, store: Store, by_ms: int) -> None:
    rt = new_runtime(lease=LEASE_S)
    may_end, runs = asyncio.Event(), list[str]()

    @rt.actor()
    async def waits() -> str:
        runs.append("run")
        await may_end.wait()
        return "done"

    ahead_ms = 0.0

    def now_ms() -> float:
        return time.time() * 1000 + ahead_ms

    async with rt:
        rt.client().store.clock = now_ms
        async with rt.worker(concurrency=5, grace=5):
            job = await waits.send()
            await until(lambda: bool(runs), "it runs")
            ahead_ms = by_ms
            leased = store.keys.queue("default")[2]

            async def is_renewed() -> bool:
                ends_ms = float(await store.command("ZSCORE", leased, job.id))
                return LEASE_S / 2 < (ends_ms - now_ms()) / 1000 <= LEASE_S

            await until_true(is_renewed, "the lease ends a whole lease from now, though a renewal was due in 40 s only")
            may_end.set()
            assert await job.result(RESULT_S) == "done"
    assert runs == ["run"]
