"""Calls that meet jobs whose worker died, for the tests that break every call off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from angelrt import scripts
from tests.scripts.gated import declare, held
from tests.scripts.partition import job
from tests.scripts.scenarios import Scenario, claimed_ids, ended, settled

if TYPE_CHECKING:
    from angelrt.store import Claimed
    from tests.scripts.partition import Partition

ROOM_AFTER_MS: Final = 1_000
TOGETHER_MAX: Final = 8


async def dead_with(part: Partition, *names: str, flow: str = "") -> None:
    """Let worker w2 die while it runs these jobs."""
    await part.register("w2", "a")
    await part.send(*(job(name, flow=flow) for name in names))
    await part.claim(worker="w2", under=f"t2{names[0]}")
    await part.store.expire_worker("w2", ["q"], died=True)


async def some_died(part: Partition) -> None:
    await dead_with(part, *(f"s{n}" for n in range(TOGETHER_MAX + 1)))
    await part.register("w1", "a")


async def one_died_twice_at_a_gate(part: Partition) -> None:
    await declare(part)
    await dead_with(part, "s0", flow=held())
    await part.claim(worker="w3", under="t3")
    await part.store.expire_worker("w3", ["q"], died=True)
    await part.register("w1", "a")


async def some_wait_apart(part: Partition) -> None:
    """A busy worker has met them."""
    await dead_with(part, "s0", "s1")
    await part.send("other")
    await part.register("w1", "a")
    await part.claim(under="t0")
    part.now_ms += ROOM_AFTER_MS


async def wait_no_more(part: Partition) -> None:
    await some_wait_apart(part)
    await part.store.cancel(["s0", "s1"], "me")


async def did_not_die(part: Partition) -> None:
    await dead_with(part, "s0", "s1")
    await part.register("w2", "a")


async def suspects_leased(part: Partition) -> None:
    await some_died(part)
    await part.claim()


async def claim(part: Partition) -> Claimed:
    return await part.claim()


async def settle(part: Partition) -> list[int]:
    return await part.settle(
        *(ended("s0", "r"), ended("s1", "s"), ended("s2", "d"), ended("s3", "x"), ended("s4", "f", gates="p"), ended("s5", "c"))
    )


async def cancel(part: Partition) -> Any:
    return await part.store.cancel(["s1"], "me")


async def explain(part: Partition) -> Any:
    return await part.store.explain("s1", ["q"], "\0a\0")


SUSPECTS: Final = (
    Scenario("claim-suspects", scripts.CLAIM, some_died, claim, claimed_ids),
    Scenario("claim-suspect-alone", scripts.CLAIM, one_died_twice_at_a_gate, claim, claimed_ids),
    Scenario("claim-beside-suspects", scripts.CLAIM, some_wait_apart, claim, claimed_ids),
    Scenario("claim-without-suspects", scripts.CLAIM, wait_no_more, claim, claimed_ids),
    Scenario("claim-after-all-alive", scripts.CLAIM, did_not_die, claim, claimed_ids),
    Scenario("settle-suspects", scripts.SETTLE, suspects_leased, settle, settled),
    Scenario("cancel-suspect", scripts.CANCEL, some_wait_apart, cancel, lambda _: None),
    Scenario("explain-suspect", scripts.EXPLAIN, some_wait_apart, explain),
)
