"""Breadth first through every state; what is found comes with the shortest way to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .properties import Judge, differences, wrong_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .claiming import Claiming
    from .fleet import Backend, Call, Fleet, Protocols, Step

FOUND_MAX = 3


@dataclass
class Found:
    """What a search has seen."""

    name: str
    states: int = 0
    steps: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        """Tell it in one line."""
        verdict = "sound" if not self.problems else f"{len(self.problems)} PROBLEMS"
        return f"{self.name:32} {self.states:>9,} states {self.steps:>11,} steps {self.seconds:7.1f} s  {verdict}"


class Search:
    """One search; the graph stays, for what is asked of it as a whole."""

    def __init__(self, name: str, fleets: Protocols, oracle: Claiming | None = None, *, found_max: int = FOUND_MAX) -> None:
        """Begin at the first state; `oracle` are rules with which each call is compared. Stops at so many problems."""
        self._found_max = found_max
        self.fleets = fleets
        self.oracle = oracle
        self.backend: Backend = fleets.backend
        self.found = Found(name)
        self._judge_of = Judge(self.backend)
        self._order: list[Fleet] = []
        self._numbers: dict[Fleet, int] = {}
        self._came: list[tuple[int, str]] = []
        self._before: list[list[int]] = []  # by progress
        self._judged: set[tuple[int, Call]] = set()

    def run(self, *, is_whole: bool = True) -> Found:
        """Visit every state; stop at the first few problems. With `is_whole`, ask too whether every job ends from everywhere."""
        begun = time.perf_counter()
        self._meet(self.fleets.first(), -1, "the beginning")
        first = 0
        while first < len(self._order) and len(self.found.problems) < self._found_max:
            last = len(self._order)
            waves = [(at, step) for at in range(first, last) for step in self.fleets.steps(self._order[at])]
            self._take_all(waves)
            first = last
        if is_whole and not self.found.problems:
            self._find_stuck()
        self.found.states = len(self._order)
        self.found.seconds = time.perf_counter() - begun
        return self.found

    def _take_all(self, waves: list[tuple[int, Step]]) -> None:
        self.backend.prepare({(self._order[at].db, step.calls[0]) for at, step in waves if step.calls})
        for at, step in waves:
            if len(self.found.problems) >= self._found_max:
                return
            self._take(at, step)

    def _take(self, at: int, step: Step) -> None:
        db, first_reply = self._order[at].db, None
        for number, call in enumerate(step.calls):
            after, reply = self.backend.run(db, call)
            self._judge(at, step, db, call, after, reply)
            db, first_reply = after, reply if number == 0 else first_reply
        self.found.steps += 1
        number = self._meet(self.fleets.settle_marker(step.then(db, first_reply)), at, step.label)
        if step.is_progress:
            self._before[number].append(at)

    def _judge(self, at: int, step: Step, db: int, call: Call, after: int, reply: Any) -> None:
        if (db, call) in self._judged:
            return
        self._judged.add((db, call))
        seen = (self.backend.world, self.backend.view(db), call, self.backend.view(after), reply)
        for problem in (*wrong_step(*seen), *(differences(self.oracle, *seen) if self.oracle else ())):
            self._report(problem, at, step.label)

    def _meet(self, fleet: Fleet, came_from: int, label: str) -> int:
        number = self._numbers.setdefault(fleet, len(self._order))
        if number == len(self._order):
            self._order.append(fleet)
            self._came.append((came_from, label))
            self._before.append([])
            for problem in self._judge_of.breaches(fleet):
                self._report(problem, number, "")
        return number

    def _find_stuck(self) -> None:
        """Every state must be able to come to rest by progress alone: then, under a fair schedule, it does."""
        rest = [number for number, fleet in enumerate(self._order) if self._judge_of.is_at_rest(fleet)]
        ends = set(rest)
        while rest:
            for before in self._before[rest.pop()]:
                if before not in ends:
                    ends.add(before)
                    rest.append(before)
        for number in range(len(self._order)):
            if number not in ends and len(self.found.problems) < self._found_max:
                self._report("stuck: from here some job never ends", number, "")

    def _report(self, problem: str, at: int, label: str) -> None:
        way = [*self._way(at), label] if label else list(self._way(at))
        fleet = self._order[at]
        state = f"{', '.join(map(str, fleet.workers))}; {self.backend.view(fleet.db)}"
        self.found.problems.append("\n    ".join([problem, *way, f"= {state}"]))

    def _way(self, at: int) -> Iterator[str]:
        labels: list[str] = []
        while at >= 0:
            at, label = self._came[at]
            labels.append(label)
        yield from reversed(labels)
