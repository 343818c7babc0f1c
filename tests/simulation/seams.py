"""What the package reads of the outside - time, chance, threads, connections - given by the simulation instead."""

from __future__ import annotations

import os
import random
import secrets
import sys
import threading
import time
import zlib
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from angelrt import inbox, link
from angelrt.worker.running import Run
from tests.simulation.loop import PROCESS
from tests.simulation.network import BlockingClient, LinkWire
from tests.simulation.server import EPOCH_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.simulation.loop import Loop
    from tests.simulation.network import Network
    from tests.simulation.threads import Baton

UPTIME_S: Final = 1000.0


class _Instead:
    """A module of which some names are simulated."""

    def __init__(self, module: Any, **simulated: Any) -> None:
        self._module = module
        self.__dict__.update(simulated)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _modules(loop: Loop, draw: Random, baton: Baton) -> dict[Any, Any]:
    def wall_s() -> float:
        process = PROCESS.get()
        return EPOCH_MS / 1000 + loop.now_s + (process.skew_s if process else 0)

    return {
        time: _Instead(
            time, monotonic=lambda: UPTIME_S + loop.now_s, perf_counter=lambda: loop.now_s, time=wall_s, time_ns=lambda: int(wall_s() * 1e9)
        ),
        random: draw,
        secrets: SimpleNamespace(randbits=draw.getrandbits, token_hex=lambda size: draw.randbytes(size).hex(), choice=draw.choice),
        os: _Instead(os, urandom=draw.randbytes, getpid=lambda: 1),
        threading: baton,
    }


@contextmanager
def simulated(loop: Loop, draw: Random, net: Network) -> Iterator[None]:
    """Let every module of the package see the simulation in place of the outside."""
    replaced: list[tuple[Any, str, Any]] = []

    def replace(where: Any, name: str, value: Any) -> None:
        replaced.append((where, name, getattr(where, name)))
        setattr(where, name, value)

    for late in ("opening", "fleet"):  # what the runtime imports when it is first used
        import_module(f"angelrt.{late}")
    modules = _modules(loop, draw, net.baton)
    for room in [module for name, module in sys.modules.items() if name.partition(".")[0] == "angelrt"]:
        for real, instead in modules.items():
            if getattr(room, real.__name__, None) is real:
                replace(room, real.__name__, instead)
    for room in (link, inbox):
        replace(room, "connector", lambda _url: net.new_connection)
    replace(link, "Wire", LinkWire)
    replace(link, "Redis", SimpleNamespace(from_url=lambda _url, *, socket_timeout, **_: BlockingClient(net, socket_timeout)))
    # Sets of runs are ordered by hash, which is an address.
    replace(Run, "__hash__", lambda run: zlib.crc32(f"{run.id} {run.token}".encode()))
    try:
        yield
    finally:
        for where, name, value in reversed(replaced):
            setattr(where, name, value)
