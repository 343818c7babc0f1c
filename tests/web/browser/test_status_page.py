"""People without a login see how the system does, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from angelrt.web import status
from tests.web.browser.conftest import looking, served

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from angelrt import Runtime

READER = "reader-token-of-the-tests"
ROUND_MS = 10_000


@pytest.fixture(autouse=True)
def _always_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "KEPT_S", 0.0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
async def test_the_status_is_seen_without_a_login_and_follows_the_system(
    rt: Runtime[Any], browser: Browser, width: int, scheme: str
) -> None:
    @rt.actor(queue="NAMED-mail")
    async def greet() -> None: ...

    async with (
        served(rt, readers=[READER]) as site,
        looking(browser, viewport={"width": width, "height": 700}, color_scheme=scheme) as page,
    ):
        await page.clock.install()
        await page.goto(site.url().replace("/#/", "/status"))
        await expect(page.get_by_role("status")).to_have_text("Nobody works at the moment. New jobs wait, none is lost.")
        async with rt.worker():
            await (await greet.send()).result(timeout=20)
            await page.clock.run_for(ROUND_MS)
            await expect(page.get_by_role("status")).to_have_text("Everything works.")
            await expect(page.locator(".tile").first).to_have_text("Completed1in the last hour")
            await expect(page.get_by_role("img")).to_have_attribute("aria-label", "Completed in the last hour: 1; in the busiest minute: 1")
        assert "NAMED" not in await page.content()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.evaluate("document.cookie") == ""


async def test_the_page_says_when_it_gets_no_answer_and_when_it_does_again(rt: Runtime[Any], browser: Browser) -> None:
    async with served(rt) as site, looking(browser) as page:
        await page.clock.install()
        await page.goto(site.url().replace("/#/", "/status"))
        await expect(page.get_by_role("status")).to_contain_text("Nobody works")
        await expect(page.get_by_role("alert")).to_be_hidden()
        await site.stop()
        await page.clock.run_for(ROUND_MS)
        await expect(page.get_by_role("alert")).to_contain_text("It tries again by itself")
        await site.start()
        await page.clock.run_for(ROUND_MS)
        await expect(page.get_by_role("alert")).to_be_hidden()
