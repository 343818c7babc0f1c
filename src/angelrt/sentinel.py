"""Servers behind Redis Sentinel: every new connection asks the sentinels where the primary is, so that a failover is one reconnect.

While connections stand, every sentinel is listened to: only the one that leads a failover tells of it before the replica is promoted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisError
from redis.retry import Retry as BlockingRetry
from redis.sentinel import Sentinel as BlockingSentinel

from .config import sentinel_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from .config import SentinelAddress

log = logging.getLogger("angelrt")

BROKEN: Final = (RedisError, OSError, RuntimeError)
"""What a connection raises that is gone; a RuntimeError comes from uvloop, for a write to a socket that it closed in the same turn."""
ASK_TIMEOUT_S: Final = 1.0
"""A sentinel that does not answer in this time is passed over."""
NO_ANSWER: Final = f"no answer within {ASK_TIMEOUT_S:g} s"
EVENTS: Final = ("+failover-state-send-slaveof-noone", "+switch-master")
"""The first is told by the leading sentinel alone, some 50 ms before it promotes the replica; the second by all, up to a second after."""
LEAVING_S: Final = 5.0
"""For so long after an event nobody goes back to the old primary, which sentinels that have not heard yet go on naming."""
SILENCE_S: Final = 5.0
"""After this silence a sentinel is asked for a sign of life; after as much again it is given up."""
AGAIN_S: Final = 0.5
AGAIN_CAP_S: Final = 30.0

_left_at_s: Final[dict[tuple[str, str, int], float]] = {}
"""By service, host and port of a primary: when an event said that it is being replaced."""
_watches: Final[dict[tuple[asyncio.AbstractEventLoop, SentinelAddress], _Watch]] = {}


class PrimaryConnection(Connection):
    """A connection to the server that is primary at the moment of connecting, and broken when the sentinels replace it.

    Connecting raises redis-py's ConnectionError while there is none.
    """

    def __init__(self, address: SentinelAddress, **options: Any) -> None:
        """Remember whom to ask; `options` are those of any connection."""
        options |= {"db": address.db, "username": address.username, "password": address.password}
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] - redis-py's keyword arguments are not annotated
        self._address = address
        self._watch: _Watch | None = None

    async def connect(self) -> None:
        """Listen for failovers, ask, then connect."""
        self._watch = _Watch.join(self, self._address)
        self.host, self.port = await _primary(self._address)
        await super().connect()  # type: ignore[no-untyped-call]
        _refuse_left(self._address, self.host, self.port)

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Close; the last connection takes the subscriptions with it."""
        await super().disconnect(*args, **options)
        if self._watch is not None:
            watch, self._watch = self._watch, None
            # Without a turn of the loop: redis-py connects a closed connection anew, past `connect`, when somebody writes to it.
            watch.part(self)

    def leave(self) -> None:
        """Break off if the server is being replaced: whoever reads from it connects anew."""
        if self._writer is not None and is_left(self._address, self.host, self.port):
            self._writer.transport.abort()


class _Watch:
    """Listens at every sentinel of a service while connections of this event loop use it."""

    def __init__(self, address: SentinelAddress) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self.users = set[PrimaryConnection]()
        self._tasks = [asyncio.create_task(self._follow(*one), name="angelrt sentinel") for one in address.sentinels]

    @staticmethod
    def join(user: PrimaryConnection, address: SentinelAddress) -> _Watch:
        key = asyncio.get_running_loop(), address
        watch = _watches[key] = _watches.get(key) or _Watch(address)
        watch.users.add(user)
        return watch

    def part(self, user: PrimaryConnection) -> None:
        self.users.discard(user)
        if not self.users:
            del _watches[self._loop, self._address]
            for task in self._tasks:
                task.cancel()

    async def _follow(self, host: str, port: int) -> None:
        pause_s = AGAIN_S
        while True:
            since_s = time.monotonic()
            try:
                await self._hear(host, port)
            except BROKEN as error:
                stood = time.monotonic() - since_s > AGAIN_CAP_S
                pause_s = AGAIN_S if stood else min(2 * pause_s, AGAIN_CAP_S)
                wait_s = random.uniform(0.5, 1) * pause_s  # noqa: S311 - jitter
                told = str(error) or NO_ANSWER
                log.warning("listening for failovers at the sentinel on %s:%d: %s; trying again in %.2f s", host, port, told, wait_s)
                await asyncio.sleep(wait_s)

    async def _hear(self, host: str, port: int) -> None:
        connection = _to_sentinel(self._address, host, port)
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("SUBSCRIBE", *EVENTS)
            while True:
                self._tell(await next_message(connection, SILENCE_S))
        finally:
            await connection.disconnect(nowait=True)

    def _tell(self, text: str) -> None:
        """Break off from the primary that an event names: `slave NAME HOST PORT @ SERVICE HOST PORT`, or `SERVICE HOST PORT HOST PORT`."""
        service, host, port = text.rpartition("@ ")[2].split()[:3]
        if service != self._address.service:
            return
        if not is_left(self._address, host, int(port)):
            log.warning("the sentinels replace the primary of %s, %s:%s; its connections are given up", service, host, port)
        _left_at_s[service, host, int(port)] = time.monotonic()
        for user in self.users:
            user.leave()


