"""replay: a failure is replayed once; the job keeps its id and history, passes its gates again, and nothing is left of what it was."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pytest

from angelrt import scripts
from angelrt.errors import RedisRefused
from angelrt.views import read_lease, read_outcome
from tests.scripts.faults import LOST_ANSWER, breakable
from tests.scripts.partition import START_MS, ids, job, rank, verdict
from tests.state import breaches

if TYPE_CHECKING:
    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition

BIG: Final = b"x" * 5_000
GATE: Final = "cone@q="
RATE: Final = "rper/60s@q="


async def fail(part: Partition, *jobs: NewJob | str, payload: bytes = b"error", queue: str = "q") -> int:
    """Send jobs and let them fail a second later; return when."""
    sent = [job(each) if isinstance(each, str) else each for each in jobs]
    assert await part.send(*sent) == [1] * len(sent)
    claimed = await part.claim(under="first", queues=(queue,))
    assert ids(claimed) == [each.id for each in sent]
    part.now_ms += 1_000
    codes = await part.settle(*(verdict(each.id, "f", payload, under="first", queue=queue) for each in sent))
    assert codes == [1] * len(sent)
    return int(part.now_ms)


async def replay(part: Partition, failed_ms: int, *names: str, when: str = "", queue: str = "q") -> list[int | bytes]:
    """Replay jobs as they are."""
    failures = [(job(name, queue=queue, when=when)._replace(record=b""), failed_ms, "") for name in names]
    now_ms, codes = await part.store.replay(failures)
    assert now_ms == part.now_ms
    return codes


async def edit(part: Partition, failed_ms: int, new: NewJob, void: str = "") -> int | bytes:
    """Replay one job with a new record."""
    return (await part.store.replay([(new, failed_ms, void)]))[1][0]


def edited(job_id: str, *, blob: bytes | None = None, flow: str = "-") -> NewJob:
    """Return a job with another nonce and other arguments."""
    return job(job_id, flow=flow, blob=blob)._replace(record=b"a\0edit\0" + (b"" if blob else b'{"x":2}'))


async def set_limit(part: Partition, rule: str, spec: str) -> None:
    """Declare a limit as a worker does."""
    await part.store.control("declare", rule, spec, ["q"])


async def test_replayed_job_is_ready_and_not_failed(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    part.now_ms += 500
    assert await replay(part, failed_ms, "j1") == [1]
    state = await part.state()
    assert state.place("j1") == "ready:q"
    assert state.queues["q"].ready == {"j1": rank(5, part.now_ms)}
    assert state.queues["q"].wake


async def test_result_tells_the_queue_of_a_failed_job_only(part: Partition) -> None:
    await part.send(*(job(name, queue="p") for name in ("c1", "f1", "g1", "k1")))
    await part.claim(queues=("p",))
    await part.settle(*(verdict(name, name[0], b"x", queue="p") for name in ("c1", "f1", "g1", "k1")))
    results = (await part.state()).results
    assert {name: read_outcome(result)[0].flow for name, result in results.items()} == {"c1": "-", "f1": "qp", "g1": "qp", "k1": "-"}


async def test_attempts_begin_at_zero_and_history_goes_on(part: Partition) -> None:
    await part.send("j1")
    await part.claim(under="first")
    await part.settle(verdict("j1", "r", under="first"))
    part.now_ms += 200
    await part.claim(under="second", worker="w2")
    await part.settle(verdict("j1", "f", b"error", under="second"), worker="w2")
    failed_ms = int(part.now_ms)
    part.now_ms += 5_000
    assert await replay(part, failed_ms, "j1") == [1]
    run = (await part.state()).run("j1")
    assert (run.attempts, run.losses, run.deliveries, run.flow) == (0, 0, 2, "-")
    now = f"{START_MS + 200:.0f}"
    assert run.history == f"f,{now},{now},w2;r,{START_MS:.0f},{START_MS:.0f},w1"
    part.now_ms += 300
    [delivery] = (await part.claim()).deliveries
    assert read_lease(delivery.lease)[1] == 1


async def test_priority_is_kept(part: Partition) -> None:
    failed_ms = await fail(part, job("urgent", priority=1), job("idle", priority=9))
    part.now_ms += 500
    await part.send("other")
    assert await replay(part, failed_ms, "idle", "urgent") == [1, 1]
    assert ids(await part.claim()) == ["urgent", "other", "idle"]


async def test_priority_is_kept_in_a_queue_where_it_ages(part: Partition) -> None:
    await part.key("HSET", "rules", "aging q", 60_000)
    failed_ms = await fail(part, job("urgent", priority=1))
    await replay(part, failed_ms, "urgent")
    state = await part.state()
    assert state.run("urgent").flow == "p1"
    assert state.queues["q"].ready == {"urgent": rank(0, part.now_ms + 60_000)}


async def test_job_goes_back_to_its_own_queue(part: Partition) -> None:
    failed_ms = await fail(part, job("j1", queue="p"), queue="p")
    assert await replay(part, failed_ms, "j1", queue="p") == [1]
    assert (await part.state()).place("j1") == "ready:p"


@pytest.mark.parametrize("payload", [b"error", BIG], ids=["small", "big"])
@pytest.mark.parametrize("code", ["c", "f", "k", "r"])
async def test_nothing_of_the_failure_is_left_when_the_job_ends_again(part: Partition, payload: bytes, code: str) -> None:
    failed_ms = await fail(part, "j1", payload=payload)
    await replay(part, failed_ms, "j1")
    assert read_outcome((await part.store.inspect(["j1"]))[0].result)[-1] == payload, "the error shows until something replaces it"
    part.now_ms += 500
    await part.claim()
    await part.settle(verdict("j1", code, b"other"))
    state = await part.state()
    assert state.blobs == {}
    assert state.results["j1"].endswith(b"\0other")
    assert state.failed.keys() == ({"j1"} if code == "f" else set())


async def test_cancelled_replay_leaves_nothing(part: Partition) -> None:
    failed_ms = await fail(part, "j1", payload=BIG)
    await replay(part, failed_ms, "j1")
    assert await part.store.cancel(["j1"], "me") == [1]
    state = await part.state()
    assert (state.place("j1"), state.blobs) == ("cancelled", {})


async def test_failed_again_and_replayed_again(part: Partition) -> None:
    first_ms = await fail(part, "j1", payload=BIG)
    await replay(part, first_ms, "j1")
    part.now_ms += 500
    await part.claim()
    await part.settle(verdict("j1", "f", BIG))
    second_ms = int(part.now_ms)
    assert await replay(part, second_ms, "j1") == [1]
    run = (await part.state()).run("j1")
    assert [entry.split(",")[2] for entry in run.history.split(";")] == [str(second_ms), str(first_ms)]


@pytest.mark.parametrize("when", ["", "+5000"], ids=["now", "later"])
async def test_replay_whose_answer_was_lost_answers_the_same_and_changes_nothing(part: Partition, when: str) -> None:
    failed_ms = await fail(part, "j1", "j2")
    part.link.fail(scripts.REPLAY, LOST_ANSWER)
    assert await replay(part, failed_ms, "j1", "j2", when=when) == [1, 1]
    before = await part.state()
    assert await replay(part, failed_ms, "j1", "j2", when=when) == [1, 1]
    assert (await part.state()).changes(before) == []


@pytest.mark.parametrize("code", ["c", "f", "k", "r", "s", "x", ""], ids=lambda code: code or "leased")
async def test_replay_that_arrives_again_late_answers_the_same_and_changes_nothing(part: Partition, code: str) -> None:
    failed_ms = await fail(part, "j1")
    part.now_ms += 5_000
    await replay(part, failed_ms, "j1")
    part.now_ms += 500
    await part.claim()
    if code:
        await part.settle(verdict("j1", code, delay_ms=700))
    before = await part.state()
    assert await replay(part, failed_ms, "j1") == [1]
    assert (await part.state()).changes(before) == []


async def test_other_failure_than_the_one_that_is_meant_is_left(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    await part.send("ready", "ended")
    await part.claim(2)
    await part.settle(verdict("ended", "c"), verdict("ready", "x"))
    before = await part.state()
    assert await replay(part, failed_ms - 1, "j1", "ready", "ended", "never-sent") == [0, 0, 0, 0]
    assert (await part.state()).changes(before) == []


async def test_nothing_to_replay_is_no_error(part: Partition) -> None:
    assert await replay(part, 0) == []


async def test_late_verdict_of_the_failed_run_is_refused_after_the_replay(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    await replay(part, failed_ms, "j1")
    before = await part.state()
    assert await part.settle(verdict("j1", "c", b"late", under="first")) == [2]
    assert (await part.state()).changes(before) == []
    await part.claim()
    assert await part.settle(verdict("j1", "c", b"late", under="first")) == [2]
    assert (await part.state()).place("j1") == "leased:q"


# -- later ---------------------------------------------------------------------------------------------------------------------------


async def test_spaced_replays_come_one_after_another(part: Partition) -> None:
    failed_ms = await fail(part, *(job(f"j{n}", priority=n) for n in range(4)))
    failures = [(job(f"j{n}", when=f"+{n * 250}" if n else "")._replace(record=b""), failed_ms, "") for n in range(4)]
    await part.take_marker()
    assert (await part.store.replay(failures))[1] == [1] * 4
    state = await part.state()
    assert state.queues["q"].ready == {"j0": rank(0, part.now_ms)}
    assert state.queues["q"].delayed == {f"j{n}": part.now_ms + n * 250 for n in range(1, 4)}
    for n in range(4):
        assert ids(await part.claim(under=f"at{n}")) == [f"j{n}"]
        part.now_ms += 250


async def test_delayed_replay_keeps_its_priority_and_wakes_who_waits_for_a_later_one(part: Partition) -> None:
    failed_ms = await fail(part, job("urgent", priority=0))
    await part.send(job("later", when="+900"))
    await part.take_marker()
    await replay(part, failed_ms, "urgent", when=f"{part.now_ms + 300:.0f}")
    assert await part.take_marker()
    part.now_ms += 900
    assert (await part.claim()).deliveries[0].rank.decode() == f"{rank(0, part.now_ms - 600):.0f}"


async def test_time_in_the_past_is_now(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    await replay(part, failed_ms, "j1", when=f"{part.now_ms - 5_000:.0f}")
    assert (await part.state()).queues["q"].ready == {"j1": rank(5, part.now_ms)}


# -- gates ---------------------------------------------------------------------------------------------------------------------------


async def test_what_ended_the_job_is_dropped_from_its_flow_and_its_gates_stay(part: Partition) -> None:
    expires = f"x{START_MS + 100:.0f}"
    await part.send(job("j1", flow=f"{GATE},{RATE}*3,tann,{expires}"))
    await part.claim(under="first")
    await part.store.cancel(["j1"], "me")
    part.now_ms += 1_000
    await part.settle(verdict("j1", "f", under="first"))
    await replay(part, int(part.now_ms), "j1")
    assert (await part.state()).run("j1").flow == f"{GATE},{RATE}*3,tann"
    assert (await part.state()).queues["q"].expires == {}
    assert ids(await part.claim()) == ["j1"]


async def test_closed_gate_parks_the_job(part: Partition) -> None:
    await set_limit(part, "one@q", "1")
    failed_ms = await fail(part, job("j1", flow=GATE))
    await part.send(job("holds", flow=GATE))
    await part.claim()
    await replay(part, failed_ms, "j1")
    state = await part.state()
    assert state.place("j1") == "lane:q"
    assert [len(waiter.lane) for waiter in state.queues["q"].lanes] == [20]
    assert ids(await part.claim(under="t2")) == []
    await part.settle(verdict("holds", "c"))
    assert ids(await part.claim(under="t3")) == ["j1"]


async def test_rate_that_is_used_up_lets_the_job_wait_for_its_tokens(part: Partition) -> None:
    await set_limit(part, "per/60s@q", "1 60000 1")
    failed_ms = await fail(part, job("j1", flow=RATE))
    await replay(part, failed_ms, "j1")
    state = await part.state()
    assert state.place("j1") == "lane:q"
    [opens_at] = state.queues["q"].opens.values()
    assert opens_at >= START_MS + 60_000
    part.now_ms = opens_at
    assert ids(await part.claim()) == ["j1"]


async def test_tenant_waits_for_its_turn(part: Partition) -> None:
    failed_ms = await fail(part, job("j1", flow="tann"))
    await replay(part, failed_ms, "j1")
    state = await part.state()
    assert state.place("j1") == "lane:q"
    assert state.queues["q"].turns.keys() == {"t5" + hashlib.sha1(b"ann").hexdigest()[:14]}  # noqa: S324 - as the lane is named
    assert ids(await part.claim()) == ["j1"]


async def test_unique_key_is_taken_again(part: Partition) -> None:
    unique = "ukey*f*e"
    failed_ms = await fail(part, job("j1", flow=unique))
    await replay(part, failed_ms, "j1")
    assert await part.send(job("j2", flow=unique)) == [b"j1"]


async def test_job_is_not_replayed_while_another_does_the_same_work(part: Partition) -> None:
    unique = "ukey*f*e"
    failed_ms = await fail(part, job("j1", flow=unique))
    assert await part.send(job("j2", flow=unique)) == [1]
    before = await part.state()
    assert await replay(part, failed_ms, "j1") == [b"j2"]
    assert (await part.state()).changes(before) == []
    await part.claim()
    await part.settle(verdict("j2", "f"))
    assert await replay(part, failed_ms, "j1") == [1]
    assert await replay(part, int(part.now_ms), "j2") == [b"j1"]


async def test_only_one_of_two_failures_of_the_same_work_is_replayed_at_once(part: Partition) -> None:
    unique = "ukey*f*e"
    await fail(part, job("j1", flow=unique))
    failed_ms = await fail(part, job("j2", flow=unique))
    first_ms = failed_ms - 1_000
    failures = [(job(name)._replace(record=b""), ms, "") for name, ms in (("j1", first_ms), ("j2", failed_ms))]
    assert (await part.store.replay(failures))[1] == [1, b"j1"]
    assert (await part.state()).place("j2") == "failed"


@pytest.mark.parametrize(("what", "name"), [("dqq", b"#queue q"), ("daa", b"#actor a"), ("dgone@q=", b"#key one@q=")])
async def test_drained_takes_no_replay(part: Partition, what: str, name: bytes) -> None:
    failed_ms = await fail(part, job("j1", flow=GATE))
    await part.key("HSET", "control", what, "{}")
    assert await replay(part, failed_ms, "j1") == [name]
    assert (await part.state()).place("j1") == "failed"
    await part.key("DEL", "control")


async def test_actor_that_nobody_knows_is_parked_by_the_next_claim(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    await replay(part, failed_ms, "j1")
    await part.claim(actors=("other",))
    assert (await part.state()).place("j1") == "lane:q"


# -- waiters -------------------------------------------------------------------------------------------------------------------------


async def test_waiter_of_a_replayed_job_hears_of_its_end(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    assert [code for code, _ in await part.store.watch("ann", ["j1"])] == ["f"]
    await replay(part, failed_ms, "j1")
    assert [code for code, _ in await part.store.watch("ann", ["j1"])] == ["w"]
    await part.claim()
    await part.settle(verdict("j1", "c", b"done"))
    assert (await part.state()).watch == {}
    assert [code for code, _ in await part.store.watch("ann", ["j1"])] == ["c"]


async def test_replay_is_an_event(part: Partition) -> None:
    failed_ms = await fail(part, "j1", "j2")
    await replay(part, failed_ms, "j1", "j2", "never-sent")
    last = (await part.state()).events[-1]
    assert (last.verb, last.jobs, last.ids) == ("replay", 2, ("j1", "j2"))


# -- edited --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blob", [None, BIG], ids=["small", "big"])
@pytest.mark.parametrize("old_blob", [None, b"y" * 5_000], ids=["was-small", "was-big"])
async def test_edited_job_has_its_new_arguments_and_none_of_the_old(part: Partition, blob: bytes | None, old_blob: bytes | None) -> None:
    failed_ms = await fail(part, job("j1", blob=old_blob), payload=BIG)
    new = edited("j1", blob=blob)
    part.link.fail(scripts.REPLAY, LOST_ANSWER)
    assert await edit(part, failed_ms, new, "j1=none" if old_blob else "") == 1
    state = await part.state()
    assert state.jobs["j1"] == new.record
    assert state.blobs.keys() == {"j1=first"} | ({"j1=edit"} if blob else set())
    assert (await part.store.payloads([("j1", new.record)])).get("j1") == blob
    assert await edit(part, failed_ms, new, "j1=none" if old_blob else "") == 1
    assert (await part.state()).changes(state) == []


async def test_edited_job_has_its_new_flow(part: Partition) -> None:
    failed_ms = await fail(part, job("j1", priority=2, flow=GATE))
    await edit(part, failed_ms, edited("j1", flow="ctwo@q=,tann"))
    run = (await part.state()).run("j1")
    assert (run.flow, run.rank) == ("ctwo@q=,tann", rank(2, part.now_ms))


async def test_edit_of_another_failure_leaves_no_blob(part: Partition) -> None:
    failed_ms = await fail(part, "j1", "j2")
    assert await edit(part, failed_ms - 1, edited("j1", blob=BIG)) == 0
    await replay(part, failed_ms, "j2")
    assert await edit(part, failed_ms, edited("j2", blob=BIG)) == 0, "it runs with the arguments that it had"
    assert await edit(part, failed_ms, edited("never-sent", blob=BIG)) == 0
    assert (await part.state()).blobs == {}


async def test_refused_edit_leaves_no_blob(part: Partition) -> None:
    failed_ms = await fail(part, "j1")
    await part.send(job("j2", flow="ukey*f*e"))
    assert await edit(part, failed_ms, edited("j1", blob=BIG, flow="ukey*f*e")) == b"j2"
    state = await part.state()
    assert (state.place("j1"), state.blobs) == ("failed", {})


# -- a script that breaks off --------------------------------------------------------------------------------------------------------


PLACES: Final = ("ready:q", "delayed:q", "lane:q", "ready:q", "lane:q", "ready:q")


async def arrange_all(part: Partition) -> list[tuple[NewJob, int, str]]:
    """Let failures of every kind stand, and return their replays."""
    await set_limit(part, "one@q", "1")
    await part.send(job("holds", flow=GATE))
    await part.claim(under="holds", lease_ms=3_600_000)
    await part.send("plain", job("late", priority=1), job("tenant", flow="tann"), job("unique", flow="ukey*60000*e"))
    await part.send(job("big", blob=BIG))
    await part.claim(under="first")
    await part.send(job("waits", flow=GATE))
    part.now_ms += 1_000
    names = ("plain", "late", "tenant", "unique", "big")
    await part.settle(*(verdict(name, "f", BIG, under="first") for name in names))
    await part.settle(verdict("holds", "c", under="holds"))
    await part.claim(under="holds", lease_ms=3_600_000)
    await part.settle(verdict("waits", "f", under="holds"))
    await part.send(job("holds2", flow=GATE))
    await part.claim(under="holds", lease_ms=3_600_000)
    failed_ms = int(part.now_ms)
    part.now_ms += 70_000
    as_they_are = [
        *(job("plain"), job("late", when="+500"), job("tenant"), job("unique"), job("waits")),
    ]
    replays = [(each._replace(record=b""), failed_ms, "") for each in as_they_are]
    return [*replays, (edited("big", blob=b"z" * 5_000), failed_ms, "big=none"), (edited("stray", blob=BIG), failed_ms, "")]


async def test_replay_that_breaks_anywhere_is_mended_by_its_repetition(part: Partition) -> None:
    reached: set[int] = set()
    abort_at = 1
    while True:
        replays = await arrange_all(part)
        part.link.fail(scripts.REPLAY, abort_at)
        _, codes = await part.store.replay(replays)
        state = await part.state()
        assert (codes, [state.place(each.id) for each, *_ in replays]) == ([1] * 6 + [0], [*PLACES, ""]), abort_at
        assert state.blobs.keys() == {"big=edit", *(f"{name}=first" for name in ("plain", "late", "tenant", "unique", "big"))}
        assert state.failed == {}
        if not part.link.broken_at:
            break
        reached |= set[int]().union(*part.link.broken_at)
        abort_at += 1
        await part.clear()
    own = {number for number, site in breakable(scripts.REPLAY).sites().items() if site.function == "write"}
    assert own & reached


async def test_replay_that_broke_and_is_sent_again_later_gives_each_job_one_place(part: Partition) -> None:
    abort_at, broken = 1, True
    while broken:
        replays = await arrange_all(part)
        part.link.fail(scripts.REPLAY, abort_at, resend=False)
        try:
            await part.store.replay(replays)
        except RedisRefused:
            part.now_ms += 7
            assert (await part.store.replay(replays))[1] == [1] * 6 + [0]
        broken = bool(part.link.broken_at)
        state = await part.state()
        assert breaches(state) == [], abort_at
        assert [state.place(each.id) for each, *_ in replays] == [*PLACES, ""], abort_at
        abort_at += 1
        await part.clear()
    assert abort_at > 8, "fewer commands broke than the script has"


async def test_replay_that_breaks_and_is_never_sent_again_loses_no_job(part: Partition) -> None:
    abort_at = 1
    while True:
        replays = await arrange_all(part)
        part.link.fail(scripts.REPLAY, abort_at, resend=False)
        try:
            await part.store.replay(replays)
        except RedisRefused:
            assert part.link.broken_at
        else:
            break
        part.now_ms += 1_000
        claimed = await part.claim(under="then")
        await part.settle(*(verdict(name, "c", b"done", under="then") for name in ids(claimed)))
        await part.settle(verdict("holds2", "c", under="holds"))
        claimed = await part.claim(under="last")
        await part.settle(*(verdict(name, "c", b"done", under="last") for name in ids(claimed)))
        state = await part.state()
        assert breaches(state) == [], abort_at
        assert {state.place(each.id) for each, *_ in replays[:-1]} <= {"completed", "failed"}, abort_at
        abort_at += 1
        await part.clear()
    assert abort_at > 8, "fewer commands broke than the script has"
