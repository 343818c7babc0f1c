"""Figures are printed at the end of the run and kept in the JSON of pytest-benchmark; nothing here passes or fails by a time."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bench import moved
from tests import servers
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIGURES = pytest.StashKey[dict[str, Any]]()
SMALL = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records a run."""
    parser.addoption("--record", action="store_true", help="keep the figures, for later runs to be compared with")


def pytest_configure(config: pytest.Config) -> None:
    """Start with no figures."""
    config.stash[FIGURES] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures of the run."""
    terminalreporter.section("figures")
    figures = config.stash[FIGURES]
    for name, figure in figures.items():
        terminalreporter.write_line(f"{name:44} {shown(figure)}")
    if moved.FLOOR not in figures:
        terminalreporter.write_line("no redis-benchmark here, so no floor to compare by")
        return
    terminalreporter.section("moved since the recorded run, by ratio to the floor")
    last = moved.read()
    for line in moved.moved(last, figures) if last else ["nothing is recorded yet: --record"]:
        terminalreporter.write_line(line)
    if config.getoption("--record"):
        moved.write(last | figures)


def shown(figure: Any) -> str:
    """Return a figure as people read it."""
    if not isinstance(figure, float):
        return str(figure)
    return f"{figure:,.2f}" if figure < SMALL else f"{figure:,.0f}"


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Keep named figures of one benchmark."""

    def keep(**figures: Any) -> None:
        benchmark.extra_info.update(figures)
        request.config.stash[FIGURES].update(figures)

    return keep


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the benchmarks: Redis where it is installed (the peers were measured on it), else Valkey; nothing on disk."""
    program = servers.redis() or servers.valkey()
    assert program is not None
    running = Server(program).start()
    yield running
    running.remove()


@pytest.fixture(scope="session", autouse=True)
def floor(request: pytest.FixtureRequest, zadd_per_s: float | None) -> None:
    """Note the floor that figures are compared by."""
    if zadd_per_s is not None:
        request.config.stash[FIGURES][moved.FLOOR] = zadd_per_s


@pytest.fixture(scope="session")
def zadd_per_s(server: Server) -> float | None:
    """The floor of the same run: `redis-benchmark -P 50` with one client, ZADD; None where redis-benchmark is not installed."""
    program = shutil.which("redis-benchmark")
    if program is None:
        return None
    command = [program, "-s", str(server.socket), "-P", "50", "-c", "1", "-n", "200000", "-r", "100000000", "-q", "-t", "zadd", "--csv"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(lines[-1].split(",")[1].strip('"'))
