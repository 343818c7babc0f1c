"""A server that goes away: for a moment under load, or for longer than anyone waits."""

from __future__ import annotations

import asyncio
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobNotFound, RedisUnavailable, Runtime
from angelrt.store import SEND_DEADLINE_S
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from angelrt import Job
    from tests.e2e.processes import Application
    from tests.servers import Server

RESULT_S = 40
SENDERS = 4
BEFORE, AFTER = 100, 100


class Load:
    """Senders that go on through everything, each with one send at a time."""

    def __init__(self, rt: Runtime[Any]) -> None:
        """Prepare; `done` are the sends that were answered."""
        self._rt = rt
        self._stop = False
        self.done: list[tuple[int, Job[Any]]] = []
        self._tasks = [asyncio.create_task(self._send(first)) for first in range(SENDERS)]

    async def _send(self, number: int) -> None:
        while not self._stop:
            self.done.append((number, await self._rt.send("double", {"number": number})))
            number += SENDERS

    async def stop(self) -> None:
        """Let each sender finish, and raise what any of them raised."""
        self._stop = True
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_restart_under_load_loses_nothing_and_everyone_goes_on(own_app: Application, own_server: Server, how: str) -> None:
    worker = await own_app.worker()
    async with own_app.runtime() as rt:
        waiting = await rt.send("double", {"number": 21}, delay=2)
        patient = asyncio.create_task(waiting.result(RESULT_S))
        load = Load(rt)
        await until(lambda: len(load.done) >= BEFORE, "jobs are sent and run")
        await asyncio.to_thread(getattr(own_server, how))
        await asyncio.sleep(0.3)  # senders, worker and the one that waits all meet a server that is gone
        answered = len(load.done)
        await asyncio.to_thread(own_server.start)
        await until(lambda: len(load.done) >= answered + AFTER, "the senders go on by themselves")
        await load.stop()
        results = await asyncio.gather(*(job.result(RESULT_S) for _, job in load.done))
        assert results == [2 * number for number, _ in load.done]
        assert await patient == 42, "who waits for a result hears of it after the restart"
        assert all(job.created for _, job in load.done)
        infos = await rt.client().infos([job.id for _, job in load.done])
        lost = [info for info in infos if info.deliveries > 1]
        assert all(run.ended_as == "lost" for info in lost for run in info.timeline)
    assert worker.code is None, "the worker resumed by itself"
    assert "trying again" in worker.err
    assert "Traceback" not in worker.err


async def test_a_run_that_ends_while_the_server_is_gone_is_written_when_it_is_back(own_app: Application, own_server: Server) -> None:
    await own_app.worker()
    async with own_app.runtime() as rt:
        job = await rt.send("nap", {"seconds": 0.3})
        await until(lambda: bool(own_app.traces("began")), "the actor runs")
        own_server.kill()
        await until(lambda: bool(own_app.traces("ended")), "the actor has ended without the server")
        own_server.start()
        assert await job.result(RESULT_S) == "rested"
        info = await job.info()
    assert (info.deliveries, len(own_app.traces("began"))) == (1, 1)


async def test_a_server_that_lost_everything_is_worked_on_all_the_same(own_app: Application, own_server: Server) -> None:
    worker = await own_app.worker()
    async with own_app.runtime() as rt:
        job = await rt.send("nap", {"seconds": 0.5})
        patient = asyncio.create_task(job.result(RESULT_S))
        await until(lambda: bool(own_app.traces("began")), "the actor runs")
        own_server.kill()
        shutil.rmtree(own_server.folder / "appendonlydir")
        own_server.start()
        assert await (await rt.send("double", {"number": 4})).result(RESULT_S) == 8
        with pytest.raises(JobNotFound):
            await patient
        await worker.says(f"job {job.id}")  # that its lease is lost: as it is renewed, or as the run is settled, whatever comes first

        async def is_registered() -> bool:
            return [one.pid for one in await rt.workers()] == [worker.pid]

        await until_true(is_registered, "the worker stands in the register again")
    assert worker.code is None


@pytest.mark.long
async def test_a_worker_that_is_stopped_while_the_server_is_gone_ends(own_app: Application, own_server: Server) -> None:
    worker = await own_app.worker("--grace", "1")
    own_server.kill()
    await worker.says("trying again")
    worker.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    own_server.start()


@pytest.mark.long
async def test_a_server_that_stays_away_is_an_error_of_the_send_after_its_deadline(own_app: Application, own_server: Server) -> None:
    async with own_app.runtime() as rt:
        own_server.kill()
        began_s = asyncio.get_running_loop().time()
        sends = [asyncio.create_task(rt.send("double", {"number": number}, id=f"job {number}")) for number in range(3)]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        waited_s = asyncio.get_running_loop().time() - began_s
        assert [type(outcome) for outcome in outcomes] == [RedisUnavailable] * 3
        assert f"Redis at {own_app.url} did not answer within 10 s" in str(outcomes[0])
        assert waited_s > SEND_DEADLINE_S / 2, "it was tried for as long as promised"
        own_server.start()
        again = [await rt.send("double", {"number": number}, id=f"job {number}") for number in range(3)]
        await own_app.worker()
        assert [await job.result(RESULT_S) for job in again] == [0, 2, 4], "sending again with the id is safe"


@pytest.mark.long
async def test_a_worker_outlives_an_outage_that_its_reads_give_up_on(
    own_server: Server, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    rt = Runtime(own_server.url, namespace=namespace)

    @rt.actor(name="double")
    async def double(number: int) -> int:
        return 2 * number

    async with rt, rt.worker(grace=1) as worker:
        await asyncio.to_thread(own_server.kill)
        await until(lambda: "looking for dead workers waits" in caplog.text, "a read has given up")
        await asyncio.to_thread(own_server.start)
        assert await (await double.send(21)).result(RESULT_S) == 42
        assert worker.failure is None
