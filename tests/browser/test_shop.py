"""The example shop on a whole hub: what its customers do, and what the hub makes of it."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.chromium import device
from tests.browser.town import GO, PHONE_AGENT, SCOPES, Town, open_shop, tells
from tests.support.commands import running
from tests.support.database import Server
from tests.support.serving import HubProcess, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def shop(town: Town) -> AsyncIterator[str]:
    """Where the shop is."""
    async with open_shop(town) as url:
        yield url


async def answers(page: Page, label: str) -> None:
    """Answer the consent banner, and wait until the hub heard of the page."""
    async with page.expect_response(lambda answer: tells(answer.request, '"page"')) as told:
        await page.get_by_role("button", name=label).click()
    assert (await told.value).status == 204


async def buys(page: Page, shop: str, **typed: str) -> None:
    """Walk through the shop to the end of an order."""
    await page.goto(shop)
    await page.get_by_role("link", name="Round belly").click()
    await page.get_by_role("link", name="Buy it").click()
    for label, value in typed.items():
        await page.locator(f"#{label}").fill(value)
    await page.get_by_role("button", name="Order").click()


async def profile(town: Town, address: str) -> dict[str, object]:
    """The one contact with an address."""
    answer = await town.crm.call("GET", f"/v1/contacts?address={address}")
    (found,) = answer.json["items"]
    return dict(found)


async def test_an_order_declares_who_is_at_the_browser(town: Town, shop: str) -> None:
    mia = town.customer()
    async with town.device() as phone:
        page = await phone.context.new_page()
        await buys(page, shop, email="order@example.com", phone=mia.phone.replace("+49", "0"))
        await page.get_by_role("heading", name="Thank you").wait_for()
        found = await mia.profile()
        assert {(a["type"], a["value"], a["standing"]) for a in found["addresses"]} == {
            ("email", "order@example.com", "declared"), ("phone", mia.phone, "declared"),
        }  # fmt: skip
        (binding,) = found["bindings"]
        assert (binding["trust"], binding["by"]["type"]) == ("declared", "declaration")


async def test_what_cannot_be_read_is_said_at_its_field(town: Town, shop: str) -> None:
    async with town.device() as phone:
        page = await phone.context.new_page()
        await buys(page, shop, email="faulty@example.com", phone="0151")
        fault = page.locator("#phone-fault")
        await fault.filter(has_text="This is no phone number").wait_for()
        assert await page.locator("#phone").get_attribute("aria-invalid") == "true"
        assert await page.locator("#email").input_value() == "faulty@example.com"
        found = await town.crm.call("GET", "/v1/contacts?address=faulty@example.com")
        assert found.json["items"] == []


async def test_the_popup_asks_for_a_number_and_the_hub_asks_before_it_writes(town: Town, shop: str) -> None:
    mia = town.customer()
    async with town.device() as phone:
        page = await phone.context.new_page()
        await page.goto(shop)
        await page.get_by_role("button", name="Ten per cent").click()
        number = page.get_by_label("Mobile number", exact=True)
        await number.fill("12")
        await page.get_by_role("button", name="Text me").click()
        await page.locator("#popup-fault").filter(has_text="This is no phone number").wait_for()
        await number.fill(mia.phone)
        await page.get_by_role("button", name="Text me").click()
        await number.wait_for(state="hidden")
        found = await town.world.call("GET", f"/v1/admin/contacts?address={mia.phone}")
        (contact,) = found.json["items"]
        assert [a["standing"] for a in contact["addresses"]] == ["unconfirmed"]
        assert [(c["medium"], c["status"]) for c in contact["consents"]] == [("sms", "pending")]


async def test_who_logs_in_is_verified_and_who_logs_out_is_nobody(town: Town, shop: str) -> None:
    async with town.device() as shared:
        page = await shared.context.new_page()
        await page.goto(f"{shop}/account")
        await page.get_by_label("Email").fill("login@example.com")
        async with page.expect_response(lambda answer: tells(answer.request, '"signature"')) as signed:
            await page.get_by_role("button", name="Log in").click()
        assert (await signed.value).status == 204
        (binding,) = (await operators_view(town, "login@example.com"))["bindings"]
        assert (binding["trust"], binding["until"]) == ("verified", None)
        async with page.expect_response(lambda answer: tells(answer.request, '"reset"')):
            await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url(f"{shop}/")
        await page.get_by_role("link", name="Log in").click()
        await page.get_by_label("Email").fill("second@example.com")
        async with page.expect_response(lambda answer: tells(answer.request, '"signature"')):
            await page.get_by_role("button", name="Log in").click()
        (second,) = (await operators_view(town, "second@example.com"))["bindings"]
        assert second["visitor_id"] != binding["visitor_id"]


async def operators_view(town: Town, address: str) -> dict[str, list[dict[str, object]]]:
    """The one contact with an address; no service knows those who only logged in."""
    found = await town.world.call("GET", f"/v1/admin/contacts?address={address}")
    (contact,) = found.json["items"]
    return dict(contact)


async def test_the_banner_lets_a_click_land(asking_town: Town) -> None:
    mia = asking_town.customer()
    await mia.gets_link()
    await mia.agrees()
    async with open_shop(asking_town) as shop, asking_town.device() as phone:
        link = await mia.gets_link(to=f"{shop}/pots/low-bowl")
        page = await phone.context.new_page()
        await page.goto(link)
        await answers(page, "Yes, recognise me")
        async with page.expect_response(lambda answer: tells(answer.request, "/pots/tall-cylinder")):
            await page.get_by_role("link", name="Pots").click()
            await page.get_by_role("link", name="Tall cylinder").click()
        await mia.visited(f"{shop}/pots/low-bowl", f"{shop}/", f"{shop}/pots/tall-cylinder")
        assert await page.get_by_role("region", name="Privacy").is_hidden()


@pytest.mark.soak
async def test_hub_and_shop_from_the_command_line(browser: Browser, server: Server, tmp_path: Path) -> None:
    """As in examples/README.md: processes of their own, and the browser speaks to the hub itself."""
    async with AsyncExitStack() as stack:
        hub = HubProcess(tmp_path / "hub", await stack.enter_async_context(server.fresh()))
        tracker = f"http://{GO}:{hub.port}"
        hub.environment |= {"PARTYLINE_LINK_BASE_URL": tracker, "PARTYLINE_SITE_DOMAINS": "shop.localhost"}
        world = await stack.enter_async_context(serving(hub))
        service = {"name": "shop", "plan": "bundle", "scopes": SCOPES}
        key = (await world.call("POST", "/v1/admin/services", service)).json["api_key"]
        command = (sys.executable, "-m", "examples.shop", "--hub", hub.url, "--key", key, "--tracker", tracker)
        shop = await stack.enter_async_context(running(*command))
        url = (await shop.says("the shop is open at")).split()[-1]
        context = await stack.enter_async_context(device(browser, user_agent=PHONE_AGENT))

        page = await context.new_page()
        await page.goto(url)
        await answers(page, "Yes, recognise me")
        await buys(page, url, email="smoke@example.com")
        await page.get_by_role("heading", name="Thank you").wait_for()
        (contact,) = (await world.call("GET", "/v1/contacts?address=smoke@example.com", key=key)).json["items"]
        wanted = {"url": f"{url}/pots/low-bowl", "address": "smoke@example.com"}
        link = (await world.call("POST", "/v1/links", wanted, key=key)).json["url"]
        async with page.expect_response(lambda answer: tells(answer.request, "/pots/low-bowl")):
            await page.goto(link)
        timeline = await world.call("GET", f"/v1/contacts/{contact['id']}/timeline", key=key)
        seen = [item["url"].removeprefix(url) for item in timeline.json["items"] if item["type"] == "web.page"]
        assert seen[0] == "/pots/low-bowl"
        assert seen[-3:] == ["/pots/round-belly", "/", "/"]
        assert await shop.stop() == 0
        assert "Traceback" not in shop.output
