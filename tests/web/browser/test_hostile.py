"""Two hundred hostile texts go through every field that reaches the page, in a real browser, and no script runs.

The page of each test watches for a run script, a failed one, a dialog, a popup and a violation of the policy, see `looking`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Error, expect

from angelrt import Concurrency
from angelrt.alerts import BacklogAge, FailureRate
from angelrt.errors import JobFailed
from angelrt.job import ID_MAX_BYTES
from angelrt.retry import Fail
from tests.web.browser.actions import PAGES, read
from tests.web.browser.conftest import looking, served
from tests.web.browser.filling import filled
from tests.web.browser.hostile import RUN, hostile

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from angelrt import Runtime
    from tests.web.browser.conftest import Site

TEXTS = hostile()
SCRIPT = Path(__file__).with_name("hostile.js").read_text(encoding="utf-8")


async def check(page: Page) -> None:
    """See that texts have become no elements, no attributes and no addresses."""
    assert await page.evaluate("strangers") == []
    assert await page.evaluate("[window.ran, window.violations]") == [0, []]


def test_texts_are_two_hundred_and_would_run() -> None:
    assert len(set(TEXTS)) == 200
    assert sum(RUN in text for text in TEXTS) > 120


CARELESS = """() => {
  document.body.append(Object.assign(document.createElement("img"), { src: "https://example.invalid/x.png" }));
  document.getElementById("page").innerHTML = "<img src=x onerror=alert(1)>";
}"""


@pytest.mark.parametrize("harm", [RUN, CARELESS], ids=["script", "markup"])
async def test_harm_that_is_done_is_seen(site: Site, browser: Browser, harm: str) -> None:
    async def look() -> None:
        async with looking(browser) as page:
            await page.goto(site.url())
            with contextlib.suppress(Error):
                await page.evaluate(harm)

    with pytest.raises(AssertionError):
        await look()


async def test_texts_in_a_live_system_stay_texts(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor(limits=[Concurrency(100, per="name")], queue="mail")
    async def harm(name: str, text: str, more: dict[str, str]) -> None:
        assert more == {text: text}
        rt.context.progress(0.5, text)
        rt.context.log(text)
        for line in TEXTS if name == "first" else []:
            rt.context.log(line)
        raise type(f"Error{name}", (Fail,), {})(text)

    jobs = [
        await harm.options(id=text if 0 < len(text.encode()) <= ID_MAX_BYTES and text.isprintable() else None, tenant=f"tenant {n}").send(
            "first" if n == 0 else str(n), text, {text: text}
        )
        for n, text in enumerate(TEXTS)
    ]
    await page.add_init_script(SCRIPT)
    for text in TEXTS[:20]:
        await rt.control.pause(queue="mail", by=text, reason=text)
    await page.goto(site.url("limits"))
    await read(page)
    await rt.control.resume(queue="mail")
    async with rt.worker(concurrency=20):
        for job in jobs:
            with pytest.raises(JobFailed):
                await job.result(20)
    for route in ("jobs?state=failed", "failed", "audit"):
        await page.goto(site.url(route))
        await read(page)
        while await page.get_by_role("link", name="Next page").count():
            before = page.url
            await page.get_by_role("link", name="Next page").click()
            await page.wait_for_function("(before) => location.href !== before", arg=before)
            await read(page)
            await check(page)
    for job in jobs[::25]:
        await page.evaluate("(id) => { location.hash = `#/jobs/${encodeURIComponent(id)}` }", job.id)
        await page.get_by_role("button", name="Reveal").click()
        await expect(page.locator("pre.code").first).to_be_visible()
        await check(page)


async def test_texts_in_every_field_of_every_page_stay_texts(rt: Runtime[Any], browser: Browser) -> None:
    rules = [BacklogAge(), FailureRate(at_least=1)]
    async with filled(rt) as (_, dead, _waiting), served(rt, alerts=rules, title=TEXTS[60]) as site, looking(browser) as page:
        await page.add_init_script(SCRIPT)
        await page.goto(site.url())
        await page.evaluate("([texts, id]) => Object.assign(window, { hostile: texts, jobId: id })", [TEXTS, dead.id])
        for route in PAGES:
            await page.evaluate("(route) => { location.hash = `#/${route}` }", route)
            await read(page)
            await page.keyboard.press("r")
            if route != "audit":
                assert await page.evaluate("missing", TEXTS) == [], route
            await check(page)
            if route in ("queues", "schedules", "limits", "failed"):
                assert await page.evaluate("everyDialog") == 200
                await check(page)
        assert await page.evaluate("everyJob", TEXTS) == []
        await check(page)
        await page.evaluate("everyAddress", TEXTS)
        await check(page)
