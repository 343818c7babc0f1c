"""Events as a stream of server-sent events: resumable, bounded in number and in time, and ended when the client goes."""

from __future__ import annotations

import asyncio
import contextlib
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import anyio
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from ..errors import RedisFull, RedisRefused, RedisUnavailable
from ..events import EVENT_ID, NEWEST
from .call import Call, Query
from .errors import RETRY_AFTER_S, Refused, wrong_field

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from ..events import Event
    from ..runtime import Runtime
    from .call import Site

STREAMS_MAX: Final = 100
"""Streams at a time in one process; each has a connection to Redis."""
STREAM_MAX_S: Final = 3600.0
"""After so long the client is sent away, and comes back with the id of its last event."""
UNREAD_S: Final = 60.0
"""So much longer a client is borne with that does not read what it asked for."""
BEAT_S: Final = 15.0
AGAIN_MS: Final = 2000
"""So often clients are told that Redis is away, and it is asked; a browser that was cut off comes back after as long."""
ANSWER_S: Final = 2.0
"""Silence for so long means that Redis is away."""
AWAY: Final = (RedisUnavailable, RedisRefused, RedisFull)
MEDIA: Final = "text/event-stream"


class EventsQuery(Query):
    """Where to begin, for programs that have no Last-Event-ID: the id of an event, or 0 for the oldest that is kept."""

    after: Annotated[str | None, Field(max_length=40)] = None


def check_after(call: Call) -> str:
    """Return where the stream begins. Raises Refused for what is no event's id."""
    query: EventsQuery = call.query
    header = call.request.headers.get("last-event-id")
    after = header or query.after or NEWEST
    if after not in ("0", NEWEST) and not EVENT_ID.fullmatch(after):
        name = "Last-Event-ID" if header else "after"
        message = f"{name} is the id of an event, as 1700000000000-0"
        raise wrong_field(name, message)
    return after


async def events(call: Call) -> Response:
    """Answer with the stream."""
    after, site = check_after(call), call.site
    call.rt.client()
    if call.request.method == "HEAD":
        return Response(media_type=MEDIA)
    if len(site.streams) >= STREAMS_MAX:
        message = f"{STREAMS_MAX} streams are open: close some, or try again later"
        raise Refused(503, "TooManyStreams", message, headers={"Retry-After": RETRY_AFTER_S})
    return _Stream(site, after)


class _Stream(StreamingResponse):
    """The stream of one client; it is counted while it lasts."""

    def __init__(self, site: Site, after: str) -> None:
        self._site, self._end = site, site.new_end(site.streams)
        self._text = written(site.rt, after, self._end)
        super().__init__(self._text, media_type=MEDIA, headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        later = asyncio.get_running_loop().call_later(STREAM_MAX_S, self._end.set)
        try:
            with anyio.move_on_after(STREAM_MAX_S + UNREAD_S):
                await super().__call__(scope, receive, send)
        finally:
            later.cancel()
            self._site.streams.discard(self._end)
            with anyio.CancelScope(shield=True):
                await self._text.aclose()


async def written(rt: Runtime[Any], after: str, end: asyncio.Event, *, beat_s: float = BEAT_S) -> AsyncGenerator[bytes]:
    """Yield the stream's text until its end. While Redis is away it says so as an event `unavailable`, and goes on where it was."""
    yield b"retry: %d\n\n" % AGAIN_MS
    loop = asyncio.get_running_loop()
    last, told_s = after, -math.inf
    while not end.is_set():
        try:
            newest = await _newest(rt)
            last = newest if last == NEWEST else last
            async with aclosing(_with_beats(rt, last, end, beat_s)) as found:
                async for event in found:
                    if event is None:
                        yield b": beat\n\n"
                    else:
                        last = event.id
                        yield b"id: %b\ndata: %b\n\n" % (event.id.encode(), event.to_json())
        except AWAY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(told_s + AGAIN_MS / 1000):
                    await end.wait()
            told_s = loop.time()
            yield b'event: unavailable\ndata: {"message": "Redis does not answer; this stream goes on when it does"}\n\n'


async def _newest(rt: Runtime[Any]) -> str:
    """Return the id of the newest event, or 0, asking once. Raises RedisUnavailable, also for an answer that takes too long."""
    store = rt.client().store
    try:
        async with asyncio.timeout(ANSWER_S):
            [found] = await store.commands(["XREVRANGE", store.keys.key("events"), "+", "-", "COUNT", 1], deadline_s=0)
    except TimeoutError as error:
        message = "Redis does not answer"
        raise RedisUnavailable(message) from error
    return found[0][0].decode() if found else "0"


async def _watch(rt: Runtime[Any]) -> NoReturn:
    """Ask Redis for a sign of life again and again: who waits for events is not told in time that there are none."""
    while True:
        await asyncio.sleep(AGAIN_MS / 1000)
        await _newest(rt)


async def _with_beats(rt: Runtime[Any], after: str, end: asyncio.Event, beat_s: float) -> AsyncGenerator[Event | None]:
    """Yield events until the end, and None when none has come for a while. Raises RedisUnavailable as soon as the watch does."""
    events = rt.events(after)
    coming: asyncio.Future[Event] | None = None
    ending, watching = asyncio.ensure_future(end.wait()), asyncio.ensure_future(_watch(rt))
    try:
        while not end.is_set():
            coming = coming or asyncio.ensure_future(anext(events))
            either: list[asyncio.Future[Any]] = [coming, ending, watching]
            await asyncio.wait(either, timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            elif coming.done():
                event, coming = coming.result(), None
                yield event
            elif not end.is_set():
                yield None
    finally:
        waiting: list[asyncio.Future[Any]] = [ending, watching, *([] if coming is None else [coming])]
        for one in waiting:
            one.cancel()
        with anyio.CancelScope(shield=True):  # the connection is closed, though the client's going cancels all that waits
            await asyncio.gather(*waiting, return_exceptions=True)
            await events.aclose()
