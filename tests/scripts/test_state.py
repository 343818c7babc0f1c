"""The checker of the invariant finds each way to break it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.scripts.partition import START_MS, Partition, job, verdict
from tests.state import State, lane_of_gate, lost, problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BIG = b"x" * 5_000


KEYED: Final = "a.k@q"
FULL: Final = f"{KEYED}=1"
RATED: Final = "a.k/10s@q=1"


@pytest.fixture
async def gated(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """A sound partition with jobs that run behind gates, wait at them, and are to begin in time; it is about to be broken."""
    part = Partition(server_url, namespace)
    try:
        await part.store.control("declare", KEYED, "1", ["q"])
        await part.store.control("declare", RATED.partition("=")[0], "1 10000 1", ["q"])
        await part.send(
            *(job(name, flow=f"c{FULL}") for name in ("runs", "waits")), *(job(name, flow=f"r{RATED}") for name in ("ran", "rest"))
        )
        await part.claim()
        await part.settle(verdict("ran", "c", b"null"))
        await part.send(job("late", flow=f"x{START_MS + 60_000:.0f}"), job("turn", flow="tann"))
        yield part
    finally:
        await part.remove()


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


async def test_sound_gates_have_no_problems(gated: Partition) -> None:
    state = await gated.state()
    assert problems(state) == []
    assert {name: state.place(name) for name in state.jobs} == {
        "runs": "leased:q",
        "waits": "lane:q",
        "ran": "completed",
        "rest": "lane:q",
        "late": "ready:q",
        "turn": "lane:q",
    }


def _waiter(lane: str, state: State, job_id: str, later: int = 0) -> str:
    return f"{lane}\0{state.run(job_id).rank + later:016.0f}\0{job_id}"


LANE: Final = lane_of_gate(FULL)
GATED: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "holder-that-waits": (("ZADD", "holders", 0, f"{LANE}\0waits"), f"waits holds the gate of lane {LANE} and is not leased with it"),
    "holder-gone": (("ZREM", "holders", f"{LANE}\0runs"), f"runs is leased and does not hold the gate of lane {LANE}"),
    "limit-raised-unnoticed": (("HSET", "rules", KEYED, "2"), f"waits waits in queue q for {FULL}, which lets it through, and its lane"),
    "rule-gone-unnoticed": (("HDEL", "rules", KEYED), f"waits waits in queue q for {FULL}, which lets it through, and its lane"),
    "gate-never-cleared": (("DEL", "gates_void"), f"nobody will clear the state of lane {lane_of_gate(RATED)}"),
}


@pytest.mark.parametrize("name", GATED)
async def test_broken_gate_is_found(gated: Partition, name: str) -> None:
    command, problem = GATED[name]
    await gated.key(*command)
    assert any(found.startswith(problem) for found in problems(await gated.state()))


async def test_rate_whose_lane_nobody_looks_at_is_found(gated: Partition) -> None:
    await gated.queue_key("ZREM", "opens", "q", lane_of_gate(RATED))
    assert f"rest waits in queue q for {RATED}, which lets it through, and its lane has no mark" in problems(await gated.state())


@pytest.mark.parametrize("what", ["paused", "swept"])
async def test_lane_of_a_gate_that_somebody_will_open_needs_no_mark(gated: Partition, what: str) -> None:
    await gated.key("DEL", "rules")
    await gated.key(*(("HSET", "control", f"g{FULL}", "{}") if what == "paused" else ("HSET", "rules", f"{KEYED}~", "1")))
    assert [found for found in problems(await gated.state()) if "waits waits" in found] == []


async def test_waiter_in_a_lane_of_others_is_found(gated: Partition) -> None:
    state = await gated.state()
    await gated.queue_key("ZREM", "lanes", "q", _waiter(LANE, state, "waits"))
    await gated.queue_key("ZADD", "lanes", "q", 0, _waiter(lane_of_gate(RATED), state, "waits"))
    assert f"waits stands in lane {lane_of_gate(RATED)} of queue q, which is none of its own" in problems(await gated.state())


async def test_waiter_at_another_rank_than_its_run_says_is_found(gated: Partition) -> None:
    state = await gated.state()
    await gated.queue_key("ZREM", "lanes", "q", _waiter(LANE, state, "waits"))
    await gated.queue_key("ZADD", "lanes", "q", 0, _waiter(LANE, state, "waits", later=1))
    rank = state.run("waits").rank
    assert f"waits stands at rank {rank + 1:.0f}, and its run says {rank:.0f}" in problems(await gated.state())


async def test_job_whose_time_nobody_watches_is_found(gated: Partition) -> None:
    await gated.queue_key("ZREM", "expires", "q", "late")
    assert f"late in queue q is to begin until {START_MS + 60_000:.0f}, and nobody watches it" in problems(await gated.state())


async def test_job_that_is_watched_for_another_time_is_found(gated: Partition) -> None:
    await gated.queue_key("ZADD", "expires", "q", START_MS, "late")
    assert f"late in queue q is to begin until {START_MS + 60_000:.0f}, and nobody watches it" in problems(await gated.state())


async def test_run_that_is_watched_is_found(gated: Partition) -> None:
    await gated.queue_key("ZADD", "expires", "q", START_MS, "runs")
    assert "runs is watched and does not wait in queue q" in problems(await gated.state())
