"""inspect: where a job is and all that is stored of it; nothing is changed by looking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.store import Placed
from angelrt.views import read_outcome
from tests.scripts.partition import LEASE_MS, START_MS, job, rank, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

BIG = b"x" * 5_000
RECORD = b"a\0none\0{}"


async def inspect(part: Partition, *names: str) -> list[Placed]:
    """Look at jobs, and check that looking changed nothing."""
    before = await part.state()
    found = await part.store.inspect(names)
    assert (await part.state()).changes(before) == []
    return found


async def test_unknown_job_has_no_state(part: Partition) -> None:
    assert await inspect(part, "never-sent") == [Placed("never-sent", "", "", 0.0, b"", b"", b"", b"")]


async def test_ready_job(part: Partition) -> None:
    await part.send(job("j1", queue="p", priority=3))
    assert await inspect(part, "j1") == [Placed("j1", "ready", "p", rank(3, START_MS), RECORD, b"", b"", b"")]


async def test_delayed_job(part: Partition) -> None:
    await part.send(job("j1", when="+500"))
    assert await inspect(part, "j1") == [Placed("j1", "delayed", "q", START_MS + 500, RECORD, b"", b"", b"")]


async def test_leased_job_with_its_note(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", "n", b"half"))
    run = (await part.state()).runs["j1"]
    assert run.startswith(b"t1 ")
    assert await inspect(part, "j1") == [Placed("j1", "leased", "q", START_MS + LEASE_MS, RECORD, run, b"", b"half")]


async def test_parked_job(part: Partition) -> None:
    await part.send(job("j1", actor="rare", queue="p", priority=7))
    await part.claim(queues=("p",))
    [found] = await inspect(part, "j1")
    assert (found.state, found.queue, found.score) == ("lane", "p", rank(7, START_MS))


async def test_parked_job_that_had_been_retried(part: Partition) -> None:
    await part.send(job("j1", actor="rare", priority=7))
    await part.claim(actors=("rare",))
    await part.settle(verdict("j1", "r", b"error", delay_ms=500))
    part.now_ms += 500
    await part.claim(worker="w2", under="t2")
    [found] = await inspect(part, "j1")
    assert (found.state, found.score) == ("lane", rank(7, START_MS + 500))
    assert read_outcome(found.result)[-1] == b"error"


@pytest.mark.parametrize(("code", "state"), [("c", "completed"), ("f", "failed"), ("k", "cancelled")])
@pytest.mark.parametrize("payload", [b"payload", BIG], ids=["small", "big"])
async def test_job_that_ended(part: Partition, code: str, state: str, payload: bytes) -> None:
    await part.send("j1")
    await part.claim()
    part.now_ms += 100
    await part.settle(verdict("j1", code, payload))
    [found] = await inspect(part, "j1")
    assert (found.state, found.queue, found.score, found.run) == (state, "", START_MS + 100, b"")
    assert read_outcome(found.result)[-1] == payload


async def test_retried_job_shows_its_run_and_its_last_error(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", "r", BIG))
    [found] = await inspect(part, "j1")
    assert (found.state, found.score) == ("ready", rank(5, START_MS))
    assert found.run.startswith(b"!t1 w1 ")
    assert read_outcome(found.result)[-1] == BIG


async def test_id_without_a_record_has_no_state(part: Partition) -> None:
    await part.send("ghost")
    await part.key("HDEL", "jobs", "ghost")
    assert [found.state for found in await inspect(part, "ghost")] == [""]
    await part.claim()


async def test_many_jobs_are_answered_in_order(part: Partition) -> None:
    names = [f"j{n:03}" for n in range(450)]
    for first in range(0, 450, 150):
        await part.send(*names[first : first + 150])
    wanted = [*reversed(names), "never-sent", *names[:5]]
    found = await inspect(part, *wanted)
    assert [placed.id for placed in found] == wanted
    assert [placed.state for placed in found] == ["ready"] * 450 + [""] + ["ready"] * 5


async def test_nothing_to_inspect_is_no_error(part: Partition) -> None:
    assert await part.raw(scripts.INSPECT, []) == []
