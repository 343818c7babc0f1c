"""Figures are printed at the end of the run and kept in the JSON of pytest-benchmark; nothing here passes or fails by a time."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests import servers
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIGURES = pytest.StashKey[dict[str, Any]]()
SMALL = 100


def pytest_configure(config: pytest.Config) -> None:
    """Start with no figures."""
    config.stash[FIGURES] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures of the run."""
    terminalreporter.section("figures")
    for name, figure in config.stash[FIGURES].items():
        terminalreporter.write_line(f"{name:44} {figure}")


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
        request.config.stash[FIGURES].update({name: shown(figure) for name, figure in figures.items()})

    return keep


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the benchmarks: Redis where it is installed (the peers were measured on it), else Valkey; nothing on disk."""
    program = servers.redis() or servers.valkey()
    assert program is not None
    running = Server(program).start()
    yield running
    running.remove()


@pytest.fixture(scope="session")
def zadd_per_s(server: Server) -> float | None:
    """The floor of the same run: `redis-benchmark -P 50` with one client, ZADD; None where redis-benchmark is not installed."""
    program = shutil.which("redis-benchmark")
    if program is None:
        return None
    command = [program, "-s", str(server.socket), "-P", "50", "-c", "1", "-n", "200000", "-r", "100000000", "-q", "-t", "zadd", "--csv"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(lines[-1].split(",")[1].strip('"'))
