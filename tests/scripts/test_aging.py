"""claim where priorities age: a job is overtaken by those alone that were sent less than a step later for each priority between them."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import fleet
from tests.scripts.gated import declare, held, pause, resume
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, on_a_partition, rank, verdict
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.scripts.partition import Partition

AGING_MS: Final = 1_000
EPOCH_MS: Final = 1_704_067_200_000


def aged(priority: int, ms: float) -> float:
    """Return the rank in a queue that ages: the time at which the job would be sent to be as urgent with priority 0."""
    return (ms - EPOCH_MS + priority * AGING_MS) * 256


async def ages(part: Partition, queue: str = "q") -> None:
    """Let the priorities of a queue age, as a worker's start does."""
    await declare(part, f"aging {queue}", str(AGING_MS))


async def order(part: Partition, **options: Any) -> list[str]:
    """Claim one by one until nothing is left."""
    found: list[str] = []
    while True:
        claimed = await part.claim(1, under=secrets.token_hex(4), **options)
        if not claimed.deliveries:
            return found
        found += ids(claimed)


# -- the order -------------------------------------------------------------------------------------------------------------------------


async def test_jobs_of_one_time_go_by_priority(part: Partition) -> None:
    await ages(part)
    await part.send(job("low", priority=9), job("mid"), job("high", priority=0))
    assert await order(part) == ["high", "mid", "low"]


@pytest.mark.parametrize(("later_ms", "first"), [(0, "urgent"), (8_999, "urgent"), (9_001, "old")])
async def test_old_job_is_overtaken_for_a_step_of_time_for_each_priority_and_no_longer(part: Partition, later_ms: int, first: str) -> None:
    await ages(part)
    await part.send(job("old", priority=9))
    part.now_ms += later_ms
    await part.send(job("urgent", priority=0))
    assert (await order(part))[0] == first


async def test_stream_of_urgent_jobs_does_not_starve_the_last_priority(part: Partition) -> None:
    await ages(part)
    await part.send(job("low", priority=9))
    begun: list[str] = []
    for n in range(100):
        await part.send(job(f"u{n:03}", priority=0))
        begun += ids(await part.claim(1, under=f"t{n}"))
        part.now_ms += 100
    assert begun.index("low") == 90, "it is as urgent as what is sent nine seconds later"


async def test_strict_queue_beside_it_is_as_before(part: Partition) -> None:
    await ages(part)
    await part.send(job("low", queue="p", priority=9), job("mid", queue="p"))
    part.now_ms += 3_600_000
    await part.send(job("high", queue="p", priority=0))
    assert (await part.state()).queues["p"].ready == {
        "low": rank(9, START_MS),
        "mid": rank(5, START_MS),
        "high": rank(0, START_MS + 3_600_000),
    }
    assert await order(part, queues=("p",)) == ["high", "mid", "low"]
    state = await part.state()
    assert {state.run(name).flow for name in ("low", "mid", "high")} == {"-"}


async def test_jobs_are_stored_by_their_aged_rank(part: Partition) -> None:
    await ages(part)
    await part.send("mid", job("low", priority=9), job("high", priority=0))
    assert (await part.state()).queues["q"].ready == {
        "mid": aged(5, START_MS), "low": aged(9, START_MS), "high": aged(0, START_MS),
    }  # fmt: skip


# -- what the worker hears ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [None, 0, 5, 9])
async def test_worker_hears_the_strict_rank(part: Partition, priority: int | None) -> None:
    await ages(part)
    await part.send(job("j1", priority=priority))
    (delivery,) = (await part.claim()).deliveries
    assert float(delivery.rank) == rank(5 if priority is None else priority, START_MS)


@pytest.mark.parametrize("priority", [None, 2])
async def test_rank_of_a_repeated_claim_is_the_same(part: Partition, priority: int | None) -> None:
    await ages(part)
    await part.send(job("j1", priority=priority))
    (delivery,) = (await part.claim_twice()).deliveries
    assert float(delivery.rank) == rank(5 if priority is None else priority, START_MS)


# -- priority is kept ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [0, 4, 5, 9])
async def test_delayed_job_ranks_by_its_priority_when_it_is_due(part: Partition, priority: int) -> None:
    await ages(part)
    await part.send(job("j1", priority=priority, when="+700"))
    part.now_ms += 2_000
    await part.store.tick(["q"])
    assert (await part.state()).queues["q"].ready == {"j1": aged(priority, START_MS + 700)}
    (delivery,) = (await part.claim()).deliveries
    assert float(delivery.rank) == rank(priority, START_MS + 700)


@pytest.mark.parametrize("priority", [0, 5, 9])
@pytest.mark.parametrize("code", ["r", "s"])
async def test_retried_job_keeps_its_priority(part: Partition, priority: int, code: str) -> None:
    await ages(part)
    await part.send(job("j1", priority=priority))
    for n, due in enumerate((1_000, 3_000)):
        await part.claim(under=f"t{n}")
        await part.settle(verdict("j1", code, b"{}", under=f"t{n}", delay_ms=int(START_MS + due - part.now_ms)))
        part.now_ms = START_MS + due
    (delivery,) = (await part.claim(under="last")).deliveries
    assert float(delivery.rank) == rank(priority, START_MS + 3_000)


