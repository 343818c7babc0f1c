"""Commands as people start them: processes of their own, with an application that lies in the test's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from angelrt import Runtime
from tests.worker.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

END_S: Final = 20
MODULE: Final = "jobs"
TARGET: Final = f"{MODULE}:rt"
APPLICATION: Final = '''
import asyncio
import os
import threading
import time
from pathlib import Path

from angelrt import RetryPolicy, Runtime

rt = Runtime(namespace=os.environ["ANGELRT_NAMESPACE"], lease=float(os.environ.get("TEST_LEASE_S", "15")))
TRACES = Path(__file__).parent / "traces"


def trace(word: str = "run") -> None:
    """Leave a line: one write, so that lines of several processes do not mix."""
    with TRACES.open("a") as file:
        file.write(f"{word} {rt.context.job.id} {os.getpid()}\\n")


@rt.actor()
async def double(number: int) -> int:
    return 2 * number


@rt.actor(retry=RetryPolicy(attempts=1))
async def breaks() -> None:
    raise LookupError("no such customer")


@rt.actor(queue="photos")
async def parent(number: int) -> int:
    rt.context.send(double.message(number))
    return number


@rt.actor()
async def nap(seconds: float) -> str:
    trace("began")
    await asyncio.sleep(seconds)
    trace("ended")
    return "rested"


@rt.actor()
async def linger() -> int:
    trace("began")
    try:
        while not any((TRACES.parent / name).exists() for name in ("go", f"go {os.getpid()}")):
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        trace(rt.context.why_cancelled)
        raise
    return os.getpid()


@rt.actor(retry=RetryPolicy(attempts=2, base=0))
async def twice(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@rt.actor(retry=RetryPolicy(attempts=2, base=0))
async def leave() -> None:
    trace()
    os._exit(7)


@rt.actor()
async def block(seconds: float) -> str:
    trace()
    time.sleep(seconds)
    return "done"


@rt.thread_actor(timeout=0.2, retry=RetryPolicy(attempts=1))
def hang() -> None:
    threading.Event().wait()
'''


class Application:
    """An application in a folder, on a server, in a namespace; and the processes that run it."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        """Write the module; starts nothing."""
        self.folder = folder
        self.url = url
        self.namespace = namespace
        self.processes: list[Process] = []
        (folder / f"{MODULE}.py").write_text(APPLICATION, encoding="utf-8")

    def runtime(self) -> Runtime[Any]:
        """Return the test's own runtime, which knows no actor: it sends by name."""
        return Runtime(self.url, namespace=self.namespace)

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a command on the application's server."""
        settings = {"ANGELRT_URL": self.url, "ANGELRT_NAMESPACE": self.namespace, **(environment or {})}
        process = Process(arguments, self.folder, settings, len(self.processes))
        self.processes.append(process)
        return process

    async def worker(self, *flags: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a worker and return when it shows its banner."""
        process = self.start("worker", TARGET, *flags, environment=environment)
        await process.says("angelrt worker")
        return process

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Run a command to its end."""
        process = self.start(*arguments, environment=environment)
        process.wait()
        return process

    def traces(self, word: str = "run") -> list[tuple[str, int]]:
        """Return who ran what: the job's id and the process of each run that left this word."""
        path = self.folder / "traces"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(job_id, int(pid)) for kind, job_id, pid in map(str.split, lines) if kind == word]

    def let_go(self, process: Process | None = None) -> None:
        """Let the runs of `linger` end: all, or those in one process."""
        (self.folder / ("go" if process is None else f"go {process.pid}")).touch()

    def close(self) -> None:
        """End what still runs and show what the processes wrote, for the report of a failed test."""
        for process in self.processes:
            process.close()


class Process:
    """`python -m angelrt ...` with its output in files."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, settings: Mapping[str, str], number: int) -> None:
        """Start it; settings of the caller's own environment do not reach it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANGELRT_")}
        self.arguments = arguments
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "angelrt", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**environment, "COLUMNS": "200", **settings},
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has written to standard error, its log among it."""
        return self._err.read_text(encoding="utf-8")

    async def says(self, words: str, times: int = 1) -> None:
        """Return when the words stand in its log so often."""
        await until(lambda: self.err.count(words) >= times or self.code is not None, f"{self.arguments} says {words!r}\n{self.err}")
        assert self.err.count(words) >= times, f"{self.arguments} ended with {self.code} and without {words!r}:\n{self.err}"

    async def ends(self) -> int:
        """Return the exit code when it has ended."""
        await until(lambda: self.code is not None, f"{self.arguments} ends")
        assert self.code is not None
        return self.code

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return self._process.wait(END_S)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Kill it where it still runs; show what it wrote."""
        if self.code is None:
            self._process.kill()
            self._process.wait(END_S)
        print(f"\n--- {self.arguments}: exit code {self.code}\n{self.err}{self.out}")  # noqa: T201 - pytest shows it when the test fails


def worker_id(process: Process) -> str:
    """Return the id under which a worker registers, from its banner."""
    return process.err.partition("angelrt worker ")[2].split()[0]
