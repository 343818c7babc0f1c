"""Schedules of a fleet of processes that are killed, frozen and cut off from their server: each occurrence once, and none left out."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import Status
from angelrt.keys import Keys
from angelrt.store import Store
from tests.state import read_state
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from pathlib import Path

    from angelrt import JobInfo, Runtime
    from tests.e2e.processes import Application, Process
    from tests.servers import Server

EVERY_MS: Final = {"interval": 1_000, "cron": 2_000}
FREEZES: Final = 4
MODULE: Final = "scheduled"
SCHEDULED: Final = """
import os
from pathlib import Path

from angelrt import Runtime

rt = Runtime(namespace=os.environ["ANGELRT_NAMESPACE"], lease=1)
SEEN = Path(__file__).parent / "seen"


@rt.actor()
async def tick() -> None:
    with SEEN.open("a") as file:
        file.write(f"{rt.context.job.id}\\n")


rt.schedule("interval", tick.message(), every=1, misfire="all")
rt.schedule("cron", tick.message(), cron="*/2 * * * * *", misfire="all")
"""


def begun(folder: Path) -> Counter[str]:
    """Return how often a run of each occurrence has begun, as the actor itself saw it."""
    path = folder / "seen"
    return Counter(path.read_text(encoding="utf-8").split() if path.exists() else ())


async def go_on(app: Application) -> None:
    """Return when each schedule has come twice more."""

    def occurrences() -> Counter[str]:
        return Counter(job_id.split(":")[1] for job_id in begun(app.folder))

    before = occurrences()
    await until(lambda: all(occurrences()[name] >= before[name] + 2 for name in EVERY_MS), f"the schedules go on after {before}")


async def what_came(rt: Runtime[Any], store: Store) -> dict[str, dict[int, JobInfo]]:
    """Stop the schedules, and return their occurrences by time, once all that were due have ended."""
    for name in EVERY_MS:
        await rt.schedules.remove(name)

    async def infos() -> list[JobInfo]:
        return await rt.client().infos([job_id for job_id in (await read_state(store)).jobs if job_id.startswith("cron:")])

    async def have_ended() -> bool:
        return all(info.completed_at for info in await infos())

    await until_true(have_ended, "what was due has run")
    found: dict[str, dict[int, JobInfo]] = {name: {} for name in EVERY_MS}
    for info in await infos():
        _, name, ms = info.id.split(":")
        found[name][int(ms)] = info
    return found


@pytest.mark.long
async def test_each_occurrence_comes_once_though_workers_are_killed_and_frozen_and_the_server_starts_again(
    own_app: Application, own_server: Server
) -> None:
    (own_app.folder / f"{MODULE}.py").write_text(SCHEDULED, encoding="utf-8")
    killed, frozen, staying = [own_app.start("worker", f"{MODULE}:rt") for _ in range(3)]
    store = Store(own_app.url, Keys(own_app.namespace))
    async with own_app.runtime() as rt:
        await go_on(own_app)
        killed.send_signal(signal.SIGKILL)
        for number in range(FREEZES):
            frozen.send_signal(signal.SIGSTOP)
            if number == 1:
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.start)
            await go_on(own_app)
            frozen.send_signal(signal.SIGCONT)
            await until_true(lambda: lives(rt, frozen), "it beats again")
        found = await what_came(rt, store)
    await store.close()
    assert (frozen.code, staying.code) == (None, None)
    for name, occurrences in found.items():
        [last] = [ms for ms, info in occurrences.items() if info.status is Status.CANCELLED] or [max(occurrences)]
        assert sorted(occurrences) == [*range(min(occurrences), last + 1, EVERY_MS[name])], "none was left out, and none came in between"
        assert {info.status for ms, info in occurrences.items() if ms < last} == {Status.COMPLETED}
    infos = {info.id: info for occurrences in found.values() for info in occurrences.values()}
    assert len(infos) >= 2 * len(EVERY_MS) * (FREEZES + 1)
    for job_id, times in begun(own_app.folder).items():
        ended_as = [run.ended_as for run in infos[job_id].timeline]
        assert times <= infos[job_id].deliveries == len(ended_as) + 1, f"{job_id} ran {times} times"
        assert {*ended_as} <= {"lost"}, "it began again only where its worker was gone"


async def lives(rt: Runtime[Any], process: Process) -> bool:
    """Whether a worker is in the register and beats."""
    return any(worker.pid == process.pid and worker.is_live for worker in await rt.workers())
