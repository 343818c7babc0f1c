"""A worker on an event loop of its own, as in another process."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from angelrt import Runtime


@contextmanager
def working_apart(rt: Runtime[Any]) -> Iterator[None]:
    """Open the runtime and run its worker, on a loop in a thread, while the block lasts."""
    with (
        start_blocking_portal("asyncio", {"use_uvloop": sys.platform != "win32"}) as portal,
        portal.wrap_async_context_manager(rt),
        portal.wrap_async_context_manager(rt.worker()),
    ):
        yield
