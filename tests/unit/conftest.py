"""What tests of views share: the namespace from the side of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripts.partition import examined

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripts.partition import Partition


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """The namespace from the side of a worker, whose clock the test moves; examined and removed afterwards."""
    async with examined(server_url, namespace) as partition:
        yield partition
