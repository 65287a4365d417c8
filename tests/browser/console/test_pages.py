"""The console in a browser: every page of the foundation, live, by keyboard, without scripts, small, dark, hostile."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from hub.domain.ids import parse_id
from tests.browser.console.stage import (
    HOSTILE,
    PHONE,
    SECRET_TEXT,
    ConsoleStage,
    assert_accessible,
    assert_fits,
    is_live,
)
from tests.browser.stage import PATIENCE
from tests.support.talk import writes
from tests.support.wire import connected
from tests.support.world import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def desk(stage: ConsoleStage) -> AsyncIterator[Page]:
    """A page of the operator's."""
    async with stage.at(ADMIN) as page:
        yield page


LOOKED_AT = ("overview", "waiting", "conversation", "failed", "masked", "event", "search", "missing")
"""Pages that differ in more than what they show."""


async def test_every_page_is_accessible_and_runs_nothing_of_a_customer_s(stage: ConsoleStage, desk: Page) -> None:
    for name, path in stage.pages().items():
        answer = await desk.goto(stage.url(path))
        assert answer
        assert answer.status == (404 if name == "missing" else 200), name
        if name in LOOKED_AT:
            await assert_accessible(desk)
        assert await desk.evaluate("window.hacked") is None, name
        assert await desk.locator("img:not([src^='/console/static/'])").count() == 0, name


async def test_pages_fit_a_phone_in_the_dark(stage: ConsoleStage) -> None:
    """As people of a service see it; that every page fits, whatever is on it, is shown with hostile texts."""
    async with stage.at(stage.helpdesk.key, color_scheme="dark", viewport=PHONE) as page:
        for name in LOOKED_AT:
            await page.goto(stage.url(stage.pages()[name]))
            await assert_fits(page)
            if name in {"overview", "conversation", "failed"}:
                await assert_accessible(page)


async def test_the_login_says_where_keys_are_and_leads_on(stage: ConsoleStage) -> None:
    async with stage.at(None) as page:
        await page.goto(stage.url("/console/conversations?show=waiting"))
        await assert_accessible(page)
        await expect(page.get_by_text("PARTYLINE_ADMIN_KEY")).to_be_visible()
        await page.keyboard.type("plk_wrong")  # the field has the focus
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not valid")
        await assert_accessible(page)
        await page.get_by_label("API key").fill(ADMIN)
        await page.keyboard.press("Enter")
        await page.wait_for_url(stage.url("/console/conversations?show=waiting"))
        (cookie,) = await page.context.cookies()
        kept = (cookie.get("name"), cookie.get("httpOnly"), cookie.get("sameSite"))
        assert kept == ("__Host-partyline", True, "Strict")
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url(stage.url("/console/login"))
        await page.go_back()
        await page.wait_for_url(stage.url("/console/login?next=/console/conversations%3Fshow%3Dwaiting"))


async def test_c1_a_timeline_lives_and_keeps_what_the_reader_has_in_hand(stage: ConsoleStage) -> None:
    """A message that comes is there without a reload; an open section stays open, focus and place stay, and the page
    says politely that there is something new.
    """
    async with stage.at(stage.helpdesk.key) as page:
        await page.goto(stage.url(f"/console/conversations/{stage.ids['cnv']}"))
        await is_live(page)
        ids = page.locator("summary", has_text="Ids")
        await ids.click()
        await ids.focus()
        await stage.mia.says("Is it there now?")
        await expect(page.locator("#timeline").get_by_text("Is it there now?")).to_be_visible()
        await expect(page.locator("#announce")).to_have_text("The conversation has something new")
        sent = await stage.crm.reply(stage.ids["cnv"], SECRET_TEXT, agent="Chris")
        entry = page.locator(f"#{sent.json['message']['id']}")
        await expect(entry).to_contain_text("text, masked")
        assert SECRET_TEXT not in await page.content()
        await stage.crm.call(
            "POST", f"/v1/conversations/{stage.ids['cnv']}/presence",
            {"agent": {"id": "chris", "name": "Chris"}, "state": "typing"},
        )  # fmt: skip
        await expect(page.locator("#facts")).to_contain_text("CRM, Chris typing")
        await expect(page.locator("details", has_text="Begun")).to_have_attribute("open", "")
        await expect(ids).to_be_focused()


