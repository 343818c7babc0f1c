"""Failures that are replayed and purged: more calls for the tests that break off every script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from angelrt import scripts
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import job, verdict
from tests.scripts.scenarios import ACTORS, HOUR_MS, QUEUES, Scenario, ended

if TYPE_CHECKING:
    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition


async def many_failed(part: Partition) -> None:
    """Failures with small and big errors and arguments, gates open and closed, a tenant, unique keys of which one is taken, one that was
    replayed, and two whose replay broke off before its end.
    """
    await part.register("w1", *ACTORS, queues=QUEUES)
    await part.store.control("declare", "one@q", "1", ["q"])
    await part.store.control("declare", "per/60s@q", "1 60000 1", ["q"])
    await part.store.control("pause", "aodd", "{}", ["q"])
    flows = {
        "tenant": "tann",
        "unique": "ukey*3600000*e",
        "gated": "cone@q=",
        "rated": "rper/60s@q=",
        "free": "cfree@q=",
        "moved3": "tbob",
        "freed": "ufreed*f*e",
    }
    names = ("f1", "late", "twin", "edited", "gone", "moved", "moved2", *flows)
    await part.send(*(job(name, flow=flows.get(name, ""), blob=b"x" * 5_000 if name in ("edited", "gone") else None) for name in names))
    await part.claim(under="t0", lease_ms=2 * HOUR_MS)
    await part.settle(*(verdict(name, "n", b"half", under="t0") for name in names))
    await part.send(job("p1", queue="p", actor="b"))
    await part.claim(under="t0", queues=("p",), actors=("b",))
    await part.settle(
        *(ended(name, "f", big=name in ("f1", "gone"), under="t0") for name in names), ended("p1", "f", queue="p", under="t0")
    )
    failed_ms = int(part.now_ms)
    part.now_ms += HOUR_MS
    await part.send(job("holds", flow="cone@q=,rper/60s@q="), job("other", flow="utwin*f*e"), "d1", "r1")
    await part.claim(under="t0", lease_ms=2 * HOUR_MS)
    await part.settle(ended("d1", "c", under="t0"), ended("r1", "x", under="t0"))
    await part.key("HSET", "unique", "freed", "d1")
    await part.store.replay([(replayed(name), failed_ms, "") for name in ("moved", "moved2", "moved3")])
    await part.key("ZADD", "failed", failed_ms, "moved2", failed_ms, "moved3")


def replayed(name: str, *, queue: str = "q", when: str = "") -> NewJob:
    """Return a failed job as it is, for a replay."""
    return job(name, queue=queue, when=when)._replace(record=b"")


async def replay_all_kinds(part: Partition) -> list[int | bytes]:
    failed_ms = int(part.now_ms) - HOUR_MS
    names = ("f1", "tenant", "unique", "gated", "rated", "free", "freed", "moved", "moved2", "moved3", "d1", "r1", "never-sent")
    edited = job("edited", blob=b"y" * 5_000, flow="tann")._replace(record=b"a\0edit\0")
    twin = job("twin", blob=b"y" * 5_000, flow="utwin*f*e")._replace(record=b"a\0edit\0")
    plain = [(replayed(name), failed_ms, "") for name in names] + [(replayed("p1", queue="p"), failed_ms, "")]
    others = [(replayed("late", when="+500"), failed_ms, ""), (twin, failed_ms, ""), (edited, failed_ms, "edited=none")]
    return (await part.store.replay([*plain, *others]))[1]


async def purge_some(part: Partition) -> list[int]:
    failed_ms = int(part.now_ms) - HOUR_MS
    return await part.store.purge([(name, failed_ms) for name in ("f1", "gone", "edited", "moved", "d1", "r1", "never-sent")])


DEAD_LETTERS: Final = (
    Scenario("replay", scripts.REPLAY, many_failed, replay_all_kinds),
    Scenario("replay-again", scripts.REPLAY, many_failed, replay_all_kinds, first=(LOST_ANSWER,)),
    Scenario("purge", scripts.PURGE, many_failed, purge_some, forgets=True),
    Scenario("purge-again", scripts.PURGE, many_failed, purge_some, first=(LOST_ANSWER,), forgets=True),
)
