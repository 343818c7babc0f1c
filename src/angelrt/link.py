"""One connection to Redis that many tasks share: each call is written at once, replies are matched in order.

Calls of one turn of the event loop leave in one packet, which is how a settle and a claim share a round trip. redis-py connects and
authenticates; then the link takes the transport over and lets hiredis parse what comes, since redis-py's own way from the socket to a reply
costs as much as the rest of a call. Nothing is sent again here: only the caller knows which command may be repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import hiredis
from redis import Redis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, InvalidResponse, NoScriptError, RedisError, ResponseError
from redis.retry import Retry as BlockingRetry

from . import sentinel
from .config import sentinel_address, wrong_address
from .errors import NotReplicated, RedisRefused
from .refusals import DEMOTED
from .scripts import as_eval
from .sentinel import BROKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from .scripts import Script

RETRY_BASE_S: Final = 0.05
RETRY_CAP_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 5.0
REPLY_TIMEOUT_S: Final = 5.0
"""A reply later than this (beyond a block) means a half-open connection: it is closed and the command is sent again."""
REPLICATION_WAIT_MS: Final = 1_000
"""How long a replica has to confirm what was sent."""


def connector(url: str) -> Callable[[], AbstractConnection]:
    """Return a maker of connections that never re-send a command by themselves and read without a timeout.

    Behind Sentinel each new connection asks first where the primary is.
    """
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "protocol": 2,
        "health_check_interval": 0,
    }
    watched = sentinel_address(url)
    if watched is not None:
        return lambda: sentinel.PrimaryConnection(watched, **options)
    try:
        pool = ConnectionPool.from_url(url, **options)  # pyright: ignore[reportUnknownMemberType] - redis-py's keyword arguments are not annotated
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise wrong_address(url, str(error)) from error
    return pool.make_connection


async def connect(connection: AbstractConnection) -> None:
    """Connect, the greeting included, which redis-py awaits without a timeout: a server behind a stuck proxy may never greet.

    Raises RedisError and OSError, a TimeoutError among them; the connection is to be closed then.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.connect()  # type: ignore[no-untyped-call]
    except TimeoutError as error:
        message = f"no greeting within {CONNECT_TIMEOUT_S:g} s"
        raise TimeoutError(message) from error


OnReply: TypeAlias = "Callable[[Wire, Any], None]"
OnLost: TypeAlias = "Callable[[Wire, Exception], None]"


class LinkLost(Exception):  # noqa: N818 - private to the store, which turns it into RedisUnavailable
    """The connection broke; commands whose replies are missing may or may not have been applied."""


class Wire(asyncio.Protocol):
    """The receiving end of a connection that redis-py has opened: what comes is parsed at once, and each reply handed on in its order."""

    def __init__(self, connection: AbstractConnection, on_reply: OnReply, on_lost: OnLost) -> None:
        """Take over the transport; `on_lost` hears of its end, and of what is no reply."""
        self.connection = connection
        self._on_reply = on_reply
        self._on_lost = on_lost
        opened: Any = connection  # redis-py hands its transport and the names of the server's errors to nobody
        self._replies = hiredis.Reader(protocolError=InvalidResponse, replyError=opened._parser.parse_error, notEnoughData=self)  # noqa: SLF001
        self.transport: asyncio.Transport = opened._writer.transport  # noqa: SLF001
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Hand on every reply that is whole now."""
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not self:
                self._on_reply(self, reply)
        except InvalidResponse as error:
            self._on_lost(self, error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that nothing more comes."""
        self._on_lost(self, exc or LinkLost("the server closed the connection"))


class _Call:
    """Commands on their way, and the replies that have come."""

    __slots__ = ("expected", "future", "replies", "sent_at")

    def __init__(self, future: asyncio.Future[list[Any]], expected: int, sent_at: float) -> None:
        self.future = future
        self.expected = expected
        self.sent_at = sent_at
        self.replies: list[Any] = []


