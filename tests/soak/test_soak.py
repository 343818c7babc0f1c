"""Nothing grows with jobs done: round after round of every kind of work, and what is left of it in Redis is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import Actors, Concurrency, Context, Fail, Keep, Queue, RateLimit, Retention, Retry, RetryPolicy, Runtime, Snooze, Unique
from angelrt.testing import sandbox

if TYPE_CHECKING:
    from angelrt.testing import Sandbox

PER_KIND: Final = 20
STAYS: Final = ("queues", "rules", "events")
"""What does not come back to nothing: the names of queues, the declared limits, and the event stream, which has a cap of its own."""
SIZE_OF: Final = {b"hash": "HLEN", b"zset": "ZCARD", b"stream": "XLEN"}
BIG: Final = "x" * 5_000


once = RetryPolicy(attempts=1)
work = Actors()
rested = set[str]()


@work.actor()
async def plain(value: str) -> str:
    """Say something of itself, and return what it got."""
    context = Context.current()
    context.progress(0.5, "half")
    context.log("a line")
    return value


@work.actor(queue="limited", limits=[Concurrency(1, per="customer"), RateLimit("5/minute", per="customer")])
async def limited(customer: str, number: int) -> str:
    """Wait for a place and for tokens."""
    return f"{customer} {number}"


@work.actor(queue="limited", limits=[RateLimit("100/minute", per="customer")])
async def held(customer: str) -> str:
    """Hold the gate once."""
    if Context.current().attempt == 1:
        raise Retry(after=1, gate=True)
    return customer


@work.actor(queue="shared")
async def shared(value: str) -> str:
    """Take turns."""
    return value


@work.actor(queue="aging")
async def aged(value: str) -> str:
    """Wait in a queue in which priorities age."""
    return value


@work.actor(unique=Unique())
async def finished(what: str) -> str:
    """Stand in the way of its like until it has ended."""
    return what


@work.actor(unique=Unique(until=30))
async def windowed(what: str) -> str:
    """Stand in the way of its like for half a minute."""
    return what


@work.actor(unique=Unique(debounce=5))
async def debounced(what: str) -> str:
    """Wait for quiet."""
    return what


@work.actor(retry=RetryPolicy(attempts=3, base=1))
async def flaky(value: str) -> None:
    """Succeed at the third attempt."""
    if Context.current().attempt < 3:
        raise LookupError(value)


@work.actor(retry=once)
async def broken(value: str) -> None:
    """Fail."""
    raise Fail(value)


@work.actor()
async def rests(number: int) -> None:
    """Snooze once, every second one."""
    job_id = Context.current().job.id
    if number % 2 and job_id not in rested:
        rested.add(job_id)
        raise Snooze(1)


@work.actor()
async def parent(value: str) -> None:
    """Send two children."""
    context = Context.current()
    context.send(plain.message(value))
    context.send(limited.message(value[:20], 0))


def application() -> Runtime[Any]:
    """Return a runtime that remembers what has ended for the floor of 60 s alone."""
    nothing = Keep(0, 0)
    rt = Runtime(retention=Retention(nothing, nothing, nothing), queues=[Queue("aging", aging=60)])
    rt.include(work)
    return rt


async def send_round(rt: Runtime[Any], number: int) -> None:
    """Send every kind of work under names that no other round uses."""
    name = f"round {number}"
    for i in range(PER_KIND):
        one = f"{name}, {i}"
        await rt.send("plain", {"value": one})
        await rt.send("plain", {"value": BIG + one}, id=f"big {one}")
        await rt.send("limited", {"customer": f"{name}, {i % 3}", "number": i})
        await rt.send("held", {"customer": one})
        for actor in (finished, windowed, debounced):
            await actor.send(one)
            await actor.send(one)
        for actor in ("flaky", "broken", "parent"):
            await rt.send(actor, {"value": one + BIG * (i % 2)})
        await rt.send("rests", {"number": i})
        await rt.send("shared", {"value": one}, tenant=f"{name}, {i % 5}", priority=i % 10)
        await rt.send("aged", {"value": one}, priority=i % 10)
        await rt.send("plain", {"value": one}, delay=3_600, expires=5)
        cancelled = await rt.send("plain", {"value": one + BIG}, delay=30)
        with pytest.raises(TimeoutError):
            await cancelled.result(0.001)
        await cancelled.cancel()


async def control_round(box: Sandbox, number: int) -> None:
    """Pause, resume, schedule, change a limit and take it back, under names of this round."""
    rt = box.runtime
    await rt.control.pause(key=f"customer=round {number}, 0", reason="soak")
    await rt.control.pause(actor="plain")
    await box.drain()
    await rt.control.resume(key=f"customer=round {number}, 0")
    await rt.control.resume(actor="plain")
    (rule,) = [one.name for one in await rt.control.limits() if one.name.startswith("limited.customer@")]
    await rt.control.set_limit(rule, 2)
    await rt.control.set_limit(rule, None)
    await rt.schedules.add(f"round-{number}", plain.message("scheduled"), every=10)


async def run_out(box: Sandbox, number: int) -> None:
    """Let everything end, replay what failed, and pass over the retention."""
    rt = box.runtime
    for _ in range(8):
        await box.drain()
        box.advance(10)
    await rt.schedules.remove(f"round-{number}")
    if number % 2:
        await rt.dead_letters.replay_all()
        await box.drain()
    else:
        await rt.dead_letters.purge(everything=True)
    for _ in range(8):
        box.advance(61)
        await box.drain()
        await keep_house(rt)
    box.advance(3_700)  # the jobs that were to expire, and rates of an hour
    await box.drain()
    for _ in range(3):
        box.advance(61)
        await keep_house(rt)


async def keep_house(rt: Runtime[Any]) -> None:
    """Do what a worker's housekeeping does, as often as there may be something to forget."""
    for _ in range(10):
        await rt.client().store.settle("house", [])


