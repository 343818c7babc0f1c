"""Where a runtime is open and where it is not: before, twice, after, in a fork, from synchronous code, from a thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import (
    Actors,
    ConfigError,
    InvalidOptions,
    JobFailed,
    JobNotFound,
    RedisUnavailable,
    RetryPolicy,
    Runtime,
    RuntimeNotOpen,
    Status,
)
from tests.worker.apart import working_apart

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.worker.conftest import NewRuntime

RESULT_S = 20
LONG_S = 3600


def declared(rt: Actors) -> Any:
    """Declare an actor that several tests send to."""

    @rt.actor(name="double", retry=RetryPolicy(attempts=1))
    async def double(number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return 2 * number

    return double


# -- open or not ---------------------------------------------------------------------------------------------------------------------


async def test_nothing_works_on_a_runtime_that_was_never_opened(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    message = double.message(1)
    asks: list[Callable[[], Any]] = [
        lambda: double.send(1),
        lambda: double.options(delay=1).send(1),
        lambda: rt.send("double", {"number": 1}),
        lambda: rt.send_many([message]),
        rt.stats,
        rt.workers,
    ]
    for ask in asks:
        with pytest.raises(RuntimeNotOpen, match="the runtime is not open: use `async with rt:`"):
            await ask()
    for ask_sync in (lambda: double.send_sync(1), lambda: rt.send_many_sync([message]), lambda: double.job("x"), lambda: rt.job("x")):
        with pytest.raises(RuntimeNotOpen, match="the runtime is not open"):
            ask_sync()
    with pytest.raises(RuntimeNotOpen, match="the runtime is not open"):
        async with rt.worker():
            pytest.fail("a worker started")
    assert await double(4) == 8, "a direct call needs no runtime"


async def test_a_group_without_a_runtime_says_what_is_missing() -> None:
    double = declared(Actors())
    with pytest.raises(RuntimeNotOpen, match=r"this group of actors belongs to no runtime yet: call rt.include\(group\)"):
        await double.send(1)


async def test_a_runtime_is_opened_once_at_a_time(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    async with rt:
        with pytest.raises(ConfigError, match="this runtime is open already: open it once, where the program starts"):
            async with rt:
                pytest.fail("opened twice")
        assert (await double.send(1)).created, "the refused opening closed nothing"
    async with rt:
        assert (await double.send(1)).created, "once closed it may be opened again"


async def test_a_runtime_that_is_being_opened_is_not_opened_again(new_runtime: NewRuntime) -> None:
    rt = new_runtime()

    async def use() -> str:
        async with rt:
            await asyncio.sleep(0.05)
        return "opened"

    outcomes = await asyncio.gather(use(), use(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, ConfigError]


async def test_after_the_end_everything_says_so(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    async with rt:
        job = await double.send(1)
    with pytest.raises(RuntimeNotOpen):
        await double.send(1)
    for ask in (job.info, job.status, lambda: job.result(5)):
        with pytest.raises(RuntimeNotOpen, match="the runtime is not open"):
            await ask()
    for ask_sync in (job.info_sync, job.status_sync, lambda: job.result_sync(5)):
        with pytest.raises(RuntimeNotOpen, match="the runtime is not open"):
            ask_sync()


async def test_who_waits_for_a_result_when_the_runtime_closes_is_told(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    async with rt:
        waiter = asyncio.create_task((await double.send(1)).result())
        await asyncio.sleep(0.1)
    with pytest.raises(RuntimeNotOpen):
        await asyncio.wait_for(waiter, 5)


async def test_what_is_being_sent_when_the_runtime_closes_is_sent(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    async with rt:
        sends = [asyncio.create_task(double.send(number)) for number in range(300)]
        await asyncio.sleep(0)
    jobs = await asyncio.gather(*sends)
    async with rt:
        assert {await rt.job(job.id).status() for job in jobs[::50]} == {Status.PENDING}


@pytest.mark.parametrize("concurrency", [0, -1, 100_001])
async def test_a_concurrency_that_makes_no_sense_is_refused(new_runtime: NewRuntime, concurrency: int) -> None:
    async with new_runtime() as rt:
        declared(rt)
        with pytest.raises(InvalidOptions, match="concurrency is the number of jobs at a time"):
            async with rt.worker(concurrency=concurrency):
                pytest.fail("a worker started")


async def test_a_worker_without_actors_is_refused(new_runtime: NewRuntime) -> None:
    async with new_runtime() as rt:

        @rt.remote(name="elsewhere")
        def elsewhere() -> None:
            raise NotImplementedError

        with pytest.raises(ConfigError, match="no actors are declared"):
            async with rt.worker():
                pytest.fail("a worker started")


async def test_an_annotation_that_cannot_be_compiled_shows_when_the_worker_starts(new_runtime: NewRuntime) -> None:
    async with new_runtime() as rt:

        @rt.actor()
        async def works(value: NoSuchType) -> None:  # noqa: F821 - the fault that is tested
            """Run by nobody."""

        with pytest.raises(ConfigError, match="actor works: an annotation cannot be resolved: name 'NoSuchType' is not defined"):
            async with rt.worker():
                pytest.fail("a worker started")
        assert await rt.workers() == []


async def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    rt = Runtime(f"unix://user:secret@{tmp_path / 'nobody'}")
    with pytest.raises(RedisUnavailable, match=r"did not answer within 5 s") as caught:
        async with rt:
            pytest.fail("opened")
    assert "secret" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


# -- synchronous code ----------------------------------------------------------------------------------------------------------------


def test_a_plain_script_has_a_twin_of_everything(new_runtime: NewRuntime) -> None:
    rt, other = new_runtime(), new_runtime()
    double = declared(rt)
    declared(other)
    with rt, working_apart(other):
        job = double.send_sync(4)
        assert job.result_sync(timeout=RESULT_S) == 8
        assert job.status_sync() is Status.COMPLETED
        assert job.info_sync().payload == {"number": 4}
        assert [one.result_sync(RESULT_S) for one in rt.send_many_sync([double.message(number) for number in range(3)])] == [0, 2, 4]
        assert double.options(id="x").send_sync(5).created
        assert rt.send_sync("double", {"number": 6}).result_sync(RESULT_S) == 12
        assert double.job("x").result_sync(RESULT_S) == 10
        with pytest.raises(JobFailed, match="ValueError"):
            double.send_sync(-1).result_sync(RESULT_S)
        with pytest.raises(JobNotFound):
            rt.job("nobody").info_sync()
    with pytest.raises(RuntimeNotOpen, match="the runtime is not open"):
        double.send_sync(4)


def test_a_plain_script_may_call_whatever_has_no_twin(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    with rt:
        added = rt.run_sync(lambda: rt.schedules.add("nightly", double.message(1), cron="0 3 * * *"))
        assert rt.run_sync(rt.schedules.list) == [added]
        assert rt.run_sync(lambda: rt.control.pause(queue="default", by="ann")) == ["default"]
        assert [pause.by for pause in rt.run_sync(rt.control.pauses)] == ["ann"]
        with pytest.raises(InvalidOptions, match="no schedule is named"):
            rt.run_sync(lambda: rt.schedules.remove("weekly"))
        rt.run_sync(lambda: rt.schedules.remove("nightly"))
    with pytest.raises(RuntimeNotOpen, match="the runtime is not open"):
        rt.run_sync(rt.stats)


def test_a_twin_that_waits_too_long_raises_the_timeout_error_of_python(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    double = declared(rt)
    with rt, pytest.raises(TimeoutError):
        double.send_sync(4).result_sync(timeout=0.05)


def test_many_threads_may_use_one_runtime(new_runtime: NewRuntime) -> None:
    rt, other = new_runtime(), new_runtime()
    double = declared(rt)
    declared(other)
    results: list[int] = []

    def use(number: int) -> None:
        results.append(double.send_sync(number).result_sync(RESULT_S))

    with rt, working_apart(other):
        threads = [threading.Thread(target=use, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [2 * number for number in range(10)]


def test_a_script_that_fails_closes_the_runtime(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    threads = threading.active_count()
    with pytest.raises(LookupError), rt:
        raise LookupError
    assert threading.active_count() == threads
    with rt:
        assert rt.job("x").id == "x"


async def test_a_twin_works_in_a_thread_actor(new_runtime: NewRuntime) -> None:
    async with new_runtime() as rt:
        double = declared(rt)

        @rt.thread_actor()
        def asks(number: int) -> int:
            return int(double.send_sync(number).result_sync(RESULT_S)) + 1

        async with rt.worker():
            assert await (await asks.send(4)).result(RESULT_S) == 9


async def test_a_twin_in_the_thread_of_the_loop_is_refused_where_it_would_wait_for_itself(new_runtime: NewRuntime) -> None:
    async with new_runtime() as rt:
        double = declared(rt)

        @rt.actor(retry=RetryPolicy(attempts=1))
        async def asks() -> None:
            double.send_sync(1)

        with pytest.raises(RuntimeNotOpen, match="a _sync method was called in the event loop's own thread"):
            double.send_sync(1)
        async with rt.worker():
            with pytest.raises(JobFailed, match="in the event loop's own thread"):
                await (await asks.send()).result(RESULT_S)


# -- forks ---------------------------------------------------------------------------------------------------------------------------

FORKING = """
import asyncio, os, sys, traceback
from angelrt import Runtime, RuntimeNotOpen

