"""The runtime: how it opens and closes, what it sends, and what it refuses; on a real server, without a worker."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis import Redis

from angelrt import (
    Actors,
    AngelError,
    ConfigError,
    Context,
    InvalidArguments,
    InvalidOptions,
    JobNotFound,
    PayloadTooLarge,
    RedisUnavailable,
    Runtime,
    RuntimeNotOpen,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOWHERE = "unix:///nonexistent/angelrt.sock"
CLOSED = "the runtime is not open: use `async with rt:` (or `with rt:` in synchronous code) around what sends"


def declare(group: Actors) -> None:
    """Declare the actors of these tests."""

    @group.actor(name="thumbnail")
    async def _thumbnail(path: str, size: int = 256) -> str:
        return f"{path} {size}"

    @group.thread_actor(name="archive", queue="slow", priority=7)
    def _archive(path: str) -> None: ...


@pytest.fixture
def closed(server_url: str, namespace: str) -> Iterator[Runtime[None]]:
    """A runtime that is not open; afterwards its keys are removed."""
    runtime = Runtime(server_url, namespace=namespace)
    declare(runtime)
    yield runtime
    with Redis.from_url(server_url) as redis:
        redis.unlink("x", *redis.keys(f"{{{namespace}*"))


@pytest.fixture
async def rt(closed: Runtime[None]) -> AsyncIterator[Runtime[None]]:
    """An open runtime."""
    async with closed:
        yield closed


# -- settings ------------------------------------------------------------------------------------------------------------------------


def test_the_constructor_does_no_io_and_needs_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANGELRT_URL", raising=False)
    monkeypatch.delenv("ANGELRT_NAMESPACE", raising=False)
    runtime = Runtime()
    assert (runtime.lease_s, runtime.imports, runtime.keys.namespace) == (15.0, (), "angelrt")
    with pytest.raises(ConfigError, match="no Redis address"):
        runtime.address()


def test_the_namespace_is_the_argument_else_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANGELRT_NAMESPACE", "shop")
    assert Runtime().keys.namespace == "shop"
    assert Runtime(namespace="mine").keys.namespace == "mine"


def test_the_address_is_shown_without_its_password() -> None:
    assert Runtime("redis://app:s3cret@db:6379/0").address() == "redis://app:***@db:6379/0"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lease": 0.5}, "lease must be at least 1 s, not 0.5"),
        ({"lease": -1}, "lease must be seconds or a timedelta from 0 to ten years, not -1"),
        ({"lease": "15"}, "lease must be seconds or a timedelta from 0 to ten years, not '15'"),
        ({"namespace": "a b"}, "namespace 'a b': use 1 to 64 letters"),
        ({"namespace": "x" * 65}, "use 1 to 64 letters"),
        ({"queue": "a b"}, "queue 'a b': use 1 to 64 letters"),
        ({"retention": 3_600}, "Retention("),
    ],
)
def test_settings_out_of_range_are_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, InvalidOptions)) as caught:
        Runtime(NOWHERE, **options)
    assert words in str(caught.value)


def test_the_shortest_lease_is_a_second() -> None:
    assert Runtime(lease=timedelta(seconds=1)).lease_s == 1.0


def test_one_text_is_not_a_list_of_names() -> None:
    with pytest.raises((ConfigError, InvalidOptions), match="imports"):
        Runtime(imports="shop.photos")


async def test_one_text_is_not_a_list_of_queues(rt: Runtime[None]) -> None:
    with pytest.raises((ConfigError, InvalidOptions), match="queues"):
        rt.new_worker(queues="photos")


@pytest.mark.parametrize("concurrency", [0, -1, 100_001])
async def test_a_concurrency_out_of_range_is_refused(rt: Runtime[None], concurrency: int) -> None:
    with pytest.raises(InvalidOptions) as caught:
        rt.new_worker(concurrency=concurrency)
    assert str(caught.value) == f"concurrency is the number of jobs at a time, from 1 to 100,000, not {concurrency}"


async def test_a_worker_needs_actors(server_url: str, namespace: str) -> None:
    async with Runtime(server_url, namespace=namespace) as empty:
        with pytest.raises(ConfigError) as caught:
            empty.new_worker()
        assert str(caught.value) == "no actors are declared: declare some, or name their modules with Runtime(imports=[...])"


async def test_a_worker_serves_the_queues_of_its_own_actors(rt: Runtime[None]) -> None:
    rt.remote(name="billing.charge", queue="billing")(lambda customer: customer)
    worker = rt.new_worker()
    assert worker.queues == ("default", "slow")
    assert set(worker.actors) == {"thumbnail", "archive"}
    assert worker.concurrency == 10
    assert rt.new_worker(queues=["slow"]).queues == ("slow",)


# -- opening -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h:port", "redis://h:99999", "redis://[::1", "redis://h/x", "redis://h?database=3", "redis:/h", " redis://h", "unix://"),
        *("redis://h?db=x", "http://h", "h:6379"),
    ],
)
async def test_an_address_that_can_never_work_is_refused_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"^address "):
        async with Runtime(url):
            pass
    assert not caplog.records, "it tried to connect"


async def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("angelrt.opening.OPEN_DEADLINE_S", 0.1)
    runtime = Runtime(NOWHERE)
    with pytest.raises(RedisUnavailable, match=r"^Redis at unix:///nonexistent/angelrt\.sock did not answer within 0\.1 s: "):
        async with runtime:
            pass
    with pytest.raises(RuntimeNotOpen):
        runtime.client()


async def test_nothing_can_be_sent_before_opening_and_after_closing(closed: Runtime[None]) -> None:
    uses: list[Any] = [lambda: closed.send("thumbnail", {"path": "a"}), lambda: closed.send_many([]), closed.stats, closed.workers]
    sync_uses: list[Any] = [
        lambda: closed.job("x"),
        lambda: closed.send_sync("thumbnail", {"path": "a"}),
        lambda: closed.send_many_sync([]),
    ]
    for _ in range(2):
        for use in uses:
            with pytest.raises(RuntimeNotOpen) as caught:
                await use()
            assert str(caught.value) == CLOSED
        for use in sync_uses:
            with pytest.raises(RuntimeNotOpen):
                use()
        async with closed:
            pass


async def test_a_runtime_opens_once_at_a_time_and_again_after_closing(closed: Runtime[None]) -> None:
    async with closed:
        with pytest.raises(ConfigError) as caught:
            await closed.__aenter__()
        assert str(caught.value) == "this runtime is open already: open it once, where the program starts"
        job = await closed.send("thumbnail", {"path": "a"})
    async with closed:
        assert await closed.job(job.id).status() == Status.PENDING


async def test_closing_finishes_what_is_being_sent(closed: Runtime[None]) -> None:
    async with closed:
        sending = [asyncio.create_task(closed.send("thumbnail", {"path": str(n)})) for n in range(500)]
        await asyncio.sleep(0)
    ids = {(await task).id for task in sending}
    async with closed:
        assert {info.id for info in await closed.client().infos(sorted(ids))} == ids


FORKED = """
import asyncio, os, sys
from angelrt import Runtime, RuntimeNotOpen

