"""Break each call of a world at each of its commands, send it again, and see that nothing but a look too many is left of it.

Run as `python -m proofs.breaks`. What a script has written before it breaks stays, as on a server that kills it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from angelrt import scripts
from tests.scripts.faults import FaultyLink

from .explore import explore, serving
from .shipped import Bench
from .world import BREAKS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .fleet import Call
    from .model import Db
    from .shipped import Shipped

SCRIPTS: Final = {
    "enqueue": scripts.ENQUEUE, "claim": scripts.CLAIM, "settle": scripts.SETTLE, "renew": scripts.RENEW, "tick": scripts.TICK,
    "cancel": scripts.CANCEL, "strike": scripts.EXPIRE_WORKER, "arrive": scripts.BEAT, "pause": scripts.CONTROL,
    "resume": scripts.CONTROL, "limit": scripts.CONTROL,
}  # fmt: skip
BENCHES: Final = 8


class Breaker:
    """Breaks every call that a search has made."""

    def __init__(self, backend: Shipped, url: str, *, verbs: Collection[str] = SCRIPTS, problems_max: float = math.inf) -> None:
        """Take the calls of a search, those of some verbs; stop at so many problems."""
        self.backend = backend
        self.url = url
        self.verbs = verbs
        self.problems_max = problems_max
        self.broken = 0
        self.problems: dict[str, str] = {}
        """The first that was found of each verb."""

    def run(self) -> list[str]:
        """Return what was found; `broken` counts the calls that broke."""
        self.backend.loop.run_until_complete(self._run())
        return list(self.problems.values())

    async def _run(self) -> None:
        calls = iter([key for key in self.backend.known if key[1].verb in self.verbs])
        await asyncio.gather(*(self._work(number, calls) for number in range(BENCHES)))

    async def _work(self, number: int, calls: Iterator[tuple[int, Call]]) -> None:
        link = FaultyLink(self.url)
        bench = Bench(self.backend.world, self.backend.snapshots, self.url, link, f"break{number}")
        try:
            for db, call in itertools.takewhile(lambda _: len(self.problems) < self.problems_max, calls):
                await self._break_everywhere(bench, link, db, call)
        finally:
            await link.close()

    async def _break_everywhere(self, bench: Bench, link: FaultyLink, db: int, call: Call) -> None:
        after, answer = self.backend.run(db, call)
        wanted = self.backend.view(after)
        at = 1
        while True:
            link.fail(SCRIPTS[call.verb], at)
            keys, reply = await bench.make(self.backend.keys(db), call)
            if not link.broken_at:
                return
            self.broken += 1
            try:
                wrong = list(differences(wanted, answer, bench.snapshots.view(keys), reply))
            except AssertionError as error:
                wrong = [str(error)]
            if wrong:
                what = f"{call.verb}{call.arguments} broken at command {at}, and sent again: {'; '.join(wrong)}"
                self.problems.setdefault(call.verb, f"{what}\n    of {self.backend.view(db)}")
                return
            at += 1


def differences(wanted: Db, answer: Any, got: Db, reply: Any) -> Iterator[str]:
    """Name what a call that broke has left; a marker or a mark too many only lets somebody look."""
    for name, want, have in zip(wanted._fields, wanted, got, strict=True):
        if name == "marker" and have >= want:
            continue
        if name == "marks" and have >= want:
            continue
        if want != have:
            yield f"{name} {have} instead of {want}"
    # What a settle or a cancel had done before it broke, the repeated one finds done.
    if isinstance(answer, tuple) and answer[0] != reply[0]:
        yield f"job {reply[0]} is leased instead of {answer[0]}"


def main() -> int:
    """Print what was seen; 1 when anything is wrong."""
    begun = time.perf_counter()
    with serving() as (url, loop):
        found, backend = explore(BREAKS, url, loop)
        breaker = Breaker(backend, url)
        problems = [*found.problems, *breaker.run()]
    seconds = time.perf_counter() - begun
    verdict = "sound" if not problems else f"{len(problems)} PROBLEMS"
    print(f"broken calls of {BREAKS.name!r}: {breaker.broken:,} places of {backend.calls:,} calls {seconds:7.1f} s  {verdict}", flush=True)
    for problem in problems:
        print("  " + problem)
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())
