"""How a runtime opens, part by part; each part closes what it opened."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .client import Client, RunSync
from .config import Retention, embedded_path
from .store import Store
from .traced_client import TracedClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractContextManager

    from .keys import Keys
    from .queue import Queue
    from .tracing import Tracing

OPEN_DEADLINE_S = 5.0


@asynccontextmanager
async def server(url: str) -> AsyncGenerator[str]:
    """Yield the address to connect to; for `embedded://DIRECTORY`, of a private server that runs while it is used."""
    path = embedded_path(url)
    if path is None:
        yield url
        return
    from . import embedded  # noqa: PLC0415 - only for this scheme

    joined = await asyncio.to_thread(embedded.EmbeddedServer.join, path)
    try:
        yield joined.url
    finally:
        await asyncio.to_thread(joined.leave)


@asynccontextmanager
async def store(url: str, keys: Keys, retention: Retention, events_max: int, replicated: bool) -> AsyncGenerator[Store]:  # noqa: FBT001 - one caller
    """Yield a store that has reached the server. Raises RedisUnavailable after five seconds, RedisRefused at once."""
    opened = Store(url, keys, retention=retention, events_max=events_max, replicated=replicated)
    try:
        await opened.learn_time(OPEN_DEADLINE_S)
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def client(store: Store, run_sync: RunSync, queues: Mapping[str, Queue], tracing: Tracing | None) -> AsyncGenerator[Client]:
    """Yield a client; what it knows of the order of queues is declared first, since a job keeps the rank of its send."""
    for queue in queues.values():
        for field, value in queue.policies().items():
            await store.control("declare", field, value, [queue.name])
    opened = Client(store, run_sync, queues) if tracing is None else TracedClient(store, run_sync, queues, tracing)
    try:
        yield opened
    finally:
        await opened.close()


def portal() -> AbstractContextManager[BlockingPortal]:
    """Return an event loop in a thread of its own, for synchronous code."""
    return start_blocking_portal("asyncio", {"use_uvloop": sys.platform != "win32"})
