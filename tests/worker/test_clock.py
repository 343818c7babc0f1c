"""The loop that keeps time goes by the server's time as it is known at last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from angelrt.worker.clock import DueLoop

if TYPE_CHECKING:
    from angelrt.store import Store

QUEUE = "default"
LATE_MS = 60_000


@pytest.mark.parametrize("ahead_ms", [0, 200])
async def test_a_time_that_was_learnt_wrong_holds_up_nothing_that_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    ticked = asyncio.Event()
    tick = store.tick

    async def noted(*args: Any) -> Any:
        ticked.set()
        return await tick(*args)

    monkeypatch.setattr(store, "tick", noted)
    loop = DueLoop(store, [QUEUE])
    await store.learn_time(5)
    due_ms = store.server_ms() + ahead_ms
    store._server_clock._offset_ms -= LATE_MS  # noqa: SLF001 - as after a reply that was read late, since the process stood still
    loop.due(due_ms)
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0)
    await store.learn_time(5)
    loop.due(-1)
    await asyncio.wait_for(ticked.wait(), LATE_MS / 2000)
    running.cancel()
    await asyncio.wait([running])
