"""More calls for the same tests: jobs with gates, expiry, unique keys and tenants, and the scripts that pause, cancel and explain.

Queue `q` has gates, queue `p` lets priorities age, and queue `t` has tenants that take turns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from angelrt import scripts
from tests.scripts.dead_letter_scenarios import DEAD_LETTERS
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import job, verdict
from tests.scripts.scenarios import ACTORS, FORGET_MS, HOUR_MS, SCENARIOS, Scenario, claimed_ids, done, ended, failed, settled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.new_jobs import NewJob
    from angelrt.store import Claimed, Verdict
    from tests.scripts.partition import Partition

QUEUES: Final = ("q", "p", "t")
RULES: Final = {"a.c@q": "1", "a.c@p": "1", "a.wide@q": "3", "a.r/10s@q": "3 10000 3", "aging p": "1000", "weight t big": "2"}
"""At most one at a time, at most three, and three tokens in ten seconds: each for every value of an argument."""
PAUSE: Final = '{"by":"ann","at":1,"reason":""}'


def one(key: object, *more: str) -> str:
    """Return a flow with the gate that lets one at a time through."""
    return ",".join([f"ca.c@q={key}", *more])


def rated(key: object, *more: str, cost: int | None = None) -> str:
    """Return a flow with the gate of a rate."""
    return ",".join([f"ra.r/10s@q={key}" + (f"*{cost}" if cost else ""), *more])


def expires(part: Partition, after_ms: int = 5_000) -> str:
    """Return the item of a flow that ends a job which has not begun after so long."""
    return f"x{part.now_ms + after_ms:.0f}"


async def declared(part: Partition) -> None:
    """Register the workers' limits, as their start does."""
    await part.register("w1", *ACTORS, queues=QUEUES)
    for rule, spec in RULES.items():
        await part.store.control("declare", rule, spec, QUEUES)


async def leased_by(part: Partition, worker: str, under: str, *jobs: NewJob, lease_ms: int = 3 * HOUR_MS, again: str = "") -> None:
    """Send jobs and let a worker lease them, with one that comes back."""
    await part.send(*jobs)
    queues = sorted({each.queue for each in jobs})
    claimed = await part.claim(worker=worker, under=under, queues=queues, lease_ms=lease_ms)
    asked = sorted([*(each.id for each in jobs), *filter(None, [again])])
    assert claimed_ids(claimed) == asked, f"{claimed_ids(claimed)} were leased, and not {asked}"


async def retried(part: Partition, sent: NewJob, *, delay_ms: int = 0) -> None:
    """Let a job fail once, with an error that is kept apart, so that it waits again."""
    await leased_by(part, "w3", "t-retried", sent)
    await part.settle(ended(sent.id, "r", big=True, under="t-retried", queue=sent.queue, delay_ms=delay_ms), worker="w3")


async def used_up(part: Partition, key: str) -> None:
    """Take all tokens of a rate's gate."""
    await leased_by(part, "w3", f"t-{key}", job(f"used-{key}", flow=rated(key, cost=3)))
    await part.settle(ended(f"used-{key}", "c", under=f"t-{key}"), worker="w3")


# -- enqueue -------------------------------------------------------------------------------------------------------------------------


async def gates_closed(part: Partition) -> None:
    """Gates that are occupied, used up, paused and crowded; unique keys that are taken in every way; an actor that is drained."""
    await declared(part)
    await leased_by(part, "w2", "t0", job("holds", flow=one(1)))
    await leased_by(part, "w1", "t1", job("parent", flow=one("parent", "uparent*f*e")))
    await used_up(part, "spent")
    await retried(part, job("u-tried", flow="utried*f*r," + expires(part, 9 * HOUR_MS)), delay_ms=HOUR_MS)
    await part.send(job("crowds", flow=one(1)), job("u-waits", flow="uwaits*f*e"), job("u-window", flow="uwindow*60000*e"))
    await part.send(job("u-parked", flow=one(1, "uparked*f*r")))
    await leased_by(part, "w2", "t4", job("u-done", queue="p", flow="udone*f*e"), job("u-runs", queue="p", flow="uruns*f*r"))
    await part.settle(ended("u-done", "c", under="t4", queue="p"), worker="w2")
    await part.send(job("u-nearly", queue="p"))
    await part.store.cancel(["u-nearly"], "ann")
    await part.key("HSET", "runs", "u-nearly", b"! - 1 0 0 0 0 ou-past ")
    await part.key("HSET", "unique", "done", "u-done", "lost", "never-sent", "nearly", "u-nearly")
    await part.store.watch("ann", ["u-tried"])
    await part.store.control("pause", "ga.c@q=paused", PAUSE, QUEUES)
    await part.store.control("pause", "daodd", PAUSE, QUEUES)
    await part.take_marker("q")


