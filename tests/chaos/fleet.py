"""The processes of a run: each has a place with a way of its own to the server, and is started again in it whenever it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from tests.tidy.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.chaos.proxy import Way

STOP_S: Final = 40
BANNER: Final = "angelrt worker "
PAUSE_S: Final = 0.02


class Place:
    """A place for one process after another: `python` with arguments, behind a way to the server."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        ready: str,
        way: Way,
        folder: Path,
        settings: Mapping[str, str],
        note: Callable[..., None],
    ) -> None:
        """Keep what to start; it says `ready` in its log when it is, and `note` takes facts."""
        self._ready = ready
        self.name = name
        self.way = way
        self.is_done = False
        self._arguments = arguments
        self._folder = folder
        self._note = note
        self._process: asyncio.subprocess.Process | None = None
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANGELRT_")}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._environment = {**inherited, **settings, "PYTHONPATH": path, "ANGELRT_URL": f"redis://127.0.0.1:{way.port}/0"}

    @property
    def pid(self) -> int:
        """The process that is there now; 0 between two."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    @property
    def log(self) -> str:
        """What the process that is there now has written to its log."""
        path = self._folder / f"{self.pid}.err"
        return path.read_text(encoding="utf-8", errors="replace") if self.pid and path.exists() else ""

    @property
    def is_up(self) -> bool:
        """Whether the process has said that it is ready."""
        return self._ready in self.log

    def start(self) -> None:
        """Keep a process in this place until it ends by itself with success, or `end` is called."""
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while not self._is_ending:
            with (self._folder / f"{self.name}.err").open("wb") as err:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, *self._arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=err,
                    cwd=self._folder, env=self._environment,
                )  # fmt: skip
            pid = self._process.pid
            (self._folder / f"{self.name}.err").rename(self._folder / f"{pid}.err")
            self._note("started", place=self.name, pid=pid)
            code = await self._process.wait()
            self._note("left", place=self.name, pid=pid, code=code, asked=self._is_ending)
            if code == 0:
                break
        self.is_done = True

    async def up(self) -> int:
        """Return the process once it says that it is ready; 0 when it has done its work."""
        while not self.is_done and not self.is_up:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(PAUSE_S)
        return self.pid

    async def gone(self, pid: int) -> None:
        """Return when this process is not there any more."""
        while pid and self.pid == pid:  # noqa: ASYNC110 - what is waited for happens outside
            await asyncio.sleep(PAUSE_S)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process that is there now, if there is one."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self, patience_s: float) -> bool:
        """Return when the process has ended by itself; False when it has not in this time."""
        assert self._task is not None
        done, _ = await asyncio.wait([self._task], timeout=patience_s)
        return bool(done)

    async def end(self) -> None:
        """Ask the process to end, and kill it when it does not."""
        self._is_ending = True
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            self.send_signal(number)
            if number != signal.SIGCONT and await self.ended(STOP_S):
                return

    async def kill(self) -> None:
        """End the process at once, for good."""
        self._is_ending = True
        self.send_signal(signal.SIGKILL)
        if self._task is not None:
            await self.ended(STOP_S)


def worker_ids(folder: Path) -> dict[int, str]:
    """Return the id under which each process registered as a worker, from the banners."""
    found: dict[int, str] = {}
    for path in folder.glob("*.err"):
        _, banner, rest = path.read_text(encoding="utf-8", errors="replace").partition(BANNER)
        if banner:
            found[int(path.stem)] = rest.split()[0]
    return found


def now_ms() -> float:
    """Return the time in milliseconds since 1970."""
    return time.time() * 1000


def settings_of(folder: Path, lease_s: float) -> dict[str, str]:
    """Return what the application reads from its environment."""
    return {"CHAOS_FOLDER": str(folder), "CHAOS_LEASE_S": f"{lease_s:g}"}


def worker_arguments(concurrency: int) -> list[Any]:
    """Return the real command that starts a worker."""
    return ["-m", "angelrt", "worker", "tests.chaos.jobs:rt", "--queues", "default,shared", "--concurrency", str(concurrency)]
