"""All that a namespace holds, and the invariant on which everything rests.

Every id in `jobs` is in exactly one of ready, delayed, leased, a lane, completed, failed, cancelled; a token, an entry in `held` and one in
`leased` exist together, and so do its entries in `holders`; every lane with waiters that may proceed has an entry in `opens`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from angelrt.job import blob_field
from angelrt.keys import QUEUE_KEYS, STATS_HOURS
from angelrt.views import Run, read_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from angelrt.store import Store

VOID: Final = "!"
IN_BLOB: Final = b"\0\1"
HASHES: Final = ("jobs", "runs", "blobs", "results", "notes", "watch", "workers", "gates", "rules", "control", "unique", "schedules")
SCORES: Final = ("completed", "failed", "cancelled", "beats", "gates_void")
TENANT_LANE: Final = 16
GATE_LANE: Final = 20
AT_GATES: Final = 10 * 2**49
RUN_HEAD: Final = re.compile(r"^(\S+) (\S+) (\d+) (\d+) (\d+) (\d+) (\d+) (\S+) \S*$")


class Waiter(NamedTuple):
    """A job in a lane."""

    lane: str
    rank: float
    id: str


class Gate(NamedTuple):
    """A gate that a flow names: `rule=value`, a rate or a number at a time, and the tokens that it takes of a rate."""

    name: str
    is_rate: bool
    cost: int
    has_cost: bool


class Event(NamedTuple):
    """An entry of the event stream."""

    verb: str
    worker: str
    jobs: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Queue:
    """What the keys of one queue hold: scores by id, and `wake` as to whether the marker is set.

    `lines` are the tenants that wait at each gate: as "id" the tenant's lane, as rank its time, at the latest.
    """

    ready: dict[str, float]
    delayed: dict[str, float]
    leased: dict[str, float]
    lanes: tuple[Waiter, ...]
    opens: dict[str, float]
    wake: bool
    expires: dict[str, float]
    turns: dict[str, float]
    lines: tuple[Waiter, ...]


@dataclass(frozen=True)
class State:
    """What the keys of one namespace hold. `stats` are the counters of all hours together."""

    jobs: dict[str, bytes]
    runs: dict[str, bytes]
    blobs: dict[str, bytes]
    results: dict[str, bytes]
    notes: dict[str, bytes]
    watch: dict[str, bytes]
    workers: dict[str, bytes]
    completed: dict[str, float]
    failed: dict[str, float]
    cancelled: dict[str, float]
    beats: dict[str, float]
    gates: dict[str, bytes]
    gates_void: dict[str, float]
    rules: dict[str, bytes]
    control: dict[str, bytes]
    unique: dict[str, bytes]
    schedules: dict[str, bytes]
    holders: frozenset[tuple[str, str]]
    held: frozenset[tuple[str, str]]
    registered: frozenset[str]
    events: tuple[Event, ...]
    stats: Counter[str]
    queues: dict[str, Queue]

    def places(self) -> dict[str, list[str]]:
        """Return for each id the places that hold it: `ready:q`, `lane:q`, `completed` and so on."""
        found: dict[str, list[str]] = {}
        for place, ids in self._lists():
            for job_id in ids:
                found.setdefault(job_id, []).append(place)
        return found

    def place(self, job_id: str) -> str:
        """Return the places of one job, joined by a comma; empty when it has none."""
        return ",".join(self.places().get(job_id, []))

    def flow(self, job_id: str) -> str:
        """Return what may hold a job back; `-` for nothing, and for a run that is not there or cannot be read."""
        found = RUN_HEAD.match(self.runs.get(job_id, b"").decode())
        return found[8] if found else "-"

    def run(self, job_id: str) -> Run:
        """Return the run of a job. Raises KeyError when it has none."""
        return read_run(self.runs[job_id])

    def limit(self, gate: str) -> tuple[int, ...]:
        """Return the limit of a gate: (most,), or (most, window_ms, burst) of a rate; () where nobody declared its rule."""
        rule = gate.partition("=")[0]
        return tuple(map(int, (self.rules.get(f"{rule}!") or self.rules.get(rule, b"")).split()))

    def changes(self, other: State) -> list[str]:
        """Name the parts that differ from another state."""
        return [part.name for part in fields(self) if getattr(self, part.name) != getattr(other, part.name)]

    def _lists(self) -> Iterator[tuple[str, Iterable[str]]]:
        for name, queue in self.queues.items():
            yield from ((f"{place}:{name}", getattr(queue, place)) for place in ("ready", "delayed", "leased"))
            yield f"lane:{name}", (waiter.id for waiter in queue.lanes)
        yield from (("completed", self.completed), ("failed", self.failed), ("cancelled", self.cancelled))


def gates_of(flow: str) -> list[Gate]:
    """Return the gates that a flow names."""
    parts = [(item[0], *item[1:].partition("*")) for item in flow.split(",") if item[0] in "cr"]
    return [Gate(name, kind == "r", int(cost or 1), bool(cost)) for kind, name, _, cost in parts]


def lane_of_gate(name: str) -> str:
    """Return the lane of a gate: the digest of its rule, by which the lanes of a rule lie together, and its own."""
    return _digest(name.partition("=")[0])[:8] + _digest(name)[:12]


def lanes_of_gate(gate: Gate) -> set[str]:
    """Return the lanes in which a job may wait at a gate: that of the gate, and that of those that cost more than the limit."""
    return {lane_of_gate(gate.name), f"{_digest(gate.name.partition('=')[0])[:8]}={gate.cost:011}"}


def lane_of_actor(name: str) -> str:
    """Return the lane of an actor."""
    return _digest(name)[:12]


def lane_of_suspects(actor: str) -> str:
    """Return the lane in which jobs of an actor wait whose workers died."""
    return f"s{lane_of_actor(actor)}"


def deaths_of(flow: str) -> int:
    """Return in how many deaths of workers in a row a job ran."""
    return next((int(item[1:]) for item in flow.split(",") if item[0] == "d"), 0)


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


async def read_state(store: Store, *queues: str) -> State:
    """Read a namespace in one packet, while nobody writes to it; name queues that are used but may not be registered.

    Not in a transaction: at its memory limit, a server refuses even the reads of one.
    """
    keys = store.keys
    names = sorted({*await store.queues(), *queues})
    commands: list[Sequence[Any]] = [["HGETALL", keys.key(name)] for name in HASHES]
    commands += [["ZRANGE", keys.key(name), 0, -1, "WITHSCORES"] for name in (*SCORES, "held", "holders", "queues")]
    commands.append(["XRANGE", keys.key("events"), "-", "+"])
    commands += [["HGETALL", key] for key in keys.every_stats()]
    commands += [["ZRANGE", key, 0, -1, "WITHSCORES"] for name in names for key in keys.queue(name)]
    replies = iter(await store.commands(*commands))
    whole: dict[str, Any] = {name: _hash(next(replies)) for name in HASHES}
    whole |= {name: _scores(next(replies)) for name in SCORES}
    held = frozenset(_pair(member) for member in _scores(next(replies)))
    holders = frozenset(_pair(member) for member in _scores(next(replies)))
    registered = frozenset(_scores(next(replies)))
    events = tuple(_event(entry) for _, entry in next(replies))
    stats = sum((_counts(next(replies)) for _ in range(STATS_HOURS)), Counter[str]())
    by_queue = {name: _queue([_scores(next(replies)) for _ in QUEUE_KEYS]) for name in names}
    return State(**whole, held=held, holders=holders, registered=registered, events=events, stats=stats, queues=by_queue)


def problems(state: State, *, may_wait_twice: bool = False) -> list[str]:
    """Name every breach of the invariant, and everything stored of jobs that are not there.

    `may_wait_twice`: a call that broke off may leave a job in two lines of its queue. Once it is leased out of the one, it stands in a lane
    still until a claim comes by there, or it is put off.
    """
    return [*breaches(state, may_wait_twice=may_wait_twice), *_left_over(state)]


def breaches(state: State, *, may_wait_twice: bool = False) -> list[str]:
    """Name every breach of the invariant."""
    misplaced = _misplaced(state, may_wait_twice=may_wait_twice)
    return [*misplaced, *_misled(state), *_mislined(state), *_unpaired(state), *_misheld(state), *_stuck(state), *_unwatched(state)]


def lost(state: State) -> list[str]:
    """Name the jobs that are in no place at all: nothing would ever run them."""
    return sorted(state.jobs.keys() - state.places().keys())


async def assert_sound(store: Store, *queues: str) -> State:
    """Read a namespace and check that the invariant holds."""
    state = await read_state(store, *queues)
    assert problems(state) == []
    return state


def _misplaced(state: State, *, may_wait_twice: bool) -> Iterator[str]:
    places = state.places()
    for job_id in state.jobs:
        found = places.get(job_id, [])
        if len(found) != 1 and not (may_wait_twice and _is_in_a_lane_still(found)):
            yield f"job {job_id} is in {found or 'no place'}"
    yield from (f"{job_id} is in {places[job_id]} and has no record" for job_id in places.keys() - state.jobs.keys())
    for name, queue in state.queues.items():
        if name not in state.registered and (queue.ready or queue.delayed or queue.leased or queue.lanes):
            yield f"queue {name} is used and not registered"


def _is_in_a_lane_still(found: list[str]) -> bool:
    """Whether places are lanes of one queue and at most one other place, to which a job may have gone from another line of that queue."""
    queues = {queue for name, _, queue in (place.partition(":") for place in found) if queue}
    others = [name for name in (place.partition(":")[0] for place in found) if name != "lane"]
    return len(queues) == 1 and len(others) < min(len(found), 2) and "delayed" not in others


def _unpaired(state: State) -> Iterator[str]:
    leased = {job_id for queue in state.queues.values() for job_id in queue.leased}
    holders = {job_id: worker for worker, job_id in state.held}
    for job_id, stored in state.runs.items():
        if not RUN_HEAD.match(stored.decode()):
            yield f"the run of {job_id} cannot be read: {stored!r}"
            continue
        has_token = not stored.startswith(VOID.encode())
        if has_token != (job_id in leased):
            yield f"{job_id} has {'a' if has_token else 'no'} token and is {'' if job_id in leased else 'not '}leased"
        elif has_token and holders.get(job_id) != read_run(stored).worker:
            yield f"{job_id} is leased to {read_run(stored).worker} and held by {holders.get(job_id)}"
    yield from (f"{job_id} is leased and has no run" for job_id in leased - state.runs.keys())
    yield from (f"{job_id} is held by {worker} and not leased" for worker, job_id in state.held if job_id not in leased)
    yield from (f"{job_id} is held twice" for job_id, times in Counter(job_id for _, job_id in state.held).items() if times > 1)


def _misled(state: State) -> Iterator[str]:
    """A waiter stands in the lane of its actor or of one of its gates, at the rank of its run, by which it is found again."""
    for name, queue in state.queues.items():
        for waiter in queue.lanes:
            if len(waiter.lane) == TENANT_LANE or not RUN_HEAD.match(state.runs.get(waiter.id, b"").decode()):
                continue
            own = {lane + waiter.lane[GATE_LANE:] for gate in gates_of(state.flow(waiter.id)) for lane in lanes_of_gate(gate)}
            own.add(lane_of_actor(_actor(state, waiter.id)))
            if deaths_of(state.flow(waiter.id)):
                own.add(lane_of_suspects(_actor(state, waiter.id)))
            if waiter.lane not in own:
                yield f"{waiter.id} stands in lane {waiter.lane} of queue {name}, which is none of its own"
            if waiter.rank != state.run(waiter.id).rank:
                yield f"{waiter.id} stands at rank {waiter.rank:.0f}, and its run says {state.run(waiter.id).rank:.0f}"


def _misheld(state: State) -> Iterator[str]:
    """Who is leased holds its concurrency gates, and nobody else."""
    leased = {job_id for queue in state.queues.values() for job_id in queue.leased}
    due = {(lane_of_gate(gate.name), job_id) for job_id in leased for gate in gates_of(state.flow(job_id)) if not gate.is_rate}
    yield from (f"{job_id} holds the gate of lane {lane} and is not leased with it" for lane, job_id in state.holders - due)
    yield from (f"{job_id} is leased and does not hold the gate of lane {lane}" for lane, job_id in due - state.holders)


def _stuck(state: State) -> Iterator[str]:
    """A lane may proceed when a worker in the register knows its actor and serves its queue, or when its gate lets the first one through.

    When a rate does so is a question of time: its lane has a mark for some time, unless more tokens are asked for than there ever are.
    """
    served: set[tuple[str, str]] = set()
    for info in map(orjson.loads, state.workers.values()):
        served |= {(queue, actor) for queue in info.get("queues", ()) for actor in info.get("actors", ())}
    for name, queue in state.queues.items():
        for lane, waiter in first_by_lane(queue, ages=f"aging {name}" in state.rules).items():
            if lane in queue.opens:
                continue
            actor = _actor(state, waiter.id)
            if lane == lane_of_suspects(actor):
                yield f"{waiter.id} waits in queue {name} to run apart, and its lane has no mark"
            if lane == lane_of_actor(actor) and (name, actor) in served:
                yield f"{waiter.id} waits in queue {name} for actor {actor}, which a worker knows, and its lane is not open"
            for gate in gates_of(state.flow(waiter.id)):
                if lane in lanes_of_gate(gate) and _may_open(state, gate):
                    yield f"{waiter.id} waits in queue {name} for {gate.name}, which lets it through, and its lane has no mark"


def first_by_lane(queue: Queue, *, ages: bool) -> dict[str, Waiter]:
    """Return who comes first in each lane; at a gate where tenants wait, the first of the one whose turn it is.

    Those of nobody take their place among them when the gate is next looked at: right behind the first.
    """
    firsts = {one.lane: one for one in reversed(queue.lanes)}

    def turn(waiter: Waiter) -> tuple[int, float, str]:
        band = 0 if ages else int(waiter.rank // 2**49)
        lane = waiter.lane if len(waiter.lane) > GATE_LANE else f"{waiter.lane}r{band}"
        others = [time + 1 for other, time in queue.turns.items() if other.startswith(f"{waiter.lane}t{band}")]
        return band, queue.turns.get(lane, min(others, default=0)), lane

    found: dict[str, Waiter] = {}
    for waiter in sorted(firsts.values(), key=turn):
        found.setdefault(waiter.lane if len(waiter.lane) < GATE_LANE else waiter.lane[:GATE_LANE], waiter)
    return found


def _mislined(state: State) -> Iterator[str]:
    """A tenant who waits at a gate has its time there, and an entry in the gate's line that is no later."""
    for name, queue in state.queues.items():
        lines: dict[str, float] = {}
        for one in queue.lines:
            lines[one.lane + one.id] = min(one.rank, lines.get(one.lane + one.id, one.rank))
        for lane in {waiter.lane for waiter in queue.lanes if len(waiter.lane) > GATE_LANE}:
            band = int(lane[GATE_LANE + 1]) * 2**49
            if lane not in queue.turns or lines.get(lane, AT_GATES) > queue.turns[lane] - AT_GATES + band:
                yield f"nobody in queue {name} looks at lane {lane}: its time is {queue.turns.get(lane)}, its entry at {lines.get(lane)}"


