"""Claiming ahead: short jobs wait for no round trip, and the slots hold. What cannot start goes back: test_claiming.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.worker.conftest import NewRuntime

RESULT_S = 20


async def test_short_jobs_are_claimed_ahead_and_never_run_beyond_the_slots(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    at_once: list[int] = [0]
    ahead: list[int] = []

    @rt.actor()
    async def short() -> None:
        at_once.append(at_once[-1] + 1)
        ahead.append(len(worker.running.queued))
        await asyncio.sleep(0)
        at_once.append(at_once[-1] - 1)

    async with rt:
        jobs = await rt.send_many([short.message() for _ in range(500)])
        async with rt.worker(concurrency=5) as worker:
            worker.running._pace_per_s = 1e9  # noqa: SLF001 - as if it had just ended many short jobs
            await jobs[-1].result(RESULT_S)
            await worker.running.idle()
        assert max(at_once) == 5
        assert 0 < max(ahead) <= 5
        assert {info.status.value for info in await rt.client().infos([job.id for job in jobs])} == {"completed"}
