"""expire_worker: what a worker held is given back, charged when it died, and the worker is struck from the register."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.store import CHANGED_MEANWHILE
from tests.scripts.partition import START_MS, ids, job, rank, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


async def test_dead_worker_gives_back_with_the_attempt_charged(part: Partition) -> None:
    await part.register("w1", "a")
    await part.send("j1", job("j2", priority=1), "j3")
    await part.claim(2)
    await part.claim(1, worker="w2", under="t2")
    await part.take_marker()
    part.now_ms += 1_000
    assert await part.store.expire_worker("w1", ["q"], died=True) == 2
    state = await part.state()
    assert state.queues["q"].ready == {"j1": rank(5, START_MS), "j2": rank(1, START_MS)}
    assert state.held == {("w2", "j3")}
    run = state.run("j1")
    assert (run.token[0], run.deliveries, run.attempts, run.losses) == ("!", 1, 1, 1)
    assert run.history == f"l,{START_MS:.0f},{START_MS + 1_000:.0f},w1"
    assert (state.workers, state.beats) == ({}, {})
    assert state.stats["q|*|lost"] == 2
    assert state.events[-1] == ("expire", "w1", 2, ("j1", "j2"))
    assert await part.take_marker()


async def test_worker_that_stops_hands_back_without_a_charge(part: Partition) -> None:
    await part.register("w1", "a")
    await part.send("j1")
    await part.claim()
    assert await part.store.expire_worker("w1", ["q"], died=False) == 1
    state = await part.state()
    run = state.run("j1")
    assert (run.deliveries, run.attempts, run.losses) == (1, 0, 0)
    assert run.history.startswith("x,")
    assert state.stats["q|*|lost"] == 0
    assert (state.workers, state.beats) == ({}, {})


async def test_worker_that_holds_nothing_is_struck(part: Partition) -> None:
    await part.register("w1", "a")
    await part.register("w11", "a")
    before = await part.state()
    assert await part.store.expire_worker("w1", ["q"], died=True) == 0
    after = await part.state()
    assert (set(after.workers), set(after.beats)) == ({"w11"}, {"w11"})
    assert after.changes(before) == ["workers", "beats"]


async def test_name_that_begins_another_is_not_that_worker(part: Partition) -> None:
    await part.send("j1")
    await part.claim(worker="w11")
    assert await part.store.expire_worker("w1", ["q"], died=True) == 0
    assert (await part.state()).held == {("w11", "j1")}


async def test_worker_that_beat_again_is_left_alone(part: Partition) -> None:
    await part.register("w1", "a")
    await part.send("j1")
    await part.claim()
    part.now_ms += 1
    await part.store.beat("w1", b"{}", [])
    before = await part.state()
    assert await part.store.expire_worker("w1", ["q"], died=True, beat_ms=START_MS) == CHANGED_MEANWHILE
    assert (await part.state()).changes(before) == []


async def test_worker_that_is_not_in_the_register_any_more_is_left_alone(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    before = await part.state()
    assert await part.store.expire_worker("w1", ["q"], died=True, beat_ms=START_MS) == CHANGED_MEANWHILE
    assert (await part.state()).changes(before) == []


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.123])
async def test_worker_that_did_not_beat_again_is_expired(part: Partition, fraction: float) -> None:
    part.now_ms += fraction
    await part.register("w1", "a")
    await part.send("j1", "j2")
    await part.claim()
    _, beat_ms = await part.key("ZRANGE", "beats", 0, -1, "WITHSCORES")
    assert await part.store.expire_worker("w1", ["q"], died=True, beat_ms=float(beat_ms)) == 2
    assert (await part.state()).places() == {"j1": ["ready:q"], "j2": ["ready:q"]}


async def test_page_holds_five_hundred_and_the_last_one_strikes(part: Partition) -> None:
    await part.register("w1", "a")
    for first in range(0, 600, 200):
        await part.send(*(f"j{n:03}" for n in range(first, first + 200)))
        await part.claim(200, under=f"t{first}")
    assert len((await part.state()).held) == 600
    assert await part.raw(scripts.EXPIRE_WORKER, ["q"], part.now_ms, "", "w1", "l", "") == 500
    state = await part.state()
    assert (len(state.held), set(state.workers)) == (100, {"w1"})
    assert await part.raw(scripts.EXPIRE_WORKER, ["q"], part.now_ms, "", "w1", "l", "") == 100
    state = await part.state()
    assert (len(state.held), set(state.workers)) == (0, set())


@pytest.mark.parametrize("beat_ms", [None, START_MS])
async def test_store_asks_until_nothing_is_left(part: Partition, beat_ms: float | None) -> None:
    await part.register("w1", "a")
    for first in range(0, 600, 200):
        await part.send(*(f"j{n:03}" for n in range(first, first + 200)))
        await part.claim(200, under=f"t{first}")
    assert await part.store.expire_worker("w1", ["q"], died=True, beat_ms=beat_ms) == 600
    state = await part.state()
    assert (len(state.queues["q"].ready), state.workers, state.held) == (600, {}, frozenset())


async def test_jobs_of_several_queues_go_back_to_their_own(part: Partition) -> None:
    await part.send("j1", job("j2", queue="p"))
    await part.claim(queues=("q", "p"))
    await part.take_marker("q")
    await part.take_marker("p")
    assert await part.store.expire_worker("w1", ["q", "p"], died=True) == 2
    assert (await part.state()).places() == {"j1": ["ready:q"], "j2": ["ready:p"]}
    assert (await part.take_marker("q"), await part.take_marker("p")) == (True, True)


async def test_what_is_held_in_a_queue_that_was_not_named_stays_held(part: Partition) -> None:
    await part.register("w1", "a")
    await part.send("j1", job("j2", queue="p"))
    await part.claim(2, queues=("q", "p"))
    assert await part.store.expire_worker("w1", ["q"], died=True) == 1
    state = await part.state()
    assert state.held == {("w1", "j2")}
    assert set(state.queues["p"].leased) == {"j2"}
    assert set(state.workers) == {"w1"}
    assert await part.store.expire_worker("w1", ["q", "p"], died=True) == 1
    state = await part.state()
    assert (state.held, state.workers, state.beats) == (set(), {}, {})


async def test_expired_run_can_change_nothing_any_more(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.store.expire_worker("w1", ["q"], died=True)
    before = await part.state()
    assert await part.settle(verdict("j1", "c", b"null")) == [0]
    assert await part.renew(("j1", "t1")) == (["j1"], [])
    assert (await part.state()).changes(before) == []
    assert ids(await part.claim(worker="w2", under="t2")) == ["j1"]


async def test_server_time_is_used_where_none_is_given(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    part.store.clock = None
    seconds, _ = await part.store.command("TIME")
    await part.store.expire_worker("w1", ["q"], died=True)
    ended_ms = float((await part.state()).run("j1").history.split(",")[2])
    assert int(seconds) * 1000 <= ended_ms < int(seconds) * 1000 + 60_000


async def test_worker_that_claims_after_a_silence_is_alive(part: Partition) -> None:
    await part.register("w1", "a")
    await part.send("j1")
    silent_since = (await part.state()).beats["w1"]
    part.now_ms += 60_000
    await part.claim()
    assert await part.store.expire_worker("w1", ["q"], died=True, beat_ms=silent_since) == CHANGED_MEANWHILE
    assert list((await part.state()).queues["q"].leased) == ["j1"]
