"""The driver's side of the line protocol: one process of an adapter, asked in JSON, measured from /proc, killed as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .catalog import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from .install import Environment

START_S = 60
MIB = 1024 * 1024
ERROR = re.compile(r"[\w.]*(Error|Exception)\b.*:")


class PeerFailed(Exception):  # noqa: N818 - reads as what happened
    """A peer's process died, or did not answer in time, with its last words."""


class Process:
    """An adapter that runs. A context manager: leaving it kills the process and all that it has started."""

    def __init__(self, environment: Environment, arguments: list[str], folder: Path) -> None:
        """Start it; `folder` takes what it logs, and what its jobs leave there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        own = {"COMPARE_STAMPS": str(folder / "stamps"), "COMPARE_TRACES": str(folder.parent / "traces")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*environment.command, *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, start_new_session=True,
                env={**os.environ, **environment.variables, **own},
            )  # fmt: skip
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.about = self._answer(START_S)
        except PeerFailed:
            self.kill()
            raise

    def __enter__(self) -> Self:
        """Return itself: it is ready."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Kill it."""
        self.kill()

    @property
    def pid(self) -> int:
        """The id of the process, of its session, and of its group."""
        return self._process.pid

    def ask(self, do: str, timeout_s: float = 120, /, **arguments: Any) -> dict[str, Any]:
        """Send a command and return the answer. Raises PeerFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerFailed(self._last_words()) from error
        return self._answer(timeout_s)

    def wait(self, n: int, timeout_s: float) -> int:
        """Wait until a worker ran so many jobs. Raises PeerFailed when it did not in time."""
        done: int = self.ask("wait", timeout_s + 10, n=n, timeout_s=timeout_s)["done"]
        if done < n:
            message = f"ran {done:,} of {n:,} jobs in {timeout_s:g} s"
            raise PeerFailed(message)
        return done

    def kill(self) -> None:
        """End it as kill -9 does, and all that it has started; nothing happens a second time."""
        if self._process.returncode is not None:
            return
        for pid in self._descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def cpu_s(self) -> float:
        """Return the processor time of the process and of all that it has started."""
        ticks = 0
        for pid in self._session():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, stat_of(pid)[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Return the memory of the process and its children; pages that they share are counted once."""
        found = 0
        for pid in self._session():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
                found += sum(
                    int(line.split()[1]) for line in text.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:", "Pss_File:"))
                )
        return found * 1024 / MIB

    def _descendants(self) -> Iterator[int]:
        """Yield the process and its children, which is quick; then, while these may be dead already, orphans of its session."""
        yield from family(self.pid)
        yield from self._session()

    def _session(self) -> list[int]:
        """List the processes of the session that began with this one."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if int(stat_of(int(entry.name))[3]) == self.pid:
                        found.append(int(entry.name))
        return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # closed by kill
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(b"")

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the next line that is JSON: a peer may print words of its own."""
        while True:
            try:
                line = self._lines.get(timeout=timeout_s)
            except queue.Empty:
                message = f"no answer within {timeout_s:g} s; {self._last_words()}"
                raise PeerFailed(message) from None
            if not line:
                raise PeerFailed(self._last_words())
            if line.startswith(b"{"):
                answer: dict[str, Any] = json.loads(line)
                return answer

    def _last_words(self) -> str:
        words = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        errors = [line for line in words if ERROR.match(line)]
        return (errors or words)[-1][:300] if words else "it ended without a word"


def stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """Return a process with its children and theirs, the parents first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        children = []
    return [pid, *(each for child in children for each in family(int(child)))]