def jobs_with_flows(part: Partition) -> list[NewJob]:
    return [
        *(job("closed", flow=one(1)), job("open", flow=one(2)), job("spent", flow=rated("spent")), job("rated", flow=rated(7))),
        *(job("both", flow=f"{one(3)},{rated('spent')}"), job("paused", flow=one("paused")), job("undeclared", flow="cno.such@q=1")),
        *(
            job("late", flow=expires(part)),
            job("late-closed", flow=one(1, expires(part))),
            job("later", when="+900", flow=one(1, expires(part))),
        ),
        *(job("u-new", flow="uwaits*f*e"), job("u-refused", flow="uwaits*f*j"), job("u-same-window", flow="uwindow*60000*e")),
        *(job("u-instead", flow="utried*f*r"), job("u-in-lane", flow="uparked*f*r"), job("u-not-instead", flow="uruns*f*r")),
        *(
            job("u-after", flow="udone*f*e"),
            job("u-lost", flow="ulost*f*e"),
            job("u-past", flow="unearly*f*r"),
            job("u-first", flow="ufirst*60000*e"),
        ),
        *(job("u-second", flow="ufirst*60000*e"), job("drained", actor="odd"), job("aged", queue="p", priority=1)),
        *(job("aged-later", queue="p", priority=8, when="+300"), job("t1", queue="t", flow="tbig"), job("t2", queue="t", flow="tbig")),
        *(job("t3", queue="t", flow="tsmall", priority=2), job("t4", queue="t"), job("known", flow=one(1)), job("known", flow=one(1))),
    ]


async def send_flows(part: Partition) -> Sequence[Any]:
    return await part.send(*jobs_with_flows(part))


# -- claim ---------------------------------------------------------------------------------------------------------------------------


async def lanes_of_gates(part: Partition) -> None:
    """Lanes whose gate is closed, opened by a mark, by time, or not; a lease that ends; and what has expired in every place."""
    await declared(part)
    await leased_by(part, "w2", "t0", job("holds", flow=one("held")))
    await used_up(part, "spent")
    await retried(part, job("asked", flow=one("ends", "uasked*f*e")))
    await leased_by(part, "w3", "t3", job("ends", flow=one("other-ends")), lease_ms=HOUR_MS - 1_000, again="asked")
    await part.store.cancel(["asked"], "ann")
    await part.store.watch("ann", ["asked", "late"])
    await leased_by(
        part, "w2", "t1", *(job(f"wide{n}", flow="ca.wide@q=1") for n in range(3)), job("holds-rate", flow=rated("hold", cost=3))
    )
    await part.send(
        *(job("w-held", flow=one("held")), job("w-ends1", flow=one("ends")), job("w-ends2", flow=one("ends"))),
        *(
            job("w-spent", flow=rated("spent")),
            job("w-late", flow=one("held", expires(part))),
            job("late", flow=expires(part) + ",ulate*f*e"),
        ),
        *(
            job("in-time", flow=expires(part, 9 * HOUR_MS) + ",ustart*s*e"),
            job("in-time-p", queue="p", flow=expires(part, 9 * HOUR_MS)),
        ),
        *(job("late-delayed", when="+6000", flow=expires(part)), job("two-a", flow=one("two")), job("two-b", flow=one("two"))),
        *(
            job("gone", flow=one("held")),
            job("w-hold", flow=rated("hold")),
            job("rate-1", flow=rated("one")),
            job("rate-2", flow=rated("two")),
        ),
        *(job(f"w-wide{n}", flow="ca.wide@q=1") for n in range(4)),
        *(job("aged", queue="p", priority=2), job("aged-due", queue="p", priority=7, when="+700"), job("odd", actor="odd")),
    )
    await part.settle(verdict("holds-rate", "r", failed("holds-rate"), under="t1", gates="h", delay_ms=3 * HOUR_MS), worker="w2")
    await part.settle(*(ended(f"wide{n}", "c", under="t1") for n in range(3)), worker="w2")
    await part.store.control("pause", "ga.c@q=two", PAUSE, QUEUES)
    await part.store.control("pause", "aodd", PAUSE, QUEUES)
    part.now_ms += HOUR_MS


