"""A client's ear for jobs that ended: one subscription, whatever number of results it waits for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from .config import redact
from .link import connect, connector, pause_s
from .sentinel import BROKEN, next_message

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("angelrt")

SILENCE_S: Final = 5.0
"""After this silence the server is asked for a sign of life; after as much again the connection is given up."""


class Inbox:
    """Listens on one channel; `on_news` gets each id, and None after a reconnect, when news may have been missed."""

    def __init__(self, url: str, channel: str, on_news: Callable[[str | None], None]) -> None:
        """Prepare; connects at the first `open`."""
        self._url = url
        self._channel = channel
        self._on_news = on_news
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._new_connection = connector(url)

    async def open(self) -> None:
        """Return once the subscription stands."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="angelrt inbox")
        await self._listening.wait()

    async def close(self) -> None:
        """End the subscription."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                await self._listen()
            except BROKEN as error:
                tries = 1 if self._listening.is_set() else tries + 1
                self._listening.clear()
                wait_s = pause_s(tries)
                log.warning("waiting for results on Redis at %s: %s; trying again in %.2f s", redact(self._url), error, wait_s)
                await asyncio.sleep(wait_s)

    async def _listen(self) -> None:
        connection = self._new_connection()
        try:
            await connect(connection)
            await connection.send_command("SUBSCRIBE", self._channel)
            if await connection.read_response(timeout=SILENCE_S) is None:
                message = f"no answer to a subscription within {SILENCE_S:g} s"
                raise RedisError(message)
            self._listening.set()
            self._on_news(None)
            while True:
                self._on_news(await next_message(connection, SILENCE_S))
        finally:
            await connection.disconnect(nowait=True)
