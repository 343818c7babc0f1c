"""A person watches jobs and acts on them, in a real browser on a live system."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from angelrt import Concurrency, usage
from angelrt.alerts import FailureRate
from angelrt.errors import JobFailed
from angelrt.retry import Fail
from angelrt.web.tries import PER_ADDRESS
from tests.web.browser.actions import confirm, read, row, state_of
from tests.web.browser.conftest import looking, served

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from angelrt import Runtime
    from tests.web.browser.conftest import Site

READER, OPERATOR = "reader-token-of-the-tests", "operator-token-of-the-tests"
SOONER_MS = 7_000  # the page asks by itself after ten seconds, without any event


async def test_jobs_are_seen_moving_without_a_reload(rt: Runtime[Any], site: Site, page: Page) -> None:
    begin, end = asyncio.Event(), asyncio.Event()

    @rt.actor(queue="reports")
    async def write_report(month: str) -> str:
        rt.context.progress(0.25, f"began {month}")
        rt.context.log("opened the book")
        begin.set()
        await end.wait()
        return f"{month}.pdf"

    await page.goto(site.url("jobs"))
    await expect(page.get_by_text("No jobs yet")).to_be_visible()
    await page.evaluate("window.before = true")
    job = await write_report.send("May")
    await expect(row(page, job.id).locator(".badge")).to_have_text("Ready", timeout=SOONER_MS)
    async with rt.worker(concurrency=1):
        await begin.wait()
        await expect(row(page, job.id).locator(".badge")).to_have_text("Running", timeout=SOONER_MS)
        await row(page, job.id).get_by_role("link").click()
        await expect(page.get_by_text("began May")).to_be_visible()
        await expect(page.get_by_text("opened the book")).to_be_visible()
        await expect(page.get_by_text("It runs on worker")).to_be_visible()
        end.set()
        await expect(state_of(page)).to_have_text("Completed")
    await expect(page.get_by_text("May.pdf")).to_have_count(0)
    await page.locator(".card", has_text="The result is hidden").get_by_role("button", name="Reveal").click()
    await expect(page.get_by_text("May.pdf")).to_be_visible()
    await page.goto(site.url("audit"))
    await expect(page.locator("tbody tr", has_text=job.id)).to_have_count(1)
    assert await page.evaluate("window.before")


async def test_overview_counts_along(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor(queue="mail")
    async def greet(name: str) -> None: ...

    await page.goto(site.url())
    done = page.locator(".states li", has_text="Completed").locator(".figure")
    await expect(done).to_have_text("0")
    async with rt.worker(concurrency=2):
        await rt.send_many(greet.message(str(n)) for n in range(7))
        await expect(done).to_have_text("7")
    await expect(page.get_by_role("img", name="Jobs that completed and failed")).to_be_visible()
    await page.locator("#page details", has_text="As a table").first.locator("summary").click()
    await expect(page.locator(".as-table[open] tbody tr").first).to_contain_text("7")
    await expect(page.locator(".tile", has_text="Completion")).to_contain_text("100%")


async def test_running_job_is_cancelled(rt: Runtime[Any], site: Site, page: Page) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    @rt.actor()
    async def sleep_long() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with rt.worker(concurrency=1):
        job = await sleep_long.send()
        await begun.wait()
        await page.goto(site.url(f"jobs/{job.id}"))
        await page.get_by_role("button", name="Cancel job").click()
        await confirm(page, "Cancel job", "was asked to stop")
        await expect(state_of(page)).to_have_text("Cancelled")
        await stopped.wait()
    await expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)


async def test_dead_job_is_replayed_and_then_edited(rt: Runtime[Any], site: Site, page: Page) -> None:
    attempts: list[str] = []

    @rt.actor()
    async def convert(path: str, width: int) -> int:
        attempts.append(path)
        if path != "right.jpg":
            raise Fail(f"no picture: {path}")
        return width

    async with rt.worker(concurrency=1):
        job = await convert.send("wrong.jpg", 640)
        with pytest.raises(JobFailed):
            await job.result(10)
        await page.goto(site.url("failed"))
        letter = page.locator(".letter", has_text=job.id)
        await expect(letter).to_contain_text("no picture: wrong.jpg")
        await letter.get_by_role("button", name="Replay", exact=False).first.click()
        await confirm(page, "Replay", "waits to run again")
        await expect(letter).to_have_count(1)
        while len(attempts) < 2:  # noqa: ASYNC110 - the actor is the one who knows
            await asyncio.sleep(0.01)

        await letter.get_by_role("link", name=job.id).click()
        await expect(page.locator(".timeline")).to_contain_text("Run 2 began")
        await page.get_by_role("button", name="Edit and retry").click()
        text = page.get_by_label("Arguments", exact=True)
        await expect(text).to_have_value('{\n  "path": "wrong.jpg",\n  "width": 640\n}')
        await text.fill('{"path": ')
        await page.locator("dialog").get_by_role("button", name="Retry").click()
        await expect(page.get_by_text("This is no JSON")).to_be_visible()
        await text.fill('{"path": "right.jpg", "width": "wide"}')
        await page.locator("dialog").get_by_role("button", name="Retry").click()
        await expect(page.locator("dialog .problem:visible")).to_contain_text("width")
        await text.fill('{"path": "right.jpg", "width": 320}')
        await confirm(page, "Retry", "waits to run again")
        await expect(state_of(page)).to_have_text("Completed")
        assert await job.result(10) == 320


async def test_numbers_that_a_browser_would_round_outlive_an_edit(rt: Runtime[Any], site: Site, page: Page) -> None:
    seen: list[Any] = []

    @rt.actor()
    async def take(account: dict[str, Any]) -> None:
        seen.append(account)
        if len(seen) == 1:
            raise Fail("once")

    account = {"id": 2**53 + 1, "share": 1.0, "name": "Ada"}
    async with rt.worker(concurrency=1):
        job = await take.send(account)
        with pytest.raises(JobFailed):
            await job.result(10)
        await page.goto(site.url(f"jobs/{job.id}"))
        await page.get_by_role("button", name="Reveal").click()
        await expect(page.locator("pre.code", has_text="9007199254740993")).to_contain_text('"share": 1.0')
        await page.get_by_role("button", name="Edit and retry").click()
        text = page.get_by_label("Arguments", exact=True)
        await text.fill((await text.input_value()).replace("Ada", "Eve"))
        await confirm(page, "Retry", "waits to run again")
        await expect(state_of(page)).to_have_text("Completed")
        await expect(page.get_by_text("The arguments are hidden")).to_be_visible()
    assert [repr(one) for one in seen] == [repr(account), repr(account | {"name": "Eve"})]


async def test_many_dead_letters_are_found_replayed_at_a_rate_and_purged(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def fail(why: str) -> None:
        raise Fail(why)

    async with rt.worker(concurrency=4):
        jobs = await rt.send_many(fail.message(f"{'full' if n % 2 else 'gone'} {n}") for n in range(6))
        for job in jobs:
            with pytest.raises(JobFailed):
                await job.result(10)
    await page.goto(site.url("failed"))
    await expect(page.locator(".letter")).to_have_count(6)
    await page.get_by_label("Search").fill("FULL")
    await expect(page.locator(".letter")).to_have_count(3)
    await page.get_by_role("button", name="Replay all that fit").click()
    await page.get_by_label("Jobs a second").fill("0.1")
    await confirm(page, "Replay", "3 jobs wait to run again")
    await expect(page.get_by_text("No dead letter fits")).to_be_visible()
    await page.get_by_label("Search").fill("")
    await expect(page.locator(".letter")).to_have_count(3)
    await page.get_by_role("button", name="Purge all 3").click()
    await page.locator("dialog").get_by_role("button", name="Purge").click()
    await expect(page.get_by_text("Confirm this first.")).to_be_visible()
    await page.get_by_label("Forget them for good").check()
    await confirm(page, "Purge", "3 jobs are forgotten")
    await expect(page.get_by_text("Nothing has failed")).to_be_visible()


async def test_queue_is_paused_and_a_schedule_removed(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor(queue="mail")
    async def digest() -> None: ...

    await digest.send()
    await rt.schedules.add("daily", digest.message(), cron="0 8 * * *")
    await page.goto(site.url("queues"))
    await page.get_by_role("button", name="Pause mail").click()
    await page.get_by_label("Reason").fill("the provider is down")
    await confirm(page, "Pause", "The queue mail is paused")
    await expect(page.locator("tr", has_text="mail").first.locator(".badge")).to_have_text("Paused")
    await page.goto(site.url("limits"))
    await expect(page.locator("tr", has_text="the provider is down")).to_contain_text("mail")
    await page.get_by_role("button", name="Resume mail").click()
    await confirm(page, "Resume", "The queue mail goes on")
    assert await rt.control.pauses() == []
    await page.goto(site.url("schedules"))
    await page.get_by_role("button", name="Remove daily").click()
    await confirm(page, "Remove", "The schedule daily is removed")
    await expect(page.get_by_text("No schedule yet")).to_be_visible()


async def test_what_is_in_use_of_a_limit_is_seen_moving(rt: Runtime[Any], site: Site, page: Page) -> None:
    doors = {name: asyncio.Event() for name in ("acme", "initech")}

    @rt.actor(queue="mail", limits=[Concurrency(5, per="account")])
    async def write(account: str) -> None:
        await doors[account].wait()

    async with rt.worker(concurrency=10):
        await page.goto(site.url("limits"))
        uses = page.locator("tr", has_text="write.account@mail").locator(".use")
        await expect(uses).to_have_text(["0 of 5"])
        await page.evaluate("window.before = true")
        acme = [await write.send("acme") for _ in range(4)]
        await expect(uses).to_contain_text(["4 of 5"], timeout=SOONER_MS)
        await expect(uses.locator(".badge")).to_have_text("Nearly used")
        initech = await write.send("initech")
        await expect(uses).to_have_text(["acme4 of 5Nearly used", "initech1 of 5"], timeout=SOONER_MS)
        await expect(uses.nth(1).get_by_role("img", name="1 of 5 taken")).to_be_visible()
        await acme[0].cancel()
        await expect(uses).to_have_text(["acme3 of 5", "initech1 of 5"], timeout=SOONER_MS)
        await rt.control.set_limit("write.account@mail", 3)
        doors["initech"].set()
        await initech.result(10)
        await expect(uses).to_have_text(["acme3 of 3Used up"], timeout=SOONER_MS)
        doors["acme"].set()
        await expect(uses).to_have_text(["0 of 3"], timeout=SOONER_MS)
    assert await page.evaluate("window.before")


async def test_values_of_a_limit_that_are_not_shown_are_counted(
    rt: Runtime[Any], site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "GATES_MAX", 1)
    end, begun = asyncio.Event(), asyncio.Semaphore(0)

    @rt.actor(queue="mail", limits=[Concurrency(5, per="account")])
    async def write(account: str) -> str:
        begun.release()
        await end.wait()
        return account

    async with rt.worker(concurrency=10):
        for account in ("acme", "acme", "globex", "initech"):
            await write.send(account)
            await begun.acquire()
        await page.goto(site.url("limits"))
        limit = page.locator("tr", has_text="write.account@mail")
        await expect(limit.locator(".use")).to_have_text(["acme2 of 5"])
        await expect(limit).to_contain_text("and 2 more values")
        monkeypatch.setattr(usage, "LOOKS_MAX", 3)
        await page.keyboard.press("r")
        await expect(limit).to_contain_text("and at least 1 more value")
        end.set()


async def test_long_list_goes_by_pages(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def wait(n: int) -> None: ...

    jobs = await rt.send_many(wait.message(n) for n in range(1_000))
    await page.goto(site.url("jobs?state=ready"))
    await expect(page.locator("tbody tr")).to_have_count(50)
    await expect(page.locator(".tabs [aria-current]")).to_contain_text("1,000")
    await page.get_by_role("link", name="Next page").click()
    await expect(row(page, jobs[50].id)).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(50)
    await page.go_back()
    await expect(row(page, jobs[0].id)).to_be_visible()
    await page.get_by_label("Queue").select_option("default")
    await page.get_by_role("link", name="Completed").click()
    await expect(page.get_by_text("is not kept")).to_be_visible()


async def test_page_comes_back_after_the_server(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def wait(n: int) -> None: ...

    first = await wait.send(1)
    await page.goto(site.url("jobs"))
    await expect(row(page, first.id)).to_be_visible()
    await expect(page.locator("#connection-text")).to_have_text("Live")
    await site.stop()
    await expect(page.locator("#connection-text")).to_have_text("Reconnecting")
    await expect(page.locator("#offline")).to_contain_text("The server cannot be reached")
    await expect(row(page, first.id)).to_be_visible()
    second = await wait.send(2)
    await site.start()
    await expect(page.locator("#connection-text")).to_have_text("Live")
    await expect(row(page, second.id)).to_be_visible()
    await expect(page.locator("#offline")).to_be_hidden()


async def test_page_polls_while_the_stream_is_refused(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def wait(n: int) -> None: ...

    await page.route("**/api/v1/events", lambda route: route.fulfill(status=503, body=""))
    await page.goto(site.url("jobs"))
    await expect(page.locator("#connection-text")).to_have_text("Reconnecting")
    job = await wait.send(1)
    await expect(row(page, job.id)).to_be_visible(timeout=SOONER_MS)
    await page.unroute("**/api/v1/events")
    await expect(page.locator("#connection-text")).to_have_text("Live")


async def test_overview_tells_what_is_held_up(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor(queue="mail")
    async def wait(n: int) -> None: ...

    await wait.send(1)
    await rt.control.pause(queue="mail")
    await page.goto(site.url())
    await expect(page.get_by_text("no worker is there to run them")).to_be_visible()
    await expect(page.get_by_text("is paused or drained")).to_be_visible()


async def test_alert_that_fires_is_seen(rt: Runtime[Any], browser: Browser) -> None:
    @rt.actor()
    async def fail() -> None:
        raise Fail("no")

    async with rt.worker(concurrency=1):
        with pytest.raises(JobFailed):
            await (await fail.send()).result(10)
    async with served(rt, alerts=[FailureRate(at_least=1, name="too much fails")]) as site, looking(browser) as page:
        await page.goto(site.url())
        await page.get_by_role("link", name="See the alerts").click()
        await expect(page.locator(".alert", has_text="too much fails").locator(".badge")).to_have_text("Firing")
        await expect(page.locator("tbody tr", has_text="too much fails")).to_contain_text("100%")
        await expect(page.locator("#nav .count.bad")).to_have_text("1")


async def test_curves_are_read_with_the_arrow_keys(rt: Runtime[Any], site: Site, page: Page) -> None:
    @rt.actor()
    async def greet(name: str) -> None: ...

    async with rt.worker(concurrency=1):
        await (await greet.send("Ada")).result(10)
    await page.goto(site.url())
    curve = page.get_by_role("img", name="Jobs that completed and failed")
    await curve.focus()
    await page.keyboard.press("End")
    await expect(page.locator(".readout").first).to_contain_text("Completed 1 · Failed 0 · Sent 1")
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator(".readout").first).to_contain_text("Completed 0")


async def test_many_wrong_tokens_are_answered_in_words_and_a_right_one_is_let_in(rt: Runtime[Any], browser: Browser) -> None:
    async with served(rt, readers=[READER]) as site, looking(browser) as page:
        await page.goto(site.url())
        for n in range(PER_ADDRESS + 1):
            async with page.expect_response("**/login") as answered:
                await page.get_by_label("Token").fill(f"a-token-that-nobody-has-{n}")
                await page.keyboard.press("Enter")
            assert (await answered.value).status == (429 if n == PER_ADDRESS else 401)
        await expect(page.get_by_role("alert")).to_contain_text("too many wrong ones have come")
        await page.get_by_label("Token").fill(READER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def test_reader_logs_in_and_can_only_look(rt: Runtime[Any], browser: Browser) -> None:
    @rt.actor(queue="mail")
    async def greet(name: str) -> None: ...

    job = await greet.send("Ada")
    async with served(rt, readers=[READER], operators=[OPERATOR]) as site, looking(browser) as page:
        await page.goto(site.url(f"jobs/{job.id}"))
        await page.get_by_label("Token").fill("a-token-that-nobody-has")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not known")
        await page.get_by_label("Token").fill(READER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("The arguments are hidden")).to_be_visible()
        await expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)
        await expect(page.get_by_role("button", name="Reveal")).to_have_count(0)
        await page.goto(site.url("queues"))
        await read(page)
        await expect(page.get_by_role("button", name="Pause mail")).to_have_count(0)
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Token").fill(OPERATOR)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Pause mail")).to_be_visible()
