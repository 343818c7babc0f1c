"""What explain says of every job that waits, beside what the next claim does: on a copy of the namespace, so that neither changes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from angelrt import scripts
from angelrt.keys import Keys
from angelrt.store import Store
from angelrt.views import read_run
from tests.state import gates_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from angelrt.link import Link
    from angelrt.scripts import Script

READS: Final = 4
WAITING: Final = (b"ready", b"lanes")
AGAIN_MAX: Final = 4
OPENS_MAX: Final = 8
"""A claim looks at so many lanes of gates; where more are open, somebody else may be first."""


class Told(NamedTuple):
    """What explain tells of a job, by what it stands in line, in which lane (empty for ready), its tenant, and its gates."""

    id: str
    rank: float
    lane: str
    tenant: str
    gates: frozenset[str]
    facts: dict[str, list[str]]

    def is_held(self, now_ms: float) -> bool:
        """Whether something holds it until time passes or somebody acts; a gate that is open for those before it holds nobody."""
        opens_at = float(self.facts["gate"][2]) if "gate" in self.facts else 0
        return "paused" in self.facts or "missing" in self.facts or opens_at < 0 or opens_at > math.ceil(now_ms)

    @property
    def is_free(self) -> bool:
        """Whether nothing is named that it waits for, but its turn."""
        return not {"paused", "missing", "gate"} & self.facts.keys()

    @property
    def is_apart(self) -> bool:
        """Whether it is a suspect, or stands where they do. They have turns of their own, in which a worker is not idle, either."""
        return "apart" in self.facts or self.lane.startswith("s")

    @property
    def order(self) -> tuple[float, bytes]:
        """By what it stands in line."""
        return self.rank, self.id.encode()


class Copy:
    """A second namespace, which is made what the first one is as often as somebody asks."""

    def __init__(self, link: Link, url: str, keys: Keys, queues: Sequence[str]) -> None:
        """Name it."""
        self._call = link.call
        self._queues = queues
        self._first, self._second = keys, Keys(f"{keys.namespace}-copy")
        self._store = Store(url, self._second)
        self._store.link = link

    def every(self) -> list[str]:
        """Return all keys that it may have."""
        return self._second.every(self._queues)

    async def breaches(self, now_ms: float, actors: str) -> list[str]:
        """Name each way in which a claim of one job, by a worker of these actors, is not what explain says."""
        known = "\0".join(("", *actors, "")).encode()
        found: list[str] = []
        told = await self._explain(now_ms, known)
        options: dict[str, Any] = {"lease_ms": 1_000, "capacity": 1, "free": 1, "actors": known, "block": False}
        self._store.clock = lambda: now_ms
        for queue in self._queues:  # each by a worker that holds nothing, since no other one runs suspects
            claimed = await self._store.claim(self._store.link, f"of-{queue}", "tx", queues=[queue], **options)
            for number in range(AGAIN_MAX):  # what a claim has let go back in line is claimed by the next one
                if claimed.again == 1 and not claimed.deliveries:
                    claimed = await self._store.claim(self._store.link, f"of-{queue}", f"t{number}", queues=[queue], **options)
            jobs, opens, turns = told[queue]
            leased = [delivery.id.decode() for delivery in claimed.deliveries]
            found += _breaches(jobs, leased, now_ms, is_crowded=opens > OPENS_MAX, by_turns=turns > 0 or any(told.tenant for told in jobs))
        return found

    async def _explain(self, now_ms: float, known: bytes) -> dict[str, tuple[list[Told], int, int]]:
        """Return what is told of those that wait in each queue, once time has moved what it moves."""
        sources, targets = (
            [key for key in keys.every(self._queues) if ":stats:" not in key and ":minutes:" not in key]
            for keys in (self._first, self._second)
        )
        copies = [["COPY", source, target] for source, target in zip(sources, targets, strict=True)]
        tick = self._command(scripts.TICK, self._queues, now_ms)
        reads = [
            command
            for queue in self._queues
            for ready, _, _, lanes, opens, _, _, turns in [self._second.queue(queue)]
            for command in (["ZRANGE", ready, 0, -1], ["ZRANGE", lanes, 0, -1], ["ZCOUNT", opens, 0, now_ms], ["ZCARD", turns])
        ]
        replies = (await self._call(["UNLINK", *targets], *copies, tick, *reads))[-len(reads) :]
        waiting: list[tuple[str, bytes, bytes]] = []
        for number, queue in enumerate(self._queues):
            ready, lanes, *_ = replies[READS * number : READS * (number + 1)]
            waiting += [(queue, job_id, b"") for job_id in ready]
            members = [member.split(b"\0", 2) for member in lanes]
            waiting += [(queue, job_id, lane) for lane, _, job_id in members if not lane.endswith(b"~")]
        explains = [self._command(scripts.EXPLAIN, [queue], now_ms, job_id, known) for queue, job_id, _ in waiting]
        told: dict[str, tuple[list[Told], int, int]] = {
            queue: ([], *replies[READS * n + 2 : READS * n + 4]) for n, queue in enumerate(self._queues)
        }
        for (queue, job_id, lane), reply in zip(waiting, await self._call(*explains) if explains else [], strict=True):
            if reply[0] in WAITING:  # and not what a call that broke off has left in a second line
                told[queue][0].append(_told(job_id.decode(), lane.decode(), reply))
        return told

    def _command(self, script: Script, queues: Sequence[str], now_ms: float, *arguments: Any) -> list[Any]:
        return scripts.evalsha(self._second, script, queues, [f"{now_ms:.3f}", *arguments], now_ms)


def _order(told: Told) -> tuple[float, bytes]:
    return told.order


def _told(job_id: str, lane: str, reply: list[bytes]) -> Told:
    words = iter(word.decode() for word in reply[6:])
    facts = {name: [next(words) for _ in range(int(next(words)))] for name in words}
    flow = read_run(reply[4]).flow if reply[4] else "-"
    tenant = next((item for item in flow.split(",") if item[0] == "t"), "")
    return Told(job_id, float(reply[2]), lane, tenant, frozenset(gate.name for gate in gates_of(flow)), facts)


# Where tenants take turns, only those of one tenant in one lane have an order.
def _breaches(jobs: list[Told], leased: list[str], now_ms: float, *, is_crowded: bool, by_turns: bool) -> Iterator[str]:
    by_id = {told.id: told for told in jobs}
    held = [told for told in jobs if told.is_held(now_ms)]
    # Who is held at a gate, and has not come there, does so before others or not: among tenants, by how much a claim takes; a suspect
    # before those in line or after them, by whether its worker holds something and whose turn it is.
    free = [
        told
        for told in jobs
        if told.is_free
        and not any((by_turns or one.is_apart or told.is_apart) and one.order < told.order and one.gates & told.gates for one in held)
    ]
    in_line = [told for told in free if not told.is_apart]
    for told in map(by_id.__getitem__, leased):
        if told.is_held(now_ms):
            yield f"explain says that {told.id} is held: {told.facts}, and a claim leased it"
        if told.is_apart:
            continue  # it has not come out of the line
        kin = (other for other in in_line if not by_turns or (other.lane, other.tenant) == (told.lane, told.tenant))
        first = min(kin, key=_order, default=told)
        if first.order < told.order and not is_crowded:
            yield f"a claim leased {told}, and explain says that nothing holds one that comes first: {first}"
    if free and not leased and not is_crowded:
        yield f"explain says that nothing holds {[told.id for told in free]}, and a claim leased nothing"