async def claim_gated(part: Partition) -> Claimed:
    return await part.claim(queues=QUEUES, actors=ACTORS)


async def claim_some_gated(part: Partition) -> Claimed:
    return await part.claim(20, queues=QUEUES, actors=ACTORS, free=3)


async def ended_by_calls_that_broke_off(part: Partition) -> None:
    """Jobs that were cancelled or expired by calls which broke off at their beginning or near their end."""
    await declared(part)
    await part.send(job("began", flow=one(1)), job("began-e", flow=expires(part)), job("nearly", flow=expires(part)))
    await part.store.cancel(["nearly"], "ann")
    state = await part.state()
    for name, item in (("began", b"kann"), ("began-e", b"e")):
        await part.key("HSET", "runs", name, state.runs[name].rstrip() + b"," + item + b" ")
    await part.key("HSET", "runs", "nearly", b"! - 1 0 0 0 0 x1,kann ")
    await part.queue_key("ZADD", "expires", "q", 1, "nearly")
    part.now_ms += 1_000


async def open_gates_of_which_one_has_no_more(part: Partition) -> None:
    """An open lane that a cancelled job has left empty, one of a gate that was paused since, and no room for what else is open."""
    await declared(part)
    await leased_by(part, "w2", "t0", *(job(f"holds{n}", flow=one(n)) for n in range(4)))
    await part.send(*(job(f"waits{n}{m}", flow=one(n)) for n in range(4) for m in range(2)))
    await part.settle(*(ended(f"holds{n}", "c", under="t0") for n in range(4)), worker="w2")
    await part.store.cancel(["waits00", "waits01"], "ann")
    await part.store.control("pause", "ga.c@q=1", PAUSE, QUEUES)
    await part.take_marker()


async def claim_one_gated(part: Partition) -> Claimed:
    return await part.claim(1, queues=QUEUES, actors=ACTORS)


async def tenants(part: Partition) -> None:
    """Tenants with turns of two priorities, one of them without a job, one whose job comes back from a retry."""
    await declared(part)
    await retried(part, job("again", queue="t", flow="tsmall"))
    await part.send(*(job(f"{name}{n}", queue="t", flow=f"t{name}") for name in ("big", "small") for n in range(3)))
    await part.send(job("first", queue="t", priority=1, flow="tlate"), job("alone", queue="t"), job("gone", queue="t", flow="tgone"))
    await part.send(job("t-gate", queue="t", flow="ca.c@q=t,tbig"), job("t-parked", queue="t", actor="odd", flow="tbig"))
    await part.store.cancel(["gone"], "ann")


async def due_at_a_rate_that_is_used_up(part: Partition) -> None:
    """A job comes due whose rate lets nobody through for a while."""
    await declared(part)
    await used_up(part, "spent")
    await part.send(job("due", flow=rated("spent"), when="+500"))
    part.now_ms += 500


async def claim_turns(part: Partition) -> Claimed:
    return await part.claim(queues=QUEUES, actors=("a", "b"))


async def turns_that_come_by_time(part: Partition) -> None:
    """Jobs of tenants whose lease ends or whose time has come, some of them of tenants who have no other."""
    await declared(part)
    await leased_by(
        part, "w3", "t3", *(job(f"lost-{name}", queue="t", flow=f"t{name}") for name in ("big", "other")), lease_ms=HOUR_MS - 1_000
    )
    await part.send(
        *(job(f"due-{name}", queue="t", flow=f"t{name}", when="+500") for name in ("big", "late")), job("waits", queue="t", flow="tbig")
    )
    part.now_ms += HOUR_MS


# -- settle --------------------------------------------------------------------------------------------------------------------------


