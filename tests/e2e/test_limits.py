"""Limits of a fleet of processes under load, of which one is killed and one told to leave: as the actors themselves saw it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from angelrt import Status
from tests.worker.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.e2e.processes import Application, Process

AT_A_TIME: Final = 2
CUSTOMERS: Final = 3
CALLS: Final = 600
RATE: Final = 30
WINDOW_S: Final = 10.0
PINGS: Final = 75
RESULT_S: Final = 50
MODULE: Final = "limited"
LIMITED: Final = f'''
import asyncio
import os
import time
from pathlib import Path

from angelrt import Concurrency, RateLimit, Runtime

rt = Runtime(namespace=os.environ["ANGELRT_NAMESPACE"], lease=5)
SEEN = Path(__file__).parent / "seen"


def note(word: str, key: str) -> None:
    """Leave a line with the time that all processes of a machine share."""
    with SEEN.open("a") as file:
        file.write(f"{{word}} {{key}} {{rt.context.job.id}} {{os.getpid()}} {{time.monotonic()}}\\n")


@rt.actor(limits=[Concurrency({AT_A_TIME}, per="customer")])
async def call(customer: str) -> str:
    note("began", customer)
    await asyncio.sleep(0.01)
    note("ended", customer)
    return customer


@rt.actor(limits=[RateLimit("{RATE}/{WINDOW_S:.0f}s")])
async def ping(number: int) -> int:
    note("began", "ping")
    return number
'''


class Seen(NamedTuple):
    """What an actor wrote of itself."""

    word: str
    key: str
    job_id: str
    pid: int
    at_s: float


def seen(folder: Path) -> list[Seen]:
    """Return what all actors wrote, in order of time."""
    path = folder / "seen"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    parts = [line.split() for line in lines]
    return sorted((Seen(word, key, job_id, int(pid), float(at_s)) for word, key, job_id, pid, at_s in parts), key=lambda one: one.at_s)


def most_at_a_time(notes: Iterable[Seen], killed: int, killed_s: float) -> dict[str, int]:
    """Return the most runs of each key at any moment; a run of the killed process that did not end ended with it."""
    open_runs: dict[tuple[str, str, int], Seen] = {}
    changes: list[tuple[float, int, str]] = []
    for one in notes:
        run = (one.key, one.job_id, one.pid)
        changes.append((one.at_s, 1 if one.word == "began" else -1, one.key))
        if one.word == "began":
            assert run not in open_runs
            open_runs[run] = one
        else:
            del open_runs[run]
    assert {one.pid for one in open_runs.values()} <= {killed}, "only what was killed has not ended"
    changes += [(killed_s, -1, one.key) for one in open_runs.values()]
    now, most = Counter[str](), Counter[str]()
    for _, by, key in sorted(changes):
        now[key] += by
        most[key] = max(most[key], now[key])
    return dict(most)


async def fleet(app: Application, number: int) -> list[Process]:
    """Start workers."""
    (app.folder / f"{MODULE}.py").write_text(LIMITED, encoding="utf-8")
    processes = [app.start("worker", f"{MODULE}:rt", "--concurrency", "10") for _ in range(number)]
    for process in processes:
        await process.says("angelrt worker")
    return processes


async def works(app: Application, process: Process, times: int) -> None:
    """Return when a process has begun so many runs."""
    await until(lambda: sum(one.pid == process.pid for one in seen(app.folder)) >= times, f"{process.pid} works")


@pytest.mark.long
async def test_never_more_than_the_limit_at_a_time_though_workers_are_killed_and_leave(app: Application) -> None:
    killed, leaving, staying = await fleet(app, 3)
    async with app.runtime() as rt:
        jobs = [await rt.send("call", {"customer": f"c{number % CUSTOMERS}"}) for number in range(CALLS)]
        for process in (killed, leaving, staying):
            await works(app, process, 10)
        killed.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        leaving.send_signal(signal.SIGTERM)
        assert await leaving.ends() == 0
        await works(app, staying, 20)
        await fleet(app, 1)
        results = await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
        infos = await rt.client().infos([job.id for job in jobs])
    assert results == [f"c{number % CUSTOMERS}" for number in range(CALLS)]
    assert {info.status for info in infos} == {Status.COMPLETED}
    most = most_at_a_time(seen(app.folder), killed.pid, killed_s)
    assert most == {f"c{number}": AT_A_TIME for number in range(CUSTOMERS)}, "never more, and never less than could be"


@pytest.mark.long
async def test_never_more_than_the_limit_in_any_window_though_workers_are_killed_and_leave(app: Application) -> None:
    killed, leaving, staying = await fleet(app, 3)
    async with app.runtime() as rt:
        jobs = [await rt.send("ping", {"number": number}) for number in range(PINGS)]
        for process in (killed, leaving, staying):
            await works(app, process, 1)
        await until(lambda: len(seen(app.folder)) > RATE, "the second window has begun")
        killed.send_signal(signal.SIGKILL)
        leaving.send_signal(signal.SIGTERM)
        assert await leaving.ends() == 0
        await fleet(app, 1)
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == list(range(PINGS))
    begun = [one.at_s for one in seen(app.folder)]
    assert len(begun) >= PINGS
    windows = [sum(first <= at_s < first + WINDOW_S for at_s in begun) for first in begun]
    assert max(windows) == RATE, "never more, and all that may be"
