"""`doctor` before real servers with each setting that loses data, or takes no jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import doctor
from angelrt import store as store_room
from angelrt.keys import Keys
from angelrt.store import Store
from tests.sentinels import free_port
from tests.servers import WITH_AOF, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.doctor import Finding
    from tests.sentinels import Pair


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait ten seconds for a server that takes no writes."""
    monkeypatch.setattr(store_room, "SEND_DEADLINE_S", 0.5)


@pytest.fixture
async def server(own_server: Server, namespace: str) -> AsyncIterator[Store]:
    """A connection to the test's own server."""
    store = Store(own_server.url, Keys(namespace))
    yield store
    await store.close()


async def finding(store: Store, check: str) -> Finding:
    """Return what doctor finds in one check."""
    return next(one for one in await doctor.examine(store) if one.check == check)


SETTINGS = [
    ("eviction", {"maxmemory-policy": "noeviction", "maxmemory": "1gb"}, "ok", "refuses new jobs and loses none"),
    ("eviction", {"maxmemory-policy": "allkeys-lru"}, "warning", "as soon as maxmemory is set"),
    ("eviction", {"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}, "error", "the server deletes jobs"),
    ("eviction", {"maxmemory-policy": "volatile-ttl", "maxmemory": "1gb"}, "error", "the server deletes jobs"),
    ("persistence", {"appendonly": "no", "save": ""}, "error", "no append-only file"),
    ("persistence", {"appendonly": "no", "save": "3600 1"}, "error", "no append-only file"),
    ("persistence", {"appendfsync": "no"}, "warning", "never flushed by the server"),
    ("persistence", {"appendfsync": "everysec"}, "ok", "a power loss may lose the last second or two, a crash of the server nothing"),
    ("persistence", {"appendfsync": "always"}, "ok", "a power loss may lose nothing acknowledged"),
    ("replication", {}, "ok", "no replica"),
    ("replication", {"min-replicas-to-write": "2"}, "error", "0 of the 2 replicas"),
]


@pytest.mark.parametrize(("check", "given", "level", "words"), SETTINGS, ids=lambda value: str(value)[:40])
async def test_each_setting_is_judged(server: Store, check: str, given: dict[str, str], level: str, words: str) -> None:
    for name, value in given.items():
        await server.command("CONFIG", "SET", name, value)
    found = await finding(server, check)
    assert (found.level, words in found.found) == (level, True), found
    assert bool(found.remedy) == (level != "ok")


async def test_how_much_is_lost_without_an_append_only_file_depends_on_snapshots(server: Store) -> None:
    await server.command("CONFIG", "SET", "appendonly", "no")
    for save, words in (("", "loses everything"), ("3600 1", "since the last snapshot")):
        await server.command("CONFIG", "SET", "save", save)
        assert words in (await finding(server, "persistence")).remedy


async def test_a_replica_is_refused_and_its_primary_named(pair: Pair, namespace: str) -> None:
    replica = Store(f"redis://127.0.0.1:{pair.ports[1]}", Keys(namespace))
    found = await finding(replica, "replication")
    assert (found.level, f"127.0.0.1:{pair.ports[0]}" in found.remedy) == ("error", True)
    await replica.close()
    primary = Store(pair.url, Keys(namespace))
    found = await finding(primary, "replication")
    assert (found.level, found.found[:10]) == ("ok", "1 replicas")
    await primary.close()


async def test_cluster_mode_is_named(own_server: Server, namespace: str) -> None:
    options = ("--bind", "127.0.0.1", "--port", str(free_port()), "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server = Server(own_server.program, *WITH_AOF, *options)
    try:
        store = Store(server.start().url, Keys(namespace))
        await store.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        found = await finding(store, "version")
        assert (found.level, "in cluster mode" in found.found) == ("warning", True)
        await store.close()
    finally:
        server.remove()
