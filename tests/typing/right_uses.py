"""Right uses: they pass, and every result has its exact type, nowhere `Any` by accident."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, assert_type

from shop import Receipt, State, Thumb, charge, digest, download, group, lifespan, notify, rt, stateless, thumbnail, use

from angelrt import (
    Actors,
    Context,
    Fail,
    Job,
    JobInfo,
    Message,
    RemoteActor,
    Retry,
    Runtime,
    Snooze,
    Stats,
    Status,
    SyncActor,
    WorkerInfo,
)


async def calling_an_actor_runs_the_plain_function() -> None:
    use(assert_type(thumbnail("a.jpg"), Coroutine[Any, Any, Thumb]))
    assert_type(await thumbnail("a.jpg", size=128), Thumb)
    assert_type(await notify("a@b", urgent=True), None)
    assert_type(download("https://example.org"), bytes)
    assert_type(digest([1, 2]), dict[str, float])


def a_remote_actor_cannot_be_called() -> NoReturn:
    charge("c1", 100)


def actors_keep_the_signature_of_their_function() -> None:
    callback: Callable[[str, int], Coroutine[Any, Any, Thumb]] = thumbnail
    sync: SyncActor[[str], bytes] = download
    remote: RemoteActor[[str, int], Receipt] = charge
    use(assert_type(callback("a.jpg", 128), Coroutine[Any, Any, Thumb]))
    assert_type(sync.name, str)
    assert_type(remote.job("x"), Job[Receipt])


async def sending_gives_a_handle_with_the_type_of_the_result() -> None:
    job = await thumbnail.send("a.jpg", size=128)
    assert_type(job, Job[Thumb])
    assert_type(job.id, str)
    assert_type(job.created, bool)
    assert_type(await job.result(timeout=10), Thumb)
    assert_type(await job.result(timeout=timedelta(minutes=1)), Thumb)
    assert_type(await job.result(), Thumb)
    assert_type(await job.status(), Status)
    assert_type(await job.info(), JobInfo)
    assert_type(await notify.send("a@b"), Job[None])
    assert_type(await charge.send("c1", cents=100), Job[Receipt])
    assert_type(await (await digest.send([1])).result(), dict[str, float])


def the_synchronous_twins_have_the_same_types() -> None:
    with rt as opened:
        assert_type(opened, Runtime[State])
        job = thumbnail.send_sync("a.jpg")
        assert_type(job, Job[Thumb])
        assert_type(job.result_sync(timeout=5), Thumb)
        assert_type(job.info_sync(), JobInfo)
        assert_type(job.status_sync(), Status)
        assert_type(rt.send_many_sync([download.message("https://example.org")]), list[Job[bytes]])
        assert_type(rt.send_sync("shop.thumbnail", {"path": "a.jpg"}, delay=5, id="a"), Job[Any])


async def options_of_one_send_keep_the_signature() -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    assert_type(await thumbnail.options(delay=60, priority=1, id="x").send("a.jpg"), Job[Thumb])
    assert_type(await thumbnail.options(at=due, queue="slow", attempts=2).send("a.jpg", 64), Job[Thumb])
    assert_type(thumbnail.options(delay=timedelta(minutes=1), timeout=timedelta(seconds=5)).message("a.jpg"), Message[Thumb])
    assert_type(download.options(timeout=0.5).send_sync("https://example.org"), Job[bytes])


async def many_messages_give_many_handles() -> None:
    assert_type(thumbnail.message("a.jpg"), Message[Thumb])
    assert_type(await rt.send_many(thumbnail.message(path) for path in ("a.jpg", "b.jpg")), list[Job[Thumb]])
    messages: list[Message[Thumb | bytes]] = [thumbnail.message("a.jpg"), download.message("https://example.org")]
    assert_type(await rt.send_many(messages), list[Job[Thumb | bytes]])


async def handles_of_several_actors_are_kept_together() -> None:
    jobs: list[Job[object]] = [await thumbnail.send("a.jpg"), await download.send("https://example.org")]
    assert_type(await jobs[0].result(), object)


async def by_name_the_result_is_plain_data() -> None:
    assert_type(await rt.send("shop.thumbnail", {"path": "a.jpg"}, priority=1), Job[Any])
    assert_type(rt.job("saved"), Job[Any])


def a_saved_id_becomes_a_typed_handle() -> None:
    assert_type(thumbnail.job("saved"), Job[Thumb])
    assert_type(charge.job("saved"), Job[Receipt])


def the_state_of_the_context_is_what_the_lifespan_yields() -> None:
    assert_type(rt, Runtime[State])
    assert_type(rt.context, Context[State])
    assert_type(rt.context.state.connections, int)
    assert_type(stateless, Runtime[None])
    assert_type(stateless.context.state, None)
    assert_type(Context.current(), Context[Any])


@rt.actor()
async def an_actor_speaks_through_its_context(path: str) -> int:
    context = rt.context
    context.progress(0.5, "half")
    context.log("a line")
    context.send(thumbnail.message(path), notify.options(delay=5).message("a@b"))
    assert_type(context.job.id, str)
    assert_type(context.attempt, int)
    assert_type(context.deadline, datetime)
    assert_type(context.cancelled, bool)
    match context.attempt:
        case 1:
            raise Retry(after=timedelta(seconds=60))
        case 2:
            raise Retry(path, after=1.5)
        case 3:
            raise Retry
        case 4:
            raise Snooze(60)
        case 5:
            raise Snooze(timedelta(minutes=1))
        case _:
            raise Fail(path)


async def log_runs(context: Context[Any], call_next: Callable[[], Awaitable[Any]]) -> Any:
    context.log(f"attempt {context.attempt}")
    return await call_next()


async def count_connections(context: Context[State], call_next: Callable[[], Awaitable[Any]]) -> Any:
    context.state.connections += 1
    return await call_next()


def middleware_sees_the_context_and_what_comes_next() -> None:
    assert_type(Runtime(middleware=[log_runs]), Runtime[None])
    assert_type(Runtime(lifespan=lifespan, middleware=[log_runs, count_connections]), Runtime[State])


async def a_worker_runs_in_a_host_service() -> None:
    async with rt as opened, rt.worker(concurrency=10, queues=["photos"], grace=timedelta(seconds=5)) as worker:
        assert_type(opened, Runtime[State])
        assert_type(worker.concurrency, int)
        assert_type(await rt.stats(), Stats)
        assert_type(await rt.workers(), list[WorkerInfo])


def groups_take_in_groups() -> None:
    inner = Actors()
    group.include(inner, Actors(queue="slow"))
    handler: Callable[[str], None] = inner.thread_actor(name="echo")(print_line)
    assert_type(handler("a line"), None)


def print_line(line: str) -> None:
    """Stand for a function of a library, declared where it is used."""
