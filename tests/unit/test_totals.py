"""Counters that only grow, although Redis forgets each hour after a day."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest

from angelrt import RedisFull, RedisRefused
from angelrt import totals as adding
from angelrt.keys import HOUR_MS, STATS_HOURS
from angelrt.totals import KEPT_HOURS, LATE_HOURS, OTHERS, totals
from tests.scripts.partition import Partition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

MINE: Final = ("q", "a")
READ_AGAIN_HOURS: Final = KEPT_HOURS - LATE_HOURS
"""A reader who comes again within this time misses nothing."""


class Hours(Partition):
    """A partition whose clock stands still until the test moves it; its counters are written, and expire, as by the scripts."""

    def __init__(self, url: str, namespace: str) -> None:
        """Begin with a full hour."""
        super().__init__(url, namespace)
        self.now_ms = self.now_ms // HOUR_MS * HOUR_MS
        self.written = set[int]()

    @property
    def hour(self) -> int:
        """The hour since 1970."""
        return int(self.now_ms // HOUR_MS)

    async def count(self, number: int = 1, field: str = "q|a|completed", *, ago: int = 0) -> None:
        """Count what ended in this hour, or some hours ago."""
        self.written.add(self.hour - ago)
        await self.store.command("HINCRBY", self.store.keys.stats((self.hour - ago) * HOUR_MS), field, number)

    async def pass_hours(self, hours: float) -> None:
        """Let time pass; the counters of an hour expire 25 hours after they were first written."""
        self.now_ms += hours * HOUR_MS
        old = {hour for hour in self.written if self.hour - hour > KEPT_HOURS}
        self.written -= old
        if old:
            await self.store.command("UNLINK", *(self.store.keys.stats(hour * HOUR_MS) for hour in old))

    async def completed(self) -> int:
        """Return what is counted so far."""
        return (await totals(self.store)).get(MINE, Counter())["completed"]


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Hours]:
    """Counters of hours."""
    hours = Hours(server_url, namespace)
    try:
        yield hours
    finally:
        await hours.remove()


def increase(values: Sequence[int]) -> int:
    """Return by how much a counter grew, as Prometheus finds it: one that became smaller has begun anew, from zero."""
    return sum(after - before if after >= before else after for before, after in pairwise(values))


async def test_nothing_is_counted_where_nothing_happened(part: Hours) -> None:
    assert await totals(part.store) == {}


async def test_counters_are_told_by_queue_actor_and_word(part: Hours) -> None:
    await part.count(2)
    await part.count(3, "q|a|p40")
    await part.pass_hours(1)
    await part.count(5)
    await part.count(1, "q|*|failed")
    assert await totals(part.store) == {MINE: Counter(completed=7, p40=3), ("q", "*"): Counter(failed=1)}


async def test_what_redis_forgets_stays_counted(part: Hours) -> None:
    seen = []
    for hour in range(3 * STATS_HOURS):
        await part.count(hour + 1)
        seen.append(await part.completed())
        await part.pass_hours(1)
    assert seen == [sum(range(1, hour + 2)) for hour in range(3 * STATS_HOURS)]


async def test_the_first_reader_finds_the_last_day(part: Hours) -> None:
    for _ in range(2 * KEPT_HOURS):
        await part.count()
        await part.pass_hours(1)
    assert await part.completed() == KEPT_HOURS - 1


async def test_hours_that_are_over_are_read_once(part: Hours) -> None:
    for _ in range(9):
        await part.count()
        await part.pass_hours(1)
    assert await part.completed() == 9
    await part.count(ago=LATE_HOURS + 1)
    assert await part.completed() == 9, "it is in the sum already"
    await part.count(ago=LATE_HOURS)
    assert await part.completed() == 10, "a call that was sent again counts in the hour of its first try"


@pytest.mark.parametrize("longest_h", [READ_AGAIN_HOURS, 3 * KEPT_HOURS])
@pytest.mark.parametrize("seed", range(4))
async def test_a_counter_grows_by_what_happened_however_often_it_is_read(part: Hours, seed: int, longest_h: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    seen, happened, at_first, unread_h = list[int](), 0, 0, 0.0
    for _ in range(200):
        if dice.random() < 0.5:
            number = dice.randint(1, 9)
            await part.count(number)
            happened += number
        wait_h = dice.choice([0, 0.1, 0.5, 1, 2, 7])
        if unread_h + wait_h >= longest_h or dice.random() < 0.1:
            seen.append(await part.completed())
            at_first, unread_h = (at_first if len(seen) > 1 else happened), 0.0
        await part.pass_hours(wait_h)
        unread_h += wait_h
    seen.append(await part.completed())
    if longest_h == READ_AGAIN_HOURS:
        assert seen == sorted(seen)
        assert increase(seen) == happened - at_first
    else:
        assert 0 < increase(seen) < happened - at_first


async def test_after_a_day_without_a_reader_nothing_is_counted_twice(part: Hours) -> None:
    await part.count(100)
    assert await part.completed() == 100
    await part.pass_hours(READ_AGAIN_HOURS)
    await part.count(1)
    assert await part.completed() == 101
    await part.count(10)
    await part.pass_hours(READ_AGAIN_HOURS + 1)
    await part.count(4)
    assert await part.completed() == 4, "it began anew, with what happened since"


async def test_two_readers_that_meet_do_no_harm(part: Hours) -> None:
    for _ in range(4):
        await part.count()
        await part.pass_hours(1)
    key = part.store.keys.key("totals")
    await totals(part.store)
    slow = await part.store.command("HGETALL", key)
    for _ in range(4):
        await part.count()
        await part.pass_hours(1)
    assert await part.completed() == 8
    await part.store.command("HSET", key, *slow)
    assert await part.completed() == 8, "the slower of two readers wrote last: what it lacks is added up again"


async def test_names_without_end_are_counted_together(part: Hours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "PAIRS_MAX", 3)
    for number in range(9):
        await part.count(1, f"q|actor-{number}|sent")
    found = await totals(part.store)
    assert {pair: words["sent"] for pair, words in found.items()} == {("q", f"actor-{n}"): 1 for n in range(3)} | {OTHERS: 6}
    await part.pass_hours(5)
    await part.count(1, "q|actor-7|sent")
    found = await totals(part.store)
    assert sum(words["sent"] for words in found.values()) == 10
    assert found[OTHERS]["sent"] == 7


@pytest.mark.parametrize("refusal", [RedisFull, RedisRefused])
async def test_a_server_that_takes_no_writes_is_read_all_the_same(
    part: Hours, monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
) -> None:
    for _ in range(4):
        await part.count()
        await part.pass_hours(1)
    ask = part.store.command

    async def refuses(*command: object) -> object:
        if command[0] == "HSET":
            raise refusal
        return await ask(*command)

    monkeypatch.setattr(part.store, "command", refuses)
    assert [await part.completed() for _ in range(2)] == [4, 4]


async def test_a_clock_that_goes_back_loses_nothing(part: Hours) -> None:
    for _ in range(6):
        await part.count()
        await part.pass_hours(1)
    assert await part.completed() == 6
    part.now_ms -= 5 * HOUR_MS
    assert await part.completed() == 5, "of hours that are to come nothing is told, but what is in the sum stays"
