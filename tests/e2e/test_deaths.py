"""Workers that die without a word, and actors that drag their worker with them."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from redis import Redis

from angelrt import JobFailed, Status
from angelrt.worker.deaths import TRUST_S
from angelrt.worker.lease import PULSE_S
from angelrt.worker.running import DEATHS_MAX
from tests.e2e.processes import worker_id
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from angelrt import Job, Runtime
    from tests.e2e.processes import Application, Process
    from tests.servers import Server

RESULT_S = 50
JOBS = 150
CONCURRENCY = 5
IN_FLIGHT = 200
BLOCK_S = 60
BESIDE = 100


async def stop_while_it_holds_jobs(rt: Runtime[Any], process: Process, jobs: list[Job[Any]]) -> set[str]:
    """Freeze a worker at a moment at which it holds jobs, and return their ids."""
    name = worker_id(process)
    while True:
        process.send_signal(signal.SIGSTOP)
        infos = await rt.client().infos([job.id for job in jobs])
        held = {info.id for info in infos if info.worker == name and info.status is Status.PROCESSING}
        if held:
            return held
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.01)


async def registered(rt: Runtime[Any]) -> list[dict[str, Any]]:
    """Return what each worker says of itself."""
    flat = await rt.client().store.command("HGETALL", rt.keys.key("workers"))
    return [orjson.loads(info) for info in flat[1::2]]


async def test_kill_9_of_a_worker_loses_no_job_and_every_extra_delivery_was_its_own(app: Application) -> None:
    short = {"TEST_LEASE_S": "2"}
    killed, other = [await app.worker("--concurrency", str(CONCURRENCY), environment=short) for _ in range(2)]
    async with app.runtime() as rt:
        jobs = [await rt.send("nap", {"seconds": 0.03}) for _ in range(JOBS)]
        await until(lambda: any(pid == killed.pid for _, pid in app.traces("ended")), "the one to be killed works")
        held = await stop_while_it_holds_jobs(rt, killed, jobs)
        killed.send_signal(signal.SIGKILL)
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == ["rested"] * JOBS
        infos = await rt.client().infos([job.id for job in jobs])
        lost = (await rt.stats()).total.lost
    again = [info for info in infos if info.deliveries > 1]
    assert {info.id for info in again} == held, "delivered twice is what the killed worker held, and nothing else"
    for info in again:
        assert [(run.ended_as, run.worker) for run in info.timeline] == [("lost", worker_id(killed))]
        assert (info.deliveries, info.attempts, info.worker) == (2, 1, worker_id(other))
    assert lost == len(held)
    runs = Counter(job_id for job_id, _ in app.traces("began"))
    assert runs.keys() == {info.id for info in infos}
    assert {job_id for job_id, times in runs.items() if times > 1} <= held


async def test_200_jobs_of_a_worker_that_is_killed_run_elsewhere_long_before_their_leases_end(app: Application) -> None:
    long = {"TEST_LEASE_S": "600"}
    killed = await app.worker("--concurrency", str(IN_FLIGHT), environment=long)
    async with app.runtime() as rt:
        jobs = [await rt.send("linger") for _ in range(IN_FLIGHT)]
        await until(lambda: len(app.traces("began")) == IN_FLIGHT, "all are in flight")
        other = await app.worker("--concurrency", str(IN_FLIGHT), environment=long)
        assert await (await rt.send("double", {"number": 4})).result(RESULT_S) == 8, "the other worker is there"
        killed.send_signal(signal.SIGKILL)
        app.let_go()
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == [other.pid] * IN_FLIGHT
        infos = await rt.client().infos([job.id for job in jobs])
    assert f"worker {worker_id(killed)} is struck off, since its connection is closed: {IN_FLIGHT} jobs taken back" in other.err
    assert all([(run.ended_as, run.worker) for run in info.timeline] == [("lost", worker_id(killed))] for info in infos)


async def test_a_worker_that_is_stopped_past_its_leases_wakes_up_fenced_and_changes_nothing(app: Application) -> None:
    stopped = await app.worker(environment={"TEST_LEASE_S": "2"})
    async with app.runtime() as rt:
        jobs = [await rt.send("linger") for _ in range(CONCURRENCY)]
        await until(lambda: len(app.traces("began")) == CONCURRENCY, "one worker has them all")
        other = await app.worker(environment={"TEST_LEASE_S": "2"})
        stopped.send_signal(signal.SIGSTOP)
        app.let_go(other)
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == [other.pid] * CONCURRENCY
        before = await rt.client().infos([job.id for job in jobs])
        stopped.send_signal(signal.SIGCONT)
        await until(lambda: len(app.traces("lost")) == CONCURRENCY, "it has cancelled its runs")
        assert {pid for _, pid in app.traces("lost")} == {stopped.pid}
        stopped.send_signal(signal.SIGTERM)
        assert await stopped.ends() == 0
        after = await rt.client().infos([job.id for job in jobs])
    assert after == before
    assert all((info.deliveries, info.worker) == (2, worker_id(other)) for info in after)


async def test_no_worker_is_taken_for_dead_when_the_server_restarts(own_app: Application, own_server: Server) -> None:
    workers = [await own_app.worker() for _ in range(2)]
    async with own_app.runtime() as rt:
        jobs = [await rt.send("linger") for _ in range(CONCURRENCY)]
        await until(lambda: len(own_app.traces("began")) == CONCURRENCY, "they are in flight")
        servers = {info["server"] for info in await registered(rt)}  # ids of clients begin anew, and may come again
        await asyncio.to_thread(own_server.kill)
        await asyncio.sleep(2)  # beyond the silence that is noticed
        await asyncio.to_thread(own_server.start)

        async def have_come_back() -> bool:
            infos = await registered(rt)
            return len(infos) == len(workers) and not servers & {info["server"] for info in infos}

        await until_true(have_come_back, "both have registered their new connections")
        await asyncio.sleep(TRUST_S + 1)  # beyond the time in which nobody trusts what he sees
        own_app.let_go()
        await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
        infos = await rt.client().infos([job.id for job in jobs])
    assert [info.deliveries for info in infos] == [1] * CONCURRENCY
    assert not any("struck off" in worker.err for worker in workers)


async def test_without_the_permission_to_list_connections_a_death_is_noticed_by_the_lease(own_app: Application, own_server: Server) -> None:
    with cast("Any", Redis).from_url(own_server.url) as redis:
        redis.execute_command("ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all", "-client|list")
    may_less = {"TEST_LEASE_S": "3", "ANGELRT_URL": own_server.url.replace("unix://", "unix://app:any@")}
    killed = await own_app.worker(environment=may_less)
    async with own_app.runtime() as rt:
        job = await rt.send("linger")
        await until(lambda: bool(own_app.traces("began")), "it runs")
        other = await own_app.worker(environment=may_less)
        await other.says("a dead worker is noticed only after a lease of 3 s")
        killed.send_signal(signal.SIGKILL)
        own_app.let_go()
        assert await job.result(RESULT_S) == other.pid
        await other.says(f"worker {worker_id(killed)} is struck off, since it has not beaten for 3 s")
    assert other.err.count("permit +client|id, +client|list and +info to this user") == 1


async def test_a_job_that_kills_its_process_is_failed_and_named_and_no_healthy_job_beside_it_is(app: Application) -> None:
    """200 jobs that may be tried twice, 100 at a time, and a killer among them; workers that die are started again."""
    short = {"TEST_LEASE_S": "1"}
    workers = [await app.worker("--concurrency", str(BESIDE), environment=short) for _ in range(2)]
    async with app.runtime() as rt:
        healthy = [await rt.send("twice", {"seconds": 0.2}) for _ in range(BESIDE)]
        killer = await rt.send("leave")
        healthy += [await rt.send("twice", {"seconds": 0.2}) for _ in range(BESIDE)]
        result = asyncio.create_task(killer.result(RESULT_S))
        while not result.done():
            for number, process in enumerate(workers):
                if process.code is not None:
                    workers[number] = await app.worker("--concurrency", str(BESIDE), environment=short)
            await asyncio.sleep(0.05)
        with pytest.raises(JobFailed, match="its process died 3 times while it ran, the last times alone") as caught:
            await result
        assert await asyncio.gather(*(job.result(RESULT_S) for job in healthy)) == ["done"] * 2 * BESIDE
        info = await killer.info()
        infos = await rt.client().infos([job.id for job in healthy])
        stats = {figures.actor: figures for figures in (await rt.stats()).actors}
    assert caught.value.error_type.endswith("Poison")
    assert [run.ended_as for run in info.timeline] == ["lost", "lost", "lost"]
    assert len(app.traces()) == DEATHS_MAX, "it did not run a fourth time"
    assert max(one.attempts for one in infos) == 1, "nobody else's death used up an attempt"
    assert (stats["leave"].failed, stats["leave"].poisoned) == (1, 1)
    assert any(f"leave: job {killer.id} failed: its process died 3 times" in process.err for process in workers)


@pytest.mark.long
async def test_jobs_of_a_fleet_that_is_gone_wait_for_the_next_worker(app: Application) -> None:
    short = {"TEST_LEASE_S": "1"}
    first = await app.worker(environment=short)
    async with app.runtime() as rt:
        job = await rt.send("nap", {"seconds": 3600})
        await until(lambda: bool(app.traces("began")), "the job runs")
        first.send_signal(signal.SIGKILL)
        assert await first.ends() == -signal.SIGKILL, "or it may be given the next job, too"
        waiting = await rt.send("double", {"number": 4})
        second = await app.worker(environment=short)
        assert await waiting.result(RESULT_S) == 8
        await until(lambda: len(app.traces("began")) == 2, "the lost job runs again")
        assert [run.worker for run in (await job.info()).timeline] == [worker_id(first)]
        await second.says(f"worker {worker_id(first)} is struck off")
        assert [worker.id for worker in await rt.workers()] == [worker_id(second)]
    second.send_signal(signal.SIGKILL)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_an_actor_that_blocks_the_loop_for_a_minute_keeps_its_lease(app: Application) -> None:
    short = {"TEST_LEASE_S": "2"}
    blocked = await app.worker(environment=short)
    async with app.runtime() as rt:
        job = await rt.send("block", {"seconds": BLOCK_S})
        await until(lambda: bool(app.traces()), "the actor blocks its worker")
        other = await app.worker(environment=short)
        assert await (await rt.send("double", {"number": 4})).result(RESULT_S) == 8, "the other worker goes on"
        await blocked.says(f"by block (job {job.id})", times=2)
        now = {worker.id: worker for worker in await rt.workers()}[worker_id(blocked)]
        assert (now.status, now.blocked_by) == ("error", "block")
        assert now.blocked_s is not None
        assert await job.result(2 * BLOCK_S) == "done"
        info = await job.info()
        await blocked.says("the event loop goes on: it was blocked for ")
        told_s = float(blocked.err.partition("it was blocked for ")[2].partition(" s")[0])
        assert told_s >= BLOCK_S - PULSE_S, "when it began is known to a pulse"
        then = {worker.id: worker for worker in await rt.workers()}[worker_id(blocked)]
    assert (info.deliveries, info.worker, info.timeline) == (1, worker_id(blocked), [])
    assert app.traces() == [(job.id, blocked.pid)]
    assert (then.status, then.blocked_by, then.longest_block_by) == ("idle", None, "block")
    assert other.code is None
