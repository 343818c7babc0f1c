"""The record of a schedule changes by compare-and-set, together with its jobs; whoever calls again changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import scripts
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import START_MS, ids, job, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

HOUR_MS = 3_600_000
FIRST = "r1 0 0 1"
SECOND = "r1 1 0 2"
RULE = "a.c@q"


async def record(part: Partition, name: str = "n") -> str | None:
    """Return what is stored of a schedule."""
    value = await part.key("HGET", "schedules", name)
    return None if value is None else value.decode()


async def stored(part: Partition, *jobs: Any) -> None:
    """Store a schedule with jobs."""
    assert await part.store.schedule("n", "", f"{FIRST}\0plan", jobs) == (True, [1] * len(jobs))


async def is_taken_away(part: Partition, *names: str) -> bool:
    """Take occurrences away; tell whether the record is as wanted."""
    return (await part.store.schedule("n", FIRST, SECOND, previous=" ".join(names), how="d"))[0]


# -- the record ----------------------------------------------------------------------------------------------------------------------


async def test_a_new_record_and_its_job_are_stored_together(part: Partition) -> None:
    await stored(part, job("n:1", when=f"{START_MS + HOUR_MS:.0f}"))
    assert await record(part) == f"{FIRST}\0plan"
    assert (await part.state()).queues["q"].delayed == {"n:1": START_MS + HOUR_MS}
    assert await part.take_marker(), "a new first of the delayed jobs"


async def test_a_head_alone_keeps_the_rest(part: Partition) -> None:
    await stored(part)
    assert await part.store.schedule("n", FIRST, SECOND, [job("n:2")]) == (True, [1])
    assert await record(part) == f"{SECOND}\0plan"


@pytest.mark.parametrize("expected", ["", "r1 0 0 2", "r2 0 0 1", "r1 0 0 1\0plan"])
async def test_who_expects_another_record_changes_nothing(part: Partition, expected: str) -> None:
    await stored(part, job("n:1"))
    before = await part.state()
    assert await part.store.schedule("n", expected, "r3 0 0 9\0other", [job("n:9")], previous="n:1", how="d") == (False, [])
    assert await record(part) == f"{FIRST}\0plan"
    assert (await part.state()).changes(before) == []


async def test_a_record_that_is_gone_does_not_come_back_by_itself(part: Partition) -> None:
    assert await part.store.schedule("n", FIRST, SECOND, [job("n:2")]) == (False, [])
    assert await record(part) is None
    assert (await part.state()).jobs == {}


async def test_removing_twice_is_removing_once(part: Partition) -> None:
    await stored(part)
    assert [await part.store.schedule("n", FIRST, "") for _ in range(2)] == [(True, []), (True, [])]
    assert await record(part) is None


async def test_of_many_who_expect_the_same_one_inserts(part: Partition) -> None:
    await stored(part)
    answers = await asyncio.gather(*(part.store.schedule("n", FIRST, f"r1 1 0 {n}", [job(f"n:{n}")]) for n in range(2, 10)))
    assert sorted(applied for applied, _ in answers) == [False] * 7 + [True]
    assert len((await part.state()).jobs) == 1


async def test_who_wants_what_is_already_so_is_content(part: Partition) -> None:
    await stored(part)
    answers = [await part.store.schedule("n", FIRST, SECOND, [job("n:2")]) for _ in range(2)]
    assert answers == [(True, [1]), (True, [])]


@pytest.mark.parametrize("script", [scripts.SCHEDULE, scripts.UNSCHEDULE], ids=lambda script: script.name)
async def test_a_call_whose_answer_is_lost_is_applied_once(part: Partition, script: Any) -> None:
    await stored(part, job("n:1"))
    part.link.fail(script, LOST_ANSWER)
    jobs = [job("n:2", when="+500")] if script is scripts.SCHEDULE else []
    assert await part.store.schedule("n", FIRST, SECOND, jobs) == (True, [])
    assert await record(part) == f"{SECOND}\0plan"
    assert sorted((await part.state()).jobs) == ["n:1", *(new.id for new in jobs)]


async def test_a_job_in_a_queue_that_nobody_used_makes_the_queue_known(part: Partition) -> None:
    await stored(part, job("n:1", queue="p"))
    assert await part.store.queues() == ["p"]


async def test_a_drained_queue_gets_no_job_and_the_record_goes_on(part: Partition) -> None:
    await stored(part)
    await part.store.control("pause", "dqq", "{}", ("q",))
    assert await part.store.schedule("n", FIRST, SECOND, [job("n:2")]) == (True, [b"#queue q"])
    assert await record(part) == f"{SECOND}\0plan"


async def test_arguments_that_came_too_late_are_not_kept(part: Partition) -> None:
    await stored(part)
    late = job("n:2", blob=b"x" * 5_000)
    assert await part.store.schedule("n", "r1 0 0 9", SECOND, [late]) == (False, [])
    assert (await part.state()).blobs == {}
    for _ in range(2):
        assert (await part.store.schedule("n", FIRST, SECOND, [late]))[0]
    assert len((await part.state()).blobs) == 1, "a repetition does not take its own away"


# -- taking away ---------------------------------------------------------------------------------------------------------------------


async def test_what_waits_unbegun_is_cancelled_wherever_it_waits(part: Partition) -> None:
    await part.store.control("declare", RULE, "1", ("q",))
    await part.send(job("holds", flow=f"c{RULE}=1"))
    await part.claim()
    await part.send("n:ready", job("n:later", when="+500", queue="p"), job("n:lane", flow=f"c{RULE}=1"))
    await part.send(job("n:late", flow=f"x{START_MS + HOUR_MS:.0f}"))
    await part.store.watch("ann", ["n:ready"])
    await stored(part)
    assert await is_taken_away(part, "n:ready", "n:later", "n:lane", "n:late", "unknown")
    state = await part.state()
    assert set(state.cancelled) == {"n:ready", "n:later", "n:lane", "n:late"}
    assert state.queues["q"].expires == {}
    assert state.watch == {}, "who waits for it has heard of it"


async def test_what_has_begun_is_left_alone(part: Partition) -> None:
    await part.send("n:runs", "n:again", "n:done")
    await part.claim()
    await part.settle(verdict("n:again", "r", b"error", delay_ms=500), verdict("n:done", "c", b"result"))
    await stored(part)
    before = await part.state()
    assert await is_taken_away(part, "n:runs", "n:again", "n:done")
    assert (await part.state()).changes(before) == ["schedules"]


async def test_what_was_taken_away_comes_again_under_its_id(part: Partition) -> None:
    await stored(part, job("n:1", blob=b"x" * 5_000))
    assert await is_taken_away(part, "n:1")
    assert await part.store.schedule("n", SECOND, "r1 0 0 3", [job("n:1", when="+500", arguments=b'{"day":"x"}')]) == (True, [1])
    state = await part.state()
    assert (state.place("n:1"), state.cancelled, state.results, state.blobs) == ("delayed:q", {}, {}, {})
    assert state.jobs["n:1"].endswith(b'{"day":"x"}')


async def test_what_somebody_cancelled_or_what_ran_does_not_come_again(part: Partition) -> None:
    await part.send("n:ran")
    await part.claim()
    await part.settle(verdict("n:ran", "c", b"result"))
    await part.send("n:cancelled")
    await part.store.cancel(["n:cancelled"], "ann")
    await stored(part)
    before = await part.state()
    await part.store.schedule("n", FIRST, SECOND, [job("n:ran"), job("n:cancelled")])
    assert {*(await part.state()).changes(before)} <= {"events", "stats", "schedules"}


# -- one that makes up for others ----------------------------------------------------------------------------------------------------


async def inserted(part: Partition, previous: str) -> list[str]:
    """Make up for what was missed in the hour before now; return what was inserted."""
    before = set((await part.state()).jobs)
    missed_ms = f"{part.now_ms - HOUR_MS:.0f}"
    await stored(part)
    jobs = [job("n:missed", blob=b"x" * 5_000), job("n:next", when="+500")]
    assert (await part.store.schedule("n", FIRST, SECOND, jobs, previous=previous, how=missed_ms))[0]
    return sorted(set((await part.state()).jobs) - before)


@pytest.mark.parametrize("code", ["c", "f"])
async def test_one_that_ended_before_makes_up_for_nothing(part: Partition, code: str) -> None:
    await part.send("n:1")
    await part.claim()
    await part.settle(verdict("n:1", code, b"{}"))
    part.now_ms += 5 * HOUR_MS
    assert await inserted(part, "n:1") == ["n:missed", "n:next"]


async def test_one_that_is_not_known_any_more_makes_up_for_nothing(part: Partition) -> None:
    assert await inserted(part, "n:1") == ["n:missed", "n:next"]


async def test_one_that_was_cancelled_makes_up_for_nothing(part: Partition) -> None:
    await part.send("n:1")
    await part.store.cancel(["n:1"], "ann")
    assert await inserted(part, "n:1") == ["n:missed", "n:next"]


async def test_one_that_still_waits_makes_up_for_all(part: Partition) -> None:
    await part.send(job("n:1", when="+500"))
    part.now_ms += 5 * HOUR_MS
    assert await inserted(part, "n:1") == ["n:next"]


async def test_one_that_waits_for_another_attempt_makes_up_for_all(part: Partition) -> None:
    await part.send("n:1")
    await part.claim()
    await part.settle(verdict("n:1", "r", b"{}", delay_ms=500))
    part.now_ms += 5 * HOUR_MS
    assert await inserted(part, "n:1") == ["n:next"]


@pytest.mark.parametrize("ended", [False, True])
async def test_one_that_was_begun_late_makes_up_for_all(part: Partition, *, ended: bool) -> None:
    await part.send("n:1")
    part.now_ms += 5 * HOUR_MS
    assert ids(await part.claim()) == ["n:1"]
    if ended:
        await part.settle(verdict("n:1", "c", b"{}"))
    part.now_ms += 1
    assert await inserted(part, "n:1") == ["n:next"]


async def test_without_jobs_there_is_nothing_to_make_up_for(part: Partition) -> None:
    await part.send("n:1")
    await stored(part)
    assert await part.store.schedule("n", FIRST, SECOND, previous="n:1", how=f"{part.now_ms:.0f}") == (True, [])
    assert await record(part) == f"{SECOND}\0plan"
