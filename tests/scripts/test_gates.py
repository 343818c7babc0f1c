"""Concurrency gates: a job whose gate is closed stands in its lane, and whatever frees the gate opens the lane."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from angelrt.errors import RedisRefused
from tests.scripts.gated import KEYED, OTHER, complete, declare, drain, gate, gate_problems, held, holders, lane, lanes, opens, set_limit
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, rank, verdict
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripts.partition import Partition

COMMANDS_MAX: Final = 100
A, B = lane(gate("A")), lane(gate("B"))


@pytest.fixture(autouse=True)
async def gates_hold(part: Partition) -> AsyncIterator[None]:
    """Check after each test that holders and leases go together, and that no lane that may proceed is without its mark."""
    yield
    assert await gate_problems(part) == []


async def occupied(part: Partition, *flows: str, limit: int = 1) -> None:
    """Declare the rule, and let a job `first` occupy gate A; then send jobs `j1`, `j2` ... of these flows, a millisecond apart."""
    await declare(part, KEYED, limit)
    await part.send(job("first", flow=held("A")))
    assert ids(await part.claim(under="t0", worker="w0")) == ["first"]
    for number, flow in enumerate(flows, 1):
        part.now_ms += 1
        await part.send(job(f"j{number}", flow=flow))


async def end_first(part: Partition, code: str = "c", delay_ms: int = 0) -> None:
    """Settle the job that occupies gate A."""
    assert await part.settle(verdict("first", code, b"1", under="t0", delay_ms=delay_ms), worker="w0") == [1]


# -- parking -------------------------------------------------------------------------------------------------------------------------


async def test_job_whose_gate_is_open_is_ready_and_occupies_nothing_yet(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", flow=held("A")))
    assert (await part.state()).place("j1") == "ready:q"
    assert await holders(part) == set()


async def test_job_that_is_leased_occupies_its_gate(part: Partition) -> None:
    await occupied(part)
    assert await holders(part) == {(A, "first")}


async def test_job_whose_gate_is_closed_is_parked_as_it_is_sent(part: Partition) -> None:
    await occupied(part, held("A"))
    state = await part.state()
    assert state.place("j1") == "lane:q"
    assert (state.run("j1").token, state.run("j1").rank, state.run("j1").flow) == ("!", rank(5, START_MS + 1), held("A"))
    assert await lanes(part) == {A: ["j1"]}
    assert await opens(part) == {}, "somebody must free the gate: there is nothing to look at"


async def test_parking_at_a_closed_gate_wakes_nobody(part: Partition) -> None:
    await occupied(part)
    await part.take_marker()
    await part.send(job("j1", flow=held("A")))
    assert not await part.take_marker()


async def test_each_value_has_a_gate_of_its_own(part: Partition) -> None:
    await occupied(part, held("B"), held("A"))
    assert ids(await part.claim()) == ["j1"]
    assert await holders(part) == {(A, "first"), (B, "j1")}


async def test_jobs_sent_in_one_call_park_only_when_they_are_claimed(part: Partition) -> None:
    await declare(part, KEYED, 2)
    await part.send(*(job(f"j{n}", flow=held("A")) for n in range(5)))
    assert ids(await part.claim()) == ["j0", "j1"]
    assert await lanes(part) == {A: ["j2", "j3", "j4"]}
    claimed = await part.claim(under="t2")
    assert (claimed.deliveries, claimed.again) == ([], False)


async def test_worker_that_meets_only_closed_gates_is_not_told_to_come_again(part: Partition) -> None:
    await occupied(part)
    await part.send(*(job(f"j{n}", flow=held("A"), when="+5") for n in range(3)))
    part.now_ms += 5
    await part.take_marker()
    claimed = await part.claim()
    assert (claimed.deliveries, claimed.again) == ([], False)
    assert await lanes(part) == {A: ["j0", "j1", "j2"]}
    assert not await part.take_marker(), "a marker would only spin"


async def test_due_job_is_parked_at_its_closed_gate_with_the_rank_of_its_due_time(part: Partition) -> None:
    await occupied(part)
    await part.send(job("late", flow=held("A"), priority=3, when="+1000"))
    part.now_ms += 1_500
    await part.claim()
    [waiter] = (await part.state()).queues["q"].lanes
    assert (waiter.lane, waiter.rank, waiter.id) == (A, rank(3, START_MS + 1_000), "late")


async def test_rule_that_nobody_declared_holds_nothing_back(part: Partition) -> None:
    await part.send(*(job(f"j{n}", flow=held("A")) for n in range(3)))
    assert ids(await part.claim()) == ["j0", "j1", "j2"]
    assert len(await holders(part)) == 3, "declared later, it must count those who are there already"
    await declare(part, KEYED, 2)
    await part.send(job("j3", flow=held("A")))
    assert (await part.state()).place("j3") == "lane:q"
    await part.settle(verdict("j0", "c"))
    assert ids(await part.claim(under="t2")) == [], "two are still there"
    await part.settle(verdict("j1", "c"))
    assert ids(await part.claim(under="t3")) == ["j3"]


async def test_gated_job_does_not_hold_back_what_has_no_gate(part: Partition) -> None:
    await occupied(part, held("A"))
    await part.send("free")
    assert ids(await part.claim()) == ["free"]


async def test_send_that_is_repeated_changes_nothing(part: Partition) -> None:
    await occupied(part, held("A"))
    before = await part.state()
    assert await part.send(job("j1", flow=held("A"))) == [1]
    assert set((await part.state()).changes(before)) <= {"events"}


# -- what frees a gate ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["c", "f", "g", "k", "r", "s", "x"])
async def test_every_end_of_a_run_frees_the_gate(part: Partition, code: str) -> None:
    await occupied(part, held("A"))
    await part.take_marker()
    await end_first(part, code, delay_ms=60_000 if code in "rs" else 0)
    assert await holders(part) == set()
    assert await opens(part) == {A: part.now_ms}
    assert await part.take_marker()
    claimed = await part.claim(1)
    assert ids(claimed) == (["first"] if code == "x" else ["j1"]), "handed back, it is still the first in line"


async def test_lost_lease_frees_the_gate(part: Partition) -> None:
    await occupied(part, held("A"))
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    await part.register("w0", "a")
    assert await holders(part) == set()
    assert ids(await part.claim(1)) == ["first"], "its rank is the lower one"
    assert ids(await part.claim(1, under="t2")) == []
    assert await lanes(part) == {A: ["j1"]}


@pytest.mark.parametrize("died", [True, False])
async def test_worker_that_is_struck_off_frees_its_gates(part: Partition, *, died: bool) -> None:
    await occupied(part, held("A"), limit=2)
    await part.store.expire_worker("w0", ["q"], died=died)
    assert await holders(part) == set()
    assert ids(await part.claim()) == (["j1"] if died else ["first", "j1"])
    assert ids(await part.claim(worker="w2", under="t2")) == (["first"] if died else [])


async def test_run_that_was_lost_and_ends_late_frees_nothing_of_the_one_after_it(part: Partition) -> None:
    await occupied(part, held("A"))
    part.now_ms += LEASE_MS
    await part.register("w0", "a")
    assert ids(await part.claim(1)) == ["first"]
    assert await part.settle(verdict("first", "c", under="t0"), worker="w0") == [0]
    assert await holders(part) == {(A, "first")}
    assert ids(await part.claim(under="t2")) == []


async def test_settle_that_is_repeated_frees_nothing_of_the_next_one(part: Partition) -> None:
    await occupied(part, held("A"), held("A"))
    await end_first(part)
    assert ids(await part.claim()) == ["j1"]
    assert await part.settle(verdict("first", "c", b"1", under="t0"), worker="w0") == [2]
    assert await holders(part) == {(A, "j1")}
    assert ids(await part.claim(under="t2")) == []


async def test_one_free_place_serves_one_waiter_and_the_mark_goes(part: Partition) -> None:
    await occupied(part, held("A"), held("A"), held("A"))
    await end_first(part)
    assert ids(await part.claim()) == ["j1"]
    assert await opens(part) == {}
    assert await lanes(part) == {A: ["j2", "j3"]}


async def test_all_free_places_are_served_in_one_call(part: Partition) -> None:
    await declare(part, KEYED, 3)
    await part.send(*(job(f"j{n}", flow=held("A")) for n in range(8)))
    assert await complete(part, await part.claim()) == ["j0", "j1", "j2"]
    assert ids(await part.claim(under="t2")) == ["j3", "j4", "j5"]


async def test_waiter_behind_a_freed_gate_is_worth_a_claim_that_comes_again(part: Partition) -> None:
    await occupied(part, held("A"), limit=2)
    await part.send(job("j2", flow=held("A")), job("j3", flow=held("A")))
    claimed = await part.claim(1)
    assert (ids(claimed), claimed.again) == (["j1"], True), "what is behind it has not been looked at"
    claimed = await part.claim(1, under="t2")
    assert (ids(claimed), claimed.again) == ([], False)


async def test_record_that_is_gone_neither_blocks_the_lane_nor_takes_the_place(part: Partition) -> None:
    await occupied(part, held("A"), held("A"))
    await part.key("HDEL", "jobs", "j1")
    await end_first(part)
    served = ids(await part.claim())
    served += ids(await part.claim(under="t2"))
    assert served == ["j2"]
    assert await holders(part) == {(A, "j2")}


# -- order ----------------------------------------------------------------------------------------------------------------------------


async def test_lane_and_ready_are_served_together_by_rank(part: Partition) -> None:
    await occupied(part, held("A"), limit=1)
    await part.send(job("behind", priority=6), job("before", priority=4))
    part.now_ms += 1
    await end_first(part)
    assert ids(await part.claim()) == ["before", "j1", "behind"]


async def test_lane_is_in_order_of_rank_not_of_arrival(part: Partition) -> None:
    await occupied(part, held("A"), held("A"))
    await part.send(job("urgent", priority=0, flow=held("A")))
    assert await lanes(part) == {A: ["urgent", "j1", "j2"]}
    begun: list[str] = []
    await end_first(part)
    for n in range(3):
        begun += await complete(part, await part.claim(under=f"t{n}"), f"t{n}")
    assert begun == ["urgent", "j1", "j2"]


async def test_later_job_does_not_pass_the_gate_before_those_who_wait_there(part: Partition) -> None:
    """The place is free, the mark is set, and a new job comes before any worker: it is behind."""
    await occupied(part, held("A"))
    await end_first(part)
    part.now_ms += 1
    await part.send(job("new", flow=held("A")))
    assert ids(await part.claim(1)) == ["j1"]
    assert ids(await part.claim(under="t2")) == []


async def test_job_that_came_back_keeps_its_rank_at_its_gate(part: Partition) -> None:
    await occupied(part, held("A"), held("A"))
    await end_first(part)
    await part.claim(1)
    await part.settle(verdict("j1", "x", words=("", "")))
    assert ids(await part.claim(1, under="t2")) == ["j1"]


async def test_later_job_passes_no_lane_that_is_open_and_has_not_had_its_turn(part: Partition) -> None:
    """A call looks at eight lanes: what waits in the ninth is not to be overtaken by what is ready for its gate."""
    await declare(part)
    await part.send(*(job(f"first{n:02}", flow=held(n)) for n in range(20)))
    await part.claim(under="t0", worker="w0")
    part.now_ms += 1
    await part.send(*(job(f"second{n:02}", flow=held(n)) for n in range(20)))
    for n in range(20):
        part.now_ms += 1
        await part.settle(verdict(f"first{n:02}", "c", under="t0"), worker="w0")
    await part.send(*(job(f"third{n:02}", flow=held(n)) for n in range(20)))
    begun = [job_id for _, job_id in await drain(part)]
    for n in range(20):
        assert begun.index(f"second{n:02}") < begun.index(f"third{n:02}"), f"gate {n}: {begun}"


async def test_two_queues_share_no_gate(part: Partition) -> None:
    await declare(part)
    await declare(part, "a.key@p")
    await part.send(job("j1", flow=held("A")), job("j2", queue="p", flow=held("A", "a.key@p")))
    assert ids(await part.claim(queues=("q", "p"))) == ["j1", "j2"]


# -- two gates ------------------------------------------------------------------------------------------------------------------------


async def test_job_with_two_gates_needs_both_and_waits_at_the_first_that_is_closed(part: Partition) -> None:
    await declare(part, OTHER)
    await occupied(part, f"{held('A')},{held('h', OTHER)}")
    await part.send(job("host", flow=held("h", OTHER)))
    assert ids(await part.claim()) == ["host"]
    await end_first(part)
    assert ids(await part.claim(under="t2")) == []
    assert await lanes(part) == {lane(gate("h", OTHER)): ["j1"]}, "its first gate is open now, and it stands at the other"
    assert await holders(part) == {(lane(gate("h", OTHER)), "host")}, "nothing is occupied ahead"
    await part.settle(verdict("host", "c"))
    assert ids(await part.claim(under="t3")) == ["j1"]
    assert await holders(part) == {(A, "j1"), (lane(gate("h", OTHER)), "j1")}


async def test_job_that_parks_elsewhere_lets_the_next_one_through(part: Partition) -> None:
    await declare(part, OTHER)
    await occupied(part, f"{held('A')},{held('h', OTHER)}", held("A"))
    await part.send(job("host", flow=held("h", OTHER)))
    await part.claim(under="th")
    await end_first(part)
    assert ids(await part.claim()) == ["j2"]
    assert await lanes(part) == {lane(gate("h", OTHER)): ["j1"]}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_two_jobs_that_name_their_gates_crosswise_never_block_each_other(part: Partition, order: tuple[int, int]) -> None:
    await declare(part)
    await declare(part, OTHER)
    both = [held("A"), held("h", OTHER)]
    await part.send(job("j1", flow=",".join(both)), job("j2", flow=",".join(both[n] for n in order)))
    assert [job_id for _, job_id in await drain(part)] == ["j1", "j2"]


# -- many lanes, capacity, free slots ------------------------------------------------------------------------------------------------


async def test_more_open_lanes_than_a_call_looks_at_are_all_served(part: Partition) -> None:
    await declare(part)
    await part.send(*(job(f"a{n:02}", flow=held(n)) for n in range(30)))
    await part.claim(under="t0", worker="w0")
    await part.send(*(job(f"b{n:02}", flow=held(n)) for n in range(30)))
    await part.settle(*(verdict(f"a{n:02}", "c", under="t0") for n in range(30)), worker="w0")
    assert len(await opens(part)) == 30
    served: list[str] = []
    for n in range(10):
        await part.take_marker()
        claimed = await part.claim(under=f"t{n + 1}")
        served += ids(claimed)
        assert claimed.again == (len(served) < 30)
        assert await part.take_marker() == claimed.again
        if not claimed.again:
            break
    assert sorted(served) == [f"b{n:02}" for n in range(30)]
    assert await opens(part) == {}


async def test_open_lanes_without_end_do_not_starve_what_is_ready(part: Partition) -> None:
    await declare(part, KEYED, 5)
    await part.send(*(job(f"a{n:02}", flow=held(n % 20)) for n in range(200)))
    await part.claim(under="t0", worker="w0")
    await part.settle(*(verdict(f"a{n:02}", "c", under="t0") for n in range(100)), worker="w0")
    await part.send(job("urgent", priority=0))
    assert ids(await part.claim(1)) == ["urgent"]


async def test_gated_job_is_not_claimed_ahead_of_a_free_slot(part: Partition) -> None:
    await declare(part, KEYED, 10)
    await part.send(*(job(f"j{n}", flow=held("A")) for n in range(4)))
    claimed = await part.claim(4, free=2)
    assert (ids(claimed), claimed.again) == (["j0", "j1"], True)
    assert len(await holders(part)) == 2


async def test_without_a_free_slot_nothing_gated_is_claimed_and_nothing_is_moved(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", flow=held("A")))
    claimed = await part.claim(4, free=0)
    assert (ids(claimed), claimed.again) == ([], True)
    assert (await part.state()).place("j1") == "ready:q"


async def test_what_has_no_gate_is_claimed_ahead_up_to_the_first_gated_job(part: Partition) -> None:
    await declare(part, KEYED, 10)
    await part.send("j1", job("j2", flow=held("A")), "j3")
    assert ids(await part.claim(3, free=0)) == ["j1"]


async def test_gated_job_of_which_the_gate_is_closed_takes_no_free_slot(part: Partition) -> None:
    await occupied(part)
    await part.send(job("j1", flow=held("A"), when="+1"), job("j2", flow=held("B"), when="+2"))
    part.now_ms += 5
    assert ids(await part.claim(1)) == ["j2"]


async def test_resent_claim_returns_what_it_took_from_a_gates_lane_and_takes_no_more(part: Partition) -> None:
    await occupied(part, held("A"), held("A"), limit=1)
    await end_first(part)
    assert ids(await part.claim_twice()) == ["j1"]
    assert await holders(part) == {(A, "j1")}
    assert (await part.state()).run("j1").deliveries == 1


async def test_many_closed_jobs_before_a_runnable_one_do_not_hide_it(part: Partition) -> None:
    await occupied(part)
    jobs = [job(f"j{n:04}", flow=held("A"), when="+1") for n in range(1_200)]
    for first in range(0, 1_200, 200):
        await part.send(*jobs[first : first + 200])
    await part.send(job("runnable", when="+2"))
    part.now_ms += 3
    served: list[str] = []
    for number in range(6):
        claimed = await part.claim(under=f"t{number}")
        served += ids(claimed)
        assert served or claimed.again
    assert served == ["runnable"]


async def test_each_of_two_workers_gets_what_its_actors_can_do_of_one_gate(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", actor="a", flow=held("A")))
    await part.claim(worker="w1", actors=("a",))
    await part.send(job("j2", actor="b", flow=held("A")))
    await part.settle(verdict("j1", "c"))
    claimed = await part.claim(worker="w1", under="t2", actors=("a",))
    assert (ids(claimed), claimed.parked) == ([], ["b"]), "it stands in the lane of its actor now"
    assert ids(await part.claim(worker="w2", under="t3", actors=("b",))) == ["j2"]


# -- limits that change ---------------------------------------------------------------------------------------------------------------


async def test_raised_limit_opens_what_waits(part: Partition) -> None:
    await occupied(part, held("A"), held("A"), held("A"))
    await part.take_marker()
    await set_limit(part, KEYED, 3)
    assert await part.take_marker()
    assert ids(await part.claim()) == ["j1", "j2"]


async def test_lowered_limit_lets_nothing_through_until_enough_have_ended(part: Partition) -> None:
    await declare(part, KEYED, 3)
    await part.send(*(job(f"j{n}", flow=held("A")) for n in range(5)))
    assert ids(await part.claim()) == ["j0", "j1", "j2"]
    await set_limit(part, KEYED, 1)
    await part.settle(verdict("j0", "c"), verdict("j1", "c"))
    assert ids(await part.claim(under="t2")) == []
    await part.settle(verdict("j2", "c"))
    assert ids(await part.claim(under="t3")) == ["j3"]


async def test_limit_taken_back_is_the_declared_one_and_a_new_declaration_does_not_undo_the_hand(part: Partition) -> None:
    await occupied(part, held("A"), held("A"))
    await set_limit(part, KEYED, 2)
    await declare(part, KEYED, 1)
    assert ids(await part.claim()) == ["j1"]
    await declare(part, KEYED, 3)
    assert ids(await part.claim(under="t2")) == [], "the hand holds until it is taken back"
    await set_limit(part, KEYED, "")
    assert ids(await part.claim(under="t3")) == ["j2"]


async def test_raised_limit_opens_more_lanes_than_one_call_sweeps(part: Partition) -> None:
    await declare(part)
    for first in range(0, 1_300, 100):
        await part.send(*(job(f"a{n:04}", flow=held(n)) for n in range(first, first + 100)))
        await part.claim(100, worker="w0", under=f"t{first}")
        await part.send(*(job(f"b{n:04}", flow=held(n)) for n in range(first, first + 100)))
    await set_limit(part, KEYED, 2)
    assert len(await opens(part)) == 1_300
    assert await part.key("HGET", "rules", f"{KEYED}~") is None


async def test_declaring_the_same_limit_again_marks_nothing(part: Partition) -> None:
    await occupied(part, held("A"))
    await declare(part)
    assert await opens(part) == {}


async def test_send_that_broke_off_and_comes_again_later_leaves_the_job_in_one_place(part: Partition) -> None:
    """By then the gate may have opened, and the job's rank is another one."""
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        await occupied(part)
        part.link.fail(scripts.ENQUEUE, at, resend=False)
        with suppress(RedisRefused):
            await part.send(job("again", flow=held("A")), job("tenant", flow=f"tann,{held('A')}"))
        has_broken = bool(part.link.broken_at)
        part.link.fail(scripts.ENQUEUE)
        part.now_ms += 5
        await end_first(part)
        await part.send(job("again", flow=held("A")), job("tenant", flow=f"tann,{held('A')}"))
        assert problems(await part.state()) == [], f"broken before command {at}"
        if not has_broken:
            return
    message = "the call never ran to its end"
    raise AssertionError(message)
