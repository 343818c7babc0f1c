"""expires: what was not begun in time ends as cancelled, wherever it waits; what has begun does not expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt.views import read_outcome, why_cancelled
from tests.scripts.gated import complete, declare, gate_problems, held, holders, lanes, pause, resume
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition

TIME_MS = 5_000
DUE_MS = START_MS + TIME_MS
EXPIRES = f"x{DUE_MS:.0f}"


@pytest.fixture(autouse=True)
async def gates_hold(part: Partition) -> AsyncIterator[None]:
    """Check after each test that every job that may expire is watched, and no other."""
    yield
    assert await gate_problems(part) == []


async def counted(part: Partition) -> tuple[int, int]:
    """Return how many ended as cancelled, and how many of these expired."""
    stats = (await part.state()).stats
    cancelled, expired = (sum(n for field, n in stats.items() if field.endswith(f"|{word}")) for word in ("cancelled", "expired"))
    return cancelled, expired


async def assert_expired(part: Partition, job_id: str = "j1") -> None:
    """Check that a job ended as one that expired."""
    state = await part.state()
    assert state.place(job_id) == "cancelled"
    assert job_id not in state.queues["q"].expires
    run, _ = read_outcome(state.results[job_id])
    assert why_cancelled(run.flow) == "was cancelled: it had not begun before it expired"


def mortal(job_id: str = "j1", *more: str, when: str = "", actor: str = "a", priority: int | None = None) -> NewJob:
    """Return a job that expires."""
    return job(job_id, flow=",".join([*more, EXPIRES]), when=when, actor=actor, priority=priority)


# -- in time and too late -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late_ms", [0, 1, 60_000])
async def test_what_was_not_begun_in_time_is_not_begun(part: Partition, late_ms: int) -> None:
    await part.send(mortal())
    part.now_ms = DUE_MS + late_ms
    assert ids(await part.claim()) == []
    await assert_expired(part)
    assert await counted(part) == (1, 1)


async def test_what_is_begun_in_time_runs_as_long_as_it_likes(part: Partition) -> None:
    await part.send(mortal())
    part.now_ms = DUE_MS - 1
    claimed = await part.claim()
    assert ids(claimed) == ["j1"]
    part.now_ms += 10_000
    await part.store.tick(["q"])
    assert (await part.state()).place("j1") == "leased:q"
    await complete(part, claimed)
    assert await counted(part) == (0, 0)


async def test_tick_ends_what_expires_without_any_claim(part: Partition) -> None:
    await part.send(mortal())
    part.now_ms = DUE_MS
    await part.store.tick(["q"])
    await assert_expired(part)


async def test_worker_hears_when_the_next_job_expires(part: Partition) -> None:
    await pause(part, "qq")
    await part.send(mortal("j1"), job("j2", flow=f"x{DUE_MS + 1000:.0f}"))
    assert await part.take_marker(), "a worker that sleeps must hear of a time that is sooner"
    assert (await part.claim()).next_due_ms == DUE_MS
    part.now_ms = DUE_MS
    assert (await part.store.tick(["q"]))[1] == DUE_MS + 1_000


# -- wherever it waits ----------------------------------------------------------------------------------------------------------------


async def test_delayed_job_expires_before_it_is_due(part: Partition) -> None:
    await part.send(mortal(when=f"+{2 * TIME_MS}", priority=2))
    part.now_ms = DUE_MS
    await part.store.tick(["q"])
    await assert_expired(part)
    assert (await part.state()).queues["q"].delayed == {}


async def test_job_that_comes_due_when_it_expires_is_not_begun(part: Partition) -> None:
    await part.send(mortal(when=f"+{TIME_MS}"))
    part.now_ms = DUE_MS
    assert ids(await part.claim()) == []
    await assert_expired(part)


async def test_job_in_a_gates_lane_expires_and_the_next_one_is_served(part: Partition) -> None:
    await declare(part)
    await part.send(job("first", flow=held("A")))
    await part.claim(under="t0", worker="w0")
    await part.send(mortal("j1", held("A")), job("j2", flow=held("A")))
    part.now_ms = DUE_MS
    await part.store.tick(["q"])
    await assert_expired(part)
    await part.settle(verdict("first", "c", b"1", under="t0"), worker="w0")
    assert ids(await part.claim()) == ["j2"]


async def test_first_in_an_open_lane_expires_and_the_free_place_serves_the_next(part: Partition) -> None:
    await declare(part)
    await part.send(job("first", flow=held("A")))
    await part.claim(under="t0", worker="w0")
    await part.send(mortal("j1", held("A")), job("j2", flow=held("A")))
    await part.settle(verdict("first", "c", b"1", under="t0"), worker="w0")
    part.now_ms = DUE_MS
    assert ids(await part.claim()) == ["j2"]
    await assert_expired(part)
    assert await lanes(part) == {}


async def test_job_in_its_actors_lane_expires(part: Partition) -> None:
    await part.send(mortal(actor="rare"))
    await part.claim()
    part.now_ms = DUE_MS
    await part.store.tick(["q"])
    await assert_expired(part)
    assert ids(await part.claim(under="t2", actors=("rare",))) == []


async def test_job_of_a_paused_queue_expires(part: Partition) -> None:
    await pause(part, "qq")
    await part.send(mortal())
    part.now_ms = DUE_MS
    await part.claim()
    await assert_expired(part)
    await resume(part, "qq")


# -- what has begun, and what was only claimed ----------------------------------------------------------------------------------------


async def test_job_that_was_claimed_ahead_and_handed_back_expires_as_before(part: Partition) -> None:
    await part.send(mortal())
    await part.claim()
    assert (await part.state()).queues["q"].expires == {}
    await part.settle(verdict("j1", "x", words=("", "")))
    assert (await part.state()).queues["q"].expires == {"j1": DUE_MS}
    part.now_ms = DUE_MS
    assert ids(await part.claim(under="t2")) == []
    await assert_expired(part)


async def test_job_that_was_claimed_ahead_and_handed_back_too_late_is_not_begun(part: Partition) -> None:
    await part.send(mortal())
    await part.claim()
    part.now_ms = DUE_MS + 1
    await part.settle(verdict("j1", "x", words=("", "")))
    assert ids(await part.claim(under="t2")) == []
    await assert_expired(part)


async def test_job_that_got_its_gates_from_the_worker_expires_as_before(part: Partition) -> None:
    await declare(part)
    await part.send(mortal())
    await part.claim()
    await part.settle(verdict("j1", "w", f"{held('A')},{EXPIRES}".encode(), words=("", "")))
    assert (await part.state()).queues["q"].expires == {"j1": DUE_MS}
    claimed = await part.claim(under="t2")
    assert ids(claimed) == ["j1"]
    assert len(await holders(part)) == 1


async def test_run_that_began_in_time_and_was_handed_back_does_not_expire(part: Partition) -> None:
    """Its worker was told to leave in the middle: the job had begun, and goes on elsewhere."""
    await part.send(mortal())
    await part.claim()
    part.now_ms = DUE_MS + 1
    await part.settle(verdict("j1", "x"))
    assert ids(await part.claim(under="t2")) == ["j1"]


@pytest.mark.parametrize("code", ["r", "s"])
async def test_retry_of_a_job_that_began_in_time_does_not_expire(part: Partition, code: str) -> None:
    await part.send(mortal())
    await part.claim()
    await part.settle(verdict("j1", code, b"{}", delay_ms=2 * TIME_MS))
    part.now_ms = DUE_MS + TIME_MS
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_job_whose_lease_was_lost_had_begun(part: Partition) -> None:
    await part.send(mortal())
    await part.claim()
    part.now_ms += LEASE_MS
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_claim_that_is_sent_again_after_the_time_has_what_it_began(part: Partition) -> None:
    await part.send(mortal())
    assert ids(await part.claim_twice()) == ["j1"]
    assert await counted(part) == (0, 0)


# -- many, and again ------------------------------------------------------------------------------------------------------------------


async def test_many_expire_in_several_calls_and_none_is_begun(part: Partition) -> None:
    for first in range(0, 1_200, 200):
        await part.send(*(mortal(f"j{n:04}") for n in range(first, first + 200)))
    await part.send("lives")
    part.now_ms = DUE_MS
    served: list[str] = []
    for number in range(10):
        claimed = await part.claim(under=f"t{number}")
        served += ids(claimed)
        if not claimed.again:
            break
    assert served == ["lives"]
    assert await counted(part) == (1_200, 1_200)


async def test_send_that_is_repeated_after_the_time_finds_the_job_that_expired(part: Partition) -> None:
    await part.send(mortal())
    part.now_ms = DUE_MS
    await part.store.tick(["q"])
    assert await part.send(mortal()) == [1]
    await assert_expired(part)


async def test_job_that_is_sent_after_its_time_is_not_begun(part: Partition) -> None:
    """The sender's clock was late, or the send took long."""
    part.now_ms = DUE_MS + 1
    await part.send(mortal())
    assert ids(await part.claim()) == []
    await assert_expired(part)


async def test_waiters_for_the_result_are_released(part: Partition) -> None:
    await part.send(mortal())
    await part.store.watch("client", ["j1"])
    part.now_ms = DUE_MS
    await part.store.tick(["q"])
    assert not (await part.state()).watch
    assert (await part.store.watch("client", ["j1"]))[0][0] == "k"
