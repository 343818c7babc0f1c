"""enqueue where something is drained: no new job is taken, what is there runs out, and the children of runs are taken all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripts.gated import KEYED, OTHER, complete, declare, gate, held, pause, resume
from tests.scripts.partition import ids, job, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


async def drain(part: Partition, what: str) -> None:
    """Drain: q, a or g and a name."""
    await pause(part, f"d{what}")


async def test_drained_queue_takes_no_new_job_and_runs_out(part: Partition) -> None:
    await part.send("j1", job("later", when="+1000"))
    await drain(part, "qq")
    before = await part.state()
    assert await part.send("j2", job("j3", queue="p"), job("j4", when="+1000")) == [b"#queue q", 1, b"#queue q"]
    after = await part.state()
    assert after.jobs.keys() == {"j1", "later", "j3"}
    assert (after.queues["q"], after.stats["q|a|sent"]) == (before.queues["q"], before.stats["q|a|sent"])
    assert await complete(part, await part.claim()) == ["j1"]
    part.now_ms += 1_000
    assert await complete(part, await part.claim(under="t2"), "t2") == ["later"]


async def test_drained_actor_takes_no_new_job_in_any_queue(part: Partition) -> None:
    await drain(part, "aa")
    assert await part.send("j1", job("j2", queue="p"), job("j3", actor="b")) == [b"#actor a", b"#actor a", 1]


async def test_drained_key_takes_no_new_job_and_others_do(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", flow=held()), job("j2", flow=held()))
    await drain(part, f"g{gate()}")
    name = f"#key {gate()}".encode()
    assert await part.send(job("j3", flow=held()), job("j4", flow=f"{held(1, OTHER)},{held()}"), job("j5", flow=held(2))) == [name, name, 1]
    assert ids(await part.claim()) == ["j1", "j5"]
    await part.settle(verdict("j1", "c", b"1"))
    assert ids(await part.claim(under="t2")) == ["j2"]


async def test_names_are_whole(part: Partition) -> None:
    await declare(part)
    for what in ("q", "qqq", "a", "aab", f"g{KEYED}", f"g{gate(11)}", "gq", "qa", "aq"):
        await drain(part, what)
    assert await part.send("j1", job("j2", flow=held())) == [1, 1]


async def test_known_job_is_known_in_a_drained_queue(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim(1)
    await part.settle(verdict("j1", "c", b"1"))
    await drain(part, "qq")
    assert await part.send("j1", "j2", job("j2", arguments=b"[]")) == [1, 1, 0], "a send that is repeated hears what it heard"


@pytest.mark.parametrize("how", ["e", "r", "j"])
async def test_drain_goes_before_a_unique_key(part: Partition, how: str) -> None:
    await part.send(job("old", flow=f"ua:1*f*{how}"))
    await drain(part, "qq")
    assert await part.send(job("new", flow=f"ua:1*f*{how}", arguments=b"[1]")) == [b"#queue q"]
    assert (await part.state()).places() == {"old": ["ready:q"]}


async def test_children_of_a_run_are_taken(part: Partition) -> None:
    await declare(part)
    await part.send("j1")
    await part.claim()
    for what in ("qq", "aa", f"g{gate()}"):
        await drain(part, what)
    children = [job("c1"), job("c2", flow=held()), job("c3", queue="p")]
    assert await part.settle(verdict("j1", "c", b"1", children=children)) == [1]
    assert (await part.state()).jobs.keys() == {"j1", "c1", "c2", "c3"}
    assert ids(await part.claim(under="t2")) == ["c1", "c2"]


@pytest.mark.parametrize("code", ["r", "s", "x"])
async def test_job_that_comes_back_is_no_new_one(part: Partition, code: str) -> None:
    await part.send("j1")
    await part.claim()
    await drain(part, "qq")
    words = ("", "") if code == "x" else ("p3", "r7")
    assert await part.settle(verdict("j1", code, b"{}", words=words)) == [1]
    assert ids(await part.claim(under="t2")) == ["j1"]


async def test_lost_job_is_no_new_one(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await drain(part, "qq")
    await part.store.expire_worker("w1", ["q"], died=True)
    assert ids(await part.claim(under="t2")) == ["j1"]


@pytest.mark.parametrize("what", ["qq", "aa", f"g{gate()}"])
async def test_resume_lifts_both_a_pause_and_a_drain(part: Partition, what: str) -> None:
    await declare(part)
    await part.send(job("j1", flow=held()))
    await pause(part, what)
    await drain(part, what)
    assert ids(await part.claim()) == []
    assert len(await part.send(job("j2", flow=held()))) == 1
    await resume(part, what)
    assert await part.key("HLEN", "control") == 0
    assert await part.send(job("j2", flow=held(2))) == [1]
    assert sorted(ids(await part.claim(under="t2"))) == ["j1", "j2"]


async def test_drain_alone_pauses_nothing(part: Partition) -> None:
    await declare(part)
    await part.send("j1", job("j2", flow=held()))
    for what in ("qq", "aa", f"g{gate()}"):
        await drain(part, what)
    assert ids(await part.claim()) == ["j1", "j2"]


async def test_pause_alone_drains_nothing(part: Partition) -> None:
    await declare(part)
    for what in ("qq", "aa", f"g{gate()}"):
        await pause(part, what)
    assert await part.send("j1", job("j2", flow=held())) == [1, 1]


async def test_arguments_apart_of_a_job_that_is_refused_are_not_left_behind(part: Partition) -> None:
    await drain(part, "qq")
    assert await part.send(job("j1", blob=b"x" * 5_000)) == [b"#queue q"]
    state = await part.state()
    assert (state.blobs, state.jobs, state.runs) == ({}, {}, {})