async def main():
    async with Runtime(sys.argv[1], namespace=sys.argv[2]) as rt:
        child = os.fork()
        if child == 0:
            try:
                rt.client()
            except RuntimeNotOpen as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(await rt.workers())

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_is_told_to_open_its_own(server_url: str, namespace: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, server_url, namespace]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stdout.splitlines() == [
        "this process was forked after the runtime was opened: a connection cannot be shared, open the runtime in the child",
        "[]",
    ]


def test_synchronous_code_has_the_same_verbs(closed: Runtime[None]) -> None:
    with closed as rt:
        job = rt.send_sync("thumbnail", {"path": "a"}, id="x", delay=60)
        assert (job.id, job.created) == ("x", True)
        assert job.info_sync().payload == {"path": "a"}
        assert rt.job("x").status_sync() == Status.PENDING
        with pytest.raises(TimeoutError):
            job.result_sync(timeout=0.01)
        with pytest.raises(JobNotFound):
            rt.job("y").result_sync(timeout=5)
        with pytest.raises(InvalidOptions):
            rt.send_sync("thumbnail", {"path": "a"}, priority=10)
        assert [handle.created for handle in rt.send_many_sync([_message(rt, "b"), _message(rt, "c")])] == [True, True]
    with pytest.raises(RuntimeNotOpen):
        closed.send_sync("thumbnail", {"path": "a"})


