"""A system in which every page has something to show."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Concurrency, RateLimit
from angelrt.errors import JobFailed
from angelrt.retry import Fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt import Runtime
    from angelrt.handle import Job


@contextlib.asynccontextmanager
async def filled(rt: Runtime[Any]) -> AsyncIterator[tuple[Job[Any], ...]]:
    """Let there be something on every page, and a worker; yields a job that runs, one that failed and one that waits."""
    begun = asyncio.Event()

    @rt.actor(queue="a-queue-with-a-rather-long-name.for-a-narrow-page", limits=[Concurrency(2, per="account"), RateLimit("90/minute")])
    async def write_the_report_of_a_whole_month(account: int, why: str = "") -> None:
        rt.context.log(f"account {account}: " + "/a/very/long/path/without/a/place/to/break/it" * 6)
        rt.context.progress(0.4, "page 4 of 10, which is the one with the long table in it")
        if why:
            raise Fail(why)
        begun.set()
        await asyncio.sleep(60)

    @rt.actor(queue="mail")
    async def greet(name: str) -> None: ...

    rt.schedule("every-morning/of-the-working-week", greet.message("Ada"), cron="0 8 * * 1-5", zone="America/Argentina/Buenos_Aires")
    await rt.control.pause(queue="mail", by="someone", reason="the provider has been down since the early morning, says its status page")
    async with rt.worker(concurrency=4):
        dead = await write_the_report_of_a_whole_month.send(7, "x" * 300 + " is no path")
        with pytest.raises(JobFailed):
            await dead.result(10)
        running = await write_the_report_of_a_whole_month.send(7)
        await begun.wait()
        waiting = await greet.options(delay=600).send("Ada")
        yield running, dead, waiting
        await running.cancel()
