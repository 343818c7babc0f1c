"""A TCP proxy that breaks connections on purpose; it reads requests and replies just enough to know which reply belongs to which verb.

Each client has a way of its own (a port), so that a fault meets one client. The server listens on a socket file behind it.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Self, cast

import hiredis

from angelrt import scripts
from tests.chaos import schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

VERBS: Final = {
    script.sha.encode(): script.name.partition("_")[0]
    for script in scripts.SCRIPTS.values()
    if script.name.partition("_")[0] in schedule.VERBS
}
RESET: Final = struct.pack("ii", 1, 0)


def verb_of(request: Sequence[bytes]) -> str:
    """Return the verb that a request calls; '' for one that calls none of those that a fault may be for."""
    name = request[0].upper()
    if name == b"EVALSHA":
        return VERBS.get(request[1], "")
    if name == b"EVAL":
        return VERBS.get(hashlib.sha1(request[1], usedforsecurity=False).hexdigest().encode(), "")
    return ""


class Way:
    """One client's way to the server: a port, and the connections that came through it."""

    def __init__(self, server: Path) -> None:
        """Keep where the server listens; `open` begins to listen for the client."""
        self.server = server
        self.port = 0
        self.connections: list[Connection] = []
        self.is_parted = False
        self._verb = ""
        self._wanted: asyncio.Future[bool] | None = None
        self._listener: asyncio.Server | None = None

    async def open(self) -> Self:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self).front, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Listen no more, and end what is open."""
        if self._listener is not None:
            self._listener.close()
            self.reset()
            await self._listener.wait_closed()

    def reset(self) -> int:
        """Reset every connection; return how many."""
        found = list(self.connections)
        for connection in found:
            connection.reset()
        return len(found)

    def part(self) -> None:
        """Let nothing through from now on, in either direction; new connections are accepted and reach nobody."""
        self.is_parted = True
        for connection in self.connections:
            connection.hold()

    def heal(self) -> None:
        """Let everything through again: what was under way arrives now, late."""
        self.is_parted = False
        for connection in list(self.connections):
            connection.release()

    def stall(self, pick: int) -> Connection | None:
        """Hold one connection, without a word to either side; None when there is none."""
        if not self.connections:
            return None
        connection = self.connections[pick % len(self.connections)]
        connection.hold()
        return connection

    async def lose_reply(self, verb: str, patience_s: float) -> bool:
        """Drop the reply to the next request of a verb when the server has answered it, and reset its connection.

        Returns False when no such request came in this time.
        """
        met: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._verb, self._wanted = verb, met
        try:
            async with asyncio.timeout(patience_s):
                return await met
        except TimeoutError:
            return False
        finally:
            self._wanted = None

    def wants(self, verb: str) -> asyncio.Future[bool] | None:
        """Return who waits for a request of this verb, once."""
        if self._wanted is None or verb != self._verb:
            return None
        met, self._wanted = self._wanted, None
        return met

    def want_again(self, met: asyncio.Future[bool]) -> None:
        """Let who waits go on waiting for a request."""
        if not met.done():
            self._wanted = met


class Connection:
    """One connection through a way: `front` faces the client, `back` the server."""

    def __init__(self, way: Way) -> None:
        """Wait for the client."""
        self._way = way
        self.front = Side(self._on_client, self._on_request, self._on_client_lost)
        self._back = Side(self._on_server, self._on_reply, self._on_server_lost)
        self._joining: asyncio.Task[None] | None = None
        self._is_held = way.is_parted
        self._requests, self._replies = hiredis.Reader(), hiredis.Reader()
        self._asked = self._answered = 0
        self._cut: tuple[int, asyncio.Future[bool]] | None = None

    def hold(self) -> None:
        """Let nothing through."""
        self._is_held = True

    def release(self) -> None:
        """Let everything through that has come meanwhile, the end of either side included."""
        self._is_held = False
        if self._back.transport is None:
            self._join()
            return
        self._pass_on()

    def reset(self) -> None:
        """End both sides at once, the client's with a reset."""
        self._forget()
        for side in (self.front, self._back):
            side.reset()

    # -- what comes ----------------------------------------------------------------------------------------------------------------

    def _on_client(self) -> None:
        self._way.connections.append(self)
        if not self._is_held:
            self._join()

    def _on_server(self) -> None:
        self._pass_on()

    def _on_request(self, data: bytes) -> None:
        self._requests.feed(data)
        while (request := self._requests.gets()) is not False:
            self._asked += 1
            met = self._way.wants(verb_of(request))
            if met is not None:
                self._cut = (self._asked, met)
        self._pass_on()

    def _on_reply(self, data: bytes) -> None:
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not False:
            self._answered += 1
            if self._cut is not None and self._answered == self._cut[0]:
                self._on_awaited(reply)
        self._pass_on()

    def _on_awaited(self, reply: Any) -> None:
        """Lose the reply, unless it says that nothing was done, as NOSCRIPT and a short way that declines do.

        Then the request that follows is waited for.
        """
        assert self._cut is not None
        _, met = self._cut
        if reply is None or isinstance(reply, hiredis.ReplyError):
            self._cut = None
            self._way.want_again(met)
            return
        if not met.done():
            met.set_result(True)
        self.reset()

    def _on_client_lost(self) -> None:
        self._pass_on()

    def _on_server_lost(self) -> None:
        self._pass_on()

    # -- what goes on --------------------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        if self._joining is None:
            self._joining = asyncio.create_task(self._reach_server())

    async def _reach_server(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self._back, str(self._way.server))
        except OSError:
            self.reset()

    def _pass_on(self) -> None:
        """Forward what has come, unless it is held; an end is passed on after what came before it."""
        if self._is_held or self._back.transport is None:
            return
        if self._cut is None:
            self._back.forward_to(self.front)
        self.front.forward_to(self._back)
        if self.front.is_lost or self._back.is_lost:
            self._forget()
            self.front.close()
            self._back.close()

    def _forget(self) -> None:
        if self in self._way.connections:
            self._way.connections.remove(self)
        if self._cut is not None and not self._cut[1].done():
            self._cut[1].set_result(False)


class Side(asyncio.Protocol):
    """One side of a connection: what has come from it and was not passed on yet."""

    def __init__(self, on_made: Callable[[], None], on_data: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        """Keep whom to tell."""
        self._on_made, self._on_data, self._on_lost = on_made, on_data, on_lost
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self._come = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hear of the beginning."""
        self.transport = cast("asyncio.Transport", transport)
        self._on_made()

    def data_received(self, data: bytes) -> None:
        """Hear of data."""
        self._come += data
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Hear of the end."""
        self.is_lost = True
        self._on_lost()

    def forward_to(self, other: Side) -> None:
        """Pass on what has come."""
        if self._come and other.transport is not None and not other.is_lost:
            other.transport.write(bytes(self._come))
            self._come.clear()

    def close(self) -> None:
        """End in an orderly way, after what was written."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """End with a reset."""
        if self.transport is None or self.is_lost:
            return
        raw: socket.socket = self.transport.get_extra_info("socket")
        if raw.family == socket.AF_INET:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()
