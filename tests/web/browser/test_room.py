"""What there is room for is shown whole: labels of axes, lines of tables, and gaps between parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from angelrt.errors import JobFailed
from angelrt.retry import Fail
from tests.web.browser.actions import PROBES, read, row
from tests.web.browser.conftest import looking

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page

    from angelrt import Runtime
    from tests.web.browser.conftest import Site

CRON = "cron:often:1795709491281"
LINES = """(node) => {
  const range = document.createRange();
  range.selectNodeContents(node);
  return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
}"""
FREE = "(node) => node.parentElement.clientWidth - parseFloat(getComputedStyle(node.parentElement).paddingRight) - node.clientWidth"

SCALE = "(node) => node.getBoundingClientRect().width / node.viewBox.baseVal.width"


async def lines_of(words: Locator) -> int:
    """Return over how many lines a text goes."""
    await expect(words).to_be_visible()
    found: int = await words.evaluate(LINES)
    return found


@pytest.mark.parametrize("width", [360, 900, 1280])
async def test_label_of_an_axis_is_not_cut_off(site: Site, browser: Browser, width: int) -> None:
    counts = {"sent": 1, "completed": 1, "failed": 0, "retried": 0, "lost": 0, "pickupP50Ms": 79_000, "pickupP99Ms": 80_000}
    begin = datetime.now(UTC) - timedelta(minutes=60)
    minutes = [{"at": (begin + timedelta(minutes=n)).isoformat(), **counts} for n in range(60)]
    async with looking(browser, viewport={"width": width, "height": 800}) as page:
        await page.add_init_script(path=PROBES)
        await page.route("**/api/v1/series*", lambda route: route.fulfill(json={"minutes": minutes}))
        await page.goto(site.url())
        await expect(page.locator(".grid text", has_text="1 min 20 s")).to_be_visible()
        assert await page.evaluate("problems") == []
        assert await page.locator("svg.chart").last.evaluate(SCALE) == pytest.approx(1, abs=0.06)
        await page.locator("svg.chart").last.hover(position={"x": 5, "y": 50})
        await expect(page.locator(".readout").last).to_contain_text("p99 1 min 20 s")


async def test_job_and_what_is_new_of_it_get_the_room_that_is_there(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def fail() -> None:
        raise Fail("no such address, " * 20)

    async with rt.worker(concurrency=1):
        job = await fail.options(id=CRON).send()
        with pytest.raises(JobFailed):
            await job.result(10)
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.goto(site.url("jobs"))
    await read(page)
    assert await lines_of(row(page, CRON).locator("th bdi")) == 1
    latest = row(page, CRON).locator("td.rest > div")
    assert await latest.evaluate(FREE) == pytest.approx(0, abs=1)
    await page.set_viewport_size({"width": 360, "height": 800})
    await expect(latest).to_be_visible()
    assert await lines_of(latest.locator("bdi")) == 1


async def test_long_entry_of_the_audit_leaves_the_others_their_room(site: Site, page: Page) -> None:
    entry = {"action": "set limit", "who": "token e4ba15bc", "role": "operator", "at": datetime.now(UTC).isoformat()}
    entries = [{"id": str(n), "what": "x" * length, **entry} for n, length in enumerate((3, 900))]
    await page.route("**/api/v1/audit*", lambda route: route.fulfill(json={"entries": entries}))
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.goto(site.url("audit"))
    await expect(page.locator("tbody tr")).to_have_count(2)
    for words in ("set limit", "token e4ba15bc"):
        assert await lines_of(page.locator("bdi", has_text=words).first) == 1


async def test_page_that_is_none_has_a_gap_below_its_title(site: Site, page: Page) -> None:
    await page.goto(site.url("nowhere"))
    await expect(page.get_by_role("heading", name="No such page")).to_be_visible()
    gap = "document.querySelector('.empty').getBoundingClientRect().top - document.querySelector('h1').getBoundingClientRect().bottom"
    assert await page.evaluate(gap) >= 12
