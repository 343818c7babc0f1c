"""Tasks that take their first step when they are made, where Python can do that."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context


if sys.version_info >= (3, 12):

    def begin(execution: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context | None = None) -> asyncio.Task[None]:
        """Make a task and run its first step at once: what never waits is over then, and needs no turn of the loop."""
        return asyncio.Task(execution, loop=loop, context=context, eager_start=True)

else:

    def begin(execution: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context | None = None) -> asyncio.Task[None]:
        """Make a task; its first step comes with the next turn of the loop."""
        return loop.create_task(execution, context=context)
