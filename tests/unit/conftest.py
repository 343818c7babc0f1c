"""What unit tests share: the namespace from the side of a worker, and what collects spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripts.partition import examined
from tests.unit.traces import Recorder, runtimes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from angelrt import Runtime
    from tests.scripts.partition import Partition


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """The namespace from the side of a worker, whose clock the test moves; examined and removed afterwards."""
    async with examined(server_url, namespace) as partition:
        yield partition


@pytest.fixture
def recorder() -> Recorder:
    """What the SDK collects."""
    return Recorder.new()


@pytest.fixture
async def new_runtime(server_url: str, namespace: str) -> AsyncIterator[Callable[..., Runtime[Any]]]:
    """Make runtimes on the test's namespace."""
    async with runtimes(server_url, namespace) as make:
        yield make
