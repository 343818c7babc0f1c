"""Figures by the minute, and events as they happen; on a real server, without a worker."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import InvalidOptions, Runtime
from angelrt.job import at_ms
from tests.scripts.partition import job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripts.partition import Partition

MINUTE_MS = 60_000


@pytest.fixture
async def rt(server_url: str, namespace: str, part: Partition) -> AsyncIterator[Runtime[None]]:
    """An open runtime, by the clock of the partition."""
    async with Runtime(server_url, namespace=namespace) as runtime:
        runtime.client().store.clock = lambda: part.now_ms
        yield runtime


async def work(part: Partition, *ids: str, queue: str = "q", pickup: str = "p16", run: str = "r40") -> None:
    """Send, claim and complete jobs."""
    await part.send(*(job(each, queue=queue) for each in ids))
    await part.claim(under="t1", queues=(queue,))
    await part.settle(*(replace(verdict(each, "c", b"1", under="t1", queue=queue), counters=f"{queue}|a\0{pickup}\0{run}") for each in ids))


async def test_each_minute_has_what_happened_in_it(rt: Runtime[None], part: Partition) -> None:
    part.now_ms -= part.now_ms % MINUTE_MS
    begin_ms = part.now_ms
    await work(part, "j1", "j2")
    part.now_ms += 2 * MINUTE_MS
    await work(part, "j3", queue="p", pickup="p20")
    await part.send("j4")
    minutes = await rt.series(4)
    assert [minute.at for minute in minutes] == [at_ms(begin_ms + n * MINUTE_MS) for n in (-1, 0, 1, 2)]
    assert [(minute.sent, minute.completed) for minute in minutes] == [(0, 0), (2, 2), (0, 0), (2, 1)]
    assert [minute.pickup_p50_ms is None for minute in minutes] == [True, False, True, False]
    assert (minutes[1].pickup_p50_ms or 0) < (minutes[3].pickup_p50_ms or 0)
    assert [minute.completed for minute in await rt.series(4, queue="p")] == [0, 0, 0, 1]
    assert [minute.sent for minute in await rt.series(4, queue="q", actor="a")] == [0, 2, 0, 1]
    assert [minute.sent for minute in await rt.series(4, actor="b")] == [0, 0, 0, 0]


async def test_hours_and_minutes_say_the_same(rt: Runtime[None], part: Partition) -> None:
    for n in range(3):
        await work(part, f"a{n}", f"b{n}")
        part.now_ms += MINUTE_MS
    assert (await rt.stats()).total.completed == sum(minute.completed for minute in await rt.series(10)) == 6


async def test_a_minute_is_forgotten_before_its_key_is_used_again(rt: Runtime[None], part: Partition) -> None:
    await work(part, "j1")
    store = rt.client().store
    left_s = await store.command("TTL", store.keys.minute(part.now_ms))
    assert 24 * 3600 + 60 < left_s < (25 * 3600)


async def test_a_runtime_without_events_counts_no_minutes_and_its_hours_once(server_url: str, namespace: str) -> None:
    async with Runtime(server_url, namespace=namespace, events=False) as rt:
        await rt.send("a", {}, queue="q")
        assert [minute.sent for minute in await rt.series(2)] == [0, 0]
        assert (await rt.stats()).total.sent == 1
        store = rt.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))


@pytest.mark.parametrize("minutes", [0, -1, 1441, True, 1.5])
async def test_a_number_of_minutes_that_is_none_is_refused(rt: Runtime[None], minutes: Any) -> None:
    with pytest.raises(InvalidOptions, match="which is a day"):
        await rt.series(minutes)


# -- events --------------------------------------------------------------------------------------------------------------------------


async def test_events_come_as_they_happen(rt: Runtime[None], part: Partition) -> None:
    await part.send("before")
    async with aclosing(rt.events()) as events:
        coming = asyncio.ensure_future(anext(events))
        while not coming.done():  # it may not have begun to listen
            await part.send("j1")
        event = await coming
    assert (event.verb, event.worker, event.jobs, event.ids) == ("enqueue", "-", 1, ["j1"])


async def test_a_run_that_is_tried_again_is_named_in_its_event(rt: Runtime[Any], part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim(2)
    await part.settle(verdict("j1", "r", b"error", delay_ms=10), verdict("j2", "c", b"1"))
    [event] = await rt.recent_events(1)
    assert (event.verb, event.jobs, event.ids) == ("settle", 2, ["j1", "j2"])


async def test_events_go_on_after_the_one_that_was_seen_last(rt: Runtime[None], part: Partition) -> None:
    await work(part, "j 1", "j2")
    async with aclosing(rt.events("0")) as events:
        seen = [await anext(events) for _ in range(3)]
    assert [(event.verb, event.ids) for event in seen] == [("enqueue", ["j 1", "j2"]), ("claim", ["j 1", "j2"]), ("settle", ["j 1", "j2"])]
    async with aclosing(rt.events(seen[0].id)) as events:
        assert await anext(events) == seen[1]
    assert await rt.recent_events(2) == seen[1:]


@pytest.mark.parametrize("after", ["", "x", "1-", "-1", "1700000000000", "$$"])
async def test_a_place_in_the_stream_that_is_none_is_refused(rt: Runtime[None], after: str) -> None:
    with pytest.raises(InvalidOptions, match="id of an event"):
        rt.events(after)
