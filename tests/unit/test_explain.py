"""explain in words: every kind of reason, and when the job is expected to begin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from angelrt import JobNotFound, Status
from angelrt import explain as explaining
from angelrt.explain import in_words
from tests.scripts.gated import KEYED, RATED, declare, gate, held, rate, rated, resume, set_limit
from tests.scripts.partition import START_MS, Partition, ids, job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt import Explanation

LEASE_MS: Final = 15_000
FAILURE: Final = orjson.dumps({"actor": "a", "type": "ValueError", "message": "no such file", "traceback": "..."})
START: Final = "2025-06-15 15:06:40 UTC"
KEPT_TIME: Final = START[11:19] + " UTC"


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """A partition whose clock stands at START."""
    partition = Partition(server_url, namespace)
    try:
        yield partition
    finally:
        await partition.remove()


async def worker(part: Partition, name: str = "w1", *actors: str, running: int = 0, concurrency: int = 4) -> None:
    """Let a worker beat, one that knows actor `a` unless others are given."""
    known = actors or ("a",)
    info: dict[str, Any] = {"type": "worker", "queues": ["q"], "actors": known, "concurrency": concurrency, "running": running}
    info |= {"processed": 0, "busy_ms": 0, "host": "here", "pid": 1, "blocked_by": None}
    info |= {"blocked_s": None, "longest_block_by": None, "longest_block_s": None}
    await part.store.beat(name, orjson.dumps(info), ["q"], known)


async def pause(part: Partition, what: str, reason: str = "") -> None:
    """Pause, as `rt.control` does."""
    told = orjson.dumps({"by": "ann", "at": part.now_ms, "reason": reason}).decode()
    await part.store.control("pause", what, told, part.queues)


async def explain(part: Partition, job_id: str, attempts: int | None = 8) -> Explanation:
    """Ask why a job waits."""
    return await explaining.explain(part.store, job_id, lease_ms=LEASE_MS, attempts_of=lambda _: attempts)


def kinds(found: Explanation) -> list[str]:
    """Return the kinds of the reasons, in order."""
    return [reason.kind for reason in found.reasons]


def at(ms: float) -> datetime:
    """Return a time, so many milliseconds after START."""
    return datetime.fromtimestamp((START_MS + ms) / 1000, UTC)


# -- times in words --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5_000, "now"),
        (0, "now"),
        (0.4, "in 0 ms"),
        (250, "in 250 ms"),
        (999, "in 999 ms"),
        (1_000, "in 1 s"),
        (59_400, "in 59 s"),
        (59_600, "in 1 min"),
        (60_000, "in 1 min"),
        (200_000, "in 3 min 20 s"),
        (3_600_000, "in 1 h"),
        (3_661_000, "in 1 h 1 min"),
        (7_199_600, "in 2 h"),
        (86_400_000, "in 1 d"),
        (90_061_000, "in 1 d 1 h"),
        (86_460_000, "in 1 d 1 min"),
        (3_650 * 86_400_000, "in 3650 d"),
    ],
)
def test_time_from_now_in_words(ms: float, words: str) -> None:
    assert in_words(ms) == words


# -- in line ---------------------------------------------------------------------------------------------------------------------------


async def test_job_that_nothing_holds_is_told_its_place_and_who_is_busy(part: Partition) -> None:
    await worker(part, running=4)
    await worker(part, "w2", running=3, concurrency=3)
    await part.send("j1", "j2", "j3")
    found = await explain(part, "j2")
    assert found.text == "it is number 2 of 3 in line; all 7 slots of the 2 workers are taken"
    assert found.reasons[0].data == {"place": 2, "of": 3, "jobsPerS": 0.0, "atMs": None, "running": 7, "slots": 7}
    assert (found.status, found.actor, found.queue, found.expected_at) == (Status.PENDING, "a", "q", None)


@pytest.mark.parametrize(
    ("slots", "words"), [(1, "the only slot of the only worker is taken"), (3, "all 3 slots of the only worker are taken")]
)
async def test_one_worker_or_slot_is_told_in_words_of_its_own(part: Partition, slots: int, words: str) -> None:
    await worker(part, running=slots, concurrency=slots)
    await part.send("j1")
    assert (await explain(part, "j1")).text == f"it is number 1 of 1 in line; {words}"


async def test_place_in_line_is_told_in_time_by_the_present_speed(part: Partition) -> None:
    await worker(part)
    part.now_ms = START_MS // 3_600_000 * 3_600_000 + 100_000
    await part.send(*(f"done{n:02}" for n in range(50)))
    await part.settle(*(verdict(each, "c", b"1") for each in ids(await part.claim())))
    await worker(part)
    await part.send("j1", "j2")
    found = await explain(part, "j2")
    assert found.text == "it is number 2 of 2 in line; at the present 0.5 jobs a second it begins in 4 s"
    assert found.expected_at == datetime.fromtimestamp((part.now_ms + 4_000) / 1000, UTC)


async def test_speed_is_of_the_hour_before_where_this_one_has_none(part: Partition) -> None:
    part.now_ms = START_MS // 3_600_000 * 3_600_000 - 1_000
    await part.send(*(f"done{n:02}" for n in range(36)))
    await part.settle(*(verdict(each, "c", b"1") for each in ids(await part.claim())))
    part.now_ms += 2_000
    await worker(part)
    await part.send("j1")
    assert (await explain(part, "j1")).reasons[0].data["jobsPerS"] == pytest.approx(0.01)


async def test_no_worker_and_a_dead_worker_are_no_worker(part: Partition) -> None:
    await part.send("j1")
    found = await explain(part, "j1")
    assert kinds(found) == ["no_worker", "line"]
    assert found.reasons[0].text == "no live worker serves queue q"
    await worker(part)
    assert kinds(await explain(part, "j1")) == ["line"]
    part.now_ms += LEASE_MS + 1
    assert kinds(await explain(part, "j1")) == ["no_worker", "line"]


async def test_actor_that_no_worker_has_is_named(part: Partition) -> None:
    await worker(part)
    await part.send(job("j1", actor="rare"))
    found = await explain(part, "j1")
    assert found.reasons[0].text == "no live worker of queue q has actor rare: deploy one that declares it"
    assert (found.reasons[0].kind, found.reasons[0].data, found.expected_at) == ("missing", {"actor": "rare"}, None)
    await worker(part, "w2", "rare")
    assert kinds(await explain(part, "j1")) == ["line"]


# -- pauses ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "name"),
    [("qq", "queue q"), ("aa", "actor a"), (f"g{gate('a%20b')}", "key a.key@q=a b")],
)
async def test_pause_is_told_by_whom_since_when_and_why(part: Partition, what: str, name: str) -> None:
    await worker(part)
    await declare(part)
    await pause(part, what, "the provider is down")
    await part.send(job("j1", flow=held("a%20b")))
    found = await explain(part, "j1")
    assert found.reasons[0].text == f"{name} is paused since {START} by ann: the provider is down"
    assert found.reasons[0].data["by"] == "ann"
    assert found.expected_at is None
    await resume(part, what)
    await pause(part, what)
    assert (await explain(part, "j1")).reasons[0].text == f"{name} is paused since {START} by ann"


async def test_drain_holds_nobody_that_is_there(part: Partition) -> None:
    await worker(part)
    await part.send("j1")
    await pause(part, "dqq")
    assert kinds(await explain(part, "j1")) == ["line"]


# -- gates -------------------------------------------------------------------------------------------------------------------------------


async def test_full_key_is_told_with_those_that_hold_it(part: Partition) -> None:
    await worker(part)
    await declare(part, spec=2)
    await part.send(*(job(f"j{n}", flow=held("x%2Fy")) for n in range(4)))
    await part.claim()
    found = await explain(part, "j3")
    assert found.text == (
        "limit a.key@q for x/y: 2 at a time; held by j0, j1\n1 of the 2 jobs that wait there stand before it"
    )  # fmt: skip
    assert found.reasons[0].data == {"gate": "a.key@q=x%2Fy", "limit": "2 at a time", "taken": 2, "atMs": None, "holders": ["j0", "j1"]}
    assert found.expected_at is None
    assert (await explain(part, "j2")).reasons[1].text == "it is the first of 2 that wait there"


async def test_many_holders_are_told_in_part(part: Partition) -> None:
    await worker(part)
    await declare(part, spec=12)
    await part.send(*(job(f"j{n:02}", flow=held()) for n in range(13)))
    await part.claim()
    text = (await explain(part, "j12")).reasons[0].text
    assert text == f"limit a.key@q for 1: 12 at a time; held by {', '.join(f'j{n:02}' for n in range(10))} and 2 more"


async def test_rate_is_told_with_the_time_at_which_enough_is_free(part: Partition) -> None:
    await worker(part)
    await declare(part, RATED, rate(2, window_ms=86_400_000))
    await part.send(*(job(f"j{n}", flow=rated()) for n in range(3)))
    await part.claim()
    found = await explain(part, "j2")
    assert found.reasons[0].text.startswith("limit a.key/10s@q for 1: 2/day; 2 taken, and enough are free in 1 d ")
    at_ms = found.reasons[0].data["atMs"]
    assert found.expected_at == datetime.fromtimestamp(at_ms / 1000, UTC)
    assert START_MS + 86_400_000 <= at_ms <= START_MS + 86_400_000 * 33 / 32


async def test_limit_of_a_whole_queue_is_told_without_a_value(part: Partition) -> None:
    await worker(part)
    await declare(part, "a@q", 1)
    await part.send(job("j1", flow="ca@q="), job("j2", flow="ca@q="))
    await part.claim()
    assert (await explain(part, "j2")).reasons[0].text == "limit a@q: 1 at a time; held by j1"


async def test_cost_over_the_limit_is_told_what_to_do(part: Partition) -> None:
    await worker(part)
    await declare(part, RATED, rate(8))
    await set_limit(part, RATED, rate(5, 2))
    await part.send(job("j1", flow=rated(cost=6)))
    found = await explain(part, "j1")
    assert found.reasons[0].text == (
        "limit a.key/10s@q for 1: 5/10s, 2 at once, which is less than this job takes: raise the limit or cancel it"
    )
    assert found.expected_at is None


async def test_gate_that_a_run_held_back_is_told_until_when(part: Partition) -> None:
    await worker(part)
    await declare(part, RATED, rate(5))
    await part.send(job("j1", flow=rated()), job("j2", flow=rated()))
    await part.claim(1)
    await part.settle(verdict("j1", "r", b"{}", delay_ms=90_000, gates="h"))
    found = await explain(part, "j2")
    assert found.reasons[0].text == "limit a.key/10s@q for 1: 5/10s; held back, as a run was told to try again in 1 min 30 s"
    assert found.expected_at == at(90_000)


@pytest.mark.parametrize(("rule", "spec", "item"), [(KEYED, "1", held()), (RATED, rate(1), rated())])
async def test_job_that_comes_after_those_of_an_open_gate_is_told_so(part: Partition, rule: str, spec: str, item: str) -> None:
    await worker(part)
    await declare(part, rule, spec)
    await part.send(job("j1", flow=item), job("j2", flow=item), job("j3", flow=item, when="+1"))
    await part.claim(1)
    await part.claim(1, under="t2")
    await part.settle(verdict("j1", "c", b"1"))
    part.now_ms += 11_000
    await worker(part)
    await part.store.tick(["q"])
    assert (await part.state()).place("j3") == "ready:q"
    found = await explain(part, "j3")
    assert kinds(found) == ["gate", "line"]
    assert found.reasons[0].text.endswith("; it opens when those before this job have gone")


# -- time --------------------------------------------------------------------------------------------------------------------------------


async def test_delayed_job_is_told_when_it_is_due(part: Partition) -> None:
    await part.send(job("j1", when="+200000"))
    found = await explain(part, "j1")
    assert found.text == "it is due at 2025-06-15 15:10:00 UTC, in 3 min 20 s"
    assert (found.expected_at, found.status) == (at(200_000), Status.PENDING)


async def test_retried_job_is_told_its_attempt_and_the_last_error(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", "r", FAILURE, delay_ms=4_000))
    found = await explain(part, "j1")
    assert found.text == (
        "attempt 2 of 8 is due at 2025-06-15 15:06:44 UTC, in 4 s; the last error was ValueError: no such file"
    )  # fmt: skip
    assert (await explain(part, "j1", attempts=None)).text.startswith("attempt 2 is due at ")


async def test_job_that_expires_is_told_when(part: Partition) -> None:
    await worker(part)
    await part.send(job("j1", flow=f"x{START_MS + 30_000:.0f}"))
    found = await explain(part, "j1")
    assert found.reasons[-1].text == "it is cancelled if it has not begun in 30 s"
    assert found.reasons[-1].data == {"atMs": START_MS + 30_000}


async def test_paused_queue_of_a_delayed_job_is_told_beside_the_time(part: Partition) -> None:
    await part.send(job("j1", when="+1000"))
    await pause(part, "qq")
    found = await explain(part, "j1")
    assert kinds(found) == ["due", "paused"]
    assert found.expected_at is None


# -- running and ended ---------------------------------------------------------------------------------------------------------------------


async def test_running_job_is_told_where_and_for_how_many_times(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    found = await explain(part, "j1")
    assert found.text == f"it runs on worker w1 since {KEPT_TIME}, attempt 1 of 8"
    assert found.reasons[0].data == {"worker": "w1", "attempt": 1, "sinceMs": START_MS}
    assert (found.status, found.expected_at) == (Status.PROCESSING, None)


async def test_running_job_that_was_asked_to_stop_is_told_by_whom(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.store.cancel(["j1"], "ann%40here")
    found = await explain(part, "j1")
    assert kinds(found) == ["running", "stopping"]
    assert found.reasons[1].text == "ann@here has cancelled it: its run was asked to stop"


@pytest.mark.parametrize(
    ("code", "payload", "words", "queue"),
    [
        ("c", b"1", f"it completed at {START} after 1 attempt", None),
        ("f", FAILURE, f"it failed at {START} after 1 attempt; the last error was ValueError: no such file", "q"),
    ],
)
async def test_ended_job_is_told_how_and_after_how_many_attempts(
    part: Partition, code: str, payload: bytes, words: str, queue: str | None
) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", code, payload))
    found = await explain(part, "j1")
    assert (kinds(found), found.text, found.queue, found.expected_at) == (["ended"], words, queue, None)


async def test_attempts_are_counted(part: Partition) -> None:
    await part.send("j1")
    for n in range(3):
        await part.claim(under=f"t{n}")
        await part.settle(verdict("j1", "r" if n < 2 else "c", b"1", under=f"t{n}"))
    assert (await explain(part, "j1")).text == f"it completed at {START} after 3 attempts"


async def test_cancelled_job_is_told_why(part: Partition) -> None:
    await part.send("j1", job("j2", flow=f"x{START_MS + 1_000:.0f}"), job("old", flow="ua:1*f*r"))
    await part.store.cancel(["j1"], "ann%40here")
    await part.send(job("new", flow="ua:1*f*r"))
    assert (await explain(part, "j1")).text == f"it was cancelled by ann@here at {START}"
    assert (await explain(part, "old")).text == f"it was replaced by job new, which does the same work at {START}"
    part.now_ms += 1_000
    await part.store.tick(["q"])
    assert (await explain(part, "j2")).text == "it was cancelled: it had not begun before it expired at 2025-06-15 15:06:41 UTC"


async def test_job_that_is_not_there_is_an_error(part: Partition) -> None:
    with pytest.raises(JobNotFound, match="no job 'nobody': it was never sent to this namespace"):
        await explain(part, "nobody")


# -- all together ------------------------------------------------------------------------------------------------------------------------


async def test_strongest_reason_comes_first_and_each_has_a_line(part: Partition) -> None:
    await worker(part)
    await declare(part)
    await part.send(job("j1", flow=held()), job("j2", flow=f"{held()},x{START_MS + 60_000:.0f}"))
    await part.claim(1)
    await part.claim(1, under="t2")
    await pause(part, "qq")
    found = await explain(part, "j2")
    assert kinds(found) == ["paused", "gate", "behind", "expires"]
    assert len(found.text.splitlines()) == 4


async def test_turn_of_a_tenant_is_told(part: Partition) -> None:
    await worker(part)
    await part.send(*(job(f"big{n}", flow="tbig") for n in range(50)), job("ann1", flow="tann%20b"), job("ann2", flow="tann%20b"))
    found = await explain(part, "ann2")
    assert kinds(found) == ["line"]
    assert "number 2 of 2" in found.text
    assert "tenant ann b" in found.text, "whose line it is"


async def test_view_for_programs_is_in_camel_case(part: Partition) -> None:
    await declare(part, RATED, rate(1))
    await part.send(job("j1", flow=rated()), job("j2", flow=rated()))
    await part.claim()
    shown = (await explain(part, "j2")).model_dump(mode="json", by_alias=True)
    assert shown.keys() == {"id", "actor", "queue", "status", "reasons", "expectedAt"}
    assert shown["reasons"][0].keys() == {"kind", "text", "data"}
    assert KEYED not in shown["reasons"][0]["text"]
