"""The documents and the API reference in a browser: for who is logged in, by keyboard, small, wide and dark."""

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.browser.console.stage import PHONE, ConsoleStage, assert_accessible, assert_fits
from tests.support.world import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_documents_are_accessible_and_fit(stage: ConsoleStage) -> None:
    for options in ({}, {"viewport": PHONE, "color_scheme": "dark"}):
        async with stage.at(ADMIN, **options) as page:
            for path in ("/docs/errors#not_parent", "/docs/rules"):
                await page.goto(stage.url(path))
                await assert_accessible(page)
                await assert_fits(page)
            await page.goto(stage.url("/docs#post_message"))
            await assert_fits(page)
            assert await page.evaluate("document.querySelector(':target').id") == "post_message"
            # Of hundreds of like articles one is looked at, or it takes half a minute.
            found = await Axe().run(page, context=["header", ".contents", "#post_message"])
            assert [one["id"] for one in found.response["violations"] if one["impact"] in {"serious", "critical"}] == []


async def test_the_code_of_a_problem_leads_to_its_section(stage: ConsoleStage) -> None:
    async with stage.at(ADMIN) as page:
        await page.goto(stage.url("/docs"))
        await page.locator("#post_message").get_by_role("link", name="not_parent", exact=True).click()
        await page.wait_for_url("**/docs/errors#not_parent")
        assert await page.locator(":target").inner_text() == "not_parent"
