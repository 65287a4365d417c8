"""Chromium of the machine, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = "Chromium is not installed: `apt-get install chromium`, or name one by PARTYLINE_TEST_CHROMIUM"
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 10_000
"""Milliseconds that anything in a browser may take."""


def find_chromium() -> str | None:
    """The browser that PARTYLINE_TEST_CHROMIUM names, or else the first on the path."""
    named = os.environ.get("PARTYLINE_TEST_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def require_chromium() -> str:
    """Its path. Where there is none the test is skipped; with CI=true it fails."""
    path = find_chromium()
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    return path


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser with nothing in it. Pages may be restored from memory, as people's browsers do it."""
    path = require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=ARGUMENTS, ignore_default_args=["--disable-back-forward-cache"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def device(browser: Browser, **options: Any) -> AsyncIterator[BrowserContext]:
    """Somebody's device: cookies and storage of its own. No error of a script goes unnoticed on its pages."""
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    try:
        yield context
    finally:
        await context.close()
    assert errors == []


async def leave(page: Page) -> None:
    """Close a page as people do, with its last words."""
    await page.goto("about:blank")
    await page.close()