def test_a_server_that_is_not_there_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("angelrt.opening.OPEN_DEADLINE_S", 0.1)
    with pytest.raises(RedisUnavailable), Runtime(NOWHERE):
        pass


async def test_a_synchronous_call_in_the_loop_is_refused_instead_of_waiting_for_itself(rt: Runtime[None]) -> None:
    job = await rt.send("thumbnail", {"path": "a"})
    by_name, many = partial(rt.send_sync, "thumbnail", {"path": "a"}), partial(rt.send_many_sync, [])
    calls: list[Any] = [by_name, many, job.info_sync, job.status_sync, job.result_sync]
    for call in calls:
        with pytest.raises(RuntimeNotOpen, match=r"where it would wait for itself: await the other one$"):
            call()


async def test_a_synchronous_call_from_a_thread_uses_the_open_loop(rt: Runtime[None]) -> None:
    job = await asyncio.to_thread(rt.send_sync, "thumbnail", {"path": "a"})
    assert await job.status() == Status.PENDING


# -- sending -------------------------------------------------------------------------------------------------------------------------


def _message(rt: Runtime[Any], path: str, **options: Any) -> Any:
    return rt.registered["thumbnail"].options(**options).message(path)


async def test_sending_again_under_an_id_returns_the_first_job(rt: Runtime[None]) -> None:
    first = await rt.send("thumbnail", {"path": "a"}, id="order 7")
    again = await rt.send("thumbnail", {"path": "b"}, id="order 7")
    other = await rt.send("archive", {"path": "c"}, id="order 7")
    assert [(job.id, job.created) for job in (first, again, other)] == [("order 7", True), ("order 7", False), ("order 7", False)]
    assert (await again.info()).payload == {"path": "a"}


@pytest.mark.parametrize("job_id", ["größe", "🙂" * 32, "a b", "x" * 128, "{n}:jobs", "a=b", "-", "'\"", "%s"])
async def test_odd_characters_in_an_id_come_back(rt: Runtime[None], job_id: str) -> None:
    assert (await rt.send("thumbnail", {"path": "a"}, id=job_id)).id == job_id
    info = await rt.job(job_id).info()
    assert (info.id, info.state, info.payload) == (job_id, "ready", {"path": "a"})
    large = await rt.send("thumbnail", {"path": "x" * 5_000}, id=f"{job_id[:30]}+")
    assert (await large.info()).payload == {"path": "x" * 5_000}


@pytest.mark.parametrize("job_id", ["", "a\0b", "a\n", "é" * 65, "\ud800"])
async def test_an_id_that_cannot_be_is_refused_before_anything_is_sent(rt: Runtime[None], job_id: str) -> None:
    with pytest.raises(InvalidOptions, match="use 1 to 128 bytes of printable text"):
        await rt.send("thumbnail", {"path": "a"}, id=job_id)
    assert (await rt.stats()).total.sent == 0


async def test_handles_come_in_the_order_of_the_messages_over_many_batches(rt: Runtime[None]) -> None:
    jobs = await rt.send_many(_message(rt, str(n)) for n in range(450))
    assert [info.payload["path"] for info in await rt.client().infos([job.id for job in jobs])] == [str(n) for n in range(450)]
    assert await rt.send_many([]) == []


async def test_many_large_messages_are_sent_in_bounded_batches(rt: Runtime[None]) -> None:
    jobs = await rt.send_many(_message(rt, "x" * 1_000_000) for _ in range(6))
    assert {len(info.payload["path"]) for info in await rt.client().infos([job.id for job in jobs])} == {1_000_000}


async def test_the_same_id_twice_in_one_batch_is_one_job(rt: Runtime[None]) -> None:
    first, second = await rt.send_many([_message(rt, "a", id="x"), _message(rt, "b", id="x")])
    assert (first.created, second.created) == (True, False)
    assert (await second.info()).payload == {"path": "a"}


async def test_nothing_of_a_batch_is_sent_when_one_message_is_wrong(rt: Runtime[None]) -> None:
    with pytest.raises(InvalidArguments):
        await rt.send_many(rt.registered["thumbnail"].message(path) for path in ("a", 1))
    assert (await rt.stats()).total.sent == 0


