"""The stage of the console's browser tests: one hub for all of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.console.stage import ConsoleStage, open_console
from tests.support.database import Server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(
    browser: Browser, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ConsoleStage]:
    """A hub with something on every page; see tests/browser/console/stage.py."""
    async with server.fresh() as url, open_console(browser, url, tmp_path_factory.mktemp("console")) as made:
        yield made
