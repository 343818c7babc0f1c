"""A run that lasts too long: stopped where that is possible, and said where it is not."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobFailed, RetryPolicy
from tests.worker.actors import group
from tests.worker.waiting import until_ended, until_gone, until_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from angelrt import Context, Runtime

ONCE = RetryPolicy(attempts=1)
TIMEOUT = "angelrt.worker.failure.Timeout"
RESULT_S = 20


async def test_an_async_actor_is_cancelled_and_may_clean_up(rt: Runtime[Any]) -> None:
    seen: list[str] = []

    @rt.actor(timeout=0.1, retry=ONCE)
    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append(f"cancelled: {rt.context.cancelled}, {rt.context.why_cancelled}")

    async with rt.worker():
        with pytest.raises(JobFailed, match=r"ran longer than 0\.1 s") as caught:
            await (await slow.send()).result(RESULT_S)
    assert caught.value.error_type == TIMEOUT
    assert seen == ["cancelled: True, timeout"]


async def test_a_timeout_is_an_attempt_like_any_other(rt: Runtime[Any]) -> None:
    @rt.actor(timeout=0.1, retry=RetryPolicy(attempts=2, base=0))
    async def slow_at_first() -> int:
        if rt.context.attempt == 1:
            await asyncio.sleep(3600)
        return rt.context.attempt

    async with rt.worker():
        assert await (await slow_at_first.send()).result(RESULT_S) == 2


async def test_an_async_actor_that_swallows_its_cancellation_is_asked_again(rt: Runtime[Any]) -> None:
    asked: list[int] = []

    @rt.actor(timeout=0.1, retry=ONCE)
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                asked.append(len(asked))
                if len(asked) == 3:
                    raise

    async with rt.worker():
        with pytest.raises(JobFailed) as caught:
            await (await stubborn.send()).result(RESULT_S)
    assert (caught.value.error_type, len(asked)) == (TIMEOUT, 3)


async def test_the_timeout_of_one_send_goes_before_that_of_the_actor(rt: Runtime[Any]) -> None:
    @rt.actor(timeout=3600, retry=ONCE)
    async def slow() -> None:
        await asyncio.sleep(3600)

    async with rt.worker():
        with pytest.raises(JobFailed, match=r"ran longer than 0\.1 s"):
            await (await slow.options(timeout=0.1).send()).result(RESULT_S)


async def test_the_earliest_deadline_counts_whatever_the_order_of_the_starts(rt: Runtime[Any]) -> None:
    @rt.actor(retry=ONCE)
    async def slow() -> None:
        await asyncio.sleep(3600)

    async with rt.worker(grace=0):
        late = await slow.options(timeout=3600).send()
        await until_info(late, lambda info: info.status == "processing", "the first run goes on")
        soon = await slow.options(timeout=0.1).send()
        with pytest.raises(JobFailed, match="ran longer"):
            await soon.result(RESULT_S)
        assert await late.status() == "processing"


async def test_the_deadline_is_the_start_of_the_run_and_the_timeout(rt: Runtime[Any]) -> None:
    @rt.actor(timeout=60)
    async def when() -> float:
        return rt.context.deadline.timestamp()

    async with rt.worker():
        job = await when.send()
        deadline_s = await job.result(RESULT_S)
        info = await job.info()
    assert info.processed_at is not None
    assert 59.9 < deadline_s - info.processed_at.timestamp() < 70


async def test_a_thread_goes_on_after_its_timeout_and_keeps_its_slot(rt: Runtime[Any], caplog: pytest.LogCaptureFixture) -> None:
    go_on, contexts, order = threading.Event(), list["Context[Any]"](), list[str]()

    @rt.thread_actor(timeout=0.1, retry=ONCE)
    def blocks() -> None:
        contexts.append(rt.context)
        go_on.wait()
        order.append("the thread ended")

    @rt.actor()
    async def next_one() -> None:
        order.append("the next job ran")

    async with rt.worker(concurrency=1) as worker:
        job = await blocks.send()
        with pytest.raises(JobFailed) as caught:
            await job.result(RESULT_S)
        assert caught.value.error_type == TIMEOUT
        assert f"the thread of job {job.id} goes on after timeout and keeps its slot" in caplog.text
        assert contexts[0].cancelled, "the thread can see that it should stop"
        waiting = await next_one.send()
        assert worker.running.free == 0
        go_on.set()
        await waiting.result(RESULT_S)
    assert order == ["the thread ended", "the next job ran"]


async def test_a_worker_whose_only_slot_is_lost_to_a_thread_does_not_spin(
    rt: Runtime[Any], commands_seen: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    @rt.thread_actor(timeout=0.1, retry=ONCE)
    def blocks() -> None:
        go_on.wait()

    async with rt.worker(concurrency=1):
        try:
            await until_ended(await blocks.send())
            waiting = await blocks.send()
            assert "keeps its slot" in caplog.text
            before = await commands_seen("evalsha")
            await asyncio.sleep(0.5)
            assert await commands_seen("evalsha") - before < 10
            assert await waiting.status() == "pending"
        finally:
            go_on.set()


async def test_a_process_is_killed_at_its_timeout_and_replaced(rt: Runtime[Any], tmp_path: Path) -> None:
    rt.include(group)
    async with rt.worker():
        first_pid = await (await rt.send("pid")).result(RESULT_S)
        job = await rt.send("hang", {"path": str(tmp_path / "pid")}, timeout=1)  # anyio uses its idle process again
        with pytest.raises(JobFailed, match="ran longer than 1 s") as caught:
            await job.result(RESULT_S)
        assert caught.value.error_type == TIMEOUT
        assert int((tmp_path / "pid").read_text(encoding="ascii")) == first_pid
        await until_gone(first_pid)
        assert await (await rt.send("pid")).result(RESULT_S) != first_pid


async def test_waiting_for_a_thread_is_not_counted_against_the_timeout(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("angelrt.worker.THREADS", 1)
    seen: list[int] = []
    slow = threading.Event()

    @rt.thread_actor(timeout=5, retry=ONCE)
    def first() -> None:
        slow.wait()
        seen.append(1)

    @rt.thread_actor(timeout=0.2, retry=ONCE)
    def second() -> None:
        seen.append(2)

    async with rt.worker():
        holder = await first.send()
        await until_info(holder, lambda info: info.status == "processing", "the only thread is taken")
        waiting = await second.send()
        await until_info(waiting, lambda info: info.status == "processing", "the second job is claimed")
        await asyncio.sleep(0.5)  # longer than the timeout of the one that waits
        slow.set()
        await waiting.result(RESULT_S)
    assert seen == [1, 2]
