"""Sends from code that is not asynchronous, which reach the loop a moment later."""

from __future__ import annotations

from typing import Any

import pytest

from angelrt import Runtime, RuntimeNotOpen


def test_a_sync_send_that_meets_a_runtime_being_closed_is_refused(server_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rt = Runtime(server_url, namespace=namespace)

    @rt.actor()
    async def work() -> None: ...

    with rt:
        client, run_sync = rt.client(), rt.run_sync

        def late(call: Any) -> Any:
            async def after_the_end() -> Any:
                await client.close()
                return await call()

            return run_sync(after_the_end)

        monkeypatch.setattr(client, "run_sync", late)
        with pytest.raises(RuntimeNotOpen, match="was closed"):
            work.send_sync()
