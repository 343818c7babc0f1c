"""Events as a stream: live, resumed, bounded, and ended when the client goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import RedisUnavailable, Runtime
from angelrt.store import SEND_DEADLINE_S
from angelrt.web import sse
from tests.proxy import Proxy
from tests.web.conftest import READER
from tests.worker.waiting import until_true

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    import httpx

    from angelrt.events import Event
    from tests.servers import Server
    from tests.web.conftest import Live

WHERE = "/api/v1/events"


@contextlib.asynccontextmanager
async def opened(client: httpx.AsyncClient, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    """Yield the blocks of a stream as they come: the fields of an event each, a comment under ''."""

    async def blocks(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(":")
            if line:
                fields[name] = value.strip()
            elif fields:
                yield fields
                fields = {}

    async with client.stream("GET", WHERE, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        found = blocks(response)
        assert await anext(found) == {"retry": "2000"}
        yield found


async def test_events_come_as_they_happen(rt: Runtime[Any], reader: httpx.AsyncClient) -> None:
    job = None
    async with opened(reader) as events:
        coming = asyncio.ensure_future(anext(events))
        while not coming.done():  # the stream begins where it is when it opens, so what is sent before is not in it
            job = await rt.send("echo", {"value": "a-private-value"})
            await asyncio.wait([coming], timeout=0.05)
        first = coming.result()
    assert job is not None
    told = json.loads(first["data"])
    assert (told["id"], told["verb"], told["jobs"], told["worker"]) == (first["id"], "enqueue", 1, "-")
    assert "a-private-value" not in first["data"]


async def test_a_stream_is_resumed_after_the_last_event_that_was_seen(rt: Runtime[Any], reader: httpx.AsyncClient) -> None:
    jobs = [await rt.send("echo", {"value": n}) for n in range(5)]
    kept = [event.id for event in await rt.recent_events(10)]
    assert len(kept) == 5
    async with opened(reader, **{"Last-Event-ID": kept[1]}) as events:
        seen = [await anext(events) for _ in range(3)]
    assert [one["id"] for one in seen] == kept[2:]
    assert [json.loads(one["data"])["ids"] for one in seen] == [[job.id] for job in jobs[2:]]


async def test_a_program_begins_where_it_says(rt: Runtime[Any], reader: httpx.AsyncClient) -> None:
    job = await rt.send("echo")
    async with reader.stream("GET", WHERE, params={"after": "0"}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                assert json.loads(line.removeprefix("data:"))["ids"] == [job.id]
                break


@pytest.mark.parametrize(("headers", "query"), [({"Last-Event-ID": "x"}, {}), ({}, {"after": "1;2"}), ({}, {"after": "-1-0"})])
async def test_a_place_that_is_none_is_refused(reader: httpx.AsyncClient, headers: dict[str, str], query: dict[str, str]) -> None:
    answer = await reader.get(WHERE, headers=headers, params=query)
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["field"] in ("Last-Event-ID", "after")


async def connections(rt: Runtime[Any]) -> int:
    """Return how many clients the server has."""
    return len((await rt.client().store.command("CLIENT", "LIST")).splitlines())


async def test_a_stream_ends_with_its_client_and_gives_its_connection_back(rt: Runtime[Any], live: Live, monkeypatch: Any) -> None:
    monkeypatch.setattr(sse, "STREAMS_MAX", 3)
    client = await live.client(READER)
    before = await connections(rt)

    async def is_there_room() -> bool:
        return (await client.head(WHERE)).status_code == 200

    async def is_as_before() -> bool:
        return await connections(rt) <= before

    for _ in range(4):
        async with contextlib.AsyncExitStack() as streams:
            for _ in range(3):
                await streams.enter_async_context(opened(client))
            refused = await client.get(WHERE)
            assert (refused.status_code, refused.json()["error"]["type"]) == (503, "TooManyStreams")
            assert refused.headers["Retry-After"] == "2"
        await until_true(is_there_room, "the streams have ended")
        assert (await client.head(WHERE)).content == b""
        await until_true(is_as_before, "the connections are given back")


async def test_a_stream_has_an_end(reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STREAM_MAX_S", 0.05)
    async with opened(reader) as events:
        assert [event async for event in events] == []


async def test_a_server_that_stops_ends_its_streams(live: Live, reader: httpx.AsyncClient) -> None:
    async with opened(reader) as events:
        live.app.state.site.stop()
        assert [event async for event in events] == []


async def test_a_silent_stream_beats(rt: Runtime[Any]) -> None:
    async with contextlib.aclosing(sse.written(rt, "$", asyncio.Event(), beat_s=0.01)) as text:
        assert [await anext(text) for _ in range(3)] == [b"retry: 2000\n\n", b": beat\n\n", b": beat\n\n"]


async def test_a_stream_goes_on_where_it_was_when_redis_is_back(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "AGAIN_MS", 1)
    first, second = await rt.send("echo"), await rt.send("echo")
    begun: list[str] = []
    follow = rt.events

    async def torn(after: str) -> AsyncGenerator[Event]:
        begun.append(after)
        async with contextlib.aclosing(follow(after)) as events:
            async for event in events:
                yield event
                if len(begun) == 1:
                    message = "Redis is away"
                    raise RedisUnavailable(message)

    monkeypatch.setattr(rt, "events", torn)
    async with contextlib.aclosing(sse.written(rt, "0", asyncio.Event())) as text:
        told = [await anext(text) for _ in range(4)]
    assert first.id.encode() in told[1]
    assert told[2].startswith(b"event: unavailable\ndata: {")
    assert second.id.encode() in told[3]
    assert begun == ["0", told[1].split(b"\n")[0].removeprefix(b"id: ").decode()]


async def test_streams_say_again_and_again_that_redis_is_silent_and_go_on(
    own_server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "AGAIN_MS", 200)
    monkeypatch.setattr(sse, "ANSWER_S", 0.2)
    away = b"event: unavailable\n"
    async with (
        Proxy(tmp_path, own_server.socket) as proxy,
        Runtime(proxy.url, namespace=namespace) as rt,
        contextlib.AsyncExitStack() as on,
    ):
        early, late = [await on.enter_async_context(contextlib.aclosing(sse.written(rt, place, asyncio.Event()))) for place in ("0", "$")]
        first = await rt.send("echo")
        assert first.id.encode() in [await anext(early) for _ in range(2)][1]
        proxy.is_silent = True
        async with asyncio.timeout(SEND_DEADLINE_S):  # a client's own retries last as long, and nobody waits for their end
            for text in (early, late):
                assert [block.startswith(away) for block in [await anext(text) for _ in range(4)]][1:] == [True] * 3
        proxy.is_silent = False
        proxy.cut()
        second = await rt.send("echo")
        assert second.id.encode() in await after_the_outage(early)
        coming = asyncio.ensure_future(after_the_outage(late))
        while not coming.done():  # it begins where the namespace is when Redis is back
            third = await rt.send("echo")
            await asyncio.wait([coming], timeout=0.05)
        assert first.id.encode() not in coming.result()
        assert third.created


async def after_the_outage(text: AsyncGenerator[bytes]) -> bytes:
    """Return the next event of a stream that tells what happened."""
    while (block := await anext(text)).startswith(b"event: unavailable"):
        pass
    return block
