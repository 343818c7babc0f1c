"""The public status page: aggregates alone, no login, no load on Redis, and an answer when Redis is away."""

from __future__ import annotations

import asyncio
import json
import platform
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from angelrt import Fail, JobFailed, RateLimit, Runtime
from angelrt.web import status
from tests.scripts.partition import examined, job, verdict
from tests.tidy.project import PACKAGE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tests.scripts.partition import Partition
    from tests.servers import Server

STATIC = PACKAGE / "web" / "static"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
FIELDS = {
    *("state", "text", "at", "completedLastHour", "completedLastDay", "completionRate", "pickupP50Ms", "pickupP99Ms"),
    *("backlog", "backlogAgeMs", "minutes"),
}


@asynccontextmanager
async def client_of(rt: Runtime[Any]) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of an app that has nothing but the status page."""
    transport = httpx.ASGITransport(Starlette(routes=status.routes(rt)))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """The namespace from the side of a worker; examined and removed afterwards."""
    async with examined(server_url, namespace) as partition:
        yield partition


@pytest.fixture
async def rt(server_url: str, namespace: str, part: Partition) -> AsyncIterator[Runtime[None]]:
    """An open runtime, by the clock of the partition."""
    async with Runtime(server_url, namespace=namespace) as runtime:
        runtime.client().store.clock = lambda: part.now_ms
        yield runtime


async def tell(rt: Runtime[Any]) -> dict[str, Any]:
    """Ask an app that has not been asked before."""
    async with client_of(rt) as client:
        answer = await client.get("/status.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def leaves(value: object) -> list[object]:
    """Return what stands at the ends of nested data."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


def is_harmless(leaf: object) -> bool:
    """Tell whether a value can be no name: a number, a time, or one of the words that the page has."""
    if isinstance(leaf, str):
        return TIME.fullmatch(leaf) is not None or leaf in {*status.WORDS, *status.WORDS.values()}
    return leaf is None or isinstance(leaf, int | float)


async def test_nothing_but_aggregates_is_told(server_url: str, namespace: str) -> None:
    async with Runtime(server_url, namespace=namespace) as rt:

        @rt.actor(queue="NAMED-queue", name="NAMED_actor")
        async def work(text: str) -> str:
            if text == "NAMED-bad":
                raise Fail("NAMED-error")
            return "NAMED-result"

        async with rt.worker() as worker:
            good = await work.options(id="NAMED-id", tenant="NAMED-tenant").send("NAMED-payload")
            bad = await work.send("NAMED-bad")
            await good.result(timeout=20)
            with pytest.raises(JobFailed):
                await bad.result(timeout=20)
            await rt.control.pause(queue="NAMED-queue", by="NAMED-by", reason="NAMED-reason")
            waits = await work.send("NAMED-later")
            told = await tell(rt)
            names = [one.id for one in await rt.workers()]
            assert names
            assert worker
        await waits.cancel(by="test")
        store = rt.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))
    assert told.keys() == FIELDS
    assert all(minute.keys() == {"at", "completed"} for minute in told["minutes"])
    assert [leaf for leaf in leaves(told) if not is_harmless(leaf)] == []
    text = json.dumps(told)
    assert [name for name in ("NAMED", namespace, platform.node(), waits.id, bad.id, *names) if name in text] == []
    assert (told["state"], told["completedLastHour"], told["completedLastDay"], told["backlog"]) == ("working", 1, 1, 1)
    assert told["completionRate"] == 0.5
    assert told["pickupP99Ms"] >= told["pickupP50Ms"] > 0
    assert (len(told["minutes"]), sum(minute["completed"] for minute in told["minutes"])) == (60, 1)


def test_a_name_would_be_found_among_the_values() -> None:
    assert [leaf for leaf in leaves({"a": [{"b": "mail"}, 5, None], "c": "working"}) if not is_harmless(leaf)] == ["mail"]


async def test_nobody_works_where_no_worker_lives(rt: Runtime[None]) -> None:
    told = await tell(rt)
    assert (told["state"], told["text"]) == ("nobody works", "Nobody works at the moment. New jobs wait, none is lost.")
    assert (told["backlog"], told["backlogAgeMs"], told["completionRate"], told["pickupP50Ms"]) == (0, None, None, None)


async def test_it_is_slow_when_jobs_wait_for_more_than_a_minute(rt: Runtime[None], part: Partition) -> None:
    await part.send("j1", "j2", job("later", when="+3600000"))
    for ahead_ms, expected in ((60_000, "working"), (1, "slow")):
        part.now_ms += ahead_ms
        await beat(part)
        assert (await tell(rt))["state"] == expected
    told = await tell(rt)
    assert (told["backlog"], told["backlogAgeMs"]) == (2, 60_001.0)


