"""How much of each limit is in use: the places that are held, and the tokens that count in a window."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from .job import View
from .views import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .store import Store

SLICES: Final = 64
"""A rate's window is counted in so many slices; see _gates.lua."""
SLICE: Final = re.compile(r"(\d+):(\d+)")
RATE_PARTS: Final = 3
LOOKS_MAX: Final = 500
"""So many jobs of a concurrency limit, and gates of rates of one window, are looked at: the call takes as long with 100,000 values."""
GATES_MAX: Final = 5
"""So many gates of a limit are told one by one."""
NAMERS_MAX: Final = 100
"""So many running jobs of a queue are asked for the values of its rates."""


class GateUse(View):
    """What is taken at one gate. `value` is that of the argument, '' without one, None where no job that runs or waits there tells it."""

    value: str | None
    taken: int


class LimitUse(View):
    """How much of a limit is in use: `gates` are the fullest, up to five of the `in_use` that were found; with `has_more`, not all were."""

    rule: str
    most: int
    gates: list[GateUse]
    in_use: int
    has_more: bool


class Specs(NamedTuple):
    """A limit as it is stored: declared by the code, and changed by hand; '' where it is not."""

    declared: str
    changed: str

    @property
    def holds(self) -> str:
        """The one that holds."""
        return self.changed or self.declared


class _Limit(NamedTuple):
    """A limit that is counted by; `window_ms` is 0 where places are counted."""

    rule: str
    most: int
    window_ms: int

    @classmethod
    def read(cls, rule: str, spec: str) -> _Limit | None:
        parts = spec.split()
        return cls(rule, int(parts[0]), int(parts[1]) if len(parts) == RATE_PARTS else 0) if parts else None

    @property
    def whole_lane(self) -> bytes:
        """The lane of a limit that goes by no argument."""
        return _lane(self.rule, f"{self.rule}=")

    @property
    def queue(self) -> str:
        return unquote(self.rule.rpartition("@")[2])


class _Looked(NamedTuple):
    """The lanes that were found where something may be taken, and whether there are more than are looked at."""

    lanes: set[bytes]
    is_cut: bool


class _Found(NamedTuple):
    """A gate of which something is taken."""

    lane: bytes
    taken: int


async def read_rules(store: Store) -> dict[str, Specs]:
    """Return all limits that are declared, or were, by name."""
    reply = await store.command("HGETALL", store.keys.key("rules"))
    stored = {field.decode(): spec.decode() for field, spec in zip(reply[::2], reply[1::2], strict=True)}
    names = {field.rstrip("!~^") for field in stored if "@" in field and " " not in field}
    return {name: Specs(stored.get(name, ""), stored.get(f"{name}!", "")) for name in sorted(names)}


async def share_used(store: Store, rule: str, gate: str) -> float | None:
    """Return the share of a limit that is taken at one gate; None for a rule that no worker has declared."""
    declared, changed = await store.command("HMGET", store.keys.key("rules"), rule, f"{rule}!")
    limit = _Limit.read(rule, (changed or declared or b"").decode())
    if limit is None:
        return None
    reply = await store.command(*_reading(store, limit, _lane(rule, gate)))
    return _taken(limit, reply, store.server_ms()) / limit.most


async def usage(store: Store) -> list[LimitUse]:
    """Return how much of each limit is in use. The figures are read one after the other, so jobs may begin and end between them."""
    limits = [limit for rule, specs in (await read_rules(store)).items() if (limit := _Limit.read(rule, specs.holds))]
    places, rates = [limit for limit in limits if not limit.window_ms], [limit for limit in limits if limit.window_ms]
    looked = await _places_held(store, places) | await _rates_asked(store, rates)
    found = await _found(store, {limit: {limit.whole_lane, *looked[limit].lanes} for limit in limits})
    values = await _values(store, {limit: found[limit][:GATES_MAX] for limit in limits})
    return [_told(limit, found[limit], values, is_cut=looked[limit].is_cut) for limit in limits]


def _told(limit: _Limit, found: Sequence[_Found], values: Mapping[bytes, str], *, is_cut: bool) -> LimitUse:
    gates = [GateUse(value=values.get(lane), taken=taken) for lane, taken in found[:GATES_MAX]]
    has_more = is_cut and [gate.value for gate in gates] != [""]
    return LimitUse(rule=limit.rule, most=limit.most, gates=gates, in_use=len(found), has_more=has_more)


async def _places_held(store: Store, limits: Sequence[_Limit]) -> dict[_Limit, _Looked]:
    """Return the lanes at which jobs hold places."""
    holders = store.keys.key("holders")
    spans = [(f"[{of_rule}", f"({of_rule}~") for of_rule in (_sha1(limit.rule)[:8] for limit in limits)]
    replies = await store.commands(
        *(["ZRANGEBYLEX", holders, *span, "LIMIT", 0, LOOKS_MAX] for span in spans),
        *(["ZLEXCOUNT", holders, *span] for span in spans),
    )
    members, counts = replies[: len(limits)], replies[len(limits) :]
    lanes = [{member.partition(b"\0")[0] for member in some} for some in members]
    return {limit: _Looked(lanes[n], counts[n] > LOOKS_MAX) for n, limit in enumerate(limits)}


