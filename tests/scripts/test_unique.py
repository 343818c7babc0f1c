"""enqueue with unique keys: the same work is not there twice, however it is sent, ends, or breaks off."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import scripts
from angelrt.errors import RedisRefused
from angelrt.views import read_outcome, why_cancelled
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.gated import declare, gate, held, opens, pause, rate, rated
from tests.scripts.partition import LEASE_MS, ids, job, verdict

if TYPE_CHECKING:
    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition

KEY: Final = "a:%7B%22n%22%3A1%7D"
WINDOW_MS: Final = 60_000
UNTIL: Final = ("f", "s", str(WINDOW_MS))
HOW: Final = ("e", "r", "j")
COMMANDS_MAX: Final = 100


def same(job_id: str, how: str = "e", until: str = "f", *, key: str = KEY, more: str = "", **options: Any) -> NewJob:
    """Return a job with a unique key."""
    return job(job_id, flow=",".join(filter(None, (f"u{key}*{until}*{how}", more))), arguments=b'{"n":"%b"}' % job_id.encode(), **options)


async def keys(part: Partition) -> dict[str, str]:
    """Return who has which key."""
    reply = await part.key("HGETALL", "unique")
    return {field.decode(): value.decode() for field, value in zip(reply[::2], reply[1::2], strict=True)}


def answer(how: str, holder: str) -> bytes:
    """Return what a send hears when another has its key and stays."""
    return (f"!{holder}" if how == "j" else holder).encode()


# -- every until, every conflict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", UNTIL)
@pytest.mark.parametrize("how", HOW)
async def test_one_that_waits_stands_in_the_way_or_is_replaced(part: Partition, how: str, until: str) -> None:
    assert await part.send(same("old", how, until)) == [1]
    part.now_ms += 1_000
    replaced = how == "r"
    assert await part.send(same("new", how, until)) == [1 if replaced else answer(how, "old")]
    state = await part.state()
    assert state.places() == ({"old": ["cancelled"], "new": ["ready:q"]} if replaced else {"old": ["ready:q"]})
    assert (await keys(part))[KEY].partition("\0")[0] == ("new" if replaced else "old")
    assert ids(await part.claim()) == ["new" if replaced else "old"]


@pytest.mark.parametrize("until", UNTIL)
@pytest.mark.parametrize("how", HOW)
async def test_one_that_runs_is_never_replaced_and_lets_others_by_where_it_counts_until_started(
    part: Partition, how: str, until: str
) -> None:
    await part.send(same("old", how, until))
    await part.claim()
    expected = 1 if until == "s" else answer(how, "old")
    assert await part.send(same("new", how, until)) == [expected]
    state = await part.state()
    assert state.place("old") == "leased:q"
    assert state.place("new") == ("ready:q" if until == "s" else "")
    assert await part.settle(verdict("old", "c", b"1")) == [1]


@pytest.mark.parametrize("until", UNTIL)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("code", ["c", "f", "k"])
async def test_one_that_has_ended_is_in_the_way_of_none_but_for_a_time_that_was_given(
    part: Partition, how: str, until: str, code: str
) -> None:
    await part.send(same("old", how, until))
    await part.claim()
    await part.settle(verdict("old", code, b"{}"))
    expected = answer(how, "old") if until == str(WINDOW_MS) else 1
    assert await part.send(same("new", how, until)) == [expected]
    part.now_ms += WINDOW_MS
    assert await part.send(same("later", "e", until)) == [1 if until == str(WINDOW_MS) else b"new"]


@pytest.mark.parametrize("how", HOW)
async def test_window_begins_with_the_send_and_ends_to_the_millisecond(part: Partition, how: str) -> None:
    await part.send(same("old", how, "1000"))
    await part.claim()
    part.now_ms += 999
    assert await part.send(same("new", how, "1000")) == [answer(how, "old")]
    part.now_ms += 1
    assert await part.send(same("new", how, "1000")) == [1]
    assert (await part.state()).place("new") == "ready:q"


async def test_other_keys_and_jobs_without_one_are_in_nobodys_way(part: Partition) -> None:
    assert await part.send(same("j1"), same("j2", key="a:2"), same("j3", key="b:1"), "j4") == [1, 1, 1, 1]


# -- replace ---------------------------------------------------------------------------------------------------------------------------


async def test_one_that_is_replaced_says_by_whom_is_counted_and_its_waiters_hear_of_it(part: Partition) -> None:
    await part.send(same("old", "r"))
    await part.store.watch("me", ["old"])
    await part.send(same("new", "r"))
    (placed,) = await part.store.inspect(["old"])
    assert "onew" in placed.result.partition(b"\0")[0].decode().split()[7].split(",")
    state = await part.state()
    assert (state.watch, state.runs.keys()) == ({}, {"new"})
    assert state.stats["q|a|cancelled"] == 1, "what was sent is completed, failed, cancelled or there"


async def test_delayed_one_is_replaced(part: Partition) -> None:
    await part.send(same("old", "r", "s", when="+5000"))
    part.now_ms += 3_000
    assert await part.send(same("new", "r", "s", when="+5000")) == [1]
    state = await part.state()
    assert state.places() == {"old": ["cancelled"], "new": ["delayed:q"]}
    part.now_ms += 4_999
    assert ids(await part.claim()) == []
    part.now_ms += 1
    assert ids(await part.claim()) == ["new"]


@pytest.mark.parametrize("options", [{"actor": "rare"}, {"more": held()}, {"more": "tann"}, {"more": "x1750000009000"}])
async def test_one_in_a_lane_is_replaced_with_all_that_is_noted_of_it(part: Partition, options: dict[str, Any]) -> None:
    await declare(part)
    await part.send(job("first", flow=held()))
    await part.claim()
    await part.send(same("old", "r", **options))
    await part.claim(under="t2", capacity=0)
    if options.get("actor"):
        await part.claim(under="t3")
        assert (await part.state()).place("old") == "lane:q"
    assert await part.send(same("new", "r")) == [1]
    state = await part.state()
    assert (state.place("old"), state.place("new")) == ("cancelled", "ready:q")
    assert state.queues["q"].lanes == ()
    assert state.queues["q"].expires == {}
    await part.settle(verdict("first", "c", b"1"))


@pytest.mark.parametrize("comes_first", [True, False])
async def test_one_that_comes_to_the_gate_of_one_that_its_call_replaces_does_not_wait_for_it(part: Partition, *, comes_first: bool) -> None:
    await declare(part, "a.key/10s@q", rate(4))
    await part.send(job("uses", flow=rated(cost=3)))
    await part.claim()
    await part.send(same("old", "r", more=rated(cost=2)))
    part.now_ms += 1
    new, cheap = same("new", "r", when="+60000"), job("cheap", flow=rated(cost=1))
    await part.send(*((cheap, new) if comes_first else (new, cheap)))
    assert ids(await part.claim(under="t2")) == ["cheap"]


async def test_one_that_replaces_another_at_its_open_gate_leaves_the_mark_of_its_call(part: Partition) -> None:
    await declare(part)
    await part.send(job("holds", flow=held()))
    await part.claim()
    await part.send(same("old", "r", more=held()))
    await part.settle(verdict("holds", "c", b"1"))
    part.now_ms += 1
    await part.send(job("beside", flow=held()), same("new", "r", more=held()))
    assert list((await opens(part)).values()) == [part.now_ms]
    assert ids(await part.claim(under="t2")) == ["beside"]


async def test_one_that_waits_for_another_try_is_replaced(part: Partition) -> None:
    await part.send(same("old", "r"))
    await part.claim()
    await part.settle(verdict("old", "r", b"{}", delay_ms=1_000))
    assert await part.send(same("new", "r")) == [1]
    assert (await part.state()).places() == {"old": ["cancelled"], "new": ["ready:q"]}


async def test_replaced_one_can_be_followed_for_ever(part: Partition) -> None:
    for n in range(20):
        assert await part.send(same(f"j{n:02}", "r")) == [1]
    state = await part.state()
    assert [name for name in state.jobs if state.place(name) == "ready:q"] == ["j19"]
    assert (await keys(part)) == {KEY: "j19"}


@pytest.mark.parametrize("when", ["", "+5000"])
async def test_one_that_waits_in_another_queue_is_replaced(part: Partition, when: str) -> None:
    await part.send(same("old", "r", queue="p", when=when))
    assert await part.send(same("new", "r")) == [1]
    state = await part.state()
    assert state.places() == {"old": ["cancelled"], "new": ["ready:q"]}
    assert state.stats["p|a|cancelled"] == 1, "it counts where it was"


async def test_child_replaces_one_that_waits_in_another_queue(part: Partition) -> None:
    await part.send(same("old", "r", queue="p"), "parent")
    await part.claim()
    assert await part.settle(verdict("parent", "c", b"1", children=[same("new", "r")])) == [1]
    assert (await part.state()).places() == {"old": ["cancelled"], "parent": ["completed"], "new": ["ready:q"]}


async def test_one_that_runs_in_another_queue_is_not_replaced(part: Partition) -> None:
    await part.send(same("old", "r", queue="p"))
    await part.claim(queues=("p",))
    assert await part.send(same("new", "r")) == [b"old"]
    assert (await part.state()).places() == {"old": ["leased:p"]}


@pytest.mark.parametrize("job_id", ["two words", "order 42", "a,cb=c", "50%", "\N{SNOWMAN}"])
@pytest.mark.parametrize("until", UNTIL)
async def test_id_may_be_any_text(part: Partition, until: str, job_id: str) -> None:
    assert await part.send(same(job_id, "r", until)) == [1]
    assert await part.send(same("other", "e", until)) == [job_id.encode()]
    assert await part.send(same(f"{job_id} 2", "r", until)) == [1]
    state = await part.state()
    assert state.places() == {job_id: ["cancelled"], f"{job_id} 2": ["ready:q"]}
    [placed] = await part.store.inspect([job_id])
    assert f"replaced by job {job_id} 2," in why_cancelled(read_outcome(placed.result)[0].flow)


async def test_last_of_a_batch_that_is_refused_since_it_is_drained_stands_in_for_nobody(part: Partition) -> None:
    await pause(part, f"dg{gate()}")
    assert await part.send(same("one", "r"), same("two", "r", more=held())) == [1, f"#key {gate()}".encode()]
    assert (await part.state()).places() == {"one": ["ready:q"]}


# -- one batch -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "answers", "left"), [("e", [1, b"j1", b"j1"], "j1"), ("j", [1, b"!j1", b"!j1"], "j1")])
async def test_first_of_a_batch_stays(part: Partition, how: str, answers: list[int | bytes], left: str) -> None:
    assert await part.send(*(same(f"j{n}", how) for n in (1, 2, 3))) == answers
    assert (await part.state()).places() == {left: ["ready:q"]}


async def test_last_of_a_batch_that_replaces_stays(part: Partition) -> None:
    await part.send(same("j0", "r"))
    assert await part.send(*(same(f"j{n}", "r") for n in (1, 2, 3))) == [b"j3", b"j3", 1]
    assert (await part.state()).places() == {"j0": ["cancelled"], "j3": ["ready:q"]}
    assert (await keys(part)) == {KEY: "j3"}


async def test_batch_that_replaces_itself_is_the_same_when_it_is_sent_again(part: Partition) -> None:
    part.link.fail(scripts.ENQUEUE, LOST_ANSWER)
    assert await part.send(*(same(f"j{n}", "r") for n in (1, 2, 3))) == [b"j3", b"j3", 1]
    state = await part.state()
    assert state.places() == {"j3": ["ready:q"]}
    assert (await keys(part)) == {KEY: "j3"}


async def test_batch_that_has_one_id_twice_is_the_same_when_it_is_sent_again(part: Partition) -> None:
    part.link.fail(scripts.ENQUEUE, LOST_ANSWER)
    assert await part.send(same("j1", "r"), same("j2", "r"), same("j1", "r", actor="b")) == [b"j2", 1, 0]
    state = await part.state()
    assert state.places() == {"j2": ["ready:q"]}
    assert (await keys(part)) == {KEY: "j2"}


async def test_id_that_comes_again_in_one_call_hears_what_it_has_heard(part: Partition) -> None:
    await part.send(same("old"))
    assert await part.send(same("new"), same("new"), same("j1", key="a:2"), same("j1", key="a:2")) == [b"old", b"old", 1, 1]


@pytest.mark.parametrize("abort_at", range(1, 45))
async def test_id_that_comes_again_with_another_record_replaces_nobody(part: Partition, abort_at: int) -> None:
    await part.send(same("old"))
    part.link.fail(scripts.ENQUEUE, abort_at)
    assert await part.send(same("j1"), same("j2"), same("j2", "r", blob=b"x" * 5_000)) == [b"old", b"old", 0]
    state = await part.state()
    assert state.places() == {"old": ["ready:q"]}
    assert (await keys(part), state.blobs) == ({KEY: "old"}, {})


async def test_keys_of_a_batch_are_apart(part: Partition) -> None:
    assert await part.send(same("j1"), same("j2", key="a:2"), same("j3"), same("j4", key="a:2")) == [1, 1, b"j1", b"j2"]


async def test_arguments_apart_of_one_that_is_not_stored_are_not_left_behind(part: Partition) -> None:
    await part.send(same("old"))
    assert await part.send(same("new", blob=b"x" * 5_000)) == [b"old"]
    assert (await part.state()).blobs == {}


async def test_key_whose_window_has_passed_is_forgotten_then_and_does_not_come_back_with_the_clock(part: Partition) -> None:
    part.now_ms += 0.125
    await part.send(same("j1", until=str(WINDOW_MS)))
    part.now_ms += WINDOW_MS
    await part.settle()
    part.now_ms -= 40
    assert await keys(part) == {}
    assert await part.send(same("j2", until=str(WINDOW_MS))) == [1]


# -- sent again ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", UNTIL)
@pytest.mark.parametrize("how", HOW)
async def test_same_call_sent_again_after_a_lost_answer_hears_the_same(part: Partition, how: str, until: str) -> None:
    await part.send(same("old", how, until))
    part.link.fail(scripts.ENQUEUE, LOST_ANSWER, LOST_ANSWER)
    expected = 1 if how == "r" else answer(how, "old")
    assert await part.send(same("new", how, until), same("other", how, until, key="a:2")) == [expected, 1]
    state = await part.state()
    assert state.place("new") == ("ready:q" if how == "r" else "")
    assert state.place("old") == ("cancelled" if how == "r" else "ready:q")
    assert state.stats["q|a|sent"] == (3 if how == "r" else 2)


async def test_id_that_has_the_key_itself_is_known(part: Partition) -> None:
    await part.send(same("j1", "j"))
    assert await part.send(same("j1", "j")) == [1]
    await part.claim()
    assert await part.send(same("j1", "j")) == [1]
    assert await part.send(job("j1", flow=f"u{KEY}*f*j")) == [0], "another record under the same id"


# -- release ---------------------------------------------------------------------------------------------------------------------------


async def test_cancelled_one_gives_its_key_back(part: Partition) -> None:
    await part.send(same("old"))
    assert await part.store.cancel(["old"], "ann") == [1]
    assert await keys(part) == {}
    assert await part.send(same("new")) == [1]


async def test_expired_one_gives_its_key_back(part: Partition) -> None:
    await part.send(same("old", more=f"x{part.now_ms + 1_000:.0f}"))
    part.now_ms += 1_000
    await part.store.tick(["q"])
    assert await keys(part) == {}
    assert await part.send(same("new")) == [1]


async def test_lost_worker_keeps_the_key_until_the_job_has_ended(part: Partition) -> None:
    await part.send(same("old"))
    await part.claim()
    await part.store.expire_worker("w1", ["q"], died=True)
    assert await part.send(same("new")) == [b"old"]
    await part.claim(worker="w2", under="t2")
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    assert await part.send(same("new")) == [b"old"]
    await part.claim(under="t3")
    await part.settle(verdict("old", "c", b"1", under="t3"))
    assert await part.send(same("new")) == [1]


async def test_retried_one_that_counts_until_started_does_not_take_the_key_back(part: Partition) -> None:
    await part.send(same("old", until="s"))
    await part.claim()
    assert await part.send(same("new", until="s")) == [1]
    await part.settle(verdict("old", "r", b"{}"))
    assert sorted(ids(await part.claim(under="t2"))) == ["new", "old"]
    await part.settle(verdict("old", "c", b"1", under="t2"))
    await part.send(same("third", until="s"))
    assert (await keys(part)) == {KEY: "third"}


async def test_late_verdict_of_the_old_one_leaves_the_key_of_the_new_one(part: Partition) -> None:
    await part.send(same("old", until="s"))
    await part.claim()
    await part.send(same("new", until="s"))
    await part.settle(verdict("old", "c", b"1"))
    assert await keys(part) == {KEY: "new"}


async def test_run_that_was_asked_to_stop_keeps_its_key_until_it_has(part: Partition) -> None:
    await part.send(same("old"))
    await part.claim()
    assert await part.store.cancel(["old"], "ann") == [2]
    assert await part.send(same("new")) == [b"old"]
    await part.settle(verdict("old", "r", b"{}"))
    assert (await part.state()).place("old") == "cancelled"
    assert await part.send(same("new")) == [1]


@pytest.mark.parametrize("how", HOW)
async def test_key_whose_job_is_gone_is_in_nobodys_way(part: Partition, how: str) -> None:
    await part.key("HSET", "unique", KEY, "nobody")
    assert await part.send(same("new", how)) == [1]
    assert await keys(part) == {KEY: "new"}


async def test_windows_that_have_passed_are_swept_and_others_stay(part: Partition) -> None:
    await part.send(same("j1", until="1000"), same("j2", until="9000", key="a:2"), same("j3", key="a:3"))
    part.now_ms += 1_000
    await part.settle()
    assert (await keys(part)).keys() == {"a:2", "a:3"}
    assert [key.decode() for key in await part.key("ZRANGE", "unique_void", 0, -1)] == ["a:2"]


async def test_window_that_was_taken_anew_is_not_swept_by_the_old_one(part: Partition) -> None:
    await part.send(same("j1", "r", "1000"))
    part.now_ms += 600
    await part.send(same("j2", "r", "1000"))
    part.now_ms += 600
    await part.settle()
    assert await part.send(same("j3", "e", "1000")) == [b"j2"]
    part.now_ms += 400
    await part.settle()
    assert await keys(part) == {}


# -- a call that breaks off ------------------------------------------------------------------------------------------------------------


async def send_broken(part: Partition, at: int, *some: NewJob, resend: bool) -> list[int | bytes] | None:
    """Send, and break the script before its command number `at`; None when nobody sent again. Tells by `broken_at` whether it broke."""
    part.link.fail(scripts.ENQUEUE, at, resend=resend)
    try:
        return [*await part.send(*some)]
    except RedisRefused:
        return None
    finally:
        part.link.fail(scripts.ENQUEUE)


@pytest.mark.parametrize("until", UNTIL)
@pytest.mark.parametrize("how", HOW)
async def test_call_that_breaks_off_anywhere_and_is_sent_again_loses_nothing(part: Partition, how: str, until: str) -> None:
    expected = {"new": "ready:q", "old": "cancelled"} if how == "r" else {"new": "", "old": "ready:q"}
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        await part.send(same("old", how, until))
        part.link.fail(scripts.ENQUEUE, at)
        answers = await part.send(same("new", how, until), same("other", how, until, key="a:2"))
        has_broken = bool(part.link.broken_at)
        part.link.fail(scripts.ENQUEUE)
        state = await part.state()
        assert answers == [1 if how == "r" else answer(how, "old"), 1], f"broken before command {at}"
        assert {name: state.place(name) for name in expected} == expected, f"broken before command {at}"
        assert (await keys(part))[KEY].partition("\0")[0] == ("new" if how == "r" else "old"), f"broken before command {at}"
        if not has_broken:
            return
    message = "the call never ran to its end"
    raise AssertionError(message)


@pytest.mark.parametrize("how", HOW)
async def test_call_that_breaks_off_and_is_not_sent_again_is_in_nobodys_way(part: Partition, how: str) -> None:
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        broken = await send_broken(part, at, same("new", how), resend=False) is None
        await part.send(same("next", how))
        claimed = ids(await part.claim())
        assert claimed in (["next"], ["new"]), f"broken before command {at}: {claimed}"
        await part.settle(verdict(claimed[0], "c", b"1"))
        assert await part.send(same("last", how)) == [1], f"broken before command {at}"
        if not broken:
            return
    message = "the call never ran to its end"
    raise AssertionError(message)


@pytest.mark.parametrize("resend", [True, False])
async def test_claim_that_breaks_off_lets_the_key_go_of_one_that_has_started_and_of_no_other(part: Partition, *, resend: bool) -> None:
    for at in range(1, COMMANDS_MAX):
        await part.clear()
        await part.send(same("one", until="s"))
        part.link.fail(scripts.CLAIM, at, resend=resend)
        with suppress(RedisRefused):
            await part.claim()
        has_broken = bool(part.link.broken_at)
        part.link.fail(scripts.CLAIM)
        place, held_by = (await part.state()).place("one"), await keys(part)
        assert held_by == {KEY: "one"} if place == "ready:q" else not (held_by and resend), f"broken before command {at}"
        if not has_broken:
            assert (place, held_by) == ("leased:q", {})
            return
    message = "the call never ran to its end"
    raise AssertionError(message)
