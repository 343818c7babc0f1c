"""How the system does over HTTP, what the app says when Redis is away, and where it runs: served, mounted, with alerts."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic_core import to_jsonable_python

import angelrt
from angelrt import ConfigError, Runtime
from angelrt.alerts import BacklogAge
from angelrt.store import Store
from angelrt.web import app as web_app
from angelrt.web import call as web_call
from angelrt.web import new_app
from tests.web.conftest import HIDDEN, OPERATOR, READER, declare
from tests.web.test_api_jobs import ended, get
from tests.worker.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers import Server
    from tests.web.conftest import Serve


async def test_the_overview_adds_up(working: Runtime[Any], reader: httpx.AsyncClient) -> None:
    for n in range(3):
        await ended(working, "echo", value=n)
    await ended(working, "fails", password=HIDDEN)
    await working.send("echo", delay=60)
    await working.control.pause(queue="default", by="test")
    await working.send("echo")
    told = await get(reader, "overview")
    stats = await working.stats()
    assert told["stats"] == to_jsonable_python(stats.summary()) | {"queues": told["stats"]["queues"]}
    assert (told["completionRate"], told["pauses"]) == (0.75, 1)
    assert told["pickupP99Ms"] == stats.pickup_p99_ms
    assert told["counts"] == {**dict.fromkeys(told["counts"], 0), "completed": 3, "failed": 1, "delayed": 1, "ready": 1}
    assert (told["backlog"]["ready"], told["backlog"]["delayed"], told["workers"]) == (1, 1, {"total": 1, "live": 1})
    assert told["backlog"]["oldestReadyMs"] >= 0


async def test_series_workers_and_actors_are_shown(working: Runtime[Any], reader: httpx.AsyncClient) -> None:
    await ended(working, "echo", value=1)
    minutes = (await get(reader, "series", minutes=5, actor="echo", queue="default"))["minutes"]
    assert (len(minutes), sum(one["completed"] for one in minutes)) == (5, 1)
    assert await get(reader, "series", minutes=5, actor="waits") != {"minutes": minutes}
    [worker] = (await get(reader, "workers"))["workers"]
    assert (worker["status"] in ("active", "idle"), worker["concurrency"]) == (True, 5)
    actors = {one["name"]: one for one in (await get(reader, "actors"))["actors"]}
    assert actors.keys() == set(working.registered)
    assert (actors["echo"]["figures"]["completed"], actors["echo"]["kind"]) == (1, "async")
    assert (actors["counts"]["queue"], actors["counts"]["figures"]) == ("limited", None)
    assert actors["counts"]["schema"]["properties"]["size"] == {"type": "integer", "title": "Size", "default": 1}
    assert actors["opens"]["description"] == "Open the door of an account."
    assert "default" not in actors["opens"]["schema"]["properties"]["code"]
    assert "a door" not in str(actors) + (await reader.get("/api/v1/openapi.json")).text, "the default of a secret within a model"


async def test_an_actor_of_another_process_is_shown_without_its_schema(rt: Runtime[Any], reader: httpx.AsyncClient) -> None:
    await rt.send("elsewhere", {"a": 1})
    [actor] = [one for one in (await get(reader, "actors"))["actors"] if one["name"] == "elsewhere"]
    assert (actor["kind"], actor["schema"], actor["figures"]["sent"]) == (None, None, 1)


async def test_a_wrong_path_or_method_is_told_as_json(reader: httpx.AsyncClient) -> None:
    answer = await reader.get("/api/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFound")
    answer = await reader.put("/api/v1/jobs", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "MethodNotAllowed")


async def test_metrics_are_text_for_prometheus(working: Runtime[Any], reader: httpx.AsyncClient) -> None:
    await ended(working, "echo", value="a-private-value")
    answer = await reader.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "a-private-value" not in answer.text
    assert "echo" in answer.text


async def test_metrics_without_their_extra_say_what_to_install(reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "angelrt.metrics", raising=False)
    monkeypatch.delattr(angelrt, "metrics", raising=False)
    answer = await reader.get("/metrics")
    assert answer.status_code == 501
    assert "pip install 'angelrt[metrics]'" in answer.json()["error"]["message"]


async def test_what_breaks_is_logged_and_not_told(
    reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> Any:
        message = "a private detail"
        raise RuntimeError(message)

    monkeypatch.setattr(Runtime, "workers", broken)
    answer = await reader.get("/api/v1/workers")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "InternalError")
    assert "private" not in answer.text
    assert "a private detail" in caplog.text


# -- Redis is away -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def lonely(own_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose Redis is stopped when the app is there."""
    monkeypatch.setattr("angelrt.store.SEND_DEADLINE_S", 0.3)
    rt: Runtime[Any] = Runtime(own_server.url, namespace=namespace)
    declare(rt)
    async with rt:
        transport = httpx.ASGITransport(new_app(rt))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            monkeypatch.setattr(Store.queues, "__defaults__", (0.3,))
            monkeypatch.setattr(Store.commands, "__kwdefaults__", {"deadline_s": 0.3, "link": None})
            own_server.stop()
            yield client


async def test_a_redis_that_is_away_is_503_and_tells_to_try_again(lonely: httpx.AsyncClient) -> None:
    assert (await lonely.get("/healthz")).status_code == 200
    assert (await lonely.get("/readyz")).status_code == 503
    answer = await lonely.post("/api/v1/jobs/a/cancel", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "RedisUnavailable")
    assert "Try again" in answer.json()["error"]["message"]
    assert answer.headers["Retry-After"] == "2"


