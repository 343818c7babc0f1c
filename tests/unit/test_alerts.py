"""Alerts of a fleet: they fire once and are over once, however many processes look, and whoever dies in between."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest

from angelrt import Runtime, RuntimeNotOpen
from angelrt import alerts as watching
from angelrt.alerts import AlertRule, BacklogAge, LogSink, Notice, Reading, SinkError, evaluate, evaluate_forever, overview
from angelrt.alerts_state import AlertState
from angelrt.job import at_ms
from tests.scripts.partition import START_MS
from tests.worker.waiting import until, until_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from angelrt.alerts_look import Look
    from tests.scripts.partition import Partition
    from tests.servers import Server


@dataclass(frozen=True, slots=True)
class Level(AlertRule):
    """Fires above 10; the test sets what it reads."""

    readings: dict[str, float | None] = field(default_factory=lambda: {"now": 0.0})
    unit: ClassVar[str] = "s"
    lasts_s: float = 0

    def check(self) -> None:
        """Take anything."""

    def derived_name(self) -> str:
        """Name it."""
        return "level over 10"

    @property
    def description(self) -> str:
        """Say it."""
        return "the level is over 10"

    @property
    def threshold(self) -> float:
        """The level."""
        return 10

    @property
    def fires_after_s(self) -> float:
        """For how long."""
        return self.lasts_s

    async def measure(self, look: Look) -> Reading:  # noqa: ARG002 - the test is the source
        """Read what the test has set; None where nobody can tell."""
        value = self.readings["now"]
        return Reading(value, value is not None and value > 10, is_known=value is not None)


@dataclass(slots=True)
class Sink:
    """Keeps what it takes; fails, or ends its process, when it is told to."""

    key: str = "sink"
    taken: list[Notice] = field(default_factory=list[Notice])
    error: BaseException | None = None

    async def send(self, notice: Notice) -> None:
        """Take a notice."""
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.taken.append(notice)

    @property
    def states(self) -> list[str]:
        """What it was told, in order."""
        return [notice.state for notice in self.taken]


@pytest.fixture
async def fleet(server_url: str, namespace: str, part: Partition) -> AsyncIterator[list[Runtime[None]]]:
    """Open runtimes of five processes, by the clock of the partition."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(Runtime(server_url, namespace=namespace)) for _ in range(5)]
        for runtime in found:
            runtime.client().store.clock = lambda: part.now_ms
        yield found


@pytest.fixture
def rt(fleet: list[Runtime[None]]) -> Runtime[None]:
    """One of them."""
    return fleet[0]


@pytest.fixture
def look(rt: Runtime[None], part: Partition) -> Callable[..., Awaitable[None]]:
    """Look once, ten seconds later: `await look(rule, sink, 12.0)`."""

    async def once(rule: Level, sink: Sink, *values: float | None) -> None:
        for value in values:
            part.now_ms += 10_000
            rule.readings["now"] = value
            await evaluate(rt, [rule], [sink])

    return once


async def test_an_alert_fires_once_and_is_over_after_two_calm_rounds(look: Callable[..., Awaitable[None]], namespace: str) -> None:
    rule, sink = Level(), Sink()
    await look(rule, sink, 5.0, 11.0, 12.0, 9.0, 13.0, 8.0, 7.0, 6.0)
    firing, resolved = sink.taken
    assert (firing.state, firing.since, firing.at, firing.value) == ("firing", at_ms(START_MS + 20_000), at_ms(START_MS + 20_000), 11.0)
    assert (resolved.state, resolved.since, resolved.value) == ("resolved", firing.since, 7.0)
    assert resolved.at == at_ms(START_MS + 70_000)
    assert firing.id != resolved.id
    told = firing.model_dump(mode="json", by_alias=True)
    assert {name: told[name] for name in ("name", "description", "threshold", "unit", "namespace")} == {
        "name": "level over 10",
        "description": "the level is over 10",
        "threshold": 10.0,
        "unit": "s",
        "namespace": namespace,
    }


async def test_what_must_last_fires_after_it_has_lasted_without_a_break(look: Callable[..., Awaitable[None]]) -> None:
    rule, sink = Level(lasts_s=20), Sink()
    await look(rule, sink, 11.0, 11.0, 9.0, 11.0, 11.0)
    assert sink.taken == []
    await look(rule, sink, 11.0)
    assert [(notice.state, notice.since, notice.at) for notice in sink.taken] == [
        ("firing", at_ms(START_MS + 40_000), at_ms(START_MS + 60_000))
    ]


async def test_it_fires_since_it_began_to_be_over(look: Callable[..., Awaitable[None]], rt: Runtime[None]) -> None:
    rule = Level(lasts_s=20)
    await look(rule, Sink(), 11.0, 11.0, 11.0)
    assert await standing(rt, rule) == ("firing", "2025-06-15T15:06:50Z", 11.0)


