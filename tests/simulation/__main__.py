"""Play seeds: `python -m tests.simulation 17` prints one history, `python -m tests.simulation --seeds 2000` plays many."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.fleet import play_many, play_one


def main() -> int:
    """Play what was asked for; 1 when a history has a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="play this seed, and print its history")
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds to play (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--digest", action="store_true", help="print the digest of each history, no more")
    parser.add_argument("--until-problem", action="store_true", help="end with the first history that has a problem")
    options = parser.parse_args()
    if options.seed is not None:
        return play_one(options.seed)
    return play_many(range(options.first, options.first + options.seeds), digests=options.digest, to_the_end=not options.until_problem)


sys.exit(main())
