"""Deliveries and administration in Chromium: readable for everybody, from 360 px on, by keyboard, without scripts."""

from typing import Any

import pytest
from playwright.async_api import Error, Page

from tests.browser.console.stage import DESK, PHONE, ConsoleStage, assert_accessible, assert_fits, is_live
from tests.support.world import ADMIN, NUMBER

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHER = "+15550002222"


async def subscription(stage: ConsoleStage, name: str) -> str:
    """The id of a service's first connection."""
    found = await stage.world.call("GET", "/v1/admin/subscriptions?limit=200")
    return str(next(one["id"] for one in found.json["items"] if one["service"]["name"] == name))


async def operators(stage: ConsoleStage) -> list[str]:
    """What the operator looks at."""
    crm, one = stage.crm.id, await subscription(stage, "CRM")
    asked = await stage.crm.call("POST", "/v1/replays", {"conversation_id": stage.ids["cnv"]})
    assert asked.status == 202, asked
    return [
        "/console/deliveries", f"/console/deliveries?event={stage.ids['event']}", "/console/deliveries/parked",
        f"/console/deliveries/parked?service={crm}", f"/console/dead-letters?service={crm}", "/console/dead-letters",
        f"/console/replays?service={crm}", f"/console/replays/{asked.json['id']}", "/console/quarantine",
        "/console/quarantine/1", "/console/services", f"/console/services/{crm}", "/console/numbers",
        f"/console/numbers/{NUMBER}", f"/console/subscriptions/{one}", "/console/audit",
    ]  # fmt: skip


async def look(stage: ConsoleStage, key: str, paths: list[str], **options: Any) -> None:
    """Every one of these pages is there, has no serious finding with all of it open, and fits, small and large; pages
    are looked at by turns on a phone in the dark, and at a desk in the light.
    """
    open_all = "document.querySelectorAll('main details').forEach((one) => { one.open = true; })"
    async with stage.at(key, **options) as page:
        for turn, path in enumerate(paths):
            sizes = [(DESK, "light"), (PHONE, "dark")]
            answer = await page.goto(stage.url(path))
            assert answer
            assert answer.status == 200, path
            await page.evaluate(open_all)
            for size, scheme in sizes if turn % 2 else reversed(sizes):
                await page.set_viewport_size(size)
                await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                await assert_fits(page)
            await assert_accessible(page)
            assert await page.evaluate("window.hacked") is None


@pytest.mark.parametrize("part", range(4))
async def test_the_operators_pages_are_accessible_and_fit(stage: ConsoleStage, part: int) -> None:
    await look(stage, ADMIN, (await operators(stage))[part::4])


async def test_a_services_pages_are_accessible_and_fit(stage: ConsoleStage) -> None:
    one = await subscription(stage, "CRM")
    paths = [
        "/console/numbers", f"/console/numbers/{NUMBER}", f"/console/numbers/{OTHER}", "/console/deliveries",
        "/console/dead-letters", "/console/replays", f"/console/subscriptions/{one}",
    ]  # fmt: skip
    await look(stage, stage.crm.key, paths)


async def press(page: Page, key: str, until: str) -> None:
    """Press a key until what has the focus says this: people find their way by keyboard."""
    script = """() => { const one = document.activeElement;
        return [one.name, one.textContent.trim(), one.labels?.[0]?.textContent.trim()].filter(Boolean) }"""
    for _ in range(60):
        await page.keyboard.press(key)
        if any(until in said for said in await page.evaluate(script)):
            return
    raise AssertionError(f"{until} is not reached by {key}")


async def test_h3_a_key_is_made_by_keyboard_and_shown_this_once(stage: ConsoleStage) -> None:
    async with stage.at(ADMIN) as page:
        await page.goto(stage.url("/console/services"))
        await press(page, "Tab", "Name")
        await page.keyboard.type("Keyboard")
        await press(page, "Tab", "profiles")
        await page.keyboard.press("Space")
        await press(page, "Tab", "Register, and show its key")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(outline) != "none", "one sees where one is"
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Keyboard is registered").wait_for()
        key = (await page.locator(".command code").first.inner_text()).strip()
        assert (await stage.world.call("GET", "/v1/numbers", key=key)).status == 200
        assert key not in page.url
        await assert_accessible(page)
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_role("heading", name="Keyboard", exact=True).wait_for()
        assert key not in await page.content()
        with pytest.raises(Error, match="ERR_CACHE_MISS"):  # the browser keeps it as little as the hub
            await page.go_back()
        await page.wait_for_url("chrome-error://**", wait_until="commit")
        assert key not in await page.content()


async def test_everything_works_without_scripts(stage: ConsoleStage) -> None:
    plain = await stage.world.service("Plain", scopes=["read"])
    number = f"/console/numbers/{OTHER}"
    async with stage.at(plain.key, java_script_enabled=False, viewport=PHONE) as page:
        await page.goto(stage.url(number))
        await page.get_by_label("Endpoint").fill(plain.endpoint.url)
        await page.get_by_text("Event types: all").click()
        await page.get_by_label("message.status").check()
        await page.get_by_role("button", name="Connect, and show").click()
        secret = (await page.locator(".command code").first.inner_text()).strip()
        assert secret.startswith("whsec_")
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_role("button", name="Pause").click()
        assert "Paused" in await page.locator("#notice").inner_text()
        await page.get_by_role("button", name="Skip what waited").click()
        assert "never gets by webhook" in await page.locator("main").inner_text()
        await page.get_by_role("link", name="Leave it as it is").click()
        await page.get_by_role("button", name="Skip what waited").click()
        await page.get_by_role("button", name="Leave it out and go on").click()
        assert "Delivering again" in await page.locator("#notice").inner_text()
        await page.get_by_role("button", name="Leave…").click()
        await page.get_by_role("button", name="Take Plain off").click()
        assert "Plain has left" in await page.locator("#notice").inner_text()
    async with stage.at(ADMIN, java_script_enabled=False) as page:
        await page.goto(stage.url(f"/console/services/{plain.id}"))
        await page.get_by_role("button", name="Remove Plain").click()
        await page.get_by_label("Type Plain to confirm").fill("Plain")
        await page.get_by_role("button", name="Remove this service").click()
        assert "Plain was removed" in await page.locator("#notice").inner_text()


async def test_a_connection_is_followed_as_it_goes(stage: ConsoleStage) -> None:
    followed = await stage.world.service("Followed")
    await followed.connect(OTHER)
    one = await subscription(stage, "Followed")
    async with stage.at(ADMIN) as page:
        await page.goto(stage.url(f"/console/subscriptions/{one}"))
        await is_live(page)
        assert (await followed.call("POST", f"/v1/numbers/{OTHER}/connection/pause")).status == 200
        await page.get_by_text("its own people asked for it").wait_for()
    assert (await followed.call("DELETE", f"/v1/numbers/{OTHER}/connection")).status == 204
