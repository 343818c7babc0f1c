"""Middleware: what every run passes through, in the order in which it is listed."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Fail, JobFailed, RetryPolicy, Snooze
from tests.worker.actors import KINDS, group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from angelrt import Context, Middleware
    from tests.worker.conftest import NewRuntime

    Next = Callable[[], Awaitable[Any]]

RESULT_S = 20
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def noting(name: str, notes: list[str]) -> Middleware:
    """Return a middleware that notes when it is entered and left."""

    async def middleware(context: Context[Any], call_next: Next) -> Any:
        notes.append(f"{name} in, attempt {context.attempt}")
        try:
            return await call_next()
        finally:
            notes.append(f"{name} out")

    return middleware


async def test_the_first_listed_is_the_outermost(new_runtime: NewRuntime) -> None:
    notes: list[str] = []
    async with new_runtime(middleware=[noting("a", notes), noting("b", notes)]) as rt:

        @rt.actor()
        async def works() -> None:
            notes.append("actor")

        async with rt.worker():
            await (await works.send()).result(RESULT_S)
    assert notes == ["a in, attempt 1", "b in, attempt 1", "actor", "b out", "a out"]


@pytest.mark.parametrize("kind", KINDS)
async def test_it_sees_the_result_and_may_put_another_in_its_place(new_runtime: NewRuntime, kind: str) -> None:
    seen: list[Any] = []

    async def shouts(_context: Context[Any], call_next: Next) -> Any:
        result = await call_next()
        seen.append(result)
        return result.upper()

    async with new_runtime(middleware=[shouts]) as rt:
        rt.include(group)
        async with rt.worker():
            assert await (await rt.send(kind, {"what": "return"})).result(RESULT_S) == "RUN 1"
    assert seen == ["run 1"]


@pytest.mark.parametrize("kind", KINDS)
async def test_it_sees_the_error_and_may_answer_for_it(new_runtime: NewRuntime, kind: str) -> None:
    async def forgives(_context: Context[Any], call_next: Next) -> Any:
        try:
            return await call_next()
        except Exception:  # noqa: BLE001 - the error of a process arrives as another type
            return "forgiven"

    async with new_runtime(middleware=[forgives]) as rt:
        rt.include(group)
        async with rt.worker():
            assert await (await rt.send(kind, {"what": "raise"})).result(RESULT_S) == "forgiven"


@pytest.mark.parametrize("kind", KINDS)
async def test_it_may_answer_without_calling_the_actor(new_runtime: NewRuntime, kind: str) -> None:
    async def answers(_context: Context[Any], _call_next: Next) -> Any:
        return "from a cache"

    async with new_runtime(middleware=[answers]) as rt:
        rt.include(group)
        async with rt.worker():
            assert await (await rt.send(kind, {"what": "raise"})).result(RESULT_S) == "from a cache"


async def test_its_own_error_is_an_error_of_the_run(new_runtime: NewRuntime) -> None:
    ran: list[str] = []

    async def refuses(context: Context[Any], call_next: Next) -> Any:
        if context.attempt == 1:
            raise PermissionError("not yet")
        return await call_next()

    async with new_runtime(middleware=[refuses]) as rt:

        @rt.actor(retry=RetryPolicy(attempts=2, base=0))
        async def works() -> int:
            ran.append("actor")
            return rt.context.attempt

        async with rt.worker():
            job = await works.send()
            assert await job.result(RESULT_S) == 2
            assert [run.ended_as for run in (await job.info()).timeline] == ["retried"]
    assert ran == ["actor"]


async def test_it_may_use_the_verdicts(new_runtime: NewRuntime) -> None:
    naps = iter([0])

    async def decides(context: Context[Any], call_next: Next) -> Any:
        if context.job.actor == "unwanted":
            raise Fail("not here")
        for nap_s in naps:
            raise Snooze(nap_s)
        return await call_next()

    async with new_runtime(middleware=[decides]) as rt:

        @rt.actor()
        async def unwanted() -> None:
            """Run by nobody."""

        @rt.actor()
        async def wanted() -> str:
            return "done"

        async with rt.worker():
            with pytest.raises(JobFailed, match="not here") as caught:
                await (await unwanted.send()).result(RESULT_S)
            assert caught.value.attempts == 1
            job = await wanted.send()
            assert await job.result(RESULT_S) == "done"
            assert [run.ended_as for run in (await job.info()).timeline] == ["snoozed"]


async def test_variables_that_it_sets_are_seen_by_the_actor_and_by_no_other_run(new_runtime: NewRuntime) -> None:
    found: list[str] = []

    async def enters(context: Context[Any], call_next: Next) -> Any:
        found.append(TENANT.get())
        TENANT.set(context.job.id)
        return await call_next()

    async with new_runtime(middleware=[enters]) as rt:

        @rt.actor()
        async def in_loop() -> str:
            return TENANT.get()

        @rt.thread_actor()
        def in_thread() -> str:
            return TENANT.get()

        async with rt.worker():
            for actor in (in_loop, in_thread):
                job = await actor.send()
                assert await job.result(RESULT_S) == job.id
    assert found == ["nobody", "nobody"]


async def test_it_is_left_in_order_when_the_run_fails(new_runtime: NewRuntime) -> None:
    notes: list[str] = []
    async with new_runtime(middleware=[noting("a", notes), noting("b", notes)]) as rt:

        @rt.actor(retry=RetryPolicy(attempts=2, base=0))
        async def breaks() -> None:
            raise LookupError

        async with rt.worker():
            with pytest.raises(JobFailed):
                await (await breaks.send()).result(RESULT_S)
    one_run = ["b out", "a out"]
    assert notes == ["a in, attempt 1", "b in, attempt 1", *one_run, "a in, attempt 2", "b in, attempt 2", *one_run]
