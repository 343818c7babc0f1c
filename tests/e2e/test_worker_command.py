"""`python -m angelrt worker`: what it says, what it is told, and how it ends."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import JobFailed, Status
from tests.e2e.processes import TARGET, Application, Process, worker_id
from tests.worker.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from angelrt import Job

RESULT_S = 20
FURTHER = """
from jobs import rt

@rt.actor(queue="reports")
async def report() -> None:
    pass
"""


async def test_the_banner_lists_queues_and_actors(one_app: Application) -> None:
    process = await one_app.worker()
    banner = process.err
    assert f"on {one_app.url}, namespace {one_app.namespace}, 100 jobs at a time" in banner
    assert (
        "queue default: double (async), breaks (async), nap (async), linger (async), twice (async), leave (async), "
        "block (async), hang (thread)"
    ) in banner
    assert "queue photos: parent (async)" in banner
    async with one_app.runtime() as rt:
        (shown,) = await rt.workers()
    assert (shown.id, shown.type, shown.pid, shown.queues) == (worker_id(process), "worker", process.pid, ["default", "photos"])


@pytest.mark.parametrize("by", ["flags", "environment"])
def test_every_flag_works_and_so_does_its_environment_variable(one_app: Application, by: str) -> None:
    (one_app.folder / "further.py").write_text(FURTHER, encoding="utf-8")
    settings = {
        "url": one_app.url,
        "queues": "photos, reports",
        "concurrency": "3",
        "import": "further",
        "grace": "7",
        "log-level": "info",
        "log-format": "json",
    }
    if by == "flags":
        flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
        process = one_app.run("worker", TARGET, *flags, "--burst", environment={"ANGELRT_URL": "redis://nobody.invalid"})
    else:
        variables = {f"ANGELRT_{name.upper().replace('-', '_')}": value for name, value in settings.items()}
        process = one_app.run("worker", TARGET, environment={**variables, "ANGELRT_BURST": "1"})
    assert process.code == 0
    messages = [json.loads(line)["message"] for line in process.err.splitlines()]
    banner = next(message for message in messages if "angelrt worker" in message)
    assert "3 jobs at a time" in banner
    assert "queue photos: parent (async)" in banner
    assert "queue reports: report (async)" in banner
    assert "queue default (not served here): double (async)" in banner
    assert "stopping: 0 jobs run; they have 7 s" in messages


def test_the_log_level_is_obeyed(one_app: Application) -> None:
    assert one_app.run("worker", TARGET, "--burst", "--log-level", "error").err == ""
    assert one_app.run("worker", TARGET, "--burst", environment={"ANGELRT_LOG_LEVEL": "error"}).err == ""


async def test_a_flag_goes_before_its_environment_variable(one_app: Application) -> None:
    process = await one_app.worker("--concurrency", "3", environment={"ANGELRT_CONCURRENCY": "5"})
    assert "3 jobs at a time" in process.err


async def test_burst_ends_when_everything_is_done_and_what_that_has_sent_too(app: Application) -> None:
    async with app.runtime() as rt:
        jobs = [await rt.send("parent", {"number": number}, queue="photos") for number in range(50)]
        later = await rt.send("double", {"number": 1}, delay=3600)
        assert app.run("worker", TARGET, "--burst").code == 0
        assert {await job.status() for job in jobs} == {Status.COMPLETED}
        assert (await rt.stats()).total.completed == 100
        assert await later.status() is Status.PENDING, "delayed jobs are not waited for"


async def naps(app: Application, rt: Any, seconds: float) -> Job[Any]:
    """Send a job and return when its actor runs."""
    job = await rt.send("nap", {"seconds": seconds})
    await until(lambda: bool(app.traces("began")), "the actor runs")
    return job  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_jobs_finish(app: Application, number: signal.Signals) -> None:
    process = await app.worker()
    async with app.runtime() as rt:
        job = await naps(app, rt, 0.5)
        process.send_signal(number)
        assert await process.ends() == 0
        assert await job.status() is Status.COMPLETED
        assert await rt.workers() == []
    assert "stopping: 1 jobs run; they have 25 s" in process.err
    assert "Traceback" not in process.err


async def test_a_second_signal_hurries(one_app: Application) -> None:
    process = await one_app.worker("--grace", "3600")
    async with one_app.runtime() as rt:
        job = await naps(one_app, rt, 3600)
        process.send_signal(signal.SIGTERM)
        await process.says("stopping: 1 jobs run; they have 3600 s")
        process.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
        info = await job.info()
        assert (info.status, info.attempts) == (Status.PENDING, 0)
    assert not one_app.traces("ended")


async def test_the_grace_ends_by_itself(one_app: Application) -> None:
    process = await one_app.worker("--grace", "0.1")
    async with one_app.runtime() as rt:
        job = await naps(one_app, rt, 3600)
        process.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
        assert (await job.info()).attempts == 0


async def test_a_thread_that_hangs_does_not_keep_the_process_alive(one_app: Application) -> None:
    process = await one_app.worker()
    async with one_app.runtime() as rt:
        job = await rt.send("hang")
        with pytest.raises(JobFailed):
            await job.result(RESULT_S)
        process.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
    assert "1 threads of actors still run and are left behind" in process.err


async def test_the_log_can_be_read_by_programs(one_app: Application) -> None:
    process = await one_app.worker("--json")
    async with one_app.runtime() as rt:
        job = await rt.send("breaks")
        with pytest.raises(JobFailed):
            await job.result(RESULT_S)
        process.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
    lines = [json.loads(line) for line in process.err.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert (failed["job_id"], failed["actor"], failed["attempt"]) == (job.id, "breaks", 1)
    assert "LookupError: no such customer" in failed["message"]


# -- wrong calls ---------------------------------------------------------------------------------------------------------------------


def run_alone(folder: Path, *arguments: str, **settings: str) -> Process:
    """Run a command without any server."""
    application = Application(folder, "", "nowhere")
    process = application.run(*arguments, environment={"ANGELRT_URL": "", **settings})
    application.close()
    return process


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["worker", "jobs"], "'jobs': name the runtime as MODULE:NAME, for example jobs:rt"),
        (["worker", "nobody:rt"], "there is no module 'nobody' on the path"),
        (["worker", "jobs:nobody"], "jobs has no Runtime called 'nobody'"),
        (["worker", TARGET], "no Redis address: pass Runtime(url=...) or set ANGELRT_URL"),
        (
            ["worker", TARGET, "--url", "http://example.invalid"],
            "the scheme is one of redis://, rediss://, unix://, redis+sentinel://, embedded://",
        ),
        (["worker", TARGET, "--import", "nobody"], "there is no module 'nobody' on the path"),
        (["worker", TARGET, "--log-level", "loud"], "--log-level is debug, info, warning or error, not 'loud'"),
        (["worker", TARGET, "--concurrency", "0"], "--concurrency"),
        (["worker", TARGET, "--speed", "9"], "--speed"),
        (["stats"], "no Redis address"),
        (["job", "x"], "no Redis address"),
        (["doctor"], "no Redis address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_call_ends_with_2_and_says_why(tmp_path: Path, arguments: list[str], words: str) -> None:
    process = run_alone(tmp_path, *arguments)
    assert process.code == 2
    assert words in process.err
    assert "Traceback" not in process.err
    assert process.out == ""


def test_without_an_address_both_choices_are_named(tmp_path: Path) -> None:
    err = run_alone(tmp_path, "worker", TARGET).err
    assert "redis://HOST:6379/0" in err
    assert "embedded://DIRECTORY" in err


def test_a_server_that_cannot_be_reached_ends_it_with_1(tmp_path: Path) -> None:
    process = run_alone(tmp_path, "worker", TARGET, ANGELRT_URL=f"unix://{tmp_path}/nobody")
    assert process.code == 1
    assert f"Redis at unix://{tmp_path}/nobody did not answer within 5 s" in process.err
    assert "Traceback" not in process.err


def test_an_error_of_the_application_itself_is_shown_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import angelrt\nimport no_such_dependency\n", encoding="utf-8")
    process = run_alone(tmp_path, "worker", "broken:rt")
    assert process.code == 1
    assert "No module named 'no_such_dependency'" in process.err
    assert "broken.py" in process.err
