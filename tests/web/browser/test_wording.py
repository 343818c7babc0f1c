"""What the page says in words is so: numbers of runs, ages, and what a search looks at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from angelrt import RateLimit, Retry, RetryPolicy
from angelrt.errors import JobFailed
from angelrt.web import status
from tests.web.browser.conftest import looking, served

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from angelrt import Runtime
    from tests.web.browser.conftest import Site

READER, OPERATOR = "reader-token-of-the-tests", "operator-token-of-the-tests"
AT_ONCE = {"base": 0.001, "cap": 0.001}


async def test_runs_are_counted_from_the_first_though_the_latest_alone_are_kept(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor(retry=RetryPolicy(attempts=16, **AT_ONCE))
    async def fail() -> None:
        raise ValueError

    @rt.actor(retry=RetryPolicy(attempts=3, **AT_ONCE))
    async def fail_thrice() -> None:
        raise ValueError

    async with rt.worker(concurrency=2):
        jobs = [await fail.send(), await fail_thrice.send()]
        for job in jobs:
            with pytest.raises(JobFailed):
                await job.result(20)
    moments = page.locator(".timeline li strong")
    await page.goto(site.url(f"jobs/{jobs[0].id}"))
    await expect(page.locator(".timeline")).to_contain_text("5 earlier runs are not kept")
    retried = [f"Run {number}: Failed, tried again" for number in range(6, 16)]
    await expect(moments).to_have_text(["Sent", *retried, "Run 16 began", "Failed"])
    await page.goto(site.url(f"jobs/{jobs[1].id}"))
    await expect(moments).to_have_text(["Sent", *(f"Run {number}: Failed, tried again" for number in (1, 2)), "Run 3 began", "Failed"])
    await expect(page.locator(".timeline")).not_to_contain_text("not kept")


async def test_job_that_is_cancelled_between_two_runs_has_not_begun_another(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def fail() -> None:
        raise Retry(after=600)

    async with rt.worker(concurrency=1):
        job = await fail.send()
        await page.goto(site.url(f"jobs/{job.id}"))
        await expect(page.locator(".head .badge")).to_have_text("Delayed")
        await expect(page.locator(".timeline")).to_contain_text("Run 1: Failed, tried again")
    await job.cancel()
    await expect(page.locator(".timeline li strong")).to_have_text(["Sent", "Run 1: Failed, tried again", "Cancelled"])


async def test_nothing_is_said_of_an_age_that_is_not_known(
    rt: Runtime[Any], site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "KEPT_S", 0.0)

    @rt.actor(queue="mail", limits=[RateLimit("1/day")])
    async def greet(name: str) -> None: ...

    async with rt.worker(concurrency=1):
        jobs = await rt.send_many(greet.message(str(n)) for n in range(7))
        await page.goto(site.url())
        await expect(page.locator(".tile", has_text="Backlog")).to_have_text("Backlog6")
        await page.goto(site.url().replace("/#/", "/status"))
        await expect(page.locator(".tile", has_text="Waiting now")).to_have_text("Waiting now6")
        for job in jobs:
            await job.cancel()


async def test_search_names_what_it_looks_at_by_the_role(rt: Runtime[Any], browser: Browser) -> None:
    async with served(rt, readers=[READER], operators=[OPERATOR]) as site:
        for token, letters, jobs in (
            (READER, "Id, error or traceback", "Id, actor or error"),
            (OPERATOR, "Id, error, traceback or argument", "Id, actor, argument or error"),
        ):
            async with looking(browser) as page:
                await page.goto(site.url("failed"))
                await page.get_by_label("Token").fill(token)
                await page.keyboard.press("Enter")
                await expect(page.get_by_label("Search")).to_have_attribute("placeholder", letters)
                await page.goto(site.url("jobs"))
                await expect(page.get_by_label("Search")).to_have_attribute("placeholder", jobs)


async def test_one_line_of_a_log_is_no_lines(rt: Runtime[Any], site: Site, page: Page) -> None:
    ends = asyncio.Event()

    @rt.actor()
    async def tell(count: int) -> None:
        for number in range(count):
            rt.context.log(f"line {number}")
        await ends.wait()

    async with rt.worker(concurrency=2):
        for count, words in ((1, "the last line"), (2, "the last 2 lines, the newest first")):
            job = await tell.send(count)
            while len(getattr((await job.info()).progress, "log", [])) < count:
                pass  # notes are written a moment later
            await page.goto(site.url(f"jobs/{job.id}"))
            await expect(page.locator(".card", has=page.locator(".log")).locator(".card-head .faint")).to_have_text(words)
        ends.set()
