"""Tasks that take their first step when they are made, where Python can do that."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context


class Begin(Protocol):
    """Makes a task of the loop that runs, in a context of variables."""

    def __call__(
        self, execution: Coroutine[Any, Any, None], /, *, loop: asyncio.AbstractEventLoop, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Return the task."""
        ...


begin: Begin
"""Where Python can, the first step is taken at once: what never waits is over then, and needs no turn of the loop."""
if sys.version_info >= (3, 12):
    begin = partial(asyncio.Task, eager_start=True)
else:
    begin = asyncio.Task


async def first_steps() -> None:
    """Let tasks take the first step that they could not take when they were made: before Python 3.12, it comes with the next turn."""
    if sys.version_info < (3, 12):
        await asyncio.sleep(0)
