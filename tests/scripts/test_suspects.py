"""Jobs whose worker died while they ran: they wait for a worker that holds nothing, run few together and then alone, and are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.worker.claim import MAKE_ROOM
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.gated import declare, held
from tests.scripts.partition import LEASE_MS, ids, job, verdict
from tests.state import deaths_of, lane_of_suspects, problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.views import Run
    from tests.scripts.partition import Partition

LANE = lane_of_suspects("a")
TURN_MS, ROOM_AFTER_MS, ROOM_MS = 500, 1_000, 1_000


@pytest.fixture
async def part(part: Partition) -> AsyncIterator[Partition]:
    """Check at the end of each test that all is in its place."""
    yield part
    assert problems(await part.state()) == []


async def die(part: Partition, *names: str, worker: str = "dead", under: str = "") -> None:
    """Let a worker lease jobs and die of them."""
    await part.register(worker, "a")
    claimed = await part.claim(worker=worker, under=under or f"of {worker}".replace(" ", "-"))
    assert sorted(ids(claimed)) == sorted(names)
    await part.store.expire_worker(worker, ["q"], died=True)


async def deaths(part: Partition, name: str) -> int:
    """Return in how many deaths a job ran."""
    return deaths_of((await part.state()).flow(name))


async def leased(part: Partition, worker: str) -> list[tuple[str, Run]]:
    """Return what a worker holds."""
    state = await part.state()
    return [(name, state.run(name)) for of, name in sorted(state.held) if of == worker]


async def test_after_one_death_at_most_eight_run_together_and_nothing_beside(part: Partition) -> None:
    names = [f"j{n:02}" for n in range(20)]
    await part.send(*names)
    await die(part, *names)
    await part.send("healthy")
    claimed = await part.claim(worker="w1", under="t1")
    assert ids(claimed) == ["healthy"], "suspects that have not waited let others pass"
    assert ids(await part.claim(worker="w2", under="t2")) == names[:8]
    await part.send("late")
    claimed = await part.claim(worker="w3", under="t3", queues=("q", "p"))
    assert ids(claimed) == ["late"], "others come first for a while, then it is their turn again"
    part.now_ms += TURN_MS
    await part.send("later")
    assert ids(await part.claim(worker="w4", under="t4")) == names[8:16]
    assert (await part.state()).place("later") == "ready:q", "nothing beside"
    assert [await deaths(part, name) for name in (*names[:8], "healthy")] == [1] * 8 + [0]


async def test_after_two_deaths_each_runs_alone(part: Partition) -> None:
    await part.send("j1", "j2")
    await die(part, "j1", "j2")
    await die(part, "j1", "j2", worker="dead2")
    assert ids(await part.claim(worker="w1", under="t1")) == ["j1"]
    assert ids(await part.claim(worker="w2", under="t2")) == ["j2"]
    assert [await deaths(part, name) for name in ("j1", "j2")] == [2, 2]


async def test_who_is_to_run_alone_does_not_join_others(part: Partition) -> None:
    await part.send(job("j1", priority=1))
    await die(part, "j1")
    await die(part, "j1", worker="dead2")
    await part.send("j0", job("j2", priority=9))
    await part.claim(worker="busy", under="busy", capacity=1)
    await part.store.expire_worker("busy", ["q"], died=True)
    assert ids(await part.claim(worker="w0", under="t0")) == ["j1"], "the first in line, alone"
    assert ids(await part.claim(worker="w1", under="t1")) == ["j2"]
    assert ids(await part.claim(worker="w2", under="t2")) == ["j0"]


async def test_a_third_death_proves_it_and_any_worker_may_fail_it(part: Partition) -> None:
    await part.send("j1", "healthy")
    await die(part, "healthy", "j1")
    await die(part, "healthy", "j1", worker="dead2")
    for worker in ("w1", "w2"):
        claimed = await part.claim(worker=worker, under=worker)
        if ids(claimed) == ["healthy"]:
            await part.settle(verdict("healthy", "c", under=worker), worker=worker)
        else:
            await part.store.expire_worker(worker, ["q"], died=True)
    await part.send("j2")
    (first, second) = (await part.claim(worker="w3", under="t3")).deliveries
    assert {first.id, second.id} == {b"j1", b"j2"}, "it is only failed now, so it needs no worker of its own"
    assert await deaths(part, "j1") == 3
    run = (await part.state()).run("j1")
    assert (run.deliveries, run.attempts, run.losses) == (4, 1, 3), "deaths use up no attempt"
    await part.settle(verdict("j1", "g", b"poison", under="t3", words=("", ""), gates="p"), worker="w3")
    state = await part.state()
    assert (state.place("j1"), state.place("healthy")) == ("failed", "completed")
    assert (state.stats["q|a|failed"], state.stats["q|a|poisoned"]) == (1, 1)


async def test_a_worker_that_holds_something_gets_none_and_does_not_spin(part: Partition) -> None:
    await part.send("j1")
    await die(part, "j1")
    await part.send("other")
    assert ids(await part.claim(worker="w1", under="t1")) == ["other"]
    await part.take_marker()
    claimed = await part.claim(worker="w1", under="t3")
    assert (ids(claimed), claimed.again) == ([], 0)
    assert not await part.take_marker(), "nobody who cannot take it is woken"
    await part.settle(verdict("other", "c"))
    assert ids(await part.claim(worker="w1", under="t4")) == ["j1"], "as soon as it holds nothing"


async def test_suspect_behind_some_that_a_gate_holds_is_run_at_once(part: Partition) -> None:
    await declare(part, spec=2)
    await part.send(job("gated1", flow=held(), priority=1), job("gated2", flow=held(), priority=1), "free")
    await die(part, "gated1", "gated2", "free")
    await part.send("other")
    assert ids(await part.claim(worker="busy", under="t1")) == ["other"], "and all wait where suspects do"
    await part.send(job("holds1", flow=held(), priority=0), job("holds2", flow=held(), priority=0))
    assert ids(await part.claim(2, worker="busy", under="t2")) == ["holds1", "holds2"]
    claimed = await part.claim(1, worker="idle", under="t3")
    if not claimed.deliveries:
        assert claimed.again == 1, "one is claimable, and nobody is told"
        claimed = await part.claim(1, worker="idle", under="t4")
    assert ids(claimed) == ["free"]


async def test_claim_of_suspects_that_is_sent_again_takes_nothing_beside(part: Partition) -> None:
    await part.send("j1", "j2")
    await die(part, "j1", "j2")
    await part.send("other")
    assert ids(await part.claim(worker="busy", under="t1")) == ["other"], "and both wait where suspects do"
    await part.send("healthy")
    part.link.fail(scripts.CLAIM, LOST_ANSWER)
    assert ids(await part.claim(worker="idle", under="t2")) == ["j1", "j2"]
    assert (await part.state()).place("healthy") == "ready:q"


async def test_one_busy_worker_at_a_time_is_asked_to_make_room(part: Partition) -> None:
    await part.send("j1", job("rest", priority=9))
    await part.register("dead", "a")
    await part.claim(1, worker="dead", under="dead")
    await part.store.expire_worker("dead", ["q"], died=True)
    await part.send("b1", "b2")
    for worker in ("w1", "w2"):
        assert len(ids(await part.claim(1, worker=worker, under=worker))) == 1
    await part.claim(worker="w1", under="more")
    part.now_ms += ROOM_AFTER_MS - 1
    assert (await part.claim(worker="w1", under="x1")).again == 0
    part.now_ms += 1
    assert (await part.claim(worker="w1", under="x2")).again == MAKE_ROOM
    assert (await part.claim(worker="w2", under="x3")).again == 0, "one is enough"
    for worker in ("w1", "w2"):
        await part.renew(*((name, run.token) for name, run in await leased(part, worker)), lease_ms=2 * ROOM_MS)
    part.now_ms += ROOM_MS
    assert (await part.claim(worker="w2", under="x4")).again == MAKE_ROOM, "the first one has not managed it"


async def test_a_worker_that_has_beaten_since_was_no_death(part: Partition) -> None:
    await part.register("w1", "a")
    await part.send(*(f"j{n:02}" for n in range(20)))
    await part.claim(worker="w1", under="t1")
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    assert await deaths(part, "j00") == 1
    await part.register("w1", "a")
    assert len(ids(await part.claim(worker="w2", under="t2"))) == 20
    assert await deaths(part, "j00") == 0
    assert (await part.state()).run("j00").attempts == 2, "an attempt that its worker could have ended is charged"


@pytest.mark.parametrize(("code", "left"), [("r", 0), ("s", 0), ("x", 1)])
async def test_who_comes_to_a_verdict_is_a_suspect_no_more(part: Partition, code: str, left: int) -> None:
    await part.send("j1")
    await die(part, "j1")
    await part.claim()
    await part.settle(verdict("j1", code))
    assert await deaths(part, "j1") == left


async def test_a_suspect_waits_at_its_gates_and_holds_nothing_beside_them(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", flow=held()))
    await die(part, "j1")
    await part.send("other")
    await part.claim(worker="w1", under="t1")
    state = await part.state()
    assert ([waiter.lane for waiter in state.queues["q"].lanes], state.holders) == ([LANE], frozenset())
    await part.settle(verdict("other", "c"))
    assert ids(await part.claim(worker="w1", under="t2")) == ["j1"]
    assert len((await part.state()).holders) == 1


async def test_a_suspect_can_be_cancelled_and_its_lane_is_forgotten(part: Partition) -> None:
    await part.send("j1")
    await die(part, "j1")
    await part.send("other")
    await part.claim(worker="w1", under="t1")
    assert set((await part.state()).queues["q"].opens) == {LANE}
    assert await part.store.cancel(["j1"], "me") == [1]
    await part.claim(worker="w1", under="t2")
    assert (await part.state()).queues["q"].opens == {}


async def test_a_worker_that_lacks_the_actor_leaves_its_suspects_alone(part: Partition) -> None:
    await part.send("j1")
    await die(part, "j1")
    await part.send("other")
    await part.claim(worker="w1", under="t1")
    before = await part.state()
    assert ids(await part.claim(worker="w2", under="t2", actors=("b",))) == []
    assert (await part.state()).changes(before) == []
    assert ids(await part.claim(worker="w3", under="t3")) == ["j1"]


async def test_a_claim_of_suspects_whose_answer_was_lost_answers_the_same(part: Partition) -> None:
    names = [f"j{n:02}" for n in range(9)]
    await part.send(*names)
    await die(part, *names)
    assert ids(await part.claim_twice(worker="w1", under="t1")) == names[:8]
    assert len((await part.state()).held) == 8


async def test_more_suspects_wake_the_next_worker(part: Partition) -> None:
    names = [f"j{n:02}" for n in range(9)]
    await part.send(*names)
    await die(part, *names)
    await part.take_marker()
    await part.claim(worker="w1", under="t1")
    assert await part.take_marker()
    assert ids(await part.claim(worker="w2", under="t2")) == names[8:]


@pytest.mark.parametrize("abort_at", range(1, 35))
async def test_a_job_whose_worker_lives_after_all_leaves_the_lane_of_suspects_though_its_claim_broke_off(
    part: Partition, abort_at: int
) -> None:
    await part.send("s1", "s2")
    await die(part, "s1", "s2")
    await part.send("other")
    await part.register("busy", "a")
    assert ids(await part.claim(worker="busy", under="t1")) == ["other"]
    part.now_ms += ROOM_AFTER_MS
    await part.register("dead", "a")
    part.link.fail(scripts.CLAIM, abort_at)
    assert ids(await part.claim(worker="idle", under="t2")) == ["s1", "s2"]
