"""enqueue: an id is stored once, in one place, whatever is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import NoScriptError

from angelrt import scripts
from angelrt.link import Link
from angelrt.new_jobs import NewJob
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import START_MS, ids, job, rank, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.scripts.partition import Partition

BIG = b"x" * 5_000


async def test_new_jobs_are_ready(part: Partition) -> None:
    assert await part.send("j1", "j2") == [1, 1]
    state = await part.state()
    assert state.jobs == {"j1": b"a\0none\0{}", "j2": b"a\0none\0{}"}
    assert state.queues["q"].ready == {"j1": rank(5, START_MS), "j2": rank(5, START_MS)}
    assert (state.runs, state.blobs, state.held) == ({}, {}, frozenset())
    assert state.registered == {"q"}
    assert state.queues["q"].wake


async def test_nothing_to_send_changes_nothing(part: Partition) -> None:
    before = await part.state()
    assert await part.raw(scripts.ENQUEUE, [], "", "", part.packed()) == []
    assert (await part.state()).changes(before) == []


async def test_resent_record_is_accepted_and_changes_nothing(part: Partition) -> None:
    await part.send("j1", job("j2", when="+500"))
    before = await part.state()
    part.now_ms += 100
    assert await part.send("j1", job("j2", when="+500")) == [1, 1]
    assert (await part.state()).changes(before) == ["events"]


async def test_lost_answer_is_asked_for_again(part: Partition) -> None:
    part.link.fail(scripts.ENQUEUE, LOST_ANSWER)
    assert await part.send("j1", job("j2", blob=BIG)) == [1, 1]
    state = await part.state()
    assert state.places() == {"j1": ["ready:q"], "j2": ["ready:q"]}
    assert state.blobs == {"j2=none": BIG}
    assert state.stats["q|a|sent"] == 2


async def test_other_record_is_refused_and_changes_nothing(part: Partition) -> None:
    await part.send("j1")
    before = await part.state()
    assert await part.send(job("j1", arguments=b"[]", queue="p", when="+500")) == [0]
    after = await part.state()
    assert after.jobs == before.jobs
    assert after.queues["q"] == before.queues["q"]
    assert after.places() == {"j1": ["ready:q"]}
    assert after.stats == before.stats


@pytest.mark.parametrize("ended", ["c", "f", "k"])
async def test_id_of_a_job_that_ended_is_known(part: Partition, ended: str) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", ended, b"null"))
    assert await part.send("j1") == [1]
    assert await part.send(job("j1", arguments=b"[]")) == [0]
    assert (await part.state()).place("j1") in ("completed", "failed", "cancelled")


async def test_leased_and_parked_jobs_stay_where_they_are(part: Partition) -> None:
    await part.send("j1", job("j2", actor="rare"))
    await part.claim()
    assert await part.send("j1", job("j2", actor="rare")) == [1, 1]
    assert (await part.state()).places() == {"j1": ["leased:q"], "j2": ["lane:q"]}


async def test_duplicates_inside_a_batch_are_one_job(part: Partition) -> None:
    assert await part.send("j1", "j1", job("j1", arguments=b"[]"), job("j1", when="+500")) == [1, 1, 0, 1]
    state = await part.state()
    assert state.jobs == {"j1": b"a\0none\0{}"}
    assert state.places() == {"j1": ["ready:q"]}
    assert state.stats["q|a|sent"] == 1


async def test_duplicate_inside_a_batch_keeps_the_first_queue(part: Partition) -> None:
    assert await part.send(job("j1", queue="p", when="+500"), job("j1", queue="q")) == [1, 1]
    assert (await part.state()).places() == {"j1": ["delayed:p"]}


async def test_delay_counts_from_the_servers_time(part: Partition) -> None:
    await part.send(job("j1", when="+500"))
    assert (await part.state()).queues["q"].delayed == {"j1": START_MS + 500}


async def test_fraction_of_a_millisecond_is_rounded_up(part: Partition) -> None:
    part.now_ms += 0.25
    await part.send(job("j1", when="+500"))
    assert (await part.state()).queues["q"].delayed == {"j1": START_MS + 501}


async def test_at_a_time_to_come_is_delayed(part: Partition) -> None:
    await part.send(job("j1", when=f"{START_MS + 1:.0f}"))
    assert (await part.state()).queues["q"].delayed == {"j1": START_MS + 1}


@pytest.mark.parametrize("when", ["+0", "1700000000000", f"{START_MS:.0f}"])
async def test_at_a_time_that_has_passed_is_ready_now(part: Partition, when: str) -> None:
    await part.send(job("j1", when=when))
    state = await part.state()
    assert state.queues["q"].ready == {"j1": rank(5, START_MS)}
    assert state.runs == {}


async def test_priority_goes_before_time(part: Partition) -> None:
    await part.send(job("low", priority=9), job("first", priority=0), "normal")
    part.now_ms += 1
    await part.send(job("first-later", priority=0), job("high", priority=4))
    assert (await part.state()).queues["q"].ready["high"] == rank(4, START_MS + 1)
    assert ids(await part.claim()) == ["first", "first-later", "high", "normal", "low"]


@pytest.mark.parametrize("priority", range(10))
async def test_rank_is_exact_for_every_priority(part: Partition, priority: int) -> None:
    part.now_ms += 1 / 256
    await part.send(job("j1", priority=priority))
    assert (await part.state()).queues["q"].ready == {"j1": rank(priority, START_MS + 1 / 256)}


async def test_priority_of_a_delayed_job_is_kept_in_its_run(part: Partition) -> None:
    await part.send(job("j1", priority=2, when="+500"), job("j2", priority=5, when="+500"))
    state = await part.state()
    assert state.run("j1") == ("!", "-", rank(2, START_MS + 500), 0, 0, 0, 0.0, "-", "")
    assert "j2" not in state.runs, "the default needs no run"


async def test_blob_is_stored_beside_the_record(part: Partition) -> None:
    assert await part.send(job("j1", blob=BIG)) == [1]
    state = await part.state()
    assert state.jobs == {"j1": b"a\0none\0"}
    assert state.blobs == {"j1=none": BIG}


async def test_blob_of_a_refused_record_is_removed(part: Partition) -> None:
    await part.send("j1")
    assert await part.send(job("j1", blob=BIG)) == [0]
    state = await part.state()
    assert state.blobs == {}
    assert state.jobs == {"j1": b"a\0none\0{}"}


async def test_blob_that_belongs_to_the_stored_record_stays(part: Partition) -> None:
    """Two nonces may be the same, once in millions of times."""
    await part.send(job("j1", blob=BIG))
    assert await part.send(job("j1", actor="b", blob=b"y" * 5_000)) == [0]
    assert (await part.state()).blobs == {"j1=none": BIG}


async def test_blob_of_a_refused_record_inside_one_batch_is_removed(part: Partition) -> None:
    assert await part.send("j1", job("j1", blob=BIG)) == [1, 0]
    assert (await part.state()).blobs == {}


async def test_blob_of_the_accepted_record_is_not_replaced(part: Partition) -> None:
    await part.send(job("j1", blob=BIG))
    assert await part.send(job("j1", blob=b"y" * 5_000)._replace(record=b"a\0othr\0")) == [0]
    assert (await part.state()).blobs == {"j1=none": BIG}


async def test_payload_is_not_stored_without_its_job_when_the_client_dies_at_the_first_call_to_a_server_without_scripts(
    part: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    await part.store.command("SCRIPT", "FLUSH")
    call = Link.call

    async def die_after(link: Link, *commands: Sequence[Any]) -> list[Any]:
        await call(link, *commands)
        message = "nobody hears of the answer"
        raise ConnectionAbortedError(message)

    with monkeypatch.context() as patched:
        patched.setattr(Link, "call", die_after)
        with pytest.raises(ConnectionAbortedError):
            await part.send(job("j1", blob=BIG))
    state = await part.state()
    assert (list(state.jobs), list(state.blobs)) == (["j1"], ["j1=none"])


async def test_payloads_are_stored_after_the_scripts_were_flushed_too(part: Partition) -> None:
    assert await part.send(job("j1", blob=BIG)) == [1]
    await part.store.command("SCRIPT", "FLUSH")
    assert await part.send(job("j2", blob=BIG)) == [1]
    assert set((await part.state()).blobs) == {"j1=none", "j2=none"}


async def test_blob_of_a_send_that_was_never_stored_is_not_taken_for_arguments(part: Partition) -> None:
    """A client that dies after NOSCRIPT, as a restarted server answers, has written the payload and not the job."""
    keys = part.store.keys
    unknown = scripts.evalsha(keys, scripts.ENQUEUE, ["q"], ["", "", part.packed(NewJob("q", "j1", b"a\0died\0"))], 0)
    unknown[1] = "0" * 40
    answers = await part.link.call(["MULTI"], ["HSETNX", keys.key("blobs"), "j1=died", b"of the dead client"], unknown, ["EXEC"])
    assert isinstance(answers[-1][-1], NoScriptError)
    other = job("j1", blob=BIG)
    assert await part.send(other) == [1]
    assert await part.store.payloads([(other.id, other.record)]) == {"j1": BIG}
    await part.key("HDEL", "blobs", "j1=died")


async def test_marker_is_set_for_a_ready_job(part: Partition) -> None:
    await part.send("j1")
    assert await part.take_marker()
    await part.send("j1")
    assert not await part.take_marker(), "nothing new, nobody to wake"
    await part.send("j2")
    assert await part.take_marker()


async def test_marker_is_set_for_a_new_head_of_delayed_alone(part: Partition) -> None:
    await part.send(job("j1", when="+500"))
    assert await part.take_marker()
    await part.send(job("j2", when="+500"), job("j3", when="+900"))
    assert not await part.take_marker(), "a worker that sleeps until 500 ms need not wake for these"
    await part.send(job("j4", when="+900"), job("j5", when="+499"))
    assert await part.take_marker()


async def test_marker_is_of_the_queue_that_got_work(part: Partition) -> None:
    await part.send(job("j1", queue="p"))
    assert not await part.take_marker("q")
    assert await part.take_marker("p")


async def test_every_queue_is_registered_and_counted(part: Partition) -> None:
    await part.send("j1", job("j2", queue="p", actor="b"), job("j3", queue="p", actor="b", when="+500"))
    state = await part.state()
    assert state.registered == {"q", "p"}
    assert state.stats == {"q|a|sent": 1, "p|b|sent": 2}


async def test_one_event_a_call_names_eight_jobs(part: Partition) -> None:
    names = [f"j{n:02}" for n in range(10)]
    await part.send(*names)
    assert (await part.state()).events == (("enqueue", "-", 10, tuple(names[:8])),)


async def test_no_event_is_written_where_none_are_kept(part: Partition) -> None:
    keys = part.store.keys
    await part.raw(scripts.ENQUEUE, ["q"], "", "", part.packed(job("j1")))
    assert await part.store.command("EXISTS", keys.key("events")) == 0
    assert (await part.state()).place("j1") == "ready:q"


@pytest.mark.parametrize("ids", [["j1"], ["j1", "j2"]])
async def test_counters_live_for_a_day(part: Partition, ids: list[str]) -> None:
    await part.send(*ids)
    stats = part.store.keys.stats(part.now_ms)
    assert 86_400 < await part.store.command("TTL", stats) <= 90_000


async def test_counters_of_new_actors_go_to_one_field_where_there_are_too_many(part: Partition) -> None:
    stats = part.store.keys.stats(part.now_ms)
    fields = [part for n in range(20_001) for part in (f"q|x{n}|sent", 1)]
    await part.store.command("HSET", stats, *fields)
    await part.send("j1", job("j2", actor="b"), job("j3", actor="x0"))
    found = (await part.state()).stats
    assert (found["q|*|sent"], found["q|a|sent"], found["q|b|sent"], found["q|x0|sent"]) == (2, 0, 0, 2)


@pytest.mark.parametrize("name", ["ünï", "a b", "a=b", "{x}", "|", "a\tb", "x" * 128])
async def test_id_may_have_odd_characters(part: Partition, name: str) -> None:
    assert await part.send(name, job(name, blob=BIG)) == [1, 0]
    assert ids(await part.claim()) == [name]
    assert (await part.state()).held == {("w1", name)}


async def test_server_time_is_used_where_none_is_given(part: Partition) -> None:
    seconds, micros = await part.store.command("TIME")
    part.store.clock = None
    await part.send("j1", job("j2", when="+60000"))
    state = await part.state()
    before = int(seconds) * 1000 + int(micros) / 1000
    assert rank(5, before) <= state.queues["q"].ready["j1"] < rank(5, before + 60_000)
    assert before + 60_000 <= state.queues["q"].delayed["j2"] < before + 120_000