async def _rates_asked(store: Store, limits: Sequence[_Limit]) -> dict[_Limit, _Looked]:
    """Return the lanes at which tokens may count: those that say something for the longest, of all rates and up to twice each window.

    Without the second, a rate by the day with many values would hide all rates by the second.
    """
    now_ms, void = store.server_ms(), store.keys.key("gates_void")
    ends = {window_ms: now_ms + 2 * window_ms for window_ms in sorted({limit.window_ms for limit in limits})}
    replies = await store.commands(
        *(["ZCOUNT", void, f"({now_ms}", end_ms] for end_ms in ends.values()),
        *(["ZREVRANGEBYSCORE", void, end, f"({now_ms}", "LIMIT", 0, LOOKS_MAX] for end in ("+inf", *ends.values())),
    )
    counts, seen = dict(zip(ends, replies, strict=False)), {lane for some in replies[len(ends) :] for lane in some}
    return {
        limit: _Looked({lane for lane in seen if lane.startswith(limit.whole_lane[:8])}, counts[limit.window_ms] > LOOKS_MAX)
        for limit in limits
    }


async def _found(store: Store, lanes: Mapping[_Limit, set[bytes]]) -> dict[_Limit, list[_Found]]:
    """Return the gates of which something is taken, the fullest first."""
    asked = [(limit, lane) for limit, some in lanes.items() for lane in sorted(some)]
    replies = await store.commands(*(_reading(store, limit, lane) for limit, lane in asked))
    found: dict[_Limit, list[_Found]] = {limit: [] for limit in lanes}
    for (limit, lane), reply in zip(asked, replies, strict=True):
        found[limit].append(_Found(lane, _taken(limit, reply, store.server_ms())))
    return {limit: sorted((gate for gate in gates if gate.taken), key=lambda gate: -gate.taken) for limit, gates in found.items()}


async def _values(store: Store, shown: Mapping[_Limit, Sequence[_Found]]) -> dict[bytes, str]:
    """Return the values of gates, by lane. A lane is a digest: a value is known from the flow of a job that holds it or waits there."""
    values = {limit.whole_lane: "" for limit in shown}
    nameless = [(limit, lane) for limit, gates in shown.items() for lane, _ in gates if lane not in values]
    queues = {limit.queue for limit, _ in nameless if limit.window_ms}
    if not nameless:
        return values
    replies = await store.commands(
        *(_namer(store, limit, lane) for limit, lane in nameless),
        *(["ZRANGE", leased, 0, NAMERS_MAX - 1] for _, _, leased, *_ in map(store.keys.queue, sorted(queues))),
    )
    ids = {member.rpartition(b"\0")[2] for members in replies for member in members}
    runs = await store.commands_list("HMGET", store.keys.key("runs"), sorted(ids))
    for run in filter(None, runs):
        for item in read_run(run).flow.split(","):
            gate, _, _ = item[1:].partition("*")
            rule, equals, value = gate.partition("=")
            if item[0] in "cr" and equals:
                values[_lane(rule, gate)] = unquote(value)
    return values


def _namer(store: Store, limit: _Limit, lane: bytes) -> list[Any]:
    """Return the command that finds a job that holds a place at a gate; of a rate, one that waits there, for itself or for a tenant."""
    _, _, _, lanes, *_ = store.keys.queue(limit.queue)
    where = [lanes, b"[" + lane, b"(" + lane + b"~"] if limit.window_ms else [store.keys.key("holders"), *_span(lane)]
    return ["ZRANGEBYLEX", *where, "LIMIT", 0, 1]


def _reading(store: Store, limit: _Limit, lane: bytes) -> list[Any]:
    """Return the command whose reply tells what is taken at a gate."""
    return ["HGET", store.keys.key("gates"), lane] if limit.window_ms else ["ZLEXCOUNT", store.keys.key("holders"), *_span(lane)]


def _taken(limit: _Limit, reply: Any, now_ms: float) -> int:
    """Return the jobs that hold a place, or the tokens that count: a slice does until a window and a slice after its end."""
    if not limit.window_ms:
        return int(reply)
    horizon_ms = now_ms - limit.window_ms - max(limit.window_ms // SLICES, 1)
    return sum(int(tokens) for ends, tokens in SLICE.findall((reply or b"").decode()) if int(ends) > horizon_ms)


def _span(lane: bytes) -> tuple[bytes, bytes]:
    """Return the bounds between which the jobs lie that hold a gate."""
    return b"[" + lane + b"\0", b"(" + lane + b"\1"


def _lane(rule: str, gate: str) -> bytes:
    return f"{_sha1(rule)[:8]}{_sha1(gate)[:12]}".encode()


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
