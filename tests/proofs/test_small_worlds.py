"""The smallest part of the proofs: the model at two scopes, the scripts at one, and some mutants. `tox -e proofs` runs all of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from angelrt import link
from proofs import check, explore
from proofs.claiming import Claiming
from proofs.fleet import Call, Protocols
from proofs.mutants.rules import MUTANTS
from proofs.pure import Pure
from proofs.search import Search
from proofs.shipped import Shipped
from proofs.world import BOTH, CROSS, ONE, RARE, World

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

ANYBODY = frozenset({"x"})
GATES = World("gates", (ONE, BOTH), (ANYBODY, ANYBODY), frozenset({"cancel", "stall"}))
ROWS = World("crosswise", (BOTH, CROSS), (ANYBODY, ANYBODY), frozenset({"die", "lost"}))
DEPLOY = World("deploy", (RARE, ONE), (ANYBODY, frozenset({"x", "y"})), frozenset({"die", "idle"}))
QUICK = {
    "whoever leaves a gate marks nothing",
    "a changed limit marks nothing",
    "send wakes nobody",
    "claim asks the first gate alone",
    "no fence at settle",
    "what was asked to stop runs again",
    "claim sets the marker while ready is not empty",
    "a sweep that stops half-way is not noted",
}


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[asyncio.AbstractEventLoop]:
    monkeypatch.setattr(link, "RETRY_BASE_S", 0.0)
    caplog.set_level(logging.ERROR, "angelrt")
    own = uvloop.new_event_loop()
    yield own
    own.close()


@pytest.mark.parametrize("world", [GATES, ROWS], ids=lambda world: world.name)
def test_model_is_sound_in_every_order_of_events(world: World) -> None:
    found = check.explore(world)
    assert found.problems == []
    assert found.states > 1_000


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.what in QUICK], ids=lambda mutant: mutant.what)
def test_wrong_rule_is_caught(mutant: check.Mutant) -> None:
    assert check.catch(mutant).problems != []


def test_every_quick_mutant_is_there() -> None:
    assert {mutant.what for mutant in MUTANTS} >= QUICK


@pytest.mark.parametrize("world", [GATES, DEPLOY], ids=lambda world: world.name)
def test_scripts_do_what_the_model_does_in_every_order_of_events(world: World, server_url: str, loop: asyncio.AbstractEventLoop) -> None:
    found, _ = explore.explore(world, server_url, loop)
    assert found.problems == []
    assert found.states > 1_000


def test_script_that_does_something_else_is_found(server_url: str, loop: asyncio.AbstractEventLoop) -> None:
    class Careless(Shipped):
        def run(self, db: int, call: Call) -> tuple[int, Any]:
            after, reply = super().run(db, call)
            return (super().run(after, Call("pop"))[0], reply) if call.verb == "settle" else (after, reply)

    backend = Careless(GATES, server_url, loop)
    try:
        found = Search("careless", Protocols(backend), Claiming()).run()
    finally:
        backend.close()
    assert "not as the model: settle" in found.problems[0]


def test_an_empty_namespace_is_what_the_model_begins_with(server_url: str, loop: asyncio.AbstractEventLoop) -> None:
    shipped, pure = Shipped(GATES, server_url, loop), Pure(GATES)
    assert shipped.view(shipped.start()) == pure.view(pure.start())
