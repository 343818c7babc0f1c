"""beat: a worker stands in the register; at its start, lanes that waited for its actors are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scripts.partition import START_MS, ids

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


async def test_start_of_a_worker_that_knows_the_actor_opens_its_lanes(part: Partition) -> None:
    await part.park("j1")
    await part.park("j2", queue="p")
    await part.take_marker("q")
    await part.take_marker("p")
    for queue in ("q", "p"):
        await part.store.command("DEL", part.store.keys.queue(queue)[4])
    part.now_ms += 1_000
    await part.register("w2", "other", "rare", queues=("q", "p"))
    assert (await part.take_marker("q"), await part.take_marker("p")) == (True, True)
    state = await part.state()
    [lane] = {waiter.lane for queue in state.queues.values() for waiter in queue.lanes}
    assert [state.queues[queue].opens for queue in ("q", "p")] == [{lane: -(START_MS + 1_000)}] * 2


async def test_start_of_a_worker_opens_no_lane_of_other_actors(part: Partition) -> None:
    await part.park("j1")
    await part.take_marker()
    before = await part.state()
    part.now_ms += 1
    await part.register("w2", "other")
    assert (await part.state()).changes(before) == ["workers", "beats"]


async def test_start_of_a_worker_wakes_nobody_for_lanes_of_other_queues(part: Partition) -> None:
    await part.park("j1", queue="p")
    await part.take_marker("p")
    await part.register("w2", "rare", queues=("q",))
    assert not await part.take_marker("p")


async def test_beat_registers_and_answers_the_time(part: Partition) -> None:
    assert await part.store.beat("w1", b"{}", ["q"]) == START_MS
    part.now_ms += 1_000.5
    assert await part.store.beat("w1", b'{"running":1}', []) == START_MS + 1_000.5
    state = await part.state()
    assert state.workers == {"w1": b'{"running":1}'}
    assert state.beats == {"w1": START_MS + 1_000.5}


async def test_beat_uses_the_servers_time_where_none_is_given(part: Partition) -> None:
    part.store.clock = None
    seconds, _ = await part.store.command("TIME")
    now_ms = await part.store.beat("w1", b"{}", [])
    assert int(seconds) * 1000 <= now_ms < int(seconds) * 1000 + 60_000


async def test_opened_lane_is_served(part: Partition) -> None:
    await part.park("j1")
    await part.store.command("DEL", part.store.keys.queue("q")[4])
    assert ids(await part.claim(actors=("rare",))) == []
    await part.register("w1", "rare")
    assert ids(await part.claim(actors=("rare",))) == ["j1"]


async def test_repeated_start_changes_nothing(part: Partition) -> None:
    await part.park("j1")
    await part.register("w2", "rare")
    before = await part.state()
    await part.register("w2", "rare")
    assert (await part.state()).changes(before) == []
