"""Rolling deploys: two versions of an application with different actors work side by side, in both directions, under load."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import Status
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from angelrt import Job, Runtime
    from tests.e2e.processes import Application, Process

RESULT_S: Final = 40
VERSION: Final = """
import asyncio
import os
from angelrt import Concurrency, Runtime

rt = Runtime(namespace=os.environ["ANGELRT_NAMESPACE"])


@rt.actor()
async def both(number: int) -> str:
    await asyncio.sleep(0.005)
    return "{name}"


@rt.actor(limits=[Concurrency(2)])
async def limited(number: int) -> str:
    await asyncio.sleep(0.005)
    return "{name}"


@rt.actor()
async def only_{name}(number: int) -> str:
    await asyncio.sleep(0.005)
    return "{name}"
"""


class Load:
    """Sends jobs as long as it is told to, to whatever actors are named at the moment."""

    def __init__(self, rt: Runtime[Any]) -> None:
        self.actors: list[str] = []
        self.jobs: dict[str, list[Job[Any]]] = {}
        self._rt = rt

    @contextlib.asynccontextmanager
    async def goes_on(self) -> AsyncGenerator[None]:
        """Send while the block lasts."""
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _send(self) -> None:
        number = 0
        while True:
            for actor in self.actors:
                number += 1
                self.jobs.setdefault(actor, []).append(await self._rt.send(actor, {"number": number}))
            await asyncio.sleep(0.01)

    async def more(self, actor: str, number: int = 40) -> None:
        """Return when so many more have been sent to an actor."""
        wanted = len(self.jobs.get(actor, ())) + number
        await until(lambda: len(self.jobs.get(actor, ())) >= wanted, f"{number} more jobs of {actor} are sent")

    async def ended(self, actor: str) -> None:
        """Return when all that was sent to an actor has ended."""
        await asyncio.gather(*(job.result(RESULT_S) for job in self.jobs[actor]))

    async def some_result(self, actor: str, wanted: str) -> None:
        """Return when a version has answered one of the latest jobs of an actor."""

        async def answered() -> bool:
            return bool(await self.jobs[actor][-1].result(RESULT_S) == wanted)

        await until_true(answered, f"{wanted} works for {actor}")


@pytest.fixture
def start(app: Application) -> Callable[[str], Any]:
    """Start a worker of a version."""

    async def start_version(name: str) -> Process:
        (app.folder / f"{name}.py").write_text(VERSION.format(name=name), encoding="utf-8")
        process = app.start("worker", f"{name}:rt", "--concurrency", "5")
        await process.says("angelrt worker")
        return process

    return start_version


async def leave(process: Process) -> None:
    """Tell a worker to stop, as a deploy does, and wait for its end."""
    process.send_signal(signal.SIGTERM)
    assert await process.ends() == 0


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), [("old", "new"), ("new", "old")], ids=["forward", "back"])
async def test_a_rolling_deploy_under_load_loses_nothing_and_fails_nothing(
    app: Application, start: Callable[[str], Any], before: str, after: str
) -> None:
    async with app.runtime() as rt:
        load = Load(rt)
        first = [await start(before), await start(before)]
        load.actors = ["both", "limited", f"only_{before}"]
        async with load.goes_on():
            await load.more("both")
            # Whoever sends is deployed first: jobs come for which there is no worker yet.
            load.actors.append(f"only_{after}")
            await load.more(f"only_{after}")
            early = load.jobs[f"only_{after}"][:20]
            await waits_for_its_actor(rt, early)
            await leave(first[0])
            second = [await start(after)]
            await asyncio.gather(*(job.result(RESULT_S) for job in early))
            await load.some_result("both", after)
            load.actors.remove(f"only_{before}")
            await load.ended(f"only_{before}")
            await leave(first[1])
            second.append(await start(after))
            await load.more("both")
        infos = await ended(rt, load)
        for process in second:
            await leave(process)
    assert Counter(info.status for info in infos) == {Status.COMPLETED: len(infos)}
    assert {info.attempts for info in infos} == {1}, "waiting for a worker, and changing to another one, is no attempt"
    for process in first:
        assert f"actor only_{after} is not known to this worker" in process.err
    for process in second:
        assert "Traceback" not in process.err


async def waits_for_its_actor(rt: Runtime[Any], jobs: list[Job[Any]]) -> None:
    """Return when all of these wait in a lane; they were not charged an attempt."""

    async def all_wait() -> bool:
        infos = await rt.client().infos([job.id for job in jobs])
        return {(info.state, info.attempts, info.status) for info in infos} == {("lane", 0, Status.PENDING)}

    await until_true(all_wait, "jobs of an actor that nobody has wait for it")


async def ended(rt: Runtime[Any], load: Load) -> list[Any]:
    """Return what is known of all jobs once they have ended."""
    jobs = [job for sent in load.jobs.values() for job in sent]
    await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
    return [info for at in range(0, len(jobs), 200) for info in await rt.client().infos([job.id for job in jobs[at : at + 200]])]
