"""`rt.control` and `rt.explain` from Python: what is paused or drained, by whom and why, and the words of what cannot be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Concurrency, Draining, InvalidOptions, JobNotFound, Queue, RateLimit, Runtime, Status
from angelrt.config import whoami
from tests.worker.waiting import until_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.worker.conftest import NewRuntime

RESULT_S = 20
KEY = "call.customer_id@default=7"


@pytest.fixture
async def rt(new_runtime: NewRuntime) -> AsyncIterator[Runtime[Any]]:
    """An open runtime with a few actors; their limits are declared."""
    runtime = new_runtime(queues=[Queue("mail", limits=[RateLimit("100/second")])])

    @runtime.actor(limits=[Concurrency(1, per="customer_id"), RateLimit("100/day", per="account")])
    async def call(customer_id: int, account: str = "main") -> int:  # noqa: ARG001 - the key of a limit
        await asyncio.sleep(0)
        return customer_id

    @runtime.actor(queue="mail")
    async def greet(name: str) -> str:
        return f"hello {name}"

    @runtime.actor()
    async def family(number: int) -> None:
        runtime.context.send(*(call.message(each) for each in range(number)))

    async with runtime:
        await runtime.new_worker(concurrency=1, kind="test").declare()
        yield runtime


async def send(rt: Runtime[Any], actor: str, *args: object) -> Any:
    """Send a job of one of the actors."""
    return await rt.registered[actor].send(*args)


# -- pause ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ({"queue": "default"}, ["default"]),
        ({"actor": "call"}, ["call"]),
        ({"key": "customer_id=7"}, [KEY]),
        ({"key": KEY}, [KEY]),
        ({"key": "account=main"}, ["call.account/86400s@default=main"]),
    ],
)
async def test_what_is_paused_waits_and_goes_on_when_it_is_resumed(rt: Runtime[Any], what: dict[str, str], names: list[str]) -> None:
    assert await rt.control.pause(**what) == names
    held = await send(rt, "call", 7)
    async with rt.worker(concurrency=2):
        await (await send(rt, "greet", "ann")).result(RESULT_S)
        assert await held.status() == Status.PENDING
        assert await rt.control.resume(**what) == names
        assert await held.result(RESULT_S) == 7
    assert await rt.control.pauses() == []


async def test_pauses_tell_by_whom_since_when_and_why(rt: Runtime[Any]) -> None:
    before = datetime.now(UTC)
    await rt.control.pause(queue="mail", by="ann", reason="the provider is down")
    await rt.control.drain(actor="call")
    paused, drained = sorted(await rt.control.pauses(), key=lambda pause: pause.how, reverse=True)
    assert (paused.kind, paused.name, paused.how, paused.by, paused.reason) == ("queue", "mail", "paused", "ann", "the provider is down")
    assert (drained.kind, drained.name, drained.how, drained.by, drained.reason) == ("actor", "call", "drained", whoami(), "")
    assert abs((paused.at - before).total_seconds()) < 60


async def test_first_pause_stays_with_its_author(rt: Runtime[Any]) -> None:
    await rt.control.pause(queue="mail", by="ann")
    await rt.control.pause(queue="mail", by="bob")
    (pause,) = await rt.control.pauses()
    assert pause.by == "ann"


async def test_value_of_a_key_is_quoted_for_its_caller(rt: Runtime[Any]) -> None:
    assert await rt.control.pause(key="account=a=b, *c") == ["call.account/86400s@default=a%3Db%2C%20%2Ac"]
    held = await send(rt, "call", 1, "a=b, *c")
    other = await send(rt, "call", 2, "a")
    async with rt.worker(concurrency=2):
        assert await other.result(RESULT_S) == 2
        assert await held.status() == Status.PENDING
        await rt.control.resume(key="account=a=b, *c")
        assert await held.result(RESULT_S) == 1


# -- drain ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"queue": "default"}, "queue default"),
        ({"actor": "call"}, "actor call"),
        ({"key": "customer_id=7"}, f"key {KEY}"),
    ],
)
async def test_what_is_drained_takes_no_new_job_and_runs_out(rt: Runtime[Any], what: dict[str, str], words: str) -> None:
    there = await send(rt, "call", 7)
    await rt.control.drain(**what)
    with pytest.raises(Draining) as caught:
        await send(rt, "call", 7)
    assert str(caught.value) == (
        f"{words} is drained and takes no new jobs; `python -m angelrt limits` tells since when, and by whom"
    )  # fmt: skip
    async with rt.worker(concurrency=1):
        assert await there.result(RESULT_S) == 7
        await rt.control.resume(**what)
        assert await (await send(rt, "call", 7)).result(RESULT_S) == 7


async def test_send_many_and_send_by_name_are_refused_as_well(rt: Runtime[Any]) -> None:
    await rt.control.drain(queue="default")
    with pytest.raises(Draining):
        await rt.send_many([rt.registered["call"].message(7)])
    with pytest.raises(Draining):
        await rt.send("elsewhere", {}, queue="default")


async def test_children_of_runs_are_taken(rt: Runtime[Any]) -> None:
    parent = await send(rt, "family", 3)
    await rt.control.drain(queue="default")
    async with rt.worker(concurrency=1) as worker:
        await parent.result(RESULT_S)
        await worker.wait_empty()
    stats = await rt.stats()
    assert (stats.total.sent, stats.total.completed) == (4, 4)


async def test_resume_lifts_pause_and_drain_together(rt: Runtime[Any]) -> None:
    held = await send(rt, "greet", "ann")
    await rt.control.pause(queue="mail")
    await rt.control.drain(queue="mail")
    assert [pause.how for pause in await rt.control.pauses()] in (["paused", "drained"], ["drained", "paused"])
    await rt.control.resume(queue="mail")
    assert await rt.control.pauses() == []
    async with rt.worker(concurrency=1):
        assert await held.result(RESULT_S) == "hello ann"
        await send(rt, "greet", "bob")


# -- words ----------------------------------------------------------------------------------------------------------------------------


async def test_resume_names_what_was_held_alone(rt: Runtime[Any]) -> None:
    await rt.control.pause(queue="mail")
    assert await rt.control.resume(actor="mail") == []
    assert await rt.control.resume(queue="mail") == ["mail"]
    assert await rt.control.resume(queue="mail") == []


@pytest.mark.parametrize("verb", ["pause", "resume", "drain"])
@pytest.mark.parametrize("what", [{}, {"queue": "mail", "actor": "call"}, {"queue": "mail", "actor": "call", "key": "customer_id=7"}])
async def test_one_thing_is_named(rt: Runtime[Any], verb: str, what: dict[str, str]) -> None:
    with pytest.raises(InvalidOptions) as caught:
        await getattr(rt.control, verb)(**what)
    assert str(caught.value) == "name one of queue=, actor= and key="


@pytest.mark.parametrize("key", ["customer_id", "nobody=7", "", "=7", "name=ann"])
async def test_key_that_no_limit_goes_by_is_refused_with_the_limits_that_there_are(rt: Runtime[Any], key: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        await rt.control.pause(key=key)
    assert str(caught.value) == (
        f"key {key!r}: write argument=value, for an argument that a limit goes by, or rule=value; the limits: "
        "/1s@mail, call.account/86400s@default, call.customer_id@default"
    )


async def test_names_that_cannot_be_are_refused(rt: Runtime[Any]) -> None:
    with pytest.raises(InvalidOptions, match="queue 'no spaces': use 1 to 64 letters"):
        await rt.control.pause(queue="no spaces")
    with pytest.raises(InvalidOptions, match="actor '': a name is 1 to 128 letters"):
        await rt.control.drain(actor="")


@pytest.mark.parametrize(
    ("rule", "limit", "words"),
    [
        ("nobody@default", 1, "no limit is named 'nobody@default': /1s@mail, call.account/86400s@default, call.customer_id@default"),
        (
            "call.customer_id@default",
            0,
            "Concurrency(most) is a whole number from 1 to 1,000,000,000, not 0; to let nothing through, pause",
        ),
        ("call.customer_id@default", "3/day", "call.customer_id@default limits how many run at a time: its limit is a number, not '3/day'"),
        ("call.account/86400s@default", "many", "RateLimit('many'): write a number and a window, as in '300/day', '10/second' or '5/30s'"),
        (
            "call.account/86400s@default",
            "5/hour",
            "call.account/86400s@default counts over 100/day: a rate is changed within its window; another window is another limit",
        ),
    ],
)
async def test_limit_that_cannot_be_is_refused(rt: Runtime[Any], rule: str, limit: int | str, words: str) -> None:
    before = await rt.control.limits()
    with pytest.raises(InvalidOptions) as caught:
        await rt.control.set_limit(rule, limit)
    assert str(caught.value) == words
    assert await rt.control.limits() == before


async def test_changed_limit_is_shown_beside_the_declared_one_until_it_is_taken_back(rt: Runtime[Any]) -> None:
    await rt.control.set_limit("call.account/86400s@default", "50/day", burst=5)
    await rt.control.set_limit("call.customer_id@default", 4)
    shown = {rule.name: (rule.limit, rule.declared) for rule in await rt.control.limits()}
    assert shown == {
        "/1s@mail": ("100/second", None),
        "call.account/86400s@default": ("50/day, 5 at once", "100/day"),
        "call.customer_id@default": ("4 at a time", "1 at a time"),
    }
    await rt.control.set_limit("call.account/86400s@default", None)
    await rt.control.set_limit("call.customer_id@default", None)
    assert {rule.declared for rule in await rt.control.limits()} == {None}


# -- explain --------------------------------------------------------------------------------------------------------------------------


async def test_explain_names_who_holds_the_key_and_then_that_it_has_ended(new_runtime: NewRuntime) -> None:
    go_on = asyncio.Event()
    async with new_runtime() as rt:

        @rt.actor(limits=[Concurrency(1, per="customer_id")])
        async def call(customer_id: int) -> int:
            await go_on.wait()
            return customer_id

        async with rt.worker(concurrency=5):
            first, second = await call.send(7), await call.send(7)
            await until_info(first, lambda info: info.status == "processing", "the first runs")
            found = await rt.explain(second.id)
            assert [reason.kind for reason in found.reasons] == ["gate", "behind"]
            assert found.text == (
                f"limit call.customer_id@default for 7: 1 at a time; held by {first.id}\nit is the first of 1 that wait there"
            )
            assert found.reasons[0].data["holders"] == [first.id]
            assert (found.status, found.actor, found.queue, found.expected_at) == (Status.PENDING, "call", "default", None)
            running = await rt.explain(first.id)
            assert [reason.kind for reason in running.reasons] == ["running"]
            go_on.set()
            assert await second.result(RESULT_S) == 7
        ended = await rt.explain(second.id)
    assert ended.reasons[0].kind == "ended"
    assert ended.text.startswith("it completed at ")
    assert ended.text.endswith("after 1 attempt")


async def test_explain_names_the_pause_and_that_there_is_no_worker(rt: Runtime[Any]) -> None:
    job = await send(rt, "greet", "ann")
    found = await rt.explain(job.id)
    assert [reason.kind for reason in found.reasons] == ["no_worker", "line"]
    assert found.reasons[0].text == "no live worker serves queue mail"
    await rt.control.pause(queue="mail", by="ann", reason="no provider")
    found = await rt.explain(job.id)
    assert found.reasons[0].text.startswith("queue mail is paused since ")
    assert found.reasons[0].text.endswith(" by ann: no provider")


async def test_explain_of_a_job_that_is_not_there(rt: Runtime[Any]) -> None:
    with pytest.raises(JobNotFound, match="no job 'nobody': it was never sent to this namespace"):
        await rt.explain("nobody")
