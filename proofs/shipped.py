"""The shipped scripts as a backend: each call is made on a real server, on a namespace that is written for it and read after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from angelrt.keys import OWN_KEYS, QUEUE_KEYS, Keys
from angelrt.link import Link, LinkLost
from angelrt.new_jobs import NewJob
from angelrt.store import Lease, Store, Verdict

from .model import GHOST
from .snapshot import EMPTY, HASHES, LEASE_MS, LOOKED_MS, NOW_MS, QUEUE, SETS, Snapshots, canonical, gate_name, rule_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .fleet import Call
    from .model import Db
    from .snapshot import Keys as Snapshot
    from .world import World

PATIENCE_S: Final = 300.0
"""A busy machine is no lost answer."""
LANES: Final = 64
"""So many calls are under way at once, each in a namespace of its own."""
READ: Final = (*HASHES, *SETS, *(name for name in EMPTY if name in OWN_KEYS), *QUEUE_KEYS)
WRITE: Final = """
for i = 1, #KEYS do redis.call('DEL', KEYS[i]) end
local at = 1
while ARGV[at] do
  local key, command, count = KEYS[tonumber(ARGV[at])], ARGV[at + 1], tonumber(ARGV[at + 2])
  redis.call(command, key, unpack(ARGV, at + 3, at + 2 + count))
  at = at + 3 + count
end
"""
DUMP: Final = """
local found = {}
for i = 1, #KEYS do
  local type = redis.call('TYPE', KEYS[i]).ok
  if type == 'hash' then found[i] = redis.call('HGETALL', KEYS[i])
  elseif type == 'zset' then found[i] = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')
  else found[i] = {} end
