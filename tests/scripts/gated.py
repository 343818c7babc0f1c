"""Gates by hand: rules, flows and lanes as clients write them, and what must hold of them whatever happened."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from tests.scripts.partition import ids, verdict
from tests.state import GATE_LANE, TENANT_LANE, first_by_lane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from angelrt.store import Claimed
    from tests.scripts.partition import Partition
    from tests.state import State

KEYED: Final = "a.key@q"
"""A concurrency rule that goes by an argument."""
OTHER: Final = "a.host@q"
RATED: Final = "a.key/10s@q"
"""A rate over ten seconds that goes by an argument."""
WINDOW_MS: Final = 10_000
SLICE_MS: Final = 156
"""What the server counts a window of ten seconds in: 1/64 of it."""
LATEST_MS: Final = WINDOW_MS + 2 * SLICE_MS
"""After this, and no later, a token that was taken has come back."""


def gate(value: object = 1, rule: str = KEYED) -> str:
    """Return the name of a gate."""
    return f"{rule}={value}"


def held(value: object = 1, rule: str = KEYED) -> str:
    """Return a concurrency gate as an item of a flow."""
    return f"c{gate(value, rule)}"


def rated(value: object = 1, rule: str = RATED, cost: int | None = None) -> str:
    """Return a rate's gate as an item of a flow."""
    return f"r{gate(value, rule)}" + ("" if cost is None else f"*{cost}")


def lane(name: str) -> str:
    """Return the lane of a gate."""
    rule = name.partition("=")[0]
    return hashlib.sha1(rule.encode(), usedforsecurity=False).hexdigest()[:8] + _digest(name)


def beyond(cost: int, rule: str = RATED) -> str:
    """Return the lane of those that cost so much, and more than the limit of their rule."""
    return f"{lane(rule)[:8]}={cost:011}"


def actor_lane(actor: str) -> str:
    """Return the lane of an actor."""
    return _digest(actor)


def _digest(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:12]


def rate(most: int, burst: int | None = None, window_ms: int = WINDOW_MS) -> str:
    """Return the spec of a rate."""
    return f"{most} {window_ms} {burst or most}"


async def declare(part: Partition, rule: str = KEYED, spec: str | int = 1) -> None:
    """Declare a rule, as a worker's start does, in the millisecond before."""
    part.now_ms -= 1
    await part.store.control("declare", rule, str(spec), part.queues)
    part.now_ms += 1


async def set_limit(part: Partition, rule: str, spec: str | int) -> None:
    """Change a limit by hand; '' takes the declared one back."""
    await part.store.control("limit", rule, str(spec), part.queues)


async def pause(part: Partition, what: str) -> None:
    """Pause: q, a or g and a name."""
    await part.store.control("pause", what, "{}", part.queues)


async def resume(part: Partition, what: str) -> None:
    """Take a pause back."""
    await part.store.control("resume", what, "", part.queues)


async def holders(part: Partition) -> set[tuple[str, str]]:
    """Return who occupies which gate, as pairs of lane and id."""
    found: set[tuple[str, str]] = set()
    for member in await part.key("ZRANGE", "holders", 0, -1):
        where, _, job_id = member.decode().partition("\0")
        found.add((where, job_id))
    return found


async def opens(part: Partition, queue: str = "q") -> dict[str, float]:
    """Return the lanes that are to be looked at, with the time."""
    return (await part.state()).queues[queue].opens


async def lanes(part: Partition, queue: str = "q") -> dict[str, list[str]]:
    """Return who waits in which lane, in order."""
    found: dict[str, list[str]] = {}
    for waiter in (await part.state()).queues[queue].lanes:
        found.setdefault(waiter.lane, []).append(waiter.id)
    return found


async def complete(part: Partition, claimed: Claimed, under: str = "t1", worker: str = "w1") -> list[str]:
    """Complete everything that a claim brought, and name it."""
    verdicts = [verdict(one.id.decode(), "c", b"1", under=under, queue=one.queue) for one in claimed.deliveries]
    if verdicts:
        assert set(await part.settle(*verdicts, worker=worker)) == {1}
    return ids(claimed)


async def drain(part: Partition, limit: int = 200, **options: Any) -> list[tuple[float, str]]:
    """Work as one worker does until nothing is left, moving the clock only to times that the server named; tell what began when."""
    begun: list[tuple[float, str]] = []
    for number in range(limit):
        claimed = await part.claim(under=f"drain{number}", **options)
        begun += [(part.now_ms, job_id) for job_id in await complete(part, claimed, f"drain{number}")]
        if claimed.again or claimed.deliveries:
            continue
        _, due_ms = await part.store.tick(part.queues)
        if await part.take_marker():
            continue
        if due_ms < 0:
            return begun
        part.now_ms = max(part.now_ms, due_ms)
    message = f"not drained in {limit} claims: {await lanes(part)}"
    raise AssertionError(message)


