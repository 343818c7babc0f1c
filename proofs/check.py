"""Explore the model: every world with the rules as they are, then every mutant, which must be caught.

Run as `python -m proofs.check`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .fleet import Protocols
from .mutants.rules import MUTANTS
from .pure import Pure
from .search import Search
from .world import LARGE, SMALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .mutants.rules import Mutant
    from .search import Found
    from .world import World


def explore(world: World) -> Found:
    """Search a world with the rules as they are."""
    return Search(world.name, Protocols(Pure(world))).run()


def catch(mutant: Mutant) -> Found:
    """Search a world with wrong rules: something must be found."""
    return Search(mutant.what, mutant.fleets(Pure(mutant.world, mutant.rules()))).run()


def run(worlds: Sequence[World], mutants: Sequence[Mutant]) -> int:
    """Print what was seen; return how much is wrong."""
    wrong = 0
    for found in map(explore, worlds):
        print(found, flush=True)
        for problem in found.problems:
            print("  " + problem)
        wrong += len(found.problems)
    for found in map(catch, mutants):
        by = found.problems[0].partition(":")[0] if found.problems else "NOT CAUGHT"
        print(f"mutant: {found.name:58} {by} ({found.states:,} states)", flush=True)
        wrong += not found.problems
    return wrong


if __name__ == "__main__":
    sys.exit(min(run((*SMALL, *LARGE), MUTANTS), 1))
