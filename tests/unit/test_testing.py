"""`angelrt.testing`: what an application's own tests rely on, used as they use it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Fail, InvalidOptions, JobFailed, JobNotFound, Retry, RetryPolicy, Runtime, Snooze, Status
from angelrt.keys import Keys
from angelrt.store import Store
from angelrt.testing import Sandbox, sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

rt = Runtime(namespace="never-used")


@rt.actor(name="shout")
async def shout(text: str, times: int = 1) -> str:
    return text.upper() * times


@rt.actor(name="order")
async def order(number: int, lines: int) -> None:
    rt.context.send(*(shout.message(f"{number}.{line}") for line in range(lines)))


@rt.actor(name="echo_for_ever")
async def echo_for_ever(number: int) -> None:
    rt.context.send(echo_for_ever.message(2 * number), echo_for_ever.message(2 * number + 1))


@rt.actor(name="stumble", retry=RetryPolicy(attempts=3, base=10, cap=10))
async def stumble(how: str) -> None:
    if rt.context.attempt < 3:
        raise Retry(how, after=60) if how == "retry" else ValueError(how)


@rt.actor(name="nap")
async def nap() -> str:
    if not rt.context.state:
        raise Snooze(60)
    return "awake"


@rt.actor(name="give_up")
async def give_up(why: str) -> None:
    raise Fail(why)


@rt.thread_actor(name="thread_of")
def thread_of(number: int) -> int:
    return number + 1


@rt.actor(name="wrong_result")
async def wrong_result(value: Any) -> int:
    return value  # type: ignore[no-any-return]


far = rt.remote(name="billing.charge", queue="billing")(lambda customer: customer)


@pytest.fixture
async def box(server_url: str) -> AsyncIterator[Sandbox]:
    """A sandbox on each of the servers that the tests have."""
    async with sandbox(rt, server_url) as opened:
        yield opened


async def stored_keys(url: str, namespace: str) -> list[bytes]:
    """List every key of a namespace, whoever wrote it."""
    store = Store(url, Keys(namespace))
    try:
        every: list[bytes] = await store.command("KEYS", "*")
        return [key for key in every if key.startswith(b"{%b}" % namespace.encode())]
    finally:
        await store.close()


# -- the embedded server --------------------------------------------------------------------------------------------------------------


async def test_without_a_server_there_is_one_for_all_tests_of_the_process() -> None:
    places: list[tuple[str | None, bytes]] = []
    for _ in range(2):
        async with sandbox(rt) as box:
            info: bytes = await box.runtime.client().store.command("INFO", "server")
            places.append((box.runtime.url, info[info.index(b"process_id:") :].split()[0]))
            await shout.send("a")
            assert [info.status for info in await box.drain()] == [Status.COMPLETED]
    assert places[0] == places[1]
    assert str(places[0][0]).startswith("unix://")


# -- isolation -----------------------------------------------------------------------------------------------------------------------


def other_runtime() -> tuple[Runtime[None], Any]:
    """Make a second application with an actor of the same name."""
    other = Runtime()

    @other.actor(name="shout")
    async def _whisper(text: str) -> str:
        return text.lower()

    return other, _whisper


async def test_two_sandboxes_see_nothing_of_each_other(box: Sandbox, server_url: str) -> None:
    other, whisper = other_runtime()
    await shout.options(id="x").send("First")
    async with sandbox(other, server_url) as second:
        await whisper.options(id="x").send("Second")
        assert second.runtime.keys.namespace != box.runtime.keys.namespace
        assert [info.payload for info in await second.sent("shout")] == [{"text": "Second"}]
        second.advance(3_600)
        assert len(await second.drain()) == 1
        assert await whisper.job("x").result(timeout=5) == "second"
    assert await shout.job("x").status() == Status.PENDING
    assert len(await box.drain()) == 1
    assert await shout.job("x").result(timeout=5) == "FIRST"


async def test_a_sandbox_begins_empty_and_puts_the_runtime_back(server_url: str) -> None:
    namespaces: set[str] = set()
    for _ in range(3):
        async with sandbox(rt, server_url) as box:
            namespaces.add(box.runtime.keys.namespace)
            assert await box.sent(shout) == []
            await shout.options(id="x").send("a")
            assert await box.run_one() is not None
    assert len(namespaces) == 3
    assert (rt.url, rt.keys.namespace) == (None, "never-used")


async def test_no_key_is_left_behind(server_url: str) -> None:
    async with sandbox(rt, server_url) as box:
        namespace = box.runtime.keys.namespace
        await order.send(1, lines=3)
        await stumble.send("retry")
        await give_up.send("x" * 10_000)
        await shout.options(queue="another", delay=60).send("x" * 10_000)
        await rt.send("somewhere.else", {"large": "x" * 10_000})
        waiting = asyncio.create_task(shout.job("x").result())
        await box.drain()
        with pytest.raises(JobNotFound):
            await waiting
        assert len(await stored_keys(server_url, namespace)) > 5
    assert await stored_keys(server_url, namespace) == []


async def test_no_key_is_left_behind_by_a_test_that_fails(server_url: str) -> None:
    namespaces: list[str] = []

    async def failing() -> None:
        async with sandbox(rt, server_url) as box:
            namespaces.append(box.runtime.keys.namespace)
            await shout.send("a")
            await box.assert_sent(shout, text="b")

    with pytest.raises(AssertionError):
        await failing()
    assert await stored_keys(server_url, namespaces[0]) == []
    assert (rt.url, rt.keys.namespace) == (None, "never-used")


async def test_a_worker_of_the_sandbox_leaves_the_register(box: Sandbox) -> None:
    await shout.send("a")
    await box.drain()
    assert await rt.workers() == []


# -- running ---------------------------------------------------------------------------------------------------------------------------


async def test_run_one_runs_one_job_to_its_end(box: Sandbox) -> None:
    jobs = [await shout.send("a"), await shout.send("b", times=2)]
    first = await box.run_one()
    assert first is not None
    assert (first.id, first.status, first.attempts, first.payload) == (jobs[0].id, Status.COMPLETED, 1, {"text": "a"})
    assert await jobs[1].status() == Status.PENDING
    second = await box.run_one()
    assert second is not None
    assert second.id == jobs[1].id
    assert await box.run_one() is None
    assert [await job.result(timeout=5) for job in jobs] == ["A", "BB"]


async def test_run_one_takes_the_most_urgent_job(box: Sandbox) -> None:
    await shout.send("later")
    await shout.options(priority=0).send("first")
    info = await box.run_one()
    assert info is not None
    assert (info.payload["text"], info.priority) == ("first", 0)


async def test_drain_runs_what_is_ready_and_what_that_sends(box: Sandbox) -> None:
    await order.send(1, lines=2)
    await order.send(2, lines=1)
    await shout.options(delay=60).send("later")
    ran = await box.drain()
    assert [info.type for info in ran] == ["order", "order", "shout", "shout", "shout"]
    assert {info.status for info in ran} == {Status.COMPLETED}
    assert await box.drain() == []
    assert len(await box.sent(shout)) == 4


async def test_drain_runs_more_jobs_than_one_batch_holds(box: Sandbox) -> None:
    await rt.send_many(shout.message(str(number)) for number in range(230))
    ran = await box.drain()
    assert [info.payload["text"] for info in ran] == [str(number) for number in range(230)]


async def test_actors_of_every_kind_are_run(box: Sandbox) -> None:
    job = await thread_of.send(1)
    await box.drain()
    assert await job.result(timeout=5) == 2


async def test_an_actor_that_is_not_declared_here_waits_and_is_named(box: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    job = await rt.send("somewhere.else", {"x": 1})
    await shout.send("a")
    assert [info.type for info in await box.drain()] == ["shout"]
    assert await job.status() == Status.PENDING
    assert any("somewhere.else" in record.getMessage() for record in caplog.records)


async def test_a_chain_without_an_end_is_an_error_instead_of_a_test_that_hangs(box: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    await echo_for_ever.send(1)
    with pytest.raises(RuntimeError) as caught:
        await box.drain()
    assert str(caught.value) == "10,000 runs and still not empty: do these actors send each other jobs for ever?"
    assert 10_000 <= (await rt.stats()).total.completed < 10_100


# -- time ------------------------------------------------------------------------------------------------------------------------------


async def test_a_delay_passes_when_the_clock_is_moved(box: Sandbox) -> None:
    job = await shout.options(delay=60).send("a")
    assert await box.drain() == []
    box.advance(59)
    assert await box.drain() == []
    box.advance(timedelta(seconds=2))
    assert [info.id for info in await box.drain()] == [job.id]


async def test_jobs_come_due_in_the_order_of_their_times(box: Sandbox) -> None:
    for delay in (30, 10, 20):
        await shout.options(delay=delay).send(str(delay))
    box.advance(60)
    assert [info.payload["text"] for info in await box.drain()] == ["10", "20", "30"]


@pytest.mark.parametrize(("how", "pause_s"), [("retry", 60), ("policy", 10)])
async def test_a_retry_waits_until_the_clock_is_moved(box: Sandbox, how: str, pause_s: int) -> None:
    job = await stumble.send(how)
    for attempt in (1, 2):
        (info,) = await box.drain()
        assert (info.status, info.state, info.attempts) == (Status.PENDING, "delayed", attempt)
        assert info.error is not None
        assert info.error.message == how
        box.advance(pause_s + 0.1)
    (info,) = await box.drain()
    assert (info.status, info.attempts, [run.ended_as for run in info.timeline]) == (Status.COMPLETED, 3, ["retried", "retried"])
    await job.result(timeout=5)


async def test_a_snooze_is_no_attempt(box: Sandbox) -> None:
    job = await nap.send()
    for _ in range(3):
        (info,) = await box.drain()
        assert (info.state, info.attempts, info.error) == ("delayed", 0, None)
        box.advance(61)
    assert await job.status() == Status.PENDING


async def test_the_jobs_of_a_worker_that_died_come_back_when_their_lease_ends(box: Sandbox) -> None:
    job = await shout.send("a")
    store = rt.client().store
    claimed = await store.claim(
        store.link, "died", "token", queues=["default"], lease_ms=15_000, capacity=1, free=1, actors=b"\0shout\0", block=False
    )
    assert [delivery.id.decode() for delivery in claimed.deliveries] == [job.id]
    box.advance(14)
    assert await box.drain() == []
    assert await job.status() == Status.PROCESSING
    box.advance(2)
    (info,) = await box.drain()
    assert (info.status, info.attempts, info.deliveries, [run.ended_as for run in info.timeline]) == (Status.COMPLETED, 1, 2, ["lost"])


async def test_time_does_not_go_back(box: Sandbox) -> None:
    with pytest.raises(InvalidOptions, match=r"^advance\(by\) must be seconds or a timedelta from 0"):
        box.advance(-1)


async def test_ended_jobs_are_forgotten_when_their_time_has_passed(box: Sandbox) -> None:
    job = await shout.send("a")
    await box.drain()
    box.advance(timedelta(hours=1, seconds=1))
    await shout.send("b")
    await box.drain()
    with pytest.raises(JobNotFound):
        await job.info()


# -- failures --------------------------------------------------------------------------------------------------------------------------


async def test_a_job_that_gives_up_ends_as_failed(box: Sandbox) -> None:
    job = await give_up.send("corrupt")
    (info,) = await box.drain()
    assert (info.status, info.attempts) == (Status.FAILED, 1)
    with pytest.raises(JobFailed) as caught:
        await job.result(timeout=5)
    assert (caught.value.actor, caught.value.error_message) == ("give_up", "corrupt")
    assert "raise Fail(why)" in caught.value.remote_traceback


@pytest.mark.parametrize("value", ["many", None, 1.5, [1]], ids=repr)
async def test_a_result_that_does_not_fit_fails_the_job(box: Sandbox, value: Any) -> None:
    job = await wrong_result.send(value)
    (info,) = await box.drain()
    assert (info.status, info.attempts) == (Status.FAILED, 1)
    with pytest.raises(JobFailed) as caught:
        await job.result(timeout=5)
    assert caught.value.error_message.startswith("result of actor wrong_result: ")


# -- what was sent ---------------------------------------------------------------------------------------------------------------------


async def test_sent_lists_the_jobs_of_an_actor_the_oldest_first(box: Sandbox) -> None:
    await shout.send("a")
    await order.send(1, lines=0)
    await box.drain()
    await shout.options(delay=60, id="b").send("b")
    assert [(info.payload["text"], info.status) for info in await box.sent(shout)] == [("a", Status.COMPLETED), ("b", Status.PENDING)]
    assert await box.sent("shout") == await box.sent(shout)
    assert await box.sent("nobody") == []


async def test_assert_sent_returns_what_matches(box: Sandbox) -> None:
    await shout.send("a", times=2)
    await shout.send("a", times=3)
    await far.send("c1")
    assert [info.payload["times"] for info in await box.assert_sent(shout)] == [2, 3]
    assert [info.payload["times"] for info in await box.assert_sent("shout", text="a")] == [2, 3]
    assert len(await box.assert_sent(shout, times=2)) == 2
    assert await box.assert_sent(order, times=0) == []
    assert (await box.assert_sent(far, customer="c1"))[0].queue == "billing"


@pytest.mark.parametrize(
    ("times", "arguments", "words"),
    [
        (None, {"text": "b"}, "shout was to be sent at least once with {'text': 'b'}; it was sent with:\n  {'text': 'a'}\n  {'text': 'c'}"),
        (3, {}, "shout was to be sent 3 times with {}; it was sent with:\n  {'text': 'a'}\n  {'text': 'c'}"),
        (0, {"text": "a"}, "shout was to be sent 0 times with {'text': 'a'}; it was sent with:\n  {'text': 'a'}\n  {'text': 'c'}"),
    ],
)
async def test_assert_sent_shows_what_was_sent_instead(box: Sandbox, times: int | None, arguments: dict[str, Any], words: str) -> None:
    await shout.send("a")
    await shout.send("c")
    for name in (shout, "shout"):
        with pytest.raises(AssertionError) as caught:
            await box.assert_sent(name, times=times, **arguments)
        assert str(caught.value) == words


async def test_assert_sent_says_so_when_nothing_was_sent(box: Sandbox) -> None:
    with pytest.raises(AssertionError) as caught:
        await box.assert_sent(shout)
    assert str(caught.value) == "shout was to be sent at least once with {}; it was sent with:\n  nothing"


# -- the lifespan ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Shared:
    """What the lifespan yields."""

    open: bool = False
    runs: int = 0


async def test_the_lifespan_surrounds_the_sandbox_and_its_state_reaches_the_actors(server_url: str) -> None:
    shared = Shared()

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Shared]:
        shared.open = True
        yield shared
        shared.open = False

    with_state = Runtime(lifespan=lifespan)

    @with_state.actor()
    async def count() -> bool:
        with_state.context.state.runs += 1
        return with_state.context.state.open

    async with sandbox(with_state, server_url) as box:
        job = await count.send()
        await count.send()
        assert len(await box.drain()) == 2
        assert await job.result(timeout=5) is True
        assert shared == Shared(open=True, runs=2)
    assert shared == Shared(open=False, runs=2)
