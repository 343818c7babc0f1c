"""cancel: what waits ends at once, wherever it waits; what runs is asked to stop, and never waits again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from angelrt.inbox import Inbox
from angelrt.views import read_outcome, why_cancelled
from tests.scripts.gated import KEYED, complete, declare, gate, gate_problems, held, holders, lane, lanes, pause, resume
from tests.scripts.partition import LEASE_MS, ids, job, verdict
from tests.worker.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tests.scripts.partition import Partition

CANCELLED, ASKED, ENDED, UNKNOWN = 1, 2, 0, -1


@pytest.fixture(autouse=True)
async def gates_hold(part: Partition) -> AsyncIterator[None]:
    """Check after each test that holders and leases go together, and that no lane that may proceed is without its mark."""
    yield
    assert await gate_problems(part) == []


async def cancel(part: Partition, *ids: str, who: str = "tester") -> list[int]:
    """Cancel jobs."""
    return await part.store.cancel(ids, who)


@asynccontextmanager
async def hearing(url: str, channel: str) -> AsyncGenerator[list[str | None]]:
    """Yield what is told on a channel."""
    heard: list[str | None] = []
    inbox = Inbox(url, channel, heard.append)
    await inbox.open()
    try:
        yield heard
    finally:
        await inbox.close()


async def counted(part: Partition, word: str) -> int:
    """Return what the counters of all actors say together."""
    return sum(number for field, number in (await part.state()).stats.items() if field.endswith(f"|{word}"))


async def reason(part: Partition, job_id: str) -> str:
    """Return in words why a job was cancelled."""
    run, payload = read_outcome((await part.state()).results[job_id])
    assert payload == b""
    return why_cancelled(run.flow)


# -- what waits -----------------------------------------------------------------------------------------------------------------------


async def make_ready(part: Partition) -> None:
    await part.send("j1")


async def make_ready_with_a_gate(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", flow=held("A")))


async def make_delayed(part: Partition) -> None:
    await part.send(job("j1", when="+60000"))


async def make_delayed_with_a_priority(part: Partition) -> None:
    await part.send(job("j1", when="+60000", priority=2))


async def make_parked_at_a_gate(part: Partition) -> None:
    await declare(part)
    await part.send(job("first", flow=held("A")))
    await part.claim(under="t0", worker="w0")
    await part.send(job("j1", flow=held("A")))


async def make_parked_at_its_second_gate(part: Partition) -> None:
    await declare(part)
    await part.send(job("first", flow=held("A")))
    await part.claim(under="t0", worker="w0")
    await part.send(job("j1", flow=f"{held('B')},{held('A')}"))


async def make_parked_for_its_actor(part: Partition) -> None:
    await part.park("j1")


async def make_parked_for_its_actor_with_a_flow(part: Partition) -> None:
    await part.send(job("j1", actor="rare", flow="x1800000000000"))
    await part.claim()


async def make_paused_queue(part: Partition) -> None:
    await pause(part, "qq")
    await part.send("j1")
    await part.claim()


async def make_retried(part: Partition) -> None:
    await part.send("j1")
    await part.claim(under="t0", worker="w0")
    await part.settle(verdict("j1", "r", b'{"type":"E"}', under="t0", delay_ms=60_000), worker="w0")


async def make_handed_back(part: Partition) -> None:
    await part.send("j1")
    await part.claim(under="t0", worker="w0")
    await part.settle(verdict("j1", "x", under="t0", words=("", "")), worker="w0")


async def make_lost(part: Partition) -> None:
    await part.send("j1")
    await part.claim(under="t0", worker="w0")
    await part.store.expire_worker("w0", ["q"], died=True)


WAITING: dict[str, Any] = {
    make.__name__.removeprefix("make_"): make
    for make in (
        *(make_ready, make_ready_with_a_gate, make_delayed, make_delayed_with_a_priority, make_parked_at_a_gate),
        *(make_parked_at_its_second_gate, make_parked_for_its_actor, make_parked_for_its_actor_with_a_flow, make_paused_queue),
        *(make_retried, make_handed_back, make_lost),
    )
}


@pytest.mark.parametrize("make", WAITING.values(), ids=WAITING.keys())
async def test_what_waits_ends_at_once_and_never_runs(part: Partition, make: Any) -> None:
    await make(part)
    assert await cancel(part, "j1", who="Mary%20Ann") == [CANCELLED]
    state = await part.state()
    assert state.place("j1") == "cancelled"
    assert "j1" not in state.runs
    assert state.cancelled["j1"] == part.now_ms
    assert await reason(part, "j1") == "was cancelled by Mary Ann"
    assert await counted(part, "cancelled") == 1
    await resume(part, "qq")
    part.now_ms += LEASE_MS + 60_000
    served = ids(await part.claim(actors=("a", "rare"))) + ids(await part.claim(under="t2", actors=("a", "rare")))
    assert "j1" not in served


@pytest.mark.parametrize("make", WAITING.values(), ids=WAITING.keys())
async def test_cancelled_twice_it_had_ended_before(part: Partition, make: Any) -> None:
    await make(part)
    await cancel(part, "j1")
    before = await part.state()
    assert await cancel(part, "j1", who="somebody-else") == [ENDED]
    assert set((await part.state()).changes(before)) <= {"events"}


async def test_history_of_its_runs_is_kept(part: Partition) -> None:
    await make_retried(part)
    await cancel(part, "j1")
    run, _ = read_outcome((await part.state()).results["j1"])
    assert (run.attempts, run.deliveries, run.history.partition(",")[0]) == (1, 1, "r")


async def test_arguments_and_error_that_are_kept_apart_do_not_outlive_their_use(part: Partition) -> None:
    await part.send(job("j1", blob=b'"' + b"x" * 5_000 + b'"'))
    await part.claim()
    await part.settle(verdict("j1", "r", b'{"type":"' + b"E" * 5_000 + b'"}', delay_ms=60_000))
    assert len((await part.state()).blobs) == 2
    await cancel(part, "j1")
    assert len((await part.state()).blobs) == 1, "the arguments stay as long as the job is known; the error is overwritten"


async def test_waiter_behind_a_cancelled_one_is_served_when_the_gate_is_free(part: Partition) -> None:
    await make_parked_at_a_gate(part)
    await part.send(job("j2", flow=held("A")))
    await part.settle(verdict("first", "c", b"1", under="t0"), worker="w0")
    assert await cancel(part, "j1") == [CANCELLED]
    assert ids(await part.claim()) == ["j2"]
    assert await lanes(part) == {}


async def test_cancelled_job_that_expires_too_is_ended_once(part: Partition) -> None:
    await part.send(job("j1", flow=f"x{part.now_ms + 1000:.0f}"))
    await cancel(part, "j1")
    part.now_ms += 2_000
    await part.store.tick(["q"])
    assert await counted(part, "cancelled") == 1
    assert await counted(part, "expired") == 0
    assert await reason(part, "j1") == "was cancelled by tester"


async def test_waiters_for_the_result_hear_of_it(part: Partition, server_url: str) -> None:
    async with hearing(server_url, part.store.keys.inbox("client")) as heard:
        await part.send("j1")
        assert await part.store.watch("client", ["j1"]) == [("w", b"")]
        await cancel(part, "j1")
        await until(lambda: "j1" in heard, "the client hears that the job has ended")
        assert (await part.store.watch("client", ["j1"]))[0][0] == "k"


# -- what has ended, what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["c", "f", "k"])
async def test_what_has_ended_stays_as_it_ended(part: Partition, code: str) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", code, b"1"))
    before = await part.state()
    assert await cancel(part, "j1") == [ENDED]
    assert set((await part.state()).changes(before)) <= {"events"}


async def test_each_id_gets_its_own_answer(part: Partition) -> None:
    await part.send("j1", "j2", job("j3", when="+9000"), job("j4", queue="p"))
    await part.claim(1)
    assert await cancel(part, "j1", "nobody", "j2", "j3", "j2", "j4") == [ASKED, UNKNOWN, CANCELLED, CANCELLED, ENDED, CANCELLED]
    assert await counted(part, "cancelled") == 3


async def test_nothing_at_all_is_no_error(part: Partition) -> None:
    assert await cancel(part) == []


# -- what runs ------------------------------------------------------------------------------------------------------------------------


async def test_what_runs_is_asked_and_its_worker_hears_of_it(part: Partition, server_url: str) -> None:
    async with hearing(server_url, part.store.keys.asked("w1")) as heard:
        await part.send("j1")
        await part.claim()
        assert await cancel(part, "j1") == [ASKED]
        await until(lambda: "j1" in heard, "the worker hears of it")
    assert (await part.state()).place("j1") == "leased:q"
    assert await counted(part, "cancelled") == 0, "it has not ended yet"


async def test_worker_that_missed_the_news_hears_at_its_next_renewal(part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim()
    await cancel(part, "j2")
    assert await part.renew(("j1", "t1"), ("j2", "t1")) == ([], ["j2"])
    assert (await part.state()).queues["q"].leased["j2"] == part.now_ms + LEASE_MS, "it keeps its lease until it has stopped"


async def test_asking_twice_keeps_the_first_name_and_tells_the_worker_again(part: Partition, server_url: str) -> None:
    async with hearing(server_url, part.store.keys.asked("w1")) as heard:
        await part.send("j1")
        await part.claim()
        assert await cancel(part, "j1", who="first") == [ASKED]
        assert await cancel(part, "j1", who="second") == [ASKED]
        await until(lambda: heard.count("j1") == 2, "the worker hears twice")
    assert (await part.state()).run("j1").flow == "kfirst"
    await part.settle(verdict("j1", "k"))
    assert await reason(part, "j1") == "was cancelled by first"


@pytest.mark.parametrize("code", ["r", "s", "x", "w"])
async def test_run_that_was_asked_to_stop_never_waits_again(part: Partition, code: str) -> None:
    await part.send("j1")
    await part.claim()
    await cancel(part, "j1")
    await part.settle(verdict("j1", code, b"{}", delay_ms=60_000))
    state = await part.state()
    assert state.place("j1") == "cancelled"
    assert await reason(part, "j1") == "was cancelled by tester"
    assert (await counted(part, "cancelled"), await counted(part, "retried"), await counted(part, "released")) == (1, 0, 0)


async def test_run_that_ended_well_before_it_could_stop_has_ended_well(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await cancel(part, "j1")
    await part.settle(verdict("j1", "c", b'"done"'))
    state = await part.state()
    assert state.place("j1") == "completed"
    assert read_outcome(state.results["j1"])[1] == b'"done"'


@pytest.mark.parametrize("how", ["lease", "died", "left"])
async def test_asked_run_whose_worker_is_gone_is_cancelled(part: Partition, how: str) -> None:
    await declare(part)
    await part.send(job("j1", flow=held("A")), "j2")
    await part.claim()
    await part.store.watch("client", ["j1"])
    await cancel(part, "j1")
    if how == "lease":
        part.now_ms += LEASE_MS
        await part.store.tick(["q"])
    else:
        await part.store.expire_worker("w1", ["q"], died=how == "died")
    state = await part.state()
    assert (state.place("j1"), state.place("j2")) == ("cancelled", "ready:q")
    assert await reason(part, "j1") == "was cancelled by tester"
    assert await holders(part) == set()
    assert not state.watch


@pytest.mark.parametrize("how", ["lease", "died", "left"])
async def test_asked_run_whose_worker_is_gone_is_counted_as_cancelled(part: Partition, how: str) -> None:
    await part.send("j1")
    await part.claim()
    await cancel(part, "j1")
    if how == "lease":
        part.now_ms += LEASE_MS
        await part.claim(under="t2")
    else:
        await part.store.expire_worker("w1", ["q"], died=how == "died")
    assert await counted(part, "cancelled") == 1


async def test_asked_run_frees_its_gate_when_it_ends_and_not_before(part: Partition) -> None:
    await declare(part)
    await part.send(job("j1", flow=held("A")))
    await part.claim()
    await part.send(job("j2", flow=held("A")))
    await cancel(part, "j1")
    assert await holders(part) == {(lane(gate("A", KEYED)), "j1")}
    assert ids(await part.claim(under="t2")) == []
    await part.settle(verdict("j1", "k"))
    assert await complete(part, await part.claim(under="t3"), "t3") == ["j2"]


async def test_late_verdict_of_a_run_that_was_cancelled_in_its_absence_changes_nothing(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await cancel(part, "j1")
    part.now_ms += LEASE_MS
    await part.store.tick(["q"])
    assert await part.settle(verdict("j1", "c", b"1")) == [0]
    assert (await part.state()).place("j1") == "cancelled"


async def test_cancel_and_claim_at_the_same_time_never_lose_each_other(part: Partition) -> None:
    await part.send(*(f"j{n:02}" for n in range(50)))
    claims = [part.claim(10, under=f"t{n}") for n in range(3)]
    cancels = [cancel(part, *(f"j{n:02}" for n in range(first, first + 10))) for first in range(0, 50, 10)]
    claimed, answered = await asyncio.gather(asyncio.gather(*claims), asyncio.gather(*cancels))
    leased = {job_id for one in claimed for job_id in ids(one)}
    codes = dict(zip((f"j{n:02}" for n in range(50)), [code for codes in answered for code in codes], strict=True))
    assert {job_id for job_id, code in codes.items() if code == ASKED} <= leased
    state = await part.state()
    for job_id, code in codes.items():
        assert state.place(job_id) == ("leased:q" if code == ASKED else "cancelled")
