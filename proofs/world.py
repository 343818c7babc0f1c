"""The small worlds that are explored: which jobs, which workers, and what may happen to them."""

from __future__ import annotations

from typing import Final, NamedTuple


class Job(NamedTuple):
    """A job: its actor, the gates of concurrency that it needs, in order, and whether it must begin until some time."""

    actor: str
    gates: tuple[str, ...] = ()
    expires: bool = False


class World(NamedTuple):
    """A scope. A job that comes earlier in `jobs` ranks first, whenever it is sent; the rule of a gate is its first letter.

    `events` are the things that may happen beside sending, claiming and completing, each at any time and any number of times:
    die, stall (a lease ends though its worker lives), cancel, retry, release, limits, half (a sweep of a changed limit stops half-way),
    strike (a dead worker's jobs are given back before their leases end), lost (an answer is lost and the call sent again later), idle (the
    limit of a block runs out), renew, again (calls that were answered are sent again), and pauses: `q`, `a` or `g` and a name.
    """

    name: str
    jobs: tuple[Job, ...]
    workers: tuple[frozenset[str], ...]
    events: frozenset[str]
    limits: tuple[int, ...] = (1,)

    @property
    def gates(self) -> tuple[str, ...]:
        """All gates, in order of their names."""
        return tuple(sorted({gate for job in self.jobs for gate in job.gates}))

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of all gates."""
        return tuple(sorted({rule_of(gate) for gate in self.gates}))

    @property
    def has_rare_actors(self) -> bool:
        """Whether some worker lacks an actor that another one has."""
        return len(set(self.workers)) > 1

    @property
    def pauses(self) -> tuple[str, ...]:
        """What may be paused."""
        return tuple(sorted(event for event in self.events if event == "q" or (event[0] in "ag" and event != "again")))


def rule_of(gate: str) -> str:
    """Return the rule of a gate."""
    return gate[0]


def _world(name: str, jobs: tuple[Job, ...], workers: str, events: str, limits: tuple[int, ...] = (1,)) -> World:
    return World(name, jobs, tuple(frozenset(actors) for actors in workers.split()), frozenset(events.split()), limits)


PLAIN: Final = Job("x")
ONE: Final = Job("x", ("A1",))
LATE: Final = Job("x", ("A1",), expires=True)
BOTH: Final = Job("x", ("A1", "B1"))
CROSS: Final = Job("x", ("B1", "A1"))
OTHER: Final = Job("x", ("B1",))
RARE: Final = Job("y", ("A1",))
FAR: Final = Job("y")
NEXT: Final = Job("x", ("A2",))

TWO_OF_ONE_KEY: Final = _world("two of one key", (ONE, ONE), "x x", "die stall cancel retry strike lost idle")
CROSSWISE: Final = _world("crosswise", (BOTH, CROSS), "x x", "die cancel retry lost idle")
ACTOR_OF_THE_LAST: Final = _world("an actor of the last of three", (FAR, PLAIN), "x x xy", "die")
TWO_OF_AN_ACTOR: Final = _world("two jobs of an actor of two", (FAR, FAR), "x xy xy", "cancel q ay")
ACTOR_OF_ONE: Final = _world("an actor of one worker", (RARE, ONE), "x xy", "die cancel retry idle ay")
TOO_LATE: Final = _world("too late", (LATE, LATE), "x x", "die cancel idle release")
LIMITS: Final = _world("limits", (ONE, BOTH), "x x", "die cancel limits", (1, 2))
PAUSES: Final = _world("pauses", (ONE, PLAIN), "x x", "die retry idle q ax gA1")
PLAIN_ONES: Final = _world("plain ones", (PLAIN, FAR), "x xy", "die stall q lost strike")
RENEWALS: Final = _world("renewals", (ONE, PLAIN), "x x", "die stall cancel renew lost again strike")
SMALL: Final = (TWO_OF_ONE_KEY, CROSSWISE, ACTOR_OF_ONE, ACTOR_OF_THE_LAST, TOO_LATE, LIMITS, PAUSES, PLAIN_ONES, RENEWALS)
"""Two jobs, two or three workers: what the shipped scripts are driven through."""

BREAKS: Final = _world("cancelled and lost", (ONE, BOTH), "x", "cancel stall")
"""So few calls that each can be broken at each of its commands."""

SWEEPS: Final = _world("sweeps that stop", (ONE, NEXT, ONE, NEXT), "x x", "limits half", (1, 2))
THREE: Final = _world("three of two keys", (BOTH, ONE, OTHER), "x x", "die cancel gA1")
LINE: Final = _world("three of one key", (ONE, ONE, ONE), "x x", "cancel")
LARGE: Final = (
    SWEEPS,
    THREE,
    LINE,
    TWO_OF_AN_ACTOR,
    _world("three, crosswise", (ONE, CROSS, BOTH), "x x", "die cancel"),
    _world("three, one of a rare actor", (RARE, ONE, BOTH), "x xy", "die cancel idle"),
    _world("three that expire", (LATE, BOTH, LATE), "x x", "die idle retry"),
    _world("three workers", (ONE, ONE), "x x x", "die cancel"),
)
"""More jobs, or more of what may happen: what the model alone is driven through."""