async def test_the_options_of_actor_and_send_are_seen_in_the_job(rt: Runtime[None]) -> None:
    plain = await (await rt.send("archive", {"path": "a"})).info()
    assert (plain.queue, plain.priority, plain.state) == ("slow", 7, "ready")
    due = datetime.now(UTC) + timedelta(hours=1)
    chosen = await (await rt.send("archive", {"path": "a"}, queue="fast", priority=0, at=due)).info()
    assert (chosen.queue, chosen.priority, chosen.state) == ("fast", 0, "delayed")
    assert chosen.due_at is not None
    assert abs(chosen.due_at - due) <= timedelta(milliseconds=1)


async def test_a_time_that_has_passed_means_now(rt: Runtime[None]) -> None:
    for at in (datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime.now(UTC)):
        assert (await (await rt.send("thumbnail", {"path": "a"}, at=at)).info()).state == "ready"


async def test_the_longest_delay_is_kept(rt: Runtime[None]) -> None:
    info = await (await rt.send("thumbnail", {"path": "a"}, delay=timedelta(days=3_650))).info()
    assert info.due_at is not None
    assert info.due_at - info.created_at == pytest.approx(timedelta(days=3_650), abs=timedelta(minutes=1))


async def test_a_declared_actor_checks_the_arguments_of_a_send_by_name(rt: Runtime[None]) -> None:
    assert (await (await rt.send("thumbnail", {"path": "a"})).info()).payload == {"path": "a"}
    for arguments in ({}, None, {"path": 1}, {"path": "a", "sise": 1}):
        with pytest.raises(InvalidArguments, match=r"^arguments of actor thumbnail: "):
            await rt.send("thumbnail", arguments)


async def test_an_actor_that_lives_elsewhere_gets_plain_json(rt: Runtime[None]) -> None:
    arguments = {"a": [1, None, {"b": 1.5}], "größe": "ü\0", "large": "x" * 5_000}
    job = await rt.send("elsewhere.run", arguments, queue="far")
    info = await job.info()
    assert (info.type, info.queue, info.payload) == ("elsewhere.run", "far", arguments)
    assert (await (await rt.send("elsewhere.run")).info()).payload == {}
    assert (await (await rt.send("elsewhere.run", priority=1)).info()).priority == 1


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, (1, 2), {1, 2}, datetime.now(UTC), b"x", {1: 2}, "\ud800", object()],
    ids=["nan", "inf", "tuple", "set", "datetime", "bytes", "int-key", "surrogate", "object"],
)
async def test_plain_arguments_that_would_not_come_back_are_refused(rt: Runtime[None], value: object) -> None:
    with pytest.raises(InvalidArguments, match=r"^arguments of (actor )?elsewhere\.run: "):
        await rt.send("elsewhere.run", {"x": value})


async def test_plain_arguments_have_the_same_limit(rt: Runtime[None]) -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        await rt.send("elsewhere.run", {"x": "x" * 1_048_576})
    assert "bytes of JSON, the limit is 1,048,576: store the data elsewhere and pass its key" in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "a b", "a|b", "a\0b", "a\n", "x" * 129, "\ud800"])
async def test_a_name_that_no_actor_can_have_is_refused(rt: Runtime[None], name: str) -> None:
    with pytest.raises(InvalidOptions, match="a name is 1 to 128 letters"):
        await rt.send(name, {"x": 1})
    assert (await rt.stats()).total.sent == 0


async def test_every_error_of_a_send_is_of_the_one_tree(rt: Runtime[None]) -> None:
    for call in (rt.send("thumbnail", {}), rt.send("thumbnail", {"path": "a"}, priority=99), rt.send("x", {"x": "x" * 2**20})):
        with pytest.raises(AngelError):
            await call


async def test_a_group_sends_through_the_runtime_that_includes_it_and_is_open(
    closed: Runtime[None], server_url: str, namespace: str
) -> None:
    second = Runtime(server_url, namespace=f"{namespace}:2")
    group = Actors()
    actor = group.thread_actor(name="late")(lambda: None)
    closed.include(group)
    second.include(group)
    with pytest.raises(RuntimeNotOpen) as caught:
        await actor.send()
    assert str(caught.value) == CLOSED
    async with second:
        await actor.options(id="x").send()
        assert await second.job("x").status() == Status.PENDING
    async with closed:
        with pytest.raises(JobNotFound):
            await actor.job("x").info()
        assert (await actor.options(id="x").send()).created


# -- waiting and seeing --------------------------------------------------------------------------------------------------------------


