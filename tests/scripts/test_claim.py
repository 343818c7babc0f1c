"""claim: what is ready is leased in order, once, under one token; the marker is set again only while there is work to claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.new_jobs import NewJob
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, rank, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition


async def test_empty_queue_gives_nothing(part: Partition) -> None:
    before = await part.state()
    claimed = await part.claim()
    assert claimed == (START_MS, -1, False, [], [])
    assert (await part.state()).changes(before) == []


async def test_job_is_leased_held_and_has_a_token(part: Partition) -> None:
    await part.send("j1")
    claimed = await part.claim()
    run = b"t1 w1 %d 1 1 0 %d - " % (rank(5, START_MS), START_MS)
    assert claimed.deliveries == [(b"j1", "q", b"%d" % rank(5, START_MS), b"a\0none\0{}", b"t1 1 - ")]
    state = await part.state()
    assert state.runs == {"j1": run}
    assert state.held == {("w1", "j1")}
    assert state.queues["q"].leased == {"j1": START_MS + LEASE_MS}
    assert state.queues["q"].ready == {}
    assert claimed.next_due_ms == START_MS + LEASE_MS
    assert not claimed.again


async def test_order_is_priority_then_time_then_id(part: Partition) -> None:
    await part.send(job("late-b", priority=9), "z", "y")
    part.now_ms += 1
    await part.send("a", job("first", priority=0), job("late-a", priority=9))
    assert ids(await part.claim()) == ["first", "y", "z", "a", "late-b", "late-a"]


async def test_capacity_is_not_exceeded(part: Partition) -> None:
    await part.send("j1", "j2", "j3")
    claimed = await part.claim(2)
    assert ids(claimed) == ["j1", "j2"]
    assert claimed.again
    assert (await part.state()).places() == {"j1": ["leased:q"], "j2": ["leased:q"], "j3": ["ready:q"]}


async def test_capacity_is_shared_by_the_queues_in_their_order(part: Partition) -> None:
    await part.send(*(job(f"{queue}{n}", queue=queue) for queue in "qp" for n in range(2)))
    claimed = await part.claim(3, queues=("p", "q"))
    assert [(delivery.id, delivery.queue) for delivery in claimed.deliveries] == [(b"p0", "p"), (b"p1", "p"), (b"q0", "q")]
    assert claimed.again


async def test_queues_that_were_not_named_are_left_alone(part: Partition) -> None:
    await part.send(job("j1", queue="p"), job("j2", queue="p", when="+1"))
    before = await part.state()
    part.now_ms += 10
    assert await part.claim(queues=("q",)) == (part.now_ms, -1, False, [], [])
    assert (await part.state()).changes(before) == []


@pytest.mark.parametrize(("workers", "share"), [(1, 10), (2, 5), (3, 4), (4, 3), (20, 1)])
async def test_ready_jobs_are_shared_among_live_workers(part: Partition, workers: int, share: int) -> None:
    await part.send(*(f"j{n}" for n in range(10)))
    for n in range(workers):
        await part.store.beat(f"w{n}", b"{}", [])
    claimed = await part.claim()
    assert len(claimed.deliveries) == share
    assert claimed.again == (share < 10)


async def test_marker_and_again_tell_that_work_is_left(part: Partition) -> None:
    await part.send("j1", "j2", job("j3", queue="p"))
    await part.take_marker("q")
    await part.take_marker("p")
    assert (await part.claim(1, queues=("q", "p"))).again
    assert (await part.take_marker("q"), await part.take_marker("p")) == (True, True)
    assert not (await part.claim(queues=("q", "p"))).again
    assert (await part.take_marker("q"), await part.take_marker("p")) == (False, False)


async def test_marker_stays_off_for_what_is_not_due(part: Partition) -> None:
    await part.send("j1", job("j2", when="+500"))
    await part.take_marker()
    claimed = await part.claim()
    assert ids(claimed) == ["j1"]
    assert (claimed.again, claimed.next_due_ms) == (False, START_MS + 500)
    assert not await part.take_marker()


async def test_due_jobs_are_promoted_at_the_rank_of_their_time(part: Partition) -> None:
    await part.send(job("j1", when="+500"), job("j2", when="+300", priority=9), job("j3", when="+501"), job("j4", when="+400"))
    part.now_ms += 500
    await part.send("fresh")
    claimed = await part.claim()
    assert ids(claimed) == ["j4", "fresh", "j1", "j2"]
    ranks = {delivery.id: float(delivery.rank) for delivery in claimed.deliveries}
    assert ranks == {
        b"j4": rank(5, START_MS + 400),
        b"j1": rank(5, START_MS + 500),
        b"fresh": rank(5, START_MS + 500),
        b"j2": rank(9, START_MS + 300),
    }
    assert (await part.state()).place("j3") == "delayed:q"
    assert claimed.next_due_ms == START_MS + 501


async def test_promoted_jobs_that_find_no_room_stay_ready(part: Partition) -> None:
    await part.send(job("j1", when="+1"), job("j2", when="+1"))
    await part.take_marker()
    part.now_ms += 1
    claimed = await part.claim(1)
    assert (ids(claimed), claimed.again) == (["j1"], True)
    assert (await part.state()).place("j2") == "ready:q"
    assert await part.take_marker()


async def test_expired_lease_goes_back_at_its_old_rank_with_the_attempt_charged(part: Partition) -> None:
    await part.send(job("j1", priority=3))
    await part.claim(under="t1")
    part.now_ms += LEASE_MS
    await part.register("w1", "a")
    await part.send(job("later", priority=3))
    claimed = await part.claim(worker="w2", under="t2")
    assert ids(claimed) == ["j1", "later"]
    assert float(claimed.deliveries[0].rank) == rank(3, START_MS)
    state = await part.state()
    run = state.run("j1")
    assert (run.token, run.worker, run.deliveries, run.attempts, run.losses) == ("t2", "w2", 2, 2, 1)
    assert run.history == f"l,{START_MS:.0f},{START_MS + LEASE_MS:.0f},w1"
    assert state.held == {("w2", "j1"), ("w2", "later")}
    assert state.stats["q|*|lost"] == 1


async def test_run_begins_when_the_one_before_has_ended_and_no_earlier(part: Partition) -> None:
    await part.send("j1")
    await part.claim(under="t1")
    part.now_ms += LEASE_MS + 0.75
    await part.claim(worker="w2", under="t2")
    run = (await part.state()).run("j1")
    _, started, ended, _ = run.history.split(",")
    assert (float(started), float(ended), run.started_ms) == (START_MS, START_MS + LEASE_MS, START_MS + LEASE_MS)


async def test_lease_holds_until_its_last_millisecond(part: Partition) -> None:
    await part.send("j1")
    await part.claim(lease_ms=1_000)
    part.now_ms += 999
    assert (await part.claim(worker="w2", under="t2")).deliveries == []
    part.now_ms += 1
    assert ids(await part.claim(worker="w2", under="t2")) == ["j1"]


async def test_history_keeps_the_last_ten_runs(part: Partition) -> None:
    await part.send("j1")
    for n in range(12):
        await part.claim(under=f"t{n}")
        part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    history = (await part.state()).run("j1").history.split(";")
    starts = [float(entry.split(",")[1]) for entry in history]
    assert starts == [START_MS + n * LEASE_MS for n in range(11, 1, -1)]


async def test_resent_claim_gets_what_its_token_holds(part: Partition) -> None:
    await part.send("j1", "j2")
    claimed = await part.claim_twice()
    assert ids(claimed) == ["j1", "j2"]
    state = await part.state()
    assert [state.run(name).deliveries for name in ("j1", "j2")] == [1, 1]
    assert [delivery.lease for delivery in claimed.deliveries] == [b"t1 1 - "] * 2
    assert [delivery.record for delivery in claimed.deliveries] == [b"a\0none\0{}"] * 2


async def test_resent_claim_fills_up_to_its_capacity_and_no_further(part: Partition) -> None:
    await part.send("j1", "j2", "j3", "j4")
    await part.claim(1, under="other")
    claimed = await part.claim_twice(2)
    assert ids(claimed) == ["j2", "j3"]
    assert claimed.again
    assert (await part.state()).place("j4") == "ready:q"


async def test_resent_claim_returns_neither_other_tokens_nor_other_workers(part: Partition) -> None:
    await part.send("j1", "j2", "j3")
    await part.claim(1, under="t0")
    await part.claim(1, worker="w2", under="t1")
    assert ids(await part.claim_twice()) == ["j3"]
    assert (await part.state()).held == {("w1", "j1"), ("w2", "j2"), ("w1", "j3")}


async def test_resent_claim_names_the_queue_of_each_job(part: Partition) -> None:
    await part.send(job("j1", queue="p"), "j2")
    claimed = await part.claim_twice(queues=("q", "p"))
    assert {delivery.id: delivery.queue for delivery in claimed.deliveries} == {b"j1": "p", b"j2": "q"}


async def test_resent_claim_does_not_return_what_was_settled_meanwhile(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim()
    await part.settle(verdict("j1", "c", b"null"))
    reply = await part.raw(scripts.CLAIM, ["q"], part.now_ms, "", "w1", "t1", LEASE_MS, 10, "\0a\0", "r", 10, 0)
    assert reply[4:][::5] == [b"j2"]


async def test_resent_claim_leases_once_what_its_token_has_lost_meanwhile(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim()
    part.now_ms += LEASE_MS
    reply = await part.raw(scripts.CLAIM, ["q"], part.now_ms, "", "w1", "t1", LEASE_MS, 10, "\0a\0", "r", 10, 0)
    assert reply[4:][::5] == [b"j1", b"j2"]
    state = await part.state()
    assert state.queues["q"].leased == {"j1": part.now_ms + LEASE_MS, "j2": part.now_ms + LEASE_MS}
    assert (state.run("j1").deliveries, state.run("j1").losses) == (2, 1)


async def test_resent_claim_finds_its_token_among_many_leases(part: Partition) -> None:
    for first in range(0, 600, 200):
        await part.send(*(f"j{n:03}" for n in range(first, first + 200)))
        await part.claim(200, under=f"t{first}")
    await part.send("last", "a-first")
    assert ids(await part.claim_twice(2, under="t1")) == ["a-first", "last"]
    assert len((await part.state()).held) == 602


async def test_ready_id_without_a_record_is_dropped(part: Partition) -> None:
    await part.send("j1", "ghost", "j2")
    await part.key("HDEL", "jobs", "ghost")
    assert ids(await part.claim()) == ["j1", "j2"]
    assert "ghost" not in (await part.state()).places()


async def test_delayed_id_without_a_record_is_dropped_when_it_is_due(part: Partition) -> None:
    await part.send(job("ghost", when="+1", priority=1))
    await part.key("HDEL", "jobs", "ghost")
    part.now_ms += 1
    assert (await part.claim()).deliveries == []
    state = await part.state()
    assert state.places() == {}
    assert state.runs == {}, "what is left of its run would never go away"


async def test_only_ghosts_leave_no_marker(part: Partition) -> None:
    await part.send("ghost")
    await part.take_marker()
    await part.key("HDEL", "jobs", "ghost")
    assert not (await part.claim()).again
    assert not await part.take_marker()


async def test_five_hundred_jobs_are_examined_at_most(part: Partition) -> None:
    for first in range(0, 600, 200):
        await part.send(*(job(f"g{n}") for n in range(first, first + 200)))
    names = [f"g{n}" for n in range(600)]
    await part.key("HDEL", "jobs", *names)
    await part.send(job("last", priority=9))
    claimed = await part.claim()
    assert (claimed.deliveries, claimed.again) == ([], True)
    assert len((await part.state()).queues["q"].ready) == 101
    claimed = await part.claim()
    assert (ids(claimed), claimed.again) == (["last"], False)


async def test_more_due_jobs_than_a_call_moves_are_announced(part: Partition) -> None:
    for first in range(0, 600, 200):
        await part.send(*(job(f"j{n:03}", when="+1") for n in range(first, first + 200)))
    await part.take_marker()
    part.now_ms += 1
    claimed = await part.claim(500)
    assert (len(claimed.deliveries), claimed.again) == (500, True)
    assert await part.take_marker()
    state = await part.state()
    assert len(state.queues["q"].delayed) == 100
    claimed = await part.claim(500, under="t2")
    assert (len(claimed.deliveries), claimed.again) == (100, False)


async def test_more_expired_leases_than_a_call_moves_are_announced(part: Partition) -> None:
    for first in range(0, 600, 200):
        await part.send(*(f"j{n:03}" for n in range(first, first + 200)))
        await part.claim(200, under=f"t{first}")
    part.now_ms += LEASE_MS
    await part.register("w1", "a")
    await part.take_marker()
    claimed = await part.claim(500, worker="w2", under="t2")
    assert (len(claimed.deliveries), claimed.again) == (500, True)
    assert await part.take_marker()
    assert len(ids(await part.claim(500, worker="w2", under="t3"))) == 100
    assert {worker for worker, _ in (await part.state()).held} == {"w2"}


async def test_next_due_is_the_earliest_of_every_queue(part: Partition) -> None:
    await part.send(job("j1", when="+900"), job("j2", when="+700", queue="p"))
    assert (await part.claim(queues=("q", "p"))).next_due_ms == START_MS + 700
    await part.send("j3")
    assert (await part.claim(queues=("q", "p"), lease_ms=200)).next_due_ms == START_MS + 200


async def test_one_event_and_one_count_a_call(part: Partition) -> None:
    await part.send("j1", "j2")
    before = await part.state()
    await part.claim()
    after = await part.state()
    assert after.events[len(before.events) :] == (("claim", "w1", 2, ("j1", "j2")),)
    assert after.stats == before.stats


async def test_server_time_is_used_where_none_is_given(part: Partition) -> None:
    part.store.clock = None
    await part.send("j1", job("j2", when="+60000"))
    seconds, micros = await part.store.command("TIME")
    claimed = await part.claim()
    before = int(seconds) * 1000 + int(micros) / 1000
    assert ids(claimed) == ["j1"]
    assert before <= claimed.now_ms < before + 60_000
    assert before + LEASE_MS - 1 <= claimed.next_due_ms < before + 60_000


async def test_twenty_queues_share_one_call(part: Partition) -> None:
    part.queues = tuple(f"queue/{n}" for n in range(20))
    await part.store.enqueue([NewJob(queue, f"j{queue}", b"a\0none\0{}") for queue in part.queues])
    claimed = await part.claim(queues=part.queues)
    assert [delivery.queue for delivery in claimed.deliveries] == list(part.queues)
