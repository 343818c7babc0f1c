"""What must hold in every state, of every step, and at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .fleet import AWAKE, BLOCKED, DOWN
from .model import ENDED, WAITING, draft
from .pure import apply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .claiming import Claiming
    from .fleet import Backend, Call, Fleet
    from .model import Db, Draft
    from .world import World

SETTLED_BEFORE: Final = 2
AWAKE_OR_BUSY: Final = (*AWAKE, "run", "resettle")


class Facts(NamedTuple):
    """What there is to know of a namespace, whatever its workers are about to do."""

    problems: tuple[str, ...]
    may_sleep: bool
    claimable: tuple[tuple[int, ...], ...]
    unmarked: tuple[str, ...]
    is_at_rest: dict[tuple[int, ...], bool]


class Judge:
    """Says what is wrong with states; what can be said of their namespaces alone is said once."""

    def __init__(self, backend: Backend) -> None:
        """Keep the backend."""
        self.backend = backend
        self.world = backend.world
        self._facts: dict[int, Facts] = {}

    def breaches(self, fleet: Fleet) -> Iterator[str]:
        """Name what is wrong with a state."""
        facts = self._of(fleet.db)
        yield from facts.problems
        live = [index for index, status in enumerate(fleet.workers) if status != DOWN]
        for actor in facts.unmarked:
            if any(actor in self.world.workers[index] for index in live):
                yield f"closed lane: jobs wait for actor {actor}, which a worker has, and its lane has no mark"
        if facts.may_sleep or any(status.name in AWAKE for status in fleet.workers):
            return
        for index, status in enumerate(fleet.workers):
            if status == BLOCKED and index not in fleet.owed:
                yield from (f"lost wake-up: w{index} sleeps beside job {job}" for job in facts.claimable[index])

    def is_at_rest(self, fleet: Fleet) -> bool:
        """Whether every job that was sent has ended, or waits for something that only people or new workers can bring."""
        if any(status.name in AWAKE_OR_BUSY for status in fleet.workers):
            return False
        live = tuple(index for index, status in enumerate(fleet.workers) if status != DOWN)
        known = self._of(fleet.db).is_at_rest
        if live not in known:
            known[live] = not live or _is_at_rest(draft(self.world, self.backend.view(fleet.db)), live)
        return known[live]

    def _of(self, db: int) -> Facts:
        if db not in self._facts:
            d = draft(self.world, self.backend.view(db))
            problems = (*_over_limit(d), *_free_slot_beside_a_waiter(d))
            may_sleep = bool(d.marker or d.overdue or d.sweeping)
            self._facts[db] = Facts(problems, may_sleep, tuple(_claimable(d)), tuple(_unmarked(d)), {})
        return self._facts[db]


def is_held(d: Draft, job: int, actors: frozenset[str]) -> bool:
    """Whether something other than a worker's attention keeps a waiting job from a worker: said once more, apart from the rules."""
    actor, gates, _ = d.world.jobs[job]
    return "q" in d.paused or actor not in actors or f"a{actor}" in d.paused or not all(d.is_open(gate) for gate in gates)


def _claimable(d: Draft) -> Iterator[tuple[int, ...]]:
    """For each worker, the jobs of which it must hear: by the marker, from a worker that is awake, or since a time has come."""
    for actors in d.world.workers:
        waiting = [j for j, place in enumerate(d.places) if place.state in WAITING]
        yield tuple(j for j in waiting if not is_held(d, j, actors))


def _unmarked(d: Draft) -> Iterator[str]:
    for actor in sorted({job.actor for job in d.world.jobs}):
        if d.waiters(actor) and f"a{actor}" not in d.paused and actor not in d.marks:
            yield actor


def _free_slot_beside_a_waiter(d: Draft) -> Iterator[str]:
    for gate in d.world.gates:
        if d.waiters(gate) and d.is_open(gate) and gate not in d.marks and gate[0] not in d.sweeping:
            yield f"free slot beside a waiter: gate {gate} is open, {d.waiters(gate)} wait there, and its lane has no mark"


def _over_limit(d: Draft) -> Iterator[str]:
    for gate in d.world.gates:
        if len(d.holders(gate)) > max(d.world.limits):
            yield f"over the limit: {d.holders(gate)} hold gate {gate}"


def wrong_step(world: World, before: Db, call: Call, after: Db, reply: Any) -> Iterator[str]:
    """Name what is wrong with a call: a grant over the limit, a settle without a lease, a claim that wakes for nothing."""
    if call.verb == "claim":
        yield from _wrong_claim(world, before, call.arguments[0], after, reply)
    if call.verb in ("settle", "renew") and before.places[call.arguments[1]] != ("leased", f"w{call.arguments[0]}") and before != after:
        yield f"no fence: {call.verb} changed something without a lease"
    for job, (old, new) in enumerate(zip(before.places, after.places, strict=True)):
        if old.state in ENDED and new != old:
            yield f"not final: job {job} ended as {old} and is {new}"
        if job in before.asked and new.state not in ("leased", *ENDED):
            yield f"not stopped: job {job} was asked to stop and is {new}"
    if call.verb == "settle" and reply == SETTLED_BEFORE and before != after:
        yield "not idempotent: a settle that was repeated changed something"


def differences(rules: Claiming, world: World, before: Db, call: Call, after: Db, reply: Any) -> Iterator[str]:
    """Name where a call did something else than the rules say."""
    expected, answer = apply(rules, world, before, call)
    for name, wanted, got in zip(expected._fields, expected, after, strict=True):
        if wanted != got:
            yield f"not as the model: {call.verb}{call.arguments}: {name} {got}, in the model {wanted}"
    if answer != reply:
        yield f"not as the model: {call.verb}{call.arguments} answers {reply}, in the model {answer}"


def _wrong_claim(world: World, before: Db, index: int, after: Db, reply: Any) -> Iterator[str]:
    d = draft(world, after)
    job, again = reply
    if job is not None and before.places[job] != after.places[job]:
        for gate in world.jobs[job].gates:
            if len(d.holders(gate)) > d.limit(gate):
                yield f"over the limit: job {job} was granted, {d.holders(gate)} hold gate {gate}"
    is_same = before._replace(marker=after.marker) == after
    lacked = {lane for lane in before.marks if not d.is_gate(lane)} - world.workers[index]
    is_news = any((actor, f"w{index}") not in before.passed for actor in lacked)
    if job is None and is_same and (again or (after.marker and not before.marker and not is_news)):
        yield "busy loop: a claim that changed nothing asks for another one"


def _is_at_rest(d: Draft, live: tuple[int, ...]) -> bool:
    for job, (state, _) in enumerate(d.places):
        if state in ENDED or state == "unsent":
            continue
        if state not in WAITING or job in d.overdue or not all(is_held(d, job, d.world.workers[index]) for index in live):
            return False
    return True
