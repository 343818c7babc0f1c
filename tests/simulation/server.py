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
from redis.exceptions import NoScriptError

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
SILENT: Final = {"beat", "renew", "watch", "control", "inspect", "explain"}
"""Scripts that tell nobody anything, so that the news need not be asked for."""
BY_SHA: Final = {script.sha.encode(): script for script in SCRIPTS.values()}
BY_SOURCE: Final = {script.source.encode(): script for script in SCRIPTS.values()}


class Real:
    """The real server, asked and answering at once."""

    def __init__(self, path: Path) -> None:
        self._commands, self._news = (self._connect(path) for _ in range(2))
        self._answers, self._heard = (hiredis.Reader(replyError=BaseParser.parse_error) for _ in range(2))
        self._exchange(self._news, self._heard, [("PSUBSCRIBE", "*")])

    def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Run commands in one packet and return their replies, errors among them."""
        return self._exchange(self._commands, self._answers, commands)

    def news(self) -> list[tuple[bytes, bytes]]:
        """Return what was published since the last call: channel and message."""
        self._news.sendall(hiredis.pack_command(("PING",)))
        found: list[tuple[bytes, bytes]] = []
        while (reply := self._next(self._news, self._heard))[0] != b"pong":
            found.append((reply[2], reply[3]))
        return found

    def close(self) -> None:
        self._commands.close()
        self._news.close()

    @staticmethod
    def _connect(path: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return connection

    def _exchange(self, connection: socket.socket, reader: hiredis.Reader, commands: Sequence[Sequence[Any]]) -> list[Any]:
        connection.sendall(b"".join(hiredis.pack_command(tuple(command)) for command in commands))
        return [self._next(connection, reader) for _ in commands]

    @staticmethod
    def _next(connection: socket.socket, reader: hiredis.Reader) -> Any:
        while (reply := reader.gets()) is False:
            reader.feed(connection.recv(1 << 20))
        return reply


class Peer:
    """The server's end of one connection: what was received runs in order, and a blocked pop holds up what comes behind it."""

    def __init__(self, server: Server, answer: Callable[[Any], None]) -> None:
        self.server = server
        self.answer = answer
        self.is_closed = False
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
        self.orphans: set[str] = set()
        """What a transaction stored apart although the server did not know its script; gone with the next try, unless the sender dies."""
        self.executed: Callable[[str, dict[str, bytes], list[bytes], Any], None] = lambda *_: None
        self._loop = loop
        self._is_serving = False
        self._are_filled = False

    def now_ms(self) -> float:
        return EPOCH_MS + self._loop.now_s * 1000 + self.jump_ms

    def stop(self) -> None:
        """Lose every connection, and refuse new ones until `start`."""
        self.is_down = True
        for peer in list(self.peers):
            peer.close()

    def start(self) -> None:
        """Come back, with the data and without the scripts."""
        self.real.call(["SCRIPT", "FLUSH"])
        self.is_down = False

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
        else:
            peer.answer(self._run([command])[0])

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
        if len(given) == 1:
            waited_for = dict.fromkeys(key for peer in self.blocked for key in peer.waits_for)
            replies = self.real.call(given[0], *(["ZCARD", key] for key in waited_for))
            self._are_filled = self._are_filled or any(replies[1:])
            replies = replies[:1]
        else:
            self._are_filled = True
            replies = self.real.call(["MULTI"], *given, ["EXEC"])[-1]
            if isinstance(replies, Exception):
                return [replies] * len(given)
            if isinstance(replies[-1], NoScriptError):
                self.orphans |= {command[2].decode() for command in given if command[0] == b"HSETNX"}
        for command, reply in zip(given, replies, strict=True):
            script = script_of(command)
            if script is not None:
                first = 3 + int(command[2])
                named = dict(zip(script.arguments, command[first:], strict=False))
                self.executed(script.name, named, command[first + len(script.arguments) :], reply)
        if self.subscribers and any(script is not None and script.name not in SILENT for script in map(script_of, given)):
            for channel, message in self.real.news():
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
