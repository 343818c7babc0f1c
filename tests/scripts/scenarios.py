"""Calls that together reach every command of every script: what is there before, and the one call that the test looks at.

Whoever settles job X writes `result of X` or `error of X`, so that a wrong result shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from angelrt import scripts
from angelrt.config import Keep, Retention
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import LEASE_MS, ids, job, verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from angelrt.scripts import Script
    from angelrt.store import Claimed, Verdict
    from tests.scripts.partition import Partition

QUEUES: Final = ("q", "p")
ACTORS: Final = ("a", "b", "rare", "odd")
WORKERS: Final = ("w1", "w2", "w3", "stranger")
RETENTION: Final = Retention(*(Keep(120, number=2) for _ in range(3)))
FORGET_MS: Final = 120_000
HOUR_MS: Final = 3_600_000
"""After this, counters have a new key."""


def done(job_id: str, *, big: bool = False) -> bytes:
    """Return the result that every run of a job brings; one over 4 KiB is kept apart."""
    return f"result of {job_id}".encode() + b"." * (5_000 if big else 0)


def failed(job_id: str, *, big: bool = False) -> bytes:
    """Return the error that every failing run of a job brings."""
    return f"error of {job_id}".encode() + b"." * (5_000 if big else 0)


def ended(job_id: str, code: str, *, big: bool = False, **options: Any) -> Verdict:
    """Return a verdict with the payload that belongs to this job."""
    payload = b"" if code in "sx" else done(job_id, big=big) if code == "c" else failed(job_id, big=big)
    return verdict(job_id, code, payload, **options)


@dataclass(frozen=True)
class Scenario:
    """One call of one script. `told` reduces its answer to what must be the same when the call had to be sent twice."""

    name: str
    script: Script
    arrange: Callable[[Partition], Awaitable[Any]]
    act: Callable[[Partition], Awaitable[Any]]
    told: Callable[[Any], Any] = lambda answer: answer
    first: tuple[int, ...] = ()
    """Faults of the calls before the one that is broken: LOST_ANSWER makes that one a repetition."""
    forgets: bool = False
    """Whether the call forgets old jobs: what a broken one has not forgotten, the next sweep of housekeeping does."""


async def nothing(_: Partition) -> None:
    """Arrange nothing."""


# -- enqueue -------------------------------------------------------------------------------------------------------------------------


async def some_sent(part: Partition) -> None:
    await part.send("known", job("known-big", blob=done("known-big", big=True)), job("later", when="+900"))


async def send_all_kinds(part: Partition) -> Sequence[int]:
    return await part.send(
        *("new", job("low", priority=9), job("soon", when="+500", priority=2), job("late", when="+950"), "new", "known"),
        *(job("other", queue="p", actor="b"), job("known", blob=b"x" * 5_000), job("big", queue="p", blob=b"x" * 5_000)),
    )


async def send_plain(part: Partition) -> Sequence[int]:
    """Send jobs that nothing may hold back."""
    return await part.send("new", job("other", queue="p", actor="b"))


async def send_apart(part: Partition) -> Sequence[int]:
    """Send one whose arguments are kept apart."""
    return await part.send("new", job("big", queue="p", blob=b"x" * 5_000))


async def only_delayed(part: Partition) -> None:
    await part.send(job("later", when="+900"))
    await part.take_marker()


async def beside_a_rule(part: Partition) -> None:
    await only_delayed(part)
    await part.store.control("declare", "somebody", "3", QUEUES)


async def send_sooner(part: Partition) -> Sequence[int]:
    return await part.send(job("soon", when="+500"))


# -- claim ---------------------------------------------------------------------------------------------------------------------------


async def everything_to_claim(part: Partition) -> None:
    """Leases that ended just now and long ago, lanes with a known, an unknown and no actor, what is due, ready, gone; two queues."""
    await part.register("w1", *ACTORS[:3], queues=QUEUES)
    await part.park("parked1", "parked2", actor="rare")
    await part.send(job("empty", actor="b", queue="p"))
    await part.claim(worker="stranger", under="t0", queues=("p",), actors=())
    await part.claim(worker="w3", under="t0", queues=("p",), actors=("b",), lease_ms=2 * HOUR_MS)
    await part.send("expired1", "expired2")
    await part.claim(worker="w2", under="t0", lease_ms=HOUR_MS - 1_000)
    await part.send("late")
    await part.claim(worker="w2", under="t00", lease_ms=1_000)
    await part.send("ghost", job("due", when="+800"), job("due-first", when="+900", priority=1), job("later", when=f"+{2 * HOUR_MS}"))
    await part.key("HDEL", "jobs", "ghost")
    await part.send("ready1", "ready2", job("odd1", actor="odd"), job("odd2", actor="odd", queue="p"), job("b1", actor="b", queue="p"))
    part.now_ms += HOUR_MS


async def claim_everything(part: Partition) -> Claimed:
    return await part.claim(queues=QUEUES, actors=("a", "b", "rare"))


async def claim_four(part: Partition) -> Claimed:
    return await part.claim(4, queues=QUEUES, actors=("a", "b", "rare"))


def claimed_ids(claimed: Claimed) -> list[str]:
    return sorted(ids(claimed))


# -- settle --------------------------------------------------------------------------------------------------------------------------


async def many_leased(part: Partition) -> None:
    await part.register("w1", *ACTORS, queues=QUEUES)
    await part.send("again1")
    await part.claim(under="t0")
    await part.settle(ended("again1", "r", big=True, under="t0"))
    await part.send("c1", "c2", "f1", "k1", "r1", "r2", "s1", "x1", "n1", "lost", job("p1", queue="p"), "taken")
    await part.claim(queues=QUEUES)
    await part.settle(ended("lost", "x"), ended("taken", "x"))
    await part.claim(2, worker="w2", under="t2")
    await part.send(job("waits", when="+500"), job("child-known", actor="b"))
    await part.store.watch("ann", ["c1", "f1", "r1"])
    await part.store.watch("bob", ["c1"])
    part.now_ms += HOUR_MS


def all_verdicts(*, children: bool) -> list[Verdict]:
    born = (job("child1"), job("child2", queue="p", actor="b", blob=b"x" * 5_000), job("child3", when="+300", priority=1))
    known = (job("child-known", actor="b"), job("child-known", blob=b"x" * 5_000))
    stray = (job("stray", blob=b"x" * 5_000),)
    return [
        ended("c1", "c", big=True, children=born if children else ()),
        ended("c2", "c", children=known if children else ()),
        *(ended("f1", "f"), ended("k1", "k"), ended("again1", "c", big=True), ended("p1", "r", queue="p", delay_ms=700)),
        *(ended("r1", "r", big=True, delay_ms=400), ended("r2", "r"), ended("s1", "s", delay_ms=600), ended("x1", "x")),
        *(
            verdict("n1", "n", b"half"),
            ended("lost", "c", big=True, children=stray if children else ()),
            ended("taken", "f", big=True),
            ended("c2", "c"),
        ),
    ]


async def settle_all(part: Partition) -> list[int]:
    return await part.settle(*all_verdicts(children=False))


async def settle_all_with_children(part: Partition) -> list[int]:
    return await part.settle(*all_verdicts(children=True))


async def much_to_forget(part: Partition) -> None:
    """Six old jobs of each outcome where two are kept, with arguments, notes and results of every size, and one that runs."""
    for code in "cfk":
        names = [f"{code}{n}" for n in range(6)]
        await part.send(*(job(name, blob=b"x" * 5_000 if name[1] in "01" else None) for name in names))
        await part.claim(under=code)
        await part.settle(*(verdict(name, "n", b"half", under=code) for name in names))
        await part.settle(*(ended(name, code, big=name[1] in "12", under=code) for name in names))
    await part.send("now1", "now2")
    await part.claim()
    part.now_ms += FORGET_MS / 2


async def settle_and_forget(part: Partition) -> list[int]:
    return await part.settle(ended("now1", "c"), ended("now2", "f"))


async def only_forget(part: Partition) -> list[int]:
    return await part.settle()


def told(answer: tuple[bool, list[Any]]) -> bool:
    """Return whether the record is as wanted; the codes are those of the call that was the first."""
    return answer[0]


def settled(codes: list[int]) -> list[bool]:
    """1 and 2 tell the same: the verdict stands."""
    return [code > 0 for code in codes]


# -- short ways ----------------------------------------------------------------------------------------------------------------------


async def plain_waiting(part: Partition) -> None:
    await part.register("w1", "a", queues=QUEUES)
    await part.send("j1", "j2", job("p1", queue="p"), job("p2", queue="p"), job("later", when="+500"))


async def claim_plain(part: Partition) -> Claimed:
    return await part.claim(3, queues=QUEUES)


async def plain_leased(part: Partition) -> None:
    await plain_waiting(part)
    await claim_plain(part)
    await part.store.watch("ann", ["j1", "p1"])


async def settle_plain(part: Partition) -> list[int]:
    return await part.settle(ended("j1", "c"), ended("p1", "c", queue="p"), ended("j2", "c"))


async def settle_apart(part: Partition) -> list[int]:
    return await part.settle(ended("j1", "c"), ended("p1", "c", queue="p", big=True))


async def settle_plain_and_forget(part: Partition) -> list[int]:
    return await part.settle(ended("now1", "c"), ended("now2", "c"))


async def paused_waiting(part: Partition) -> None:
    """Of two queues one is paused, and the marker is taken, as by a worker that waits."""
    await plain_waiting(part)
    await part.store.control("pause", "qp", "{}", QUEUES)
    await part.take_marker()


async def claim_after_a_wait(part: Partition) -> Any:
    return await part.raw(scripts.CLAIM_PLAIN, QUEUES, "", "", "w1", "t1", LEASE_MS, 3, "\0a\0", "w")


# -- the others ----------------------------------------------------------------------------------------------------------------------


async def some_leased(part: Partition) -> None:
    await part.register("w1", "a", queues=QUEUES)
    await part.send("j1", "j2", "j3", job("p1", queue="p"), job("due", when="+100"), job("due-p", when="+100", queue="p", priority=1))
    await part.claim(3, queues=QUEUES)
    await part.settle(ended("j3", "c"))
    await part.claim(queues=("p",))
    part.now_ms += HOUR_MS


async def renew_some(part: Partition) -> tuple[list[str], list[str]]:
    return await part.renew(("j1", "t1"), ("j3", "t1"), ("j2", "t1"), ("due", "t1"))


async def tick(part: Partition) -> tuple[float, float]:
    return await part.store.tick(QUEUES)


async def two_lanes(part: Partition) -> None:
    await part.park("parked1", "parked2")
    await part.park("parked3", queue="p")
    await part.send("ready")


async def start(part: Partition) -> None:
    await part.register("w9", "a", "rare", queues=QUEUES)


async def expire_dead(part: Partition) -> int:
    return await part.store.expire_worker("w1", QUEUES, died=True)


async def expire_stopped(part: Partition) -> int:
    return await part.store.expire_worker("w1", QUEUES, died=False)


async def expire_silent(part: Partition) -> int:
    return await part.store.expire_worker("w1", QUEUES, died=True, beat_ms=part.now_ms - HOUR_MS)


async def one_of_each(part: Partition) -> None:
    await part.park("parked")
    await part.send("a-c", "b-f", "c-k", "d-leased", "e-r")
    await part.claim()
    await part.settle(ended("a-c", "c"), ended("b-f", "f"), ended("c-k", "k"), ended("e-r", "r", delay_ms=500))
    await part.send("ready")
    await part.store.watch("bob", ["ready"])


EACH: Final = ("a-c", "b-f", "c-k", "d-leased", "e-r", "parked", "ready", "never-sent")


async def watch(part: Partition) -> Any:
    return await part.store.watch("ann", EACH)


async def inspect(part: Partition) -> Any:
    return await part.store.inspect(EACH)


SCENARIOS: Final = (
    Scenario("send", scripts.ENQUEUE, some_sent, send_all_kinds),
    Scenario("send-first", scripts.ENQUEUE, nothing, send_all_kinds),
    Scenario("send-plain", scripts.ENQUEUE_PLAIN, only_delayed, send_plain),
    Scenario("send-plain-first", scripts.ENQUEUE_PLAIN, nothing, send_plain),
    Scenario("send-plain-beside-a-rule", scripts.ENQUEUE_PLAIN, beside_a_rule, send_plain),
    Scenario("send-plain-again", scripts.ENQUEUE, only_delayed, send_plain, first=(LOST_ANSWER,)),
    Scenario("send-apart", scripts.ENQUEUE, only_delayed, send_apart),
    Scenario("send-new-head", scripts.ENQUEUE, only_delayed, send_sooner),
    Scenario("claim-all", scripts.CLAIM, everything_to_claim, claim_everything, claimed_ids),
    Scenario("claim-some", scripts.CLAIM, everything_to_claim, claim_four, claimed_ids),
    Scenario("claim-again", scripts.CLAIM, everything_to_claim, claim_four, claimed_ids, (LOST_ANSWER,)),
    Scenario("claim-plain", scripts.CLAIM_PLAIN, plain_waiting, claim_plain, claimed_ids),
    Scenario("claim-declined", scripts.CLAIM_PLAIN, paused_waiting, claim_after_a_wait),
    Scenario("claim-plain-again", scripts.CLAIM, plain_waiting, claim_plain, claimed_ids, (LOST_ANSWER,)),
    Scenario("settle-plain", scripts.SETTLE_PLAIN, plain_leased, settle_plain, settled),
    Scenario("settle-plain-and-forget", scripts.SETTLE_PLAIN, much_to_forget, settle_plain_and_forget, settled, forgets=True),
    Scenario("settle-apart", scripts.SETTLE, plain_leased, settle_apart, settled),
    Scenario("settle-plain-again", scripts.SETTLE, plain_leased, settle_plain, settled, (LOST_ANSWER,)),
    Scenario("settle-all", scripts.SETTLE, many_leased, settle_all, settled),
    Scenario("settle-again", scripts.SETTLE, many_leased, settle_all, settled, (LOST_ANSWER,)),
    Scenario("settle-with-children", scripts.SETTLE_WITH_CHILDREN, many_leased, settle_all_with_children, settled),
    Scenario("settle-and-forget", scripts.SETTLE, much_to_forget, settle_and_forget, settled, forgets=True),
    Scenario("only-forget", scripts.SETTLE, much_to_forget, only_forget, settled, forgets=True),
    Scenario("renew", scripts.RENEW, some_leased, renew_some),
    Scenario("tick", scripts.TICK, some_leased, tick),
    Scenario("start", scripts.BEAT, two_lanes, start),
    Scenario("expire-dead", scripts.EXPIRE_WORKER, some_leased, expire_dead, lambda _: None),
    Scenario("expire-stopped", scripts.EXPIRE_WORKER, some_leased, expire_stopped, lambda _: None),
    Scenario("expire-silent", scripts.EXPIRE_WORKER, some_leased, expire_silent, lambda _: None),
    Scenario("watch", scripts.WATCH, one_of_each, watch),
    Scenario("inspect", scripts.INSPECT, one_of_each, inspect),
)