rt = Runtime(sys.argv[1], namespace=sys.argv[2])

@rt.actor()
async def works() -> None:
    pass

def refused(name, ask):
    try:
        answer = ask()
        if asyncio.iscoroutine(answer):
            answer = asyncio.run(asyncio.wait_for(answer, 5))
    except RuntimeNotOpen as error:
        assert "this process was forked after the runtime was opened" in str(error), error
        return True
    except BaseException as error:
        print(name, "raised", repr(error))
        return False
    print(name, "answered", answer)
    return False

with rt:
    job = works.send_sync()
    pid = os.fork()
    if pid == 0:
        asks = {
            "send": lambda: works.send(), "send_sync": works.send_sync, "send_many_sync": lambda: rt.send_many_sync([works.message()]),
            "job": lambda: rt.job("x"), "result_sync": lambda: job.result_sync(1), "result": lambda: job.result(1),
            "info": lambda: job.info(), "stats": lambda: rt.stats(),
        }
        ok = all([refused(name, ask) for name, ask in asks.items()])
        async def again():
            async with rt:
                return (await rt.job(job.id).info()).status
        reopened = asyncio.run(again())
        print("reopened in the child:", reopened)
        sys.stdout.flush()
        os._exit(0 if ok and reopened == "pending" else 1)
    _, status = os.waitpid(pid, 0)
    print("the parent still works:", job.status_sync())
    sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_runtime_is_not_open_in_a_fork_and_may_be_opened_there(server_url: str, namespace: str, new_runtime: NewRuntime) -> None:
    assert new_runtime().keys.namespace == namespace
    ended = subprocess.run(
        [sys.executable, "-c", FORKING, server_url, namespace], capture_output=True, text=True, timeout=40, check=False
    )  # fmt: skip
    assert ended.stdout.splitlines() == ["reopened in the child: pending", "the parent still works: pending"], ended.stderr
    assert ended.returncode == 0
