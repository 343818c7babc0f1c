"""The proxy does what the faults say: what was forwarded is applied, what is held arrives late, and only one client is met."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from angelrt.keys import Keys
from angelrt.link import Link, LinkLost
from angelrt.new_jobs import NewJob
from angelrt.store import Store
from tests.chaos.proxy import Way
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers import Server

REPLY_S = 0.5


@pytest.fixture
async def way(own_server: Server) -> AsyncIterator[Way]:
    found = await Way(own_server.socket).open()
    yield found
    await found.close()


@pytest.fixture
async def link(way: Way) -> AsyncIterator[Link]:
    found = Link(f"redis://127.0.0.1:{way.port}/0", reply_timeout_s=REPLY_S)
    yield found
    await found.close()


async def test_what_passes_is_not_changed(link: Link) -> None:
    text = b"\r\n$5\r\n" * 50_000
    assert await link.call(["SET", "text", text], ["GET", "text"], ["NONSENSE"]) != []
    assert (await link.call(["GET", "text"]))[0] == text


async def test_a_reply_is_lost_after_the_request_was_applied(way: Way, own_server: Server, namespace: str) -> None:
    through, beside = Store(f"redis://127.0.0.1:{way.port}/0", Keys(namespace)), Store(own_server.url, Keys(namespace))
    lost = asyncio.create_task(way.lose_reply("enqueue", 20))
    await through.queues()
    codes = asyncio.create_task(through.enqueue([NewJob("mail", "a", b"work\0abcd\0{}", 5)]))
    assert await lost
    assert await beside.command("ZCARD", beside.keys.queue("mail")[0]) == 1, "it was applied"
    assert await codes == [1], "and it is sent again, with the same answer"
    assert await beside.command("ZCARD", beside.keys.queue("mail")[0]) == 1
    for store in (through, beside):
        await store.close()


async def test_no_reply_is_lost_when_no_such_request_comes(way: Way, link: Link) -> None:
    assert not await way.lose_reply("settle", 0.05)
    assert await link.call(["PING"]) == [b"PONG"]


async def test_a_reset_breaks_the_connections_of_one_client(way: Way, own_server: Server, link: Link) -> None:
    other_way = await Way(own_server.socket).open()
    other = Link(f"redis://127.0.0.1:{other_way.port}/0")
    await asyncio.gather(link.call(["PING"]), other.call(["PING"]))
    blocked, untouched = (asyncio.create_task(one.call(["BLPOP", name, 20])) for one, name in ((link, "a"), (other, "b")))
    await until(lambda: len(way.connections) == len(other_way.connections) == 1, "both are connected")
    assert way.reset() == 1
    with pytest.raises(LinkLost):
        await blocked
    assert not untouched.done()
    assert await link.call(["PING"]) == [b"PONG"], "a new connection works"
    await other.close()
    await asyncio.wait([untouched])
    assert isinstance(untouched.exception(), LinkLost)
    await other_way.close()


async def test_a_stalled_connection_is_half_open_and_the_next_one_works(way: Way, link: Link) -> None:
    await link.call(["PING"])
    stalled = way.stall(0)
    assert stalled is not None
    with pytest.raises(LinkLost, match="no reply within"):
        await link.call(["PING"])
    assert await link.call(["PING"]) == [b"PONG"]
    stalled.release()


async def test_a_partition_holds_everything_and_what_was_under_way_arrives_late(way: Way, own_server: Server, link: Link) -> None:
    beside = Link(own_server.url)
    await link.call(["PING"])
    way.part()
    with pytest.raises(LinkLost, match="no reply within"):
        await link.call(["INCR", "late"])
    assert await beside.call(["GET", "late"]) == [None]
    way.heal()

    async def has_arrived() -> bool:
        return await beside.call(["GET", "late"]) == [b"1"]

    await until_true(has_arrived, "it arrives")
    assert await link.call(["GET", "late"]) == [b"1"]
    await beside.close()


async def test_while_the_server_is_away_connections_are_refused(own_server: Server, link: Link) -> None:
    await link.call(["PING"])
    await asyncio.to_thread(own_server.kill)
    with pytest.raises(LinkLost):
        await link.call(["PING"])
    with pytest.raises(LinkLost):
        await link.call(["PING"])
    await asyncio.to_thread(own_server.start)
    assert await link.call(["PING"]) == [b"PONG"]
