"""Group commit: what gathers while a call is in flight leaves in the next, bounded, and every caller gets its own answer."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from angelrt.group_commit import HALF_MIN, GroupCommit

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """Answers each item with its double, and holds every call until it is let through."""

    def __init__(self, *, most_items: int = 4, most_bytes: int = 100) -> None:
        """Hold the first call."""
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.refused: set[int] = set()
        self.commit: GroupCommit[int, int] = GroupCommit(self._flush, most_items=most_items, most_bytes=most_bytes)

    async def _flush(self, items: list[int]) -> Sequence[int]:
        self.calls.append(items)
        await self.gate.wait()
        if self.refused.intersection(items):
            message = "gone"
            raise ConnectionError(message)
        return [2 * item for item in items]

    async def submitted(self, *groups: list[int]) -> list[asyncio.Task[Sequence[int]]]:
        """Submit groups from tasks of their own, in order, and return when all of them wait."""
        tasks = [asyncio.ensure_future(self.commit.submit(group, sum(group))) for group in groups]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks


async def answers(tasks: list[asyncio.Task[Sequence[int]]]) -> list[Sequence[int]]:
    """Collect what the callers got."""
    return list(await asyncio.gather(*tasks))


async def test_a_lone_caller_waits_for_one_call() -> None:
    server = Server()
    server.gate.set()
    assert await server.commit.submit([3], 3) == [6]
    assert server.calls == [[3]]


async def test_a_caller_after_a_lone_one_leaves_in_its_own_turn_where_python_can() -> None:
    server = Server()
    server.gate.set()
    await server.commit.submit([1], 1)
    second = server.commit.submit([2], 2)
    assert server.calls == ([[1], [2]] if sys.version_info >= (3, 12) else [[1]])
    assert await second == [4]
    await server.commit.drain()
    assert await server.commit.submit([3], 3) == [6]


async def test_callers_after_many_share_a_call_again() -> None:
    server = Server()
    server.gate.set()
    await answers(await server.submitted([1], [2]))
    await answers(await server.submitted([3], [4]))
    assert server.calls == [[1, 2], [3, 4]]


async def test_what_gathers_during_a_shared_call_leaves_in_the_next_one() -> None:
    server = Server()
    first = await server.submitted([1], [2])
    later = [*await server.submitted([3]), *await server.submitted([4, 5])]
    assert server.calls == [[1, 2]]
    server.gate.set()
    assert await answers(first + later) == [[2], [4], [6], [8, 10]]
    assert server.calls == [[1, 2], [3, 4, 5]]


async def test_a_lone_call_on_its_way_holds_up_nobody() -> None:
    server = Server()
    first = await server.submitted([1])
    second = await server.submitted([2])
    third = [*await server.submitted([3]), *await server.submitted([4])]
    assert server.calls == [[1], [2]]
    server.gate.set()
    assert await answers(first + second + third) == [[2], [4], [6], [8]]
    assert server.calls == [[1], [2], [3, 4]]
    await server.commit.drain()
    server.gate.clear()
    again = [*await server.submitted([5], [6]), *await server.submitted([7])]
    assert server.calls[3:] == [[5, 6]]
    server.gate.set()
    assert await answers(again) == [[10], [12], [14]]


async def test_callers_of_one_turn_share_the_call_beside_a_lone_one() -> None:
    server = Server()
    first = await server.submitted([1])
    later = await server.submitted([2], [3, 4], [5])
    assert server.calls == [[1], [2, 3, 4, 5]]
    server.gate.set()
    assert await answers(first + later) == [[2], [4], [6, 8], [10]]


@pytest.mark.parametrize(
    ("gathered", "later", "calls"),
    [
        (2 * HALF_MIN, 0, [HALF_MIN, HALF_MIN]),
        (2 * HALF_MIN - 1, 0, [2 * HALF_MIN - 1]),
        (1, HALF_MIN, [1, HALF_MIN]),
        (2, HALF_MIN, [2, HALF_MIN]),
        (2, HALF_MIN - 1, [2]),
        (2 * HALF_MIN, HALF_MIN, [HALF_MIN, HALF_MIN]),
    ],
    ids=["halves", "too few for halves", "a call beside a lone one", "a second call", "too few for a second call", "no third call"],
)
async def test_many_leave_in_two_calls_that_are_on_their_way_together(gathered: int, later: int, calls: list[int]) -> None:
    server = Server(most_items=1_000, most_bytes=1_000_000)
    first = await server.submitted(*([number] for number in range(gathered)))
    second = await server.submitted(*([number] for number in range(later)))
    assert list(map(len, server.calls)) == calls
    server.gate.set()
    assert await answers(first + second) == [[2 * number] for number in (*range(gathered), *range(later))]
    await server.commit.drain()
    assert len(server.calls) <= len(calls) + 1


async def test_many_callers_that_come_after_a_lone_one_share_two_calls_evenly() -> None:
    sizes: list[int] = []

    async def flush(items: list[int]) -> Sequence[int]:
        sizes.append(len(items))
        for _ in range(10):
            await asyncio.sleep(0)
        return items

    async def caller() -> None:
        for number in range(10):
            await commit.submit([number], number)

    commit: GroupCommit[int, int] = GroupCommit(flush, most_items=500, most_bytes=1 << 20)
    await commit.submit([0], 0)
    await asyncio.gather(*(caller() for _ in range(100)))
    assert sum(sizes) == 1 + 1_000
    assert set(sizes[5:-5]) == {50}, sizes


async def test_a_call_is_bounded_in_number() -> None:
    server = Server(most_items=4)
    first = await server.submitted([1])
    later = await server.submitted([2], [3], [4, 5, 6], [7])
    server.gate.set()
    assert await answers(first + later) == [[2], [4], [6], [8, 10, 12], [14]]
    assert server.calls == [[1], [2, 3], [4, 5, 6, 7]]


async def test_a_call_is_bounded_in_bytes() -> None:
    server = Server(most_bytes=100)
    first = await server.submitted([1])
    later = await server.submitted([60], [40], [1], [99], [2])
    server.gate.set()
    assert await answers(first + later) == [[2], [120], [80], [2], [198], [4]]
    assert server.calls == [[1], [60, 40], [1, 99], [2]]


async def test_a_group_over_the_bounds_goes_alone_and_undivided() -> None:
    server = Server(most_items=2, most_bytes=100)
    first = await server.submitted([1])
    later = await server.submitted([2, 3, 4, 5], [500], [6])
    server.gate.set()
    assert await answers(first + later) == [[2], [4, 6, 8, 10], [1_000], [12]]
    assert server.calls == [[1], [2, 3, 4, 5], [500], [6]]


async def test_an_empty_group_is_answered_without_a_call() -> None:
    server = Server()
    first = await server.submitted([1])
    later = await server.submitted([2, 3], [])  # as many items as groups
    server.gate.set()
    assert await answers(first + later) == [[2], [4, 6], []]
    assert server.calls == [[1], [2, 3]]


async def test_a_failed_call_reaches_each_of_its_callers_and_no_other() -> None:
    server = Server()
    first = await server.submitted([1])
    later = await server.submitted([2], [3, 4])
    server.refused = {3}
    server.gate.set()
    answer, *failed = await asyncio.gather(*first, *later, return_exceptions=True)
    assert answer == [2]
    assert [str(error) for error in failed] == ["gone", "gone"]
    assert await server.commit.submit([5], 5) == [10]


@pytest.mark.parametrize("told", [None, [1], [1, 2, 3]], ids=["nothing", "too few", "too many"])
async def test_a_call_that_does_not_answer_each_item_fails_for_all_of_its_callers(told: Any) -> None:
    async def answer_wrong(_: list[int]) -> Any:
        return told

    commit: GroupCommit[int, int] = GroupCommit(answer_wrong, most_items=4, most_bytes=100)
    async with asyncio.timeout(5):
        got = await asyncio.gather(commit.submit([1], 1), commit.submit([2], 1), return_exceptions=True)
        await commit.drain()
    assert [type(one) for one in got] == [TypeError if told is None else ValueError] * 2


async def test_a_call_that_fails_leaves_those_that_wait_behind_it() -> None:
    server = Server(most_items=1)
    failing, waiting = await server.submitted([1], [2])
    server.refused = {1}
    server.gate.set()
    with pytest.raises(ConnectionError):
        await failing
    assert await waiting == [4]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_caller_that_is_cancelled_leaves_the_others(cancelled: int) -> None:
    server = Server()
    tasks = await server.submitted([1], [2, 3], [4])
    tasks[cancelled].cancel()
    server.gate.set()
    got = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(got[cancelled], asyncio.CancelledError)
    assert [one for index, one in enumerate(got) if index != cancelled] == [
        *(expected for index, expected in enumerate([[2], [4, 6], [8]]) if index != cancelled),
    ]


async def test_a_failed_call_whose_caller_is_gone_warns_nobody() -> None:
    server = Server()
    (task,) = await server.submitted([1])
    task.cancel()
    server.refused = {1}
    server.gate.set()
    await server.commit.drain()
    assert task.cancelled()


async def test_drain_returns_when_nothing_waits() -> None:
    server = Server(most_items=1)
    await server.commit.drain()
    tasks = await server.submitted([1], [2], [3])
    draining = asyncio.create_task(server.commit.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    server.gate.set()
    await draining
    assert server.calls == [[1], [2], [3]]
    assert await answers(tasks) == [[2], [4], [6]]


async def test_drain_outlives_a_failed_call() -> None:
    server = Server(most_items=1)
    tasks = await server.submitted([1], [2])
    server.refused = {1, 2}
    server.gate.set()
    await server.commit.drain()
    assert server.calls == [[1], [2]]
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [ConnectionError] * 2


async def test_submitting_inside_a_callers_turn_is_not_lost() -> None:
    server = Server()
    server.gate.set()

    async def chain(item: int) -> Sequence[int]:
        (double,) = await server.commit.submit([item], item)
        return await server.commit.submit([double], double)

    assert await asyncio.gather(*map(chain, range(1, 6))) == [[4], [8], [12], [16], [20]]
    assert max(map(len, server.calls)) <= 4


class Looked(list[int]):
    """Items of a group, which count how often they are looked at."""

    looks = 0

    def __len__(self) -> int:
        """Count."""
        Looked.looks += 1
        return super().__len__()


async def test_what_waits_is_not_looked_through_for_every_call() -> None:
    server = Server()
    server.gate.set()
    groups = 1000
    assert len(await asyncio.gather(*(server.commit.submit(Looked([1]), 0) for _ in range(groups)))) == groups
    assert len(server.calls) == groups / 4
    assert Looked.looks < 10 * groups
