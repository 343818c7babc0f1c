"""More calls for the same tests: tenants who take turns at gates, and when an actor comes for which they have waited, in queue `t`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from angelrt import scripts
from tests.scripts.dead_letter_scenarios import replayed
from tests.scripts.flow_scenarios import PAUSE, QUEUES, claim_turns, declared, explains, leased_by
from tests.scripts.partition import job
from tests.scripts.scenarios import Scenario, claimed_ids, ended, settled, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.new_jobs import NewJob
    from angelrt.store import Claimed
    from tests.scripts.partition import Partition


async def tenants_at_gates(part: Partition) -> None:
    """Tenants and nobody at a gate of which places are free, some of whom have paid, or have no job there any more, or cost too much."""
    await declared(part)
    await part.store.control("declare", "a.c@t", "3", QUEUES)
    await part.store.control("declare", "a.r/10s@t", "3 10000 3", QUEUES)
    wide, dear = "ca.c@t=1", "ra.r/10s@t=1*3"
    await leased_by(part, "w2", "t0", *(job(f"holds{n}", queue="t", flow=wide) for n in range(3)))
    await leased_by(part, "w2", "t1", job("spends", queue="t", flow="ra.r/10s@t=1"))
    await part.send(*(job(f"{who}{n}", queue="t", flow=f"{wide},t{who}") for who in ("big", "gone", "small") for n in range(3)))
    await part.send(job("urgent", queue="t", flow=f"{wide},tbig", priority=1), job("alone", queue="t", flow=wide))
    await part.send(job("dear", queue="t", flow=f"{dear},tbig"), job("cheap", queue="t", flow="ra.r/10s@t=1,tsmall"))
    await part.store.cancel([f"gone{n}" for n in range(3)], "ann")
    await part.settle(ended("holds0", "c", under="t0", queue="t"), worker="w2")
    assert len((await part.claim(1, worker="w3", under="t2", queues=("t",))).deliveries) == 1, "one has paid"
    await part.settle(*(ended(f"holds{n}", "c", under="t0", queue="t") for n in (1, 2)), worker="w2")
    await part.send(job("t-parked", queue="t", actor="odd", flow="tbig"), job("parked", queue="t", actor="odd"))
    await part.store.control("limit", "a.c@t", "99", QUEUES)


async def paid_meanwhile(part: Partition) -> None:
    """Tenants and nobody at a closed gate, who have paid since they came there; a run that will have children; a failed job of the gate."""
    await declared(part)
    wide = "ca.c@t=1"
    await leased_by(part, "w1", "t1", job("parent", queue="t"), job("failed", queue="t", flow=f"{wide},tback"))
    await part.settle(ended("failed", "f", queue="t"))
    await part.store.control("declare", "a.c@t", "1", QUEUES)
    await leased_by(part, "w2", "t2", job("holds", queue="t", flow=wide))
    await part.send(
        *(job(f"{who}-waits", queue="t", flow=f"{wide},t{who}") for who in ("big", "small")), job("alone", queue="t", flow=wide)
    )
    for lane in await part.queue_key("ZRANGE", "turns", "t", 0, -1):
        await part.queue_key("ZINCRBY", "turns", "t", 1, lane)


async def tenants_before_a_paused_gate(part: Partition) -> None:
    """Tenants and nobody in their own lanes, who find their gate closed when they are claimed, some of whom wait there already."""
    await declared(part)
    wide = "ca.c@t=1"
    await part.send(*(job(f"{who}{n}", queue="t", flow=f"{wide},t{who}") for who in ("big", "small") for n in range(2)))
    await part.send(job("nobody", queue="t", flow=wide), job("urgent", queue="t", flow=f"{wide},tbig", priority=1))
    await part.store.control("pause", "ga.c@t=1", PAUSE, QUEUES)
    await part.send(job("there", queue="t", flow=f"{wide},tthere"), job("there-big", queue="t", flow=f"{wide},tbig"))


async def parked_tenants(part: Partition) -> None:
    """Jobs with and without a tenant in the lane of an actor whose worker comes, beside one who has its turn already."""
    await declared(part)
    await part.send(*(job(f"{who}{n}", queue="t", actor="odd", flow=who) for who in ("tbig", "tsmall", "") for n in range(2)))
    await part.claim(worker="w2", under="t0", queues=("t",))
    await part.send(job("turn", queue="t", flow="tbig"), job("ready", queue="t"))


async def claim_with_odd(part: Partition) -> Claimed:
    return await part.claim(queues=("t",), actors=("a", "odd"))


def to_gates() -> list[NewJob]:
    """Return jobs of nobody, of a tenant who waits at the gate, and of one who comes there."""
    flows = {"nobody": "ca.c@t=1", "new": "ca.c@t=1,tnew", "more": "ca.c@t=1,tsmall"}
    return [*(job(name, queue="t", flow=flow) for name, flow in flows.items()), job("first", queue="t", flow="ca.c@t=1,tnew", priority=0)]


async def send_to_gates(part: Partition) -> Sequence[Any]:
    return await part.send(*to_gates())


async def settle_to_gates(part: Partition) -> list[int]:
    return await part.settle(ended("parent", "c", queue="t", children=to_gates()))


async def schedule_to_gates(part: Partition) -> tuple[bool, list[Any]]:
    return await part.store.schedule("n", "", "r1 2 0 3\0plan", to_gates())


async def replay_to_a_gate(part: Partition) -> list[int | bytes]:
    return (await part.store.replay([(replayed("failed", queue="t"), int(part.now_ms), "")]))[1]


TURNS: Final = (
    Scenario("claim-turns-at-gates", scripts.CLAIM, tenants_at_gates, claim_turns, claimed_ids),
    Scenario("claim-turns-to-a-gate", scripts.CLAIM, tenants_before_a_paused_gate, claim_turns, claimed_ids),
    Scenario("claim-parked-tenants", scripts.CLAIM, parked_tenants, claim_with_odd, claimed_ids),
    Scenario("send-to-gates", scripts.ENQUEUE, tenants_at_gates, send_to_gates),
    Scenario("send-to-those-who-paid", scripts.ENQUEUE, paid_meanwhile, send_to_gates),
    Scenario("settle-to-gates", scripts.SETTLE_WITH_CHILDREN, paid_meanwhile, settle_to_gates, settled),
    Scenario("schedule-to-gates", scripts.SCHEDULE, paid_meanwhile, schedule_to_gates, told),
    Scenario("replay-to-a-gate", scripts.REPLAY, paid_meanwhile, replay_to_a_gate),
    *(explains(name, tenants_at_gates) for name in ("small2", "alone", "cheap", "dear")),
)