@pytest.mark.parametrize("priority", [0, 5, 9])
@pytest.mark.parametrize("how", ["died", "released", "lease ended", "handed back"])
async def test_job_that_comes_back_stands_where_it_stood(part: Partition, priority: int, how: str) -> None:
    await ages(part)
    await part.send(job("j1", priority=priority))
    before = (await part.state()).queues["q"].ready
    await part.claim()
    if how == "lease ended":
        part.now_ms += LEASE_MS
        await part.store.tick(["q"])
    elif how == "handed back":
        await part.settle(verdict("j1", "x", words=("", "")))
    else:
        await part.store.expire_worker("w1", ["q"], died=how == "died")
    assert (await part.state()).queues["q"].ready == before
    (delivery,) = (await part.claim(under="t2")).deliveries
    assert float(delivery.rank) == rank(priority, START_MS)


async def test_lanes_keep_the_aged_order(part: Partition) -> None:
    await ages(part)
    await declare(part)
    await pause(part, "aa")
    await part.send(job("low", priority=9), job("gated", priority=2, flow=held()))
    await part.claim(actors=("b",))
    await part.claim()
    part.now_ms += 8_500
    await part.send(job("late", priority=0), job("later", priority=1))
    await part.claim(under="t2")
    await resume(part, "aa")
    assert await order(part) == ["gated", "late", "low", "later"]
    for name, priority, ms in (("low", 9, 0), ("gated", 2, 0), ("late", 0, 8_500)):
        assert (await part.state()).run(name).rank == aged(priority, START_MS + ms)


async def test_tenants_take_turns_whatever_the_priority_and_age_within(part: Partition) -> None:
    await ages(part)
    await part.send(*(job(f"ann.{n}", priority=0, flow="tann") for n in range(4)), *(job(f"bob.{n}", flow="tbob") for n in range(4)))
    await part.send(job("bob.x", priority=3, flow="tbob"))
    found = await order(part)
    assert Counter(name[:3] for name in found[:6]) == {"ann": 3, "bob": 3}
    assert [name for name in found if name.startswith("bob")] == ["bob.x", *(f"bob.{n}" for n in range(4))]


# -- the bound ---------------------------------------------------------------------------------------------------------------------------


@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(0, 9), st.sampled_from(["send", "send", "send", "claim", "lose"])),
        min_size=15,
        max_size=40,
    )
)
def test_nobody_is_overtaken_by_one_who_was_sent_a_step_later_for_each_priority_between(
    server_url: str, arrivals: list[tuple[int, int, str]]
) -> None:
    """A job that begins while another waits was sent less than (its own advantage in priorities) steps after it."""
    on_a_partition(server_url, lambda part: overtake(part, arrivals))


async def overtake(part: Partition, arrivals: Sequence[tuple[int, int, str]]) -> None:
    """Send and claim; check each job that begins against all that wait."""
    await ages(part)
    waiting: dict[str, tuple[float, int]] = {}
    running: dict[str, tuple[float, int]] = {}

    async def begin() -> bool:
        claimed = ids(await part.claim(1, under=secrets.token_hex(4), lease_ms=10**9))
        for name in claimed:
            sent_ms, priority = running[name] = waiting.pop(name)
            for other_ms, other in waiting.values():
                assert sent_ms - other_ms <= (other - priority) * AGING_MS, (name, waiting)
        return bool(claimed)

    for n, (pause_ms, priority, what) in enumerate(arrivals):
        part.now_ms += pause_ms
        if what == "send":
            waiting[f"j{n:02}"] = (part.now_ms, priority)
            await part.send(job(f"j{n:02}", priority=priority))
        elif what == "claim":
            await begin()
        else:
            await part.store.expire_worker("w1", ["q"], died=False)  # those whose worker died let others pass
            waiting |= running
            running.clear()
    while await begin():
        pass
    assert not waiting
    assert problems(await part.state()) == []


# -- what the figures tell of it ------------------------------------------------------------------------------------------------------


async def oldest_ms(part: Partition, queue: str = "q") -> float | None:
    """Return for how long the oldest ready job has waited, as the fleet's figures say."""
    return next(depth.oldest_ready_ms for depth in (await fleet.stats(part.store)).queues if depth.queue == queue)


@pytest.mark.parametrize("ageing", [True, False])
async def test_oldest_ready_job_is_told_whatever_its_priority_and_its_place_in_line(part: Partition, *, ageing: bool) -> None:
    if ageing:
        await ages(part)
    await part.send(job("low", priority=9))
    part.now_ms += 500
    assert await oldest_ms(part) == 500
    await part.send(job("mid"))
    part.now_ms += 500
    await part.send(job("high", priority=0))
    part.now_ms += 250
    assert await oldest_ms(part) == 1_250, "it is the last in line"
    assert ids(await part.claim(2)) == ["high", "mid"]
    assert await oldest_ms(part) == 1_250
    await part.claim(under="t2")
    assert await oldest_ms(part) is None


async def test_job_sent_before_its_queue_aged_is_the_oldest(part: Partition) -> None:
    await part.send(job("before", priority=2))
    await ages(part)
    part.now_ms += 700
    await part.send("after")
    part.now_ms += 300
    assert await oldest_ms(part) == 1_000