async def test_a_page_whose_stream_was_refused_tries_again_and_catches_up(stage: ConsoleStage, desk: Page) -> None:
    await desk.clock.install()
    await desk.route("**/console/live*", lambda route: route.fulfill(status=503))
    await desk.goto(stage.url("/console/conversations"))
    await expect(desk.locator("#live")).to_have_text("reconnecting")
    await writes(stage.mia, stage.helpdesk, text="While you were away")
    await desk.unroute("**/console/live*")
    await desk.clock.run_for(5000)
    await is_live(desk)
    async with asyncio.timeout(PATIENCE):
        while not await desk.get_by_text("While you were away").count():
            await desk.clock.run_for(200)  # the page looks again a little after it was told to


async def test_a_page_that_nobody_sees_hears_nothing_and_catches_up(stage: ConsoleStage, desk: Page) -> None:
    await desk.clock.install()
    await desk.goto(stage.url(f"/console/conversations/{stage.ids['cnv']}"))
    await is_live(desk)
    look = "(is) => { Object.defineProperty(document, 'hidden', {value: is, configurable: true});"
    look += " document.dispatchEvent(new Event('visibilitychange')); }"
    await desk.evaluate(look, True)
    await desk.clock.run_for(6000)
    await expect(desk.locator("#live")).to_have_text("paused")
    await writes(stage.mia, stage.helpdesk, text="Nobody is looking")
    await desk.clock.run_for(6000)
    assert await desk.get_by_text("Nobody is looking").count() == 0
    await desk.evaluate(look, False)
    await is_live(desk)
    async with asyncio.timeout(PATIENCE):
        while not await desk.get_by_text("Nobody is looking").count():
            await desk.clock.run_for(200)


async def test_a_session_that_ends_is_told(stage: ConsoleStage) -> None:
    service = await stage.world.service("Short", scopes=["read"])
    async with stage.at(service.key) as page:
        await page.goto(stage.url("/console/conversations"))
        await is_live(page)
        await stage.world.call("DELETE", f"/v1/admin/services/{service.id}")
        await expect(page.locator("#live")).to_have_text("logged out")
        await page.reload()
        await expect(page.get_by_label("API key")).to_be_visible()


async def test_c2_reveal_by_keyboard_alone(stage: ConsoleStage, desk: Page) -> None:
    """From the first key to a masked message in full: skip link, search, link, form."""
    await desk.goto(stage.url("/console"))
    await desk.keyboard.press("Tab")
    await expect(desk.get_by_role("link", name="Skip to the content")).to_be_focused()
    await desk.keyboard.press("Enter")
    await expect(desk.locator("main")).to_be_focused()
    await desk.get_by_role("searchbox").focus()
    await desk.keyboard.type(stage.ids["masked"])
    await desk.keyboard.press("Enter")
    await desk.wait_for_url(stage.url(f"/console/messages/{stage.ids['masked']}"))
    assert SECRET_TEXT not in await desk.content()
    await desk.get_by_label("Show what it says, because").focus()
    await desk.keyboard.type("a complaint")
    await desk.keyboard.press("Tab")
    await expect(desk.get_by_role("button", name="Reveal")).to_be_focused()
    await desk.keyboard.press("Enter")
    await expect(desk.get_by_text(SECRET_TEXT)).to_be_visible()
    await assert_accessible(desk)
    await desk.get_by_role("link", name="Hide it again").click()
    await expect(desk.get_by_label("Show what it says, because")).to_be_visible()
    assert SECRET_TEXT not in await desk.content()


