"""purge: a failed job is forgotten with all that was kept of it, and nothing else is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from angelrt.errors import RedisRefused
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import ids, job, verdict
from tests.state import breaches

if TYPE_CHECKING:
    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition

BIG: Final = b"x" * 5_000
PLACES: Final = ("ready", "delayed", "leased", "completed", "cancelled", "lane")


async def fail(part: Partition, *jobs: NewJob | str, payload: bytes = b"error") -> int:
    """Send jobs, let each write a note and fail; return when."""
    sent = [job(each) if isinstance(each, str) else each for each in jobs]
    await part.send(*sent)
    claimed = await part.claim(under="first")
    assert ids(claimed) == [each.id for each in sent]
    part.now_ms += 1_000
    await part.settle(*(verdict(each.id, "n", b"half", under="first") for each in sent))
    await part.settle(*(verdict(each.id, "f", payload, under="first") for each in sent))
    return int(part.now_ms)


async def one_in_each_place(part: Partition) -> None:
    """Let a job stand in every place but `failed`, each under the place's name."""
    await part.park("lane")
    await part.send("leased", "completed", "cancelled")
    await part.claim()
    await part.settle(verdict("completed", "c", BIG), verdict("cancelled", "k"))
    await part.send("ready", job("delayed", when="+900"))


@pytest.mark.parametrize("payload", [b"error", BIG], ids=["small-error", "big-error"])
@pytest.mark.parametrize("blob", [None, BIG], ids=["small", "big"])
async def test_nothing_is_left_of_a_purged_job(part: Partition, payload: bytes, blob: bytes | None) -> None:
    empty = await part.state()
    failed_ms = await fail(part, job("j1", blob=blob, flow="cone@q=,tann"), payload=payload)
    assert await part.store.purge([("j1", failed_ms)]) == [1]
    differ = set((await part.state()).changes(empty))
    assert differ == {"events", "stats", "registered", "queues"}
    assert (await part.state()).places() == {}


async def test_only_those_that_are_named_are_purged(part: Partition) -> None:
    failed_ms = await fail(part, job("j1", blob=BIG), job("j2", blob=BIG), payload=BIG)
    assert await part.store.purge([("j1", failed_ms)]) == [1]
    state = await part.state()
    assert state.failed == {"j2": failed_ms}
    assert state.blobs.keys() == {"j2=none", "j2=first"}


async def test_job_that_has_not_failed_is_left(part: Partition) -> None:
    await one_in_each_place(part)
    before = await part.state()
    assert await part.store.purge([(place, int(part.now_ms)) for place in PLACES]) == [0] * len(PLACES)
    assert (await part.state()).changes(before) == []


async def test_other_failure_than_the_one_that_is_meant_is_left(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    before = await part.state()
    assert await part.store.purge([("j1", failed_ms - 1)]) == [0]
    assert (await part.state()).changes(before) == []


async def test_purge_whose_answer_was_lost_answers_the_same(part: Partition) -> None:
    failed_ms = await fail(part, "j1", "j2")
    part.link.fail(scripts.PURGE, LOST_ANSWER)
    assert await part.store.purge([("j1", failed_ms), ("j2", failed_ms)]) == [1, 1]
    before = await part.state()
    assert await part.store.purge([("j1", failed_ms), ("j2", failed_ms)]) == [1, 1]
    assert (await part.state()).changes(before) == []


async def test_nothing_to_purge_is_no_error(part: Partition) -> None:
    assert await part.store.purge([]) == []


async def test_purge_is_an_event(part: Partition) -> None:
    failed_ms = await fail(part, "j1", "j2")
    await part.store.purge([("j1", failed_ms), ("j2", failed_ms), ("never-sent", failed_ms)])
    last = (await part.state()).events[-1]
    assert (last.verb, last.jobs, last.ids) == ("purge", 2, ("j1", "j2"))


async def test_id_of_a_purged_job_can_be_sent_again(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    await part.store.purge([("j1", failed_ms)])
    assert await part.send(job("j1", arguments=b'{"x":1}')) == [1]
    assert (await part.state()).place("j1") == "ready:q"


@pytest.mark.parametrize("resend", [True, False], ids=["sent-again", "abandoned"])
async def test_purge_that_breaks_anywhere_leaves_a_failure_or_nothing(part: Partition, *, resend: bool) -> None:
    abort_at, broken = 1, True
    while broken:
        failed_ms = await fail(part, job("j1", blob=BIG), "j2", payload=BIG)
        part.link.fail(scripts.PURGE, abort_at, resend=resend)
        try:
            assert await part.store.purge([("j1", failed_ms), ("j2", failed_ms)]) == [1, 1]
        except RedisRefused:
            assert not resend
        broken = bool(part.link.broken_at)
        assert await part.store.purge([("j1", failed_ms), ("j2", failed_ms)]) == [1, 1], "the next purge ends what broke off"
        state = await part.state()
        assert breaches(state) == [], abort_at
        assert (state.jobs, state.results, state.blobs, state.notes, state.failed) == ({}, {}, {}, {}, {}), abort_at
        abort_at += 1
        await part.clear()
    assert abort_at > 9, "fewer commands broke than the script has"
