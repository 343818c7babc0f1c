"""The model as a backend: namespaces are values, calls are its rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .claiming import Claiming
from .model import GHOST, Place, draft, empty

if TYPE_CHECKING:
    from .fleet import Call
    from .model import Db, Draft
    from .world import World


class Pure:
    """Answers calls by rules, each once."""

    def __init__(self, world: World, rules: Claiming | None = None) -> None:
        """Begin with the empty namespace; `rules` may be those of a mutant."""
        self.world = world
        self.rules = rules or Claiming()
        self._dbs: list[Db] = []
        self._numbers: dict[Db, int] = {}
        self._known: dict[tuple[int, Call], tuple[int, Any]] = {}

    def start(self) -> int:
        """Return the empty namespace."""
        return self._number(empty(self.world))

    def view(self, db: int) -> Db:
        """Return a namespace."""
        return self._dbs[db]

    def prepare(self, wanted: set[tuple[int, Call]]) -> None:
        """Nothing: rules are quick."""

    @property
    def calls(self) -> int:
        """How many different calls of different namespaces were made."""
        return len(self._known)

    def run(self, db: int, call: Call) -> tuple[int, Any]:
        """Return what a call makes of a namespace, and its answer."""
        key = (db, call)
        if key not in self._known:
            after, reply = apply(self.rules, self.world, self._dbs[db], call)
            self._known[key] = (self._number(after), reply)
        return self._known[key]

    def _number(self, db: Db) -> int:
        number = self._numbers.setdefault(db, len(self._dbs))
        if number == len(self._dbs):
            self._dbs.append(db)
        return number


def apply(rules: Claiming, world: World, db: Db, call: Call) -> tuple[Db, Any]:
    """Return what a call makes of a namespace, and its answer."""
    d = draft(world, db)
    reply = _VERBS[call.verb](rules, d, *call.arguments) if call.verb in _VERBS else getattr(rules, call.verb)(d, *call.arguments)
    return d.freeze(), reply


def _claim(rules: Claiming, d: Draft, index: int, resend: bool) -> object:  # noqa: FBT001 - as the script has it
    return rules.claim(d, f"w{index}", d.world.workers[index], resend)


def _settle(rules: Claiming, d: Draft, index: int, job: int, verdict: str) -> object:
    return rules.settle(d, f"w{index}", job, verdict)


def _renew(rules: Claiming, d: Draft, index: int, job: int) -> object:
    return rules.renew(d, f"w{index}", job)


def _arrive(rules: Claiming, d: Draft, index: int) -> object:
    return rules.arrive(d, d.world.workers[index])


# -- what happens without a call ----------------------------------------------------------------------------------------------------------


def _pop(_rules: Claiming, d: Draft) -> object:
    d.marker = False


def _ends(_rules: Claiming, d: Draft, job: int) -> object:
    d.overdue.add(job)


def _die(rules: Claiming, d: Draft, index: int) -> object:
    d.places = [Place("leased", GHOST) if place == ("leased", f"w{index}") else place for place in d.places]
    d.passed = {(actor, worker) for actor, worker in d.passed if worker != f"w{index}"}
    return _forget(rules, d, index)


def _forget(_rules: Claiming, d: Draft, index: int) -> object:
    d.settled = {(job, worker) for job, worker in d.settled if worker != f"w{index}"}


def _remember(_rules: Claiming, d: Draft, index: int) -> object:
    lacked = {lane for lane in d.marks if not d.is_gate(lane)} - d.world.workers[index]
    d.passed |= {(actor, f"w{index}") for actor in lacked}


_VERBS = {
    "claim": _claim, "settle": _settle, "renew": _renew, "arrive": _arrive, "pop": _pop, "ends": _ends, "die": _die, "forget": _forget,
    "remember": _remember,
}  # fmt: skip