async def test_no_age_is_told_where_all_jobs_wait_at_limits(server_url: str, namespace: str) -> None:
    async with Runtime(server_url, namespace=namespace) as rt:

        @rt.actor(limits=[RateLimit("1/day")])
        async def work(n: int) -> None: ...

        async with rt.worker(concurrency=1):
            jobs = await rt.send_many(work.message(n) for n in range(7))
            await jobs[0].result(timeout=20)
            told = await tell(rt)
            while told["backlogAgeMs"] is not None:  # the worker has yet to take the last of them to the limit
                told = await tell(rt)
            assert told["backlog"] == 6
        for waiting in jobs[1:]:
            await waiting.cancel()
        store = rt.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))


async def test_it_is_slow_for_five_minutes_after_jobs_have_begun_late(rt: Runtime[None], part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", "c", words=("p85", "r7")))
    for ahead_ms, expected in ((4 * 60_000, "slow"), (60_000, "working")):
        part.now_ms += ahead_ms
        await beat(part)
        assert (await tell(rt))["state"] == expected


async def test_the_figures_are_of_the_last_hour_and_the_last_day(rt: Runtime[None], part: Partition) -> None:
    await part.send("j1", "j2")
    await part.claim()
    await part.settle(verdict("j1", "c"), verdict("j2", "f"))
    part.now_ms += 61 * 60_000
    told = await tell(rt)
    assert (told["completedLastHour"], told["completedLastDay"]) == (0, 1)
    assert (told["completionRate"], told["pickupP50Ms"], told["pickupP99Ms"]) == (None, None, None)


async def beat(part: Partition) -> None:
    """Let a worker beat."""
    info: dict[str, Any] = {"type": "worker", "queues": ["q"], "actors": ["a"], "concurrency": 1, "running": 0, "processed": 0}
    info |= {"busy_ms": 0, "host": "here", "pid": 1, "blocked_by": None, "blocked_s": None, "longest_block_by": None}
    await part.store.beat("w1", json.dumps(info | {"longest_block_s": None}).encode(), ["q"], ["a"])


async def test_redis_is_asked_once_in_five_seconds_however_many_ask(rt: Runtime[None], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    looks: list[float] = []
    find = status.find_status

    async def counted(runtime: Runtime[Any]) -> status.SystemStatus:
        looks.append(clock[0])
        return await find(runtime)

    monkeypatch.setattr(status, "find_status", counted)
    monkeypatch.setattr(status.time, "monotonic", lambda: clock[0])
    clock[0] = 100.0
    async with client_of(rt) as client:
        for now_s in (100.0, 104.9, 105.0):
            clock[0] = now_s
            answers = await asyncio.gather(*(client.get("/status.json") for _ in range(50)))
            assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=5"}
    assert looks == [100.0, 105.0]


async def test_it_says_so_when_redis_is_away(own_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "PATIENCE_S", 0.2)
    monkeypatch.setattr(status, "KEPT_S", 0.0)
    async with Runtime(own_server.url, namespace=namespace) as rt, client_of(rt) as client:
        own_server.kill()
        async with asyncio.timeout(8):  # a call to Redis is tried for ten seconds
            told = (await client.get("/status.json")).json()
        assert (told["state"], told["text"]) == ("unreachable", "The system cannot be reached at the moment.")
        assert (told["backlog"], told["completedLastHour"], told["minutes"]) == (None, None, [])
        assert TIME.fullmatch(told["at"])
        assert (await client.get("/status")).status_code == 200
        own_server.start()
        monkeypatch.setattr(status, "PATIENCE_S", 20.0)
        assert (await client.get("/status.json")).json()["state"] == "nobody works"


async def test_it_says_so_when_the_runtime_is_not_open() -> None:
    assert (await tell(Runtime("redis://127.0.0.1:1")))["state"] == "unreachable"


async def test_the_page_has_no_script_style_or_asset_of_others_within(rt: Runtime[None]) -> None:
    async with client_of(rt) as client:
        answer = await client.get("/status")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"<script(?! type=\"module\" src=\"static/status\.js\"></script>)|<style|\son\w+=|\sstyle=", answer.text) == []
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", answer.text)
    assert links
    assert [link for link in links if link != "status.json" and not (STATIC / link.removeprefix("static/")).is_file()] == []


async def test_only_get_and_head_are_taken(rt: Runtime[None]) -> None:
    async with client_of(rt) as client:
        assert [(await client.request(method, "/status.json")).status_code for method in ("HEAD", "POST", "DELETE")] == [200, 405, 405]
