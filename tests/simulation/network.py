"""Connections of the simulated world. What is sent arrives in order and late; in bad weather it is lost, or its answer is."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis._parsers.helpers import parse_info
from redis.exceptions import ConnectionError as Refused
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TooLate

from tests.simulation.loop import PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.loop import Loop, Process
    from tests.simulation.server import Peer, Server
    from tests.simulation.threads import Baton, Thread

IN_ORDER_S: Final = 1e-6
"""What was sent later arrives later; timers of one time fire in any order."""
FATES: Final = ("request lost", "reply lost", "request lost in silence", "reply lost in silence", "request late", "reply late")
GREETS_NOT: Final = 0.3
LATE_S: Final = 8.0
"""What is late comes up to so much later: its sender may have given up, and have sent it again over another connection."""
CLOSED: Final = "Connection closed by server."


class Network:
    """Carries what processes and server say to each other. `fate` decides about each packet, `fault` hears of each loss."""

    def __init__(self, loop: Loop, draw: Random, baton: Baton) -> None:
        self.loop = loop
        self.draw = draw
        self.baton = baton
        self.server: Server | None = None
        self.wires: dict[Wire, None] = {}
        self.cut_off: dict[Process, float] = {}
        self.storm_until_s = 0.0
        self.storm_chance = 0.0
        self.is_quiet = False
        self.is_over = False
        self.fault: Callable[[str, Process, float], None] = lambda *_: None
        self._context = Context()

    def later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call outside all processes."""
        return self.loop.call_at(self.loop.now_s + delay_s, callback, *args, context=self._context)

    def latency_s(self) -> float:
        is_slow = not self.is_quiet and self.draw.random() < 0.01
        return self.draw.uniform(0.05, 0.4) if is_slow else self.draw.uniform(0.0001, 0.003)

    def fate(self, wire: Wire) -> str:
        if self.loop.now_s < self.storm_until_s and self.draw.random() < self.storm_chance:
            return self.draw.choice(FATES)
        if self.is_cut_off(wire.process):
            return self.draw.choice(("request lost in silence", "request late"))
        return ""

    def is_cut_off(self, process: Process) -> bool:
        return self.cut_off.get(process, 0) > self.loop.now_s

    def delay_s(self, process: Process) -> float:
        """Return how long what is sent now takes, retransmissions included."""
        cut_off_s = self.cut_off.get(process, 0) - self.loop.now_s
        return (cut_off_s if 0 < cut_off_s < math.inf else 0) + self.latency_s()

    def new_connection(self) -> Connection:
        return Connection(self)

    def reset(self, wires: list[Wire]) -> None:
        """Break connections so that both ends notice."""
        for wire in wires:
            wire.reset(self.latency_s())


class Wire:
    """One connection. Losses of TCP are never of one packet alone: whatever is lost, nothing comes through any more."""

    def __init__(self, net: Network, on_reply: Callable[[Any], None], on_lost: Callable[[Exception], None]) -> None:
        process = PROCESS.get()
        assert process is not None, "only processes connect"
        self.process = process
        self._net = net
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._peer: Peer | None = None
        self._is_lost = False
        self._is_deaf = False
        self._is_silent = False
        self._out_s = self._in_s = 0.0
        net.wires[self] = None

    def connect(self, timeout_s: float, done: Callable[[], None]) -> None:
        """Connect; `done` is called, or on_lost, or neither where the server accepts and never greets."""
        if self._net.fate(self).endswith("in silence") and self._net.draw.random() < GREETS_NOT:
            self._net.fault("no greeting", self.process, 0)
        elif self._net.is_cut_off(self.process):
            self._net.later(timeout_s, self._lose, TooLate("Timeout connecting to server"))
        else:
            self._net.later(self._net.latency_s(), self._connected, done)

    def send(self, packet: bytes) -> None:
        """Send commands. Raises ConnectionError where the connection is known to be broken."""
        net = self._net
        if self._is_lost or net.is_over:
            raise Refused(CLOSED)
        if self._is_silent or self._peer is None:
            return
        commands = parsed(packet)
        fate = net.fate(self)
        late_s = net.draw.uniform(0, LATE_S) if fate.endswith("late") else 0
        self._in_s = max(self._in_s, net.loop.now_s + late_s * (fate == "reply late"))
        self._out_s = max(self._out_s + IN_ORDER_S, net.loop.now_s + late_s * (fate == "request late") + net.delay_s(self.process))
        if fate:
            net.fault(fate, self.process, max(self._in_s, self._out_s) - net.loop.now_s)
            self._is_deaf = "lost" in fate
            if fate.startswith("request lost"):
                commands = commands[: net.draw.randrange(len(commands))]
        net.later(self._out_s - net.loop.now_s, self._peer.receive, commands)
        if fate.endswith("in silence"):
            self._is_silent = True
        elif fate.endswith("lost"):
            self.reset(self._out_s - net.loop.now_s + net.latency_s())

    def reset(self, delay_s: float) -> None:
        self._net.later(delay_s, self._close_peer)
        self._net.later(delay_s, self._lose, Refused("Connection reset by peer"))

    def close(self) -> None:
        """Close this end; the other notices, unless nothing comes through."""
        self._is_lost = True
        self._net.wires.pop(self, None)
        if not self._is_silent:
            self._net.later(max(self._out_s - self._net.loop.now_s, 0) + self._net.latency_s(), self._close_peer)

    def _connected(self, done: Callable[[], None]) -> None:
        server = self._net.server
        assert server is not None
        if server.is_down or self._net.is_over:
            self._lose(Refused("Error 111 connecting: Connection refused."))
        elif not self._is_lost:
            self._peer = server.accept(self._answer)
            done()

    def _answer(self, reply: Any) -> None:
        if not self._is_deaf:
            self._in_s = max(self._in_s + IN_ORDER_S, self._net.loop.now_s + self._net.delay_s(self.process))
            self._net.later(self._in_s - self._net.loop.now_s, self._arrive, reply)

    def _arrive(self, reply: Any) -> None:
        if not self._is_lost:
            self._on_reply(reply)

    def _close_peer(self) -> None:
        if self._peer is not None:
            self._peer.close()

    def _lose(self, error: Exception) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._net.wires.pop(self, None)
            self._on_lost(error)


