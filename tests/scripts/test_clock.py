"""A server's clock that jumps, as at a failover to a host with another time, or a server that was away: no lease ends by that alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripts.partition import LEASE_MS, ids, job, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

LATE_MS = 2_000
GRACE_MS = 10_000
YEAR_MS = 365 * 86_400_000
JUMPS = {"a minute": 60_000, "a year": YEAR_MS}


@pytest.mark.parametrize("by_ms", JUMPS.values(), ids=JUMPS)
async def test_after_a_jump_forward_who_renews_keeps_what_it_runs(part: Partition, by_ms: int) -> None:
    await part.send("j1", "j2", "j3")
    await part.claim()
    part.now_ms += by_ms
    await part.send("new")
    assert ids(await part.claim(worker="w2", under="t2")) == ["new"], "nothing that runs is handed out again"
    assert await part.renew(("j1", "t1"), ("j2", "t1")) == ([], [])
    assert await part.settle(verdict("j1", "c", b"null")) == [1]
    part.now_ms += GRACE_MS + 1
    assert ids(await part.claim(worker="w3", under="t3")) == ["j3"], "whoever did not renew within the grace has lost its lease"
    assert await part.settle(verdict("j2", "c", b"null")) == [1]
    assert (await part.state()).run("j3").losses == 1


async def test_grace_is_given_once_however_late_the_next_look_is(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.take_marker()
    part.now_ms += YEAR_MS
    _, due_ms = await part.store.tick(["q"])
    assert due_ms == part.now_ms + GRACE_MS + 1, "and workers know when to look again"
    assert not await part.take_marker(), "nothing is claimable, so nobody is woken"
    part.now_ms += YEAR_MS
    assert ids(await part.claim(worker="w2", under="t2")) == ["j1"]


async def test_lease_that_was_renewed_after_a_jump_may_be_spared_by_the_next_one(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    for _ in range(3):
        part.now_ms += YEAR_MS
        assert ids(await part.claim(worker="w2", under="t2")) == []
        assert await part.renew(("j1", "t1")) == ([], [])
    assert await part.settle(verdict("j1", "c", b"null")) == [1]


async def test_lease_that_is_found_when_it_ends_has_no_grace(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim(1)
    part.now_ms += LATE_MS
    await part.claim(1, under="t2")
    part.now_ms += LEASE_MS
    assert ids(await part.claim(worker="w2", under="t3")) == ["j1", "j2"]


async def test_many_leases_are_spared_call_by_call_and_each_call_is_bounded(part: Partition) -> None:
    sent = [f"j{n:04}" for n in range(1_200)]
    for first in range(0, len(sent), 200):
        await part.send(*sent[first : first + 200])
        await part.claim(200, under=f"t{first}")
    part.now_ms += YEAR_MS
    spared: list[int] = []
    for call in range(3):
        assert ids(await part.claim(worker="w2", under=f"u{call}")) == []
        spared.append(sum(score > part.now_ms for score in (await part.state()).queues["q"].leased.values()))
    assert spared == [500, 1_000, 1_200]


async def test_after_a_jump_back_a_renewed_lease_ends_by_the_new_clock(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim()
    part.now_ms -= YEAR_MS
    assert await part.renew(("j1", "t1")) == ([], [])
    await part.store.tick(["q"])
    part.now_ms += LEASE_MS
    assert ids(await part.claim(worker="w2", under="t2")) == ["j1"]
    assert await part.store.expire_worker("w1", ["q"], died=True) == 1, "what a dead worker holds goes with the worker, whatever the time"
    assert ids(await part.claim(worker="w3", under="t3")) == ["j2"]


async def test_jump_back_lets_new_work_through(part: Partition) -> None:
    await part.send("old")
    part.now_ms -= YEAR_MS
    await part.send("j1", job("soon", when="+1000"))
    assert ids(await part.claim()) == ["j1", "old"]
    part.now_ms += 1_000
    assert ids(await part.claim(under="t2")) == ["soon"]
