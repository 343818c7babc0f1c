"""claim: jobs of an actor that the worker does not know wait in the actor's lane, for one that does."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from angelrt.errors import RedisRefused
from tests.scripts.gated import pause, resume
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, rank, verdict
from tests.state import problems

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

COMMANDS_MAX: Final = 100


async def test_job_of_an_unknown_actor_is_parked_and_named(part: Partition) -> None:
    await part.send(job("j1", actor="rare", priority=2))
    claimed = await part.claim()
    assert (claimed.deliveries, claimed.parked, claimed.again) == ([], ["rare"], False)
    state = await part.state()
    [waiter] = state.queues["q"].lanes
    assert (waiter.rank, waiter.id) == (rank(2, START_MS), "j1")
    assert state.queues["q"].opens == {waiter.lane: -START_MS}, "below zero: no claim looks at it but those that know the actor"
    assert state.place("j1") == "lane:q"
    assert (state.run("j1").token, state.run("j1").rank, state.run("j1").deliveries) == ("!", rank(2, START_MS), 0)
    assert state.held == frozenset()


async def test_parking_wakes_a_worker_that_may_know_the_actor(part: Partition) -> None:
    await part.send(job("j1", actor="rare"))
    await part.take_marker()
    await part.claim()
    assert await part.take_marker()
    assert (await part.claim()).parked == []
    assert not await part.take_marker(), "nothing has changed: a worker that does not know the actor would spin"


async def test_known_jobs_behind_unknown_ones_are_reached(part: Partition) -> None:
    await part.send(*(job(f"r{n}", actor="rare", priority=0) for n in range(20)), "j1")
    claimed = await part.claim(1)
    assert (ids(claimed), claimed.again) == (["j1"], False)
    assert len((await part.state()).queues["q"].lanes) == 20


async def test_each_unknown_actor_is_named_once(part: Partition) -> None:
    await part.send(job("j1", actor="rare"), job("j2", actor="odd"), job("j3", actor="rare"))
    assert (await part.claim()).parked == ["rare", "odd"]


async def test_worker_that_knows_the_actor_is_served_in_the_order_of_rank(part: Partition) -> None:
    await part.send(
        job("late", actor="rare", priority=9), job("z", actor="rare"), job("b", actor="rare"), job("first", actor="rare", priority=0)
    )
    await part.claim()
    await part.take_marker()
    claimed = await part.claim(worker="w2", under="t2", actors=("rare",))
    assert ids(claimed) == ["first", "b", "z", "late"]
    assert [float(delivery.rank) for delivery in claimed.deliveries] == [rank(p, START_MS) for p in (0, 5, 5, 9)]
    state = await part.state()
    assert state.queues["q"].lanes == ()
    assert state.held == {("w2", name) for name in ("first", "b", "z", "late")}
    assert (state.run("b").deliveries, state.run("b").attempts) == (1, 1)


async def test_open_lanes_and_what_is_ready_are_served_in_one_order_of_rank(part: Partition) -> None:
    await part.park("j2-parked")
    await part.send(job("j4-parked", actor="odd", priority=7))
    await part.claim(worker="stranger", under="parking", actors=("other",))
    await part.send(job("j3", priority=6), job("j1", priority=0), job("j5", priority=9))
    order: list[str] = []
    for n in range(5):
        claimed = await part.claim(1, under=f"t{n}", actors=("rare", "odd", "a"))
        order += ids(claimed)
        assert claimed.again == (n < 4)
    assert order == ["j1", "j2-parked", "j3", "j4-parked", "j5"]


async def test_one_claim_takes_from_lanes_and_from_ready_what_is_first(part: Partition) -> None:
    await part.send(job("j2", actor="rare", priority=2), job("j4", actor="rare", priority=4))
    await part.claim(worker="stranger", under="parking", actors=("other",))
    await part.send(job("j1", priority=1), job("j3", priority=3), job("j5"))
    claimed = await part.claim(3, actors=("rare", "a"))
    assert (ids(claimed), claimed.again) == (["j1", "j2", "j3"], True)
    assert (await part.state()).places() == {
        **{name: ["leased:q"] for name in ("j1", "j2", "j3")},
        "j4": ["lane:q"],
        "j5": ["ready:q"],
    }


async def test_lane_with_more_than_fits_stays_announced(part: Partition) -> None:
    await part.park("j1", "j2", "j3")
    await part.take_marker()
    claimed = await part.claim(2, actors=("rare",))
    assert ids(claimed) == ["j1", "j2"]
    assert claimed.again, "a third job of this lane could be claimed at once"
    assert await part.take_marker()
    claimed = await part.claim(2, actors=("rare",))
    assert (ids(claimed), claimed.again) == (["j3"], False)
    assert not await part.take_marker()


async def test_lane_stays_announced_when_there_is_no_room_for_it_at_all(part: Partition) -> None:
    await part.park("j1")
    await part.park("j2", queue="p")
    await part.take_marker("p")
    claimed = await part.claim(1, queues=("q", "p"), actors=("rare",))
    assert (ids(claimed), claimed.again) == (["j1"], True)
    assert await part.take_marker("p")


async def test_empty_lane_loses_its_mark(part: Partition) -> None:
    await part.park("j1")
    await part.claim(actors=("rare",))
    await part.claim(actors=("rare",), under="t2")
    assert (await part.state()).queues["q"].opens == {}


async def test_worker_that_knows_the_actor_is_served_from_both_of_its_queues(part: Partition) -> None:
    """Parked by one call, in two queues: each of the two lanes is open."""
    await part.register("w2", "rare", queues=("q", "p"))
    await part.send(job("j1", actor="rare"), job("j2", actor="rare", queue="p"))
    await part.take_marker("p")
    await part.claim(queues=("q", "p"))
    assert await part.take_marker("p")
    assert ids(await part.claim(worker="w2", under="t2", queues=("q", "p"), actors=("rare",))) == ["j1", "j2"]


async def test_many_lanes_of_unknown_actors_hide_none_that_is_known(part: Partition) -> None:
    await part.register("w2", "known")
    await part.send(*(job(f"j{n}", actor=f"gone{n}") for n in range(12)))
    await part.claim()
    part.now_ms += 1
    await part.send(job("j-known", actor="known"))
    await part.claim()
    served: list[str] = []
    for n in range(3):
        served += ids(await part.claim(worker="w2", under=f"t{n}", actors=("known",)))
    assert served == ["j-known"]
    assert len((await part.state()).queues["q"].lanes) == 12


async def test_parked_job_keeps_its_attempts(part: Partition) -> None:
    await part.send(job("j1", actor="rare"))
    await part.claim(actors=("rare",))
    await part.settle(verdict("j1", "r", b"{}"))
    await part.claim(worker="w2", under="t2")
    state = await part.state()
    assert state.place("j1") == "lane:q"
    run = state.run("j1")
    assert (run.token, run.deliveries, run.attempts, run.rank) == ("!t1", 1, 1, rank(5, START_MS))
    claimed = await part.claim(worker="w3", under="t3", actors=("rare",))
    assert claimed.deliveries[0].lease.startswith(b"t3 2 - r,")
    assert (await part.state()).runs["j1"].startswith(b"t3 w3 %d 2 2 0 " % rank(5, START_MS))


async def test_expired_lease_of_an_unknown_actor_is_parked(part: Partition) -> None:
    await part.send(job("j1", actor="rare"))
    await part.claim(actors=("rare",))
    part.now_ms += LEASE_MS
    claimed = await part.claim(worker="w2", under="t2")
    assert (claimed.deliveries, claimed.parked) == ([], ["rare"])
    state = await part.state()
    assert (state.place("j1"), state.run("j1").losses, state.held) == ("lane:q", 1, frozenset())


async def test_record_that_is_gone_frees_its_place_in_the_lane_and_harms_no_other(part: Partition) -> None:
    await part.park("ghost", "j2", "j3")
    await part.key("HDEL", "jobs", "ghost")
    await part.claim()
    state = await part.state()
    assert state.place("j2") == state.place("j3") == "lane:q"
    served: list[str] = []
    for n in range(3):
        claimed = await part.claim(1, actors=("rare",), under=f"t{n}")
        served += ids(claimed)
        assert claimed.again == (len(served) < 2)
    assert served == ["j2", "j3"]
    assert "ghost" not in (await part.state()).places()


async def test_actor_is_known_by_its_whole_name(part: Partition) -> None:
    await part.send(job("j1", actor="pay"), job("j2", actor="pay.refund"), job("j3", actor="y"))
    claimed = await part.claim(actors=("pay.refund", "repay"))
    assert (ids(claimed), claimed.parked) == (["j2"], ["pay", "y"])


async def test_worker_without_actors_parks_everything(part: Partition) -> None:
    await part.send("j1")
    assert (await part.claim(actors=())).parked == ["a"]


async def test_resent_claim_returns_what_it_took_from_a_lane(part: Partition) -> None:
    await part.park("j1", "j2")
    claimed = await part.claim_twice(1, actors=("rare",))
    assert ids(claimed) == ["j1"]
    assert (await part.state()).run("j1").deliveries == 1


async def look(part: Partition, worker: str, *actors: str) -> list[str]:
    """Claim one job a little later than the last call; answer what came."""
    part.now_ms += 0.25
    return ids(await part.claim(1, worker=worker, under=f"{worker}-{part.now_ms}", actors=actors))


async def test_marker_comes_to_the_worker_that_has_the_actor_past_two_that_lack_it(part: Partition) -> None:
    for worker, actor in (("old1", "other"), ("old2", "other"), ("new", "rare")):
        await look(part, worker, actor)
    await part.send(job("j1", actor="rare"))
    for worker in ("old1", "old2"):
        assert await part.take_marker()
        assert await look(part, worker, "other") == []
    assert await part.take_marker(), "new sleeps beside the job that only it can run"
    assert await look(part, "new", "rare") == ["j1"]


async def test_worker_hands_the_marker_on_once_for_each_mark(part: Partition) -> None:
    for number in range(2):
        await part.send(job(f"j{number}", actor="rare"))
        for worker in ("old1", "old2"):
            assert await part.take_marker()
            await look(part, worker, "other")
        assert await part.take_marker()
        await look(part, "old1", "other")
        assert not await part.take_marker(), "two that lack the actor would wake each other for ever"


async def test_worker_that_has_the_actor_hands_nothing_on(part: Partition) -> None:
    await part.park("j1")
    await part.take_marker()
    assert await look(part, "new", "rare") == ["j1"]
    assert not await part.take_marker()


async def test_newer_mark_of_a_known_actor_does_not_hide_that_of_a_missing_one(part: Partition) -> None:
    await part.send(job("j1", actor="rare"))
    await look(part, "old", "other")
    await part.send(job("j2", actor="half"))
    await look(part, "old", "other")
    await part.take_marker()
    assert await look(part, "half", "half") == ["j2"]
    assert await part.take_marker(), "who has rare is not told"


async def test_mark_of_one_queue_does_not_hide_that_of_another(part: Partition) -> None:
    await part.send(job("j1", actor="rare", queue="q"), job("j2", actor="rare", queue="p"))
    for queue in ("q", "p"):
        part.now_ms += 1
        await part.claim(worker="old", actors=("other",), queues=(queue,))
        await part.take_marker(queue)
    part.now_ms += 1
    await part.claim(worker="next", actors=("other",), queues=("q", "p"))
    assert [await part.take_marker(queue) for queue in ("q", "p")] == [True, True]


async def test_claim_that_is_sent_again_hands_the_marker_on(part: Partition) -> None:
    await part.park("j1")
    await part.take_marker()
    part.now_ms += 1
    await part.claim_twice(worker="old", actors=("other",))
    assert await part.take_marker()
    await look(part, "old", "other")
    assert not await part.take_marker()


@pytest.mark.parametrize("what", ["arare", "qq"])
async def test_resume_comes_to_the_worker_that_has_the_actor_past_one_that_lacks_it(part: Partition, what: str) -> None:
    await part.park("j1")
    await look(part, "old", "other")
    await pause(part, what)
    await look(part, "new", "rare")
    await part.take_marker()
    part.now_ms += 1
    await resume(part, what)
    assert await part.take_marker()
    await look(part, "old", "other")  # it has waited longest
    assert await part.take_marker(), "new sleeps beside the job that only it can run"


async def test_nobody_is_woken_for_a_lane_of_a_paused_queue(part: Partition) -> None:
    await part.park("j1")
    await part.take_marker()
    await pause(part, "qq")
    await look(part, "old", "other")
    assert not await part.take_marker()


async def test_mark_from_before_the_clock_was_put_back_wakes_nobody_until_its_time(part: Partition) -> None:
    await part.park("j1")
    await part.take_marker()
    part.now_ms -= 1_000
    for _ in range(2):
        await look(part, "old", "other")
        assert not await part.take_marker(), "each look would ask for another one"
    part.now_ms += 1_000
    await look(part, "old", "other")
    assert await part.take_marker()


async def test_job_that_a_broken_claim_has_left_in_ready_and_in_a_lane_runs_once(part: Partition) -> None:
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        await part.send(job("j1", actor="rare"), job("j2", actor="rare"))
        part.link.fail(scripts.CLAIM, at, resend=False)
        with suppress(RedisRefused):
            await part.claim()
        has_broken = bool(part.link.broken_at)
        run: list[str] = []
        for number in range(6):
            claimed = ids(await part.claim(1, worker="w2", under=f"t{number}", actors=("rare",)))
            await part.settle(*(verdict(each, "c", b"1", under=f"t{number}") for each in claimed), worker="w2")
            run += claimed
        assert run == ["j1", "j2"], f"broken before command {at}"
        assert problems(await part.state()) == []
        if not has_broken:
            return
    message = "the call never ran to its end"
    raise AssertionError(message)
