"""Rates: tokens are taken at the claim, count for a whole window, and whoever waits for them is let through when they suffice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from tests.scripts.gated import (
    LATEST_MS,
    RATED,
    SLICE_MS,
    WINDOW_MS,
    beyond,
    complete,
    declare,
    drain,
    gate,
    gate_problems,
    lane,
    lanes,
    opens,
    pause,
    rate,
    rated,
    resume,
    set_limit,
)
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, verdict
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripts.partition import Partition

A = lane(gate("A", RATED))
COMMANDS_MAX: Final = 100


@pytest.fixture(autouse=True)
async def gates_hold(part: Partition) -> AsyncIterator[None]:
    """Check after each test that no lane whose time comes is without its mark."""
    yield
    assert await gate_problems(part) == []


async def state_of(part: Partition, where: str = A) -> str | None:
    """Return what is stored of a gate."""
    stored = await part.key("HGET", "gates", where)
    return None if stored is None else stored.decode()


async def send_rated(part: Partition, number: int, cost: int | None = None, name: str = "j") -> None:
    """Send jobs of one gate."""
    await part.send(*(job(f"{name}{n}", flow=rated("A", cost=cost)) for n in range(number)))


# -- tokens ---------------------------------------------------------------------------------------------------------------------------


async def test_so_many_begin_at_once_and_the_next_when_the_first_token_comes_back(part: Partition) -> None:
    await declare(part, RATED, rate(3))
    await send_rated(part, 5)
    claimed = await part.claim()
    assert await complete(part, claimed) == ["j0", "j1", "j2"]
    assert await lanes(part) == {A: ["j3", "j4"]}
    assert START_MS + WINDOW_MS < claimed.next_due_ms <= START_MS + LATEST_MS, "the worker hears when it is worth coming again"
    part.now_ms = START_MS + WINDOW_MS
    assert ids(await part.claim(under="t2")) == []
    part.now_ms = claimed.next_due_ms - 1
    assert ids(await part.claim(under="t3")) == []
    part.now_ms = claimed.next_due_ms
    assert ids(await part.claim(under="t4")) == ["j3", "j4"]


async def test_sent_to_a_gate_without_tokens_a_job_is_parked_with_the_time_at_which_they_suffice(part: Partition) -> None:
    await declare(part, RATED, rate(2))
    await send_rated(part, 2)
    await part.claim()
    part.now_ms += 1_000
    await part.take_marker()
    await part.send(job("late", flow=rated("A")))
    assert await lanes(part) == {A: ["late"]}
    due = (await opens(part))[A]
    assert START_MS + WINDOW_MS < due <= START_MS + LATEST_MS
    assert await part.take_marker(), "a worker must hear of the new time to look"
    await part.send(job("later", flow=rated("A")))
    assert not await part.take_marker(), "nothing is sooner than it was"


async def test_tick_wakes_a_worker_when_tokens_suffice(part: Partition) -> None:
    await declare(part, RATED, rate(1))
    await send_rated(part, 2)
    await complete(part, await part.claim())
    await part.take_marker()
    due = (await opens(part))[A]
    assert (await part.store.tick(["q"]))[1] == due
    assert not await part.take_marker()
    part.now_ms = due
    await part.store.tick(["q"])
    assert await part.take_marker()


async def test_tokens_are_not_given_back_by_the_end_of_a_run(part: Partition) -> None:
    await declare(part, RATED, rate(1))
    await send_rated(part, 2)
    assert await complete(part, await part.claim()) == ["j0"]
    part.now_ms += WINDOW_MS - 1
    assert ids(await part.claim(under="t2")) == []


@pytest.mark.parametrize("end", ["retry", "snooze", "lost"])
async def test_each_run_takes_its_tokens_anew(part: Partition, end: str) -> None:
    await declare(part, RATED, rate(1))
    await send_rated(part, 1)
    assert ids(await part.claim(lease_ms=1_000)) == ["j0"]
    if end != "lost":
        await part.settle(verdict("j0", end[0], b"{}"))
    part.now_ms += 1_000
    assert ids(await part.claim(under="t2")) == []
    part.now_ms = START_MS + LATEST_MS
    assert ids(await part.claim(under="t3")) == ["j0"]


async def test_gates_of_other_values_are_not_touched(part: Partition) -> None:
    await declare(part, RATED, rate(1))
    await part.send(*(job(f"j{n}", flow=rated(n)) for n in range(3)), job("z", flow=rated(0)))
    assert ids(await part.claim()) == ["j0", "j1", "j2"]


async def test_two_windows_hold_together(part: Partition) -> None:
    """At most two in ten seconds, and at most three in a minute."""
    minute = "a.key/60s@q"
    await declare(part, RATED, rate(2))
    await declare(part, minute, rate(3, window_ms=60_000))
    await part.send(*(job(f"j{n}", flow=f"{rated('A')},{rated('A', minute)}") for n in range(4)))
    begun = await drain(part)
    waits = [ms - START_MS for ms, _ in begun]
    assert [job_id for _, job_id in begun] == ["j0", "j1", "j2", "j3"]
    assert waits[:2] == [0, 0]
    assert WINDOW_MS < waits[2] <= LATEST_MS
    assert 60_000 < waits[3] <= 60_000 * (1 + 2 / 64)


# -- costs ----------------------------------------------------------------------------------------------------------------------------


async def test_job_begins_when_its_whole_cost_is_there(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("j0", flow=rated("A", cost=6)), job("j1", flow=rated("A", cost=5)))
    assert ids(await part.claim()) == ["j0"]
    part.now_ms = (await opens(part))[A]
    assert part.now_ms > START_MS + WINDOW_MS
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_cheap_job_does_not_overtake_a_dear_one_that_waits(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("a0", flow=rated("A", cost=6)), job("dear", flow=rated("A", cost=9)))
    await complete(part, await part.claim())
    part.now_ms += 1
    await part.send(job("cheap", flow=rated("A", cost=1)))
    assert [job_id for _, job_id in await drain(part)] == ["dear", "cheap"]


async def test_cheap_job_that_comes_due_does_not_overtake_a_dear_one_whose_lane_was_looked_at_in_vain(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("a0", flow=rated("A", cost=6)), job("dear", flow=rated("A", cost=9)))
    assert ids(await part.claim()) == ["a0"]
    await part.send(job("cheap", flow=rated("A", cost=1), when="+10"))
    part.now_ms += 10
    await part.settle(verdict("a0", "c", b"1", gates="u5"))
    assert ids(await part.claim(under="t2")) == []
    assert [job_id for _, job_id in await drain(part)] == ["dear", "cheap"]


async def test_urgent_job_for_which_tokens_suffice_does_not_wait_for_a_dear_one_behind_it(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("a0", flow=rated("A", cost=6)), job("dear", flow=rated("A", cost=9)))
    assert await complete(part, await part.claim()) == ["a0"]
    await part.send(job("urgent", flow=rated("A", cost=4), priority=0))
    assert await complete(part, await part.claim(under="t2"), "t2") == ["urgent"]
    assert [job_id for _, job_id in await drain(part)] == ["dear"]


async def test_unused_tokens_come_back_at_once(part: Partition) -> None:
    await declare(part, RATED, rate(1_000))
    await part.send(job("j0", flow=rated("A", cost=1_000)), job("j1", flow=rated("A", cost=260)))
    assert ids(await part.claim()) == ["j0"]
    await part.take_marker()
    part.now_ms += 10
    await part.settle(verdict("j0", "c", b"1", gates="u740"))
    assert await part.take_marker()
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_tokens_come_back_once_however_often_the_settle_is_sent(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("j00", flow=rated("A", cost=10)), *(job(f"j{n:02}", flow=rated("A")) for n in range(1, 12)))
    await part.claim()
    for expected in (1, 2, 2):
        assert await part.settle(verdict("j00", "c", b"1", gates="u6")) == [expected]
    assert ids(await part.claim(under="t2")) == ["j01", "j02", "j03", "j04"]


async def test_tokens_used_beyond_the_cost_are_charged(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("j0", flow=rated("A", cost=2)))
    await part.claim()
    await part.settle(verdict("j0", "c", b"1", gates="u10"))
    await part.send(job("j1", flow=rated("A", cost=1)))
    assert ids(await part.claim(under="t2")) == []
    part.now_ms += LATEST_MS
    assert ids(await part.claim(under="t3")) == ["j1"]


async def test_used_tokens_are_no_matter_of_a_gate_that_counts_jobs(part: Partition) -> None:
    await declare(part, RATED, rate(2))
    await send_rated(part, 3)
    await part.claim()
    await part.settle(verdict("j0", "c", b"1", gates="u0"))
    assert ids(await part.claim(under="t2")) == []


@pytest.mark.parametrize("code", ["f", "r", "k"])
async def test_unused_tokens_come_back_however_the_run_ends(part: Partition, code: str) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("j0", flow=rated("A", cost=10)), job("j1", flow=rated("A", cost=9)))
    await part.claim()
    await part.settle(verdict("j0", code, b"{}", gates="u1", delay_ms=60_000))
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_run_that_had_not_begun_gives_its_tokens_back(part: Partition) -> None:
    await declare(part, RATED, rate(1))
    await send_rated(part, 1)
    await part.claim()
    part.now_ms += 2 * SLICE_MS
    await part.settle(verdict("j0", "x", words=("", "")))
    assert ids(await part.claim(worker="w2", under="t2")) == ["j0"]


async def test_job_that_costs_more_than_a_lowered_limit_waits_until_it_is_raised(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await set_limit(part, RATED, rate(5))
    await part.send(job("j0", flow=rated("A", cost=8)))
    part.now_ms += 10 * WINDOW_MS
    assert (await part.claim()).next_due_ms == -1
    assert await lanes(part) == {beyond(8): ["j0"]}
    await set_limit(part, RATED, "")
    assert ids(await part.claim(under="t2")) == ["j0"]


async def waiting_beyond_its_limit(part: Partition) -> None:
    """Let dear jobs wait in line with cheap ones behind them, and lower the limit below their cost."""
    await declare(part, RATED, rate(10))
    await part.send(job("a0", flow=rated("A", cost=10)))
    assert await complete(part, await part.claim()) == ["a0"]
    part.now_ms += 1
    await part.send(*(job(name, flow=rated("A", cost=cost)) for name, cost in (("b8", 8), ("c7", 7), ("d1", 1), ("e5", 5))))
    await set_limit(part, RATED, rate(5))


async def test_job_that_costs_more_than_a_lowered_limit_stands_in_nobodys_way(part: Partition) -> None:
    await waiting_beyond_its_limit(part)
    await part.send(job("f8", flow=rated("A", cost=8)), job("g1", flow=rated("B")))
    assert [job_id for _, job_id in await drain(part)] == ["g1", "d1", "e5"]
    assert await lanes(part) == {beyond(8): ["b8", "f8"], beyond(7): ["c7"]}


async def test_raised_a_little_the_limit_lets_those_through_that_cost_no_more(part: Partition) -> None:
    await waiting_beyond_its_limit(part)
    await drain(part)
    part.now_ms += LATEST_MS
    await set_limit(part, RATED, rate(7))
    assert [job_id for _, job_id in await drain(part)] == ["c7"]
    assert await lanes(part) == {beyond(8): ["b8"]}
    part.now_ms += LATEST_MS
    await part.send(job("h9", flow=rated("A", cost=9)))
    await set_limit(part, RATED, "")
    assert [job_id for _, job_id in await drain(part)] == ["b8", "h9"]


async def test_job_beyond_its_limit_is_cancelled_like_any_that_waits(part: Partition) -> None:
    await waiting_beyond_its_limit(part)
    await drain(part)
    assert await part.store.cancel(["b8", "c7"], "ann") == [1, 1]
    assert await lanes(part) == {}


async def test_pause_of_the_key_holds_a_job_whose_limit_is_raised_meanwhile(part: Partition) -> None:
    await waiting_beyond_its_limit(part)
    await drain(part)
    part.now_ms += LATEST_MS
    await pause(part, f"g{gate('A', RATED)}")
    await set_limit(part, RATED, "")
    assert ids(await part.claim(under="t2")) == []
    await resume(part, f"g{gate('A', RATED)}")
    assert [job_id for _, job_id in await drain(part)] == ["b8", "c7"]


# -- bursts ---------------------------------------------------------------------------------------------------------------------------


async def test_burst_is_taken_at_once_and_the_rest_at_an_even_pace(part: Partition) -> None:
    """Ten in ten seconds, two at once: two, then one each second."""
    await declare(part, RATED, rate(10, burst=2))
    await send_rated(part, 6)
    assert [ms - START_MS for ms, _ in await drain(part)] == [0, 0, 1_000, 2_000, 3_000, 4_000]


async def test_burst_is_whole_again_after_a_quiet_time_and_no_larger(part: Partition) -> None:
    await declare(part, RATED, rate(10, burst=2))
    await send_rated(part, 2)
    await complete(part, await part.claim())
    part.now_ms += 2_000
    await send_rated(part, 5, name="k")
    assert len(await complete(part, await part.claim(under="t2"), "t2")) == 2
    part.now_ms += 6 * WINDOW_MS
    assert len(await complete(part, await part.claim(under="t3"), "t3")) == 2


async def test_cost_over_the_burst_waits_for_the_whole_burst_and_is_paid_after(part: Partition) -> None:
    await declare(part, RATED, rate(10, burst=2))
    await part.send(job("dear", flow=rated("A", cost=5)), job("next", flow=rated("A")))
    assert [(ms - START_MS, job_id) for ms, job_id in await drain(part)] == [(0, "dear"), (4_000, "next")]


async def test_limit_holds_in_every_window_beside_the_burst(part: Partition) -> None:
    await declare(part, RATED, rate(10, burst=5))
    await send_rated(part, 40)
    begun = [ms for ms, _ in await drain(part)]
    assert all(sum(ms <= other < ms + WINDOW_MS for other in begun) <= 10 for ms in begun)


async def test_rate_that_is_used_up_brings_nearly_all_of_its_number(part: Partition) -> None:
    await declare(part, RATED, rate(20))
    await send_rated(part, 200)
    begun = await drain(part)
    assert len(begun) == 200
    assert begun[-1][0] - START_MS <= 9 * WINDOW_MS / 0.96


# -- holding back ---------------------------------------------------------------------------------------------------------------------


async def test_retry_that_holds_the_gate_holds_everybody_as_long(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await send_rated(part, 3)
    assert ids(await part.claim(1)) == ["j0"]
    await part.settle(verdict("j0", "r", b"{}", gates="h", delay_ms=60_000))
    await part.send(job("new", flow=rated("A")), job("other", flow=rated("B")))
    assert await complete(part, await part.claim(under="t2"), "t2") == ["other"]
    begun = await drain(part)
    assert {job_id for _, job_id in begun} == {"j0", "j1", "j2", "new"}
    assert {ms for ms, _ in begun} == {START_MS + 60_000}


async def test_shorter_hold_does_not_shorten_a_longer_one(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await send_rated(part, 3)
    await part.claim(2)
    await part.settle(verdict("j0", "r", b"{}", gates="h", delay_ms=60_000))
    await part.settle(verdict("j1", "r", b"{}", gates="h", delay_ms=1_000))
    assert {ms for ms, _ in await drain(part)} == {START_MS + 60_000}


async def test_gate_whose_rule_nobody_declared_can_be_held(part: Partition) -> None:
    await send_rated(part, 2)
    await part.claim(1)
    await part.settle(verdict("j0", "r", b"{}", gates="h", delay_ms=5_000))
    assert {ms for ms, _ in await drain(part)} == {START_MS + 5_000}


async def test_hold_says_nothing_once_it_has_passed(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await send_rated(part, 1)
    await part.claim()
    await part.settle(verdict("j0", "r", b"{}", gates="h", delay_ms=1_000))
    part.now_ms += 1_000
    await part.send(job("new", flow=rated("A")))
    assert sorted(ids(await part.claim(under="t2"))) == ["j0", "new"]


# -- limits that change, outages, sweeping -------------------------------------------------------------------------------------------


async def test_raised_limit_lets_those_who_wait_through_at_once(part: Partition) -> None:
    await declare(part, RATED, rate(2))
    await send_rated(part, 5)
    await complete(part, await part.claim())
    await part.take_marker()
    await set_limit(part, RATED, rate(4))
    assert await part.take_marker()
    assert ids(await part.claim(under="t2")) == ["j2", "j3"], "two of the four were taken before"


async def test_lowered_limit_counts_what_was_taken_before(part: Partition) -> None:
    await declare(part, RATED, rate(4))
    await send_rated(part, 3)
    await complete(part, await part.claim())
    await set_limit(part, RATED, rate(2))
    await part.send(job("new", flow=rated("A")))
    part.now_ms += WINDOW_MS - 1
    assert ids(await part.claim(under="t2")) == []
    part.now_ms = START_MS + LATEST_MS
    assert ids(await part.claim(under="t3")) == ["new"]


async def test_after_an_outage_of_all_workers_no_more_begin_than_the_limit(part: Partition) -> None:
    await declare(part, RATED, rate(3))
    for n in range(12):
        await part.send(job(f"j{n}", flow=rated("A")))
        part.now_ms += WINDOW_MS
    assert ids(await part.claim()) == ["j0", "j1", "j2"]


async def test_state_of_an_idle_gate_is_forgotten_when_it_says_nothing_any_more(part: Partition) -> None:
    await declare(part, RATED, rate(3))
    await send_rated(part, 1)
    await complete(part, await part.claim())
    part.now_ms = START_MS + WINDOW_MS
    await part.settle()
    assert await state_of(part) is not None, "the token still counts"
    part.now_ms = START_MS + LATEST_MS
    await part.settle()
    assert await state_of(part) is None
    assert await part.key("ZCARD", "gates_void") == 0


async def test_state_of_a_gate_that_is_held_back_is_kept_as_long(part: Partition) -> None:
    await declare(part, RATED, rate(3))
    await send_rated(part, 1)
    await part.claim()
    await part.settle(verdict("j0", "r", b"{}", gates="h", delay_ms=5 * WINDOW_MS))
    part.now_ms += 5 * WINDOW_MS - 1
    await part.settle()
    assert await state_of(part) is not None
    part.now_ms += 1
    await part.settle()
    assert await state_of(part) is None


async def test_state_of_a_gate_stays_small_at_the_highest_rate(part: Partition) -> None:
    await declare(part, RATED, rate(1_000_000))
    for n in range(200):
        await part.send(job(f"j{n}", flow=rated("A", cost=7)))
        await complete(part, await part.claim(under=f"t{n}"), f"t{n}")
        part.now_ms += 61
    stored = await state_of(part)
    assert stored is not None
    assert len(stored) < 2_000
    assert stored.count(":") <= 66


async def test_lease_that_outlives_the_window_changes_nothing_when_it_ends(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("j0", flow=rated("A", cost=10)))
    await part.claim(lease_ms=10 * LEASE_MS)
    part.now_ms += 2 * WINDOW_MS
    await part.send(job("j1", flow=rated("A", cost=10)))
    await part.claim(under="t2")
    await part.settle(verdict("j0", "c", b"1", gates="u1"))
    await part.send(job("j2", flow=rated("A", cost=1)))
    assert ids(await part.claim(under="t3")) == [], "what comes back is of a window that has passed"


async def test_claim_that_breaks_off_and_comes_again_leaves_no_state_of_a_rate_for_ever(part: Partition) -> None:
    """The first call has taken the only token, so that the second finds the gate closed, and writes nothing of it."""
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        await declare(part, RATED, rate(1))
        await part.send(job("j1", flow=rated()))
        part.link.fail(scripts.CLAIM, at)
        await part.claim()
        has_broken = bool(part.link.broken_at)
        part.link.fail(scripts.CLAIM)
        assert problems(await part.state()) == [], f"broken before command {at}"
        if not has_broken:
            return
    message = "the call never ran to its end"
    raise AssertionError(message)
