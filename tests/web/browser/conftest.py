"""A live system (server, worker, web app) and a real Chromium that looks at it; whatever the page does wrong by itself fails the test."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from angelrt import Runtime
from angelrt.keys import Keys
from angelrt.store import Store
from angelrt.web import new_app
from tests import servers

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "" if CHROMIUM else "no Chromium was found: apt-get install chromium"

try:
    import uvicorn
    from playwright.async_api import async_playwright, expect
    from starlette.applications import Starlette
    from starlette.routing import Mount
except ModuleNotFoundError as error:
    MISSING = f"{error.name} is not installed: pip install uvicorn starlette playwright"

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Page

MOUNT = "/queues"
WATCHER = """
window.ran = 0;
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
PATIENCE_MS = 10_000


class Absent(pytest.Module):
    """Tests that cannot run here."""

    def collect(self) -> NoReturn:
        """Skip all of them."""
        pytest.skip(MISSING)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip every module with a message where there is no browser, or nothing to drive it with."""
    return Absent.from_parent(parent, path=module_path) if MISSING else None


class Site:
    """The web app on a port of its own, below `/queues`; it can be stopped and started again there."""

    def __init__(self, rt: Runtime[Any], **options: Any) -> None:
        """Choose the port."""
        self.app = Starlette(routes=[Mount(MOUNT, new_app(rt, **options))])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    def url(self, route: str = "") -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.port}{MOUNT}/#/{route}"

    async def start(self) -> None:
        """Serve."""
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=self.port, log_level="critical", lifespan="off", timeout_graceful_shutdown=0
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # they are pytest's
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Cut every connection and end."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._task
            self._server = None


@pytest.fixture(scope="session")
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """The one server of these tests: what a page shows does not depend on its kind."""
    chosen = request.config.getoption("--server")
    program = (servers.valkey() if chosen != "redis" else None) or servers.redis()
    assert program is not None
    server = servers.Server(program)
    try:
        yield server.start().url
    finally:
        server.remove()


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def rt(address: str, namespace: str) -> AsyncIterator[Runtime[Any]]:
    """An open runtime in a namespace of its own, removed at the end."""
    async with Runtime(address, namespace=namespace) as rt:
        yield rt
    store = Store(address, Keys(namespace))
    try:
        await store.command("UNLINK", *store.keys.every(await store.queues()))
    finally:
        await store.close()


@pytest.fixture
async def site(rt: Runtime[Any]) -> AsyncIterator[Site]:
    """The app without authentication, for this machine: whoever looks is an operator."""
    async with served(rt) as site:
        yield site


@contextlib.asynccontextmanager
async def served(rt: Runtime[Any], **options: Any) -> AsyncIterator[Site]:
    """Serve an app of a runtime while the block lasts."""
    site = Site(rt, **options)
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in which nothing may go wrong."""
    async with looking(browser) as page:
        yield page


@contextlib.asynccontextmanager
async def looking(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Open a page; at the end, no script has failed or run that should not, no dialog of the browser opened, and no policy was violated."""
    context: BrowserContext = await browser.new_context(**{"reduced_motion": "reduce", **options})
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(WATCHER)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("popup", lambda popup: wrong.append(f"popup: {popup.url}"))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
    try:
        yield page
        if page.url.startswith("http"):
            assert await page.evaluate("[window.ran, window.violations]") == [0, []]
        assert wrong == []
    finally:
        await context.close()
