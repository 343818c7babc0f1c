"""settle: jobs that ended are forgotten by age and by number, a little with each call, and never within a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt.config import Keep, Retention
from tests.scripts.partition import Partition, ids, job, verdict
from tests.state import assert_sound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MINUTE_MS = 60_000
AGE_S = 300
BIG = b"x" * 5_000
CODES = {"c": "completed", "f": "failed", "k": "cancelled"}


@pytest.fixture
async def small(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """A partition that remembers three jobs of each outcome for five minutes."""
    keep = Keep(AGE_S, number=3)
    partition = Partition(server_url, namespace, Retention(completed=keep, failed=keep, cancelled=keep))
    try:
        yield partition
        await assert_sound(partition.store, *partition.queues)
    finally:
        await partition.remove()


async def end(part: Partition, code: str, *names: str) -> None:
    """Send jobs and settle them, in one call."""
    await part.send(*names)
    token = f"t-{names[0]}"
    await part.claim(500, under=token)
    assert set(await part.settle(*(verdict(name, code, b"null", under=token) for name in names))) == {1}


async def kept(part: Partition, code: str) -> list[str]:
    """Return the ids that are remembered for an outcome, the oldest first."""
    return list(getattr(await part.state(), CODES[code]))


@pytest.mark.parametrize("code", CODES)
async def test_jobs_beyond_the_number_are_forgotten(small: Partition, code: str) -> None:
    for n in range(5):
        await end(small, code, f"j{n}")
        small.now_ms += MINUTE_MS
    assert await kept(small, code) == ["j2", "j3", "j4"]
    state = await small.state()
    assert set(state.jobs) == set(state.results) == {"j2", "j3", "j4"}


@pytest.mark.parametrize("code", CODES)
async def test_jobs_beyond_the_age_are_forgotten(small: Partition, code: str) -> None:
    await end(small, code, "old")
    small.now_ms += AGE_S * 1000 - 1
    await end(small, code, "middle")
    assert await kept(small, code) == ["old", "middle"]
    small.now_ms += 1
    await end(small, code, "new")
    assert await kept(small, code) == ["middle", "new"]


@pytest.mark.parametrize("code", CODES)
async def test_nothing_younger_than_a_minute_is_forgotten(small: Partition, code: str) -> None:
    await end(small, code, *(f"j{n}" for n in range(8)))
    small.now_ms += MINUTE_MS - 1
    await end(small, code, "k1")
    assert len(await kept(small, code)) == 9
    small.now_ms += 1
    await end(small, code, "k2", "k3", "k4")
    assert await kept(small, code) == ["j6", "j7", "k1", "k2", "k3", "k4"], "six are forgotten, twice as many as ended"


async def test_one_call_forgets_at_most_twice_as_many_as_it_ended(small: Partition) -> None:
    await end(small, "c", *(f"j{n}" for n in range(9)))
    small.now_ms += MINUTE_MS
    await end(small, "c", "k1")
    assert await kept(small, "c") == [*(f"j{n}" for n in range(2, 9)), "k1"]


async def test_outcomes_are_bounded_each_for_itself(small: Partition) -> None:
    await end(small, "c", "c1", "c2", "c3", "c4", "c5")
    small.now_ms += MINUTE_MS
    await end(small, "f", "f1")
    assert (len(await kept(small, "c")), await kept(small, "f")) == (5, ["f1"])


async def test_all_that_belongs_to_a_forgotten_job_goes(small: Partition) -> None:
    await small.send(job("old", blob=BIG))
    await small.claim()
    await small.settle(verdict("old", "n", b"half"), verdict("old", "c", BIG))
    before = await small.state()
    assert (set(before.blobs), set(before.notes), set(before.results)) == ({"old=none", "old=t1"}, {"old"}, {"old"})
    small.now_ms += AGE_S * 1000
    await end(small, "c", "new")
    state = await small.state()
    assert (state.blobs, state.notes, set(state.results), set(state.jobs)) == ({}, {}, {"new"}, {"new"})


async def test_forgotten_id_can_be_sent_anew(small: Partition) -> None:
    await end(small, "c", "j1")
    small.now_ms += AGE_S * 1000
    await small.store.settle("w1", [])
    assert await small.send(job("j1", arguments=b"[]")) == [1]
    assert ids(await small.claim(under="t2")) == ["j1"]


async def test_call_without_runs_only_forgets(small: Partition) -> None:
    for code in CODES:
        await end(small, code, *(f"{code}{n}" for n in range(5)))
    await small.send("waiting")
    small.now_ms += MINUTE_MS
    before = await small.state()
    assert await small.store.settle("w1", []) == []
    for code in CODES:
        assert await kept(small, code) == [f"{code}{n}" for n in range(2, 5)]
    state = await small.state()
    assert state.changes(before) == ["jobs", "results", *CODES.values()]
    small.now_ms += AGE_S * 1000
    await small.store.settle("w1", [])
    assert set((await small.state()).jobs) == {"waiting"}


async def test_call_that_only_retries_forgets_nothing(small: Partition) -> None:
    await end(small, "c", *(f"j{n}" for n in range(5)))
    await small.send("again")
    await small.claim(under="t2")
    small.now_ms += MINUTE_MS
    await small.settle(verdict("again", "r", b"error", under="t2"))
    assert len(await kept(small, "c")) == 5


async def test_number_of_nothing_keeps_the_last_minute_alone(server_url: str, namespace: str) -> None:
    keep = Keep(AGE_S, number=0)
    part = Partition(server_url, namespace, Retention(completed=keep))
    try:
        await end(part, "c", "j1")
        small_age = await kept(part, "c")
        part.now_ms += MINUTE_MS
        await part.store.settle("w1", [])
        assert (small_age, await kept(part, "c")) == (["j1"], [])
        await assert_sound(part.store)
    finally:
        await part.remove()


async def test_age_below_a_minute_is_a_minute(server_url: str, namespace: str) -> None:
    part = Partition(server_url, namespace, Retention(completed=Keep(0)))
    try:
        await end(part, "c", "j1")
        part.now_ms += MINUTE_MS - 1
        await part.store.settle("w1", [])
        remembered = await kept(part, "c")
        part.now_ms += 1
        await part.store.settle("w1", [])
        assert (remembered, await kept(part, "c")) == (["j1"], [])
    finally:
        await part.remove()


async def test_sweep_is_bounded_and_the_next_one_goes_on(small: Partition) -> None:
    for first in range(0, 600, 200):
        await end(small, "c", *(f"j{n:03}" for n in range(first, first + 200)))
    small.now_ms += AGE_S * 1000
    left = [600]
    while left[-1]:
        await small.store.settle("w1", [])
        left.append(len(await kept(small, "c")))
        assert 0 < left[-2] - left[-1] <= 500
    assert len(left) > 2
