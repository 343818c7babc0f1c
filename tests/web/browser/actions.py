"""What a person does on the page, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

PAGES = ("", "queues", "jobs", "workers", "schedules", "limits", "failed", "alerts", "audit")
PROBES = Path(__file__).with_name("probes.js")
"""What a page is asked for `problems` with."""


def row(page: Page, job_id: str) -> Locator:
    """Return the line of a job in a list."""
    return page.locator("tbody tr", has=page.get_by_role("link", name=job_id, exact=True))


def state_of(page: Page) -> Locator:
    """Return the state at the head of a job's page."""
    return page.locator(".head .badge")


async def read(page: Page) -> None:
    """Wait until the page has its data."""
    await expect(page.locator("#page > .page")).to_have_count(1)
    await expect(page.locator("#page .loading")).to_have_count(0)


async def confirm(page: Page, button: str, said: str) -> None:
    """Press the button of the dialog that is open, and read what is said then."""
    await page.locator("dialog[open]").get_by_role("button", name=button, exact=True).click()
    await expect(page.locator("dialog[open]")).to_have_count(0)
    await expect(page.locator(".toast").last).to_contain_text(said)
