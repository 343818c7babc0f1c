"""Faults as they are done to a run: each notes when it began and ended, and which processes it met."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.fleet import now_ms
from tests.chaos.schedule import OF_SERVER, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.fleet import Place
    from tests.chaos.schedule import Fault
    from tests.servers import Server

SETTLED_S: Final = 1.0
START_S: Final = 120.0
"""What a server may take to read its file while the machine is busy."""


class Storm:
    """Plays a schedule on the places of a fleet and their server."""

    def __init__(self, server: Server, places: Sequence[Place], note: Callable[..., None]) -> None:
        """Keep them; `note` takes facts."""
        self._server = server
        self._places = {place.name: place for place in places}
        self._note = note
        self._busy = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def play(self, faults: Sequence[Fault]) -> None:
        """Do each fault at its time; return when the last one is over."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await asyncio.sleep(max(start_s + fault.at_s - loop.time(), 0))
                tasks.create_task(self._do(fault))

    async def _do(self, fault: Fault) -> None:
        async with self._busy[fault.target]:
            if fault.kind in OF_SERVER:
                begin, pid, met = now_ms(), 0, True
                await self._on_server(fault)
            else:
                place = self._places[fault.target]
                if not place.is_up:
                    await place.up()
                    await asyncio.sleep(SETTLED_S)  # or a process would die in its first claim, again and again
                pid = place.pid
                begin = now_ms()
                met = bool(pid) and await self._on_client(fault, place)
        self._noted(fault, begin, pid=pid, met=met)

    def _noted(self, fault: Fault, begin: float, *, pid: int, met: bool) -> None:
        what: dict[str, Any] = {"number": fault.number, "kind": fault.kind, "target": fault.target, "verb": fault.verb}
        self._note("fault", **what, pid=pid, begin=begin, end=now_ms(), met=met)

    async def _on_server(self, fault: Fault) -> None:
        if fault.kind == "server freeze":
            self._server.send_signal(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            self._server.send_signal(signal.SIGCONT)
            return
        await asyncio.to_thread(self._server.kill if fault.kind == "server kill" else self._server.stop)
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(self._server.start, START_S)

    async def _on_client(self, fault: Fault, place: Place) -> bool:
        """Do it; tell whether it met anything."""
        if fault.kind in ("kill", "sender kill"):
            place.send_signal(signal.SIGKILL)
            await place.gone(place.pid)
        elif fault.kind == "reset":
            return place.way.reset() > 0
        elif fault.kind == "lost reply":
            return await place.way.lose_reply(fault.verb, PATIENCE_S)
        elif fault.kind == "stop":
            place.send_signal(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            place.send_signal(signal.SIGCONT)
        elif fault.kind == "partition":
            place.way.part()
            await asyncio.sleep(fault.lasts_s)
            place.way.heal()
        else:
            connection = place.way.stall(fault.number)
            await asyncio.sleep(fault.lasts_s)
            if connection is not None:
                connection.release()
            return connection is not None
        return True
