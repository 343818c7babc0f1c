"""The rows of docs/failures.md that no other test shows: a server that refuses, and an actor that blocks for longer than its timeout."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from angelrt import RedisRefused, Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

PASSWORD = "open-sesame"  # noqa: S105 - of a server that lives for one test
DEADLINE_S = 20
PAUSE_S = 0.02


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        await asyncio.sleep(PAUSE_S)


def with_user(server: Server, *rules: str) -> str:
    """Give the server a user and return the address with it."""
    with Redis.from_url(server.url) as redis:
        redis.execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all", *rules)
    return server.url.replace("unix://", f"unix://app:{PASSWORD}@")


async def test_a_wrong_password_is_refused_at_once_and_not_shown(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    url = with_user(own_server).replace(PASSWORD, "guessed")
    with pytest.raises(RedisRefused, match="user, password") as caught:
        async with Runtime(url):
            pass
    assert "guessed" not in str(caught.value)
    assert "trying again" not in caplog.text


async def test_a_permission_that_is_missing_is_an_error_of_the_call(own_server: Server) -> None:
    async with Runtime(with_user(own_server, "-evalsha", "-eval")) as rt:
        with pytest.raises(RedisRefused, match="does not permit"):
            await rt.send("anybody", {})


async def test_a_worker_whose_permission_is_taken_goes_on_when_it_is_given_back(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    rt = Runtime(with_user(own_server))

    @rt.actor()
    async def double(number: int) -> int:
        return 2 * number

    async def says_so() -> bool:
        return "claims are refused; trying again" in caplog.text

    async with rt, rt.worker(), Runtime(own_server.url) as owner:
        with_user(own_server, "-evalsha", "-eval")
        job = await owner.send("double", {"number": 21})
        await until(says_so, "the worker says that it is refused")
        with_user(own_server)
        assert await job.result(DEADLINE_S) == 42


BLOCKING = """\
import time
from pathlib import Path

from angelrt import Runtime

rt = Runtime(lease=1)


@rt.actor(timeout=0.5)
async def block() -> int:
    while rt.context.attempt == 1 and not Path("release").exists():
        time.sleep(0.05)
    return rt.context.attempt
"""


class Workers:
    """Worker processes of the module `blocking` in one folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """Write the module."""
        self.folder = folder
        self._environment = environment
        self._processes: list[subprocess.Popen[bytes]] = []
        (folder / "blocking.py").write_text(BLOCKING, encoding="utf-8")

    def start(self) -> None:
        """Start one more."""
        command = [sys.executable, "-m", "angelrt", "worker", "blocking:rt"]
        with (self.folder / "worker.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=log, stderr=log))

    def stop(self) -> list[int]:
        """Ask all to stop and return their exit codes."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(DEADLINE_S) for process in self._processes]

    def remove(self) -> None:
        """Kill what is left."""
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def workers(server_url: str, namespace: str, tmp_path: Path) -> Iterator[Workers]:
    """Worker processes on the shared server, in the namespace of the test."""
    started = Workers(tmp_path, {**os.environ, "ANGELRT_URL": server_url, "ANGELRT_NAMESPACE": namespace})
    yield started
    started.remove()


async def test_a_job_that_blocks_its_loop_for_longer_than_its_timeout_is_taken_by_another_worker(
    workers: Workers, server_url: str, namespace: str
) -> None:
    async with Runtime(server_url, namespace=namespace) as rt:
        job = await rt.send("block")

        async def is_leased() -> bool:
            return (await job.info()).state == "leased"

        workers.start()
        await until(is_leased, "the first worker runs the job")
        workers.start()
        assert await job.result(DEADLINE_S) == 2
        (workers.folder / "release").touch()
        assert await asyncio.to_thread(workers.stop) == [0, 0]
        info = await job.info()
        assert (info.status, info.attempts, [run.ended_as for run in info.timeline]) == ("completed", 2, ["lost"])
