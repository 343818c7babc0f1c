"""Explore the shipped scripts with one thing wrong in them: each of these mutants must be caught.

Run as `python -m proofs.broken`; words of their descriptions may follow.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from .breaks import Breaker
from .explore import explore, serving
from .mutants.scripts import MUTANTS, applied

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from .mutants.scripts import Broken


def catch(mutant: Broken, url: str, loop: asyncio.AbstractEventLoop) -> list[str]:
    """Return what is seen first of a mutant, or nothing. Raises ValueError where its text has gone."""
    with applied(mutant):
        try:
            found, backend = explore(mutant.world, url, loop, found_max=1)
            if found.problems or not mutant.broken:
                return found.problems
            return Breaker(backend, url, verbs=mutant.broken, problems_max=1).run()
        except AssertionError as error:
            return [f"no namespace: {error}"]


def main(words: Sequence[str] = ()) -> int:
    """Try the mutants with one of these words in their descriptions, or all; return how many were not caught."""
    missed, begun = 0, time.perf_counter()
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.what for word in words)]
    with serving() as (url, loop):
        for mutant in chosen:
            since = time.perf_counter()
            caught = catch(mutant, url, loop)
            by = caught[0].splitlines()[0][:90] if caught else "NOT CAUGHT"
            print(f"script mutant: {mutant.what:56} {time.perf_counter() - since:5.1f} s  {by}", flush=True)
            missed += not caught
    print(f"{len(chosen) - missed} of {len(chosen)} broken scripts caught, {time.perf_counter() - begun:.0f} s", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
