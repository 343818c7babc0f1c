"""Two versions of the package drain the same queue in turns on one server: what a change costs, as a ratio within one run.

`python -m bench.paired OTHER/src [ROUNDS]` compares the working tree with the sources of another checkout of this repository.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tests import servers
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

JOBS = 20_000
ROUNDS = 7
FILL = "import sys, uvloop; from bench.paired import fill; uvloop.run(fill(*sys.argv[1:]))"


async def fill(url: str, namespace: str) -> None:
    """Send the jobs with the version that this process has."""
    from angelrt import Runtime  # noqa: PLC0415 - the parent process loads none
    from bench.actors import noop, rt  # noqa: PLC0415 - as above

    runtime = Runtime(url, namespace=namespace)
    runtime.include(rt)
    async with runtime:
        await runtime.client().store.command("FLUSHALL")
        await runtime.send_many(noop.message("x" * 100) for _ in range(JOBS))


def server_cpu_s(server: Server) -> float:
    """Return the processor time of the server so far."""
    stat = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def drain(server: Server, source: str) -> dict[str, float]:
    """Fill and drain once with one version; return what each job took."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, str(Path.cwd())])}
    subprocess.run([sys.executable, "-c", FILL, server.url, "paired"], check=True, env=environment)
    command = [sys.executable, "-m", "bench.actors", server.url, "paired", str(JOBS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.readline()
        before_s = server_cpu_s(server)
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
        used: dict[str, Any] = orjson.loads(worker.stdout.readline())
        used["server_cpu_us_per_job"] = (server_cpu_s(server) - before_s) / JOBS * 1e6
    return {"jobs_per_s": JOBS / used["seconds"], **{name: used[name] for name in ("worker_cpu_us_per_job", "server_cpu_us_per_job")}}


def main(arguments: Sequence[str]) -> None:
    """Drain in turns, and print medians and ratios."""
    other, rounds = arguments[0], int(arguments[1]) if len(arguments) > 1 else ROUNDS
    here = str(Path("src").resolve())
    program = servers.redis() or servers.valkey()
    assert program is not None
    server = Server(program).start()
    measured: dict[str, list[dict[str, float]]] = {here: [], other: []}
    try:
        for number in range(rounds):
            for source in (here, other) if number % 2 else (other, here):
                measured[source].append(drain(server, source))
    finally:
        server.remove()
    for name in measured[here][0]:
        new, old = (statistics.median(one[name] for one in measured[source]) for source in (here, other))
        sys.stdout.write(f"{name:24} {old:12,.1f} -> {new:12,.1f}   ratio {new / old:.3f}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
