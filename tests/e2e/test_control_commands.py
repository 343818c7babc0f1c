"""`explain`, `cancel`, `pause`, `resume`, `drain`, `limits` and `set-limit`: what people read, and the same for programs."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.processes import APPLICATION, MODULE, Application
from tests.worker.waiting import until, until_info

if TYPE_CHECKING:
    from pathlib import Path

LIMITED = """

from angelrt import Concurrency, RateLimit


@rt.actor(limits=[Concurrency(1, per="customer_id")])
async def call(customer_id: int, seconds: float = 0) -> int:
    trace("called")
    await asyncio.sleep(seconds)
    return customer_id


@rt.actor(limits=[RateLimit("500/day", per="account", burst=50)])
async def fetch(account: str) -> str:
    return account
"""
CALL, FETCH = "call.customer_id@default", "fetch.account/86400s@default"
RESULT_S = 20


@pytest.fixture
def limited(one_app: Application, tmp_path: Path) -> Application:
    """An application two of whose actors have limits."""
    (tmp_path / f"{MODULE}.py").write_text(APPLICATION + LIMITED, encoding="utf-8")
    return one_app


def said(app: Application, *arguments: str, code: int = 0) -> str:
    """Run a command to its end; return what it wrote for people."""
    process = app.run(*arguments)
    assert process.code == code, process.err
    assert "Traceback" not in process.err
    return process.out if code == 0 else process.out + process.err


def shown(app: Application, *arguments: str) -> Any:
    """Run a command with --json; return what it wrote, which is one line."""
    process = app.run(*arguments, "--json")
    assert (process.code, process.err) == (0, "")
    (line,) = process.out.splitlines()
    return json.loads(line)


# -- explain --------------------------------------------------------------------------------------------------------------------------


async def test_explain_tells_people_and_programs_why_a_job_waits(limited: Application) -> None:
    async with limited.runtime() as rt:
        job = await rt.send("double", {"number": 1}, delay=3_600)
        waits = await rt.send("double", {"number": 2})
    text = said(limited, "explain", job.id)
    assert f"Job {job.id} of actor double in queue default is pending:" in text
    assert "  - it is due at " in text
    assert "Expected to begin: " in text
    found = shown(limited, "explain", job.id)
    assert (found["id"], found["actor"], found["queue"], found["status"]) == (job.id, "double", "default", "pending")
    assert [reason["kind"] for reason in found["reasons"]] == ["due"]
    assert found["expectedAt"]
    assert "no live worker serves queue default" in said(limited, "explain", waits.id)


async def test_explain_names_the_holder_of_a_key(limited: Application) -> None:
    await limited.worker()
    async with limited.runtime() as rt:
        first = await rt.send("call", {"customer_id": 7, "seconds": 600})
        await until(lambda: bool(limited.traces("called")), "the first one runs")
        second = await rt.send("call", {"customer_id": 7})
        await until_info(second, lambda info: info.state == "lane", "the second one stands at the gate")
        assert f"limit {CALL} for 7: 1 at a time; held by {first.id}" in said(limited, "explain", second.id)
        assert "it runs on worker " in said(limited, "explain", first.id)
        assert said(limited, "cancel", first.id, "--by", "ann") == f"job {first.id} is cancelled, or told to stop if it runs\n"
        assert await second.result(RESULT_S) == 7
    assert "it was cancelled by ann at " in said(limited, "explain", first.id)
    assert "it completed at " in said(limited, "explain", second.id)


def test_explain_of_a_job_that_is_not_there_ends_with_1(one_app: Application) -> None:
    assert "no job 'nobody': it was never sent to this namespace" in said(one_app, "explain", "nobody", code=1)


# -- cancel ---------------------------------------------------------------------------------------------------------------------------


async def test_cancel_ends_a_job_that_waits_and_tells_of_one_that_has_ended(one_app: Application) -> None:
    async with one_app.runtime() as rt:
        job = await rt.send("double", {"number": 1})
        assert said(one_app, "cancel", job.id) == f"job {job.id} is cancelled, or told to stop if it runs\n"
        assert await job.status() == "cancelled"
        assert (await rt.explain(job.id)).text.startswith(f"it was cancelled by {getpass.getuser()}@")
    assert f"job {job.id} had ended before" in said(one_app, "cancel", job.id, code=1)
    assert "no job 'nobody'" in said(one_app, "cancel", "nobody", code=1)


# -- pause, resume, drain ---------------------------------------------------------------------------------------------------------------


async def test_pause_holds_a_queue_of_a_running_fleet_and_resume_lets_it_go(limited: Application) -> None:
    await limited.worker()
    assert said(limited, "pause", "--queue", "default", "--by", "ann", "--reason", "the provider is down") == "paused: default\n"
    async with limited.runtime() as rt:
        job = await rt.send("double", {"number": 4})
        text = said(limited, "explain", job.id)
        assert "queue default is paused since " in text
        assert " UTC by ann: the provider is down" in text
        assert "Expected to begin" not in text
        (pause,) = shown(limited, "limits")["pauses"]
        told = {name: pause[name] for name in ("kind", "name", "how", "by", "reason")}
        assert told == {"kind": "queue", "name": "default", "how": "paused", "by": "ann", "reason": "the provider is down"}
        assert "queue default is paused since " in said(limited, "limits")
        assert said(limited, "resume", "--queue", "default") == "resumed: default\n"
        assert await job.result(RESULT_S) == 8
    assert shown(limited, "limits")["pauses"] == []


async def test_key_is_paused_by_the_argument_that_a_limit_goes_by(limited: Application) -> None:
    await limited.worker()
    assert said(limited, "pause", "--key", "customer_id=7") == f"paused: {CALL}=7\n"
    async with limited.runtime() as rt:
        held, free = await rt.send("call", {"customer_id": 7}), await rt.send("call", {"customer_id": 8})
        assert await free.result(RESULT_S) == 8
        assert f"key {CALL}=7 is paused since " in said(limited, "explain", held.id)
        said(limited, "resume", "--key", f"{CALL}=7")
        assert await held.result(RESULT_S) == 7


async def test_drain_refuses_new_jobs_until_it_is_resumed(one_app: Application) -> None:
    assert said(one_app, "drain", "--actor", "double", "--reason", "a deploy") == "draining: double\n"
    assert "actor double is drained since " in said(one_app, "limits")
    async with one_app.runtime() as rt:
        with pytest.raises(Exception, match="actor double is drained and takes no new jobs"):
            await rt.send("double", {"number": 1})
        assert said(one_app, "resume", "--actor", "double") == "resumed: double\n"
        assert (await rt.send("double", {"number": 1})).created


@pytest.mark.parametrize(
    "arguments", [("pause",), ("resume", "--key", "a=1", "--actor", "double"), ("drain", "--queue", "q", "--actor", "a")]
)
def test_one_thing_is_named(one_app: Application, arguments: tuple[str, ...]) -> None:
    assert "name one of --queue, --actor and --key" in said(one_app, *arguments, code=2)


def test_resume_of_what_is_not_paused_says_so(one_app: Application) -> None:
    assert said(one_app, "resume", "--queue", "default") == "nothing of it was paused or drained\n"


def test_key_that_no_limit_goes_by_is_refused_in_words(one_app: Application) -> None:
    text = said(one_app, "pause", "--key", "nobody=7", code=2)
    assert "key 'nobody=7': write argument=value, for an argument that a limit goes by, or rule=value" in text


def test_name_that_cannot_be_is_refused_in_words(one_app: Application) -> None:
    assert "queue 'no spaces': use 1 to 64 letters" in said(one_app, "pause", "--queue", "no spaces", code=2)


# -- limits -----------------------------------------------------------------------------------------------------------------------------


async def test_limits_are_shown_changed_and_taken_back(limited: Application) -> None:
    assert "No worker has declared a limit." in said(limited, "limits")
    await limited.worker()
    text = said(limited, "limits")
    for words in (CALL, "1 at a time", FETCH, "500/day, 50 at once", "the same"):
        assert words in text
    assert said(limited, "set-limit", CALL, "3") == f"{CALL} is now 3\n"
    assert said(limited, "set-limit", FETCH, "700/day", "--burst", "70") == f"{FETCH} is now 700/day\n"
    assert shown(limited, "limits")["limits"] == [
        {"name": CALL, "limit": "3 at a time", "declared": "1 at a time"},
        {"name": FETCH, "limit": "700/day, 70 at once", "declared": "500/day, 50 at once"},
    ]
    assert said(limited, "set-limit", CALL, "declared") == f"{CALL} is now declared\n"
    assert shown(limited, "limits")["limits"][0] == {"name": CALL, "limit": "1 at a time", "declared": None}


async def test_raised_limit_lets_those_who_wait_begin(limited: Application) -> None:
    await limited.worker()
    async with limited.runtime() as rt:
        jobs = [await rt.send("call", {"customer_id": 7, "seconds": 600}) for _ in range(2)]
        await until(lambda: len(limited.traces("called")) == 1, "one runs")
        said(limited, "set-limit", CALL, "2")
        await until(lambda: len(limited.traces("called")) == 2, "both run")
        for job in jobs:
            said(limited, "cancel", job.id)
            await until_info(job, lambda info: info.status == "cancelled", "it has stopped")


async def test_limit_that_cannot_be_is_refused_in_words(limited: Application) -> None:
    await limited.worker()
    refused = {
        ("nobody@default", "3"): "no limit is named 'nobody@default': ",
        (CALL, "0"): "Concurrency(most) is a whole number from 1 to 1,000,000,000, not 0; to let nothing through, pause",
        (CALL, "3/day"): f"{CALL} limits how many run at a time: its limit is a number, not '3/day'",
        (FETCH, "a lot"): "RateLimit('a lot'): write a number and a window, as in '300/day', '10/second' or '5/30s'",
        (FETCH, "5/hour"): "another window is another limit",
        (FETCH, "5/day", "--burst", "6"): "a burst is at most the limit itself",
    }
    for arguments, words in refused.items():
        assert words in said(limited, "set-limit", *arguments, code=2)
    assert {rule["declared"] for rule in shown(limited, "limits")["limits"]} == {None}
