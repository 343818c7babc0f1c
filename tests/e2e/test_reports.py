"""`stats`, `job` and `doctor`: what people read, and the same for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from angelrt.keys import Keys
from angelrt.store import Store
from tests.e2e.processes import TARGET, Application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHECKS = ["version", "eviction", "persistence", "permissions", "clock", "latency"]


async def run_some_jobs(app: Application) -> tuple[str, str]:
    """Run three jobs that complete and one that fails; return an id of each."""
    async with app.runtime() as rt:
        jobs = [await rt.send("double", {"number": number}) for number in range(3)]
        failing = await rt.send("breaks")
        assert app.run("worker", TARGET, "--burst").code == 0
    return jobs[0].id, failing.id


async def test_stats_shows_the_fleet_to_people_and_programs(app: Application) -> None:
    await run_some_jobs(app)
    text = app.run("stats")
    assert text.code == 0
    assert "3 completed, 1 failed (completion rate 75.00%)" in text.out
    assert "double" in text.out
    assert "No worker is running." in text.out
    program = app.run("stats", "--json")
    assert (program.code, program.err) == (0, "")
    (line,) = program.out.splitlines()
    figures = json.loads(line)
    assert (figures["total"]["completed"], figures["total"]["failed"], figures["completionRate"], figures["workers"]) == (3, 1, 0.75, [])
    assert 0 < figures["pickupP50Ms"] <= figures["pickupP99Ms"]


async def test_stats_of_an_empty_namespace(app: Application) -> None:
    assert "No job has been sent to this namespace yet." in app.run("stats").out
    assert app.run("stats", "--json").code == 0
    assert "No job has been sent" in app.run("stats", "--namespace", "another").out


async def test_stats_names_the_workers(app: Application) -> None:
    process = await app.worker()
    (worker,) = json.loads(app.run("stats", "--json").out)["workers"]
    assert (worker["type"], worker["pid"], worker["status"], worker["jobsProcessed"]) == ("worker", process.pid, "idle", 0)
    assert worker["id"] in app.run("stats").out


async def test_a_job_is_shown_to_people_and_programs(app: Application) -> None:
    completed, failed = await run_some_jobs(app)
    text = app.run("job", completed)
    assert text.code == 0
    for words in (completed, "double", "completed", "{'number': 0}"):
        assert words in text.out
    shown = json.loads(app.run("job", completed, "--json").out)
    assert (shown["id"], shown["type"], shown["payload"], shown["status"]) == (completed, "double", {"number": 0}, "completed")
    assert {"priority", "attempts", "createdAt", "processedAt", "completedAt", "error"} <= shown.keys()
    error = json.loads(app.run("job", failed, "--json").out)["error"]
    assert (error["type"], error["message"]) == ("LookupError", "no such customer")
    assert "LookupError: no such customer" in app.run("job", failed).out


def test_a_job_that_is_not_there_ends_it_with_1(app: Application) -> None:
    process = app.run("job", "nobody")
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