async def test_a_runtime_that_is_not_open_is_503() -> None:
    transport = httpx.ASGITransport(new_app(Runtime("redis://nobody.invalid")))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/readyz")).status_code == 503
        answer = await client.get("/api/v1/jobs")
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "RuntimeNotOpen")


# -- where it runs -----------------------------------------------------------------------------------------------------------------


async def test_an_app_opens_its_runtime_when_it_is_served_by_itself(server_url: str, namespace: str) -> None:
    rt: Runtime[Any] = Runtime(server_url, namespace=namespace)
    app = new_app(rt)
    async with app.router.lifespan_context(app):
        assert await rt.jobs.counts()
    with contextlib.suppress(Exception):
        rt.client()
        pytest.fail("it is closed with the app")


async def test_an_app_leaves_a_runtime_open_that_was(rt: Runtime[Any]) -> None:
    app = new_app(rt)
    async with app.router.lifespan_context(app):
        pass
    assert await rt.jobs.counts()


async def test_it_is_mounted_into_a_host_app(rt: Runtime[Any], serve: Serve) -> None:
    host = FastAPI()
    host.mount("/queues", new_app(rt, readers=[READER], operators=[OPERATOR]))
    live = await serve(app=host, path="/queues")
    client = await live.client()
    assert (await client.get("/api/v1/me")).json()["role"] is None
    answer = await client.post("/login", json={"token": OPERATOR})
    assert "Path=/queues;" in answer.headers["Set-Cookie"]
    await rt.send("echo", {"value": 1}, id="a/b%2F")
    assert (await client.get("/api/v1/jobs/a%2Fb%252F")).json()["id"] == "a/b%2F"
    same_site = {"Origin": live.url.removesuffix("/queues")}
    assert (await client.post("/api/v1/queues/default/pause", json={}, headers=same_site)).status_code == 200
    assert (await client.post("/api/v1/queues/default/pause", json={}, headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await client.get("/api/v1/openapi.json")).json()["servers"] == [{"url": "/queues"}]
    assert (await client.get(live.url)).status_code == 307
    page = await client.get("/")
    assert page.status_code == 200
    assert 'src="/' not in page.text
    assert 'href="/' not in page.text
    assert (await client.post("/logout", json={}, headers=same_site)).status_code == 204
    assert not client.cookies


async def test_a_host_app_without_its_own_lifespan_has_its_alerts_looked_at(
    rt: Runtime[Any], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()
    rules = [BacklogAge(over_s=60)]

    async def look(seen: Runtime[Any], given: Any) -> None:
        assert (seen, list(given)) == (rt, rules)
        looked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(web_app.alerting, "evaluate_forever", look)
    host = FastAPI()
    app = new_app(rt, alerts=rules)
    host.mount("/queues", app)
    live = await serve(app=host, path="/queues")
    assert not looked.is_set()
    client = await live.client()
    assert (await client.get("/healthz")).status_code == 200
    await looked.wait()


async def test_alerts_are_shown_with_their_history(serve: Serve) -> None:
    live = await serve(readers=[READER], alerts=[BacklogAge(over_s=60)])
    told = await get(await live.client(READER), "alerts")
    assert [one["threshold"] for one in told["alerts"]] == [60]
    assert told["alerts"][0]["state"] in ("ok", "unknown")
    assert told["history"] == []


async def test_a_watch_that_breaks_begins_again_with_the_next_request(
    rt: Runtime[Any], serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[int] = []

    async def look(*_: Any) -> None:
        begun.append(1)
        message = "broken"
        raise RuntimeError(message)

    monkeypatch.setattr(web_app.alerting, "evaluate_forever", look)
    host = FastAPI()
    host.mount("/queues", new_app(rt, alerts=[BacklogAge(over_s=60)]))
    client = await (await serve(app=host, path="/queues")).client()
    for number in (1, 2):
        await client.get("/healthz")
        await until(lambda: len(begun) >= number, "it has begun")  # noqa: B023 - it is waited for at once
    assert "alerts are not looked at" in caplog.text


async def test_files_of_the_page_are_asked_for_again_each_time(reader: httpx.AsyncClient) -> None:
    answer = await reader.get("/static/api.js")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.headers["Content-Type"].startswith("text/javascript")
    again = await reader.get("/static/api.js", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2Fapp.py", "/static//etc/passwd"):
        assert (await reader.get(path)).status_code == 404, path


async def test_a_body_is_read_no_further_than_its_bound(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_call, "BODY_MAX_BYTES", 100_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 50_000

    async with httpx.AsyncClient(transport=httpx.ASGITransport(new_app(rt)), base_url="http://localhost") as client:
        answer = await client.post("/api/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, sent) == (413, 3)


def test_without_starlette_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "starlette":
            message = f"No module named {name!r}"
            raise ModuleNotFoundError(message, name=name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith(("angelrt.web.", "starlette"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'angelrt\[web\]'"):
        new_app(Runtime("redis://nobody.invalid"))


def test_the_mark_of_a_secret_loads_nothing() -> None:
    program = "import sys, angelrt.web, angelrt.redaction_marks; print({'starlette', 'uvicorn', 'redis'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout == "set()\n"