def _may_open(state: State, gate: Gate) -> bool:
    """Whether a gate lets a job through that holds it not yet, now or by time alone."""
    if f"g{gate.name}" in state.control or f"{gate.name.partition('=')[0]}~" in state.rules:
        return False
    limit = state.limit(gate.name)
    if gate.is_rate:
        return not limit or gate.cost <= limit[0]
    return not limit or sum(lane == lane_of_gate(gate.name) for lane, _ in state.holders) < limit[0]


def _unwatched(state: State) -> Iterator[str]:
    """A job that has not begun and has a time until which it must is watched, and nothing else is."""
    for name, queue in state.queues.items():
        waiting = {*queue.ready, *queue.delayed, *(waiter.id for waiter in queue.lanes)}
        for job_id in waiting & state.runs.keys():
            till_ms = next((float(item[1:]) for item in state.flow(job_id).split(",") if item[0] == "x"), None)
            if till_ms is not None and not state.run(job_id).deliveries and queue.expires.get(job_id) != till_ms:
                yield f"{job_id} in queue {name} is to begin until {till_ms:.0f}, and nobody watches it"
        yield from (f"{job_id} is watched and does not wait in queue {name}" for job_id in queue.expires.keys() - waiting)


def _actor(state: State, job_id: str) -> str:
    return state.jobs.get(job_id, b"").partition(b"\0")[0].decode()