async def test_a_job_that_is_not_there_is_named(rt: Runtime[None]) -> None:
    job = rt.job("order 7")
    assert repr(job) == "<Job order 7 of an actor that is not here>"
    for call in (job.result, job.info, job.status):
        with pytest.raises(JobNotFound) as caught:
            await call()
        assert str(caught.value) == "no job 'order 7': it was never sent to this namespace, or its retention has passed"


@pytest.mark.parametrize("timeout", [0.01, timedelta(milliseconds=10)])
async def test_a_result_timeout_is_seconds_or_a_timedelta(rt: Runtime[None], timeout: Any) -> None:  # noqa: ASYNC109 - it is the subject
    job = await rt.send("thumbnail", {"path": "a"}, delay=60)
    with pytest.raises(TimeoutError) as caught:
        await job.result(timeout=timeout)
    assert f"<Job {job.id} of thumbnail> has not ended within 0.01 s and goes on" in str(caught.value)
    assert f"`python -m angelrt job {job.id}`" in str(caught.value)


async def test_there_is_no_context_outside_a_run(rt: Runtime[None]) -> None:
    for ask in (lambda: rt.context, Context.current):
        with pytest.raises(RuntimeNotOpen) as caught:
            ask()
        assert str(caught.value) == "there is no current job: the context exists only inside an actor that a worker runs"


async def test_namespaces_on_one_server_see_nothing_of_each_other(rt: Runtime[None], server_url: str, namespace: str) -> None:
    await rt.send("thumbnail", {"path": "a"}, id="x")
    async with Runtime(server_url, namespace=f"{namespace}:2") as other:
        with pytest.raises(JobNotFound):
            await other.job("x").info()
        assert (await other.stats()).queues == []


async def test_the_figures_count_what_is_sent_and_where_it_waits(rt: Runtime[None]) -> None:
    await rt.send_many([_message(rt, "a"), _message(rt, "b"), _message(rt, "c", delay=60)])
    await rt.send("archive", {"path": "a"})
    stats = await rt.stats()
    assert (stats.hours, stats.total.sent, stats.completion_rate, stats.pickup_p50_ms) == (25, 4, None, None)
    assert [(one.queue, one.actor, one.sent) for one in stats.actors] == [("default", "thumbnail", 3), ("slow", "archive", 1)]
    assert [(one.queue, one.ready, one.delayed, one.leased, one.lanes) for one in stats.queues] == [
        ("default", 2, 1, 0, 0),
        ("slow", 1, 0, 0, 0),
    ]
    assert all(one.oldest_ready_ms is not None and 0 <= one.oldest_ready_ms < 60_000 for one in stats.queues)
    assert await rt.workers() == []


@pytest.mark.parametrize(
    ("running", "blocked_by", "age_s", "status"),
    [(0, None, 0, "idle"), (3, None, 0, "active"), (3, "thumbnail", 0, "error"), (0, None, 14, "idle"), (3, None, 16, "error")],
)
async def test_a_worker_is_active_idle_or_in_error(
    rt: Runtime[None], running: int, blocked_by: str | None, age_s: int, status: str
) -> None:
    store = rt.client().store
    info = (
        orjson.loads(rt.new_worker(kind="worker").info())
        | {"blocked_by": blocked_by}
        | {"running": running, "processed": 4, "busy_ms": 50.0}
    )
    beat_ms = await store.beat("w1", orjson.dumps(info), [])
    store.clock = lambda: beat_ms + age_s * 1_000
    (worker,) = await rt.workers()
    assert (worker.id, worker.type, worker.status, worker.blocked_by) == ("w1", "worker", status, blocked_by)
    assert (worker.jobs_processed, worker.average_processing_time) == (4, 12.5)
    assert (worker.queues, worker.actors, worker.concurrency) == (["default", "slow"], ["thumbnail", "archive"], 10)
    assert worker.last_heartbeat.timestamp() * 1_000 == pytest.approx(beat_ms, abs=1)


async def test_a_worker_that_ran_nothing_has_no_average(rt: Runtime[None]) -> None:
    await rt.client().store.beat("w1", rt.new_worker().info(), [])
    (worker,) = await rt.workers()
    assert (worker.jobs_processed, worker.average_processing_time, worker.type) == (0, 0.0, "embedded")
