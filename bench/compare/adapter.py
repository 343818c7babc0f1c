"""What every Python adapter shares: the job, its stamps, and the lines of JSON that the driver speaks. Standard library alone.

An adapter runs in its peer's own interpreter, as `python -m bench.compare.peers.NAME ROLE URL CONCURRENCY VARIANT`. It says that it is
ready in one line on standard output; from then on each line on standard input is a command, and each line on standard output its answer. A
worker's first command is `go`: until then it takes no job. The JavaScript adapter speaks the same.

Times are of CLOCK_MONOTONIC in microseconds, which the processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

DATA_CHARS = 100
STAMP_CHARS = 20
NOOP, IO, SLOW = "x", "i", "s"
IO_S = 0.010
SLOW_S = 0.050
SENDERS = 100
BEHIND_US = 1_000_000
"""A producer that is so far behind its schedule does not carry the load."""
LOOK_S = 0.005
PAIR = struct.Struct("<qq")

INPUT, OUTPUT = (os.fdopen(os.dup(number), mode, buffering=1) for number, mode in ((0, "r"), (1, "w")))
"""The driver's own pipes. What the peer prints goes to its log instead, and a process that it forks may close its standard input."""


class About(NamedTuple):
    """What is shown beside a peer's figures. `loses` is empty where all jobs of a killed worker run again some day."""

    distribution: str
    settings: str
    documented: str
    killed: str
    loses: str
    results: str
    pickup: str


def now_us() -> int:
    """Return the time in microseconds."""
    return time.monotonic_ns() // 1000


def between(least: float, most: float) -> float:
    """Return a number in step with nothing."""
    return random.uniform(least, most)  # noqa: S311 - no secret


def data_of(number: int, kind: str = NOOP) -> str:
    """Return the argument of a job: 100 bytes that begin with a number (mostly the time of sending) and its kind."""
    return f"{number:0{STAMP_CHARS}}{kind}".ljust(DATA_CHARS, "x")


class Stamps:
    """When each job began, with the number in its argument: in memory, or in a file where jobs run in several processes."""

    def __init__(self) -> None:
        """Begin in memory."""
        self._buffer = bytearray()
        self._descriptor: int | None = None

    def share(self) -> None:
        """Write to the file that the driver names, for processes that are forked later, too."""
        self._descriptor = os.open(os.environ["COMPARE_STAMPS"], os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def note(self, data: str) -> None:
        """Keep that a job runs now; one call that no other thread can tear."""
        pair = PAIR.pack(now_us(), int(data[:STAMP_CHARS]))
        if self._descriptor is None:
            self._buffer.extend(pair)
        else:
            os.write(self._descriptor, pair)

    def __len__(self) -> int:
        """How many jobs ran."""
        return (len(self._buffer) if self._descriptor is None else os.fstat(self._descriptor).st_size) // PAIR.size

    def pairs(self) -> list[tuple[int, int]]:
        """Return (began, number) of each job."""
        if self._descriptor is None:
            return list(PAIR.iter_unpack(bytes(self._buffer)))
        size = len(self) * PAIR.size
        return list(PAIR.iter_unpack(os.pread(self._descriptor, size, 0)))

    def clear(self) -> None:
        """Forget all, while no job runs."""
        self._buffer.clear()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)


stamps = Stamps()