def _to_sentinel(address: SentinelAddress, host: str, port: int) -> Connection:
    # Without redis-py's own timeout: until Python 3.12 the `wait_for` that it writes with swallows a cancellation now and then.
    options: dict[str, Any] = _login(address) | {"socket_timeout": None, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
    return Connection(host=host, port=port, **options)


async def _primary(address: SentinelAddress) -> tuple[str, int]:
    """Return where the first sentinel that answers sees the primary at work; raises redis-py's ConnectionError if none does."""
    answers: list[str] = []
    for host, port in address.sentinels:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                state = await _ask(address, host, port)
        except BROKEN as error:
            answers.append(f"{host}:{port}: {str(error) or NO_ANSWER}")
            continue
        flags = state["flags"].split(",")
        if "master" in flags and not {"s_down", "o_down"} & set(flags):
            return state["ip"], int(state["port"])
        answers.append(f"{host}:{port}: {state['ip']}:{state['port']} is {state['flags']}")
    message = f"no sentinel knows a primary of {address.service} at work: {'; '.join(answers)}"
    raise NotConnected(message)


async def _ask(address: SentinelAddress, host: str, port: int) -> dict[str, str]:
    connection = _to_sentinel(address, host, port)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command("SENTINEL", "MASTER", address.service)
        words = [word.decode() for word in cast("list[bytes]", await connection.read_response())]
    finally:
        await connection.disconnect(nowait=True)
    return dict(zip(words[::2], words[1::2], strict=True))


async def next_message(connection: AbstractConnection, silence_s: float) -> str:
    """Return what is published next.

    After `silence_s` seconds without a word the server is asked for a sign of life. Raises RedisError when none comes for as long again,
    and as reading does.
    """
    silent = False
    while True:
        news = cast("Any", await connection.read_response(timeout=silence_s))
        if news is None:
            if silent:
                message = f"no sign of life for {2 * silence_s:g} s"
                raise RedisError(message)
            await connection.send_command("PING")
        elif news[0] == b"message":
            return cast("bytes", news[2]).decode()
        silent = news is None


def is_left(address: SentinelAddress, host: str, port: int) -> bool:
    """Whether the sentinels are replacing this primary, or have just done so."""
    told_s = _left_at_s.get((address.service, host, port))
    return told_s is not None and time.monotonic() - told_s < LEAVING_S


def _refuse_left(address: SentinelAddress, host: str, port: int) -> None:
    if is_left(address, host, port):
        message = f"the primary {host}:{port} is being replaced"
        raise NotConnected(message)


def primary_url(url: str) -> str:
    """Return the address of the server that is primary now; every other address as it is. Raises as connecting does."""
    address = sentinel_address(url)
    if address is None:
        return url
    options = _login(address) | {"socket_timeout": ASK_TIMEOUT_S, "retry": BlockingRetry(NoBackoff(), 0)}
    asked = BlockingSentinel(address.sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    try:
        discover = cast("Callable[[str], tuple[str, int]]", asked.discover_master)  # pyright: ignore[reportUnknownMemberType] - not annotated
        host, port = discover(address.service)
        _refuse_left(address, host, port)
    finally:
        for one in asked.sentinels:
            one.close()
    user = f"{quote(address.username or '', safe='')}:{quote(address.password, safe='')}@" if address.password else ""
    return f"redis://{user}{f'[{host}]' if ':' in host else host}:{port}/{address.db}"


def _login(address: SentinelAddress) -> dict[str, Any]:
    return {"username": address.sentinel_username, "password": address.sentinel_password, "socket_connect_timeout": ASK_TIMEOUT_S}