def _left_over(state: State) -> Iterator[str]:
    ended = state.completed.keys() | state.failed.keys() | state.cancelled.keys()
    for what in ("runs", "results", "notes", "watch"):
        stored: Mapping[str, bytes] = getattr(state, what)
        yield from (f"{what} holds {job_id}, which has no record" for job_id in stored.keys() - state.jobs.keys())
    yield from (f"{job_id} ended and has a run" for job_id in ended & state.runs.keys())
    yield from (f"{job_id} ended and is watched" for job_id in ended & state.watch.keys())
    yield from (f"{job_id} ended and has no result" for job_id in (state.completed | state.failed).keys() - state.results.keys())
    yield from (f"nobody will clear the state of lane {lane}" for lane in state.gates.keys() - state.gates_void.keys())
    arguments = {blob_field(job_id, record) for job_id, record in state.jobs.items() if record.endswith(b"\0")}
    results = {
        f"{job_id}={result.partition(b' ')[0].decode()}" for job_id, result in state.results.items() if result.endswith(IN_BLOB)
    }  # fmt: skip
    yield from (f"blob {field} belongs to nothing" for field in state.blobs.keys() - arguments - results)
    yield from (f"blob {field} is missing" for field in (arguments | results) - state.blobs.keys())


def _hash(reply: list[bytes]) -> dict[str, bytes]:
    return {field.decode(): value for field, value in zip(reply[::2], reply[1::2], strict=True)}


def _scores(reply: list[bytes]) -> dict[str, float]:
    return {member.decode(): float(score) for member, score in zip(reply[::2], reply[1::2], strict=True)}


def _counts(reply: list[bytes]) -> Counter[str]:
    return Counter({field: int(value) for field, value in _hash(reply).items()})


def _pair(member: str) -> tuple[str, str]:
    worker, _, job_id = member.partition("\0")
    return worker, job_id


def _event(entry: list[bytes]) -> Event:
    found = _hash(entry)
    return Event(found["v"].decode(), found["w"].decode(), int(found["n"]), tuple(filter(None, found["ids"].decode().split("\0"))))


def _queue(scores: list[dict[str, float]]) -> Queue:
    ready, delayed, leased, lanes, opens, wake, expires, turns = scores
    members = [Waiter(lane, float(rank), job_id) for lane, rank, job_id in (member.split("\0", 2) for member in lanes)]
    waiters = tuple(one for one in members if not one.lane.endswith("~"))
    lines = tuple(one._replace(lane=one.lane[:-1]) for one in members if one.lane.endswith("~"))
    return Queue(ready, delayed, leased, waiters, opens, bool(wake), expires, turns, lines)