def trace(mark: str, data: str) -> None:
    """Append that a slow job began (b) or ended (e) to a file, which outlives a process that is killed."""
    descriptor = os.open(os.environ["COMPARE_TRACES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{mark} {int(data[:STAMP_CHARS])} {os.getsid(0)}\n".encode())
    os.close(descriptor)


async def job(data: str) -> None:
    """Do nothing, or wait as the kind of the argument says: the one job of all asynchronous peers."""
    kind = data[STAMP_CHARS]
    if kind == IO:
        await asyncio.sleep(IO_S)
    elif kind == SLOW:
        trace("b", data)
        await asyncio.sleep(SLOW_S)
        trace("e", data)
    stamps.note(data)


def blocking_job(data: str) -> None:
    """Do the same for peers that call plain functions."""
    kind = data[STAMP_CHARS]
    if kind == IO:
        time.sleep(IO_S)
    elif kind == SLOW:
        trace("b", data)
        time.sleep(SLOW_S)
        trace("e", data)
    stamps.note(data)


class Asked:
    """What every peer tells of itself, and what the driver asks of it."""

    about: ClassVar[About]
    several_processes: ClassVar[bool] = False

    def __init__(self, role: str, url: str, concurrency: int, variant: str) -> None:
        """Keep what the driver asks for."""
        self.role = role
        self.url = url
        self.concurrency = concurrency
        self.variant = variant


class Peer(Asked):
    """An asynchronous peer. Adapters fill in what it is and how it sends and works."""

    async def open(self) -> None:
        """Connect."""

    def send(self, data: str) -> Awaitable[Any]:
        """Send one job: what the peer's own call gives, awaited until the server has it, and nothing around it."""
        raise NotImplementedError

    async def send_many(self, many: Sequence[str]) -> None:
        """Send many jobs as fast as the peer can; 100 at once where it has no call for it."""
        await concurrently(self.send, many, SENDERS)

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send one job that is due later."""
        raise NotImplementedError

    async def work(self) -> None:
        """Run a worker until the process ends."""
        raise NotImplementedError


class BlockingPeer(Asked):
    """A peer whose calls block. 100 concurrent senders are threads."""

    def open(self) -> None:
        """Connect."""

    def send(self, data: str) -> None:
        """Send one job; returns when the server has it."""
        raise NotImplementedError

    def send_many(self, many: Sequence[str]) -> None:
        """Send many jobs as fast as the peer can; one after the other where it has no call for it."""
        for data in many:
            self.send(data)

    def send_later(self, data: str, delay_s: float) -> None:
        """Send one job that is due later."""
        raise NotImplementedError

    def work(self) -> None:
        """Run a worker until the process ends."""
        raise NotImplementedError


def answer(**fields: Any) -> None:
    """Write one line for the driver."""
    OUTPUT.write(json.dumps(fields) + "\n")
    OUTPUT.flush()


async def concurrently(send: Callable[[str], Awaitable[Any]], many: Iterable[str], senders: int) -> None:
    """Send with so many tasks, each of which awaits one send after the other."""
    rest = iter(many)

    async def sender() -> None:
        for data in rest:
            await send(data)

    await asyncio.gather(*(sender() for _ in range(senders)))


def numbered(n: int, kind: str = NOOP) -> list[str]:
    """Return the arguments of many jobs: made before the clock starts, since it is sending that is measured."""
    return [data_of(number, kind) for number in range(n)]


class AsyncClient:
    """The commands of a client over an asynchronous peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def single(self, n: int) -> dict[str, Any]:
        """Await one send after the other."""
        many = numbered(n)
        begun_us = now_us()
        for data in many:
            await self.peer.send(data)
        return {"seconds": (now_us() - begun_us) / 1e6}

    async def concurrent(self, n: int) -> dict[str, Any]:
        """Send with 100 tasks at once."""
        many = numbered(n)
        begun_us = now_us()
        await concurrently(self.peer.send, many, SENDERS)
        return {"seconds": (now_us() - begun_us) / 1e6}

    async def bulk(self, n: int, kind: str) -> dict[str, Any]:
        """Send many, numbered, in the peer's own way for many."""
        many = numbered(n, kind)
        begun_us = now_us()
        await self.peer.send_many(many)
        return {"seconds": (now_us() - begun_us) / 1e6}

    async def idle(self, n: int, least_s: float, most_s: float) -> dict[str, Any]:
        """Send one at a time with pauses between, in step with nothing."""
        for _ in range(n):
            await asyncio.sleep(between(least_s, most_s))
            await self.peer.send(data_of(now_us()))
        return {}

    async def open_loop(self, rate: int, seconds: float) -> dict[str, Any]:
        """Send at a rate whatever becomes of the sends before; stamped when it is issued. Who falls behind for good gives up."""
        sends: set[asyncio.Future[Any]] = set()
        begun_us, late_us, sent = now_us(), 0, 0
        while sent < int(rate * seconds) and late_us < BEHIND_US:
            due_us = begun_us + sent * 1_000_000 // rate
            while (pause_us := due_us - now_us()) > 0:  # noqa: ASYNC110 - a clock, no condition
                await asyncio.sleep(pause_us / 1e6)
            late_us = now_us() - due_us
            task = asyncio.ensure_future(self.peer.send(data_of(now_us())))
            sends.add(task)
            task.add_done_callback(sends.discard)
            sent += 1
        await asyncio.gather(*sends)
        return {"seconds": (now_us() - begun_us) / 1e6, "late_ms": late_us / 1000, "sent": sent}

    async def delayed(self, n: int, least_s: float, most_s: float) -> dict[str, Any]:
        """Send jobs for later; the number in their argument is the time at which they are due."""

        async def send(data: str) -> None:
            await self.peer.send_later(data, (int(data[:STAMP_CHARS]) - now_us()) / 1e6)

        dues = [now_us() + int(between(least_s, most_s) * 1e6) for _ in range(n)]
        await concurrently(send, map(data_of, dues), 10)
        return {}


class BlockingClient:
    """The commands of a client over a peer that blocks."""

    def __init__(self, peer: BlockingPeer) -> None:
        self.peer = peer

    def single(self, n: int) -> dict[str, Any]:
        """Send one after the other."""
        many = numbered(n)
        begun_us = now_us()
        self._send_all(many)
        return {"seconds": (now_us() - begun_us) / 1e6}

    def concurrent(self, n: int) -> dict[str, Any]:
        """Send with 100 threads at once."""
        many = numbered(n)
        shares = [many[number::SENDERS] for number in range(SENDERS)]
        begun_us = now_us()
        with ThreadPoolExecutor(SENDERS) as threads:
            list(threads.map(self._send_all, shares))
        return {"seconds": (now_us() - begun_us) / 1e6}

    def _send_all(self, many: Sequence[str]) -> None:
        for data in many:
            self.peer.send(data)

    def bulk(self, n: int, kind: str) -> dict[str, Any]:
        """Send many, numbered, in the peer's own way for many."""
        many = numbered(n, kind)
        begun_us = now_us()
        self.peer.send_many(many)
        return {"seconds": (now_us() - begun_us) / 1e6}

    def idle(self, n: int, least_s: float, most_s: float) -> dict[str, Any]:
        """Send one at a time with pauses between, in step with nothing."""
        for _ in range(n):
            time.sleep(between(least_s, most_s))
            self.peer.send(data_of(now_us()))
        return {}

    def open_loop(self, rate: int, seconds: float) -> dict[str, Any]:
        """Send at a rate, one after the other; stamped with the time at which it was due if a send before took longer."""
        begun_us, late_us, sent = now_us(), 0, 0
        while sent < int(rate * seconds) and late_us < BEHIND_US:
            due_us = begun_us + sent * 1_000_000 // rate
            while (pause_us := due_us - now_us()) > 0:
                time.sleep(pause_us / 1e6)
            late_us = now_us() - due_us
            self.peer.send(data_of(due_us if late_us > 1000 else now_us()))
            sent += 1
        return {"seconds": (now_us() - begun_us) / 1e6, "late_ms": late_us / 1000, "sent": sent}

    def delayed(self, n: int, least_s: float, most_s: float) -> dict[str, Any]:
        """Send jobs for later; the number in their argument is the time at which they are due."""
        for _ in range(n):
            due_us = now_us() + int(between(least_s, most_s) * 1e6)
            self.peer.send_later(data_of(due_us), (due_us - now_us()) / 1e6)
        return {}


class Counts:
    """The commands of a worker, answered by a thread beside it."""

    @staticmethod
    def wait(n: int, timeout_s: float) -> dict[str, Any]:
        """Wait until so many jobs ran."""
        give_up_at = time.monotonic() + timeout_s
        while len(stamps) < n and time.monotonic() < give_up_at:
            time.sleep(LOOK_S)
        return Counts.count()

    @staticmethod
    def count() -> dict[str, Any]:
        """Tell how many jobs ran."""
        return {"done": len(stamps)}

    @staticmethod
    def dump() -> dict[str, Any]:
        """Tell when each job ran, and the number in its argument."""
        return {"stamps": stamps.pairs()}

    @staticmethod
    def clear() -> dict[str, Any]:
        """Forget what ran so far."""
        stamps.clear()
        return {}


def serve_worker() -> None:
    """Answer commands until the driver is gone."""
    while line := INPUT.readline():
        command = json.loads(line)
        answer(**getattr(Counts, command.pop("do"))(**command))
    os._exit(0)


def begin_worker() -> None:
    """Wait for the word, then answer commands beside the worker."""
    INPUT.readline()
    answer()
    threading.Thread(target=serve_worker, daemon=True).start()


def introduce(about: About) -> None:
    """Say that all is ready, what this is, and of which version."""
    answer(**about._asdict(), version=version(about.distribution), runs_on=f"Python {platform.python_version()}")


async def serve(peer: Peer, role: str) -> None:
    """Be a client or a worker of an asynchronous peer."""
    await peer.open()
    introduce(peer.about)
    if role == "worker":
        await asyncio.to_thread(begin_worker)
        await peer.work()
        return
    client = AsyncClient(peer)
    while line := await asyncio.to_thread(INPUT.readline):
        command = json.loads(line)
        answer(**await getattr(client, command.pop("do"))(**command))


def serve_blocking(peer: BlockingPeer, role: str) -> None:
    """Be a client or a worker of a peer that blocks."""
    peer.open()
    introduce(peer.about)
    if role == "worker":
        begin_worker()
        peer.work()
        return
    client = BlockingClient(peer)
    while line := INPUT.readline():
        command = json.loads(line)
        answer(**getattr(client, command.pop("do"))(**command))


def main(kind: type[Peer | BlockingPeer]) -> None:
    """Run an adapter as its command line says."""
    role, url, concurrency, variant = sys.argv[1:]
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if kind.several_processes and role == "worker":
        stamps.share()
    peer = kind(role, url, int(concurrency), variant)
    if isinstance(peer, BlockingPeer):
        serve_blocking(peer, role)
        return
    import uvloop  # noqa: PLC0415 - in the environment of every asynchronous peer, not of the others

    uvloop.run(serve(peer, role))
