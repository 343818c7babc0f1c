"""claim: tenants take turns at a closed gate, too, whoever has the longest line there."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from angelrt.errors import RedisRefused
from tests.scripts.gated import (
    KEYED,
    LATEST_MS,
    OTHER,
    RATED,
    declare,
    drain,
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
from tests.scripts.partition import Partition, ids, job, verdict
from tests.scripts.tenants import BATCH, SMALL, claim, jobs, leave, occupied, send, serve, tenants, weigh
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMMANDS_MAX: Final = 100
G: Final = lane(gate())


@pytest.fixture(autouse=True)
async def all_is_in_order(part: Partition) -> AsyncIterator[None]:
    """Check after each test what must always hold."""
    yield
    assert problems(await part.state()) == []
    assert await gate_problems(part) == []


def lane_of(tenant: str, band: int = 5) -> str:
    """Return the lane of a tenant at the gate."""
    return f"{G}t{band}{hashlib.sha1(tenant.encode(), usedforsecurity=False).hexdigest()[:14]}"


# -- shares --------------------------------------------------------------------------------------------------------------------------


async def test_one_with_100_000_at_a_full_gate_leaves_the_nine_their_share_from_the_first_place_on(part: Partition) -> None:
    await occupied(part, 10)
    await send(part, jobs("big", 100_000, gates=held()), *(jobs(name, 100, gates=held()) for name in SMALL))
    assert len(await lanes(part)) == 10, "each of them stands in a lane of its own"
    await leave(part, 10)
    for _ in range(5):
        assert Counter(tenants(await serve(part, 10))) == dict.fromkeys(["big", *SMALL], 1)
    assert Counter(tenants(await serve(part, 400))) == dict.fromkeys(["big", *SMALL], 40)


async def test_one_whose_100_000_were_sent_before_the_gate_was_full_leaves_the_nine_their_share(part: Partition) -> None:
    """They stand in its own lane, and come to the gate as claims meet them."""
    await declare(part, spec=10)
    await send(part, jobs("big", 100_000, gates=held()))
    assert len(ids(await part.claim(10, under="t0", worker="w0"))) == 10
    await send(part, *(jobs(name, 100, gates=held()) for name in SMALL))
    assert ids(await part.claim(90, under="t1")) == [], "some of the big one's are brought to the gate"
    await part.store.expire_worker("w0", ["q"], died=False)
    assert Counter(tenants(await serve(part, 100, 10))) == dict.fromkeys(["big", *SMALL], 10)


async def test_each_gets_its_share_of_every_window_of_a_rate(part: Partition) -> None:
    await declare(part, RATED, rate(20))
    await send(part, jobs("big", 3_000, gates=rated()))
    assert set(tenants(await serve(part, 20))) == {"big"}
    await send(part, *(jobs(name, 10, gates=rated()) for name in SMALL))
    for _ in range(4):
        part.now_ms += LATEST_MS
        assert Counter(tenants(await claim(part, 100))) == dict.fromkeys(["big", *SMALL], 2)


@pytest.mark.parametrize("capacity", [1, 7, 120])
async def test_shares_at_a_gate_are_as_the_weights(part: Partition, capacity: int) -> None:
    weights = {"ann": 1, "bob": 2, "cid": 3, "low": 0.5}
    for name, weight in weights.items():
        await weigh(part, name, weight)
    await occupied(part, 120)
    await send(part, *(jobs(name, 200, gates=held()) for name in weights), jobs("-", 200, gates=held()))
    await leave(part, 120)
    shares = Counter(tenants(await serve(part, 225, capacity)))
    for name, weight in {**weights, "-": 1}.items():
        assert abs(shares[name] - 30 * weight) <= 1, shares


async def test_those_of_nobody_take_turns_at_a_gate_as_one_more(part: Partition) -> None:
    await occupied(part)
    await send(
        part, jobs("-", 5, gates=held()), jobs("ann", 10, gates=held()), jobs("-", 5, first=5, gates=held()), jobs("bob", 10, gates=held())
    )
    assert set(await lanes(part)) == {G, lane_of("ann"), lane_of("bob")}
    await leave(part, 1)
    begun = await serve(part, 30)
    assert [set(tenants(begun[n : n + 3])) for n in range(0, 30, 3)] == [{"ann", "bob", "-"}] * 10
    for name in ("ann", "bob", "-"):
        assert [each for each in begun if each.startswith(name)] == [f"{name}.{n}" for n in range(10)]


@pytest.mark.parametrize("at_once", [True, False])
async def test_those_of_nobody_who_are_there_already_go_before_the_first_tenant(part: Partition, *, at_once: bool) -> None:
    await occupied(part)
    groups = jobs("-", 2, gates=held()), jobs("ann", 2, gates=held())
    if at_once:
        await part.send(*groups[0], *groups[1])
    else:
        await send(part, *groups)
    await leave(part, 1)
    assert tenants(await serve(part, 4, 1)) == ["-", "ann", "-", "ann"]


async def test_those_of_nobody_alone_keep_their_order_at_a_gate_of_a_queue_with_turns(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("-", 4, gates=held()), jobs("ann", 4))
    await leave(part, 1)
    begun = await serve(part, 8, 1)
    assert [each for each in begun if each.startswith("-")] == [f"-.{n}" for n in range(4)]


@pytest.mark.parametrize("capacity", [1, 10, 70, 500])
async def test_more_tenants_at_a_gate_than_one_look_divides_turns_among(part: Partition, capacity: int) -> None:
    names = [f"t{n:03}" for n in range(100)]
    await occupied(part, 50)
    await send(part, *(jobs(name, 3, gates=held()) for name in names))
    await leave(part, 50)
    served = Counter[str]()
    for name in tenants(await serve(part, 300, capacity)):
        served[name] += 1
        assert max(served.values()) - min(served[each] for each in names) <= 1, served
    assert sum(served.values()) == 300


async def test_priorities_come_first_at_a_gate_and_turns_are_within_them(part: Partition) -> None:
    await occupied(part)
    await send(
        part,
        *(jobs("ann", 4, gates=held()), jobs("-", 2, priority=9, gates=held()), jobs("-", 1, first=2, priority=0, gates=held())),
        *(jobs("bob", 4, priority=1, gates=held()), jobs("cid", 4, priority=1, gates=held())),
    )
    await leave(part, 1)
    begun = tenants(await serve(part, 15, 4))
    assert begun[0] == "-"
    assert [set(begun[n : n + 2]) for n in range(1, 9, 2)] == [{"bob", "cid"}] * 4
    assert begun[9:] == ["ann"] * 4 + ["-"] * 2


async def test_tenants_take_turns_at_a_gate_of_a_queue_with_aging(part: Partition) -> None:
    await declare(part, "aging q", 1_000)
    await occupied(part)
    await send(part, jobs("ann", 10, gates=held()), jobs("bob", 5, priority=7, gates=held()), jobs("cid", 5, priority=2, gates=held()))
    await leave(part, 1)
    assert Counter(tenants(await serve(part, 15, 4))) == {"ann": 5, "bob": 5, "cid": 5}


# -- what nobody owes, and nobody has saved up -----------------------------------------------------------------------------------------


async def test_one_who_cancels_its_backlog_at_a_gate_owes_nothing(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("ann", 200, gates=held()), jobs("bob", 60, gates=held()))
    await leave(part, 1)
    begun = await serve(part, 10, 1)
    assert Counter(tenants(begun)) == {"ann": 5, "bob": 5}
    waiting = [f"ann.{n}" for n in range(200) if f"ann.{n}" not in begun]
    assert set(await part.store.cancel(waiting, "ann")) == {1}
    assert set(tenants(await serve(part, 10, 1))) == {"bob"}
    await send(part, jobs("ann", 50, first=200, gates=held()))
    assert Counter(tenants(await serve(part, 20, 1))) == {"ann": 10, "bob": 10}


async def test_one_who_comes_later_to_a_gate_is_owed_nothing(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("ann", 100, gates=held()), jobs("bob", 100, gates=held()))
    await leave(part, 1)
    await serve(part, 40, 5)
    await part.claim(1, under="t1")
    await send(part, jobs("cid", 50, gates=held()))
    await part.store.expire_worker("w1", ["q"], died=False)
    assert abs(Counter(tenants(await serve(part, 30, 5)))["cid"] - 10) <= 1


async def test_one_who_comes_to_a_gate_in_the_claim_in_which_others_have_their_turns_is_owed_none_of_these(part: Partition) -> None:
    await declare(part, spec=6)
    await send(part, jobs("ann", 20, gates=held()), [job(f"first{n}", flow=held(), priority=0) for n in range(6)])
    assert len(ids(await part.claim(6, under="t0", worker="w0"))) == 6
    await send(part, jobs("bob", 20, gates=held()))
    assert [len(each) for each in await lanes(part)] == [36, 16], "bob waits at the gate, and ann has not come to it"
    await leave(part, 6)
    begun = ids(await part.claim(20, under="t1"))
    assert Counter(tenants(begun)) == {"ann": 3, "bob": 3}
    for each in begun:
        await part.settle(verdict(each, "c", b"1", under="t1"))
        begun = [*begun, *await claim(part, 1)]
        shares = Counter(tenants(begun))
        assert abs(shares["ann"] - shares["bob"]) <= 1, begun


@pytest.mark.parametrize("name", ["dan", "zoe"], ids=["a lane before his", "a lane behind his"])
async def test_one_who_sends_the_next_job_to_a_gate_when_the_last_one_began_gets_its_share_and_no_more(part: Partition, name: str) -> None:
    await occupied(part)
    await send(part, jobs("bob", 100, gates=held()))
    begun, token = list[str](), "t0"
    for n in range(40):
        await send(part, jobs(name, 1, first=n, gates=held()))
        await part.settle(verdict(begun[-1] if begun else "first0", "c", b"1", under=token), worker="w1" if begun else "w0")
        token = secrets.token_hex(4)
        begun += ids(await part.claim(1, under=token))
    assert abs(Counter(tenants(begun))["bob"] - 20) <= 1


async def test_tenants_who_have_left_a_gate_leave_nothing(part: Partition) -> None:
    names = [f"t{n}" for n in range(50)]
    await occupied(part)
    await send(part, *(jobs(name, 2, gates=held()) for name in names))
    await part.store.cancel([f"{name}.1" for name in names], "ann")
    await leave(part, 1)
    assert len(await serve(part, 100, 7)) == 50
    await part.claim(under="look")
    queue = (await part.state()).queues["q"]
    assert (queue.turns, queue.lines, queue.opens) == ({}, (), {})


async def test_a_thousand_who_cancelled_at_a_gate_hide_nobody(part: Partition) -> None:
    await occupied(part)
    for n in range(1_000):
        await part.send(*jobs(f"t{n}", 1, gates=held()))
    for first in range(0, 1_000, BATCH):
        await part.store.cancel([f"t{n}.0" for n in range(first, first + BATCH)], "ann")
    await send(part, jobs("bob", 1, gates=held()))
    await leave(part, 1)
    assert await serve(part, 10) == ["bob.0"]


async def test_one_whose_line_at_a_gate_is_long_leaves_those_who_wait_at_none_their_share(part: Partition) -> None:
    """The gate lets through as many as the worker has slots: whatever ends makes room for the next one of the same tenant."""
    await occupied(part, 10)
    await send(part, jobs("ann", 1_000, gates=held()), jobs("bob", 20), jobs("-", 20))
    await leave(part, 10)
    for capacity in (10, 1, 1, 3):
        await serve(part, 15, capacity)
    assert {name for name, places in (await part.state()).places().items() if places != ["completed"] and name[0] in "b-"} == set()


async def test_jobs_of_one_tenant_at_a_gate_and_at_none_share_its_turns(part: Partition) -> None:
    await occupied(part, 10)
    await send(part, jobs("ann", 50, gates=held()), jobs("ann", 50, first=50), jobs("bob", 50))
    await leave(part, 10)
    for capacity in (10, 3, 1):
        begun = await serve(part, 20, capacity)
        assert Counter(tenants(begun)) == {"ann": 10, "bob": 10}


# -- gates ---------------------------------------------------------------------------------------------------------------------------


async def test_turns_are_taken_at_each_of_two_gates(part: Partition) -> None:
    await declare(part)
    await declare(part, OTHER, 1)
    await part.send(job("one", flow=held()), job("other", flow=held(rule=OTHER)))
    assert len(ids(await part.claim(under="t0", worker="w0"))) == 2
    await send(
        part,
        *(jobs("ann", 20, gates=held()), jobs("ann", 20, first=20, gates=held(rule=OTHER))),
        *(jobs("bob", 4, gates=held()), jobs("bob", 4, first=20, gates=held(rule=OTHER))),
    )
    await part.settle(*(verdict(name, "c", b"1", under="t0") for name in ("one", "other")), worker="w0")
    begun = await serve(part, 16, 2)
    assert Counter((name[:3], int(name[4:]) >= 20) for name in begun) == {(who, at): 4 for who in ("ann", "bob") for at in (False, True)}


async def test_long_line_at_one_gate_leaves_those_at_another_their_share(part: Partition) -> None:
    await declare(part, KEYED, 10)
    for key in ("ann", "bob"):
        await pause(part, f"g{gate(key)}")
    await send(part, jobs("ann", 300, gates=held("ann")), jobs("bob", 20, gates=held("bob")))
    for key in ("ann", "bob"):
        await resume(part, f"g{gate(key)}")
    for capacity in (4, 2, 1):
        assert Counter(tenants(await serve(part, 12, capacity))) == {"ann": 6, "bob": 6}


async def test_one_who_has_to_pass_two_gates_gets_its_share_behind_both(part: Partition) -> None:
    """The jobs of `ann` wait at a key of hers, too, which lets two at a time through, before they come to the gate of all."""
    await declare(part, KEYED, 2)
    await declare(part, OTHER, 1)
    await part.send(job("first", flow=held(rule=OTHER)))
    assert ids(await part.claim(1, under="t0", worker="w0")) == ["first"]
    both = f"{held('ann')},{held(rule=OTHER)}"
    await send(part, jobs("ann", 30, gates=both), jobs("bob", 10, gates=held(rule=OTHER)), jobs("cid", 10, gates=held(rule=OTHER)))
    await part.settle(verdict("first", "c", b"1", under="t0"), worker="w0")
    assert Counter(tenants(await serve(part, 15, 3))) == {"ann": 5, "bob": 5, "cid": 5}


async def test_gate_that_is_paused_and_resumed_goes_on_by_turns(part: Partition) -> None:
    await declare(part, spec=6)
    await pause(part, f"g{gate()}")
    await send(part, jobs("ann", 300, gates=held()), jobs("bob", 20, gates=held()), jobs("cid", 20, gates=held()))
    assert await claim(part, 10) == []
    await resume(part, f"g{gate()}")
    assert set(await opens(part)) == {G}
    assert Counter(tenants(await claim(part, 100))) == {"ann": 2, "bob": 2, "cid": 2}


@pytest.mark.parametrize("cursor", ["", "half"])
async def test_limit_that_is_raised_marks_the_gate_and_not_the_lanes_of_tenants(part: Partition, cursor: str) -> None:
    await occupied(part)
    await send(part, *(jobs(f"t{n}", 2, gates=held()) for n in range(30)), jobs("-", 2, gates=held()))
    await set_limit(part, KEYED, 31)
    assert set(await opens(part)) == {G}
    await part.queue_key("DEL", "opens", "q")
    await part.store.control("sweep", KEYED, G if cursor else "", part.queues)
    assert set(await opens(part)) == {G}
    served = Counter(tenants(await claim(part, 100)))
    assert (sum(served.values()), max(served.values())) == (30, 1)


async def test_sweep_passes_a_gate_by_whatever_the_number_of_tenants_there(part: Partition) -> None:
    """600 tenants at one gate are one lane to a sweep, which looks at 500."""
    await occupied(part)
    await part.send(job("other", flow=held(2)))
    assert ids(await part.claim(under="t9", worker="w9")) == ["other"]
    for n in range(600):
        await part.send(*jobs(f"t{n}", 1, gates=held()))
    await send(part, jobs("bob", 1, gates=held(2)))
    await set_limit(part, KEYED, 3)
    assert set(await opens(part)) == {G, lane(gate(2))}
    assert f"{KEYED}~" not in (await part.state()).rules


async def test_one_who_asks_for_too_much_holds_back_those_behind_and_is_first(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("used", flow=rated(cost=6)))
    await part.claim(under="t0")
    await part.send(job("dear", flow=rated(cost=9) + ",tann"))
    part.now_ms += 1
    await send(part, jobs("bob", 3, gates=rated(cost=1)))
    assert await claim(part, 10) == [], "one that passed would let the first wait for ever"
    begun = await drain(part)
    assert next(name for _, name in begun) == "dear"


async def test_waiter_that_is_cancelled_or_expires_lets_the_next_one_be_looked_at(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("used", flow=rated(cost=6)))
    await part.claim(under="t0")
    await part.send(job("dear", flow=rated(cost=9) + ",tann"), job("late", flow=f"{rated(cost=9)},tann,x{part.now_ms + 500:.0f}"))
    await send(part, jobs("bob", 1, gates=rated(cost=1)))
    await part.store.cancel(["dear"], "ann")
    assert (await opens(part))[lane(gate(rule=RATED))] <= part.now_ms
    assert await claim(part, 10) == []
    part.now_ms += 500
    assert await claim(part, 10) == ["bob.0"]


async def test_nobody_overtakes_those_who_wait_at_a_gate_that_this_call_does_not_serve(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("ann", 2, gates=held()))
    await leave(part, 1)
    await send(part, jobs("bob", 1, gates=held()))
    state = await part.state()
    assert [state.place(name) for name in ("ann.0", "bob.0")] == ["lane:q"] * 2
    await send(part, jobs("cid", 1, gates=held(), priority=1))
    assert {waiter.lane for waiter in (await part.state()).queues["q"].lanes if waiter.id == "cid.0"} == {lane_of("cid", 1)[20:]}
    assert (await serve(part, 4, 1))[0] == "cid.0", "of a higher priority: it comes first"


async def test_nobody_overtakes_a_tenant_of_a_higher_priority_than_those_of_nobody_who_wait_there_too(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("-", 1, gates=held()), jobs("ann", 1, gates=held(), priority=1))
    await leave(part, 1)
    await send(part, jobs("ann", 1, first=1, gates=held(), priority=1), jobs("bob", 1, gates=held(), priority=3))
    waiting = {waiter.id: waiter.lane for waiter in (await part.state()).queues["q"].lanes}
    assert waiting["ann.1"] == lane_of("ann", 1)
    assert waiting["bob.0"] == lane_of("bob", 3)


async def test_job_that_comes_back_waits_for_its_tenants_turn_at_the_gate(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("ann", 10, gates=held()), jobs("bob", 10, gates=held()))
    await leave(part, 1)
    order: list[str] = []
    for n in range(20):
        [each] = ids(await part.claim(1, under=f"t{n}"))
        order += tenants([each])
        assert await part.settle(verdict(each, "r", b"{}", under=f"t{n}")) == [1]
    assert abs(Counter(order)["ann"] - 10) <= 1, order


async def test_job_of_a_tenant_at_a_gate_whose_actor_is_missing_goes_to_the_actors_lane_unpaid(part: Partition) -> None:
    await occupied(part, 4)
    await send(part, jobs("ann", 3, gates=held(), actor="rare"), jobs("bob", 3, gates=held()))
    await leave(part, 4)
    assert tenants(await claim(part, 10)) == ["bob"] * 3
    assert set(map(len, await lanes(part))) == {12}
    await part.register("w2", "rare")
    assert tenants(await claim(part, 10, worker="w2", actors=("rare",))) == ["ann"], "one place is left"


async def test_answer_that_is_lost_charges_nobody_twice_at_a_gate(part: Partition) -> None:
    await occupied(part, 10)
    await send(part, jobs("ann", 40, gates=held()), jobs("bob", 40, gates=held()))
    await leave(part, 10)
    claimed = ids(await part.claim_twice(10, under="t1"))
    assert Counter(tenants(claimed)) == {"ann": 5, "bob": 5}
    await part.settle(*(verdict(each, "c", b"1", under="t1") for each in claimed))
    assert Counter(tenants(await claim(part, 10))) == {"ann": 5, "bob": 5}


async def test_entries_that_a_broken_call_has_left_in_a_line_mislead_nobody(part: Partition) -> None:
    await occupied(part)
    await send(part, jobs("ann", 2, gates=held()), jobs("bob", 2, gates=held()))
    wrong = [f"{G}~\0{5 * 2**49 + time:016}\0{lane_of(who)[20:]}" for time, who in ((7, "ann"), (0, "bob"), (0, "nobody"))]
    await part.queue_key("ZADD", "lanes", "q", *(part_ for member in wrong for part_ in (0, member)))
    await leave(part, 1)
    assert Counter(tenants(await serve(part, 2))) == {"ann": 1, "bob": 1}
    assert len(await serve(part, 10)) == 2
    await part.claim(under="look")
    assert (await part.state()).queues["q"].lines == ()


async def test_job_that_a_broken_claim_has_left_in_two_lines_comes_back_when_it_is_due_and_not_before(part: Partition) -> None:
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        await declare(part, spec=1)
        await part.send(job("first", flow=held()), *jobs("ann", 1, gates=held()))
        assert ids(await part.claim(1, under="t0", worker="w0")) == ["first"]
        part.link.fail(scripts.CLAIM, at, resend=False)
        with suppress(RedisRefused):
            await part.claim(worker="w2", under="t1")
        has_broken = bool(part.link.broken_at)
        await part.settle(verdict("first", "c", b"1", under="t0"), worker="w0")
        [waiting] = ids(await part.claim(1, under="t2"))
        await part.settle(verdict(waiting, "r", b"1", under="t2", delay_ms=5_000))
        assert problems(await part.state()) == [], f"broken before command {at}"
        assert ids(await part.claim(under="t3")) == [], f"broken before command {at}"
        if not has_broken:
            return
    message = "the call never ran to its end"
    raise AssertionError(message)


# -- cost ----------------------------------------------------------------------------------------------------------------------------


async def commands_of_a_claim(part: Partition, capacity: int) -> int:
    """Return how many commands the server runs for one claim that is full, those of the script among them."""

    async def run() -> int:
        lines = (await part.store.command("INFO", "commandstats")).decode().splitlines()
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines if line.startswith("cmdstat_"))

    before, token = await run(), secrets.token_hex(4)
    claimed = ids(await part.claim(capacity, under=token))
    after = await run()
    assert len(claimed) == capacity
    await part.settle(*(verdict(each, "c", b"1", under=token) for each in claimed))
    return after - before


async def test_cost_of_a_claim_does_not_grow_with_the_jobs_or_the_tenants_at_its_gate(part: Partition) -> None:
    await occupied(part, 20)
    await send(part, *(jobs(f"few{n}", 20, gates=held()) for n in range(40)))
    await leave(part, 20)
    few = await commands_of_a_claim(part, 20)
    await part.claim(20, under="again")
    await send(part, *(jobs(f"few{n}", 500, first=20, gates=held()) for n in range(40)))
    for n in range(1_500):
        await part.send(*jobs(f"many{n}", 1, gates=held()))
    await part.store.expire_worker("w1", ["q"], died=False)
    many = [await commands_of_a_claim(part, 20) for _ in range(3)][-1]
    assert many <= 1.5 * few, f"{few} commands with 40 tenants, {many} with 1,540"
