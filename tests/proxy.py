"""A proxy before a server, for what a network does: connections that are cut, and such that stay open and carry nothing any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Proxy:
    """Passes bytes between its own socket file and that of a server; use it as `async with`."""

    def __init__(self, folder: Path, target: Path) -> None:
        """Prepare; listens nowhere yet."""
        self.path = folder / "proxy"
        self.url = f"unix://{self.path}"
        self.accepted = 0
        self.is_silent = False
        """While set, nothing passes on any connection, those that come meanwhile among them; all stay open."""
        self._target = target
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._on_connect, self.path)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections, on both sides."""
        for pair in list(self._pairs):
            pair.close()

    def strand(self) -> int:
        """Let all connections of this moment carry nothing ever again, and stay open; later ones work. Return how many there are."""
        for pair in self._pairs:
            pair.is_stranded = True
        return len(self._pairs)

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        pair = _Pair(self, writer, server_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(pair.carry(reader, server_writer), pair.carry(server_reader, writer))
        finally:
            self._pairs.discard(pair)


class _Pair:
    """A connection and its other half."""

    def __init__(self, proxy: Proxy, *writers: asyncio.StreamWriter) -> None:
        self.is_stranded = False
        self._proxy = proxy
        self._writers = writers

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while words := await reader.read(65_536):
                if not (self.is_stranded or self._proxy.is_silent):
                    writer.write(words)
        self.close()
