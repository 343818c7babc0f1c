"""The server of the simulated world: a real one, whose clock, connections, blocked pops and news are simulated.

Each command runs on the real server at once, within a step of the loop. What the server would read from its own clock is given to it: the
empty `now_ms` of a script, and the answer of TIME. A pop that would block waits here, and is served when the real key has a member.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis._parsers.base import BaseParser

from angelrt.scripts import SCRIPTS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random

    from angelrt.scripts import Script
    from tests.simulation.loop import Loop

EPOCH_MS: Final = 1_780_000_000_000
TICK_S: Final = 0.1
"""A block's timeout fires up to so much late, as on an idle server."""
MISSING: Final = object()
BY_SHA: Final = {script.sha.encode(): script for script in SCRIPTS.values()}
BY_SOURCE: Final = {script.source.encode(): script for script in SCRIPTS.values()}


class Real:
    """The real server, asked and answering at once.

    Scripts go over a connection that hears all news as well (RESP3), so that what a script publishes comes with its reply; everything else
    over one that answers as the package expects (RESP2).
    """

    def __init__(self, path: Path) -> None:
        self.news: list[tuple[bytes, bytes]] = []
        """What scripts have published, channel and message, until somebody takes it."""
        self._plain, self._hearing = (self._connect(path) for _ in range(2))
        self._answers, self._heard = (hiredis.Reader(replyError=BaseParser.parse_error, notEnoughData=MISSING) for _ in range(2))
        self.run(["HELLO", 3], ["PSUBSCRIBE", "*"])

    def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Run commands in one packet and return their replies, errors among them."""
        self._plain.sendall(_packed(commands))
        return [self._next(self._plain, self._answers) for _ in commands]

    def run(self, *commands: Sequence[Any]) -> list[Any]:
        """Run scripts and commands that answer with numbers, and add to `news` what was published."""
        self._hearing.sendall(_packed([*commands, ["ECHO", "."]]))  # published or not, the echo comes last
        replies: list[Any] = []
        while not replies or replies[-1] != b".":
            reply = self._next(self._hearing, self._heard)
            if not isinstance(reply, hiredis.PushNotification):
                replies.append(reply)
            elif reply[0] == b"pmessage":
                self.news.append((reply[2], reply[3]))
        return [_as_resp2(reply) for reply in replies[: len(commands)]]

    def close(self) -> None:
        self._plain.close()
        self._hearing.close()

    @staticmethod
    def _connect(path: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return connection

    @staticmethod
    def _next(connection: socket.socket, reader: hiredis.Reader) -> Any:
        while (reply := reader.gets()) is MISSING:
            reader.feed(connection.recv(1 << 20))
        return reply


def _packed(commands: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(hiredis.pack_command(tuple(command)) for command in commands)


def _as_resp2(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_as_resp2(part) for part in reply]
    return int(reply) or None if isinstance(reply, bool) else reply


class Peer:
    """The server's end of one connection: what was received runs in order, and a blocked pop holds up what comes behind it."""

    def __init__(self, server: Server, answer: Callable[[Any], None]) -> None:
        self.server = server
        self.answer = answer
        self.is_closed = False
        self.id = server.new_id()
        self.waits_for: list[bytes] = []
        self.transaction: list[list[bytes]] | None = None
        self._received: deque[list[bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def receive(self, commands: list[list[bytes]]) -> None:
        if not self.is_closed:
            self._received += commands
            self.go_on()
            self.server.serve_blocked()

    def go_on(self) -> None:
        """Run what was received, up to a pop that blocks."""
        while self._received and not self.waits_for and not self.is_closed:
            self.server.execute(self, self._received.popleft())

    def block(self, keys: list[bytes], timeout_s: float) -> None:
        self.waits_for = keys
        self._timer = self.server.later(timeout_s + self.server.draw.uniform(0, TICK_S), self.unblock, None)

    def unblock(self, reply: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.waits_for = []
        self.server.blocked.remove(self)
        self.answer(reply)
        self.go_on()
        self.server.serve_blocked()

    def close(self) -> None:
        """Forget the connection, with what it was waiting for."""
        self.is_closed = True
        self._received.clear()
        if self._timer is not None:
            self._timer.cancel()
        with suppress(ValueError):
            self.server.blocked.remove(self)
        self.server.peers.pop(self, None)
        for heard in self.server.subscribers.values():
            with suppress(ValueError):
                heard.remove(self)


class Server:
    """`executed` hears of each script: the script, its named arguments, the others, and the reply."""

    def __init__(self, real: Real, loop: Loop, draw: Random, later: Callable[..., asyncio.TimerHandle]) -> None:
        self.real = real
        self.draw = draw
        self.later = later
        self.jump_ms = 0.0
        self.is_down = False
        self.commands = 0
        self.peers: dict[Peer, None] = {}
        self.blocked: list[Peer] = []
        self.subscribers: dict[bytes, list[Peer]] = {}
        self.executed: Callable[[str, dict[str, bytes], list[bytes], Any], None] = lambda *_: None
        self._loop = loop
        self._is_serving = False
        self._are_filled = False
        self._begin()

    def now_ms(self) -> float:
        return EPOCH_MS + self._loop.now_s * 1000 + self.jump_ms

    def stop(self) -> None:
        """Lose every connection, and refuse new ones until `start`."""
        self.is_down = True
        for peer in list(self.peers):
            peer.close()

    def start(self) -> None:
        """Come back, with the data and without the scripts, under another name."""
        self.real.call(["SCRIPT", "FLUSH"])
        self._begin()
        self.is_down = False

    def _begin(self) -> None:
        self._run_id = f"{self.draw.getrandbits(160):040x}"
        self._last_id = 0

    def new_id(self) -> int:
        """Return the id of a new connection: one more than the last one's since the server has started."""
        self._last_id += 1
        return self._last_id

    def accept(self, answer: Callable[[Any], None]) -> Peer:
        peer = Peer(self, answer)
        self.peers[peer] = None
        return peer

    def execute(self, peer: Peer, command: list[bytes]) -> None:
        """Run one command of a connection."""
        self.commands += 1
        name = command[0]
        if name == b"EXEC" and peer.transaction is not None:
            commands, peer.transaction = peer.transaction, None
            peer.answer(self._run(commands))
        elif peer.transaction is not None:
            peer.transaction.append(command)
            peer.answer(b"QUEUED")
        elif name == b"MULTI":
            peer.transaction = []
            peer.answer(b"OK")
        elif name == b"BZPOPMIN":
            self.blocked.append(peer)
            peer.block(command[1:-1], float(command[-1]))
            self._are_filled = self._are_filled or any(self.real.call(*(["ZCARD", key] for key in command[1:-1])))
        elif name == b"SUBSCRIBE":
            self.subscribers.setdefault(command[1], []).append(peer)
            peer.answer([b"subscribe", command[1], 1])
        elif name == b"PING":
            peer.answer([b"pong", b""])
        elif name == b"TIME":
            peer.answer([b"%d" % (self.now_ms() // 1000), b"%d" % (self.now_ms() * 1000 % 1_000_000)])
        elif name == b"INFO":
            peer.answer(f"# Server\r\nrun_id:{self._run_id}\r\n".encode())
        elif name == b"CLIENT":
            peer.answer(self._about_connections(peer, command[1:]))
        else:
            peer.answer(self._run([command])[0])

    def _about_connections(self, peer: Peer, words: list[bytes]) -> Any:
        if words == [b"ID"]:
            return peer.id
        assert words[:2] == [b"LIST", b"ID"], f"not simulated: CLIENT {words}"
        there = {other.id for other in self.peers}
        return b"".join(b"id=%d name= cmd=NULL\n" % asked for asked in map(int, words[2:]) if asked in there)

    def serve_blocked(self) -> None:
        """Serve those who wait for keys that have a member by now, first come, first served."""
        if self._is_serving:
            return
        self._is_serving = True
        while self._are_filled:
            self._are_filled = False
            for waiting, key in [(peer, key) for peer in self.blocked for key in peer.waits_for]:
                found = self.real.call(["ZPOPMIN", key])[0]
                if found:
                    self._are_filled = True  # another may be
                    waiting.unblock([key, *found])
                    break
        self._is_serving = False

    def _run(self, commands: list[list[bytes]]) -> list[Any]:
        """Run commands on the real server, in a transaction where there are several, and tell what their scripts published."""
        given = [self._with_time(command) for command in commands]
        if script_of(given[-1]) is None:
            return self.real.call(*given)
        if len(given) == 1:
            waited_for = dict.fromkeys(key for peer in self.blocked for key in peer.waits_for)
            replies = self.real.run(given[0], *(["ZCARD", key] for key in waited_for))
            self._are_filled = self._are_filled or any(replies[1:])
            replies = replies[:1]
        else:
            self._are_filled = True
            replies = self.real.run(["MULTI"], *given, ["EXEC"])[-1]
            if isinstance(replies, Exception):
                return [replies] * len(given)
        for command, reply in zip(given, replies, strict=True):
            script = script_of(command)
            if script is not None:
                first = 3 + int(command[2])
                named = dict(zip(script.arguments, command[first:], strict=False))
                self.executed(script.name, named, command[first + len(script.arguments) :], reply)
        news, self.real.news = self.real.news, []
        for channel, message in news:
            for hears in self.subscribers.get(channel, []):
                hears.answer([b"message", channel, message])
        return list(replies)

    def _with_time(self, command: list[bytes]) -> list[bytes]:
        script = script_of(command)
        if script is None or script.arguments[:1] != ("now_ms",):
            return command
        at = 3 + int(command[2])
        return [*command[:at], command[at] or b"%.3f" % self.now_ms(), *command[at + 1 :]]


def script_of(command: list[bytes]) -> Script | None:
    """Return the script that a command calls."""
    if command[0] == b"EVALSHA":
        return BY_SHA.get(command[1])
    return BY_SOURCE.get(command[1]) if command[0] == b"EVAL" else None
