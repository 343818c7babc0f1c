"""A runtime with actors that have secrets, and its app on a live server: uvicorn on a free port of the loopback, in the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import httpx
import pytest
from pydantic import BaseModel

from angelrt import RateLimit, RetryPolicy, Runtime, Secret
from angelrt.cli_web import new_server
from angelrt.keys import Keys
from angelrt.store import Store
from angelrt.web import new_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette

READER = "reader-token-0123456789"
OPERATOR = "operator-token-0123456789"
HIDDEN = "open-sesame-4711"
"""What no answer shows."""
ONCE = RetryPolicy(attempts=1)


class Account(BaseModel):
    """Somebody, with what opens the door."""

    name: str
    door: Annotated[str, Secret] = "a door"


def declare(rt: Runtime[Any]) -> None:
    """Declare the actors of the tests."""

    @rt.actor(name="echo", retry=ONCE)
    async def echo(value: Any = None) -> Any:
        return value

    @rt.actor(name="fails", retry=ONCE)
    async def fails(password: str, note: str = "") -> None:
        message = f"no entry with {password!r} ({note})"
        raise ValueError(message)

    @rt.actor(name="opens", retry=ONCE)
    async def opens(account: Account, code: Annotated[str, Secret] = "none") -> Annotated[str, Secret]:
        """Open the door of an account."""
        return account.door + code

    @rt.actor(name="refuses", retry=ONCE)
    async def refuses(account: Account) -> None:
        message = f"the door {account.door} of {account.name} is shut"
        raise ValueError(message)

    @rt.actor(name="pays", retry=ONCE)
    async def pays(card: Annotated[str, Secret], pin: int = 1234) -> dict[str, Any]:
        return {"told": f"paid with {card}", "cards": [card], "pin_was": pin, "sum": 7, "again": pin}

    @rt.actor(name="counts", queue="limited", limits=[RateLimit("500/day", per="customer_id")])
    async def counts(customer_id: int, size: int = 1) -> int:
        return customer_id * size

    @rt.actor(name="tells", retry=ONCE)
    async def tells(password: str) -> None:
        rt.context.progress(0.5, f"using {password}")
        rt.context.log(f"used {password}")
        await asyncio.Event().wait()

    @rt.actor(name="guards", limits=[RateLimit("1/day", per="code")])
    async def guards(code: Annotated[str, Secret]) -> None:
        """Hold what is named by a secret."""

    @rt.actor(name="waits", retry=ONCE)
    async def waits() -> None:
        await asyncio.Event().wait()


class Live:
    """An app that is served, and clients of it."""

    def __init__(self, app: Starlette, url: str, clients: contextlib.AsyncExitStack) -> None:
        """Keep them."""
        self.app, self.url, self._clients = app, url, clients

    async def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Return a client, with a bearer token where one is given."""
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        client = httpx.AsyncClient(base_url=self.url, headers=sent, timeout=30, trust_env=False)
        return await self._clients.enter_async_context(client)


class Serve(Protocol):
    """Serves an app of the test's runtime, or another app, until the test ends."""

    async def __call__(self, *, app: Any = None, path: str = "", **options: Any) -> Live:
        """Return it; `options` are those of `rt.web`, `path` is where it is mounted."""
        ...


@pytest.fixture
async def rt(server_url: str, namespace: str) -> AsyncIterator[Runtime[Any]]:
    """An open runtime whose namespace is removed afterwards."""
    runtime: Runtime[Any] = Runtime(server_url, namespace=namespace)
    declare(runtime)
    async with runtime:
        yield runtime
    store = Store(server_url, Keys(namespace))
    await store.command("UNLINK", *store.keys.every(await store.queues()))
    await store.close()


@pytest.fixture
async def working(rt: Runtime[Any]) -> AsyncIterator[Runtime[Any]]:
    """The runtime with a worker."""
    async with rt.worker(concurrency=5, grace=0):
        yield rt


@pytest.fixture
async def serve(rt: Runtime[Any]) -> AsyncIterator[Serve]:
    """Serve apps."""
    async with contextlib.AsyncExitStack() as running:

        async def start(*, app: Any = None, path: str = "", **options: Any) -> Live:
            served = app or new_app(rt, **options)
            port = await running.enter_async_context(_served(served))
            return Live(served, f"http://127.0.0.1:{port}{path}", running)

        yield start


@contextlib.asynccontextmanager
async def _served(app: Any) -> AsyncIterator[int]:
    """Serve an app; the server's own loop and end, which wait for tenths of seconds and for signals, are left out."""
    server = new_server(app)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await server.startup(sockets=[listening])
        try:
            yield listening.getsockname()[1]
        finally:
            for listener in server.servers:
                listener.close()
            for connection in [*server.server_state.connections]:
                connection.shutdown()
            if running := [*server.server_state.tasks]:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
            await server.lifespan.shutdown()


@pytest.fixture
async def live(serve: Serve) -> Live:
    """The app with a token for each role."""
    return await serve(readers=[READER], operators=[OPERATOR])


@pytest.fixture
async def reader(live: Live) -> httpx.AsyncClient:
    """A client that may look."""
    return await live.client(READER)


@pytest.fixture
async def operator(live: Live) -> httpx.AsyncClient:
    """A client that may change things."""
    return await live.client(OPERATOR)
