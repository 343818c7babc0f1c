"""The short ways of verbs come to the same as the long ones, in every scenario, and are taken where all jobs are plain."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import scripts
from tests.scripts.faults import FaultyLink
from tests.scripts.partition import job, verdict
from tests.scripts.test_abort import EVERY, play, verb_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.scripts.partition import Partition
    from tests.scripts.scenarios import Scenario

SHORT: Final = {name.removesuffix("_plain"): script for name, script in scripts.SCRIPTS.items() if script.is_short}
SCENARIOS = {scenario.name: scenario for scenario in EVERY if verb_of(scenario.script).removesuffix("_plain") in SHORT}
ONLY_LONG: Final = dict.fromkeys((script.name for script in SHORT.values()), math.inf)


@pytest.fixture
async def link(server_url: str) -> AsyncIterator[FaultyLink]:
    """One connection for both ways."""
    link = FaultyLink(server_url)
    yield link
    await link.close()


def by_the_long_way(scenario: Scenario) -> Scenario:
    """Return the scenario in which no short way is asked."""

    async def act(part: Partition) -> Any:
        part.store.long_until_s |= ONLY_LONG
        return await scenario.act(part)

    return replace(scenario, act=act)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_both_ways_come_to_the_same(link: FaultyLink, scenario: Scenario) -> None:
    short = await play(link, scenario)
    long = await play(link, by_the_long_way(scenario))
    assert short.after.changes(long.after) == []
    assert (short.answer, short.tables, short.delivered) == (long.answer, long.tables, long.delivered)
    assert short.final.changes(long.final) == []


# -- which way is taken --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def called(part: Partition, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which scripts are called; the server knows all of them."""
    names = {script.sha: script.name for script in scripts.SCRIPTS.values()}
    seen: list[str] = []
    real = part.link.call

    async def noted(*commands: Any) -> list[Any]:
        seen.extend(names[command[1]] for command in commands if command[0] == "EVALSHA")
        return await real(*commands)

    monkeypatch.setattr(part.link, "call", noted)
    return seen


@pytest.fixture(autouse=True)
async def known(part: Partition) -> None:
    """Give the server every script."""
    await part.store.load(scripts.SCRIPTS.values())


async def test_plain_jobs_take_the_short_way(part: Partition, called: list[str]) -> None:
    await part.send("j1", "j2")
    await part.claim(1)
    await part.settle(verdict("j1", "c"))
    assert called == ["enqueue_plain", "claim_plain", "settle_plain"]


async def test_what_is_not_plain_is_not_asked_of_the_short_way(part: Partition, called: list[str]) -> None:
    await part.send(job("later", when="+900"), job("first", priority=1))
    await part.send(job("gated", flow="cg=1"))
    await part.send(job("big", blob=b"x" * 5_000))
    await part.settle(verdict("first", "r", delay_ms=100))
    await part.settle(verdict("first", "c"), verdict("big", "f"))
    await part.settle()
    await part.settle(verdict("first", "c", children=[job("child")]))
    assert called == [*["enqueue"] * 3, *["settle"] * 3, "settle_with_children"]


async def of_a_known_id(part: Partition) -> None:
    assert await part.send("j1") == [1]


async def nothing_valid(part: Partition) -> None:
    assert await part.settle(verdict("nobody", "c")) == [0]


async def of_a_paused_queue(part: Partition) -> None:
    assert (await part.claim()).deliveries == []


@pytest.mark.parametrize(
    ("verb", "act"),
    [("enqueue", of_a_known_id), ("claim", of_a_paused_queue), ("settle", nothing_valid)],
    ids=["enqueue", "claim", "settle"],
)
async def test_a_way_that_declines_is_not_asked_again_for_a_while(
    part: Partition, called: list[str], verb: str, act: Callable[[Partition], Awaitable[None]]
) -> None:
    await part.send("j1")
    await part.store.control("pause", "qq", "{}", ("q",))
    part.store.long_way_s = 3_600
    part.store.long_until_s.clear()
    called.clear()
    await act(part)
    assert called == [f"{verb}_plain", verb]
    await act(part)
    assert called == [f"{verb}_plain", verb, verb], "by the short way, it would have cost a second round trip again"
    part.store.long_until_s[f"{verb}_plain"] -= 3_600
    await act(part)
    assert called[3:] == [f"{verb}_plain", verb]


async def test_a_claim_that_is_declined_after_a_wait_waits_again(part: Partition, called: list[str]) -> None:
    """Whoever dies between the two calls has taken the marker and not the work: so it is there again for others, and for itself."""
    await part.send(job("gated", flow="cg=1"))
    claimed = await part.store.claim(
        part.link, "w1", "t1", queues=("q",), lease_ms=1_000, capacity=1, free=1, actors=b"\0a\0", block=True
    )  # fmt: skip
    assert [delivery.id for delivery in claimed.deliveries] == [b"gated"]
    assert called == ["enqueue", "claim_plain", "claim"]


async def test_a_claim_that_is_declined_leaves_the_marker_to_others(part: Partition) -> None:
    await part.send(job("gated", flow="cg=1"))
    for how, is_left in (("-", False), ("w", True)):
        await part.take_marker()
        assert await part.raw(scripts.CLAIM_PLAIN, ["q"], "", "", "w1", "t1", 1_000, 1, "\0a\0", how) is None
        assert await part.take_marker() is is_left