async def test_what_nobody_has_looked_at_in_between_has_not_lasted(look: Callable[..., Awaitable[None]], part: Partition) -> None:
    rule, sink = Level(lasts_s=20), Sink()
    await look(rule, sink, 11.0)
    part.now_ms += 3_600_000
    await look(rule, sink, 11.0)
    assert sink.taken == []
    await look(rule, sink, 11.0, 11.0)
    assert sink.states == ["firing"]


async def test_five_processes_tell_it_once(fleet: list[Runtime[None]], part: Partition) -> None:
    rule, sinks = Level(), [Sink() for _ in fleet]
    for value in (11.0, 11.0, 9.0, 9.0):
        rule.readings["now"] = value
        part.now_ms += 10_000
        for _ in range(3):
            await asyncio.gather(*(evaluate(rt, [rule], [sink], every_s=5) for rt, sink in zip(fleet, sinks, strict=True)))
    assert sorted(state for sink in sinks for state in sink.states) == ["firing", "resolved"]
    assert [change["state"] for change in (await overview(fleet[0], [rule]))["history"]] == ["resolved", "firing"]


async def test_a_rule_is_left_out_where_another_process_has_just_looked(fleet: list[Runtime[None]], part: Partition) -> None:
    rule, sink = Level(), Sink()
    await evaluate(fleet[0], [rule], [sink], every_s=5)
    rule.readings["now"] = 11.0
    part.now_ms += 4_999
    await evaluate(fleet[1], [rule], [sink], every_s=5)
    assert sink.states == []
    part.now_ms += 1
    await evaluate(fleet[1], [rule], [sink], every_s=5)
    assert sink.states == ["firing"]


async def test_a_process_that_dies_while_it_tells_leaves_it_to_another(fleet: list[Runtime[None]], part: Partition) -> None:
    rule, dying, sink = Level(readings={"now": 11.0}), Sink(error=asyncio.CancelledError()), Sink()
    with pytest.raises(asyncio.CancelledError):
        await evaluate(fleet[0], [rule], [dying])
    part.now_ms += 59_999
    await evaluate(fleet[1], [rule], [sink])
    assert sink.states == [], "it might still tell it"
    part.now_ms += 1
    await asyncio.gather(*(evaluate(rt, [rule], [sink]) for rt in fleet[1:]))
    assert sink.states == ["firing"]


async def test_a_telling_that_is_not_known_to_have_come_is_repeated_under_its_id(fleet: list[Runtime[None]], part: Partition) -> None:
    class Cut(Sink):
        async def send(self, notice: Notice) -> None:
            self.taken.append(notice)
            raise asyncio.CancelledError

    rule, cut, sink = Level(readings={"now": 11.0}), Cut(), Sink()
    with pytest.raises(asyncio.CancelledError):
        await evaluate(fleet[0], [rule], [cut])
    part.now_ms += 60_000
    await evaluate(fleet[1], [rule], [sink])
    assert cut.taken == sink.taken
    assert len(sink.taken) == 1


