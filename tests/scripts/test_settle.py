"""settle: each verdict moves its job once, and only under the token that is valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.views import read_outcome
from tests.scripts.faults import LOST_ANSWER
from tests.scripts.partition import LEASE_MS, START_MS, ids, job, rank, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

BIG = b"x" * 5_000


def result(stored: bytes) -> tuple[object, ...]:
    """Return what the result of a job tells: attempts, deliveries, start, worker, history, payload."""
    run, payload = read_outcome(stored)
    return run.attempts, run.deliveries, run.started_ms, run.worker, run.history, payload


async def lease(part: Partition, *names: str) -> None:
    """Send jobs and lease them to w1 under t1; the clock moves on by a second."""
    await part.send(*names)
    await part.claim()
    part.now_ms += 1_000


@pytest.mark.parametrize(
    ("code", "place", "word"), [("c", "completed", "completed"), ("f", "failed", "failed"), ("k", "cancelled", "cancelled")]
)
async def test_final_verdict_ends_the_job(part: Partition, code: str, place: str, word: str) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", code, b"payload")) == [1]
    state = await part.state()
    assert state.places() == {"j1": [place]}
    assert getattr(state, place) == {"j1": START_MS + 1_000}
    assert result(state.results["j1"]) == (1, 1, START_MS, "w1", "", b"payload")
    assert (state.runs, state.held, state.queues["q"].leased) == ({}, frozenset(), {})
    assert state.jobs == {"j1": b"a\0none\0{}"}
    assert state.stats[f"q|a|{word}"] == 1


async def test_job_that_is_given_up_fails_without_a_charge_for_the_delivery_that_tells_so(part: Partition) -> None:
    await lease(part, "j1")
    await part.settle(verdict("j1", "r", b"error"))
    await part.claim(under="t2")
    assert await part.settle(verdict("j1", "g", b"no attempt is left", under="t2")) == [1]
    state = await part.state()
    assert state.places() == {"j1": ["failed"]}
    attempts, deliveries, _, _, history, payload = result(state.results["j1"])
    assert (attempts, deliveries, payload) == (1, 2, b"no attempt is left")
    assert str(history).startswith("r,")
    assert state.stats["q|a|failed"] == 1
    assert await part.settle(verdict("j1", "g", b"no attempt is left", under="t2")) == [2]


async def test_retry_waits_with_its_attempt_charged_and_its_error_kept(part: Partition) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "r", b"error", delay_ms=2_000)) == [1]
    state = await part.state()
    assert state.queues["q"].delayed == {"j1": START_MS + 3_000}
    history = f"r,{START_MS:.0f},{START_MS + 1_000:.0f},w1"
    assert state.run("j1") == ("!t1", "w1", rank(5, START_MS), 1, 1, 0, START_MS, "-", history)
    assert result(state.results["j1"]) == (1, 1, START_MS, "w1", "", b"error")
    assert state.stats["q|a|retried"] == 1
    assert (await part.claim()).deliveries == []


async def test_retry_without_delay_is_ready_at_its_old_rank(part: Partition) -> None:
    await lease(part, "j1")
    await part.send("later")
    await part.take_marker()
    await part.settle(verdict("j1", "r", b"error"))
    assert await part.take_marker()
    claimed = await part.claim(under="t2")
    assert ids(claimed) == ["j1", "later"]
    assert claimed.deliveries[0].lease.startswith(b"t2 2 - r,")
    assert (await part.state()).runs["j1"].startswith(b"t2 w1 %d 2 2 0 " % rank(5, START_MS))


async def test_retried_job_ranks_by_the_time_at_which_it_is_due(part: Partition) -> None:
    await part.send(job("j1", priority=2))
    await part.claim()
    await part.settle(verdict("j1", "r", b"error", delay_ms=2_000))
    part.now_ms += 2_500
    claimed = await part.claim(under="t2")
    assert [float(delivery.rank) for delivery in claimed.deliveries] == [rank(2, START_MS + 2_000)]


async def test_snooze_waits_without_a_charge(part: Partition) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "s", delay_ms=2_000)) == [1]
    state = await part.state()
    assert state.queues["q"].delayed == {"j1": START_MS + 3_000}
    run = state.run("j1")
    assert (run.token, run.deliveries, run.attempts) == ("!t1", 1, 0)
    assert run.history.startswith("s,")
    assert state.results == {}
    assert state.stats["q|a|snoozed"] == 1


async def test_handed_back_job_is_ready_at_once_without_a_charge(part: Partition) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "x", delay_ms=2_000)) == [1]
    state = await part.state()
    assert state.queues["q"].ready == {"j1": rank(5, START_MS)}
    run = state.run("j1")
    assert (run.token, run.deliveries, run.attempts) == ("!t1", 1, 0)
    assert run.history.startswith("x,")
    assert state.stats["q|a|released"] == 1


async def test_note_is_kept_beside_the_run(part: Partition) -> None:
    await lease(part, "j1")
    before = await part.state()
    assert await part.settle(verdict("j1", "n", b"half")) == [1]
    assert await part.settle(verdict("j1", "n", BIG)) == [1]
    after = await part.state()
    assert after.notes == {"j1": BIG}
    assert after.changes(before) == ["notes"]


async def test_note_and_end_in_one_call(part: Partition) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "n", b"half"), verdict("j1", "c", b"null"), verdict("j1", "n", b"late")) == [1, 1, 2]
    state = await part.state()
    assert (state.notes, state.place("j1")) == ({"j1": b"half"}, "completed")


async def test_every_verdict_in_one_call(part: Partition) -> None:
    await lease(part, "c", "f", "k", "r", "s", "x", "n")
    verdicts = [verdict(code, code, b"payload", delay_ms=1_000 if code in "rs" else 0) for code in "cfkrsxn"]
    assert await part.settle(*verdicts) == [1] * 7
    state = await part.state()
    assert {name: state.place(name) for name in "cfkrsxn"} == {
        "c": "completed",
        "f": "failed",
        "k": "cancelled",
        "r": "delayed:q",
        "s": "delayed:q",
        "x": "ready:q",
        "n": "leased:q",
    }


async def test_jobs_of_several_queues_in_one_call(part: Partition) -> None:
    await part.send("j1", job("j2", queue="p"), job("j3", queue="p"))
    await part.claim(queues=("q", "p"))
    verdicts = (verdict("j1", "r", delay_ms=500), verdict("j2", "r", queue="p", delay_ms=500), verdict("j3", "x", queue="p"))
    assert await part.settle(*verdicts) == [1, 1, 1]
    assert (await part.state()).places() == {"j1": ["delayed:q"], "j2": ["delayed:p"], "j3": ["ready:p"]}


async def test_big_payload_is_kept_apart(part: Partition) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "c", BIG)) == [1]
    state = await part.state()
    assert result(state.results["j1"]) == (1, 1, START_MS, "w1", "", b"\1")
    assert state.blobs == {"j1=t1": BIG}
    [(code, stored)] = await part.store.watch("client", ["j1"])
    assert (code, result(stored)) == ("c", (1, 1, START_MS, "w1", "", BIG))


@pytest.mark.parametrize("code", ["c", "f", "k", "r", "s", "x", "n"])
async def test_verdict_under_a_lost_token_changes_nothing(part: Partition, code: str) -> None:
    await lease(part, "j1")
    part.now_ms += LEASE_MS
    await part.claim(worker="w2", under="t2")
    before = await part.state()
    child = job("child", blob=BIG)
    assert await part.settle(verdict("j1", code, BIG, delay_ms=500, children=[child] if code == "c" else ())) == [0]
    assert (await part.state()).changes(before) == []


async def test_verdict_under_a_lost_token_keeps_the_blobs_of_a_child_that_exists(part: Partition) -> None:
    await part.send(job("child", blob=BIG))
    await part.claim(under="t0")
    await lease(part, "j1")
    part.now_ms += LEASE_MS
    await part.claim(worker="w2", under="t2")
    before = await part.state()
    assert await part.settle(verdict("j1", "c", b"null", children=[job("child", blob=BIG)])) == [0]
    assert (await part.state()).changes(before) == []


@pytest.mark.parametrize("code", ["c", "r", "s", "x"])
async def test_verdict_after_the_lease_was_given_back_changes_nothing(part: Partition, code: str) -> None:
    """Nobody has taken the job yet: the token is void all the same."""
    await lease(part, "j1")
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    before = await part.state()
    codes = await part.settle(verdict("j1", code, BIG))
    assert codes[0] != 1
    assert (await part.state()).changes(before) == []


async def test_verdict_after_the_lease_was_given_back_is_called_lost(part: Partition) -> None:
    await lease(part, "j1")
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    assert await part.settle(verdict("j1", "c", b"null")) == [0], "it was never settled, so it is not 'settled before'"


@pytest.mark.parametrize("token", ["t", "t11", "!", "!t1", ""])
async def test_token_is_compared_as_a_whole(part: Partition, token: str) -> None:
    await lease(part, "j1")
    before = await part.state()
    assert await part.settle(verdict("j1", "c", b"null", under=token)) == [0]
    assert (await part.state()).changes(before) == []


async def test_verdict_on_an_unknown_job_changes_nothing(part: Partition) -> None:
    await lease(part, "j1")
    before = await part.state()
    assert await part.settle(verdict("never-sent", "c", BIG)) == [0]
    assert (await part.state()).changes(before) == []


@pytest.mark.parametrize("code", ["c", "f", "k", "r"])
async def test_second_settle_with_the_same_token_changes_nothing(part: Partition, code: str) -> None:
    await lease(part, "j1")
    verdicts = (verdict("j1", code, BIG, delay_ms=500),)
    assert await part.settle(*verdicts) == [1]
    before = await part.state()
    part.now_ms += 100
    assert await part.settle(*verdicts) == [2]
    assert await part.settle(verdict("j1", "f", b"other")) == [2]
    assert (await part.state()).changes(before) == []


@pytest.mark.parametrize("code", ["s", "x", "r"])
async def test_second_settle_after_the_next_claim_changes_nothing(part: Partition, code: str) -> None:
    await lease(part, "j1")
    await part.settle(verdict("j1", code))
    await part.claim(worker="w2", under="t2")
    before = await part.state()
    assert (await part.settle(verdict("j1", code)))[0] in (0, 2)
    assert (await part.state()).changes(before) == []


async def test_lost_answer_is_asked_for_again(part: Partition) -> None:
    await lease(part, "c", "r", "s")
    part.link.fail(scripts.SETTLE, LOST_ANSWER)
    codes = await part.settle(verdict("c", "c", BIG), verdict("r", "r", b"error", delay_ms=500), verdict("s", "s", delay_ms=500))
    assert codes == [2, 2, 2]
    state = await part.state()
    assert state.places() == {"c": ["completed"], "r": ["delayed:q"], "s": ["delayed:q"]}
    assert [state.stats[f"q|a|{word}"] for word in ("completed", "retried", "snoozed")] == [1, 1, 1]
    assert len([event for event in state.events if event.verb == "settle"]) == 1


async def test_duplicate_inside_a_batch_counts_once(part: Partition) -> None:
    await lease(part, "j1")
    assert await part.settle(verdict("j1", "c", b"first"), verdict("j1", "f", b"second"), verdict("j1", "c", b"third")) == [1, 2, 2]
    state = await part.state()
    assert state.places() == {"j1": ["completed"]}
    assert result(state.results["j1"])[-1] == b"first"
    assert (state.stats["q|a|completed"], state.stats["q|a|failed"]) == (1, 0)


async def test_good_and_lost_verdicts_in_one_call(part: Partition) -> None:
    await lease(part, "j1", "j2")
    assert await part.settle(verdict("j1", "c", BIG), verdict("j2", "c", BIG, under="old"), verdict("j1", "c", BIG)) == [1, 0, 2]
    state = await part.state()
    assert state.places() == {"j1": ["completed"], "j2": ["leased:q"]}
    assert state.blobs == {"j1=t1": BIG}


async def test_result_tells_of_every_run(part: Partition) -> None:
    await lease(part, "j1")
    await part.settle(verdict("j1", "r", b"error"))
    await part.claim(worker="w2", under="t2")
    part.now_ms += LEASE_MS
    await part.register("w2", "a")
    await part.claim(worker="w3", under="t3")
    await part.settle(verdict("j1", "c", b"null", under="t3"), worker="w3")
    attempts, deliveries, started_ms, worker, history, payload = result((await part.state()).results["j1"])
    assert (attempts, deliveries, started_ms, worker, payload) == (3, 3, part.now_ms, "w3", b"null")
    assert [entry[0] for entry in str(history).split(";")] == ["l", "r"]


async def test_marker_is_set_for_a_new_head_of_delayed_alone(part: Partition) -> None:
    await lease(part, "j1", "j2", "j3")
    await part.take_marker()
    await part.settle(verdict("j1", "r", delay_ms=500))
    assert await part.take_marker()
    await part.settle(verdict("j2", "s", delay_ms=500))
    assert not await part.take_marker()
    await part.settle(verdict("j3", "s", delay_ms=499))
    assert await part.take_marker()


async def test_end_of_a_job_wakes_nobody(part: Partition) -> None:
    await lease(part, "j1")
    await part.take_marker()
    await part.settle(verdict("j1", "c", b"null"))
    assert not await part.take_marker()
