"""tick: what time alone moves is moved, and somebody is woken for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from angelrt import scripts
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, rank, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


async def test_nothing_due_changes_nothing(part: Partition) -> None:
    await part.send("ready", job("delayed", when="+500"))
    await part.claim(1)
    await part.take_marker()
    before = await part.state()
    part.now_ms += 499
    assert await part.store.tick(["q"]) == (START_MS + 499, START_MS + 500)
    assert (await part.state()).changes(before) == []


async def test_due_job_becomes_ready_and_somebody_is_woken(part: Partition) -> None:
    await part.send(job("j1", when="+500"), job("j2", when="+501"))
    await part.take_marker()
    part.now_ms += 500
    assert await part.store.tick(["q"]) == (START_MS + 500, START_MS + 501)
    state = await part.state()
    assert state.queues["q"].ready == {"j1": rank(5, START_MS + 500)}
    assert state.place("j2") == "delayed:q"
    assert await part.take_marker()


async def test_priority_of_a_due_job_is_that_of_its_run(part: Partition) -> None:
    await part.send(job("j1", when="+500", priority=1), job("j2", priority=8))
    await part.claim()
    await part.settle(verdict("j2", "r", delay_ms=400))
    part.now_ms += 1_000
    await part.store.tick(["q"])
    assert (await part.state()).queues["q"].ready == {"j1": rank(1, START_MS + 500), "j2": rank(8, START_MS + 400)}


async def test_expired_lease_is_taken_back_and_counted(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim()
    await part.take_marker()
    part.now_ms += LEASE_MS
    assert await part.store.tick(["q"]) == (part.now_ms, -1)
    state = await part.state()
    assert state.queues["q"].ready == {"j1": rank(5, START_MS), "j2": rank(5, START_MS)}
    assert state.held == frozenset()
    run = state.run("j1")
    assert (run.token[0], run.deliveries, run.attempts, run.losses) == ("!", 1, 1, 1)
    assert run.history == f"l,{START_MS:.0f},{part.now_ms:.0f},w1"
    assert state.stats["q|*|lost"] == 2
    assert await part.take_marker()


async def test_repeated_tick_changes_nothing(part: Partition) -> None:
    await part.send("j1", job("j2", when="+1"))
    await part.claim()
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    before = await part.state()
    await part.store.tick(["q"])
    assert (await part.state()).changes(before) == []


async def test_tick_that_broke_off_and_is_sent_again_wakes_somebody(part: Partition) -> None:
    for at in range(1, 100):
        await part.send(f"lost{at}", job(f"due{at}", when="+500"))
        await part.claim(under=f"t{at}")
        await part.take_marker()
        part.now_ms += LEASE_MS
        part.link.fail(scripts.TICK, at)
        await part.store.tick(["q"])
        assert await part.take_marker(), f"nobody is woken when it broke at command {at}"
        if not part.link.broken_at:
            break
        await part.claim(under=f"taken{at}")
    assert at > 10


async def test_only_the_named_queues_are_moved(part: Partition) -> None:
    await part.send(job("j1", when="+1"), job("j2", when="+1", queue="p"))
    await part.take_marker("p")
    part.now_ms += 1
    await part.store.tick(["q"])
    assert (await part.state()).places() == {"j1": ["ready:q"], "j2": ["delayed:p"]}
    assert not await part.take_marker("p")


async def test_five_hundred_are_moved_at_most(part: Partition) -> None:
    for first in range(0, 600, 200):
        await part.send(*(job(f"j{n:03}", when="+1") for n in range(first, first + 200)))
    part.now_ms += 1
    assert await part.store.tick(["q"]) == (START_MS + 1, START_MS + 1), "the rest is due, so the next call is, too"
    assert len((await part.state()).queues["q"].ready) == 500
    assert await part.store.tick(["q"]) == (START_MS + 1, -1)
    assert len(ids(await part.claim(500))) == 500


async def test_next_due_is_the_earliest_of_delayed_and_leased(part: Partition) -> None:
    assert await part.store.tick(["q", "p"]) == (START_MS, -1)
    await part.send("j1", job("j2", when="+20000", queue="p"))
    await part.claim()
    assert (await part.store.tick(["q", "p"]))[1] == START_MS + LEASE_MS
    await part.send(job("j3", when="+14999", queue="p"))
    assert (await part.store.tick(["q", "p"]))[1] == START_MS + 14_999


async def test_server_time_is_used_where_none_is_given(part: Partition) -> None:
    await part.send(job("j1", when="+500"))
    part.store.clock = None
    seconds, _ = await part.store.command("TIME")
    now_ms, next_due_ms = await part.store.tick(["q"])
    assert int(seconds) * 1000 <= now_ms < int(seconds) * 1000 + 60_000
    assert next_due_ms == -1
    assert (await part.state()).place("j1") == "ready:q", "its time has passed on the server's clock"
