"""Redis goes away and comes back while people look: the page says so, and never that what it shows is live."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from angelrt import Runtime
from tests import servers
from tests.web.browser.actions import read
from tests.web.browser.conftest import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Page, Route

    from tests.web.browser.conftest import Site

AWAY = "Redis does not answer"
WATCH_STATES = """() => {
  const line = document.getElementById("connection");
  window.states = [];
  new MutationObserver(() => window.states.push(line.dataset.state)).observe(line, { attributeFilter: ["data-state"] });
}"""
NOTICED_MS = 30_000  # a call to Redis is tried for ten seconds before it is given up


@pytest.fixture
def mortal() -> Iterator[servers.Server]:
    """A server for this test alone, which keeps what it has."""
    program = servers.redis() or servers.valkey()
    assert program is not None
    server = servers.Server(program, *servers.WITH_AOF)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
async def site(mortal: servers.Server, namespace: str) -> AsyncIterator[Site]:
    """The app on that server."""
    async with Runtime(mortal.url, namespace=namespace) as rt, served(rt) as site:

        @rt.actor(queue="mail")
        async def greet(name: str) -> None: ...

        await greet.send("Ada")
        yield site


async def test_page_says_that_redis_is_away_and_goes_back_by_itself(mortal: servers.Server, site: Site, page: Page) -> None:
    state, notice = page.locator("#connection"), page.locator("#offline")
    await page.goto(site.url())
    await read(page)
    await expect(state).to_have_text("Live")
    mortal.kill()
    await expect(state).to_have_text(AWAY, timeout=NOTICED_MS)
    await expect(state).to_have_attribute("data-state", "away")
    await expect(notice).to_contain_text("The page shows what was known at")
    await expect(page.locator(".tiles")).to_be_visible()
    mortal.start()
    await expect(state).to_have_text("Live", timeout=NOTICED_MS)
    await expect(notice).to_be_hidden()


async def test_page_that_is_opened_meanwhile_says_so_before_its_question_is_answered(
    mortal: servers.Server, site: Site, page: Page
) -> None:
    asked = asyncio.Event()

    async def hold(route: Route) -> None:
        await asked.wait()
        await route.continue_()

    await page.goto(site.url())
    await expect(page.locator("#connection")).to_have_text("Live")
    mortal.kill()
    await expect(page.locator("#connection")).to_have_text(AWAY, timeout=NOTICED_MS)
    await page.route("**/api/v1/workers*", hold)
    await page.get_by_role("link", name="Workers", exact=True).click()
    await expect(page.locator("#page .empty")).to_contain_text(AWAY)
    await expect(page.locator("#page .loading")).to_have_count(0)
    await expect(page.get_by_role("heading", name="Workers")).to_be_focused()
    mortal.start()
    asked.set()
    await expect(page.locator("#page .empty")).to_contain_text("No worker", timeout=NOTICED_MS)
    await expect(page.locator("#connection")).to_have_text("Live", timeout=NOTICED_MS)


async def test_search_whose_answer_is_kept_does_not_pass_for_an_answer_of_redis(mortal: servers.Server, site: Site, page: Page) -> None:
    await page.goto(site.url("jobs?text=greet"))
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("#connection")).to_have_text("Live")
    await page.evaluate(WATCH_STATES)
    mortal.kill()
    await expect(page.locator("#connection")).to_have_text(AWAY, timeout=NOTICED_MS)
    async with page.expect_response(lambda answer: "/api/v1/jobs" in answer.url, timeout=NOTICED_MS) as answered:
        await page.keyboard.press("r")
    assert (await answered.value).status == 503
    assert await page.evaluate("window.states") == ["away"]
