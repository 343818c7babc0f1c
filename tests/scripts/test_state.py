"""The checker of the invariant finds each way to break it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.scripts.partition import START_MS, Partition, job, verdict
from tests.state import lost, problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BIG = b"x" * 5_000


@pytest.fixture
async def whole(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """A sound partition with a job in each place; it is about to be broken, so nothing is checked at its end."""
    part = Partition(server_url, namespace)
    try:
        await part.register("w2", "rare")
        await part.park("parked")
        await part.send("a-done", "b-failed", "c-gone", "d-leased", "e-retried")
        await part.claim()
        await part.settle(*(verdict(*pair, b"null") for pair in (("a-done", "c"), ("b-failed", "f"), ("c-gone", "k"))))
        await part.settle(verdict("e-retried", "r", BIG, delay_ms=500), verdict("d-leased", "n", b"half"))
        await part.send("ready", job("delayed", when="+500", priority=1), job("big", blob=BIG))
        yield part
    finally:
        await part.remove()


async def test_sound_state_has_no_problems(whole: Partition) -> None:
    state = await whole.state()
    assert problems(state) == []
    assert lost(state) == []
    assert {name: state.place(name) for name in state.jobs} == {
        "parked": "lane:q",
        "a-done": "completed",
        "b-failed": "failed",
        "c-gone": "cancelled",
        "d-leased": "leased:q",
        "e-retried": "delayed:q",
        "ready": "ready:q",
        "delayed": "delayed:q",
        "big": "ready:q",
    }


OWN: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "done-and-failed": (("ZADD", "failed", 1, "a-done"), "job a-done is in ['completed', 'failed']"),
    "nowhere": (("ZREM", "completed", "a-done"), "job a-done is in no place"),
    "ended-without-record": (("HDEL", "jobs", "a-done"), "a-done is in ['completed'] and has no record"),
    "not-registered": (("ZREM", "queues", "q"), "queue q is used and not registered"),
    "run-unreadable": (("HSET", "runs", "d-leased", "t1 w1"), "the run of d-leased cannot be read"),
    "run-gone": (("HDEL", "runs", "d-leased"), "d-leased is leased and has no run"),
    "token-gone": (("HSET", "runs", "d-leased", "! w1 1 1 1 0 1 - "), "d-leased has no token and is leased"),
    "token-without-lease": (("HSET", "runs", "ready", "t1 w1 1 1 1 0 1 - "), "ready has a token and is not leased"),
    "not-held": (("ZREM", "held", "w1\0d-leased"), "d-leased is leased to w1 and held by None"),
    "held-twice": (("ZADD", "held", 0, "w2\0d-leased"), "d-leased is held twice"),
    "held-without-lease": (("ZADD", "held", 0, "w1\0ready"), "ready is held by w1 and not leased"),
    "ended-with-run": (("HSET", "runs", "a-done", "! - 1 0 0 0 0 - "), "a-done ended and has a run"),
    "ended-and-watched": (("HSET", "watch", "a-done", "ann"), "a-done ended and is watched"),
    "result-gone": (("HDEL", "results", "a-done"), "a-done ended and has no result"),
    "left-over-run": (("HSET", "runs", "never-sent", "! - 1 0 0 0 0 - "), "runs holds never-sent, which has no record"),
    "left-over-note": (("HSET", "notes", "never-sent", "x"), "notes holds never-sent, which has no record"),
    "left-over-blob": (("HSET", "blobs", "d-leased=none", "x"), "blob d-leased=none belongs to nothing"),
    "arguments-gone": (("HDEL", "blobs", "big=none"), "blob big=none is missing"),
    "result-blob-gone": (("HDEL", "blobs", "e-retried=t1"), "blob e-retried=t1 is missing"),
}
OF_THE_QUEUE: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "in-two-places": (("ZADD", "ready", START_MS, "delayed"), "job delayed is in ['ready:q', 'delayed:q']"),
    "lost-from-ready": (("ZREM", "ready", "ready"), "job ready is in no place"),
    "lost-from-leased": (("ZREM", "leased", "d-leased"), "d-leased has a token and is not leased"),
    "lost-from-its-lane": (("DEL", "lanes"), "job parked is in no place"),
    "ghost": (("ZADD", "ready", 1, "never-sent"), "never-sent is in ['ready:q'] and has no record"),
    "lane-closed": (("DEL", "opens"), "parked waits in queue q for actor rare, which a worker knows, and its lane is not open"),
}


@pytest.mark.parametrize("name", OWN)
async def test_broken_partition_is_found(whole: Partition, name: str) -> None:
    command, problem = OWN[name]
    await whole.key(*command)
    assert any(found.startswith(problem) for found in problems(await whole.state()))


@pytest.mark.parametrize("name", OF_THE_QUEUE)
async def test_broken_queue_is_found(whole: Partition, name: str) -> None:
    (command, place, *arguments), problem = OF_THE_QUEUE[name]
    await whole.queue_key(command, place, "q", *arguments)
    assert any(found.startswith(problem) for found in problems(await whole.state()))


async def test_job_in_no_place_is_lost(whole: Partition) -> None:
    await whole.queue_key("ZREM", "ready", "q", "ready")
    assert lost(await whole.state()) == ["ready"]


async def test_closed_lane_that_nobody_knows_is_no_problem(whole: Partition) -> None:
    await whole.queue_key("DEL", "opens", "q")
    await whole.key("DEL", "workers")
    assert problems(await whole.state()) == []
