"""control: what is paused does not begin and is not lost; what is resumed goes on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripts.gated import (
    KEYED,
    RATED,
    actor_lane,
    complete,
    declare,
    gate,
    gate_problems,
    held,
    lane,
    lanes,
    opens,
    pause,
    rate,
    rated,
    resume,
    set_limit,
)
from tests.scripts.partition import LEASE_MS, ids, job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripts.partition import Partition

A = lane(gate("A"))


@pytest.fixture(autouse=True)
async def gates_hold(part: Partition) -> AsyncIterator[None]:
    """Check after each test that no lane that may proceed is without its mark."""
    yield
    assert await gate_problems(part) == []


# -- a queue --------------------------------------------------------------------------------------------------------------------------


async def test_paused_queue_serves_nothing_and_another_one_does(part: Partition) -> None:
    await part.send("j1", job("j2", queue="p"))
    await pause(part, "qq")
    claimed = await part.claim(queues=("q", "p"))
    assert (ids(claimed), claimed.again) == (["j2"], False)
    assert (await part.state()).place("j1") == "ready:q"


async def test_paused_queue_leaves_no_marker_on_which_workers_would_spin(part: Partition) -> None:
    await pause(part, "qq")
    await part.send("j1", "j2")
    await part.take_marker()
    for n in range(3):
        assert not (await part.claim(under=f"t{n}")).again
        assert not await part.take_marker()


async def test_resumed_queue_wakes_a_worker(part: Partition) -> None:
    await pause(part, "qq")
    await part.send("j1")
    await part.take_marker()
    await part.claim()
    await resume(part, "qq")
    assert await part.take_marker()
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_what_runs_goes_on_and_what_comes_due_waits(part: Partition) -> None:
    await part.send("j1", job("j2", when="+1000"))
    claimed = await part.claim()
    await pause(part, "qq")
    part.now_ms += 1_000
    await part.store.tick(["q"])
    assert (await part.state()).place("j2") == "ready:q"
    assert await complete(part, claimed) == ["j1"]
    assert ids(await part.claim(under="t2")) == []


async def test_lost_lease_of_a_paused_queue_is_taken_back_and_waits(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await pause(part, "qq")
    part.now_ms += LEASE_MS
    assert ids(await part.claim(under="t2")) == []
    assert (await part.state()).place("j1") == "ready:q"


async def test_queue_is_paused_by_its_whole_name(part: Partition) -> None:
    await pause(part, "qqq")
    await pause(part, "q")
    await part.send("j1")
    assert ids(await part.claim()) == ["j1"]


# -- an actor -------------------------------------------------------------------------------------------------------------------------


async def test_jobs_of_a_paused_actor_step_aside_for_others(part: Partition) -> None:
    await pause(part, "aa")
    await part.send("j1", "j2", job("j3", actor="b"))
    claimed = await part.claim(actors=("a", "b"))
    assert (ids(claimed), claimed.parked) == (["j3"], []), "nobody needs to be told that this actor is missing"
    assert await lanes(part) == {actor_lane("a"): ["j1", "j2"]}
    for n in range(3):
        claimed = await part.claim(under=f"t{n + 2}", actors=("a", "b"))
        assert (ids(claimed), claimed.again) == ([], False)


async def test_workers_do_not_spin_on_a_paused_actor(part: Partition) -> None:
    await pause(part, "aa")
    await part.send("j1")
    await part.claim()
    await part.take_marker()
    for n in range(3):
        assert not (await part.claim(under=f"t{n + 2}")).again
        await part.store.tick(["q"])
        assert not await part.take_marker()


async def test_resumed_actor_is_served_in_order(part: Partition) -> None:
    await pause(part, "aa")
    await part.send("j1", "j2")
    await part.claim()
    part.now_ms += 1
    await part.send("j3", job("j0", priority=1))
    await part.take_marker()
    await resume(part, "aa")
    assert await part.take_marker()
    assert ids(await part.claim(under="t2")) == ["j0", "j1", "j2", "j3"]


async def test_worker_that_starts_during_the_pause_is_not_served_before_its_end(part: Partition) -> None:
    await pause(part, "aa")
    await part.send("j1")
    await part.claim()
    await part.register("w2", "a")
    assert ids(await part.claim(worker="w2", under="t2")) == []
    await resume(part, "aa")
    assert ids(await part.claim(worker="w2", under="t3")) == ["j1"]


async def test_resumed_actor_whose_worker_is_missing_waits_for_one(part: Partition) -> None:
    await pause(part, "aa")
    await part.send("j1")
    await part.claim(actors=("b",))
    await resume(part, "aa")
    assert (await part.claim(under="t2", actors=("b",))).deliveries == []
    assert ids(await part.claim(worker="w2", under="t3")) == ["j1"]


# -- a gate ---------------------------------------------------------------------------------------------------------------------------


async def test_jobs_of_a_paused_gate_park_as_they_are_sent_and_others_do_not(part: Partition) -> None:
    await declare(part, KEYED, 5)
    await pause(part, f"g{gate('A')}")
    await part.send(job("j1", flow=held("A")), job("j2", flow=held("B")))
    assert ids(await part.claim()) == ["j2"]
    assert await lanes(part) == {A: ["j1"]}
    assert await opens(part) == {}


async def test_jobs_that_were_ready_before_the_pause_do_not_begin(part: Partition) -> None:
    await declare(part, KEYED, 5)
    await part.send(job("j1", flow=held("A")))
    await pause(part, f"g{gate('A')}")
    assert ids(await part.claim()) == []
    await resume(part, f"g{gate('A')}")
    assert await opens(part) == {A: part.now_ms}
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_resumed_gate_wakes_a_worker_and_keeps_its_limit(part: Partition) -> None:
    await declare(part, KEYED, 2)
    await pause(part, f"g{gate('A')}")
    await part.send(*(job(f"j{n}", flow=held("A")) for n in range(3)))
    await part.take_marker()
    await resume(part, f"g{gate('A')}")
    assert await part.take_marker()
    assert ids(await part.claim()) == ["j0", "j1"]


async def test_place_that_becomes_free_during_the_pause_is_taken_after_it(part: Partition) -> None:
    await declare(part)
    await part.send(job("first", flow=held("A")), job("j1", flow=held("A")))
    assert ids(await part.claim()) == ["first"]
    await pause(part, f"g{gate('A')}")
    await part.settle(verdict("first", "c"))
    claimed = await part.claim(under="t2")
    assert (ids(claimed), claimed.again) == ([], False)
    await part.take_marker()
    assert not (await part.claim(under="t3")).again
    await resume(part, f"g{gate('A')}")
    assert ids(await part.claim(under="t4")) == ["j1"]


async def test_tokens_that_come_back_during_the_pause_are_there_after_it(part: Partition) -> None:
    await declare(part, RATED, rate(1))
    await part.send(job("j0", flow=rated("A")), job("j1", flow=rated("A")))
    await complete(part, await part.claim())
    await pause(part, f"g{gate('A', RATED)}")
    part.now_ms += 60_000
    await part.store.tick(["q"])
    assert ids(await part.claim(under="t2")) == []
    await resume(part, f"g{gate('A', RATED)}")
    assert ids(await part.claim(under="t3")) == ["j1"]


async def test_gate_whose_rule_nobody_declared_can_be_paused(part: Partition) -> None:
    await pause(part, f"g{gate('A')}")
    await part.send(job("j1", flow=held("A")))
    assert ids(await part.claim()) == []
    await resume(part, f"g{gate('A')}")
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_raised_limit_does_not_end_a_pause(part: Partition) -> None:
    await declare(part)
    await pause(part, f"g{gate('A')}")
    await part.send(job("j1", flow=held("A")))
    await set_limit(part, KEYED, 9)
    claimed = await part.claim()
    assert (ids(claimed), claimed.again) == ([], False)
    assert not (await part.claim(under="t2")).again
    await resume(part, f"g{gate('A')}")


# -- pausing twice, resuming nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["qq", "aa", "ga.key@q=A"])
async def test_first_pause_is_the_one_that_is_remembered_and_one_resume_ends_it(part: Partition, what: str) -> None:
    await part.store.control("pause", what, '{"by":"first"}', ["q"])
    await part.store.control("pause", what, '{"by":"second"}', ["q"])
    assert await part.key("HGET", "control", what) == b'{"by":"first"}'
    await part.send(job("j1", flow=held("A")))
    assert ids(await part.claim()) == []
    await resume(part, what)
    assert ids(await part.claim(under="t2")) == ["j1"]


@pytest.mark.parametrize("what", ["qq", "aa", "ga.key@q=A"])
async def test_resuming_what_is_not_paused_is_harmless(part: Partition, what: str) -> None:
    await declare(part)
    await part.send(job("first", flow=held("A")), job("j1", flow=held("A")))
    assert ids(await part.claim()) == ["first"]
    await resume(part, what)
    assert ids(await part.claim(under="t2")) == []


async def test_all_that_hold_a_job_must_let_it_go(part: Partition) -> None:
    await declare(part)
    for what in ("qq", "aa", f"g{gate('A')}"):
        await pause(part, what)
    await part.send(job("j1", flow=held("A")))
    begun: list[str] = []
    for n, what in enumerate(("aa", "qq", f"g{gate('A')}")):
        begun += ids(await part.claim(under=f"t{n}"))
        await resume(part, what)
    assert begun == []
    assert ids(await part.claim(under="t9")) == ["j1"]