class Link:
    """A pipelined connection, opened at the first call and again after each loss."""

    def __init__(self, url: str, *, reply_timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Remember where to connect; does no I/O."""
        self._new_connection = connector(url)
        self._reply_timeout_s = reply_timeout_s
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._pending: deque[_Call] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False
        self._loaded: set[str] = set()  # scripts that the server was given on this connection: none after a restart

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one packet and return their replies, errors of the server among them as exceptions; of no commands, none.

        Raises LinkLost when the connection breaks before every reply has come.
        """
        if not commands:
            return []
        wire = self._wire or await self._connect()
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future(), len(commands), loop.time())
        self._pending.append(call)
        if self._alarm is None:
            self._alarm = loop.call_later(self._reply_timeout_s, self._check_replies)
        try:
            wire.transport.write(b"".join(map(_pack, commands)))
        except BROKEN as error:
            self._drop(wire, error)
        return await call.future

    async def transaction(self, script: Script, command: Sequence[Any], before: Sequence[Sequence[Any]]) -> Any:
        """Run commands and then a script's, all or none, and return the script's reply. Raises LinkLost and the server's errors.

        The script itself goes ahead where this connection has not given it yet: a server without it would run the other commands alone,
        and so they would stay if this process died then. SCRIPT FLUSH on a connection that stands is answered by a second call.
        """
        reply = await self._transaction(script, command, before)
        if isinstance(reply, NoScriptError):
            reply = await self._transaction(script, as_eval(script, command), before)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _transaction(self, script: Script, command: Sequence[Any], before: Sequence[Sequence[Any]]) -> Any:
        ahead = [] if script.sha in self._loaded else [["SCRIPT", "LOAD", script.source]]
        replies = await self.call(*ahead, ["MULTI"], *before, command, ["EXEC"])
        self._loaded.add(script.sha)
        *queued, executed = replies[len(ahead) :]
        refused = next((reply for reply in queued if isinstance(reply, Exception)), None)
        if refused is not None or isinstance(executed, Exception):
            return refused or executed
        return executed[-1]

    async def close(self) -> None:
        """Close the connection; calls on their way raise LinkLost. The server forgets a blocked command with it."""
        self._closed = True
        if self._wire is not None:
            self._drop(self._wire, LinkLost("closed here"))
        if self._closing:
            await asyncio.wait(self._closing)

    async def _connect(self) -> Wire:
        async with self._connecting:
            if self._closed:
                message = "the link is closed"
                raise LinkLost(message)
            if self._wire is None:
                connection = self._new_connection()
                try:
                    await connect(connection)
                except BaseException as error:
                    # A socket that is left open by a cancelled connect would keep uvloop from closing.
                    await connection.disconnect(nowait=True)
                    if isinstance(error, BROKEN):
                        raise _not_connected(error) from error
                    raise
                self._wire = Wire(connection, self._take, self._drop)
            return self._wire

    def _take(self, wire: Wire, reply: Any) -> None:
        if wire is not self._wire:
            return  # it came with the reply for which the connection was given up
        if isinstance(reply, Exception) and (isinstance(reply, DEMOTED) or not isinstance(reply, ResponseError)):
            self._drop(wire, reply)  # the next connection may find another server
            return
        call = self._pending[0]
        call.replies.append(reply)
        if len(call.replies) == call.expected:
            self._pending.popleft()
            if not call.future.done():
                call.future.set_result(call.replies)

    def _drop(self, wire: Wire, error: Exception) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        self._loaded.clear()
        wire.transport.abort()
        closing = asyncio.ensure_future(wire.connection.disconnect(nowait=True))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        lost, self._pending = self._pending, deque()
        for call in lost:
            if not call.future.done():
                call.future.set_exception(LinkLost(str(error) or type(error).__name__))

    def _check_replies(self) -> None:
        self._alarm = None
        if not self._pending or self._wire is None:
            return
        loop = asyncio.get_running_loop()
        left_s = self._pending[0].sent_at + self._reply_timeout_s - loop.time()
        if left_s <= 0:
            self._drop(self._wire, LinkLost(f"no reply within {self._reply_timeout_s:g} s"))
        else:
            self._alarm = loop.call_later(left_s, self._check_replies)


