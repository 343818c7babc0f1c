"""Tokens that come back, and those that do not: of runs that were leased before a limit, and at the edges of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripts.gated import RATED, SLICE_MS, declare, rate, rated, set_limit
from tests.scripts.partition import ids, job, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


@pytest.mark.parametrize("used", ["u0", "u9"])
async def test_run_that_was_leased_before_its_rule_was_declared_neither_gives_back_nor_takes_tokens(part: Partition, used: str) -> None:
    await part.send(job("early", flow=rated("A", cost=5)))
    await part.claim()
    part.now_ms += 1
    await declare(part, RATED, rate(10))
    await part.send(*(job(f"j{n}", flow=rated("A", cost=5)) for n in range(3)))
    assert ids(await part.claim(under="t2")) == ["j0", "j1"]
    await part.settle(verdict("early", "c", b"1", gates=used))
    assert ids(await part.claim(under="t3")) == []


async def test_run_that_was_leased_before_its_rule_was_declared_and_is_handed_back_gives_no_tokens_back(part: Partition) -> None:
    await part.send(job("early", flow=rated("A", cost=5)))
    await part.claim()
    part.now_ms += 1
    await declare(part, RATED, rate(5))
    await part.send(job("j0", flow=rated("A", cost=5)), job("j1", flow=rated("A", cost=5)))
    assert ids(await part.claim(under="t2")) == ["j0"]
    await part.settle(verdict("early", "x", words=("", "")))
    assert ids(await part.claim(under="t3")) == []


async def test_tokens_of_a_run_that_was_leased_at_the_very_end_of_a_slice_come_back(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    part.now_ms = (part.now_ms // SLICE_MS + 1) * SLICE_MS - 0.25
    await part.send(job("j0", flow=rated("A", cost=10)), job("j1", flow=rated("A", cost=10)))
    assert ids(await part.claim()) == ["j0"]
    await part.settle(verdict("j0", "c", b"1", gates="u0"))
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_changed_limit_leaves_what_runs_before_it_took_theirs_to_give_back(part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("early", flow=rated("A", cost=10)), job("j0", flow=rated("A", cost=5)))
    await part.claim()
    part.now_ms += 1
    await set_limit(part, RATED, rate(5))
    await part.settle(verdict("early", "c", b"1", gates="u0"))
    assert ids(await part.claim(under="t2")) == ["j0"]