async def test_a_sink_that_fails_is_offered_all_again_in_order_and_the_others_once(
    look: Callable[..., Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = Sink("good"), Sink("bad", error=SinkError("the receiver is busy"))
    rule = Level(sinks=[good, bad])
    unused = Sink("unused")
    await look(rule, unused, 11.0, 9.0, 9.0)
    assert (good.states, bad.states, unused.states) == (["firing", "resolved"], [], [])
    assert "alert level over 10: the receiver is busy; it is offered again" in caplog.text
    bad.error = None
    await look(rule, unused, *[9.0] * 4)
    assert bad.states == ["firing", "resolved"]
    assert [notice.id for notice in bad.taken] == [notice.id for notice in good.taken]
    await look(rule, unused, 9.0, 9.0)
    assert (len(good.taken), len(bad.taken)) == (2, 2)


async def test_a_sink_hears_of_the_end_after_it_has_heard_of_the_beginning(look: Callable[..., Awaitable[None]]) -> None:
    class Picky(Sink):
        async def send(self, notice: Notice) -> None:
            if notice.state == "firing" and self.error is not None:
                raise self.error
            self.taken.append(notice)

    rule, sink = Level(), Picky(error=SinkError("not this one"))
    await look(rule, sink, 11.0, *[9.0] * 5)
    assert sink.taken == []
    sink.error = None
    await look(rule, sink, *[9.0] * 8)
    assert sink.states == ["firing", "resolved"]


async def test_a_sink_that_failed_is_left_alone_while_others_are_told(look: Callable[..., Awaitable[None]]) -> None:
    asked: list[str] = []

    class Broken(Sink):
        async def send(self, notice: Notice) -> None:
            asked.append(notice.state)
            raise SinkError("no")

    good = Sink("good")
    rule = Level(sinks=[good, Broken("bad")])
    await look(rule, good, 11.0, 11.0, 11.0, 11.0)
    assert asked == ["firing"] * 3, "at once, after 10 s, and 20 s later"
    await look(rule, good, 9.0, 9.0)
    assert good.states == ["firing", "resolved"]
    assert asked == ["firing"] * 3


async def test_no_more_than_twenty_notices_wait_for_a_sink(look: Callable[..., Awaitable[None]], part: Partition) -> None:
    rule = Level()
    await look(rule, Sink(error=SinkError("no")), *[11.0, 9.0, 9.0] * 15)
    state = AlertState.read(await part.key("HGET", "alerts", rule.name))
    assert [one.notice.state for one in state.owed] == ["firing", "resolved"] * 10


async def test_who_was_too_slow_does_not_end_the_telling_of_another(fleet: list[Runtime[None]], part: Partition) -> None:
    go_on, second = asyncio.Event(), asyncio.Event()

    class Slow(Sink):
        async def send(self, notice: Notice) -> None:
            self.taken.append(notice)
            second.set()
            await go_on.wait()

    class Overtaken(Sink):
        async def send(self, notice: Notice) -> None:  # noqa: ARG002 - it takes none
            part.now_ms += 60_000
            others.append(asyncio.create_task(evaluate(fleet[1], [rule], [slow])))
            await second.wait()
            raise SinkError("too late")

    rule, slow, third = Level(readings={"now": 11.0}), Slow(), Sink()
    others: list[asyncio.Task[None]] = []
    await evaluate(fleet[0], [rule], [Overtaken()])
    part.now_ms += 59_999
    await evaluate(fleet[2], [rule], [third])
    assert (slow.states, third.states) == (["firing"], [])
    go_on.set()
    await asyncio.gather(*others)


async def test_a_sink_that_fails_is_asked_less_and_less_often_and_not_for_ever(
    look: Callable[..., Awaitable[None]], part: Partition
) -> None:
    calls: list[str] = []

    class Broken(Sink):
        async def send(self, notice: Notice) -> None:
            calls.append(notice.id)
            raise ValueError("s3cret")

    rule, sink = Level(), Broken()
    await look(rule, sink, *[11.0] * 400)
    assert len(set(calls)) == 1
    assert 10 < len(calls) < 20, "5 s, 10 s ... 300 s, for an hour"
    state = AlertState.read(await part.key("HGET", "alerts", rule.name))
    assert (state.is_firing, state.owed) == (True, ())


async def test_what_a_sink_of_the_application_raises_is_named_by_its_type(
    look: Callable[..., Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    await look(Level(), Sink(error=ValueError("s3cret")), 11.0)
    assert "sink sink failed with ValueError; it is offered again" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_rule_that_cannot_be_measured_is_unknown_and_in_nobodys_way(rt: Runtime[None], caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Level):
        async def measure(self, look: Look) -> Reading:  # noqa: ARG002 - it does not come to it
            raise ZeroDivisionError

    sink, rules = Sink(), [Broken(name="broken"), Level(readings={"now": 11.0})]
    await evaluate(rt, rules, [sink])
    assert sink.states == ["firing"]
    assert "alert broken cannot be measured" in caplog.text
    assert [alert["state"] for alert in (await overview(rt, rules))["alerts"]] == ["unknown", "firing"]


async def test_the_overview_tells_how_rules_stand_and_what_changed(
    look: Callable[..., Awaitable[None]], rt: Runtime[None], part: Partition
) -> None:
    rule, other = Level(), BacklogAge(60, queue="mail")
    assert (await overview(rt, [rule, other]))["alerts"] == [
        {
            "name": "level over 10",
            "description": "the level is over 10",
            "state": "unknown",
            "since": None,
            "value": None,
            "threshold": 10.0,
            "unit": "s",
        },
        {
            "name": "backlog older than 60 s, queue mail",
            "description": "the oldest ready job has waited for more than 60 s, queue mail",
            "state": "unknown",
            "since": None,
            "value": None,
            "threshold": 60.0,
            "unit": "s",
        },
    ]
    await look(rule, Sink(), 5.0)
    assert await standing(rt, rule) == ("ok", None, 5.0)
    await look(rule, Sink(), 11.0)
    assert await standing(rt, rule) == ("firing", "2025-06-15T15:07:00Z", 11.0)
    await look(rule, Sink(), None)
    assert await standing(rt, rule) == ("unknown", "2025-06-15T15:07:00Z", None)
    await look(rule, Sink(), 7.0, 6.0)
    assert await standing(rt, rule) == ("ok", "2025-06-15T15:07:30Z", 6.0)
    assert (await overview(rt, [rule]))["history"] == [
        {"name": "level over 10", "at": "2025-06-15T15:07:30Z", "state": "resolved", "value": 6.0},
        {"name": "level over 10", "at": "2025-06-15T15:07:00Z", "state": "firing", "value": 11.0},
    ]
    part.now_ms += 60_001
    assert await standing(rt, rule) == ("unknown", "2025-06-15T15:07:30Z", None)


async def standing(rt: Runtime[None], rule: AlertRule) -> tuple[str, str | None, float | None]:
    """Return state, since and value of one rule."""
    alert = (await overview(rt, [rule]))["alerts"][0]
    return alert["state"], alert["since"], alert["value"]


async def test_the_history_is_capped(look: Callable[..., Awaitable[None]], rt: Runtime[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "HISTORY_MAX", 3)
    rule = Level()
    await look(rule, Sink(), *[11.0, 9.0, 9.0] * 3)
    assert [change["state"] for change in (await overview(rt, [rule]))["history"]] == ["resolved", "firing", "resolved"]


async def test_what_another_version_has_stored_is_replaced(look: Callable[..., Awaitable[None]], part: Partition) -> None:
    await part.key("HSET", "alerts", "level over 10", '{"is_firing": "who knows"}')
    rule, sink = Level(), Sink()
    await look(rule, sink, 11.0)
    assert sink.states == ["firing"]


async def test_a_rule_that_is_gone_is_forgotten_after_a_week(rt: Runtime[None], part: Partition) -> None:
    await evaluate(rt, [Level(name="old"), Level(name="new")], [])
    for days, expected in ((7, [b"new", b"old"]), (1, [b"new"])):
        part.now_ms += days * 86_400_000
        await evaluate(rt, [Level(name="new")], [])
        assert sorted(await part.key("HKEYS", "alerts")) == expected


async def test_a_change_that_is_sent_again_is_one_change(part: Partition) -> None:
    store = part.store
    keys = store.keys.key("alerts"), store.keys.key("alerts_history")

    async def swap(expected: str, new: str) -> int:
        reply: int = await store.command("EVAL", watching.SWAP, 2, *keys, "name", expected, new, "firing", "1.0", "2.0", 100)
        return reply

    assert [await swap("", "one"), await swap("", "one"), await swap("", "other"), await swap("one", "two")] == [1, 1, 0, 1]
    assert await part.key("XLEN", "alerts_history") == 2


async def test_an_alert_fires_at_the_memory_limit_of_the_server(own_server: Server, namespace: str) -> None:
    rule, sink = Level(readings={"now": 11.0}), Sink()
    async with Runtime(own_server.url, namespace=namespace) as rt:
        await rt.client().store.command("CONFIG", "SET", "maxmemory", "1")
        await evaluate(rt, [rule], [sink])
        assert sink.states == ["firing"]
        assert len((await overview(rt, [rule]))["history"]) == 1


async def test_the_log_is_told_where_nobody_says_otherwise(rt: Runtime[None], caplog: pytest.LogCaptureFixture) -> None:
    await evaluate(rt, [Level(readings={"now": 11.0})])
    assert "alert level over 10: the level is over 10 (11, the threshold is 10)" in caplog.text
    assert list(watching.DEFAULT_SINKS) == [LogSink()]


async def test_the_loop_goes_on_when_redis_refuses_and_when_it_is_away(
    own_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "ROUND_S", 0.01)
    rule, sink = Level(readings={"now": 0.0}), Sink()
    async with Runtime(own_server.url, namespace=namespace) as rt:
        store = rt.client().store

        async def is_looked_at() -> bool:
            return (await standing(rt, rule))[0] == "ok"

        await store.command("SET", store.keys.key("alerts"), "no hash")
        loop = asyncio.create_task(evaluate_forever(rt, [rule], [sink]))
        await until(lambda: "alerts wait for the next round: Redis at" in caplog.text, "the refusal is logged")
        await store.command("DEL", store.keys.key("alerts"))
        await until_true(is_looked_at, "it goes on")
        caplog.clear()
        own_server.kill()
        await until(lambda: "trying again" in caplog.text, "the outage is logged")
        own_server.start()
        rule.readings["now"] = 11.0
        await until(lambda: sink.states == ["firing"], "it goes on after the outage")
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_the_loop_ends_with_the_runtime(rt: Runtime[None]) -> None:
    await rt.__aexit__(None, None, None)
    with pytest.raises(RuntimeNotOpen):
        await evaluate_forever(rt, [Level()])
