"""An actor that blocks the event loop of its worker, a real one in a process of its own, is named on the page while that lasts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.async_api import expect

from tests.e2e.processes import Application, worker_id
from tests.web.browser.actions import PROBES
from tests.worker.waiting import until_true

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Page

    from angelrt import Job, Runtime
    from tests.web.browser.conftest import Site

RESULT_S: Final = 20
ACTOR: Final = "resize_in_the_loop"
BLOCKING: Final = f"""
import time
from jobs import TRACES, rt

@rt.actor()
async def {ACTOR}() -> str:
    while not (TRACES.parent / "go").exists():
        time.sleep(0.02)
    return "done"
"""


@pytest.fixture
def application(rt: Runtime[Any], tmp_path: Path) -> Iterator[Application]:
    """An application where the page looks, with an actor that blocks until it is let go."""
    (tmp_path / "blocking.py").write_text(BLOCKING, encoding="utf-8")
    application = Application(tmp_path, rt.url or "", rt.keys.namespace)
    try:
        yield application
    finally:
        application.close()


async def news_once_it_is_told(rt: Runtime[Any], blocked_by: str | None) -> Job[Any]:
    """Send a job once the register tells who blocks: that is no event, and without one the page looks again after ten seconds."""

    async def is_told() -> bool:
        return [one.blocked_by for one in await rt.workers()] == [blocked_by]

    await until_true(is_told, f"the register says that {blocked_by} blocks")
    return await rt.send("double", {"number": 2})


async def test_page_names_who_blocks_a_loop_and_since_when_until_it_goes_on(
    rt: Runtime[Any], site: Site, page: Page, application: Application
) -> None:
    await page.add_init_script(path=PROBES)
    worker = await application.worker("--import", "blocking")
    card = page.locator(".card", has_text=worker_id(worker))
    badge, notice = card.locator(".badge"), card.locator(".notice")
    await page.goto(site.url("workers"))
    await expect(badge).to_have_text("Idle")
    await expect(notice).to_have_count(0)

    job = await rt.send(ACTOR)
    beside = await news_once_it_is_told(rt, ACTOR)
    await expect(badge).to_have_text("Loop blocked")
    await expect(notice).to_have_text(re.compile(rf"^{ACTOR} began to block the event loop \d+ s ago\. Other jobs"))
    await expect(card.locator(".running li")).to_contain_text(job.id)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert await page.evaluate("problems") == []

    application.let_go()
    assert [await job.result(RESULT_S), await beside.result(RESULT_S)] == ["done", 4]
    await news_once_it_is_told(rt, None)
    await expect(badge).to_have_text("Idle")
    await expect(notice).to_have_count(0)
    await expect(card.locator(".facts")).to_contain_text(re.compile(rf"Longest block\d.* s by {ACTOR}"))
