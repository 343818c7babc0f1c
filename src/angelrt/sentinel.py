"""Servers behind Redis Sentinel: every new connection asks the sentinels where the primary is, so that a failover is one reconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from redis.asyncio import Sentinel
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.retry import Retry as BlockingRetry
from redis.sentinel import Sentinel as BlockingSentinel

from .config import sentinel_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import SentinelAddress

ASK_TIMEOUT_S: Final = 1.0
"""A sentinel that does not answer in this time is passed over."""


class PrimaryConnection(Connection):
    """A connection to the server that is primary at the moment of connecting. Raises MasterNotFoundError while there is none."""

    def __init__(self, address: SentinelAddress, **options: Any) -> None:
        """Remember whom to ask; `options` are those of any connection."""
        options |= {"db": address.db, "username": address.username, "password": address.password}
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] - redis-py's keyword arguments are not annotated
        self._address = address

    async def connect(self) -> None:
        """Ask, then connect."""
        asked = Sentinel(self._address.sentinels, sentinel_kwargs=_options(self._address, Retry(NoBackoff(), 0)))  # type: ignore[no-untyped-call]
        try:
            self.host, self.port = cast("tuple[str, int]", await asked.discover_master(self._address.service))
        finally:
            await asked.aclose()
        await super().connect()  # type: ignore[no-untyped-call]


def primary_url(url: str) -> str:
    """Return the address of the server that is primary now; every other address as it is. Raises MasterNotFoundError."""
    address = sentinel_address(url)
    if address is None:
        return url
    asked = BlockingSentinel(address.sentinels, sentinel_kwargs=_options(address, BlockingRetry(NoBackoff(), 0)))  # type: ignore[no-untyped-call]
    try:
        discover = cast("Callable[[str], tuple[str, int]]", asked.discover_master)  # pyright: ignore[reportUnknownMemberType] - not annotated
        host, port = discover(address.service)
    finally:
        for one in asked.sentinels:
            one.close()
    user = f"{quote(address.username or '', safe='')}:{quote(address.password, safe='')}@" if address.password else ""
    return f"redis://{user}{f'[{host}]' if ':' in host else host}:{port}/{address.db}"


def _options(address: SentinelAddress, retry: Any) -> dict[str, Any]:
    return {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "socket_connect_timeout": ASK_TIMEOUT_S,
        "socket_timeout": ASK_TIMEOUT_S,
        "retry": retry,
    }
