"""The words of the model: jobs, what they went through, what may hold them back, and what the scripts answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

EPOCH_MS: Final = 1_704_067_200_000
TICKS_PER_MS: Final = 256
PRIORITY_STEP: Final = 2**49
APART_FOR: Final = "suspects of "
ROOM: Final = "room"
"""What `opens` has beside the lanes of gates and of actors: those of suspects, by actor, and the note that a worker makes room for them."""
DEFAULT_PRIORITY: Final = 5
HISTORY_MAX: Final = 10
WAITING: Final = ("ready", "delayed", "lane")
ENDED: Final = {"c": "completed", "f": "failed", "g": "failed", "k": "cancelled"}
NOTHING: Final = "-"
"""The flow of a job that nothing holds back."""


def rank_of(priority: int, ms: float) -> int:
    """Return the place of a job in its queue: by priority, then by time."""
    return priority * PRIORITY_STEP + math.floor((ms - EPOCH_MS) * TICKS_PER_MS)


def actor_of(record: bytes) -> str:
    """Return the actor that a record names."""
    return record.split(b"\0", 1)[0].decode()


# -- flows ---------------------------------------------------------------------------------------------------------------------------


class Gate(NamedTuple):
    """What a job has to pass: a concurrency gate, or a rate at which it takes `cost` tokens (one, where `has_cost` is false)."""

    name: str
    is_rate: bool
    cost: int
    has_cost: bool

    @property
    def rule(self) -> str:
        """The rule that limits it."""
        return rule_of(self.name)


def rule_of(gate: str) -> str:
    """Return the rule of a gate that is given by name."""
    return gate.partition("=")[0]


def gates_of(flow: str) -> list[Gate]:
    """Return the gates that a flow names, in its order."""
    found: list[Gate] = []
    for item in flow.split(","):
        if item[0] in "cr":
            name, _, cost = item[1:].partition("*")
            found.append(Gate(name, item[0] == "r", int(cost or 1), bool(cost)))
    return found


def expires_ms(flow: str) -> float | None:
    """Return the time after which a job is not to be begun; None for never."""
    return next((float(item[1:]) for item in flow.split(",") if item[0] == "x"), None)


def is_asked(flow: str) -> bool:
    """Whether somebody asked that the job stops."""
    return any(item[0] == "k" for item in flow.split(","))


def deaths_of(flow: str) -> int:
    """Return in how many deaths of workers in a row a job ran."""
    return next((int(item[1:]) for item in flow.split(",") if item[0] == "d"), 0)


def with_deaths(flow: str, deaths: int) -> str:
    """Return the flow with another number of deaths; none for 0."""
    items = [item for item in flow.split(",") if item != NOTHING and item[0] != "d"]
    return ",".join([*items, *[f"d{deaths}"] * (deaths > 0)]) or NOTHING


def with_item(flow: str, item: str) -> str:
    """Return the flow with one more item."""
    return item if flow == NOTHING else f"{flow},{item}"


class Limit(NamedTuple):
    """So many at a time; or, where there is a window, so many tokens in each, at most `burst` of them at once."""

    most: int
    window_ms: int = 0
    burst: int = 0


def limit_of(spec: str) -> Limit | None:
    """Return what a rule's spec says; None for no rule."""
    return Limit(*map(int, spec.split())) if spec else None


# -- jobs ----------------------------------------------------------------------------------------------------------------------------


class Keep(NamedTuple):
    """How long one kind of ended jobs is remembered."""

    age_ms: int
    number: int


class Ended(NamedTuple):
    """One earlier run: how it ended (r retry, d its process died, s snooze, l lost, x handed back), from when to when, on which worker."""

    how: str
    started_ms: int
    ended_ms: int
    worker: str


class Outcome(NamedTuple):
    """What a run left behind, and what the job had been through by then. The token is empty where no run was there to end it."""

    token: str
    worker: str
    deliveries: int
    attempts: int
    losses: int
    started_ms: int
    flow: str
    history: tuple[Ended, ...]
    payload: bytes


class Event(NamedTuple):
    """One entry of the event stream: which verb moved how many jobs."""

    verb: str
    worker: str
    jobs: int


class Claimed(NamedTuple):
    """What a claim answers."""

    ids: list[str]
    next_due_ms: float
    again: int
    missing: list[str]


@dataclass
class Job:
    """One job. `score` is its rank in ready and in a lane, else the time when it is due, when its lease ends, or when it ended.

    `lane` is the actor or the gate for which it waits; `watched_ms` when it is dropped unless it has begun.
    """

    id: str
    record: bytes
    blob: bytes | None
    queue: str
    place: str
    score: float
    priority: int
    flow: str = NOTHING
    lane: str = ""
    watched_ms: float | None = None
    rank: int = 0
    token: str = ""
    settled_by: str = ""
    worker: str = "-"
    deliveries: int = 0
    attempts: int = 0
    losses: int = 0
    started_ms: int = 0
    history: tuple[Ended, ...] = ()
    outcome: Outcome | None = None
    note: bytes = b""

    @property
    def order(self) -> tuple[int, bytes]:
        """By what those who wait are ordered."""
        return self.rank, self.id.encode()

    @property
    def actor(self) -> str:
        """The actor that runs it."""
        return actor_of(self.record)

    @property
    def gates(self) -> list[Gate]:
        """The gates that it has to pass."""
        return gates_of(self.flow)

    def outcome_of(self, payload: bytes) -> Outcome:
        """Return what its run leaves behind."""
        counters = (self.deliveries, self.attempts, self.losses, self.started_ms)
        return Outcome(self.token, self.worker, *counters, self.flow, self.history, payload)

    def close_run(self, how: str, ended_ms: int) -> None:
        """Note how its run ended, and give its token up."""
        self.history = (Ended(how, self.started_ms, ended_ms, self.worker), *self.history)[:HISTORY_MAX]
        self.token = ""
