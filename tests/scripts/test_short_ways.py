"""The short ways of verbs come to the same as the long ones, in every scenario, and are taken where all jobs are plain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from angelrt import scripts
from angelrt.errors import RedisRefused
from tests.scripts.faults import FaultyLink, load_anew
from tests.scripts.test_abort import EVERY, play, verb_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.scripts.scenarios import Scenario

BEGINS, ENDS = "\nrepeat\n", "\n  return "
RIGHT = scripts.short_way
SCENARIOS = {scenario.name: scenario for scenario in EVERY if verb_of(scenario.script) in scripts.SHORT_WAYS}
PLAIN = ("send-plain", "send-plain-beside-a-rule", "claim-plain", "settle-plain")


@pytest.fixture
async def link(server_url: str) -> AsyncIterator[FaultyLink]:
    """One connection for both ways."""
    link = FaultyLink(server_url)
    yield link
    await link.close()


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], str]], None]]:
    """Let the scripts have other short ways, until the test ends."""

    def changed(short_way: Callable[[str], str]) -> None:
        monkeypatch.setattr(scripts, "short_way", short_way)
        load_anew()

    yield changed
    monkeypatch.undo()
    load_anew()


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_both_ways_come_to_the_same(link: FaultyLink, scenario: Scenario, change: Callable[[Callable[[str], str]], None]) -> None:
    short = await play(link, scenario)
    change(lambda verb: RIGHT(verb).replace(BEGINS, f"{BEGINS}if true then break end\n"))
    long = await play(link, scenario)
    assert short.after.changes(long.after) == []
    assert (short.answer, short.tables, short.delivered) == (long.answer, long.tables, long.delivered)
    assert short.final.changes(long.final) == []


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_jobs_take_the_short_way(link: FaultyLink, name: str, change: Callable[[Callable[[str], str]], None]) -> None:
    verb = verb_of(SCENARIOS[name].script)
    before, ends, after = RIGHT(verb).rpartition(ENDS)
    assert BEGINS in before, "the other test would compare the short way with itself"
    change(lambda each: f"{before}\n  assert(false){ends}{after}" if each == verb else RIGHT(each))
    with pytest.raises((RedisRefused, ResponseError), match="assertion failed"):
        await play(link, SCENARIOS[name])
