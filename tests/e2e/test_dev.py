"""`python -m angelrt dev`: a private server, and a worker that starts again when a file changes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from angelrt import Runtime
from tests.e2e.processes import TARGET, Application, worker_id
from tests.worker.waiting import until_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESULT_S = 20
WORKER_UP = "angelrt worker "


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """An application that has no server but the one that `dev` starts."""
    application = Application(tmp_path, f"embedded://{tmp_path / '.angelrt'}", "development")
    yield application
    application.close()


async def test_the_worker_starts_again_when_a_file_changes_and_the_server_stays(app: Application) -> None:
    process = app.start("dev", TARGET, environment={"ANGELRT_URL": "", "PYTHONDONTWRITEBYTECODE": ""})
    await process.says(WORKER_UP)
    assert f"send to it with ANGELRT_URL={app.url}" in process.err
    module = app.folder / "jobs.py"
    async with Runtime(app.url, namespace="development") as rt:
        assert await (await rt.send("double", {"number": 4})).result(RESULT_S) == 8
        first = worker_id(process)
        before = await rt.send("double", {"number": 5}, delay=3600)
        # Of the same size and second as what has run: what Python compiled of that must not be taken for this.
        written = module.stat()
        module.write_text(module.read_text(encoding="utf-8").replace("2 * number", "3 * number"), encoding="utf-8")
        os.utime(module, ns=(written.st_atime_ns, written.st_mtime_ns))
        await process.says(WORKER_UP, times=2)
        assert await (await rt.send("double", {"number": 4})).result(RESULT_S) == 12
        assert first not in [worker.id for worker in await rt.workers()], "the first worker has left"
        assert await before.status() == "pending", "what was sent before is still there"
        working = module.read_text(encoding="utf-8")
        module.write_text("def broken(:\n", encoding="utf-8")
        await process.says("SyntaxError")
        module.write_text(working, encoding="utf-8")
        await process.says(WORKER_UP, times=3)
        assert await (await rt.send("double", {"number": 4})).result(RESULT_S) == 12
        second = max(await rt.workers(), key=lambda worker: worker.last_heartbeat)
    process.send_signal(signal.SIGINT)
    assert await process.ends() == 0
    await until_gone(second.pid)
