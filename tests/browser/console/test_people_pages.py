"""Contacts, campaigns and traffic in Chromium: for everybody's eyes and hands, and whatever customers are called."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from hub.store import traffic_rollup
from tests.browser.console.people_scene import PeopleScene, play_people
from tests.browser.console.stage import DESK, PHONE, WIDE, ConsoleStage, assert_accessible, assert_fits
from tests.support.wire import connected
from tests.support.world import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(stage: ConsoleStage) -> AsyncIterator[PeopleScene]:
    """Played once."""
    made = await play_people(stage)
    async with connected(stage.database_url) as conn:
        for count in (traffic_rollup.count_events, traffic_rollup.count_deliveries, traffic_rollup.count_attempts):
            async with conn.transaction():
                await count(conn)
    yield made


async def look(scene: PeopleScene, page: Page, name: str) -> None:
    """Load a page, unfold all of it, and look at it with axe; nothing that somebody wrote may have run."""
    answer = await page.goto(scene.stage.url(scene.pages[name]))
    assert answer is not None
    assert answer.status == 200, name
    for one in await page.locator("main details").all():
        await one.evaluate("one => { one.open = true }")
    await assert_accessible(page)
    await assert_fits(page)
    assert await page.evaluate("window.hacked") is None


SIMPLE = {"found", "nobody", "week", "links", "campaigns"}
"""Nothing on them is not on others: these are only fitted."""
COLOURFUL = ("contact", "merge", "campaign", "traffic")


async def test_every_page_is_accessible_and_those_with_most_colours_in_the_dark(scene: PeopleScene) -> None:
    async with scene.stage.at(ADMIN, viewport=DESK) as page:
        for name in scene.pages.keys() - SIMPLE:
            await look(scene, page, name)
            if name in COLOURFUL:
                await page.emulate_media(color_scheme="dark")
                await assert_accessible(page)
                await page.emulate_media(color_scheme="light")


async def test_the_fullest_pages_fit_a_phone_and_a_wide_screen(scene: PeopleScene) -> None:
    """That every page fits a phone, whatever is on it, is shown with hostile texts."""
    for viewport, names in ((PHONE, COLOURFUL), (WIDE, COLOURFUL)):
        async with scene.stage.at(ADMIN, viewport=viewport) as page:
            for name in names:
                await page.goto(scene.stage.url(scene.pages[name]))
                await assert_fits(page)
                assert await page.evaluate("window.hacked") is None


async def test_charts_are_as_wide_as_their_place_and_their_words_keep_their_size(scene: PeopleScene) -> None:
    sizes = {}
    for viewport in (PHONE, WIDE):
        async with scene.stage.at(ADMIN, viewport=viewport) as page:
            await page.goto(scene.stage.url(scene.pages["traffic"]))
            figure = page.locator("#chart-messages")
            plot, words = figure.locator(".chart-lines path").first, figure.locator(".chart-tick").first
            box, text, whole = await plot.bounding_box(), await words.bounding_box(), await figure.bounding_box()
            assert box is not None
            assert text is not None
            assert whole is not None
            assert box["width"] > 0.7 * whole["width"]
            sizes[viewport["width"]] = text["height"]
            label = page.get_by_role("img", name="Messages", exact=True)
            await expect(label).to_be_visible()
    assert len(set(sizes.values())) == 1


async def test_one_merges_and_takes_apart_by_keyboard_and_without_javascript(scene: PeopleScene) -> None:
    async with scene.stage.at(ADMIN, java_script_enabled=False) as page:
        await page.goto(scene.stage.url("/console/merge-candidates"))
        compare = page.get_by_role("link", name="Compare").first
        await compare.focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/merge?**")
        await expect(page.get_by_role("heading", name="What merging would do")).to_be_visible()
        await page.get_by_role("button", name="Merge them").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/contacts/con_*")
        await expect(page.get_by_role("status").first).to_contain_text("Merged:")
        await page.get_by_role("link", name="What was done to it").click()
        await page.get_by_role("link", name="Look at undoing it").first.click()
        await page.get_by_role("button", name="Undo it").focus()
        await page.keyboard.press("Space")
        await page.wait_for_url("**/operations")
        await expect(page.get_by_role("status").first).to_contain_text("Undone: the merge")
        await page.goto(scene.stage.url("/console/merge-candidates"))
        await expect(page.get_by_role("link", name="Compare").first).to_be_visible()


async def test_a_service_s_people_see_their_own(scene: PeopleScene) -> None:
    async with scene.stage.at(scene.stage.crm.key) as page:
        await look(scene, page, "contact")
        await expect(page.get_by_role("button", name="Erase…")).to_have_count(0)
        await expect(page.get_by_text("kd-+")).to_have_count(0)
        await look(scene, page, "timeline")
        await expect(page.locator(".entry.is-masked").first).to_be_visible()
