"""Explore the model: every world with the rules as they are, then every mutant, which must be caught."""

from __future__ import annotations

import sys

from .fleet import Protocols
from .pure import Pure
from .search import Search
from .world import LARGE, SMALL


def main() -> int:
    """Print what was seen; 1 when anything is wrong."""
    failures = 0
    for world in (*SMALL, *LARGE):
        found = Search(world.name, Protocols(Pure(world))).run()
        print(found, flush=True)
        failures += len(found.problems)
        for problem in found.problems[:1]:
            print("  " + problem)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
