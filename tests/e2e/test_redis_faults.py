"""What Redis and the network do to clients and workers: each ends in recovery by itself, or in a typed error, and nobody spins."""

from __future__ import annotations

import asyncio
import gc
import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import RedisFull, RedisUnavailable, Runtime, Status, inbox, link, store
from angelrt.config import BATCH_MAX_JOBS
from angelrt.keys import Keys
from angelrt.store import Store
from angelrt.worker import claim
from tests.proxy import Proxy
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from angelrt import Job
    from tests.servers import Server

RESULT_S = 40
JITTERED = re.compile(r"trying again in (\d+\.\d+) s")


def pauses(text: str) -> list[float]:
    """Return the pauses that a log tells of."""
    return [float(found) for found in JITTERED.findall(text)]


def application(url: str, namespace: str, **settings: Any) -> Runtime[Any]:
    """Return a runtime with actors, not open."""
    rt = Runtime(url, namespace=namespace, **settings)

    @rt.actor(name="double")
    async def double(number: int) -> int:
        return 2 * number

    @rt.actor(name="nap")
    async def nap(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "rested"

    return rt


async def doubles(rt: Runtime[Any], *numbers: int) -> list[int]:
    """Send, and return the results."""
    jobs = [await rt.send("double", {"number": number}) for number in numbers]
    return [await job.result(RESULT_S) for job in jobs]


async def is_processing(job: Job[Any]) -> bool:
    """Whether a job runs."""
    return await job.status() is Status.PROCESSING


@pytest.fixture
async def admin(own_server: Server) -> AsyncIterator[Store]:
    """Another connection to the server, which does to it what the test is about."""
    connection = Store(own_server.url, Keys("admin"))
    yield connection
    await connection.close()


# -- connections -----------------------------------------------------------------------------------------------------------------------


async def test_client_kill_of_every_connection_costs_a_reconnect_each(own_server: Server, namespace: str, admin: Store) -> None:
    rt = application(own_server.url, namespace)
    async with rt, rt.worker(grace=5):
        assert await doubles(rt, 1) == [2]
        resting = await rt.send("nap", {"seconds": 0.5})
        for _ in range(5):
            for kind in ("normal", "pubsub"):
                await admin.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            assert await doubles(rt, 2, 3) == [4, 6]
        assert await resting.result(RESULT_S) == "rested"
        assert (await resting.info()).deliveries == 1


async def test_client_pause_is_waited_out(own_server: Server, namespace: str, admin: Store) -> None:
    rt = application(own_server.url, namespace)
    async with rt, rt.worker(grace=5):
        assert await doubles(rt, 1) == [2]
        resting = await rt.send("nap", {"seconds": 0.1})
        await admin.command("CLIENT", "PAUSE", 2_000, "ALL")
        assert await doubles(rt, 2) == [4]
        assert await resting.result(RESULT_S) == "rested"
        assert (await resting.info()).deliveries == 1


async def test_script_flush_costs_each_script_one_more_answer(own_server: Server, namespace: str, admin: Store) -> None:
    rt = application(own_server.url, namespace)
    async with rt, rt.worker(grace=5):
        resting = await rt.send("nap", {"seconds": 1.5})
        for _ in range(20):
            await admin.command("SCRIPT", "FLUSH")
            assert await doubles(rt, 2, 3) == [4, 6]
        assert await resting.result(RESULT_S) == "rested"
        assert (await resting.info()).deliveries == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let silence count as a loss after half a second instead of five."""
    monkeypatch.setattr(link, "REPLY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(claim, "REPLY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", 0.5)
    monkeypatch.setattr(inbox, "SILENCE_S", 0.5)


@pytest.mark.usefixtures("impatient")
async def test_half_open_connections_are_given_up_and_the_work_goes_on(own_server: Server, namespace: str, tmp_path: Path) -> None:
    """The other end of every connection is gone, and no packet says so: a switch that lost its table, a host that vanished."""
    async with Proxy(tmp_path, own_server.socket) as proxy:
        rt = application(proxy.url, namespace)
        async with rt, rt.worker(grace=5):
            assert await doubles(rt, 1) == [2]
            waiting = await rt.send("nap", {"seconds": 0.2})
            patient = asyncio.create_task(waiting.result(RESULT_S))
            assert proxy.strand() >= 4, "client, claim, lease and two ears"
            assert await doubles(rt, 2, 3) == [4, 6]
            assert await patient == "rested"


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_accepts_and_says_nothing_is_a_typed_error(
    own_server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "SEND_DEADLINE_S", 3.0)
    async with Proxy(tmp_path, own_server.socket) as proxy:
        rt = application(proxy.url, namespace)
        async with rt:
            rt.client().store.link = link.Link(proxy.url, reply_timeout_s=0.5)
            assert await (await rt.send("double", {"number": 1})).status() == "pending"
            proxy.is_silent = True
            with pytest.raises(RedisUnavailable, match="did not answer within 3 s"):
                await rt.send("double", {"number": 1})
            assert 3 <= len(pauses(caplog.text)) < 20, "it is tried again, with pauses"
            proxy.is_silent = False
            proxy.cut()
            assert await (await rt.send("double", {"number": 1})).status() == "pending"


async def test_a_server_that_closes_each_connection_is_met_with_growing_jittered_pauses(
    own_server: Server, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Proxy(tmp_path, own_server.socket) as proxy:
        rt = application(proxy.url, namespace)
        async with rt, rt.worker(grace=5):
            assert await doubles(rt, 1) == [2]
            own_server.kill()  # the proxy accepts, and finds nobody behind it
            before, began_s = proxy.accepted, asyncio.get_running_loop().time()
            await until(lambda: len(pauses(caplog.text)) >= 30, "everybody has tried several times")
            per_second = (proxy.accepted - before) / (asyncio.get_running_loop().time() - began_s)
            assert per_second < 50, "nobody spins"
            waits = pauses(caplog.text)
            assert max(waits) > 10 * min(waits), "they grow"
            assert len(set(waits)) > len(waits) / 3, "and differ"
            own_server.start()
            assert await doubles(rt, 2) == [4]


# -- a server that loads, takes no writes, or is full ---------------------------------------------------------------------------------


@pytest.fixture
async def slow_to_load(own_server: Server, admin: Store) -> Server:
    """A server whose data takes some seconds to load when it is started again."""
    for number in range(100):
        await admin.command("SET", f"filler{number}", secrets.token_hex(1_000))
    await admin.command("BGREWRITEAOF")

    async def is_written() -> bool:
        return b"aof_rewrite_in_progress:0" in await admin.command("INFO", "persistence")

    await until_true(is_written, "the data is a file that is loaded key by key")
    own_server.options = (*own_server.options, "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    return own_server


async def test_a_server_that_loads_its_data_is_waited_for(slow_to_load: Server, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    rt = application(slow_to_load.url, namespace)
    async with rt, rt.worker(grace=5):
        assert await doubles(rt, 1) == [2]
        slow_to_load.kill()
        starting = asyncio.create_task(asyncio.to_thread(slow_to_load.start))
        assert await doubles(rt, 2) == [4]
        await starting
    assert "is loading the dataset" in caplog.text
    assert len(pauses(caplog.text)) < 200, "nobody spins"


async def test_a_primary_that_becomes_a_replica_is_waited_for(
    own_server: Server, namespace: str, admin: Store, caplog: pytest.LogCaptureFixture
) -> None:
    rt = application(own_server.url, namespace)
    async with rt, rt.worker(grace=5):
        resting = await rt.send("nap", {"seconds": 0.2})
        await until_true(lambda: is_processing(resting), "it runs")
        await admin.command("REPLICAOF", "127.0.0.1", "1")
        sending = asyncio.create_task(doubles(rt, 2))
        await until(lambda: len(pauses(caplog.text)) >= 8, "it was tried again")
        await admin.command("REPLICAOF", "NO", "ONE")
        assert await sending == [4]
        assert await resting.result(RESULT_S) == "rested"
        assert (await resting.info()).deliveries == 1
    assert "read only replica" in caplog.text or "readonly replica" in caplog.text


async def test_a_primary_without_enough_replicas_is_waited_for_and_then_an_error(
    own_server: Server, namespace: str, admin: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "SEND_DEADLINE_S", 1.0)
    rt = application(own_server.url, namespace)
    async with rt, rt.worker(grace=5):
        assert await doubles(rt, 1) == [2]
        await admin.command("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(RedisUnavailable, match="NOREPLICAS"):
            await rt.send("double", {"number": 2})
        await admin.command("CONFIG", "SET", "min-replicas-to-write", "0")
        assert await doubles(rt, 3) == [6]
    assert len(pauses(caplog.text)) < 100, "nobody spins"


async def test_a_full_server_takes_nothing_new_and_lets_out_what_it_has(own_server: Server, namespace: str, admin: Store) -> None:
    rt = application(own_server.url, namespace)
    async with rt, rt.worker(concurrency=4, grace=5):
        running = [await rt.send("nap", {"seconds": 0.05}) for _ in range(40)]
        await admin.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(RedisFull, match="maxmemory"):
            await rt.send("double", {"number": 1})
        assert await asyncio.gather(*(job.result(RESULT_S) for job in running)) == ["rested"] * 40
        with pytest.raises(RedisFull, match="maxmemory"):
            await rt.send("double", {"number": 1})
        assert {worker.status for worker in await rt.workers()} <= {"active", "idle"}, "its heartbeats are taken, too"
        await admin.command("CONFIG", "SET", "maxmemory", "0")
        assert await doubles(rt, 2) == [4]


async def test_batches_behind_one_that_is_refused_are_given_up_with_it(
    own_server: Server, namespace: str, admin: Store, caplog: pytest.LogCaptureFixture
) -> None:
    rt = Runtime(own_server.url, namespace=namespace)

    @rt.remote(name="double")
    def double(number: int) -> int:
        raise NotImplementedError

    await admin.command("CONFIG", "SET", "maxmemory", "1")
    async with rt:
        with pytest.raises(RedisFull, match="maxmemory"):
            await rt.send_many(double.message(number=number) for number in range(3 * BATCH_MAX_JOBS))
    gc.collect()
    assert "never retrieved" not in caplog.text
