"""`dashboard`: where it listens, whom it lets in, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from angelrt import ConfigError, Runtime
from angelrt.cli_web import serve as serve_until_stopped
from tests.web.conftest import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOP_S = 20
APP = """
from angelrt import Runtime

rt = Runtime()

@rt.actor()
async def echo(value: int) -> int:
    return value
"""


@pytest.fixture
def environment(server_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    """What a process of its own needs to find the server, and a runtime in its folder."""
    (tmp_path / "jobs.py").write_text(APP, encoding="utf-8")
    return {**os.environ, "ANGELRT_URL": server_url, "ANGELRT_NAMESPACE": namespace}


@pytest.fixture
def started(tmp_path: Path, environment: dict[str, str]) -> Iterator[Any]:
    """Start the command; it is killed at the end of the test, should it still run."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "angelrt", "dashboard", "jobs:rt", "--port", "0", *words]
        where: dict[str, Any] = {"cwd": tmp_path, "env": environment | more}
        process = subprocess.Popen(command, **where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def address(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the address that the command prints, and for whom it is."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    url, _, who = line.strip().partition(" ")
    return url, who


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_this_machine_and_stops_in_order(started: Any, number: signal.Signals) -> None:
    process = started("--log-level", "warning")
    url, who = address(process)
    assert who == "for this machine alone, without a login"
    assert url.startswith("http://127.0.0.1:")
    with httpx.Client(base_url=url, trust_env=False, timeout=STOP_S) as client:
        assert client.get("api/v1/me").json() == {"role": "operator", "authRequired": False, "canLogIn": False, "title": "Queues"}
        assert client.post("api/v1/jobs", json={"actor": "echo", "arguments": {"value": 1}}).status_code == 201
        later = {"actor": "echo", "arguments": {"value": 1}, "options": {"id": "later", "delay": 60}}
        assert client.post("api/v1/jobs", json=later).status_code == 201
        waiting = Thread(target=client.get, args=("api/v1/jobs/later/result?wait=30",))
        waiting.start()
        with client.stream("GET", "api/v1/events") as events:
            assert next(events.iter_lines()) == "retry: 2000"
            process.send_signal(number)
            assert process.wait(STOP_S) == 0, "neither an open stream nor a call that waits keeps it"
        waiting.join()
    assert process.communicate()[1] == ""


def test_it_has_roles_by_the_tokens_of_its_environment(started: Any) -> None:
    process = started("--title", "Photographs", ANGELRT_OPERATOR_TOKEN=OPERATOR)
    url, who = address(process)
    assert who == "for those with a token"
    with httpx.Client(base_url=url, trust_env=False, timeout=STOP_S) as client:
        assert client.get("api/v1/overview").status_code == 401
        answer = client.get("api/v1/me", headers={"Authorization": f"Bearer {OPERATOR}"})
    assert answer.json() == {"role": "operator", "authRequired": True, "canLogIn": True, "title": "Photographs"}


def test_its_log_tells_when_and_what_was_asked_for_by_hand(started: Any) -> None:
    process = started(ANGELRT_LOG_FORMAT="json")
    url, _ = address(process)
    with httpx.Client(base_url=url, trust_env=False, timeout=STOP_S) as client:
        assert client.post("api/v1/queues/default/pause", json={}).status_code == 200
    process.terminate()
    lines = [json.loads(line) for line in process.communicate(timeout=STOP_S)[1].splitlines()]
    [told] = [line for line in lines if line["logger"] == "angelrt.audit"]
    assert (told["level"], told["message"]) == ("INFO", "this machine (operator): pause 'queue default'")
    assert told["time"].startswith("20")


def test_a_log_level_that_is_none_is_refused(started: Any) -> None:
    process = started("--log-level", "loud")
    assert "--log-level is debug, info, warning or error, not 'loud'" in process.communicate(timeout=STOP_S)[1]
    assert process.returncode == 2


def refusal(host: str, port: int = 0) -> str:
    """Return why it does not serve at a place without a token."""
    rt: Runtime[Any] = Runtime("redis://nobody.invalid")
    with pytest.raises(ConfigError) as refused:
        serve_until_stopped(rt, host, port, reader_token=None, operator_token="", hosts=[], title="Queues")
    return str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "queues.example.org"])  # noqa: S104
def test_it_lets_no_other_machine_in_without_a_token(host: str) -> None:
    assert "ANGELRT_OPERATOR_TOKEN" in refusal(host)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port} cannot be listened on" in refusal("127.0.0.1", port)