async def _is_called(stage: ConsoleStage, message: str, code: str) -> None:
    """A call of the provider's that ended so; no event tells of it."""
    async with connected(stage.database_url) as conn:
        await conn.execute(
            "insert into provider_call (message_id, began_at, attempt, requests, outcome, code)"
            " values ($1, now(), 7, 1, 'not_taken', $2)",
            parse_id("msg", message), code,
        )  # fmt: skip


async def _something_happens(stage: ConsoleStage, message: str, code: str) -> None:
    """The same, and an event that tells pages to look."""
    await _is_called(stage, message, code)
    await stage.mia.says(f"And what about {code}?")


async def test_what_nobody_tells_of_is_looked_at_every_minute(stage: ConsoleStage, desk: Page) -> None:
    await desk.clock.install()
    await desk.goto(stage.url(f"/console/messages/{stage.ids['masked']}"))
    await is_live(desk)
    await _is_called(stage, stage.ids["masked"], "payment_required")
    await desk.clock.fast_forward(61_000)
    await expect(desk.locator("#story")).to_contain_text("payment_required")


async def test_what_was_filled_in_outlives_what_happens_meanwhile(stage: ConsoleStage, desk: Page) -> None:
    """A half-filled form stays as it is when its region is out of date, its button in hand or not; the rest of the page
    goes on. What was revealed goes on being revealed.
    """
    sent = await stage.crm.reply(stage.ids["cnv"], SECRET_TEXT, agent="Chris", query="?wait=5")
    message = sent.json["message"]["id"]
    await desk.goto(stage.url(f"/console/messages/{message}"))
    await is_live(desk)
    reason, story = desk.get_by_label("Show what it says, because"), desk.locator("#story")
    await reason.fill("a complaint")
    await desk.keyboard.press("Tab")
    await _something_happens(stage, message, "throttled")
    await expect(story).to_contain_text("throttled")
    await expect(reason).to_have_value("a complaint")
    await desk.keyboard.press("Enter")
    await expect(desk.get_by_text(SECRET_TEXT)).to_be_visible()
    await is_live(desk)
    await _something_happens(stage, message, "unreachable")
    await expect(story).to_contain_text("unreachable")
    await expect(desk.get_by_text(SECRET_TEXT)).to_be_visible()


async def test_without_scripts_all_of_it_works(stage: ConsoleStage) -> None:
    async with stage.at(None, java_script_enabled=False) as page:
        await stage.log_in(page, ADMIN)
        await expect(page.get_by_role("heading", name="Needs attention")).to_be_visible()
        await expect(page.locator("#live")).to_be_hidden()
        await page.get_by_role("navigation", name="Console").get_by_role("link", name="Conversations").click()
        await page.get_by_role("link", name=HOSTILE[:20]).first.click()
        await expect(page.locator("#timeline .said").get_by_text(HOSTILE)).to_be_visible()
        await page.locator(".entry-time").first.click()
        await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
        await page.get_by_role("searchbox").fill("+49 151 12345678")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("link", name="Mia Keller").first.click()
        await expect(page.get_by_role("heading", name="Mia Keller").first).to_be_visible()


async def test_what_happened_to_a_message_is_told(stage: ConsoleStage, desk: Page) -> None:
    """Ingress, rules, the provider's calls, statuses, deliveries with attempts, clicks."""
    expected = {
        "received": ("Ingress", "Rules applied", "Deliveries"),
        "linked": ("Rules applied", "Provider calls", "Statuses", "Deliveries", "Links and clicks"),
        "failed": ("Provider calls", "Statuses"),
    }
    for name, headings in expected.items():
        await desk.goto(stage.url(f"/console/messages/{stage.ids[name]}"))
        for heading in headings:
            await expect(desk.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    await expect(desk.locator("#parts")).to_contain_text("131026")
