"""Schedules: what is refused where it is declared, what is stored, and the commands."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner

from angelrt import ConfigError, InvalidOptions, RuntimeNotOpen
from angelrt.cli import app
from angelrt.runtime import Runtime
from angelrt.schedules import Stored, occurrence_id
from angelrt.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

rt = Runtime(namespace="never-used")
DUE_MS = 1_750_000_000_000


@rt.actor(name="report")
async def report(day: str = "today") -> str:
    return day


@pytest.fixture
def own(server_url: str, namespace: str) -> Iterator[Runtime[Any]]:
    """A runtime, not open, on a namespace that is removed."""
    runtime = Runtime(server_url, namespace=namespace)
    yield runtime

    async def remove() -> None:
        store = Store(server_url, runtime.keys)
        await store.command("UNLINK", *store.keys.every(await store.queues()))
        await store.close()

    asyncio.run(remove())


# -- declarations --------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Runtime[Any]], object], str]] = {
    "no-name": (lambda rt: rt.schedule("", report.message(), every=60), "a name is 1 to 64 letters"),
    "long-name": (lambda rt: rt.schedule("n" * 65, report.message(), every=60), "a name is 1 to 64 letters"),
    "spaced-name": (lambda rt: rt.schedule("every night", report.message(), every=60), "a name is 1 to 64 letters"),
    "name-with-nul": (lambda rt: rt.schedule("a\0b", report.message(), every=60), "a name is 1 to 64 letters"),
    "name-of-a-kind": (lambda rt: rt.schedule(["n"], report.message(), every=60), "a name is 1 to 64 letters"),  # type: ignore[arg-type]
    "actor": (lambda rt: rt.schedule("n", report, every=60), r"pass what is to be sent as actor.message\(...\)"),  # type: ignore[arg-type]
    "id": (lambda rt: rt.schedule("n", report.options(id="x").message(), every=60), "it sets id and time of each occurrence itself"),
    "delay": (lambda rt: rt.schedule("n", report.options(delay=5).message(), every=60), "leave id=, delay= and at= out"),
    "at": (lambda rt: rt.schedule("n", report.options(at=datetime.now(UTC)).message(), every=60), "leave id=, delay= and at= out"),
    "interval": (lambda rt: rt.schedule("n", report.message(), every=0), "the shortest interval"),
    "cron": (lambda rt: rt.schedule("n", report.message(), cron="nonsense"), "Wrong number of fields"),
    "both": (lambda rt: rt.schedule("n", report.message(), cron="0 3 * * *", every=60), "give one of them"),
    "zone": (lambda rt: rt.schedule("n", report.message(), cron="0 3 * * *", zone="Mars/Olympus"), "no such time zone"),
    "misfire": (lambda rt: rt.schedule("n", report.message(), every=60, misfire="twice"), "use 'skip'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused_where_it_is_declared(name: str) -> None:
    declare, words = REFUSED[name]
    with pytest.raises(InvalidOptions, match=words):
        declare(Runtime(namespace="never-used"))


def test_a_name_is_declared_once() -> None:
    declared = Runtime(namespace="never-used")
    declared.schedule("nightly", report.message(), cron="0 3 * * *")
    with pytest.raises(ConfigError, match="schedule 'nightly' is declared already: give this one another name"):
        declared.schedule("nightly", report.message(), every=60)


async def test_schedules_need_an_open_runtime() -> None:
    asks: list[Callable[[], Coroutine[Any, Any, object]]] = [
        rt.schedules.list,
        lambda: rt.schedules.get("n"),
        lambda: rt.schedules.add("n", report.message(), every=60),
        lambda: rt.schedules.remove("n"),
    ]
    for ask in asks:
        with pytest.raises(RuntimeNotOpen):
            await ask()


# -- records -------------------------------------------------------------------------------------------------------------------------

PLAN = {
    "actor": "report",
    "queue": "q",
    "arguments": '{"day":"x"}',
    "options": {},
    "cron": "0 * * * *",
    "every_ms": None,
    "zone": "UTC",
    "misfire": "skip",
    "anchor_ms": 0,
}
STORED = Stored("hourly", PLAN, "rev", 1, 2, DUE_MS)


def test_a_record_is_read_as_it_was_written() -> None:
    assert Stored.read("hourly", STORED.value.encode()) == STORED
    assert STORED.value.startswith(f"rev 1 2 {DUE_MS}\0")


def test_the_last_time_is_the_one_that_has_come_due() -> None:
    assert STORED.came_due(DUE_MS - 1) == 1
    assert STORED.came_due(DUE_MS) == DUE_MS
    assert replace(STORED, next_ms=0).came_due(DUE_MS) == 1


def test_the_view_shows_times_in_utc_and_the_job_that_waits() -> None:
    info = STORED.info(DUE_MS - 1)
    assert (info.next_at, info.next_job) == (datetime.fromtimestamp(DUE_MS / 1000, UTC), occurrence_id("hourly", DUE_MS))
    assert (info.payload, info.paused_by) == ({"day": "x"}, None)
    shown = orjson.loads(info.to_json())
    assert (shown["nextJob"], shown["lastAt"]) == (f"cron:hourly:{DUE_MS}", "1970-01-01T00:00:00.001000Z")


def test_one_that_was_resumed_shows_the_time_that_its_worker_will_find() -> None:
    info = replace(STORED, next_ms=0).info(DUE_MS)
    assert info.next_job is None
    assert info.next_at is not None
    assert timedelta() < info.next_at - datetime.fromtimestamp(DUE_MS / 1000, UTC) <= timedelta(hours=1)


# -- commands ------------------------------------------------------------------------------------------------------------------------


def command(own: Runtime[Any], *words: str) -> str:
    """Run a command of `schedules`; return what it prints."""
    found = CliRunner().invoke(app, ["schedules", *words, "--url", own.url or "", "--namespace", own.keys.namespace], terminal_width=200)
    if found.exception is not None:
        raise found.exception
    return found.stdout


def test_commands_list_pause_resume_and_remove(own: Runtime[Any]) -> None:
    assert command(own, "list") == "There is no schedule.\n"
    assert orjson.loads(command(own, "list", "--json")) == []

    async def add() -> None:
        async with own:
            await own.schedules.add("nightly", report.message(day="x"), cron="0 3 * * *", zone="Europe/Berlin", misfire="once")
            await own.schedules.add("often", report.message(), every=90)

    asyncio.run(add())
    nightly, often = orjson.loads(command(own, "list", "--json"))
    assert (nightly["name"], nightly["cron"], nightly["zone"], nightly["payload"]) == (
        "nightly",
        "0 3 * * *",
        "Europe/Berlin",
        {"day": "x"},
    )
    assert (often["name"], often["every"], often["misfire"]) == ("often", 90, "skip")
    shown = " ".join(command(own, "list").split())
    assert "nightly" in shown
    assert "every 90 s" in shown
    assert command(own, "pause", "nightly", "--by", "ann") == "nightly: paused by ann\n"
    assert orjson.loads(command(own, "pause", "often", "--by", "bob", "--json"))["pausedBy"] == "bob"
    assert [one["nextJob"] for one in orjson.loads(command(own, "list", "--json"))] == [None, None]
    assert command(own, "resume", "nightly").startswith("nightly: next at 20")
    assert command(own, "remove", "nightly") == "nightly is removed\n"
    assert orjson.loads(command(own, "remove", "often", "--json")) == {"removed": "often"}
    assert command(own, "list") == "There is no schedule.\n"


@pytest.mark.parametrize("verb", ["pause", "resume", "remove"])
def test_a_name_that_is_not_there_is_named(own: Runtime[Any], verb: str) -> None:
    with pytest.raises(InvalidOptions, match="no schedule is named 'nightly': there is none"):
        command(own, verb, "nightly")
