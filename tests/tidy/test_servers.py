"""The servers under the tests are what the tests take them for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.servers import Program, Server
from tests.tidy.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_shared_server_listens_on_a_socket_file_alone(server_url: str) -> None:
    with Redis.from_url(server_url) as redis:
        assert redis.ping()
        assert redis.config_get("port") == {b"port": b"0"} or redis.config_get("port") == {"port": "0"}
    assert urlsplit(server_url).scheme == "unix"


async def test_tests_run_on_uvloop() -> None:
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")


def test_killed_server_comes_back_with_what_it_acknowledged(own_server: Server) -> None:
    with Redis.from_url(own_server.url) as redis:
        redis.set("kept", "1")
    first = own_server.pid
    own_server.kill()
    assert not own_server.answers()
    own_server.start()
    assert own_server.pid != first
    with Redis.from_url(own_server.url) as redis:
        assert redis.get("kept") in (b"1", "1")


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    program = Program("valkey", "none", tmp_path / "server", "0.0.0")
    program.path.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.path.chmod(0o755)
    server = Server(program)
    with pytest.raises(RuntimeError, match="did not answer"):
        server.start()
    server.remove()


def test_async_test_that_waits_for_ever_is_ended(tmp_path: Path) -> None:
    hanging = tmp_path / "test_hanging.py"
    hanging.write_text("import asyncio\nasync def test_hangs():\n    await asyncio.Event().wait()\n", encoding="utf-8")
    hooks = "from tests.conftest import anyio_backend, pytest_pyfunc_call, pytest_timeout_set_timer\n"
    (tmp_path / "conftest.py").write_text(hooks, encoding="utf-8")
    options = ("-c", "pyproject.toml", "--rootdir", ".", "-p", "no:cacheprovider", "--timeout", "1")
    run = subprocess.run([sys.executable, "-m", "pytest", *options, hanging], cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "1 failed" in run.stdout
    assert "TimeoutError" in run.stdout
