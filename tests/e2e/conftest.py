"""An application in the test's folder, on the shared server or on one of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from angelrt.keys import Keys
from angelrt.store import Store
from tests import servers
from tests.e2e.processes import Application
from tests.sentinels import Pair, Watched
from tests.servers import Server
from tests.state import assert_sound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    """A server for tests to which it makes no difference which."""
    program = servers.valkey() or servers.redis()
    assert program is not None
    server = Server(program)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A primary with a replica, for this test alone."""
    pair = Pair(request.param)
    try:
        yield pair.start()
    finally:
        pair.remove()


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A primary with a replica, and three sentinels that watch them, for this test alone."""
    watched = Watched(request.param)
    try:
        yield watched.start()
    finally:
        watched.remove()


@pytest.fixture
def one_app(one_server: Server, namespace: str, tmp_path: Path) -> Iterator[Application]:
    """An application for tests of what the command says and is told: the server makes no difference."""
    application = Application(tmp_path, one_server.url, namespace)
    try:
        yield application
    finally:
        application.close()
    asyncio.run(_examine(one_server.url, namespace))


@pytest.fixture
def app(server_url: str, namespace: str, tmp_path: Path) -> Iterator[Application]:
    """An application on the server that all tests share; what it leaves there must be sound, and is removed."""
    application = Application(tmp_path, server_url, namespace)
    try:
        yield application
    finally:
        application.close()
    asyncio.run(_examine(server_url, namespace))


@pytest.fixture
def own_app(own_server: Server, namespace: str, tmp_path: Path) -> Iterator[Application]:
    """An application on a server of its own, which the test may stop; what it leaves there must be sound."""
    application = Application(tmp_path, own_server.url, namespace)
    try:
        yield application
    finally:
        application.close()
    asyncio.run(_examine(own_server.url, namespace))


async def _examine(url: str, namespace: str) -> None:
    store = Store(url, Keys(namespace))
    try:
        await assert_sound(store)
        await store.command("UNLINK", *store.keys.every(await store.queues()))
    finally:
        await store.close()
