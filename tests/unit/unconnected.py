"""A client without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from angelrt.client import Client
from angelrt.keys import Keys
from angelrt.store import Store

if TYPE_CHECKING:
    from angelrt import Queue


def client(*queues: Queue) -> Client:
    """Return a client that is never connected, to see what it would write."""

    def run_sync(_: Any) -> Any:
        raise AssertionError

    store = Store("redis://nowhere", Keys("none"))
    store.clock = lambda: 1_750_000_000_000.0
    return Client(store, run_sync, {queue.name: queue for queue in queues})
