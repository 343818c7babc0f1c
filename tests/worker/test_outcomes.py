"""How a run can end, and what becomes of its job: in the loop, in a thread and in a process alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Fail, JobFailed, Retry, RetryPolicy, Snooze, Status
from tests.worker.actors import AFTER_S, ATTEMPTS, KINDS, group
from tests.worker.waiting import until_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from angelrt import Runtime

RESULT_S = 20


@dataclass
class Point:
    x: int
    y: float


@pytest.fixture
async def working(rt: Runtime[Any]) -> AsyncIterator[Runtime[Any]]:
    """A runtime with the actors of all three kinds and a worker."""
    rt.include(group)
    async with rt.worker():
        yield rt


def endings(info: Any) -> list[str]:
    """List how the earlier runs of a job ended."""
    return [run.ended_as for run in info.timeline]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_result_comes_back(working: Runtime[Any], kind: str) -> None:
    job = await working.send(kind, {"what": "return"})
    assert await job.result(RESULT_S) == "run 1"
    info = await job.info()
    assert (info.status, info.attempts, info.deliveries) == (Status.COMPLETED, 1, 1)
    assert info.error is None
    assert info.timeline == []


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_is_retried_by_the_policy_and_then_the_job_has_failed(working: Runtime[Any], kind: str) -> None:
    job = await working.send(kind, {"what": "raise"})
    with pytest.raises(JobFailed) as caught:
        await job.result(RESULT_S)
    failed = caught.value
    assert (failed.job_id, failed.actor, failed.error_type, failed.error_message, failed.attempts) == (
        *(job.id, kind),
        *("ValueError", "broken on purpose", ATTEMPTS),
    )
    assert "raise ValueError(message)" in failed.remote_traceback
    assert "in behave" in failed.remote_traceback
    assert "/angelrt/worker/" not in failed.remote_traceback, "people see their own code alone"
    info = await job.info()
    assert (info.status, info.attempts, endings(info)) == (Status.FAILED, ATTEMPTS, ["retried", "retried"])
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("ValueError", "broken on purpose")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_later_attempt_may_succeed(working: Runtime[Any], kind: str) -> None:
    job = await working.send(kind, {"what": "raise twice"})
    assert await job.result(RESULT_S) == f"run {ATTEMPTS}"
    assert (await job.info()).error is None


@pytest.mark.parametrize("kind", KINDS)
async def test_retry_waits_as_long_as_it_says_and_charges_an_attempt(working: Runtime[Any], kind: str, tmp_path: Path) -> None:
    job = await working.send(kind, {"what": "retry after", "path": str(tmp_path / "was here")})
    assert await job.result(RESULT_S) == "run 2"
    info = await job.info()
    assert endings(info) == ["retried"]
    assert info.processed_at is not None
    assert info.processed_at - info.timeline[0].ended_at >= timedelta(seconds=AFTER_S)


@pytest.mark.parametrize("kind", KINDS)
async def test_retry_ends_with_the_attempts(working: Runtime[Any], kind: str) -> None:
    job = await working.send(kind, {"what": "retry"})
    with pytest.raises(JobFailed, match="come again") as caught:
        await job.result(RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("angelrt.retry.Retry", ATTEMPTS)


@pytest.mark.parametrize("kind", KINDS)
async def test_snooze_waits_and_charges_no_attempt(working: Runtime[Any], kind: str, tmp_path: Path) -> None:
    job = await working.send(kind, {"what": "snooze", "path": str(tmp_path / "was here")}, attempts=1)
    assert await job.result(RESULT_S) == "run 1"
    info = await job.info()
    assert (info.attempts, info.deliveries, endings(info)) == (1, 2, ["snoozed"])
    assert info.processed_at is not None
    assert info.processed_at - info.timeline[0].ended_at >= timedelta(seconds=AFTER_S)


@pytest.mark.parametrize("kind", KINDS)
async def test_fail_ends_the_job_whatever_attempts_are_left(working: Runtime[Any], kind: str) -> None:
    job = await working.send(kind, {"what": "fail"})
    with pytest.raises(JobFailed, match="it will never work") as caught:
        await job.result(RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("angelrt.retry.Fail", 1)


async def test_a_job_that_waits_for_its_next_attempt_shows_when_and_why(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=2, base=3600, cap=3600))
    async def breaks() -> None:
        raise LookupError("gone")

    async with rt.worker():
        job = await breaks.send()
        info = await until_info(job, lambda info: info.state == "delayed", "the job waits for its second attempt")
    assert info.status is Status.PENDING
    assert info.due_at is not None
    assert timedelta(0) < info.due_at - info.timeline[0].ended_at <= timedelta(hours=1, seconds=1)
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("LookupError", "gone")


async def test_what_the_actor_says_of_the_wait_goes_before_the_policy(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=2, base=3600, cap=3600))
    async def again() -> int:
        if rt.context.attempt == 1:
            raise Retry(after=timedelta(0))
        return rt.context.attempt

    async with rt.worker():
        assert await (await again.send()).result(RESULT_S) == 2


async def test_attempts_of_one_send_go_before_the_policy(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=5, base=0))
    async def breaks() -> None:
        raise LookupError

    async with rt.worker():
        with pytest.raises(JobFailed) as caught:
            await (await breaks.options(attempts=2).send()).result(RESULT_S)
    assert caught.value.attempts == 2


async def test_snoozes_are_not_counted_however_many(rt: Runtime[Any]) -> None:
    naps = iter(range(4))

    @rt.actor(retry=RetryPolicy(attempts=2, base=0))
    async def sleeper() -> int:
        for _ in naps:
            raise Snooze(0)
        return rt.context.attempt

    async with rt.worker():
        job = await sleeper.send()
        assert await job.result(RESULT_S) == 1
    info = await job.info()
    assert (info.attempts, info.deliveries, endings(info)) == (1, 5, ["snoozed"] * 4)


async def test_results_come_back_as_their_annotation_says(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def middle(a: Point, b: Point) -> Point:
        return Point((a.x + b.x) // 2, (a.y + b.y) / 2)

    @rt.thread_actor()
    def nothing() -> None:
        return

    async with rt.worker():
        job = await middle.send(Point(0, 0.5), b=Point(4, 1.5))
        assert await job.result(RESULT_S) == Point(2, 1.0)
        assert await rt.job(job.id).result(RESULT_S) == {"x": 2, "y": 1.0}, "without the actor it is plain data"
        assert await middle.job(job.id).result(RESULT_S) == Point(2, 1.0)
        assert await (await nothing.send()).result(RESULT_S) is None


async def test_a_result_that_does_not_fit_the_annotation_ends_the_job_at_once(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def number() -> int:
        return "not a number"  # type: ignore[return-value]

    async with rt.worker():
        with pytest.raises(JobFailed, match="result of actor number") as caught:
            await (await number.send()).result(RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("angelrt.errors.InvalidArguments", 1)


async def test_a_result_over_the_limit_ends_the_job_at_once(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def much() -> str:
        return "x" * 1024 * 1024

    async with rt.worker():
        with pytest.raises(JobFailed, match="the limit is 1,048,576") as caught:
            await (await much.send()).result(RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("angelrt.errors.PayloadTooLarge", 1)


async def test_arguments_that_the_actor_no_longer_takes_end_the_job_at_once(rt: Runtime[Any], new_runtime: Any) -> None:
    @rt.actor(name="greet")
    async def greet(name: str) -> str:
        return name

    async with new_runtime() as other, rt.worker():
        job = await other.send("greet", {"nom": "Ada"})
        with pytest.raises(JobFailed, match="nom") as caught:
            await job.result(RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("angelrt.errors.InvalidArguments", 1)


async def test_the_verdicts_are_words_of_the_run_not_of_a_direct_call(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def never() -> None:
        raise Fail("no")

    with pytest.raises(Fail, match="no"):
        await never()
