"""Calls that together reach every command of the script of schedules; what it inserts goes the way of every job that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from angelrt import scripts
from tests.scripts import flow_scenarios
from tests.scripts.flow_scenarios import gates_closed, jobs_with_flows, one
from tests.scripts.partition import job
from tests.scripts.scenarios import FORGET_MS, HOUR_MS, Scenario, ended, nothing, told
from tests.scripts.suspect_scenarios import SUSPECTS
from tests.scripts.turn_scenarios import TURNS

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

WAITING: Final = ("n:ready", "n:later", "n:lane", "n:big", "n:unique")
GONE: Final = ("n:runs", "n:ran", "n:again", "n:torn", "never-sent")
BEFORE: Final = "r1 0 0 1"
AFTER: Final = "r1 1 0 2"


async def stored(part: Partition) -> None:
    """Store a schedule without any job."""
    await part.store.schedule("n", "", f"{BEFORE}\0plan")


async def occurrences(part: Partition) -> None:
    """A schedule with occurrences in every place, begun and not."""
    await part.register("w1", "a", queues=("q", "p"))
    await part.send(job("holds", flow=one(1)), job("n:runs"), job("n:ran"), job("n:again"))
    await part.claim(worker="w2", under="t0", lease_ms=9 * HOUR_MS)
    await part.store.settle("w2", [ended("n:ran", "c", under="t0"), ended("n:again", "r", under="t0", delay_ms=500)])
    await part.send("n:ready", job("n:later", when="+900", queue="p"), job("n:lane", flow=one(1)), job("n:big", blob=b"x" * 5_000))
    await part.send(job("n:unique", flow="ukey*f*e"))
    await part.store.watch("ann", ["n:ready", "n:lane"])
    await stored(part)


async def torn(part: Partition) -> None:
    """A call that took occurrences away broke off, and left the run of one behind."""
    await occurrences(part)
    await part.send("n:torn")
    await part.store.cancel(["n:torn"], "schedule")
    await part.key("HSET", "runs", "n:torn", b"! - 1 0 0 0 0 kschedule ")


async def taken_away(part: Partition) -> None:
    """A schedule whose occurrences were taken away."""
    await occurrences(part)
    await part.store.schedule("n", BEFORE, AFTER, previous=" ".join(WAITING), how="d")
    part.now_ms += FORGET_MS


async def flows(part: Partition) -> None:
    """Everything that a new job may meet, and a schedule."""
    await gates_closed(part)
    await stored(part)


async def advance_with_flows(part: Partition) -> Any:
    return await part.store.schedule("n", BEFORE, AFTER, jobs_with_flows(part))


async def pause(part: Partition) -> Any:
    return await part.store.schedule("n", BEFORE, f"{AFTER}\0plan, paused", previous=" ".join((*WAITING, *GONE)), how="d")


async def remove(part: Partition) -> Any:
    return await part.store.schedule("n", BEFORE, "", previous=WAITING[0], how="d")


async def bring_back(part: Partition) -> Any:
    big = job("n:big", blob=b"y" * 5_000)._replace(record=b"a\0more\0")  # whoever inserts it has a nonce of its own
    jobs = [job("n:ready"), job("n:later", when="+900", queue="p"), job("n:lane", flow=one(1)), big]
    known = job("n:ran", blob=b"x" * 5_000)
    return await part.store.schedule("n", AFTER, "r1 2 0 3", [*jobs, known, job("n:new", when="+700")])


async def add(part: Partition) -> Any:
    return await part.store.schedule("n", "", f"{BEFORE}\0plan", [job("n:1", when="+700"), job("n:2", queue="p", blob=b"x" * 5_000)])


def once(previous: str) -> Scenario:
    """Return the scenario in which an occurrence may have made up for others."""

    async def act(part: Partition) -> Any:
        jobs = [job("n:missed", blob=b"x" * 5_000), job("n:next", when="+600", blob=b"x" * 5_000)]
        return await part.store.schedule("n", BEFORE, AFTER, jobs, previous=previous, how="1000")

    return Scenario(f"schedule-once-{previous}", scripts.SCHEDULE, occurrences, act, told)


SCHEDULES: Final = (
    Scenario("schedule-new", scripts.SCHEDULE, nothing, add, told),
    Scenario("schedule-too-late", scripts.SCHEDULE, nothing, bring_back, told),
    Scenario("schedule-flows", scripts.SCHEDULE, flows, advance_with_flows, told),
    Scenario("schedule-again", scripts.SCHEDULE, taken_away, bring_back, told, forgets=True),
    *map(once, ("n:ready", "n:ran", "never-sent")),
    Scenario("unschedule-pause", scripts.UNSCHEDULE, torn, pause, told),
    Scenario("unschedule-remove", scripts.UNSCHEDULE, occurrences, remove, told),
)
EVERY: Final = (*flow_scenarios.EVERY, *SCHEDULES, *SUSPECTS, *TURNS)