class Connection:
    """What redis-py's asynchronous connection is to the package."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._arrived: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._wire: Wire | None = None
        self._taker: Callable[[Any], None] | None = None

    async def connect(self) -> None:
        self._arrived.clear()
        self._wire = Wire(self._net, self._deliver, self._deliver)
        self._wire.connect(5.0, lambda: self._deliver(b"connected"))
        await self._next()

    def hand_over(self, taker: Callable[[Any], None]) -> None:
        """Give what comes from now on to a link, which reads for itself."""
        self._taker = taker

    def write(self, packet: bytes) -> None:
        """Send what a link has packed. Raises ConnectionError where the connection is known to be broken."""
        self._open_wire().send(packet)

    async def send_command(self, *command: Any) -> None:
        self._open_wire().send(hiredis.pack_command(command))

    async def read_response(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as redis-py
        try:
            async with asyncio.timeout(timeout):
                return await self._next()
        except TimeoutError:
            return None

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as redis-py
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise Refused(CLOSED)
        return self._wire

    def _deliver(self, item: Any) -> None:
        if self._taker is not None:
            self._taker(item)
            return
        self._arrived.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _next(self) -> Any:
        while not self._arrived:
            self._open_wire()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        item = self._arrived.popleft()
        if isinstance(item, Refused | TooLate):
            await self.disconnect()
            raise item
        if isinstance(item, ResponseError):
            raise item
        return item


class LinkWire:
    """What the receiving end of a link is on such a connection."""

    def __init__(self, connection: Connection, on_reply: Callable[[LinkWire, Any], None], on_lost: Callable[[LinkWire, Any], None]) -> None:
        self.connection = connection
        self.transport = self
        self.write = connection.write
        connection.hand_over(lambda item: (on_lost if isinstance(item, Refused | TooLate) else on_reply)(self, item))

    def abort(self) -> None:
        """Do nothing: the link disconnects in its next turn."""


class BlockingClient:
    """What redis-py's blocking client is to the package. `from_url` connects, as it does there for a client of one connection."""

    def __init__(self, net: Network, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._arrived: deque[Any] = deque()
        self._thread: Thread = net.baton.current()
        self._wire = Wire(net, self._deliver, self._deliver)
        self._wire.connect(timeout_s, lambda: self._deliver(b"connected"))
        self._next()

    def execute_command(self, *command: Any) -> Any:
        self._wire.send(hiredis.pack_command(command))
        reply = self._next()
        return parse_info(reply) if command[0] == "INFO" else reply

    def close(self) -> None:
        self._wire.close()

    def _deliver(self, item: Any) -> None:
        self._arrived.append(item)
        self._thread.unpark()

    def _next(self) -> Any:
        if not self._arrived and not self._thread.park(self._timeout_s):
            self.close()
            raise TooLate("Timeout reading from socket")
        item = self._arrived.popleft()
        if isinstance(item, Exception):
            raise item
        return item


def parsed(packet: bytes) -> list[list[bytes]]:
    """Return the commands of a packet."""
    reader = hiredis.Reader()
    reader.feed(packet)
    found: list[list[bytes]] = []
    while (command := reader.gets()) is not False:
        found.append(command)
    return found
