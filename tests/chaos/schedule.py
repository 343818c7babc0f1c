"""Which faults come when, out of a seed: the same seed gives the same schedule, kind by kind and target by target.

The schedule is all that a seed repeats. How real processes and a real server interleave is up to the machine.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUND: Final = {
    "kill": 8,  # kill -9 of a worker; another process takes its place
    "stop": 2,  # SIGSTOP of a worker for longer than its lease
    "partition": 2,  # nothing passes between one client and the server, in either direction, and what was under way comes late
    "stall": 2,  # one connection of a client is half open: nothing passes, nobody is told
    "reset": 3,  # every connection of a client is reset
    "lost reply": 8,  # a request is forwarded and applied, its reply dropped, its connection reset
    "sender kill": 1,  # kill -9 of a process that sends; another one goes on with the ids that it had not noted as sent
    "server restart": 1,  # an orderly stop, and a start after a moment
    "server kill": 2,  # kill -9 of the server, and a start after a moment
    "server freeze": 1,  # SIGSTOP of the server: connections stay open and nothing is answered
}
"""How often each kind comes in a round; within a round their order is drawn."""
OF_SERVER: Final = ("server restart", "server kill", "server freeze")
VERBS: Final = ("claim", "settle", "renew", "enqueue")
"""Whose replies are lost, in turn; `enqueue` is that of a sender, the others are those of a worker."""
RESTARTING: Final = ("kill", "sender kill", "server restart", "server kill")
SERVER: Final = "server"
PATIENCE_S: Final = 3.0
"""A reply to be lost is waited for so long at most."""
RESTART_S: Final = 4.0
"""What a process takes to start, or a server to read its file; the next fault of the same target comes later."""


class Fault(NamedTuple):
    """One fault: when it begins, in seconds from the start, what it is, whom it meets and how long it lasts."""

    number: int
    at_s: float
    kind: str
    target: str
    lasts_s: float
    verb: str = ""


def plan(seed: int, *, span_s: float, every_s: float, workers: Sequence[str], senders: Sequence[str], lease_s: float) -> list[Fault]:
    """Return the faults of a run that sends for `span_s`, about one each `every_s`; no target has two at a time."""
    rng = random.Random(seed)  # noqa: S311 - a schedule that is to be repeated
    kinds, verbs = _kinds(rng), _turns(VERBS)
    busy_until_s: dict[str, float] = {}
    faults: list[Fault] = []
    at_s = every_s
    while at_s < span_s:
        kind = next(kinds)
        verb = next(verbs) if kind == "lost reply" else ""
        lasts_s = _lasts_s(rng, kind, lease_s)
        free = [one for one in _targets(kind, verb, workers, senders) if busy_until_s.get(one, 0) <= at_s]
        if free:
            target = rng.choice(free)
            busy_until_s[target] = at_s + lasts_s + (RESTART_S if kind in RESTARTING else every_s)
            faults.append(Fault(len(faults), round(at_s, 3), kind, target, lasts_s, verb))
        at_s += every_s * rng.uniform(0.5, 1.5)
    return faults


def _kinds(rng: random.Random) -> Iterator[str]:
    while True:
        deck = [kind for kind, times in ROUND.items() for _ in range(times)]
        rng.shuffle(deck)
        yield from deck


def _turns(words: Sequence[str]) -> Iterator[str]:
    while True:
        yield from words


def _targets(kind: str, verb: str, workers: Sequence[str], senders: Sequence[str]) -> Sequence[str]:
    if kind in OF_SERVER:
        return [SERVER]
    if kind == "sender kill" or verb == "enqueue":
        return senders
    if kind in ("partition", "stall", "reset"):
        return [*workers, *senders]
    return workers


def _lasts_s(rng: random.Random, kind: str, lease_s: float) -> float:
    lengths = {
        "stop": (lease_s + 0.5, lease_s + 2),
        "partition": (0.3 * lease_s, 1.3 * lease_s),
        "stall": (3.0, 8.0),
        "lost reply": (PATIENCE_S, PATIENCE_S),
        "server restart": (0.1, 1.5),
        "server kill": (0.1, 1.5),
        "server freeze": (0.5, 0.5 + 0.4 * lease_s),
    }
    return round(rng.uniform(*lengths.get(kind, (0, 0))), 3)
