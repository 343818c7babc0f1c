"""`stats`, `job` and `doctor`: what people read, and the same for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from angelrt.keys import Keys
from angelrt.store import Store
from tests.e2e.processes import TARGET, Application, worker_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHECKS = ["version", "eviction", "persistence", "replication", "permissions", "clock", "latency"]


async def test_stats_and_jobs_are_shown_to_people_and_programs(one_app: Application) -> None:
    async with one_app.runtime() as rt:
        jobs = [await rt.send("double", {"number": number}) for number in range(3)]
        failing = await rt.send("breaks")
    assert one_app.run("worker", TARGET, "--burst").code == 0
    text = one_app.run("stats")
    assert text.code == 0
    for words in ("3 completed, 1 failed (completion rate 75.00%)", "double", "No worker is running."):
        assert words in text.out
    program = one_app.run("stats", "--json")
    assert (program.code, program.err) == (0, "")
    (line,) = program.out.splitlines()
    figures = json.loads(line)
    assert (figures["total"]["completed"], figures["total"]["failed"], figures["completionRate"], figures["workers"]) == (3, 1, 0.75, [])
    assert 0 < figures["pickupP50Ms"] <= figures["pickupP99Ms"]

    shown = json.loads(one_app.run("job", jobs[0].id, "--json").out)
    assert (shown["id"], shown["type"], shown["payload"], shown["status"]) == (jobs[0].id, "double", {"number": 0}, "completed")
    assert {"priority", "attempts", "createdAt", "processedAt", "completedAt", "error"} <= shown.keys()
    text = one_app.run("job", failing.id)
    assert text.code == 0
    for words in (failing.id, "breaks", "failed", "LookupError: no such customer"):
        assert words in text.out


def test_stats_of_an_empty_namespace(one_app: Application) -> None:
    text = one_app.run("stats", "--namespace", "another")
    assert text.code == 0
    assert "No job has been sent to this namespace yet." in text.out


async def test_stats_names_the_workers(one_app: Application) -> None:
    process = await one_app.worker()
    (worker,) = json.loads(one_app.run("stats", "--json").out)["workers"]
    assert (worker["type"], worker["pid"], worker["status"], worker["jobsProcessed"]) == ("worker", process.pid, "idle", 0)
    assert worker["id"] == worker_id(process)
    assert worker["id"] in one_app.run("stats").out


def test_a_job_that_is_not_there_ends_it_with_1(one_app: Application) -> None:
    process = one_app.run("job", "nobody")
    assert process.code == 1
    assert "no job 'nobody': it was never sent to this namespace, or its retention has passed" in process.err
    assert "Traceback" not in process.err


# -- doctor --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(own_app: Application) -> AsyncIterator[Store]:
    """A connection to the application's own server, to change its settings."""
    store = Store(own_app.url, Keys(own_app.namespace))
    yield store
    await store.close()


def findings(app: Application, code: int) -> dict[str, Any]:
    """Run `doctor --json` and return its findings by name."""
    process = app.run("doctor", "--json")
    assert process.code == code, process.err
    found = json.loads(process.out)
    assert [finding["check"] for finding in found] == CHECKS
    return {finding["check"]: finding for finding in found}


def test_a_good_server_has_nothing_to_remedy(own_app: Application) -> None:
    found = findings(own_app, 0)
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert {finding["remedy"] for finding in found.values()} == {""}
    text = own_app.run("doctor")
    assert text.code == 0
    assert all(name in text.out for name in CHECKS)
    assert "remedy" not in text.out


async def test_a_server_that_would_lose_jobs_ends_it_with_1(own_app: Application, server: Store) -> None:
    await server.command("CONFIG", "SET", "appendonly", "no")
    found = findings(own_app, 1)
    assert (found["persistence"]["level"], found["persistence"]["found"]) == ("error", "no append-only file")
    assert "CONFIG SET appendonly yes" in found["persistence"]["remedy"]
    text = own_app.run("doctor")
    assert text.code == 1
    assert "remedy: CONFIG SET appendonly yes" in text.out


async def test_a_server_that_would_delete_jobs_is_named(own_app: Application, server: Store) -> None:
    await server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert findings(own_app, 0)["eviction"]["level"] == "warning"
    await server.command("CONFIG", "SET", "maxmemory", "1gb")
    eviction = findings(own_app, 1)["eviction"]
    assert (eviction["level"], eviction["remedy"]) == ("error", "CONFIG SET maxmemory-policy noeviction")


async def test_a_user_without_permissions_is_told_which_are_missing(own_app: Application, server: Store) -> None:
    allowed = f"~{{{own_app.namespace}}}:*"
    await server.command("ACL", "SETUSER", "narrow", "on", ">secret", allowed, "&*", "+@all", "-@admin", "-evalsha", "-eval")
    own_app.url = own_app.url.replace("unix://", "unix://narrow:secret@")
    process = own_app.run("doctor")
    assert process.code == 1
    assert "Traceback" not in process.err
    assert "secret" not in process.err + process.out