end
return found
"""


class Shipped:
    """Answers calls by the scripts, each once. Calls that are wanted together go to the server together."""

    def __init__(self, world: World, url: str, loop: asyncio.AbstractEventLoop) -> None:
        """Connect at the first call."""
        self.world = world
        self.snapshots = Snapshots(world)
        self.loop = loop
        self.link = Link(url, reply_timeout_s=PATIENCE_S)
        self._benches = [Bench(world, self.snapshots, url, self.link, f"lane{number}") for number in range(LANES)]
        self._dbs: list[Snapshot] = []
        self._views: list[Db] = []
        self._numbers: dict[Snapshot, int] = {}
        self._known: dict[tuple[int, Call], tuple[int, Any]] = {}

    def close(self) -> None:
        """Close the connection."""
        self.loop.run_until_complete(self.link.close())

    @property
    def calls(self) -> int:
        """How many different calls of different namespaces were made."""
        return len(self._known)

    @property
    def known(self) -> dict[tuple[int, Call], tuple[int, Any]]:
        """What each call made of each namespace."""
        return self._known

    def keys(self, db: int) -> Snapshot:
        """Return what the keys of a namespace hold."""
        return self._dbs[db]

    @property
    def namespaces(self) -> int:
        """How many different namespaces there are."""
        return len(self._dbs)

    def start(self) -> int:
        """Return the namespace in which nothing was sent."""
        return self._number(self.snapshots.start())

    def view(self, db: int) -> Db:
        """Return a namespace as the model sees it."""
        return self._views[db]

    def prepare(self, wanted: set[tuple[int, Call]]) -> None:
        """Make calls that will be asked for, all at once."""
        fresh = sorted((key for key in wanted if key not in self._known), key=repr)
        if fresh:
            self.loop.run_until_complete(self._make_all(fresh))

    def run(self, db: int, call: Call) -> tuple[int, Any]:
        """Return what a call makes of a namespace, and its answer."""
        if (db, call) not in self._known:
            self.prepare({(db, call)})
        return self._known[db, call]

    async def _make_all(self, fresh: list[tuple[int, Call]]) -> None:
        waiting = iter(fresh)

        async def work(bench: Bench) -> None:
            for db, call in waiting:
                after, reply = await bench.make(self._dbs[db], call)
                self._known[db, call] = (self._number(after), reply)

        ends = await asyncio.gather(*map(work, self._benches), return_exceptions=True)
        for error in filter(None, ends):
            raise error

    def _number(self, keys: Snapshot) -> int:
        number = self._numbers.setdefault(keys, len(self._dbs))
        if number == len(self._dbs):
            self._dbs.append(keys)
            self._views.append(self.snapshots.view(keys))
        return number


class Bench:
    """One namespace of the server, in which one call after the other is made."""

    def __init__(self, world: World, snapshots: Snapshots, url: str, link: Link, namespace: str) -> None:
        """Prepare a store on a shared link; its clock stands still."""
        self.world = world
        self.snapshots = snapshots
        self.store = Store(url, Keys(namespace), events_max=0)
        self.store.link = self.link = link
        self.store.clock = lambda: float(NOW_MS)
        self.store.long_way_s = 0
        queue_keys = dict(zip(QUEUE_KEYS, self.store.keys.queue(QUEUE), strict=True))
        self._keys = [queue_keys.get(name) or self.store.keys.key(name) for name in READ]
        self._all = self.store.keys.every([QUEUE])

    async def make(self, before: Snapshot, call: Call) -> tuple[Snapshot, Any]:
        """Return what a call makes of a namespace, and its answer."""
        edit = getattr(self.snapshots, call.verb, None)
        if edit is not None:
            arguments = [f"w{call.arguments[0]}"] if call.verb in ("die", "forget", "remember") else call.arguments
            return edit(before, *arguments), None
        caller = f"w{call.arguments[0]}" if call.verb == "claim" else ""
        write = asyncio.ensure_future(self._write(self.snapshots.timed(before, caller)))
        verb = asyncio.ensure_future(getattr(self, f"_{call.verb}")(*call.arguments))
        reply = await verb
        await write
        return self.snapshots.untimed(before, await self.read()), reply

    async def _write(self, keys: Snapshot) -> None:
        arguments: list[Any] = []
        for name, members in keys:
            if name in HASHES:
                flat = [part for member in members for part in member]
                arguments += (1 + READ.index(name), "HSET", len(flat), *flat)
            else:
                flat = [part for member, score in members for part in (score, member)]
                arguments += (1 + READ.index(name), "ZADD", len(flat), *flat)
        used = [*self._keys, self.store.keys.key("beats"), self.store.keys.key("workers"), self.store.keys.key("queues")]
        queues = (len(used), "ZADD", 2, 0, QUEUE)
        names = [GHOST, *(f"w{index}" for index in range(len(self.world.workers)))]
        beats = (len(used) - 2, "ZADD", 2 * len(names), *(part for name in names for part in (NOW_MS, name)))
        (reply,) = await self.link.call(["EVAL", WRITE, len(used), *used, *arguments, *queues, *beats])
        if isinstance(reply, Exception):
            raise reply

    async def read(self) -> Snapshot:
        """Return what the namespace holds."""
        (found,) = await self.link.call(["EVAL", DUMP, len(self._keys), *self._keys])
        if isinstance(found, Exception):
            raise found
        return canonical({name: _members(flat) for name, flat in zip(READ, found, strict=True)})

    # -- calls -----------------------------------------------------------------------------------------------------------------------

    async def _enqueue(self, job: int) -> object:
        actor, ids = self.world.jobs[job].actor, self.snapshots.ids
        record = b"%b\0none\0{}" % actor.encode()
        return (await self.store.enqueue([NewJob(QUEUE, ids[job], record, flow=self.snapshots.flow(job))]))[0]

    async def _claim(self, index: int, resend: bool) -> object:  # noqa: FBT001 - as the script has it
        known = "\0".join(("", *sorted(self.world.workers[index]), "")).encode()
        link = _Resending(self.store.url, self.link) if resend else self.link
        claimed = await self.store.claim(
            link, f"w{index}", f"w{index}", queues=[QUEUE], lease_ms=LEASE_MS, capacity=1, free=1, actors=known, block=False,
            looked_ms=LOOKED_MS,
        )  # fmt: skip
        assert claimed.now_ms == NOW_MS, "by this time the worker tells what it has seen"
        jobs = [self.snapshots.ids.index(one.id.decode()) for one in claimed.deliveries]
        assert len(jobs) <= 1, f"more than was asked for: {jobs}"
        return (jobs[0] if jobs else None, claimed.again)

    async def _settle(self, index: int, job: int, verdict: str) -> object:
        delay_ms, has_begun = (1_000 if verdict == "r" else 0), verdict != "x"
        one = Verdict(QUEUE, self.snapshots.ids[job], f"w{index}", verdict, delay_ms, b"", "q|x\0p1\0r1" if has_begun else "q|x")
        return (await self.store.settle(f"w{index}", [one]))[0]

    async def _renew(self, index: int, job: int) -> object:
        lost, asked = await self.store.renew([Lease(QUEUE, self.snapshots.ids[job], f"w{index}")], LEASE_MS)
        return "lost" if lost else "asked" if asked else "ok"

    async def _tick(self) -> object:
        await self.store.tick([QUEUE])
        return None

    async def _cancel(self, job: int) -> object:
        return (await self.store.cancel([self.snapshots.ids[job]], "me"))[0]

    async def _strike(self) -> object:
        await self.store.expire_worker(GHOST, [QUEUE], died=True)
        return None

    async def _arrive(self, index: int) -> object:
        await self.store.beat(f"w{index}", b"{}", [QUEUE], sorted(self.world.workers[index]))
        return None

    async def _pause(self, what: str) -> object:
        await self.store.control("pause", _what(what), "{}", [QUEUE])
        return None

    async def _resume(self, what: str) -> object:
        await self.store.control("resume", _what(what), "", [QUEUE])
        return None

    async def _limit(self, rule: str, most: int) -> object:
        await self.store.control("limit", rule_name(rule), str(most), [QUEUE])
        return None


class _Resending(Link):
    """Loses the first call before it is sent, so that the store sends it again and says so."""

    def __init__(self, url: str, link: Link) -> None:
        """Send over another link."""
        super().__init__(url)
        self._over = link
        self._lost = False

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands, but for the first time. Raises LinkLost."""
        if not self._lost:
            self._lost = True
            message = "lost on purpose"
            raise LinkLost(message)
        return await self._over.call(*commands)


def _what(what: str) -> str:
    if what == "q":
        return f"q{QUEUE}"
    return what if what[0] == "a" else f"g{gate_name(what[1:])}"


def _members(flat: list[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
