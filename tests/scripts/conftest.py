"""A partition of its own for each test of a script; after the test, the invariant must hold."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from angelrt import link
from tests.scripts.partition import examined

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripts.partition import Partition


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Let the store send a failed call again without a pause, and without a word about each of thousands."""
    monkeypatch.setattr(link, "RETRY_BASE_S", 0.0)
    caplog.set_level(logging.ERROR, "angelrt")


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """A partition that is checked when the test has passed, and removed in any case."""
    async with examined(server_url, namespace) as partition:
        yield partition