async def gates_held(part: Partition) -> None:
    """Leases that hold gates for which others wait, with costs, some of them asked to stop, and state of gates that is void."""
    await declared(part)
    await used_up(part, "void")
    part.now_ms += FORGET_MS / 4
    await retried(part, job("asked", flow=one("asked", "uasked*f*e")))
    await part.send(
        *(job("ends", flow=one("ends", "uends*f*e")), job("used", flow=rated("used", cost=2)), job("more", flow=rated("more", cost=2))),
        *(job("hold", flow=rated("hold")), job("hold-c", flow=one("hold")), job("fails", flow=one("fails", "ufails*s*e"))),
        *(job("fresh", flow=f"{one('fresh')},{rated('fresh', expires(part, 9 * HOUR_MS))}"), job("bare"), job("bare-late")),
        *(
            job("asked-x"),
            job("snoozes", flow=one("snoozes")),
            job("born-known", flow=one(1)),
        ),
        *(job("lost", flow=one("lost")), job("t1", queue="t", flow="tbig"), job("aged", queue="p", priority=1)),
    )
    claimed = await part.claim(queues=QUEUES, actors=ACTORS)
    assert len(claimed.deliveries) == 16
    await part.settle(verdict("lost", "x", words=("", "")), ended("born-known", "c"))
    await leased_by(part, "w2", "t2")
    await part.store.cancel(["asked", "asked-x"], "ann")
    await part.store.watch("ann", ["asked", "ends"])
    await part.send(*(job(f"w-{key}", flow=one(key)) for key in ("ends", "fails", "fresh", "asked", "snoozes", "hold")))
    await part.send(
        job("w-used", flow=rated("used", cost=3)), job("w-more", flow=rated("more", cost=3)), job("w-hold-r", flow=rated("hold"))
    )
    await part.send(job("u-waits", flow="uborn*f*e"), job("closed", flow=one(1)))
    part.now_ms += 1_000


def verdicts_on_gates(part: Partition) -> list[Verdict]:
    fresh = ("", "")
    return [
        *(
            ended("ends", "c"),
            verdict("used", "c", done("used"), gates="u1"),
            verdict("more", "c", done("more"), gates="u7"),
        ),
        verdict("hold", "r", failed("hold"), gates="h", delay_ms=60_000),
        verdict("hold-c", "r", failed("hold-c"), gates="h", delay_ms=60_000),
        *(ended("fails", "f"), verdict("fresh", "x", words=fresh), verdict("bare", "w", one("bare").encode(), words=fresh)),
        verdict("bare-late", "w", one("bare", expires(part, 9 * HOUR_MS)).encode(), words=fresh),
        *(ended("asked", "r", delay_ms=500), verdict("asked-x", "x", words=fresh), ended("snoozes", "s", delay_ms=500)),
        *(ended("lost", "c"), ended("t1", "r", queue="t"), ended("aged", "r", queue="p", delay_ms=300)),
    ]


async def settle_gated(part: Partition) -> list[int]:
    return await part.settle(*verdicts_on_gates(part))


async def settle_with_gated_children(part: Partition) -> list[int]:
    chosen = ("closed", "spent", "both", "late", "later", "u-new", "u-instead", "u-past", "u-first", "aged", "t1", "t3", "t4")
    return await part.settle(ended("parent", "c", children=[each for each in jobs_with_flows(part) if each.id in chosen]))


# -- the others ----------------------------------------------------------------------------------------------------------------------


async def expire_gated(part: Partition) -> int:
    return await part.store.expire_worker("w1", QUEUES, died=True)


async def stop_gated(part: Partition) -> int:
    return await part.store.expire_worker("w1", QUEUES, died=False)


async def tick_gated(part: Partition) -> tuple[float, float]:
    return await part.store.tick(QUEUES)


async def renew_asked(part: Partition) -> tuple[list[str], list[str]]:
    return await part.renew(("ends", "t1"), ("asked-x", "t1"), ("lost", "t1"), ("asked", "t1"), ("never-sent", "t1"))


WAITING: Final = ("ready", "ready-p", "delayed", "parked", "closed", "turn", "tried")
CANCELLED: Final = (*WAITING, "runs", "asked", "runs-p", "done", "never-sent", "ready")


