"""One namespace on a real server, with a clock that the test sets: what every test of a script works with."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from angelrt import scripts
from angelrt.keys import QUEUE_KEYS, Keys
from angelrt.new_jobs import NewJob, packed
from angelrt.store import Lease, Store, Verdict
from tests.scripts.faults import LOST_ANSWER, FaultyLink
from tests.state import assert_sound, read_state

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from angelrt.config import Retention
    from angelrt.scripts import Script
    from angelrt.store import Claimed
    from tests.state import State

START_MS: Final = 1_750_000_000_000.0
LEASE_MS: Final = 15_000
STEP: Final = 2**49


class Partition:
    """A store whose clock stands still until the test moves it, and short words for what tests do with it."""

    def __init__(self, url: str, namespace: str, retention: Retention | None = None, link: FaultyLink | None = None) -> None:
        """Prepare; connects at the first call, unless it shares the link of another partition."""
        self.now_ms = START_MS
        self.store = Store(url, Keys(namespace), retention=retention)
        self.store.clock = self._clock
        self.store.long_way_s = 0  # each call asks the short way first, however long a test takes
        self.link = self.store.link = link or FaultyLink(url)
        self._looked_ms: dict[str, float] = {}
        self.queues: tuple[str, ...] = ("q", "p")
        """Queues that tests use, so that the keys of one that is not registered are read and removed, too."""

    def _clock(self) -> float:
        return self.now_ms

    async def remove(self) -> None:
        """Remove every key and close the connection."""
        await self.clear()
        await self.store.close()

    async def clear(self) -> None:
        """Remove every key."""
        names = {*await self.store.queues(), *self.queues}
        await self.store.command("UNLINK", *self.store.keys.every(names))

    async def state(self) -> State:
        """Read everything."""
        return await read_state(self.store, *self.queues)

    async def raw(self, script: Script, queues: Sequence[str], *arguments: Any) -> Any:
        """Call a script with arguments of the test's choice, as the store does with its own."""
        await self.store.command("SCRIPT", "LOAD", script.source)
        return await self.store.command(*scripts.evalsha(self.store.keys, script, queues, arguments, self.now_ms))

    def packed(self, *jobs: NewJob) -> bytes:
        """Return the argument that stands for new jobs; their queues are numbered as they come."""
        return packed(scripts.QueueIndex(), jobs)[0]

    async def key(self, command: str, name: str, *arguments: Any) -> Any:
        """Run a plain command on one of the namespace's own keys."""
        return await self.store.command(command, self.store.keys.key(name), *arguments)

    async def queue_key(self, command: str, place: str, queue: str, *arguments: Any) -> Any:
        """Run a plain command on a key of a queue."""
        key = self.store.keys.queue(queue)[QUEUE_KEYS.index(place)]
        return await self.store.command(command, key, *arguments)

    async def take_marker(self, queue: str = "q") -> bool:
        """Take the wake marker of a queue as a waiting worker does; tell whether it was set."""
        return bool(await self.queue_key("ZPOPMIN", "wake", queue))

    async def send(self, *jobs: NewJob | str) -> list[int]:
        """Enqueue jobs; a bare id stands for a job of actor `a` in queue `q`."""
        return await self.store.enqueue([job(each) if isinstance(each, str) else each for each in jobs])

    async def claim(
        self,
        capacity: int = 100,
        *,
        worker: str = "w1",
        under: str = "t1",
        queues: Sequence[str] = ("q",),
        actors: Sequence[str] = ("a",),
        lease_ms: int = LEASE_MS,
        free: int | None = None,
    ) -> Claimed:
        """Claim for a worker that knows some actors, without waiting for the marker; `free` is as large as `capacity` unless given."""
        known = "\0".join(("", *actors, "")).encode()
        slots = capacity if free is None else free
        claimed = await self.store.claim(
            self.link, worker, under, queues=queues, lease_ms=lease_ms, capacity=capacity, free=slots, actors=known, block=False,
            looked_ms=self._looked_ms.get(worker, 0),
        )  # fmt: skip
        self._looked_ms[worker] = claimed.now_ms
        return claimed

    async def claim_twice(self, capacity: int = 100, **options: Any) -> Claimed:
        """Claim, lose the answer, and let the store send the call again."""
        self.link.fail(scripts.CLAIM, LOST_ANSWER)
        return await self.claim(capacity, **options)

    async def settle(self, *verdicts: Verdict, worker: str = "w1") -> list[int]:
        """Settle runs."""
        return await self.store.settle(worker, verdicts)

    async def renew(self, *leases: tuple[str, str], queue: str = "q", lease_ms: int = LEASE_MS) -> tuple[list[str], list[str]]:
        """Renew leases given as (id, token); answer the lost ones, and those asked to stop."""
        return await self.store.renew([Lease(queue, job_id, token) for job_id, token in leases], lease_ms)

    async def register(self, worker: str, *actors: str, queues: tuple[str, ...] = ("q",)) -> None:
        """Register a worker as its start does."""
        await self.store.beat(worker, orjson.dumps({"queues": queues, "actors": actors}), queues, actors)

    async def park(self, *ids: str, actor: str = "rare", queue: str = "q") -> None:
        """Send jobs of an actor and let a worker that does not know it put them into their lane."""
        await self.send(*(job(each, queue=queue, actor=actor) for each in ids))
        await self.claim(worker="stranger", under="parking", queues=(queue,), actors=("other",))


@asynccontextmanager
async def examined(url: str, namespace: str) -> AsyncGenerator[Partition]:
    """Yield a partition that is checked when all went well, and removed in any case."""
    partition = Partition(url, namespace)
    try:
        yield partition
        await assert_sound(partition.store, *partition.queues)
    finally:
        await partition.remove()


def on_a_partition(url: str, work: Callable[[Partition], Coroutine[Any, Any, None]]) -> None:
    """Do something on a partition of its own, and remove it: for each example of a property."""

    async def do() -> None:
        part = Partition(url, f"test-{secrets.token_hex(8)}")
        try:
            await work(part)
        finally:
            await part.remove()

    asyncio.run(do())


def job(
    job_id: str,
    *,
    queue: str = "q",
    actor: str = "a",
    arguments: bytes = b"{}",
    priority: int | None = None,
    when: str = "",
    blob: bytes | None = None,
    flow: str = "",
) -> NewJob:
    """Return a job as the client writes it; with a blob, its arguments are kept apart."""
    return NewJob(queue, job_id, b"%b\0none\0%b" % (actor.encode(), b"" if blob else arguments), priority, when, blob, flow)


def verdict(
    job_id: str,
    code: str,
    payload: bytes = b"",
    *,
    under: str = "t1",
    queue: str = "q",
    delay_ms: int = 0,
    children: Sequence[NewJob] = (),
    words: tuple[str, str] = ("p3", "r7"),
    gates: str = "",
) -> Verdict:
    """Return the verdict on a run of actor `a`."""
    return Verdict(queue, job_id, under, code, delay_ms, payload, "\0".join((f"{queue}|a", *filter(None, words))), tuple(children), gates)


def ids(claimed: Claimed) -> list[str]:
    """Return the ids of what was claimed, in order."""
    return [delivery.id.decode() for delivery in claimed.deliveries]


def rank(priority: int, ms: float) -> float:
    """Return the rank of a job of this priority that became ready at this time."""
    return priority * STEP + int((ms - 1_704_067_200_000) * 256)
