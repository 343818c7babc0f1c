"""Connections: what they leave behind when they are cancelled, and what they say when the other end is silent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import inbox, link
from angelrt.inbox import Inbox
from angelrt.link import Link, LinkLost

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_connect_that_is_cancelled_leaves_no_socket_open(tmp_path: Path) -> None:
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        while await reader.read(1024):
            pass
        closed.set()
        writer.close()

    async with await asyncio.start_unix_server(silent, tmp_path / "s"):
        link = Link(f"unix://{tmp_path}/s")
        call = asyncio.create_task(link.call(["PING"]))
        await accepted.wait()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        async with asyncio.timeout(10):
            await closed.wait()
        await link.close()


async def test_a_call_of_nothing_has_no_answer_to_wait_for_and_those_behind_it_get_theirs(server_url: str) -> None:
    link = Link(server_url)
    async with asyncio.timeout(10):
        assert await asyncio.gather(link.call(), link.call(["ECHO", "a"]), link.call(["ECHO", "b"])) == [[], [b"a"], [b"b"]]
    await link.close()


async def test_a_link_that_is_closed_as_soon_as_it_is_open_leaves_no_socket_open(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def greets_and_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await reader.read(1024):
            writer.write(b"+OK\r\n" * words.count(b"SETINFO"))
        closed.set()
        writer.close()

    async with await asyncio.start_unix_server(greets_and_answers, tmp_path / "s"):
        link = Link(f"unix://{tmp_path}/s")
        wire = await link._connect()  # noqa: SLF001 - to be here before the first call
        await link.close()
        assert not wire.connection.is_connected
        async with asyncio.timeout(10):
            await closed.wait()


async def test_a_server_that_falls_silent_loses_the_connection_and_not_the_caller(tmp_path: Path) -> None:
    async def silent_after_the_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await reader.read(1024):
            writer.write(b"+OK\r\n" * words.count(b"SETINFO"))
        writer.close()

    async with await asyncio.start_unix_server(silent_after_the_greeting, tmp_path / "s"):
        link = Link(f"unix://{tmp_path}/s", reply_timeout_s=0.2)
        with pytest.raises(LinkLost, match=r"no reply within 0\.2 s"):
            await link.call(["PING"])
        await link.close()


async def test_a_server_that_accepts_and_says_nothing_loses_the_connection_and_not_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()

    async with await asyncio.start_unix_server(silent, tmp_path / "s"):
        stuck = Link(f"unix://{tmp_path}/s")
        with pytest.raises(LinkLost, match=r"no greeting within 0\.2 s"):
            await stuck.call(["PING"])
        await stuck.close()


@pytest.mark.parametrize("greets", [False, True], ids=["says nothing", "greets and answers no subscription"])
async def test_a_subscription_that_is_not_answered_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, greets: bool) -> None:
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(inbox, "SILENCE_S", 0.2)
    connections: asyncio.Queue[None] = asyncio.Queue()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.put_nowait(None)
        while words := await reader.read(1024):
            writer.write(b"+OK\r\n" * words.count(b"SETINFO") * greets)
        writer.close()

    async with await asyncio.start_unix_server(silent, tmp_path / "s"):
        listening = Inbox(f"unix://{tmp_path}/s", "channel", lambda _: None)
        opening = asyncio.create_task(listening.open())
        async with asyncio.timeout(10):
            await connections.get()
            await connections.get()
        opening.cancel()
        await asyncio.wait([opening])
        await listening.close()


async def test_a_call_in_the_very_turn_in_which_its_socket_was_closed_loses_the_connection_and_not_the_caller(server_url: str) -> None:
    link = Link(server_url)
    await link.call(["PING"])
    link._wire.transport.abort()  # type: ignore[union-attr]  # noqa: SLF001 - as at a reset
    with pytest.raises(LinkLost):
        await link.call(["PING"])
    assert await link.call(["PING"]) == [b"PONG"]
    await link.close()


async def test_a_subscription_whose_socket_was_closed_as_it_asks_for_a_sign_of_life_is_made_again(
    server_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SILENCE_S", 0.05)
    opened: asyncio.Queue[None] = asyncio.Queue()
    listening = Inbox(server_url, namespace, lambda _: opened.put_nowait(None))
    new_connection = listening._new_connection  # noqa: SLF001 - to close the socket at a moment that else is rare

    def closing() -> Any:
        connection: Any = new_connection()
        send = connection.send_command

        async def close_and_send(*words: str, **options: bool) -> None:
            if words == ("PING",):
                connection._writer.transport.abort()  # noqa: SLF001 - as above
                await asyncio.sleep(0)
            await send(*words, **options)

        connection.send_command = close_and_send
        return connection

    monkeypatch.setattr(listening, "_new_connection", closing)
    await listening.open()
    async with asyncio.timeout(10):
        await opened.get()
        await opened.get()
    await listening.close()