async def every_place(part: Partition) -> None:
    """A job in each place from which one can be cancelled, with all that may hang on it."""
    await declared(part)
    await part.park("parked")
    await retried(part, job("tried", flow="utried*f*e," + expires(part, 9 * HOUR_MS)), delay_ms=5 * HOUR_MS)
    await leased_by(part, "w1", "t1", job("runs", flow=one(1)), job("runs-p", queue="p"), job("done", flow=one(2)), job("asked"))
    await part.settle(ended("done", "c"))
    await part.store.cancel(["asked"], "bob")
    await part.send(
        *(job("ready", flow=expires(part, 9 * HOUR_MS)), job("ready-p", queue="p", priority=3), job("delayed", when="+900")),
        *(job("closed", flow=one(1, "uclosed*s*e")), job("turn", queue="t", flow="tbig"), job("behind", flow=one(1))),
    )
    await part.store.watch("ann", ["ready", "tried", "runs"])
    part.now_ms += HOUR_MS


async def cancel_all(part: Partition) -> list[int]:
    return await part.store.cancel(CANCELLED, "ann%40host")


async def inspect_all(part: Partition) -> Any:
    return await part.store.inspect(CANCELLED)


async def cancel_once_more(part: Partition) -> list[int]:
    return await part.store.cancel(["began", "began-e", "nearly"], "ann")


def cancelled(codes: list[int]) -> list[int]:
    """1 and 0 tell the same: the job has ended; a call that is repeated may find that it was ended before."""
    return [max(code, 1) if code >= 0 else code for code in codes]


async def many_lanes(part: Partition) -> None:
    """Jobs that wait at the gates of one rule in two queues, in an actor's lane, and in a queue, all of which are paused."""
    await declared(part)
    await part.park("parked", actor="odd")
    await leased_by(part, "w2", "t0", *(job(f"holds{n}", flow=one(n)) for n in range(3)), job("holds-p", queue="p", flow="ca.c@p=1"))
    await part.send(*(job(f"waits{n}", flow=one(n)) for n in range(3)), job("waits-p", queue="p", flow="ca.c@p=1"), job("in-p", queue="p"))
    for what in ("qp", "aodd", "ga.c@q=1", "dqp"):
        await part.store.control("pause", what, PAUSE, QUEUES)
    await part.store.control("limit", "a.wide@q", "9", QUEUES)
    for queue in QUEUES:
        await part.take_marker(queue)


async def crowded(part: Partition) -> None:
    """A job in ready whose gate is open, while one that was sent later waits in the gate's lane."""
    await declared(part)
    await part.send(job("first", flow=one(1)), job("in-ready", flow=one(1)))
    await part.claim(1)
    await part.send(job("in-lane", flow=one(1)))
    await part.settle(ended("first", "c"))


async def parent_at_a_gate(part: Partition) -> None:
    """A run that holds the only place of its gate."""
    await declared(part)
    await leased_by(part, "w1", "t1", job("parent", flow=one("own")))


async def settle_with_child_at_its_gate(part: Partition) -> list[int]:
    return await part.settle(ended("parent", "c", children=[job("child", flow=one("own"))]))


async def dear_first(part: Partition) -> None:
    """A job in a gate's lane for which tokens are there, behind one for which they are not."""
    await declared(part)
    await leased_by(part, "w2", "t0", job("used", flow=rated(1, cost=2)))
    await part.send(job("dear", flow=rated(1, cost=3)))
    part.now_ms += 1
    await part.send(job("behind-dear", flow=rated(1)))


async def dear_first_of_an_open_lane(part: Partition) -> None:
    """The same, in a lane that a waiter's end has marked, so that the next claim looks there."""
    await dear_first(part)
    await part.send(job("leaves", flow=rated(1)))
    await part.store.cancel(["leaves"], "ann")


async def dear_first_in_ready(part: Partition) -> None:
    """The same, before either has come to the gate: they stand in ready, and a third one has taken tokens since."""
    await declared(part)
    await part.send(job("dear", flow=rated(1, cost=3)))
    part.now_ms += 1
    await part.send(job("behind-dear", flow=rated(1)), job("takes", flow=rated(1), priority=0))
    assert claimed_ids(await part.claim(1, worker="w2", under="t0")) == ["takes"]


async def void_gates(part: Partition) -> None:
    """State of gates of which some says nothing any more, and a unique key whose time is over."""
    await declared(part)
    await used_up(part, "void")
    await leased_by(part, "w3", "t3", job("u-void", flow="uvoid*10000*e"))
    await part.settle(ended("u-void", "c", under="t3"), worker="w3")
    part.now_ms += FORGET_MS / 4
    await used_up(part, "spent")


async def only_forget(part: Partition) -> list[int]:
    return await part.settle()


