"""Sending: what a send promises, what it costs, and where its jobs wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Actors, InvalidArguments, InvalidOptions, PayloadTooLarge, RetryPolicy, Status
from angelrt.config import BATCH_MAX_JOBS, BLOB_MIN_BYTES, PAYLOAD_MAX_BYTES
from tests.worker.waiting import until_info, until_true

if TYPE_CHECKING:
    from collections.abc import Callable

    from angelrt import Runtime
    from angelrt.store import Store
    from tests.worker.conftest import NewRuntime

RESULT_S = 20


# -- what it costs -------------------------------------------------------------------------------------------------------------------


async def test_sends_at_the_same_time_share_their_calls(rt: Runtime[Any], commands_seen: Callable[..., Any]) -> None:
    @rt.actor()
    async def works(number: int) -> None:
        """Run by nobody."""

    before = await commands_seen("evalsha")
    jobs = await asyncio.gather(*(works.send(number) for number in range(100)))
    assert await commands_seen("evalsha") - before <= 5
    assert len({job.id for job in jobs}) == 100
    assert [(await job.info()).payload["number"] for job in jobs[::33]] == [0, 33, 66, 99]


async def test_verdicts_at_the_same_time_share_their_calls(rt: Runtime[Any], commands_seen: Callable[..., Any]) -> None:
    together = asyncio.Barrier(100)

    @rt.actor()
    async def works() -> None:
        await together.wait()

    async with rt.worker(concurrency=100):
        before = await commands_seen("evalsha")
        jobs = await rt.send_many([works.message() for _ in range(100)])
        await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
        assert await commands_seen("evalsha") - before < 40


async def test_send_many_takes_more_than_a_batch_in_order(rt: Runtime[Any], commands_seen: Callable[..., Any]) -> None:
    @rt.actor()
    async def double(number: int) -> int:
        return 2 * number

    total = 2 * BATCH_MAX_JOBS + 50
    before = await commands_seen("evalsha")
    jobs = await rt.send_many(double.message(number) for number in range(total))
    assert await commands_seen("evalsha") - before == 3
    assert all(job.created for job in jobs)
    async with rt.worker(concurrency=100):
        assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == [2 * number for number in range(total)]


async def test_send_many_is_bounded_in_bytes_too(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def measure(text: str) -> int:
        return len(text)

    jobs = await rt.send_many([measure.message("x" * 900_000) for _ in range(8)])
    async with rt.worker():
        assert [await job.result(RESULT_S) for job in jobs] == [900_000] * 8


async def test_send_many_of_nothing_is_nothing(rt: Runtime[Any], commands_seen: Callable[..., Any]) -> None:
    before = await commands_seen("evalsha")
    assert await rt.send_many([]) == []
    assert await commands_seen("evalsha") == before


# -- ids -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", ["order-17", "a b/c:{d}\\*?[x]", "schlüssel-☃", "x" * 128, "0", "=~!'\""])
async def test_the_same_id_twice_is_one_job(rt: Runtime[Any], job_id: str) -> None:
    runs: list[int] = []

    @rt.actor()
    async def works(number: int) -> int:
        runs.append(number)
        return number

    first = await works.options(id=job_id).send(1)
    second = await works.options(id=job_id).send(2)
    assert (first.id, first.created, second.id, second.created) == (job_id, True, job_id, False)
    async with rt.worker():
        assert await second.result(RESULT_S) == 1
        third = await works.options(id=job_id).send(3)
        assert not third.created, "an id is known while its job is remembered"
        assert await third.result(RESULT_S) == 1
    assert runs == [1]


async def test_the_same_id_twice_in_one_batch_is_one_job(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works(number: int) -> int:
        return number

    jobs = await rt.send_many([works.options(id="one").message(number) for number in (1, 2, 3)])
    assert [job.created for job in jobs] == [True, False, False]
    async with rt.worker():
        assert [await job.result(RESULT_S) for job in jobs] == [1, 1, 1]


@pytest.mark.parametrize("job_id", ["", "x" * 129, "a\nb", "a\0b", "\ud800", "ü" * 65])
async def test_an_id_that_cannot_be_kept_is_refused(rt: Runtime[Any], job_id: str) -> None:
    @rt.actor()
    async def works() -> None:
        """Run by nobody."""

    with pytest.raises(InvalidOptions, match="use 1 to 128 bytes of printable text"):
        works.options(id=job_id)


# -- limits --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [BLOB_MIN_BYTES - 20, BLOB_MIN_BYTES, BLOB_MIN_BYTES + 20, PAYLOAD_MAX_BYTES - len('{"text":""}')])
async def test_payloads_up_to_the_limit_come_through_whole(rt: Runtime[Any], size: int) -> None:
    @rt.actor(retry=RetryPolicy(attempts=2, base=0))
    async def reverse(text: str) -> str:
        if rt.context.attempt == 1:
            raise LookupError
        return text[::-1][: PAYLOAD_MAX_BYTES - 2]

    text = "ab" * (size // 2) + "c" * (size % 2)
    job = await reverse.send(text)
    assert (await job.info()).payload == {"text": text}
    async with rt.worker():
        assert await job.result(RESULT_S) == text[::-1]


async def test_a_payload_over_the_limit_is_refused_and_nothing_is_sent(rt: Runtime[Any], store: Store) -> None:
    @rt.actor()
    async def works(text: str) -> None:
        """Run by nobody."""

    with pytest.raises(PayloadTooLarge, match="the limit is 1,048,576: store the data elsewhere and pass its key"):
        await works.send("x" * PAYLOAD_MAX_BYTES)
    with pytest.raises(PayloadTooLarge, match="the limit is 1,048,576"):
        await rt.send("elsewhere", {"text": "x" * PAYLOAD_MAX_BYTES})
    assert await store.queues() == []


async def test_arguments_that_would_not_come_back_are_refused_and_nothing_is_sent(rt: Runtime[Any], store: Store) -> None:
    @rt.actor()
    async def works(value: float) -> None:
        """Run by nobody."""

    with pytest.raises(InvalidArguments, match="would not come back as it was sent"):
        await works.send(float("nan"))
    with pytest.raises(InvalidArguments, match="value: Field required"):
        await rt.send("works")
    with pytest.raises(InvalidArguments, match="no JSON form"):
        await rt.send("elsewhere", {"value": object()})
    assert await store.queues() == []


# -- when ----------------------------------------------------------------------------------------------------------------------------


async def test_a_delayed_job_starts_when_it_is_due_and_not_before(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    async with rt.worker():
        job = await works.options(delay=timedelta(seconds=0.3)).send()
        waiting = await job.info()
        assert await job.result(RESULT_S) == "done"
        ran = await job.info()
    assert (waiting.status, waiting.state) == (Status.PENDING, "delayed")
    assert waiting.due_at is not None
    assert waiting.due_at - waiting.created_at >= timedelta(seconds=0.3)
    assert ran.processed_at is not None
    assert ran.processed_at >= waiting.due_at


async def test_at_is_a_time_of_any_zone(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    due = (datetime.now(UTC) + timedelta(seconds=0.3)).astimezone()
    async with rt.worker():
        job = await works.options(at=due).send()
        assert await job.result(RESULT_S) == "done"
        info = await job.info()
    assert info.processed_at is not None
    assert info.processed_at >= due - timedelta(milliseconds=1)


async def test_a_time_that_has_passed_is_now(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    job = await works.options(at=datetime(2000, 1, 1, tzinfo=UTC)).send()
    assert (await job.info()).state == "ready"
    async with rt.worker():
        assert await job.result(RESULT_S) == "done"


async def test_a_sooner_job_is_not_kept_by_a_later_one(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def works() -> str:
        return "done"

    async with rt.worker():
        later = await works.options(delay=3600).send()
        sooner = await works.options(delay=0.2).send()
        assert await sooner.result(RESULT_S) == "done"
        assert (await later.info()).state == "delayed"


async def test_priorities_go_first_to_last(rt: Runtime[Any]) -> None:
    order: list[int] = []

    @rt.actor()
    async def works(number: int) -> None:
        order.append(number)

    jobs = await rt.send_many([works.options(priority=priority).message(priority) for priority in (5, 9, 0, 7, 2)])
    async with rt.worker(concurrency=1):
        for job in jobs:
            await job.result(RESULT_S)
    assert order == [0, 2, 5, 7, 9]


async def test_jobs_of_one_priority_keep_their_order(rt: Runtime[Any]) -> None:
    order: list[int] = []

    @rt.actor()
    async def works(number: int) -> None:
        order.append(number)

    jobs = [await works.send(number) for number in range(20)]
    async with rt.worker(concurrency=1):
        await jobs[-1].result(RESULT_S)
    assert order == list(range(20))


# -- where they wait -----------------------------------------------------------------------------------------------------------------


async def test_an_actor_that_nobody_knows_is_named_and_its_jobs_wait_for_it(
    rt: Runtime[Any], new_runtime: NewRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    @rt.actor()
    async def known() -> str:
        return "known"

    async with rt.worker():
        ghost = await rt.send("ghost", {"number": 1})
        await until_info(ghost, lambda info: info.state == "lane", "the job waits in its actor's lane")
        assert "actor ghost is not known to this worker: its jobs wait for a worker that has it" in caplog.text
        assert await ghost.status() is Status.PENDING
        assert (await ghost.info()).attempts == 0
        assert await (await known.send()).result(RESULT_S) == "known", "those behind it are not kept"

        async with new_runtime() as other:

            @other.actor(name="ghost")
            async def found(number: int) -> str:
                return f"ghost {number}"

            async with other.worker():
                assert await ghost.result(RESULT_S) == "ghost 1"
    assert (await ghost.info()).attempts == 1


async def test_two_workers_with_different_actors_share_a_queue(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    async with new_runtime() as other:

        @rt.actor()
        async def left(number: int) -> str:
            return f"left {number}"

        @other.actor()
        async def right(number: int) -> str:
            return f"right {number}"

        async with rt.worker(), other.worker():
            jobs = [await rt.send(name, {"number": number}) for number in range(20) for name in ("left", "right")]
            results = await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
    assert results == [f"{name} {number}" for number in range(20) for name in ("left", "right")]


async def test_a_worker_serves_the_queues_that_it_is_told(rt: Runtime[Any]) -> None:
    @rt.actor(queue="a")
    async def works() -> str:
        return rt.context.job.queue

    elsewhere = await works.options(queue="b").send()
    async with rt.worker(queues=["a"]):
        assert await (await works.send()).result(RESULT_S) == "a"
        assert await elsewhere.status() is Status.PENDING
    async with rt.worker(queues=["a", "b"]):
        assert await elsewhere.result(RESULT_S) == "b"


async def test_every_queue_of_a_worker_gets_its_turn(rt: Runtime[Any]) -> None:
    seen: list[str] = []

    @rt.actor()
    async def works() -> None:
        seen.append(rt.context.job.queue)

    queues = ("a", "b", "c")
    for queue in queues:
        await rt.send_many([works.options(queue=queue).message() for _ in range(30)])
    async with rt.worker(queues=queues, concurrency=1):
        await until_true(_has_seen(seen, 30), "thirty jobs have run")
        assert len(Counter(seen[:30])) == 3, "one long queue does not keep the others waiting"


def _has_seen(seen: list[str], most: int) -> Any:
    async def enough() -> bool:
        return len(seen) >= most

    return enough


async def test_concurrency_is_never_exceeded_and_is_used(rt: Runtime[Any]) -> None:
    now, most = 0, 0

    @rt.actor()
    async def works() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    jobs = await rt.send_many([works.message() for _ in range(200)])
    async with rt.worker(concurrency=7) as worker:
        await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
        assert worker.running.free == 7
    assert most == 7


async def test_two_workers_run_each_job_once(rt: Runtime[Any], new_runtime: NewRuntime) -> None:
    ran: Counter[int] = Counter()
    group = Actors()

    @group.actor(name="works")
    async def works(number: int) -> None:
        ran[number] += 1
        await asyncio.sleep(0)

    rt.include(group)
    async with new_runtime() as other:
        other.include(group)
        async with rt.worker(concurrency=5), other.worker(concurrency=5):
            jobs = await rt.send_many([works.message(number) for number in range(300)])
            await asyncio.gather(*(job.result(RESULT_S) for job in jobs))
    assert ran == Counter(range(300))
