"""Every page: narrow and wide, light and dark, with the keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from angelrt.alerts import BacklogAge, FailureRate
from angelrt.errors import JobFailed
from angelrt.retry import Fail
from tests.web.browser.actions import PAGES, PROBES, confirm, read, row, state_of
from tests.web.browser.conftest import looking, served
from tests.web.browser.filling import filled

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from angelrt import Runtime
    from tests.web.browser.conftest import Site


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_is_cut_off_or_faint_or_nameless(rt: Runtime[Any], browser: Browser, scheme: str) -> None:
    rules = [BacklogAge(), FailureRate(at_least=1)]
    narrow, wide = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
    wrong: list[str] = []
    async with filled(rt) as jobs, served(rt, alerts=rules) as site, looking(browser, color_scheme=scheme, viewport=narrow) as page:
        await page.add_init_script(path=PROBES)
        for route in (*PAGES, *(f"jobs/{job.id}" for job in jobs), "jobs/not-there", "nowhere"):
            await page.goto(site.url(route))
            await read(page) if route != "nowhere" else None
            for size in (wide, narrow):
                await page.set_viewport_size(size)  # type: ignore[arg-type]
                wrong += [f"{route} at {size['width']}: {found}" for found in await page.evaluate("problems")]
        assert wrong == []


async def test_menu_of_a_narrow_page_opens_and_closes(site: Site, browser: Browser) -> None:
    async with looking(browser, viewport={"width": 360, "height": 740}) as page:
        await page.goto(site.url())
        await expect(page.get_by_role("link", name="Workers")).to_be_hidden()
        await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("link", name="Workers").click()
        await expect(page.get_by_role("heading", name="Workers")).to_be_focused()
        await expect(page.get_by_role("link", name="Workers")).to_be_hidden()


async def test_job_is_found_and_cancelled_with_the_keyboard_alone(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def wait(n: int) -> None: ...

    jobs = await rt.send_many(wait.message(n) for n in range(3))
    wanted = jobs[1].id
    await page.goto(site.url())
    await read(page)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    await leave(page)
    await page.keyboard.press("g")
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", name="Jobs")).to_be_focused()
    await expect(page.locator("tbody tr")).to_have_count(3)
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.keyboard.type(wanted)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.get_by_label("Search")).to_be_focused()
    await tab_to(page, f'a[href="#/jobs/{wanted}"]')
    await page.keyboard.press("Enter")
    await expect(state_of(page)).to_have_text("Ready")
    await tab_to(page, ".head button")
    await page.keyboard.press("Enter")
    await expect(page.locator("dialog[open] .danger")).to_be_focused()
    await leave(page)
    await expect(page.get_by_role("button", name="Cancel job")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(state_of(page)).to_have_text("Cancelled")


async def leave(page: Page) -> None:
    """Close the dialog that is open."""
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog")).to_have_count(0)


async def tab_to(page: Page, selector: str) -> None:
    """Press Tab until what is meant has the focus, and it can be seen that it has."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"the Tab key does not lead to {selector}")


async def test_what_a_person_does_outlives_the_news(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def wait(n: int) -> None: ...

    job = await wait.send(1)
    await page.goto(site.url("jobs"))
    link = row(page, job.id).get_by_role("link")
    await link.focus()
    await page.get_by_label("Queue").evaluate("(node) => node.mark = 1")
    later = await rt.send_many(wait.message(n) for n in range(3))
    await expect(row(page, later[-1].id)).to_be_visible()
    await expect(link).to_be_focused()
    assert await page.get_by_label("Queue").evaluate("(node) => node.mark") == 1


async def test_single_letter_keys_can_be_turned_off(site: Site, page: Page) -> None:
    await page.goto(site.url())
    await read(page)
    await page.keyboard.press("?")
    await page.get_by_label("Use single-letter keys").uncheck()
    await leave(page)
    await page.keyboard.press("g")
    await page.keyboard.press("w")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("?")
    await page.get_by_label("Use single-letter keys").check()
    await leave(page)
    await page.keyboard.press("g")
    await page.keyboard.press("w")
    await expect(page.get_by_role("heading", name="Workers")).to_be_visible()


async def test_purge_of_a_dead_job_leads_to_its_absence(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def fail() -> None:
        raise Fail("no")

    async with rt.worker(concurrency=1):
        job = await fail.send()
        with pytest.raises(JobFailed):
            await job.result(10)
    await page.goto(site.url(f"jobs/{job.id}"))
    await page.get_by_role("button", name="Purge").click()
    await confirm(page, "Purge", "is forgotten")
    await expect(page.get_by_text("There is no such job")).to_be_visible()
