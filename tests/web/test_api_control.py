"""Pauses, limits, schedules and the audit over HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from angelrt import Concurrency, RateLimit, Runtime
from angelrt.errors import RedisFull
from angelrt.web import audit, new_app
from angelrt.web.auth import Identity
from tests.web.conftest import HIDDEN, OPERATOR
from tests.web.test_api_jobs import get, post

if TYPE_CHECKING:
    import httpx

    from tests.web.conftest import Live, Serve


async def test_queues_and_actors_are_paused_drained_and_resumed(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    await rt.send("echo", queue="a/b")
    where = f"queues/{quote('a/b', safe='')}"
    assert await post(operator, f"{where}/pause", {"reason": "too fast"}) == {"changed": ["a/b"]}
    assert await post(operator, "actors/echo/drain") == {"changed": ["echo"]}
    [queue] = (await get(operator, "queues"))["queues"]
    assert (queue["queue"], queue["ready"], queue["isPaused"], queue["isDraining"]) == ("a/b", 1, True, False)
    actor = next(one for one in (await get(operator, "actors"))["actors"] if one["name"] == "echo")
    assert (actor["isPaused"], actor["isDraining"]) == (False, True)
    pauses = {one["kind"]: one for one in (await get(operator, "limits"))["pauses"]}
    assert (pauses["queue"]["reason"], pauses["queue"]["how"], pauses["actor"]["how"]) == ("too fast", "paused", "drained")
    assert pauses["queue"]["by"].startswith("token ")
    await post(operator, f"{where}/resume")
    await post(operator, "actors/echo/resume")
    assert await rt.control.pauses() == []
    assert await post(operator, "actors/echo/resume") == {"changed": []}
    assert await post(operator, "queues/ahead-of-a-deploy/pause") == {"changed": ["ahead-of-a-deploy"]}


async def test_keys_are_paused_and_resumed(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    changed = (await post(operator, "keys/pause", {"key": "customer_id=7"}))["changed"]
    assert changed == ["counts.customer_id/86400s@limited=7"]
    assert [pause.kind for pause in await working.control.pauses()] == ["key"]
    assert (await post(operator, "keys/resume", {"key": changed[0]}))["changed"] == changed
    assert (await post(operator, "keys/pause", {"key": "nonsense"}, 422))["error"]["type"] == "InvalidOptions"
    await post(operator, "keys/pause", {}, 422)


@pytest.mark.usefixtures("working")
async def test_a_limit_is_changed_and_taken_back(operator: httpx.AsyncClient) -> None:
    rules = (await get(operator, "limits"))["rules"]
    rule = next(one["name"] for one in rules if one["name"].startswith("counts"))
    changed = await operator.put("/api/v1/limits", json={"rule": rule, "limit": "600/day", "burst": 7})
    assert changed.status_code == 200
    shown = next(one for one in changed.json()["rules"] if one["name"] == rule)
    assert shown == {"name": rule, "limit": "600/day, 7 at once", "declared": "500/day"}
    assert (await operator.put("/api/v1/limits", json={"rule": rule, "limit": None})).status_code == 200
    for body in ({"rule": rule, "limit": "600/hour"}, {"rule": rule}, {"rule": "none", "limit": 1}, {"rule": rule, "limit": True}):
        assert (await operator.put("/api/v1/limits", json=body)).status_code == 422, body
    what = [one["what"] for one in (await get(operator, "audit"))["entries"] if one["action"] == "set limit"]
    assert f"{rule} to 600/day, 7 at once" in what
    assert f"{rule} to the declared one" in what


async def use_of(client: httpx.AsyncClient, rule: str) -> dict[str, Any]:
    """Return how much of a limit the API says is in use."""
    [found] = [one for one in (await get(client, "limits"))["usage"] if one["rule"] == rule]
    return dict(found)


async def test_what_is_in_use_of_a_limit_is_told_and_follows_a_change(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    rule, begun, end = "holds@limited", asyncio.Event(), asyncio.Event()

    @working.actor(name="holds", queue="limited", limits=[Concurrency(3)])
    async def holds() -> None:
        begun.set()
        await end.wait()

    async with working.worker(concurrency=1):
        idle = {"rule": rule, "most": 3, "gates": [], "inUse": 0, "hasMore": False}
        assert await use_of(operator, rule) == idle
        job = await holds.send()
        await begun.wait()
        one = {"value": "", "taken": 1, "valueHidden": False}
        assert await use_of(operator, rule) == idle | {"gates": [one], "inUse": 1}
        changed = await operator.put("/api/v1/limits", json={"rule": rule, "limit": 5})
        assert next(use["most"] for use in changed.json()["usage"] if use["rule"] == rule) == 5
        end.set()
        await job.result(10)
        assert await use_of(operator, rule) == idle | {"most": 5}


async def test_a_value_of_a_limit_is_told_while_a_job_has_it(working: Runtime[Any], reader: httpx.AsyncClient) -> None:
    rule, begun, end = "hands_over.customer_id/86400s@limited", asyncio.Event(), asyncio.Event()

    @working.actor(name="hands_over", queue="limited", limits=[RateLimit("4/day", per="customer_id", cost=2)])
    async def hands_over(customer_id: str) -> str:
        begun.set()
        await end.wait()
        return customer_id

    async with working.worker(concurrency=1):
        job = await hands_over.send("a=b c")
        await begun.wait()
        assert (await use_of(reader, rule))["gates"] == [{"value": "a=b c", "taken": 2, "valueHidden": False}]
        end.set()
        await job.result(10)
        assert (await use_of(reader, rule))["gates"] == [{"value": None, "taken": 2, "valueHidden": False}]


async def test_a_secret_value_of_a_limit_is_not_told(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    await (await working.send("guards", {"code": HIDDEN})).result(10)
    await working.send("guards", {"code": HIDDEN})  # waits there, and so tells the value
    assert (await use_of(operator, "guards.code/86400s@default"))["gates"] == [{"value": None, "taken": 1, "valueHidden": True}]
    assert [gate.value for one in await working.control.usage() for gate in one.gates] == [HIDDEN]


async def test_a_value_is_not_told_where_nobody_knows_whether_it_is_secret(
    working: Runtime[Any], serve: Serve, server_url: str, namespace: str
) -> None:
    await (await working.send("counts", {"customer_id": 7})).result(10)
    stranger: Runtime[Any] = Runtime(server_url, namespace=namespace)
    async with stranger:
        operator = await (await serve(app=new_app(stranger, operators=[OPERATOR]))).client(OPERATOR)
        use = await use_of(operator, "counts.customer_id/86400s@limited")
    assert use["gates"] == [{"value": None, "taken": 1, "valueHidden": True}]


async def test_schedules_are_shown_paused_resumed_and_removed(rt: Runtime[Any], operator: httpx.AsyncClient) -> None:
    message = rt.registered["fails"].message(password=HIDDEN, note="nightly")
    await rt.schedules.add("reports/daily", message, cron="0 4 * * *")
    where = f"schedules/{quote('reports/daily', safe='')}"
    [shown] = (await get(operator, "schedules"))["schedules"]
    assert (shown["name"], shown["cron"], shown["payload"], shown["payloadHidden"]) == ("reports/daily", "0 4 * * *", None, True)
    [shown] = (await get(operator, "schedules", reveal="true"))["schedules"]
    assert shown["payload"] == {"password": "[redacted]", "note": "nightly"}
    assert (await post(operator, f"{where}/pause"))["pausedBy"].startswith("token ")
    assert (await post(operator, f"{where}/resume"))["pausedBy"] is None
    assert (await operator.delete(f"/api/v1/{where}")).json() == {"done": True}
    gone = await operator.delete(f"/api/v1/{where}")
    assert (gone.status_code, gone.json()["error"]["type"]) == (404, "ScheduleNotFound")


async def test_the_audit_tells_who_did_what_and_holds_no_arguments(rt: Runtime[Any], live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "angelrt.audit")
    operator = await live.client(OPERATOR)
    job = await post(operator, "jobs", {"actor": "fails", "arguments": {"password": HIDDEN}}, 201)
    await post(operator, f"jobs/{job['id']}/cancel")
    await post(operator, "queues/default/pause", {"reason": "x"})
    entries = (await get(operator, "audit"))["entries"]
    assert [(one["action"], one["what"]) for one in entries] == [
        ("pause", "queue default"),
        ("cancel", f"job {job['id']}"),
        ("send", "fails"),
    ]
    assert len((await get(operator, "audit", limit=1))["entries"]) == 1
    assert {record.name for record in caplog.records if "token" in record.message} == {"angelrt.audit"}
    stored = await rt.client().store.command("XRANGE", rt.keys.key("audit"), "-", "+")
    assert HIDDEN.encode() not in b"".join(part for _, fields in stored for part in fields)
    assert HIDDEN not in caplog.text


async def test_a_reader_leaves_nothing_in_the_audit(rt: Runtime[Any], live: Live, reader: httpx.AsyncClient) -> None:
    assert (await reader.post("/api/v1/queues/default/pause", json={})).status_code == 403
    assert (await (await live.client()).post("/api/v1/queues/default/pause", json={})).status_code == 401
    assert await audit.entries(rt, 10) == []
    assert await rt.control.pauses() == []


async def test_the_audit_does_not_grow_for_ever(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ENTRIES_MAX", 100)
    who = Identity("operator", "token 1", is_ambient=False)
    await asyncio.gather(*(audit.note(rt, who, "pause", f"queue {n}") for n in range(300)))
    assert await rt.client().store.command("XLEN", rt.keys.key("audit")) < 250


async def test_what_frees_memory_does_not_wait_for_the_audit(
    rt: Runtime[Any], operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = rt.client().store
    command = store.command

    async def full(*words: Any) -> Any:
        if words[0] == "XADD":
            message = "Redis is at maxmemory"
            raise RedisFull(message)
        return await command(*words)

    monkeypatch.setattr(store, "command", full)
    assert await post(operator, "failed/purge", {"everything": True}) == {"purged": 0}
    assert "in the log alone" in caplog.text