async def census(rt: Runtime[Any]) -> dict[str, int]:
    """Return how many entries each key of the namespace has; counters and wake markers are left out."""
    store = rt.client().store
    keys = [key for key in store.keys.every(await store.queues()) if not any(f":{what}:" in key for what in ("stats", "minutes"))]
    kinds = await store.commands(*(["TYPE", key] for key in keys))
    there = [(key, SIZE_OF[kind]) for key, kind in zip(keys, kinds, strict=True) if kind != b"none"]
    sizes = await store.commands(*([command, key] for key, command in there))
    named = {key.partition("}:")[2]: size for (key, _), size in zip(there, sizes, strict=True)}
    return {key: size for key, size in named.items() if not key.startswith("wake:")}  # one marker at most: there may be work


async def memory(rt: Runtime[Any]) -> int:
    """Return what the keys that are there weigh, in bytes; counters, events and wake markers are left out."""
    store = rt.client().store
    left_out = ("stats:", "minutes:", "wake:", "events")
    keys = [key for key in store.keys.every(await store.queues()) if not any(f":{what}" in key for what in left_out)]
    return sum(size or 0 for size in await store.commands(*(["MEMORY", "USAGE", key, "SAMPLES", 0] for key in keys)))


async def counters(rt: Runtime[Any]) -> list[dict[bytes, int]]:
    """Return the counters of each hour of the ring."""
    store = rt.client().store
    found = await store.commands(*(["HGETALL", key] for key in store.keys.every_stats()))
    return [{name: int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)} for flat in found]


async def soak(url: str, rounds: int) -> tuple[int, list[int]]:
    """Run rounds and check after each that it left nothing; return how many jobs there were, and the bytes that stay after each round."""
    rt = application()
    weights: list[int] = []
    async with sandbox(rt, url) as box:
        await rt.new_worker().declare()
        for number in range(rounds):
            await send_round(rt, number)
            await control_round(box, number)
            await run_out(box, number)
            left = await census(rt)
            assert left.keys() <= {*STAYS}, f"after round {number}, something is left: {left}"
            assert left["events"] < 10_200
            weights.append(await memory(rt))
        hours = await counters(rt)
    assert max(map(len, hours)) < 2_000
    assert len({*weights[1:]}) == 1, f"what stays weighs as much after each round: {weights}"
    return sum(count for hour in hours for name, count in hour.items() if name.endswith(b"|sent")), weights


async def test_a_few_rounds_of_every_kind_of_work_leave_nothing(server_url: str) -> None:
    jobs, _ = await soak(server_url, 3)
    assert jobs > 900


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_tens_of_thousands_of_jobs_leave_nothing(server_url: str) -> None:
    jobs, weights = await soak(server_url, 100)
    assert jobs > 30_000
    print(f"\n{jobs:,} jobs: {weights[1]:,} bytes stay after the second round, {weights[-1]:,} after the last")  # noqa: T201 - the figure
