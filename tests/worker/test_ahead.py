"""Claiming ahead: short jobs wait for no round trip, and the slots hold. What cannot start goes back: test_claiming.py."""

from __future__ import annotations

import asyncio
import inspect
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
        ahead.append(len(worker.running.queued) - worker.running.free)
        await asyncio.sleep(0)
        at_once.append(at_once[-1] - 1)

    async with rt:
        jobs = await rt.send_many([short.message() for _ in range(500)])
        async with rt.worker(concurrency=5) as worker:
            claim_once, slots_left = worker._claim.claim_once, list[int]()  # noqa: SLF001 - a claim is on its way unseen

            async def noted(wanted: int, *, block: bool) -> int:
                slots_left.append(worker.running.free - len(worker.running.queued))
                return await claim_once(wanted, block=block)

            worker._claim.claim_once = noted  # type: ignore[method-assign]  # noqa: SLF001
            worker.running._pace_per_s = 1e9  # noqa: SLF001 - as if it had just ended many short jobs
            await jobs[-1].result(RESULT_S)
            await worker.running.idle()
        assert max(at_once) == 5
        assert min(slots_left) <= 0, "no claim was sent before a slot was free"
        assert max(ahead) <= 5
        assert {info.status.value for info in await rt.client().infos([job.id for job in jobs])} == {"completed"}


async def test_jobs_that_end_in_their_first_step_do_not_begin_within_each_other(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    depths: set[int] = set()

    @rt.actor()
    async def short() -> None:
        depths.add(len(inspect.stack(0)))

    async with rt:
        jobs = await rt.send_many([short.message() for _ in range(300)])
        async with rt.worker(concurrency=50) as worker:
            await jobs[-1].result(RESULT_S)
            await worker.running.idle()
    assert max(depths) - min(depths) < 10, f"{depths}: each would stand on those before it"
