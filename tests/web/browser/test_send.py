"""An operator sends a job from the page, in a real browser on a live system."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from playwright.async_api import expect

from angelrt import Secret
from tests.web.browser.actions import confirm, read, state_of
from tests.web.browser.conftest import looking, served
from tests.web.browser.hostile import hostile
from tests.web.browser.test_every_page import PROBES, leave, tab_to

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page

    from angelrt import Runtime
    from tests.web.browser.conftest import Site

HOSTILE = PROBES.with_name("hostile.js")
READER = "reader-token-of-the-tests"
TEXTS = hostile()


def declare(rt: Runtime[Any]) -> list[Any]:
    """Declare actors; return what they were called with."""
    seen: list[Any] = []

    @rt.actor(name="convert", queue="pictures")
    async def convert(path: str, width: int = 640, share: float = 1.0, fit: Literal["crop", "pad"] = "pad") -> int:
        """Make a picture smaller.

        It stays where it is.
        """
        seen.append([path, width, share, fit])
        return width

    @rt.actor(name="pay")
    async def pay(order: int, code: Annotated[str, Secret] = "hidden") -> None:
        seen.append([order, code])

    @rt.actor(name="echo")
    async def echo(value: Any = None) -> None:
        seen.append(value)

    @rt.actor(name="numbers")
    async def numbers(big: int = 2**53 + 1, whole: float = 1.0) -> None:
        seen.append([big, whole])

    return seen


async def opened(page: Page, site: Site, actor: str) -> Locator:
    """Open the form and choose an actor; return the form."""
    await page.goto(site.url("jobs"))
    await page.get_by_role("button", name="Send a job").click()
    form = page.get_by_role("dialog", name="Send a job")
    await form.get_by_label("Actor").select_option(actor)
    return form


async def test_job_is_sent_and_seen_to_run(rt: Runtime[Any], site: Site, page: Page) -> None:
    seen = declare(rt)
    form = await opened(page, site, "convert")
    await expect(form.get_by_text("Make a picture smaller. Queue: pictures")).to_be_visible()
    await expect(
        form.get_by_text('path: string\nwidth: integer, optional\nshare: number, optional\nfit: "crop" or "pad", optional')
    ).to_be_visible()
    text = form.get_by_label("Arguments", exact=True)
    await expect(text).to_have_value('{\n  "path": null,\n  "width": 640,\n  "share": 1.0,\n  "fit": "pad"\n}')
    await text.fill('{"path": "a.jpg", "width": 320}')
    await form.get_by_label("Id").fill("picture-7")
    await form.get_by_label("Priority").fill("2")
    async with rt.worker(concurrency=1):
        await confirm(page, "Send", "Job picture-7 is sent")
        await expect(page.get_by_role("heading", name="picture-7")).to_be_focused()
        await expect(state_of(page)).to_have_text("Completed")
    assert seen == [["a.jpg", 320, 1.0, "pad"]]
    assert (await rt.job("picture-7").info()).priority == 2
    await page.goto(site.url("audit"))
    await expect(page.locator("tbody tr", has_text="convert picture-7")).to_contain_text("send")


async def test_wrong_arguments_and_options_are_told_beside_them_and_nothing_is_lost(rt: Runtime[Any], site: Site, page: Page) -> None:
    declare(rt)
    form = await opened(page, site, "convert")
    text, priority = form.get_by_label("Arguments", exact=True), form.get_by_label("Priority")
    written = '{"path": "a.jpg", "width": "wide", "share": "much"}'
    await text.fill(written)
    await form.get_by_label("Id").fill("kept")
    await form.get_by_label("Delay").fill("60")
    await priority.fill("12")
    send = form.get_by_role("button", name="Send")
    await send.click()
    await expect(priority).to_have_attribute("aria-invalid", "true")
    await expect(form.locator(".field", has=page.get_by_label("Priority")).locator(".problem")).to_contain_text("use 0 (first) to 9 (last)")
    await priority.fill("5")
    await send.click()
    beside = form.locator(".field", has=page.get_by_label("Arguments", exact=True)).locator(".problem")
    await expect(beside).to_contain_text("width: Input should be a valid integer")
    await expect(beside).to_contain_text("share: Input should be a valid number")
    await expect(text).to_be_focused()
    await expect(text).to_have_value(written)
    await expect(form.get_by_label("Id")).to_have_value("kept")
    await text.fill("{")
    await send.click()
    await expect(beside).to_contain_text("This is no JSON")
    await form.get_by_label("Actor").select_option("echo")
    await form.get_by_label("Actor").select_option("convert")
    await expect(text).to_have_value("{")
    await text.fill('{"path": "a.jpg"}')
    await confirm(page, "Send", "Job kept is sent")
    await expect(state_of(page)).to_have_text("Delayed")


async def test_a_number_that_is_none_is_not_left_out(rt: Runtime[Any], site: Site, page: Page) -> None:
    declare(rt)
    form = await opened(page, site, "echo")
    await form.get_by_label("Delay").press_sequentially("1e")
    await form.get_by_role("button", name="Send").click()
    await expect(form.get_by_text("This is no number.")).to_be_visible()
    await leave(page)
    await expect(page.get_by_role("button", name="Send a job")).to_be_focused()
    assert (await rt.jobs.list()).jobs == []


async def test_defaults_are_filled_in_as_they_are_but_those_of_secrets(rt: Runtime[Any], site: Site, page: Page) -> None:
    seen = declare(rt)
    form = await opened(page, site, "pay")
    text = form.get_by_label("Arguments", exact=True)
    await expect(text).to_have_value('{\n  "order": null\n}')
    await form.get_by_label("Actor").select_option("numbers")
    await expect(text).to_have_value('{\n  "big": 9007199254740993,\n  "whole": 1.0\n}')
    async with rt.worker(concurrency=1):
        await confirm(page, "Send", "is sent")
        await expect(state_of(page)).to_have_text("Completed")
    assert [repr(one) for one in seen[0]] == [repr(2**53 + 1), "1.0"]


async def test_a_send_whose_answer_is_lost_is_safe_to_repeat(rt: Runtime[Any], site: Site, page: Page) -> None:
    seen = declare(rt)
    form = await opened(page, site, "echo")

    async def lose(route: Any) -> None:
        if route.request.method == "POST":
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/api/v1/jobs", lose)
    await form.get_by_role("button", name="Send").click()
    await expect(form.get_by_role("alert")).to_contain_text("cannot be reached")
    await page.unroute("**/api/v1/jobs")
    async with rt.worker(concurrency=1):
        await confirm(page, "Send", "was there already: nothing was sent")
        await expect(state_of(page)).to_have_text("Completed")
    assert seen == [None]


async def test_the_actor_of_the_list_is_chosen_and_its_drain_refuses_in_words(rt: Runtime[Any], site: Site, page: Page) -> None:
    declare(rt)
    await rt.control.drain(actor="echo", by="test")
    await page.goto(site.url("jobs?actor=echo"))
    await page.get_by_role("button", name="Send a job").dblclick()
    form = page.get_by_role("dialog", name="Send a job")
    await expect(form.get_by_label("Actor")).to_have_value("echo")
    await form.get_by_role("button", name="Send").click()
    await expect(form.get_by_role("alert")).to_contain_text("drain")


async def test_an_app_without_actors_says_so(site: Site, page: Page) -> None:
    await page.goto(site.url("jobs"))
    await page.get_by_role("button", name="Send a job").click()
    await expect(page.locator(".toast")).to_contain_text("No actor is declared")


async def test_a_job_is_sent_with_the_keyboard_alone_from_any_page(rt: Runtime[Any], site: Site, page: Page) -> None:
    seen = declare(rt)
    await page.goto(site.url("workers"))
    await read(page)
    await page.keyboard.press("?")
    await expect(page.locator(".keys div", has_text="Send a job").locator("kbd")).to_have_text("n")
    await leave(page)
    await page.keyboard.press("n")
    await expect(page.get_by_label("Actor")).to_be_focused()
    await page.keyboard.type("echo")
    await expect(page.get_by_label("Actor")).to_have_value("echo")
    await tab_to(page, "dialog .primary")
    async with rt.worker(concurrency=1):
        await page.keyboard.press("Enter")
        await expect(state_of(page)).to_have_text("Completed")
    assert seen == [None]


async def test_a_reader_has_no_form(rt: Runtime[Any], browser: Browser) -> None:
    declare(rt)
    async with served(rt, readers=[READER]) as site, looking(browser) as page:
        await page.goto(site.url("jobs"))
        await page.get_by_label("Token").fill(READER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("No jobs yet")).to_be_visible()
        await expect(page.get_by_role("button", name="Send a job")).to_have_count(0)
        await page.get_by_role("heading", name="Jobs").click()
        await page.keyboard.press("n")
        await page.keyboard.press("?")
        await expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
        await expect(page.locator("dialog")).to_have_count(1)
        await expect(page.locator(".keys")).not_to_contain_text("Send a job")


async def test_texts_in_the_fields_and_in_what_is_refused_stay_texts(rt: Runtime[Any], site: Site, page: Page) -> None:
    declare(rt)
    await page.add_init_script(path=HOSTILE)
    form = await opened(page, site, "convert")
    for text in TEXTS[::5]:
        await form.get_by_label("Queue").fill(text)
        await form.get_by_label("Id").fill(text)
        await form.get_by_label("Arguments", exact=True).fill(json.dumps({"path": text, text: text}))
        await form.get_by_role("button", name="Send").click()
        await expect(form.locator(".problem:visible").first).to_be_visible()
        await expect(form.get_by_role("button", name="Send")).to_be_enabled()
        assert await page.evaluate("strangers") == []
    assert (await rt.jobs.list()).jobs == []


async def test_actors_with_harmful_names_and_schemas_are_texts(rt: Runtime[Any], site: Site, page: Page) -> None:
    declare(rt)
    await page.add_init_script(path=HOSTILE)
    await page.goto(site.url("jobs"))
    await read(page)
    await page.evaluate("(texts) => { window.hostile = texts }", TEXTS)
    await page.get_by_role("button", name="Send a job").click()
    form = page.get_by_role("dialog", name="Send a job")
    await expect(form.locator("option")).to_have_count(len(TEXTS))
    for n in range(0, len(TEXTS), 10):
        await form.get_by_label("Actor").select_option(index=n)
        assert await page.evaluate("strangers") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_of_the_form_is_cut_off_or_faint_or_nameless(rt: Runtime[Any], browser: Browser, scheme: str) -> None:
    declare(rt)
    narrow, wide = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
    wrong: list[str] = []
    async with served(rt) as site, looking(browser, color_scheme=scheme, viewport=narrow) as page:
        await page.add_init_script(path=PROBES)
        form = await opened(page, site, "convert")
        await form.get_by_label("Priority").fill("12")
        await form.get_by_role("button", name="Send").click()
        await expect(form.locator(".problem:visible")).to_be_visible()
        for size in (wide, narrow):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            wrong += [f"at {size['width']}: {found}" for found in await page.evaluate("problems")]
            wrong += ["the form scrolls sideways"] if await form.evaluate("(node) => node.scrollWidth > node.clientWidth") else []
    assert wrong == []