# -- what must always hold -----------------------------------------------------------------------------------------------------------


async def gate_problems(part: Partition) -> list[str]:
    """Name every holder without a lease, every lease without its holders, every lane that may proceed and has no mark."""
    state = await part.state()
    has = await holders(part)
    rules = await _hash(part, "rules")
    stored = await _hash(part, "gates")
    paused = await _hash(part, "control")
    found = [*_unpaired(state, has), *_wrong_lanes(state), *_unwatched_expiry(state)]
    for name, queue in state.queues.items():
        for where, waiter in first_by_lane(queue, ages=f"aging {name}" in state.rules).items():
            if len(where) != len(lane("")):
                continue
            first = (waiter.id, state.run(waiter.id).flow)
            why = _may_proceed(part.now_ms, where, first, has, rules, stored, paused)
            mark = queue.opens.get(where)
            if why and (mark is None or mark > part.now_ms) and why != "later":
                found.append(f"lane {where} ({first}) may proceed ({why}), and its mark is {mark}")
            if why == "later" and mark is None:
                found.append(f"lane {where} ({first}) may proceed later, and has no mark")
    return found


async def _hash(part: Partition, name: str) -> dict[str, str]:
    reply = await part.key("HGETALL", name)
    return {field.decode(): value.decode() for field, value in zip(reply[::2], reply[1::2], strict=True)}


def _gates(flow: str) -> list[tuple[str, str, int]]:
    """Return kind, name and cost of each gate of a flow."""
    found: list[tuple[str, str, int]] = []
    for item in flow.split(","):
        if item[0] in "cr":
            name, _, cost = item[1:].partition("*")
            found.append((item[0], name, int(cost or 1)))
    return found


def _unpaired(state: State, has: set[tuple[str, str]]) -> Iterator[str]:
    leased = {job_id for queue in state.queues.values() for job_id in queue.leased}
    due = {(lane(name), job_id) for job_id in leased for kind, name, _ in _gates(state.run(job_id).flow) if kind == "c"}
    yield from (f"{job_id} occupies lane {where} and is not leased with it" for where, job_id in has - due)
    yield from (f"{job_id} is leased and does not occupy lane {where}" for where, job_id in due - has)


def _wrong_lanes(state: State) -> Iterator[str]:
    for name, queue in state.queues.items():
        for waiter in queue.lanes:
            run = state.run(waiter.id)
            actor = state.jobs[waiter.id].partition(b"\0")[0].decode()
            own = {each + waiter.lane[GATE_LANE:] for each in _own_lanes(run.flow)}
            own |= {actor_lane(actor), f"s{actor_lane(actor)}"}
            if len(waiter.lane) != TENANT_LANE and waiter.lane not in own:
                yield f"{waiter.id} stands in lane {waiter.lane} of queue {name}, which is none of its own"
            if waiter.rank != run.rank:
                yield f"{waiter.id} stands at {waiter.rank} and its run says {run.rank}"


def _own_lanes(flow: str) -> set[str]:
    return {where for _, name, cost in _gates(flow) for where in (lane(name), beyond(cost, name.partition("=")[0]))}


def _unwatched_expiry(state: State) -> Iterator[str]:
    for name, queue in state.queues.items():
        waiting = {*queue.ready, *queue.delayed, *(waiter.id for waiter in queue.lanes)}
        for job_id in waiting & state.runs.keys():
            run = state.run(job_id)
            due = next((item[1:] for item in run.flow.split(",") if item[0] == "x"), None)
            if due and run.deliveries == 0 and queue.expires.get(job_id) != float(due):
                yield f"{job_id} in {name} expires at {due}, and nobody watches it"
        yield from (f"{job_id} is watched for its expiry and does not wait" for job_id in queue.expires.keys() - waiting)


def _may_proceed(
    now_ms: float,
    where: str,
    first: tuple[str, str],
    has: set[tuple[str, str]],
    rules: dict[str, str],
    stored: dict[str, str],
    paused: dict[str, str],
) -> str:
    """Say why the first of a lane may proceed by this gate now, or "later" when time alone lets it; '' when somebody else must."""
    kind, name, cost = next(found for found in _gates(first[1]) if where in _own_lanes(f"{found[0]}{found[1]}*{found[2]}"))
    if f"g{name}" in paused:
        return ""
    rule = name.partition("=")[0]
    spec = (rules.get(f"{rule}!") or rules.get(rule, "")).split()
    if float(stored.get(where, "0").split()[0]) > now_ms:
        return "later"
    if not spec:
        return "no limit"
    most = int(spec[0])
    if kind == "c":
        return "a place is free" if sum(1 for lane_, _ in has if lane_ == where) < most else ""
    return "later" if cost <= most else ""
