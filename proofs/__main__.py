"""Everything that is proved, in one run: `python -m proofs`. The exit code is 1 when anything is wrong."""

from __future__ import annotations

import sys
import time

from . import breaks, broken, check, explore, prove
from .mutants.rules import MUTANTS
from .world import LARGE, SMALL

if __name__ == "__main__":
    begun = time.perf_counter()
    wrong = prove.main()
    wrong += check.run((*SMALL, *LARGE), MUTANTS)
    wrong += explore.main(()) + breaks.main() + broken.main()
    print(f"{'sound' if not wrong else 'NOT SOUND'}, {time.perf_counter() - begun:.0f} s")
    sys.exit(min(wrong, 1))