def controls(verb: str, what: str, value: str = "") -> Scenario:
    """Return the scenario of one call of `control`."""

    async def act(part: Partition) -> None:
        await part.store.control(verb, what, value, QUEUES)

    return Scenario(f"{verb}-{what}" + (f"-to-{value}" if verb in ("declare", "limit") else ""), scripts.CONTROL, many_lanes, act)


def explains(name: str, arrange: Any = every_place) -> Scenario:
    """Return the scenario in which one job is explained."""

    async def act(part: Partition) -> Any:
        return await part.store.explain(name, QUEUES, "\0a\0b\0")

    return Scenario(f"explain-{name}", scripts.EXPLAIN, arrange, act)


FLOWS: Final = (
    Scenario("send-flows", scripts.ENQUEUE, gates_closed, send_flows),
    Scenario("claim-gated", scripts.CLAIM, lanes_of_gates, claim_gated, claimed_ids),
    Scenario("claim-gated-again", scripts.CLAIM, lanes_of_gates, claim_some_gated, claimed_ids, (LOST_ANSWER,)),
    Scenario("claim-one-gated", scripts.CLAIM, open_gates_of_which_one_has_no_more, claim_one_gated, claimed_ids),
    Scenario("claim-broken-off", scripts.CLAIM, ended_by_calls_that_broke_off, claim_gated, claimed_ids),
    Scenario("claim-turns", scripts.CLAIM, tenants, claim_turns, claimed_ids),
    Scenario("claim-turns-by-time", scripts.CLAIM, turns_that_come_by_time, claim_turns, claimed_ids),
    Scenario("claim-rate", scripts.CLAIM, due_at_a_rate_that_is_used_up, claim_turns, claimed_ids),
    Scenario("settle-gated", scripts.SETTLE, gates_held, settle_gated, settled),
    Scenario("settle-gated-children", scripts.SETTLE_WITH_CHILDREN, gates_closed, settle_with_gated_children, settled),
    Scenario("settle-child-at-its-gate", scripts.SETTLE_WITH_CHILDREN, parent_at_a_gate, settle_with_child_at_its_gate, settled),
    Scenario("forget-gates", scripts.SETTLE, void_gates, only_forget, forgets=True),
    Scenario("expire-gated", scripts.EXPIRE_WORKER, gates_held, expire_gated, lambda _: None),
    Scenario("stop-gated", scripts.EXPIRE_WORKER, gates_held, stop_gated, lambda _: None),
    Scenario("tick-gated", scripts.TICK, lanes_of_gates, tick_gated),
    Scenario("tick-turns", scripts.TICK, turns_that_come_by_time, tick_gated),
    Scenario("tick-broken-off", scripts.TICK, ended_by_calls_that_broke_off, tick_gated),
    Scenario("inspect-flows", scripts.INSPECT, every_place, inspect_all),
    Scenario("renew-asked", scripts.RENEW, gates_held, renew_asked),
    Scenario("cancel-broken-off", scripts.CANCEL, ended_by_calls_that_broke_off, cancel_once_more, cancelled),
    Scenario("cancel", scripts.CANCEL, every_place, cancel_all, cancelled),
    *(controls("pause", "qt", PAUSE), controls("pause", "qp", PAUSE), controls("resume", "qp"), controls("resume", "qq")),
    *(
        controls("resume", "aodd"),
        controls("resume", "ga.c@q=1"),
        controls("declare", "a.c@q", "2"),
        controls("declare", "a.c@q", "1"),
        controls("declare", "a.new/10s@q", "3 10000 3"),
        controls("limit", "a.c@q", "5"),
    ),
    *(controls("limit", "a.wide@q"), controls("sweep", "a.c@q")),
    *(explains(name) for name in ("ready", "parked", "closed", "behind", "turn", "delayed", "runs", "done", "never-sent")),
    *(explains("in-ready", crowded), explains("behind-dear", dear_first)),
    replace(explains("behind-dear", dear_first_of_an_open_lane), name="explain-behind-dear-of-an-open-lane"),
    replace(explains("behind-dear", dear_first_in_ready), name="explain-behind-dear-in-ready"),
    *(explains(name, many_lanes) for name in ("waits1", "waits-p", "in-p")),
)
EVERY: Final = (*SCENARIOS, *FLOWS, *DEAD_LETTERS)
