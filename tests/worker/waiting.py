"""Waiting for what a test can see, never for luck."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from angelrt import Job, JobInfo

PATIENCE_S: Final = 20
PAUSE_S: Final = 0.01


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; `what` names it in the failure."""

    async def asked() -> bool:
        return condition()

    await until_true(asked, what)


async def until_true(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return when the awaited condition holds; `what` names it in the failure."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110 - what is waited for happens in Redis
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        message = f"not within {PATIENCE_S} s: {what}"
        raise AssertionError(message) from None


async def until_info(job: Job[Any], condition: Callable[[JobInfo], bool], what: str) -> JobInfo:
    """Return what is known of a job once the condition holds for it."""
    seen: list[JobInfo] = []

    async def asked() -> bool:
        seen[:] = [await job.info()]
        return condition(seen[0])

    await until_true(asked, what)
    return seen[0]


async def until_ended(job: Job[Any]) -> JobInfo:
    """Return what is known of a job once it has ended, however it did."""
    return await until_info(job, lambda info: info.completed_at is not None, f"job {job.id} has ended")


async def until_gone(pid: int) -> None:
    """Return when a process has ended."""

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await until(is_gone, f"process {pid} has ended")
