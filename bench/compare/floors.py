"""What no job system on this server can pass: plain commands, and angelrt's scripts without a runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from .catalog import OURS, ROOT
from .process import PeerFailed

if TYPE_CHECKING:
    from .place import Place
    from .workloads import Figures

COMMANDS = ("ZADD", "ZPOPMIN", "LPUSH")
CALLS = 200_000
BARE_JOBS = 100_000
FLOOR_S = 120


def output(command: list[str], variables: dict[str, str] | None = None) -> str:
    """Run a program and return what it prints. Raises PeerFailed."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=FLOOR_S, cwd=ROOT, env=variables).stdout
    except (subprocess.SubprocessError, OSError) as error:
        words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise PeerFailed(words[-1]) from error


def redis_benchmark(place: Place) -> Figures:
    """One client, 50 commands in a packet, from `redis-benchmark -P 50`."""
    program = shutil.which("redis-benchmark")
    if program is None:
        message = "no redis-benchmark on PATH"
        raise PeerFailed(message)
    figures: Figures = {}
    for name in COMMANDS:
        place.empty()
        options = ["-p", str(place.port), "-P", "50", "-c", "1", "-n", str(place.scaled(CALLS, 1_000)), "-r", "100000000", "-q"]
        rows = output([program, *options, "-t", name.lower(), "--csv"]).splitlines()
        figures[f"{name.lower()}_per_s"] = float(rows[-1].split(",")[1].strip('"'))
    return figures


def bare(place: Place) -> Figures:
    """Run the loop over the shipped scripts in angelrt's environment."""
    place.empty()
    environment = place.environments[OURS]
    command = [environment.command[0], "-m", "bench.compare.bare", str(place.port), str(place.scaled(BARE_JOBS, 400))]
    found: Figures = json.loads(output(command, environment.variables or None))
    return found


FLOORS = {"redis-benchmark": redis_benchmark, "bare loop": bare}