class ReplicatedLink(Link):
    """A connection whose calls are answered when a replica has what they wrote, too; it is for sends, since it waits for each."""

    def __init__(self, url: str, channel: str) -> None:
        """Remember where to connect; `channel` is one that nobody listens to."""
        super().__init__(url, reply_timeout_s=REPLY_TIMEOUT_S + REPLICATION_WAIT_MS / 1000)
        self._channel = channel

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one packet and return their replies.

        Raises NotReplicated when they were done and no replica has confirmed that in time, LinkLost as any link, and when the server is
        demoted meanwhile.
        """
        # A call that is repeated writes nothing anew, and WAIT asks only for what its connection wrote: the word to nobody is a write.
        *replies, _, confirmed = await super().call(*commands, ["PUBLISH", self._channel, ""], ["WAIT", 1, REPLICATION_WAIT_MS])
        if any(isinstance(reply, Exception) for reply in replies):
            return replies
        if isinstance(confirmed, Exception):
            raise LinkLost(str(confirmed)) from confirmed
        if confirmed < 1:
            message = (
                f"stored on the primary, and no replica has confirmed it within {REPLICATION_WAIT_MS / 1000:g} s: a failover now would "
                "lose it; send it again with the same id"
            )
            raise NotReplicated(message)
        return replies


def _not_connected(error: Exception) -> Exception:
    """Return RedisRefused for what the server will never accept, else LinkLost."""
    refused = next((e for e in (error, error.__cause__) if isinstance(e, AuthenticationError | ResponseError)), None)
    if refused is not None:
        return RedisRefused(f"Redis refused the connection (user, password, or database number in the address): {refused}")
    return LinkLost(str(error) or type(error).__name__)


def pause_s(tries: int) -> float:
    """Return how long to wait before try number `tries` + 1 at a server that does not answer: growing, capped, and jittered."""
    return random.uniform(0.5, 1) * min(RETRY_CAP_S, RETRY_BASE_S * (1 << min(tries - 1, 20)))  # noqa: S311 - jitter


class BlockingLink:
    """A connection for the lease thread, opened at its first call; re-sends nothing by itself."""

    def __init__(self, url: str) -> None:
        """Remember where to connect."""
        self._url = url
        self._watched = sentinel_address(url)
        self._redis: Redis | None = None

    def call(self, script: Script, command: Sequence[Any]) -> Any:
        """Send a script's command and return its reply. Raises LinkLost for whatever goes wrong, the connection being closed then."""
        try:
            return self._send(script, command)
        except (RedisError, OSError) as error:
            self.close()
            raise LinkLost(str(error) or type(error).__name__) from error

    def identity(self) -> tuple[str, int]:
        """Return the run id of the server and the id of this connection there, by which others see whether it is closed.

        Raises RedisRefused where the user may not ask, or the server does not tell; LinkLost as `call` does.
        """
        try:
            execute = self._execute()
            run_id, client = str(execute("INFO", "server").get("run_id", "")), int(execute("CLIENT", "ID"))
            execute("CLIENT", "LIST", "ID", client)
        except ResponseError as error:
            raise RedisRefused(str(error)) from error
        except (RedisError, OSError) as error:
            self.close()
            raise LinkLost(str(error) or type(error).__name__) from error
        if not run_id:
            message = "the server does not tell its run id"
            raise RedisRefused(message)
        return run_id, client

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        if self._redis is not None:
            self._redis.close()
            self._redis = None

    def _send(self, script: Script, command: Sequence[Any]) -> Any:
        execute = self._execute()
        try:
            return execute(*command)
        except NoScriptError:
            return execute(*as_eval(script, command))

    def _execute(self) -> Callable[..., Any]:
        if self._redis is not None and self._watched is not None:
            place = cast("dict[str, Any]", self._redis.get_connection_kwargs())  # pyright: ignore[reportUnknownMemberType] - not annotated
            if sentinel.is_left(self._watched, place["host"], place["port"]):
                self.close()
        if self._redis is None:
            self._redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py's keyword arguments are not annotated
                sentinel.primary_url(self._url),
                retry=BlockingRetry(NoBackoff(), 0),
                socket_timeout=REPLY_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                protocol=2,
                single_connection_client=True,  # it connects here, not at the first command
            )
        execute: Callable[..., Any] = self._redis.execute_command  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return execute


def _pack(command: Sequence[Any]) -> bytes:
    return cast("bytes", hiredis.pack_command(tuple(command)))  # pyright: ignore[reportUnknownMemberType] - annotated without its module
