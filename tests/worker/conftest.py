"""A runtime of its own for every test; what it leaves in Redis is examined and removed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from angelrt import Runtime
from angelrt.keys import Keys
from angelrt.store import Store
from tests.state import assert_sound
from tests.worker.timebox import opened, reports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.worker.timebox import Box


class NewRuntime(Protocol):
    """Makes runtimes that share the server and the namespace of the test, as processes of one application do."""

    def __call__(self, **options: Any) -> Runtime[Any]:
        """Return one that is not open."""
        ...


@pytest.fixture
def examined(server_url: str, namespace: str) -> Iterator[None]:
    """Examine the namespace after the test: it must be sound, and nothing may be leased. Then remove it."""
    yield
    asyncio.run(examine(Store(server_url, Keys(namespace))))


async def examine(store: Store) -> None:
    """Check what the workers of a test have left, and remove it."""
    try:
        state = await assert_sound(store)
        assert not state.held, "the workers have left, and jobs are still leased"
        assert not state.beats, "the workers have left, and the register still shows some"
        await store.command("UNLINK", *store.keys.every(await store.queues()))
    finally:
        await store.close()


@pytest.fixture
async def store(server_url: str, namespace: str, examined: None) -> AsyncIterator[Store]:  # noqa: ARG001 - for its end
    """The test's own view of its namespace."""
    store = Store(server_url, Keys(namespace))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def new_runtime(server_url: str, namespace: str, examined: None) -> NewRuntime:  # noqa: ARG001 - for its end
    """Make runtimes on the test's namespace."""

    def make(**options: Any) -> Runtime[Any]:
        return Runtime(server_url, namespace=namespace, **options)

    return make


@pytest.fixture
async def rt(new_runtime: NewRuntime) -> AsyncIterator[Runtime[Any]]:
    """An open runtime."""
    async with new_runtime() as runtime:
        yield runtime


@pytest.fixture
def commands_seen(store: Store) -> Callable[..., Any]:
    """Count the commands that the server has executed, all or one kind: `await commands_seen("evalsha")`."""

    async def count(kind: str = "") -> int:
        section = "commandstats" if kind else "stats"
        wanted = f"cmdstat_{kind}:calls=" if kind else "total_commands_processed:"
        lines = (await store.command("INFO", section)).decode().splitlines()
        return next((int(line.removeprefix(wanted).partition(",")[0]) for line in lines if line.startswith(wanted)), 0)

    return count


@pytest.fixture
async def box(server_url: str) -> AsyncIterator[Box]:
    """A sandbox for schedules, at half past noon of a summer's day."""
    async with opened(server_url, reports(), datetime(2026, 7, 1, 12, 30, tzinfo=UTC)) as found:
        yield found
