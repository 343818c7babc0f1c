"""Actors that do the worst: each job has a documented outcome, and the worker lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobFailed, RetryPolicy
from angelrt.config import TEXT_MAX_CHARS
from tests.worker.actors import ATTEMPTS, KINDS, group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from angelrt import Runtime

RESULT_S = 10


@pytest.fixture
async def working(rt: Runtime[Any]) -> AsyncIterator[Runtime[Any]]:
    """A runtime with the actors of all three kinds and a worker with one slot: whoever does not free it stops everything."""
    rt.include(group)
    async with rt.worker(concurrency=1, grace=0):
        yield rt


async def failure(rt: Runtime[Any], kind: str, what: str) -> JobFailed:
    """Return how a job failed, after checking that the worker runs the next one."""
    job = await rt.send(kind, {"what": what})
    with pytest.raises(JobFailed) as caught:
        await job.result(RESULT_S)
    assert await (await rt.send(kind, {"what": "return"})).result(RESULT_S) == "run 1"
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "Unlisted"])
async def test_what_is_no_exception_fails_the_job_and_not_the_worker(working: Runtime[Any], kind: str, what: str) -> None:
    failed = await failure(working, kind, what)
    assert failed.error_type.endswith(what)
    assert failed.attempts == ATTEMPTS


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancellation_that_nobody_asked_for_is_a_failure(working: Runtime[Any], kind: str) -> None:
    failed = await failure(working, kind, "CancelledError")
    assert failed.error_type.endswith("CancelledError")
    assert failed.attempts == ATTEMPTS


@pytest.mark.parametrize("kind", KINDS)
async def test_stop_iteration_is_a_failure(working: Runtime[Any], kind: str) -> None:
    failed = await failure(working, kind, "StopIteration")
    assert failed.error_type in ("StopIteration", "RuntimeError"), "a coroutine turns it into a RuntimeError"
    assert "StopIteration" in failed.error_message + failed.remote_traceback


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_that_cannot_be_printed_is_a_failure(working: Runtime[Any], kind: str) -> None:
    failed = await failure(working, kind, "Unprintable")
    assert failed.error_type.endswith("UnprintableError")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_whose_text_is_no_unicode_is_a_failure(working: Runtime[Any], kind: str) -> None:
    failed = await failure(working, kind, "surrogates")
    assert (failed.error_type, failed.error_message) == ("ValueError", "?")


async def test_a_process_that_leaves_is_a_failure_of_each_attempt(working: Runtime[Any], tmp_path: Path) -> None:
    job = await working.send("leave_at_once", {"path": str(tmp_path / "pids")})
    with pytest.raises(JobFailed, match="the process of actor leave_at_once ended while it ran the job, with exit code 7") as caught:
        await job.result(RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("ProcessDied", 2)
    pids = (tmp_path / "pids").read_text(encoding="ascii").split()
    assert len(set(pids)) == 2, "each attempt had a process of its own"
    assert await (await working.send("pid")).result(RESULT_S) not in map(int, pids)


async def test_a_job_whose_process_dies_again_and_again_is_failed_with_the_signal_whatever_attempts_are_left(
    working: Runtime[Any], caplog: pytest.LogCaptureFixture
) -> None:
    job = await working.send("die_of_a_signal")
    with pytest.raises(JobFailed, match=r"its process died 3 times in a row while it ran; at last .* by SIGKILL") as caught:
        await job.result(3 * RESULT_S)
    assert (caught.value.error_type, caught.value.attempts) == ("ProcessDied", 3)
    assert [run.ended_as for run in (await job.info()).timeline] == ["died", "died"]
    assert f"die_of_a_signal: job {job.id} failed in attempt 3 of 8: ProcessDied: its process died 3 times" in caplog.text
    assert {one.actor: one.poisoned for one in (await working.stats()).actors} == {"die_of_a_signal": 1}


async def test_long_error_texts_are_cut_in_the_middle(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=1))
    async def talks() -> None:
        raise ValueError("begin" + "x" * 100_000 + "end")

    async with rt.worker():
        with pytest.raises(JobFailed) as caught:
            await (await talks.send()).result(RESULT_S)
    message = caught.value.error_message
    assert message.startswith("begin")
    assert message.endswith("end")
    assert len(message) < TEXT_MAX_CHARS + 100
    assert len(caught.value.remote_traceback) < TEXT_MAX_CHARS + 100


async def test_a_log_line_that_is_no_unicode_does_not_stop_the_job(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def logs() -> str:
        rt.context.log("file \ud800.jpg")
        rt.context.progress(0.5, "\ud800")
        return "done"

    async with rt.worker(grace=0):
        job = await logs.send()
        assert await job.result(RESULT_S) == "done"
        info = await job.info()
    assert info.progress is not None
    assert info.progress.log == ["file ?.jpg"]


async def test_an_exception_of_many_is_told_with_all_of_them(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=1))
    async def many() -> None:
        raise ExceptionGroup("two things", [ValueError("first"), KeyError("second")])

    async with rt.worker():
        with pytest.raises(JobFailed) as caught:
            await (await many.send()).result(RESULT_S)
    assert caught.value.error_type == "ExceptionGroup"
    assert "ValueError: first" in caught.value.remote_traceback
    assert "KeyError: 'second'" in caught.value.remote_traceback


async def test_the_cause_of_an_exception_is_told_with_it(rt: Runtime[Any]) -> None:
    @rt.actor(retry=RetryPolicy(attempts=1))
    async def wraps() -> None:
        try:
            dict[str, int]()["key"]
        except KeyError as error:
            raise LookupError("not there") from error

    async with rt.worker():
        with pytest.raises(JobFailed) as caught:
            await (await wraps.send()).result(RESULT_S)
    assert "KeyError: 'key'" in caught.value.remote_traceback
    assert "direct cause" in caught.value.remote_traceback
