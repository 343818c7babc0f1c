"""What a run can ask and say: its context, the state of the worker, context variables of its own, and jobs sent with the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Context, JobNotFound, RetryPolicy, RuntimeNotOpen, Status
from tests.worker.actors import KINDS, group
from tests.worker.waiting import until_ended, until_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from angelrt import Job, JobInfo, Runtime
    from angelrt.store import Store
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def jobs_of(store: Store, rt: Runtime[Any], actor: str) -> list[JobInfo]:
    """Return all jobs of an actor."""
    ids = [job_id.decode() for job_id in await store.command("HKEYS", store.keys.key("jobs"))]
    return [info for info in await rt.client().infos(ids) if info.type == actor]


# -- context variables ---------------------------------------------------------------------------------------------------------------


async def test_a_run_leaves_no_context_variables_to_the_next(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def enters(name: str) -> str:
        found = TENANT.get()
        TENANT.set(name)
        return found

    @rt.thread_actor()
    def enters_thread(name: str) -> str:
        found = TENANT.get()
        TENANT.set(name)
        return found

    async with rt.worker(concurrency=1):
        jobs = await rt.send_many([actor.message("acme") for actor in (enters, enters_thread) for _ in range(3)])
        assert [await job.result(RESULT_S) for job in jobs] == ["nobody"] * 6
    assert TENANT.get() == "nobody"


async def test_runs_beside_each_other_have_variables_of_their_own(rt: Runtime[Any]) -> None:
    meeting = asyncio.Barrier(2)

    @rt.actor()
    async def keeps(name: str) -> str:
        TENANT.set(name)
        await meeting.wait()
        return TENANT.get()

    async with rt.worker(concurrency=2):
        jobs = await rt.send_many([keeps.message("acme"), keeps.message("apex")])
        assert [await job.result(RESULT_S) for job in jobs] == ["acme", "apex"]


async def test_a_variable_set_in_lifespan_is_seen_by_every_run(new_runtime: NewRuntime) -> None:
    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        token = TENANT.set("from lifespan")
        yield
        TENANT.reset(token)

    async with new_runtime(lifespan=lifespan) as rt:

        @rt.actor()
        async def sees() -> str:
            return TENANT.get()

        @rt.thread_actor()
        def sees_thread() -> str:
            return TENANT.get()

        async with rt.worker():
            assert await (await sees.send()).result(RESULT_S) == "from lifespan"
            assert await (await sees_thread.send()).result(RESULT_S) == "from lifespan"
        assert TENANT.get() == "nobody"


# -- lifespan and state --------------------------------------------------------------------------------------------------------------


async def test_lifespan_surrounds_all_runs_and_its_state_reaches_them(new_runtime: NewRuntime) -> None:
    order: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, str]]:
        order.append("up")
        yield {"pool": "a pool"}
        order.append("down")

    async with new_runtime(lifespan=lifespan) as rt:

        @rt.actor()
        async def uses() -> str:
            await asyncio.sleep(0)
            order.append("run")
            return str(rt.context.state["pool"])

        @rt.thread_actor()
        def uses_in_thread() -> str:
            return str(rt.context.state["pool"])

        job = await uses.send()
        assert order == [], "a runtime that only sends does not enter it"
        async with rt.worker():
            assert await job.result(RESULT_S) == "a pool"
            assert await (await uses_in_thread.send()).result(RESULT_S) == "a pool"
        assert order == ["up", "run", "down"]


async def test_a_lifespan_that_fails_keeps_the_worker_from_starting(new_runtime: NewRuntime) -> None:
    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    async with new_runtime(lifespan=lifespan) as rt:

        @rt.actor()
        async def waits() -> None:
            """Run by nobody."""

        job = await waits.send()
        with pytest.raises(ConnectionError, match="no database"):
            async with rt.worker():
                pytest.fail("the worker started without its lifespan")
        assert await job.status() == Status.PENDING


async def test_lifespan_ends_with_a_worker_that_could_not_start(new_runtime: NewRuntime) -> None:
    order: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        order.append("up")
        try:
            yield
        finally:
            order.append("down")

    async with new_runtime(lifespan=lifespan) as rt:
        with pytest.raises(Exception, match="no actors are declared"):
            async with rt.worker():
                pytest.fail("a worker without actors started")
    assert order == ["up", "down"]


# -- the accessor --------------------------------------------------------------------------------------------------------------------


async def test_there_is_no_context_outside_a_run(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def asks() -> str:
        return rt.context.job.id

    for ask in (lambda: rt.context, Context.current):
        with pytest.raises(RuntimeNotOpen, match="no current job"):
            ask()
    with pytest.raises(RuntimeNotOpen, match="no current job"):
        await asks()
    async with rt.worker():
        job = await asks.send()
        assert await job.result(RESULT_S) == job.id
    with pytest.raises(RuntimeNotOpen, match="no current job"):
        _ = rt.context


async def test_the_context_knows_the_run(rt: Runtime[Any]) -> None:
    @rt.actor(queue="photos", retry=RetryPolicy(attempts=2, base=0))
    async def asks() -> tuple[str, str, str, int]:
        context = rt.context
        if context.attempt == 1:
            raise LookupError
        assert context is Context.current()
        assert not context.cancelled
        return context.job.id, context.job.actor, context.job.queue, context.attempt

    async with rt.worker():
        job = await asks.send()
        assert await job.result(RESULT_S) == (job.id, "asks", "photos", 2)


async def test_tasks_and_threads_of_a_run_share_its_context(rt: Runtime[Any]) -> None:
    def asked() -> str:
        return rt.context.job.id

    @rt.actor()
    async def spreads() -> list[str]:
        async def in_task() -> str:
            return asked()

        return [await asyncio.create_task(in_task()), await asyncio.to_thread(asked)]

    async with rt.worker():
        job = await spreads.send()
        assert await job.result(RESULT_S) == [job.id, job.id]


async def test_what_a_process_sees_of_its_run(rt: Runtime[Any]) -> None:
    rt.include(group)
    async with rt.worker():
        job = await rt.send("state_and_deadline", timeout=60)
        no_state, deadline_ms = await job.result(RESULT_S)
        info = await job.info()
    assert no_state, "the state of the worker stays in the worker"
    assert info.processed_at is not None
    assert 59.9 < deadline_ms / 1000 - info.processed_at.timestamp() < 70


# -- progress and log ----------------------------------------------------------------------------------------------------------------


async def until_progress(job: Job[Any], done: float) -> JobInfo:
    """Return what is known of the job once it shows its progress."""
    return await until_info(job, lambda info: info.progress is not None and info.progress.done == done, f"progress {done} is visible")


async def test_progress_and_log_are_visible_while_a_run_goes_on_and_after_it(rt: Runtime[Any]) -> None:
    go_on = asyncio.Event()

    @rt.actor()
    async def works() -> None:
        rt.context.log("opened")
        rt.context.progress(0.5, "half way")
        await go_on.wait()
        rt.context.log("closed")
        rt.context.progress(1, "done")

    async with rt.worker():
        job = await works.send()
        info = await until_progress(job, 0.5)
        assert info.status is Status.PROCESSING
        assert info.progress is not None
        assert (info.progress.message, info.progress.log) == ("half way", ["opened"])
        go_on.set()
        await job.result(RESULT_S)
        info = await job.info()
        assert info.progress is not None
        assert (info.progress.done, info.progress.message, info.progress.log) == (1, "done", ["opened", "closed"])


async def test_progress_and_log_of_a_thread_are_visible_while_it_goes_on(rt: Runtime[Any]) -> None:
    go_on = threading.Event()

    @rt.thread_actor()
    def works() -> None:
        rt.context.log("opened")
        rt.context.progress(0.25)
        go_on.wait()

    async with rt.worker():
        job = await works.send()
        try:
            info = await until_progress(job, 0.25)
        finally:
            go_on.set()
        assert info.status is Status.PROCESSING
        assert info.progress is not None
        assert info.progress.log == ["opened"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_log_of_a_run_is_there_when_it_has_ended(rt: Runtime[Any], kind: str) -> None:
    rt.include(group)
    async with rt.worker():
        job = await rt.send(kind, {"what": "log"})
        await job.result(RESULT_S)
        info = await job.info()
    assert info.progress is not None
    assert info.progress.log == ["a line"]


async def test_the_log_of_a_job_is_bounded_and_its_progress_too(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def talks() -> None:
        for number in range(250):
            rt.context.log(f"{number} " + "x" * 1000)
        rt.context.progress(7)

    async with rt.worker():
        job = await talks.send()
        await job.result(RESULT_S)
        info = await job.info()
    assert info.progress is not None
    assert info.progress.done == 1
    assert [line.partition(" ")[0] for line in info.progress.log] == [str(number) for number in range(150, 250)]
    assert {len(line) for line in info.progress.log} == {500}


# -- jobs sent with the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_buffered_send_is_applied_when_the_run_completes(rt: Runtime[Any], store: Store, kind: str) -> None:
    rt.include(group)
    async with rt.worker():
        await (await rt.send(kind, {"what": "child"})).result(RESULT_S)
        (child,) = await jobs_of(store, rt, "child")
        assert await rt.job(child.id).result(RESULT_S) == "a child"


@pytest.mark.parametrize("ending", ["raise", "snooze"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_buffered_send_of_a_run_that_did_not_complete_is_dropped(
    rt: Runtime[Any], store: Store, kind: str, ending: str, tmp_path: Path
) -> None:
    rt.include(group)
    async with rt.worker():
        job = await rt.send(kind, {"what": f"child, then {ending}", "path": str(tmp_path / "was here")})
        await job.result(RESULT_S)
        assert (await job.info()).deliveries == 2, "the child was buffered twice"
        (child,) = await jobs_of(store, rt, "child")
        await until_ended(rt.job(child.id))


async def test_a_buffered_send_of_a_job_that_fails_is_dropped(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def child() -> None:
        """Run by nobody."""

    @rt.actor(retry=RetryPolicy(attempts=1))
    async def parent() -> None:
        rt.context.send(child.options(id="the child").message())
        raise LookupError

    async with rt.worker():
        await until_ended(await parent.send())
        with pytest.raises(JobNotFound, match="the child"):
            await child.job("the child").info()


async def test_a_buffered_send_keeps_its_options(rt: Runtime[Any]) -> None:
    @rt.actor(queue="later")
    async def child(number: int) -> int:
        return number

    @rt.actor()
    async def parent() -> None:
        messages = [child.options(id=f"child {number}", delay=3600, priority=1).message(number) for number in (1, 2)]
        rt.context.send(*messages)

    async with rt.worker():
        await (await parent.send()).result(RESULT_S)
    for number in (1, 2):
        info = await child.job(f"child {number}").info()
        assert (info.state, info.queue, info.priority, info.payload) == ("delayed", "later", 1, {"number": number})


async def test_a_buffered_send_with_the_id_of_a_job_that_exists_adds_nothing(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def child(number: int) -> int:
        return number

    @rt.actor()
    async def parent(number: int) -> None:
        rt.context.send(child.options(id="one child").message(number))

    async with rt.worker():
        await (await parent.send(1)).result(RESULT_S)
        assert await child.job("one child").result(RESULT_S) == 1
        await (await parent.send(2)).result(RESULT_S)
        assert (await child.job("one child").info()).payload == {"number": 1}


async def test_a_buffered_send_may_carry_a_large_payload(rt: Runtime[Any]) -> None:
    @rt.actor()
    async def child(text: str) -> int:
        return len(text)

    @rt.actor()
    async def parent() -> None:
        rt.context.send(child.options(id="large").message("x" * 500_000))

    async with rt.worker():
        await (await parent.send()).result(RESULT_S)
        assert await child.job("large").result(RESULT_S) == 500_000
