"""renew: a lease is extended under its own token alone, and who has lost one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.store import Lease
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


async def test_valid_lease_is_extended(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    before = await part.state()
    part.now_ms += 5_000
    assert await part.renew(("j1", "t1")) == ([], [])
    after = await part.state()
    assert after.queues["q"].leased == {"j1": START_MS + 5_000 + LEASE_MS}
    assert after.changes(before) == ["queues"]
    part.now_ms += LEASE_MS - 1
    assert ids(await part.claim(worker="w2", under="t2")) == []


async def test_lost_leases_are_named_in_order_and_nothing_of_them_changes(part: Partition) -> None:
    await part.send("a-settled", "b-retried", "c-mine", "d-other", "e-ready")
    await part.claim(3)
    await part.claim(1, under="t2")
    await part.settle(verdict("a-settled", "c", b"null"), verdict("b-retried", "r", delay_ms=99_000))
    before = await part.state()
    assert before.places() == {
        "a-settled": ["completed"],
        "b-retried": ["delayed:q"],
        "c-mine": ["leased:q"],
        "d-other": ["leased:q"],
        "e-ready": ["ready:q"],
    }
    names = ["e-ready", "never-sent", "c-mine", "a-settled", "d-other", "b-retried"]
    lost, asked = await part.renew(*((name, "t1") for name in names))
    assert (lost, asked) == (["e-ready", "never-sent", "a-settled", "d-other", "b-retried"], [])
    assert (await part.state()).changes(before) == [], "the clock stands still, so even the valid lease ends when it did"


async def test_lease_that_was_taken_over_is_not_extended(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    part.now_ms += LEASE_MS
    await part.claim(worker="w2", under="t2")
    before = await part.state()
    part.now_ms += 1
    assert await part.renew(("j1", "t1")) == (["j1"], [])
    assert (await part.state()).changes(before) == []


async def test_expired_lease_that_nobody_took_is_extended(part: Partition) -> None:
    """Its token is valid as long as nobody took the job back."""
    await part.send("j1")
    await part.claim()
    part.now_ms += LEASE_MS + 1
    assert await part.renew(("j1", "t1")) == ([], [])
    assert (await part.claim(worker="w2", under="t2")).deliveries == []


async def test_lease_that_was_given_back_is_lost(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    assert await part.renew(("j1", "t1")) == (["j1"], [])
    assert (await part.state()).place("j1") == "ready:q"


@pytest.mark.parametrize("token", ["t", "t11", "!", ""])
async def test_token_is_compared_as_a_whole(part: Partition, token: str) -> None:
    await part.send("j1")
    await part.claim()
    before = await part.state()
    part.now_ms += 1
    assert await part.renew(("j1", token)) == (["j1"], [])
    assert (await part.state()).changes(before) == []


async def test_leases_of_several_queues_in_one_call(part: Partition) -> None:
    await part.send("j1", job("j2", queue="p"))
    await part.claim(queues=("q", "p"))
    part.now_ms += 1_000
    leases = [Lease("q", "j1", "t1"), Lease("p", "j2", "t1"), Lease("p", "j3", "t1")]
    assert await part.store.renew(leases, 2_000) == (["j3"], [])
    state = await part.state()
    assert (state.queues["q"].leased, state.queues["p"].leased) == ({"j1": START_MS + 3_000}, {"j2": START_MS + 3_000})


async def test_nothing_to_renew_is_no_error(part: Partition) -> None:
    assert await part.raw(scripts.RENEW, [], "", LEASE_MS) == [0]


async def test_server_time_is_used_where_none_is_given(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    part.store.clock = None
    seconds, _ = await part.store.command("TIME")
    assert await part.renew(("j1", "t1"), lease_ms=1_000) == ([], [])
    now_ms = int(seconds) * 1000
    assert now_ms + 1_000 <= (await part.state()).queues["q"].leased["j1"] < now_ms + 60_000
