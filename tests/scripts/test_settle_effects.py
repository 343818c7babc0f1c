"""settle: what a job's end brings with it inside Redis happens once: children, news for waiters, counters, events."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.inbox import Inbox
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import START_MS, ids, job, rank, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.scripts.partition import Partition

BIG = b"x" * 5_000
NEWS_DEADLINE_S = 10
LAST = "the last word"


async def lease(part: Partition, *names: str) -> None:
    """Send jobs and lease them to w1 under t1."""
    await part.send(*names)
    await part.claim()


# -- children ------------------------------------------------------------------------------------------------------------------------


async def test_children_are_sent_with_the_end_of_their_parent(part: Partition) -> None:
    await lease(part, "j1")
    await part.take_marker()
    children = [job("c1"), job("c2", queue="p", actor="b", priority=1), job("c3", when="+500"), job("c4", blob=BIG)]
    assert await part.settle(verdict("j1", "c", b"null", children=children)) == [1]
    state = await part.state()
    assert state.places() == {"j1": ["completed"], "c1": ["ready:q"], "c2": ["ready:p"], "c3": ["delayed:q"], "c4": ["ready:q"]}
    assert state.queues["p"].ready == {"c2": rank(1, START_MS)}
    assert state.blobs == {"c4=none": BIG}
    assert state.registered == {"q", "p"}
    assert (state.stats["q|a|sent"], state.stats["p|b|sent"]) == (4, 1)
    assert (await part.take_marker("q"), await part.take_marker("p")) == (True, True)


async def test_children_of_several_parents_keep_their_parents(part: Partition) -> None:
    await lease(part, "j1", "j2", "j3")
    codes = await part.settle(
        verdict("j1", "c", b"null", children=[job("c1"), job("c2")]),
        verdict("j2", "c", b"null", under="old", children=[job("lost1"), job("lost2", blob=BIG)]),
        verdict("j3", "c", b"null", children=[job("c3")]),
    )
    assert codes == [1, 0, 1]
    state = await part.state()
    assert set(state.jobs) == {"j1", "j2", "j3", "c1", "c2", "c3"}


async def test_replay_sends_no_child_again(part: Partition) -> None:
    await lease(part, "j1")
    part.link.fail(scripts.SETTLE_WITH_CHILDREN, LOST_ANSWER)
    assert await part.settle(verdict("j1", "c", b"null", children=[job("c1"), job("c2", blob=BIG)])) == [2]
    state = await part.state()
    assert state.places() == {"j1": ["completed"], "c1": ["ready:q"], "c2": ["ready:q"]}
    assert state.stats["q|a|sent"] == 3
    before = state
    await part.claim(under="t2")
    await part.settle(verdict("c1", "c", b"null", under="t2"), verdict("c2", "c", b"null", under="t2"))
    assert await part.settle(verdict("j1", "c", b"null", children=[job("c1"), job("c2", blob=BIG)])) == [2]
    after = await part.state()
    assert after.stats["q|a|sent"] == before.stats["q|a|sent"]
    assert after.completed.keys() == {"j1", "c1", "c2"}


async def test_duplicate_verdict_sends_its_children_once(part: Partition) -> None:
    await lease(part, "j1")
    twice = verdict("j1", "c", b"null", children=[job("c1")])
    assert await part.settle(twice, replace(twice, children=(job("c2"),))) == [1, 2]
    assert set((await part.state()).jobs) == {"j1", "c1"}


async def test_child_with_the_id_of_another_job_leaves_that_job_alone(part: Partition) -> None:
    await part.send(job("taken", arguments=b"[1]", when="+500"))
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "c", b"null", children=[job("taken", blob=BIG)])) == [1]
    state = await part.state()
    assert (state.jobs["taken"], state.place("taken"), state.blobs) == (b"a\0none\0[1]", "delayed:q", {})


async def test_replay_leaves_no_blob_of_a_child_that_was_refused(part: Partition) -> None:
    await part.send(job("taken", arguments=b"[1]", when="+500"))
    await lease(part, "j1")
    part.link.fail(scripts.SETTLE_WITH_CHILDREN, LOST_ANSWER)
    assert await part.settle(verdict("j1", "c", b"null", children=[job("taken", blob=BIG)])) == [2]
    assert (await part.state()).blobs == {}


async def test_same_child_of_two_parents_is_one_job(part: Partition) -> None:
    await lease(part, "j1", "j2")
    verdicts = [verdict(name, "c", b"null", children=[job("child")]) for name in ("j1", "j2")]
    assert await part.settle(*verdicts) == [1, 1]
    state = await part.state()
    assert (state.place("child"), state.stats["q|a|sent"]) == ("ready:q", 3)


@pytest.mark.parametrize("code", ["r", "s", "x"])
async def test_run_that_did_not_end_the_job_sends_no_children(part: Partition, code: str) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", code, b"error", children=[job("c1"), job("c2", blob=BIG)])) == [1]
    state = await part.state()
    assert set(state.jobs) == {"j1"}
    assert state.blobs == {}


# -- payloads that are kept apart ----------------------------------------------------------------------------------------------------


async def test_error_of_an_earlier_attempt_leaves_no_blob_behind(part: Partition) -> None:
    await lease(part, "j1")
    await part.settle(verdict("j1", "r", BIG))
    assert (await part.state()).blobs == {"j1=t1": BIG}
    await part.claim(under="t2")
    await part.settle(verdict("j1", "r", BIG, under="t2"))
    assert set((await part.state()).blobs) == {"j1=t2"}
    await part.claim(under="t3")
    await part.settle(verdict("j1", "c", b"null", under="t3"))
    assert (await part.state()).blobs == {}


# -- news for those who wait ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(part: Partition, *clients: str) -> AsyncGenerator[list[tuple[str, str]]]:
    """Collect (client, id) of all news; complete when the block has ended, since the last word comes after the others."""
    heard: list[tuple[str, str]] = []
    ended = {client: asyncio.Event() for client in clients}

    def hear(client: str, job_id: str | None) -> None:
        if job_id == LAST:
            ended[client].set()
        elif job_id is not None:
            heard.append((client, job_id))

    channels = {client: part.store.keys.inbox(client) for client in clients}
    inboxes = [Inbox(part.store.url, channels[client], partial(hear, client)) for client in clients]
    for inbox in inboxes:
        await inbox.open()
    try:
        yield heard
        for client in clients:
            await part.store.command("PUBLISH", channels[client], LAST)
            await asyncio.wait_for(ended[client].wait(), NEWS_DEADLINE_S)
    finally:
        for inbox in inboxes:
            await inbox.close()


@pytest.mark.parametrize("code", ["c", "f", "k"])
async def test_end_is_announced_to_every_client_that_waits(part: Partition, code: str) -> None:
    await lease(part, "j1", "j2")
    await part.store.watch("ann", ["j1", "j2"])
    await part.store.watch("bob", ["j1"])
    async with listening(part, "ann", "bob", "eve") as heard:
        await part.settle(verdict("j1", code, b"null"))
    assert sorted(heard) == [("ann", "j1"), ("bob", "j1")]
    assert (await part.state()).watch == {"j2": b"ann"}


async def test_end_is_announced_once(part: Partition) -> None:
    await lease(part, "j1")
    await part.store.watch("ann", ["j1"])
    async with listening(part, "ann") as heard:
        part.link.fail(scripts.SETTLE, LOST_ANSWER)
        assert await part.settle(verdict("j1", "c", b"null"), verdict("j1", "c", b"null")) == [2, 2]
    assert heard == [("ann", "j1")]


@pytest.mark.parametrize("code", ["r", "s", "x", "n"])
async def test_run_that_did_not_end_the_job_is_no_news(part: Partition, code: str) -> None:
    await lease(part, "j1")
    await part.store.watch("ann", ["j1"])
    async with listening(part, "ann") as heard:
        await part.settle(verdict("j1", code, b"x"))
    assert heard == []
    assert (await part.state()).watch == {"j1": b"ann"}


async def test_lost_verdict_is_no_news(part: Partition) -> None:
    await lease(part, "j1")
    await part.store.watch("ann", ["j1"])
    async with listening(part, "ann") as heard:
        await part.settle(verdict("j1", "c", b"null", under="old"))
    assert heard == []
    assert (await part.state()).watch == {"j1": b"ann"}


# -- counters and events -------------------------------------------------------------------------------------------------------------


async def test_counters_and_histograms_are_added_to_once(part: Partition) -> None:
    await lease(part, "c1", "c2", "f1", "r1", "n1")
    verdicts = [
        verdict("c1", "c", b"null", words=("p3", "r7")),
        verdict("c2", "c", b"null", words=("p3", "r8")),
        verdict("f1", "f", b"error", words=("p4", "r7")),
        verdict("r1", "r", b"error", words=("p4", "r8"), delay_ms=500),
        verdict("n1", "n", b"half", words=("", "")),
    ]
    part.link.fail(scripts.SETTLE, LOST_ANSWER)
    await part.settle(*verdicts)
    await part.settle(*verdicts)
    assert (await part.state()).stats == {
        "q|a|sent": 5,
        "q|a|completed": 2,
        "q|a|failed": 1,
        "q|a|retried": 1,
        "q|a|p3": 2,
        "q|a|p4": 2,
        "q|a|r7": 2,
        "q|a|r8": 2,
    }


async def test_run_without_a_time_is_in_no_histogram(part: Partition) -> None:
    await lease(part, "j1")
    await part.settle(verdict("j1", "f", b"error", words=("", "")))
    assert (await part.state()).stats == {"q|a|sent": 1, "q|a|failed": 1}


async def test_counters_of_another_hour_have_their_own_key(part: Partition) -> None:
    await lease(part, "j1", "j2")
    await part.settle(verdict("j1", "c", b"null"))
    part.now_ms += 3_600_000
    await part.settle(verdict("j2", "c", b"null"))
    assert (await part.state()).stats["q|a|completed"] == 2
    counters = await part.store.command("HGETALL", part.store.keys.stats(part.now_ms))
    assert dict(zip(counters[::2], counters[1::2], strict=True))[b"q|a|completed"] == b"1"


async def test_one_event_a_call_names_the_jobs_whose_runs_ended(part: Partition) -> None:
    await lease(part, "j1", "j2", "j3", "j4")
    before = await part.state()
    await part.settle(
        verdict("j1", "c", b"null"), verdict("j2", "r", delay_ms=500), verdict("j3", "n", b"half"), verdict("j4", "f", b"error")
    )
    after = await part.state()
    assert after.events[len(before.events) :] == (("settle", "w1", 3, ("j1", "j2", "j4")),)


async def test_event_names_eight_jobs_at_most(part: Partition) -> None:
    names = [f"j{n:02}" for n in range(10)]
    await lease(part, *names)
    await part.settle(*(verdict(name, "c", b"null") for name in names))
    assert (await part.state()).events[-1] == ("settle", "w1", 10, tuple(names[:8]))


async def test_event_stream_is_bounded(part: Partition) -> None:
    for n in range(300):
        await part.raw(scripts.ENQUEUE, ["q"], "", 100, part.packed(job(f"j{n}")))
    assert await part.key("XLEN", "events") < 250
    assert len(ids(await part.claim(500))) == 300
