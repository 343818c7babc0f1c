"""Two servers, one of them a replica, and three sentinels that watch them: on TCP ports of this machine, since sentinels know no other."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from redis import Redis
from redis.exceptions import RedisError

from tests.servers import WITH_AOF, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Program

SERVICE = "house"
WAIT_S = 30
DOWN_AFTER_MS = 500


def free_port() -> int:
    """Return a port on which nothing listens at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def server_on(program: Program, port: int, *options: str) -> Server:
    """Return a server that listens on a port, too, and keeps what it acknowledged; it is not started."""
    return Server(program, *WITH_AOF, "--bind", "127.0.0.1", "--port", str(port), "--repl-diskless-sync-delay", "0", *options)


class Pair:
    """A primary and its replica."""

    def __init__(self, program: Program) -> None:
        """Prepare; nothing runs yet."""
        self.program = program
        self.ports = free_port(), free_port()
        self.servers = server_on(program, self.ports[0]), server_on(program, self.ports[1], "--replicaof", "127.0.0.1", str(self.ports[0]))
        self.url = f"redis://127.0.0.1:{self.ports[0]}"

    def start(self) -> Self:
        """Start both, and wait until the replica is in step."""
        for server in self.servers:
            server.start()
        until(lambda: self.about(1).get("master_link_status") == "up", "the replica is in step")
        return self

    def about(self, number: int) -> dict[str, Any]:
        """Return what a server says of its replication."""
        with Redis(port=self.ports[number], socket_timeout=5) as redis:
            return dict(redis.info("replication"))

    def stand_still(self, number: int) -> None:
        """Freeze a server, as a paused machine does; `go_on` lets both go on."""
        os.kill(self.servers[number].pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let what stands still go on."""
        for server in self.servers:
            if server.runs:
                os.kill(server.pid, signal.SIGCONT)

    def command(self, number: int, *words: str) -> None:
        """Run a command on one of the servers."""
        with Redis(port=self.ports[number], socket_timeout=5) as redis:
            redis.execute_command(*words)

    def remove(self) -> None:
        """Stop and remove both."""
        self.go_on()
        for server in self.servers:
            server.remove()


class Watched(Pair):
    """A primary, a replica and three sentinels; `url` is what an application is given."""

    def __init__(self, program: Program) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(program)
        self._folder = Path(tempfile.mkdtemp(prefix="angelrt-sentinels-"))
        self.sentinels = [free_port() for _ in range(3)]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{SERVICE}"

    def start(self) -> Self:
        """Start all, and wait until every sentinel knows the others and the replica."""
        super().start()
        self.processes = [self._sentinel(port) for port in self.sentinels]
        for port in self.sentinels:
            until(lambda port=port: self._knows(port), "the sentinels know each other and the replica")
        return self

    def primary(self) -> int:
        """Return the port of the primary, as the first sentinel that answers has it."""
        for port in self.sentinels:
            try:
                with Redis(port=port, socket_timeout=5) as redis:
                    return int(redis.sentinel_get_master_addr_by_name(SERVICE)[1])
            except RedisError:
                continue
        message = "no sentinel answers"
        raise RuntimeError(message)

    def ask_for_failover(self) -> None:
        """Ask a sentinel to make the replica the primary; it leads the failover, and the others hear of it a second later."""
        with Redis(port=self.sentinels[0], socket_timeout=5) as redis:
            redis.sentinel_failover(SERVICE)

    def fail_over(self) -> None:
        """Make the replica the primary; the old one goes on as a replica. Returns when that is so."""
        self.ask_for_failover()
        until(lambda: (self.about(1)["role"], self.about(0)["role"]) == ("master", "slave"), "the roles are changed")

    def until_failed_over(self) -> None:
        """Return when the sentinels have made the replica the primary."""
        until(lambda: self.primary() == self.ports[1], "the replica is the primary")

    def restart_sentinel(self, number: int) -> None:
        """Kill a sentinel, and start it again on its port; it knows nothing of the others then."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._sentinel(self.sentinels[number])

    def remove(self) -> None:
        """Stop and remove everything."""
        for process in self.processes:
            process.kill()
            process.wait()
        super().remove()
        shutil.rmtree(self._folder)

    def _sentinel(self, port: int) -> subprocess.Popen[bytes]:
        settings = (
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\nlogfile {self._folder}/{port}.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.ports[0]} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        path = self._folder / f"{port}.conf"
        path.write_text(settings, encoding="utf-8")
        return subprocess.Popen([self.program.path, path, "--sentinel"], start_new_session=True, stdout=subprocess.DEVNULL)

    def _knows(self, port: int) -> bool:
        try:
            with Redis(port=port, socket_timeout=5) as redis:
                state = redis.sentinel_master(SERVICE)
        except (RedisError, KeyError):
            return False
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


def clients(port: int, command: str = "") -> int:
    """Return how many connections of applications a server or a sentinel has; with a command, how many that sent it last."""
    with Redis(port=port, socket_timeout=5) as redis:
        try:
            others = [one for one in redis.client_list() if int(one["id"]) != redis.client_id()]
        except RedisError:
            return 0
    ours = [one for one in others if not one["name"].startswith("sentinel-") and not {"M", "S"} & set(one["flags"])]
    return len([one for one in ours if command in one["cmd"]])


def until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)
