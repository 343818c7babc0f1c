"""At maxmemory, new work is refused with a clear error, while running work drains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt.errors import RedisFull
from tests.scripts.partition import LEASE_MS, Partition, ids, job, verdict
from tests.state import assert_sound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.new_jobs import NewJob
    from tests.servers import Server

BIG = b"x" * 5_000


@pytest.fixture
async def full(own_server: Server, namespace: str) -> AsyncIterator[Partition]:
    """A partition with jobs leased, due and parked, on a server that has just reached its limit."""
    part = Partition(own_server.url, namespace)
    await part.park("rare1")
    await part.send("j1", "j2", "j3", job("due", when="+1"))
    await part.claim(2)
    await part.store.command("CONFIG", "SET", "maxmemory", "1")
    yield part
    await assert_sound(part.store, *part.queues)
    await part.store.close()


@pytest.mark.parametrize("sent", [job("new"), job("new", blob=BIG)], ids=["small", "big"])
async def test_new_work_is_refused_and_leaves_nothing(full: Partition, sent: NewJob) -> None:
    before = await full.state()
    with pytest.raises(RedisFull, match="maxmemory"):
        await full.send(sent)
    assert (await full.state()).changes(before) == []


@pytest.mark.parametrize("child", [job("new"), job("new", blob=BIG)], ids=["small", "big"])
async def test_end_with_children_is_refused_and_leaves_nothing(full: Partition, child: NewJob) -> None:
    before = await full.state()
    with pytest.raises(RedisFull, match="maxmemory"):
        await full.settle(verdict("j1", "c", b"null", children=[child]))
    assert (await full.state()).changes(before) == []


async def test_running_work_drains(full: Partition) -> None:
    assert await full.settle(verdict("j1", "c", b"null"), verdict("j2", "r", b"error")) == [1, 1]
    full.now_ms += 1
    assert ids(await full.claim(under="t2", actors=("a", "rare"))) == ["j2", "j3", "rare1", "due"]
    assert await full.renew(("j3", "t2")) == ([], [])
    await full.register("w2", "a")
    assert await full.store.watch("ann", ["j1", "j3"]) != []
    assert await full.store.expire_worker("w1", ["q"], died=True) == 4
    full.now_ms += LEASE_MS
    await full.store.tick(["q"])
    assert [placed.state for placed in await full.store.inspect(["j1", "j2"])] == ["completed", "ready"]


async def test_big_result_is_written(full: Partition) -> None:
    """What has run must not run again because its result is big."""
    assert await full.settle(verdict("j1", "c", BIG)) == [1]
    assert (await full.state()).place("j1") == "completed"
