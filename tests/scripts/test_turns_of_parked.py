"""claim: who waited for an actor takes its tenant's turn when the actor comes."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.scripts.gated import held, pause, resume
from tests.scripts.partition import ids, job
from tests.scripts.tenants import SMALL, claim, jobs, leave, occupied, send, serve, tenants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.scripts.partition import Partition


async def parked(part: Partition, *groups: Sequence[Any]) -> None:
    """Send jobs of an actor that nobody knows, and let a worker put them into its lane."""
    await send(part, *groups)
    while (await part.claim(500, worker="stranger", under=secrets.token_hex(4), actors=("other",))).again:
        pass


@pytest.mark.parametrize("capacity", [1, 10, 100])
async def test_jobs_that_waited_for_an_actor_take_their_tenants_turn_when_it_comes(part: Partition, capacity: int) -> None:
    await parked(part, jobs("big", 3_000, actor="rare"), jobs("bob", 5, first=0, actor="rare"))
    await send(part, *(jobs(name, 50) for name in SMALL))
    await part.register("w2", "a", "rare")
    served = Counter(tenants(await serve(part, 200, capacity, worker="w2", actors=("a", "rare"))))
    assert all(abs(served[name] - 20) <= 1 for name in ["big", *SMALL]), served
    begun = await serve(part, 4_000, 500, worker="w2", actors=("a", "rare"))
    assert len(begun) == 3_000 + 5 + 450 - 200


async def test_jobs_of_nobody_that_waited_for_an_actor_take_turns_when_it_comes(part: Partition) -> None:
    await parked(part, jobs("-", 600, actor="rare"))
    await send(part, jobs("ann", 30), jobs("bob", 30))
    await part.register("w2", "a", "rare")
    assert Counter(tenants(await serve(part, 30, 10, worker="w2", actors=("a", "rare")))) == {"-": 10, "ann": 10, "bob": 10}
    assert len(await serve(part, 1_000, 500, worker="w2", actors=("a", "rare"))) == 600 + 60 - 30


async def test_jobs_of_a_paused_actor_go_back_in_line_when_it_is_resumed(part: Partition) -> None:
    await pause(part, "ab")
    await send(part, jobs("ann", 300, actor="b"))
    assert await claim(part, 10, actors=("a", "b")) == []
    await resume(part, "ab")
    await send(part, jobs("bob", 20))
    assert Counter(tenants(await serve(part, 20, 10, actors=("a", "b")))) == {"ann": 10, "bob": 10}


async def test_job_of_nobody_does_not_pass_tenants_of_a_higher_priority_whose_turns_begin_in_the_same_claim(part: Partition) -> None:
    await part.send(
        job("gated", actor="rare", flow=f"{held()},tann", priority=1),
        job("urgent", actor="rare", flow="teve", priority=2),
        job("nobodys", actor="rare", priority=9),
    )
    assert ids(await part.claim(worker="stranger", under="t1", actors=("other",))) == []
    assert {(await part.state()).place(name) for name in ("gated", "urgent", "nobodys")} == {"lane:q"}
    await part.register("w2", "a", "rare")
    claimed = await part.claim(5, worker="w2", under="t2", actors=("a", "rare"), free=1)
    assert ids(claimed) == ["gated", "urgent", "nobodys"]


async def test_job_that_comes_out_of_an_actors_lane_meets_its_closed_gate_and_waits_there_by_turns(part: Partition) -> None:
    await parked(part, jobs("big", 300, actor="rare", gates=held()))
    await occupied(part)
    await send(part, jobs("bob", 5, gates=held()))
    await part.register("w2", "a", "rare")
    assert await claim(part, 10, worker="w2", actors=("a", "rare")) == []
    await leave(part, 1)
    assert Counter(tenants(await serve(part, 10, 1, worker="w2", actors=("a", "rare")))) == {"big": 5, "bob": 5}


async def test_claim_that_calls_some_back_whose_gate_is_closed_says_that_others_are_left(part: Partition) -> None:
    await parked(part, jobs("big", 300, actor="rare", gates=held()), jobs("big", 1, first=300, actor="rare"))
    await occupied(part)
    await send(part, jobs("bob", 5, gates=held()))
    await part.register("w2", "a", "rare")
    assert await claim(part, 1, worker="w2", actors=("a", "rare")) == ["big.300"]


async def test_claim_without_a_free_slot_calls_back_those_with_gates_and_says_that_others_are_left(part: Partition) -> None:
    await parked(part, jobs("-", 1, actor="rare", gates=held()), jobs("-", 9, first=1, actor="rare"))
    await send(part, jobs("ann", 1))
    await part.register("w2", "a", "rare")
    assert (await part.claim(1, worker="w2", actors=("a", "rare"), free=0)).again
    assert len(await serve(part, 20, worker="w2", actors=("a", "rare"))) == 11
