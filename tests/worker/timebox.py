"""A sandbox whose clock is set to a date, for the tests of schedules."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from angelrt import Actors, Runtime, Status
from angelrt.testing import Sandbox, sandbox
from tests.state import assert_sound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from angelrt.job import JobInfo


def reports() -> Actors:
    """Return a group with an actor that reports."""
    group = Actors()

    @group.actor(name="report")
    async def report(day: str = "today") -> str:
        return f"report of {day}"

    return group


class Box:
    """A sandbox whose clock is set to a date, and short words for what tests look at."""

    def __init__(self, box: Sandbox) -> None:
        """Take over the sandbox."""
        self.box = box
        self.rt = box.runtime
        self.store = box.runtime.client().store

    @property
    def now(self) -> datetime:
        """The time of the server as the scripts see it."""
        return datetime.fromtimestamp(self.store.server_ms() / 1000, UTC)

    def travel(self, to: datetime) -> None:
        """Set the clock, forwards or back."""
        ahead_ms = to.timestamp() * 1000 - self.store.server_ms()
        clock = self.store.clock
        assert clock is not None
        self.store.clock = lambda: clock() + ahead_ms

    async def ran(self) -> list[str]:
        """Run what is due; return the ids of the occurrences that ran, in order."""
        return [info.id for info in await self.box.drain()]

    async def waiting(self) -> list[JobInfo]:
        """Return the occurrences that wait."""
        return [info for info in await self.box.sent("report") if info.status == Status.PENDING]

    async def times(self) -> list[str]:
        """Return when the occurrences that wait are due."""
        return [time_of(info.id) for info in await self.waiting()]


def time_of(job_id: str) -> str:
    """Return the time that an occurrence's id names, in UTC."""
    return f"{datetime.fromtimestamp(int(job_id.rpartition(':')[2]) / 1000, UTC):%m-%d %H:%M}"


@asynccontextmanager
async def opened(url: str, group: Actors, at: datetime, **options: Any) -> AsyncGenerator[Box]:
    """Yield a sandbox at a time; what it leaves must be sound."""
    rt = Runtime(url, **options)
    rt.include(group)
    async with sandbox(rt, url) as entered:
        box = Box(entered)
        box.travel(at)
        yield box
        await assert_sound(box.store)


def report_of(box: Box, **arguments: Any) -> Any:
    """Return the message that tests schedule."""
    return box.rt.registered["report"].message(**arguments)


async def claim_without_schedules(box: Box) -> None:
    """Run what is due, with a worker that dies before its loop of schedules has looked."""
    worker = box.rt.new_worker(concurrency=10, kind="test")

    async def nothing() -> float:
        return 0

    worker._schedules.advance = nothing  # type: ignore[method-assign]  # noqa: SLF001 - it dies here
    assert len(await worker.run_ready(10)) == 1


async def insert_without_claiming(box: Box) -> None:
    """Let the loop of a worker look whose slots are full."""
    await box.rt.new_worker(kind="test")._schedules.advance()  # noqa: SLF001 - it claims nothing
