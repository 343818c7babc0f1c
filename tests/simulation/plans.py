"""What happens in a history, drawn from its seed before it begins: who sends what, who serves, and what goes wrong when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.simulation.actors import QUEUES
from tests.simulation.services import Action, WorkerPlan

if TYPE_CHECKING:
    from random import Random

BUSY_S: Final = 20.0
"""How long clients send and faults happen."""
RUNS_MAX: Final = 20
"""More than any job has."""
STEPS: Final = (
    *("ok", "ok", "ok", "slow 0.05", "slow 1", "slow 6", "raise", "retry 0.4", "snooze 0.7", "fail"),
    *("children 2", "late-children 2", "late-children 2"),
)
ACTORS: Final = ("work", "work", "work", "batch", "batch", "limited", "limited", "rated", "once", "thread")
FAULTS: Final = (
    *("kill worker", "kill worker", "kill client", "stall worker", "stop worker", "cut off worker", "lose host"),
    *("restart server", "reset connections", "storm", "storm", "clock jump", "kill all workers"),
)


class Trouble(NamedTuple):
    """A fault that is to come: when, what, which worker or client, for how long, and how bad."""

    at_s: float
    what: str
    whom: int
    for_s: float
    strength: float


class Plan(NamedTuple):
    """One history, as drawn."""

    clients: list[list[Action]]
    workers: list[WorkerPlan]
    troubles: list[Trouble]
    probes: list[str]


def draw_plan(draw: Random) -> Plan:
    """Draw a history. One in five has no faults: then nothing whatever may be lost or repeated."""
    lease_s = draw.choice((2, 5, 15))
    workers = [_worker(draw, lease_s) for _ in range(draw.randint(1, 4))]
    served = {queue for worker in workers for queue in worker.queues}
    if served != set(QUEUES):
        workers[0] = workers[0]._replace(queues=QUEUES)
    clients = [_actions(draw) for _ in range(draw.randint(1, 3))]
    if draw.random() < 0.3:
        clients[0] += [_killer(draw) for _ in range(draw.choice((1, 1, 2)))]
    troubles = [] if draw.random() < 0.2 else sorted(_trouble(draw, lease_s) for _ in range(draw.randint(1, 6)))
    return Plan(clients, workers, troubles, draw.sample(("send", "delay", "retry", "snooze", "children", "limited", "cancel", "death"), 4))


def _worker(draw: Random, lease_s: float) -> WorkerPlan:
    queues = draw.choice((QUEUES, QUEUES, QUEUES[:1], QUEUES[1:]))
    return WorkerPlan(queues, draw.choice((1, 2, 5, 10)), lease_s, draw.choice((0.5, 3, 10)))


def _actions(draw: Random) -> list[Action]:
    actions: list[Action] = []
    number = draw.randint(3, 25)
    for _ in range(number):
        pause_s = draw.choice((0, 0, 0.001, draw.uniform(0, 2 * BUSY_S / number)))
        if actions and draw.random() < 0.12:
            actions.append(Action(pause_s, "cancel", target=draw.randrange(len(actions))))
            continue
        actor = draw.choice(ACTORS)
        many = draw.random() < 0.15
        arguments = tuple(_arguments(draw) for _ in range(draw.randint(2, 8) if many else 1))
        actions.append(Action(pause_s, "many" if many else "send", actor, arguments, _options(draw, many=many)))
    return actions


def _killer(draw: Random) -> Action:
    """A job that ends its worker: once, twice and then no more, or always."""
    plan = ["die"] * draw.choice((1, 2, RUNS_MAX, RUNS_MAX))
    return Action(draw.uniform(0, 4), "send", draw.choice(("work", "batch")), ({"plan": plan, "key": "k0"},))


def _arguments(draw: Random) -> dict[str, Any]:
    plan = [draw.choice(STEPS) for _ in range(draw.choice((1, 1, 1, 2, 3, 4)))]
    filler = "x" * 5000 if draw.random() < 0.1 else ""  # over what is kept apart
    return {"plan": plan, "key": f"k{draw.randrange(3)}", "filler": filler}


def _options(draw: Random, *, many: bool) -> tuple[tuple[str, Any], ...]:
    options: dict[str, Any] = {}
    if draw.random() < 0.25:
        options["delay"] = draw.choice((0.05, 1, 3.5))
    if draw.random() < 0.2:
        options["priority"] = draw.randrange(10)
    if draw.random() < 0.05:
        options["expires"] = 2
    if draw.random() < 0.1:
        options["tenant"] = f"t{draw.randrange(3)}"
    if draw.random() < 0.15 and not many:
        options["id"] = f"own-{draw.randrange(4)}"
    return tuple(options.items())


def _trouble(draw: Random, lease_s: float) -> Trouble:
    return Trouble(
        draw.uniform(0.2, BUSY_S), draw.choice(FAULTS), draw.randrange(12),
        for_s=draw.choice((0.2, 1, 4, lease_s / 2, lease_s * 1.5)), strength=draw.choice((0.02, 0.1, 0.3)),
    )  # fmt: skip
