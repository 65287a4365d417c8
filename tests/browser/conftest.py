"""Fixtures of the browser tests. All of them live in one event loop, as the browser does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.browser.chromium import device, launched
from tests.browser.stage import Sink, Site, open_sink, open_site
from tests.browser.town import LNK, Town, open_town
from tests.support.database import Server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The browser that tests share."""
    async with launched() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A new device."""
    async with device(browser) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def sink() -> AsyncIterator[Sink]:
    """A collector where consent is implied."""
    async with open_sink() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def asking() -> AsyncIterator[Sink]:
    """A collector where consent is required."""
    async with open_sink("required") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """A site, with no tracker yet."""
    async with open_site() as made:
        yield made


@asynccontextmanager
async def _opened(
    browser: Browser, server: Server, factory: pytest.TempPathFactory, **settings: Any
) -> AsyncIterator[Town]:
    async with server.fresh() as url, open_town(browser, url, factory.mktemp("hub"), **settings) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(browser: Browser, server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A whole hub where consent is implied. Tests share it, each with customers and devices of its own."""
    async with _opened(browser, server, tmp_path_factory) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asking_town(
    browser: Browser, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """The same where consent is required."""
    async with _opened(browser, server, tmp_path_factory, tracking_consent="required") as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def far_town(browser: Browser, server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """The same with links on a host that is foreign to the site."""
    async with _opened(browser, server, tmp_path_factory, link_host=LNK) as made:
        yield made
