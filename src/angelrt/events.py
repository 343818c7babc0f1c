"""What the scripts did, as it happens: one event for each call, out of a stream that is capped."""

from __future__ import annotations

import re
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Any, Final

from .errors import InvalidOptions
from .job import View, at_ms

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .store import Store

BLOCK_MS: Final = 1_000
PAGE: Final = 500
EVENT_ID: Final = re.compile(r"\d{1,15}-\d{1,15}")
NEWEST: Final = "$"


class Event(View):
    """One call: `verb` is enqueue, claim, settle, cancel, expire, replay, purge or schedule; `jobs` says of how many.

    `ids` are those of up to eight of them; `worker` is `-` for what no worker did. `id` is where to go on.
    """

    id: str
    at: datetime
    verb: str
    worker: str
    jobs: int
    ids: list[str]


def check_after(after: str) -> str:
    """Return where to begin: the id of an event, `0` for the oldest that is kept, `$` for what comes. Raises InvalidOptions."""
    if after not in ("0", NEWEST) and not EVENT_ID.fullmatch(after):
        message = f'events(after={after!r}): give the id of an event, as "1700000000000-0", "0" for the oldest, or "$" for what comes'
        raise InvalidOptions(message)
    return after


async def follow(store: Store, after: str) -> AsyncGenerator[Event]:
    """Yield events from there on, for ever, over a connection of its own. Raises RedisUnavailable."""
    key, seen = store.keys.key("events"), check_after(after)
    if seen == NEWEST:
        newest = await store.command("XREVRANGE", key, "+", "-", "COUNT", 1)
        seen = newest[0][0].decode() if newest else "0"
    link = store.new_link()
    try:
        while True:
            [found] = await store.commands(["XREAD", "COUNT", PAGE, "BLOCK", BLOCK_MS, "STREAMS", key, seen], link=link)
            for name, fields in found[0][1] if found else ():
                seen = name.decode()
                yield _event(seen, fields)
    finally:
        await link.close()


async def latest(store: Store, number: int) -> list[Event]:
    """Return the last events, the oldest of them first."""
    found = await store.command("XREVRANGE", store.keys.key("events"), "+", "-", "COUNT", number)
    return [_event(name.decode(), fields) for name, fields in reversed(found)]


def _event(name: str, fields: list[Any]) -> Event:
    values = {word.decode(): value.decode() for word, value in zip(fields[::2], fields[1::2], strict=True)}
    return Event(
        id=name,
        at=at_ms(int(name.partition("-")[0])),
        verb=values["v"],
        worker=values["w"],
        jobs=int(values["n"]),
        ids=values["ids"].split("\0") if values["ids"] else [],
    )
