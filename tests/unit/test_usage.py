"""How much of each limit is in use, on a real server: places and tokens, values that somebody tells and others, and more than is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import GateUse, LimitUse, usage
from angelrt.control import Control
from tests.scripts.gated import KEYED, LATEST_MS, RATED, complete, declare, held, rate, rated, set_limit
from tests.scripts.partition import job

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

WHOLE, WHOLE_RATE = "a@q", "a/10s@q"
"""Limits that go by no argument."""


async def uses(part: Partition) -> dict[str, LimitUse]:
    """Return what is in use, by limit."""
    return {use.rule: use for use in await Control(lambda: part.store).usage()}


def told(use: LimitUse) -> list[tuple[str | None, int]]:
    """Return values and what is taken."""
    return [(gate.value, gate.taken) for gate in use.gates]


async def test_nothing_is_in_use_where_no_limit_is_declared_and_where_nothing_runs(part: Partition) -> None:
    assert await uses(part) == {}
    await declare(part, KEYED, 4)
    await declare(part, RATED, rate(10))
    await part.send(job("j1", flow=held(7)), job("j2", flow=rated("ann")))
    none = {"gates": [], "in_use": 0, "has_more": False}
    assert await uses(part) == {
        KEYED: LimitUse.model_validate({"rule": KEYED, "most": 4, **none}),
        RATED: LimitUse.model_validate({"rule": RATED, "most": 10, **none}),
    }


async def test_places_are_in_use_while_jobs_hold_them(part: Partition) -> None:
    await declare(part, WHOLE, 5)
    await declare(part, KEYED, 2)
    await part.send(*(job(f"j{n}", flow=f"{held('', WHOLE)},{held(value)}") for n, value in enumerate(("a%3Db%20c", "x", "x", "x"))))
    claimed = await part.claim()
    found = await uses(part)
    assert found[WHOLE].gates == [GateUse(value="", taken=3)]
    assert (told(found[KEYED]), found[KEYED].in_use, found[KEYED].most) == ([("x", 2), ("a=b c", 1)], 2, 2)
    await complete(part, claimed)
    assert [use.gates for use in (await uses(part)).values()] == [[], []]


async def test_tokens_are_in_use_for_as_long_as_they_count(part: Partition) -> None:
    await declare(part, WHOLE_RATE, rate(50))
    await declare(part, RATED, rate(10))
    await part.send(
        *(job(f"{value}{cost}", flow=f"{rated('', WHOLE_RATE)},{rated(value, cost=cost)}") for value, cost in (("ann", 7), ("bob", 9)))
    )
    await part.claim()
    found = await uses(part)
    assert (told(found[WHOLE_RATE]), told(found[RATED])) == ([("", 2)], [("bob", 9), ("ann", 7)])
    part.now_ms += LATEST_MS
    assert [use.gates for use in (await uses(part)).values()] == [[], []]


async def test_a_changed_limit_is_the_one_of_which_something_is_in_use(part: Partition) -> None:
    await declare(part, KEYED, 4)
    await part.send(*(job(f"j{n}", flow=held(7)) for n in range(3)))
    await part.claim()
    await set_limit(part, KEYED, 2)
    use = (await uses(part))[KEYED]
    assert (use.most, told(use)) == (2, [("7", 3)])
    await set_limit(part, KEYED, "")
    assert (await uses(part))[KEYED].most == 4


@pytest.mark.parametrize("tenant", ["", "tten,"], ids=["nobody", "tenant"])
async def test_the_value_of_a_rate_is_told_by_who_waits_there_and_by_nobody_else(part: Partition, tenant: str) -> None:
    await declare(part, RATED, rate(2))
    await part.send(*(job(f"j{n}", flow=tenant + rated("ann")) for n in range(3)), job("j3", flow=rated("bob")))
    claimed = await part.claim()
    assert told((await uses(part))[RATED]) == [("ann", 2), ("bob", 1)]
    await complete(part, claimed)
    assert told((await uses(part))[RATED]) == [("ann", 2), (None, 1)]


async def test_the_fullest_are_told_and_the_others_counted(part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "GATES_MAX", 2)
    await declare(part, KEYED, 4)
    await part.send(*(job(f"{value}{n}", flow=held(value)) for value, most in (("a", 1), ("b", 3), ("c", 2)) for n in range(most)))
    await part.claim()
    use = (await uses(part))[KEYED]
    assert (told(use), use.in_use, use.has_more) == ([("b", 3), ("c", 2)], 3, False)


async def test_a_bounded_number_is_looked_at_and_what_is_found_is_exact(part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "LOOKS_MAX", 2)
    for rule, spec in ((WHOLE, "9"), (KEYED, "9"), (WHOLE_RATE, rate(9)), (RATED, rate(9))):
        await declare(part, rule, spec)
    for n in range(3):
        flow = ",".join((held("", WHOLE), held(n), rated("", WHOLE_RATE), rated(n)))
        await part.send(job(f"j{n}", flow=flow))
        await part.claim(under=f"t{n}")
        part.now_ms += 1_000
    found = await uses(part)
    assert {rule: (use.in_use, use.has_more) for rule, use in found.items() if rule in (WHOLE, WHOLE_RATE)} == {
        WHOLE: (1, False),
        WHOLE_RATE: (1, False),
    }
    assert [told(found[rule]) for rule in (WHOLE, WHOLE_RATE)] == [[("", 3)], [("", 3)]]
    assert (found[KEYED].in_use, found[KEYED].has_more) == (2, True)
    assert (found[RATED].has_more, {taken for _, taken in told(found[RATED])}) == (True, {1})


async def test_many_values_of_a_long_window_do_not_hide_those_of_a_short_one(part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "LOOKS_MAX", 3)
    daily = "a.key/86400s@q"
    await declare(part, daily, rate(9, window_ms=86_400_000))
    await declare(part, RATED, rate(9))
    await part.send(*(job(f"d{n}", flow=rated(n, daily)) for n in range(5)), job("s", flow=rated("ann")))
    await part.claim()
    found = await uses(part)
    assert (told(found[RATED]), found[RATED].has_more) == ([("ann", 1)], False)
    assert (found[daily].in_use, found[daily].has_more) == (3, True)
