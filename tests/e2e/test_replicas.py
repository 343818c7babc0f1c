"""Servers with a replica: what a failover loses, what `durability="replicated"` promises, and how Sentinel is followed."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import ConfigError, JobNotFound, NotReplicated, Runtime, Status
from angelrt.keys import Keys
from angelrt.link import connect, connector
from angelrt.store import Store
from tests.scripts.partition import job
from tests.sentinels import clients
from tests.worker.waiting import until

if TYPE_CHECKING:
    from angelrt import Job
    from tests.sentinels import Pair, Watched

RESULT_S = 40
SENDERS = 4
BEFORE, AFTER = 50, 50


def application(url: str, namespace: str, **settings: Any) -> Runtime[Any]:
    """Return a runtime with an actor, not open."""
    rt = Runtime(url, namespace=namespace, **settings)

    @rt.actor(name="double")
    async def double(number: int) -> int:
        return 2 * number

    return rt


class Load:
    """Senders that go on through everything; a send that no replica confirms is sent again with its id."""

    def __init__(self, rt: Runtime[Any]) -> None:
        """Start them; `done` are the sends that were answered."""
        self._rt = rt
        self._stop = False
        self.done: list[tuple[int, Job[Any]]] = []
        self._tasks = [asyncio.create_task(self._send(first)) for first in range(SENDERS)]

    async def _send(self, number: int) -> None:
        while not self._stop:
            try:
                sent = await self._rt.send("double", {"number": number}, id=f"job {number}")
            except NotReplicated:
                continue
            self.done.append((number, sent))
            number += SENDERS

    async def stop(self) -> None:
        """Let each sender finish, and raise what any of them raised."""
        self._stop = True
        await asyncio.gather(*self._tasks)


@pytest.mark.long
async def test_a_failover_is_followed_by_everybody_and_may_lose_what_no_replica_has_confirmed(watched: Watched, namespace: str) -> None:
    rt = application(watched.url, namespace)
    async with rt, rt.worker(grace=5) as worker:
        load = Load(rt)
        await until(lambda: len(load.done) >= BEFORE, "jobs are sent and run")
        await asyncio.to_thread(watched.fail_over)
        answered = len(load.done)
        await until(lambda: len(load.done) >= answered + AFTER, "the senders go on by themselves")
        await load.stop()
        results = await asyncio.gather(*(sent.result(RESULT_S) for _, sent in load.done), return_exceptions=True)
        wrong = [result for (number, _), result in zip(load.done, results, strict=True) if result != 2 * number]
        assert {type(error) for error in wrong} <= {JobNotFound}, "what is lost is not known to anybody"
        assert worker.failure is None


@pytest.mark.long
async def test_a_failover_loses_nothing_that_a_replica_has_confirmed(watched: Watched, namespace: str) -> None:
    rt = application(watched.url, namespace, durability="replicated")
    async with rt, rt.worker(grace=5) as worker:
        load = Load(rt)
        await until(lambda: len(load.done) >= BEFORE, "jobs are sent and run")
        await asyncio.to_thread(watched.fail_over)
        answered = len(load.done)
        await until(lambda: len(load.done) >= answered + AFTER, "the senders go on by themselves")
        await load.stop()
        results = await asyncio.gather(*(sent.result(RESULT_S) for _, sent in load.done))
        assert results == [2 * number for number, _ in load.done]
        assert worker.failure is None


@pytest.mark.long
async def test_what_a_replica_has_confirmed_outlives_the_death_of_the_primary(watched: Watched, namespace: str) -> None:
    rt = application(watched.url, namespace, durability="replicated")
    async with rt, rt.worker(grace=5) as worker:
        load = Load(rt)
        await until(lambda: len(load.done) >= BEFORE, "jobs are sent and run")
        await asyncio.to_thread(watched.servers[0].kill)
        answered = len(load.done)
        await asyncio.to_thread(watched.until_failed_over)
        await asyncio.to_thread(watched.servers[0].start)  # the sentinels make it a replica of the other one
        await until(lambda: len(load.done) >= answered + AFTER, "the senders go on by themselves")
        await load.stop()
        results = await asyncio.gather(*(sent.result(RESULT_S) for _, sent in load.done))
        assert results == [2 * number for number, _ in load.done]
        assert worker.failure is None


async def test_every_connection_leaves_a_primary_that_is_replaced_before_it_is_demoted(watched: Watched, namespace: str) -> None:
    old, new = watched.ports
    async with application(watched.url, namespace) as rt, rt.worker(grace=5):
        assert await (await rt.send("double", {"number": 1})).result(RESULT_S) == 2
        await until(lambda: [clients(port, "subscribe") for port in watched.sentinels] == [1, 1, 1], "each sentinel is listened to, once")
        before = clients(old)
        asked_s = time.monotonic()
        await asyncio.to_thread(watched.ask_for_failover)
        await until(lambda: (clients(old), clients(new)) == (0, before), "all have moved")
        print(f"\n{watched.program}: {before} connections at the new primary after {time.monotonic() - asked_s:.1f} s")  # noqa: T201 - the figure
        assert watched.about(0)["role"] == "master", "nobody has told it yet"
        assert await (await rt.send("double", {"number": 2})).result(RESULT_S) == 4
    await until(lambda: not any(clients(port) for port in [old, new, *watched.sentinels]), "nothing is left open")


async def test_connecting_that_is_cancelled_at_any_turn_of_the_loop_ends_and_leaves_nothing_open(watched: Watched) -> None:
    new_connection = connector(watched.url)
    lost: list[int] = []
    turns, is_done = 0, False
    while not is_done:
        connection = new_connection()
        connecting = asyncio.create_task(connect(connection))
        for _ in range(turns):
            await asyncio.sleep(0)
        is_done = connecting.done()
        connecting.cancel()
        await asyncio.wait([connecting])
        await connection.disconnect(nowait=True)
        lost += [] if is_done or connecting.cancelled() else [turns]
        turns += 1
    assert not lost, f"{len(lost)} of {turns} cancellations are lost"
    await until(lambda: not any(task.get_name() == "angelrt sentinel" for task in asyncio.all_tasks()), "nobody listens any more")
    await until(lambda: not any(clients(port) for port in [*watched.ports, *watched.sentinels]), "nothing is left open")


async def test_a_sentinel_that_comes_back_is_listened_to_again(watched: Watched, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    async with application(watched.url, namespace):
        await until(lambda: clients(watched.sentinels[0], "subscribe") == 1, "it is listened to")
        watched.restart_sentinel(0)
        await until(lambda: clients(watched.sentinels[0], "subscribe") == 1, "it is listened to again")
        assert f"listening for failovers at the sentinel on 127.0.0.1:{watched.sentinels[0]}: " in caplog.text


async def test_a_silent_sentinel_is_passed_over_and_named(watched: Watched, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with application(watched.url.replace("://", f"://{address},"), namespace) as rt:
            assert (await (await rt.send("double", {"number": 2})).info()).status is Status.PENDING
            await until(lambda: "listening for failovers" in caplog.text, "its silence is told")
    assert f"the sentinel on {address}: no answer within 1 s; trying again in " in caplog.text


async def test_sentinels_of_which_one_is_left_still_tell(watched: Watched, namespace: str) -> None:
    for sentinel in watched.processes[:2]:
        sentinel.kill()
    rt = application(watched.url, namespace)
    async with rt, rt.worker(grace=5):
        assert await (await rt.send("double", {"number": 2})).result(RESULT_S) == 4


async def test_a_send_that_no_replica_confirms_is_an_error_and_the_job_is_there(pair: Pair, namespace: str) -> None:
    rt = application(pair.url, namespace, durability="replicated")
    async with rt:
        assert (await rt.send("double", {"number": 1}, id="first")).created
        pair.stand_still(1)
        with pytest.raises(NotReplicated, match="send it again with the same id"):
            await rt.send("double", {"number": 2}, id="second")
        with pytest.raises(NotReplicated):
            await rt.send_many(rt.registered["double"].message(number) for number in range(3))
        assert await rt.job("second").status() is Status.PENDING
        pair.go_on()
        again = await rt.send("double", {"number": 2}, id="second")
        assert not again.created
        async with rt.worker(grace=5):
            assert await again.result(RESULT_S) == 4


@pytest.mark.parametrize("blob", [None, b"x" * 5_000], ids=["small", "big"])
async def test_a_repeated_call_that_writes_nothing_anew_waits_for_the_first_one_to_be_replicated(
    pair: Pair, namespace: str, blob: bytes | None
) -> None:
    """WAIT asks for what its own connection has written, and a repeated call, on a new connection, has written nothing."""
    sent = [job("j1", blob=blob)]
    first, again = (Store(pair.url, Keys(namespace), events_max=0, replicated=True) for _ in range(2))
    pair.stand_still(1)
    for store in (first, again):
        with pytest.raises(NotReplicated):
            await store.enqueue(sent)
    pair.go_on()
    assert await again.enqueue(sent) == [1]
    for store in (first, again):
        await store.close()


async def test_without_a_replica_nothing_counts_as_replicated(server_url: str, namespace: str) -> None:
    rt = application(server_url, namespace, durability="replicated")
    async with rt:
        with pytest.raises(NotReplicated):
            await rt.send("double", {"number": 1})


def test_durability_has_two_words() -> None:
    with pytest.raises(ConfigError, match='"primary" or "replicated"'):
        Runtime("redis://host", durability="two")  # type: ignore[arg-type]
