"""A hub with something on every page of the console, and people in front of it.

`open_console` makes it, and `tests/browser/console/conftest.py` has it as the fixture `stage`, one for all modules:

    pytestmark = pytest.mark.asyncio(loop_scope="session")

    async def test_something(stage: ConsoleStage) -> None:
        async with stage.at(ADMIN, color_scheme="dark", viewport=PHONE) as page:
            await page.goto(stage.url("/console/quarantine"))
            await assert_accessible(page)
            await assert_fits(page)

What there is: `helpdesk` (parent of both numbers), `crm` (subscriber of the first, may see profiles; takes nothing from
one conversation), `marketing` (a standalone channel, paused); `mia` on WhatsApp, who is on both channels and got masked
replies, one that failed and one with a tracked link that was clicked; `bob` on SMS; `eve`, whose name and words are
markup (`HOSTILE`); entries in quarantine, dead letters.
Tests share it: they may add to it, and must not take away what others look at.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize

from hub.domain.ids import parse_id
from providers.simulator import Customer, Fault, Person
from tests.browser.chromium import device
from tests.support.talk import automates, conversation_of, ends, writes
from tests.support.wire import Wire, connected
from tests.support.world import ADMIN, NUMBER, Service, World, world

PHONE = ViewportSize(width=360, height=740)
DESK = ViewportSize(width=1280, height=800)
WIDE = ViewportSize(width=1920, height=1080)
SCOPES = ["read", "reply", "automate", "profiles"]
SECRET_TEXT = "The customer is difficult"
"""What the CRM wrote: masked for the operator and for the helpdesk."""
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'>&lt;"


@dataclass
class ConsoleStage:
    """Everything that pages are looked at with; names of pages' ids in `ids`: cnv, masked, failed, linked, event..."""

    world: World
    browser: Browser
    database_url: str
    helpdesk: Service
    crm: Service
    marketing: Service
    mia: Customer
    bob: Customer
    eve: Customer
    ids: dict[str, str] = field(default_factory=dict)
    _logged_in: dict[str, Any] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """The address of a page; browsers take cookies for https there, too."""
        return f"http://console.localhost:{urlsplit(self.world.hub.url).port}{path}"

    @asynccontextmanager
    async def at(self, key: str | None = ADMIN, **options: Any) -> AsyncIterator[Page]:
        """A page of somebody who is logged in with this key (None: nobody); `options` as of a browser's context."""
        if key and key not in self._logged_in:
            async with device(self.browser) as context:
                page = await context.new_page()
                await self.log_in(page, key)
                self._logged_in[key] = await context.storage_state()
        state = {"storage_state": self._logged_in[key]} if key else {}
        async with device(self.browser, **({"viewport": DESK} | state | options)) as context:
            page = await context.new_page()
            yield page
            await page.goto("about:blank")

    async def log_in(self, page: Page, key: str) -> None:
        """As people do it."""
        await page.goto(self.url("/console/login"))
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(self.url("/console"))

    def pages(self) -> dict[str, str]:
        """Paths of pages that show something, by name: the foundation's; modules add their own."""
        return {
            "overview": "/console",
            "conversations": "/console/conversations",
            "waiting": "/console/conversations?show=waiting",
            "held": "/console/conversations?show=held",
            "all": "/console/conversations?show=all",
            "conversation": f"/console/conversations/{self.ids['cnv']}",
            "hostile": f"/console/conversations/{self.ids['hostile']}",
            "sms": f"/console/conversations/{self.ids['sms']}",
            "received": f"/console/messages/{self.ids['received']}",
            "masked": f"/console/messages/{self.ids['masked']}",
            "failed": f"/console/messages/{self.ids['failed']}",
            "event": f"/console/events/{self.ids['event']}",
            "search": "/console/search?q=Mia",
            "nothing": "/console/search?q=nobody-at-all",
            "missing": "/console/conversations/cnv_00000000000000000000000000000000",
        }


async def assert_accessible(page: Page, *, but: tuple[str, ...] = ()) -> None:
    """No serious or critical finding of axe on the page as it is; `but`: ids of rules that do not count here."""
    found = await Axe().run(page)
    grave = [
        f"{one['id']} ({one['impact']}): {one['help']} {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found.response["violations"]
        if one["impact"] in {"serious", "critical"} and one["id"] not in but
    ]
    assert grave == [], f"{page.url}: {grave}"


async def assert_fits(page: Page) -> None:
    """The page does not scroll sideways; what is too wide scrolls inside its own box."""
    script = """() => [...document.querySelectorAll("body *")].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.right > document.documentElement.clientWidth + 1 && !one.closest(".table, pre, .hidden, .scroll");
    }).slice(0, 5).map((one) => one.outerHTML.slice(0, 120))"""
    is_wide = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await page.evaluate(is_wide), f"{page.url}: {await page.evaluate(script)}"


async def is_live(page: Page) -> None:
    """Wait until the page follows what happens, and has caught up with what happened while it was loaded."""
    await page.locator("#live[data-state=live]").wait_for()


@asynccontextmanager
async def open_console(
    browser: Browser, database_url: str, folder: Path, **settings: Any
) -> AsyncIterator[ConsoleStage]:
    """A hub, and all that happened on it."""
    async with AsyncExitStack() as stack:
        usual: dict[str, Any] = {
            "link_base_url": "https://go.shop.example",
            "site_domains": ("shop.example",),
            "tracking_consent": "implied",
            "phone_region": "DE",
            "whatsapp_rate": 500,
            "sms_rate": 500,
        }
        made = await stack.enter_async_context(world(database_url, folder, **(usual | settings)))
        helpdesk = await made.service("Helpdesk", scopes=SCOPES)
        crm = await made.service("CRM", scopes=SCOPES)
        marketing = await made.service(f"Marketing {HOSTILE[:40]}", plan="standalone")
        for service in (helpdesk, crm, marketing):
            await service.connect()
        await helpdesk.call("PUT", "/v1/numbers/+15550002222/connection", {})  # where it pulls its events
        mia = made.customer(Person("+4915112345678", name="Mia Keller"))
        bob = made.customer(Person("+4915187654321"), provider="twilio", medium="sms")
        eve = made.customer(Person("+4915155555555", name=HOSTILE))
        stage = ConsoleStage(made, browser, database_url, helpdesk, crm, marketing, mia, bob, eve)
        await _play(stage)
        yield stage


async def _play(stage: ConsoleStage) -> None:
    """What happened: a day of a small business."""
    helpdesk, crm, ids = stage.helpdesk, stage.crm, stage.ids
    ids["cnv"] = cnv = await writes(stage.mia, helpdesk, crm, text="Hello, my order 4711 has not come yet")
    heard = helpdesk.endpoint.of("message.received")[-1]
    ids |= {
        "received": heard.data["message"]["id"],
        "event": heard.data["event_id"],
        "contact": heard.data["contact"]["id"],
    }
    await crm.call("PUT", "/v1/consents/whatsapp/+4915112345678", {"status": "granted", "evidence": "web form"})
    ids["masked"] = await _sends(crm, cnv, SECRET_TEXT, agent="Chris")
    ids["linked"] = await _sends(helpdesk, cnv, "Track it here: https://www.shop.example/orders/4711?from=chat")
    await _follow_link(stage)
    stage.world.simulator.fail_next(Fault.refused(131026))
    failed = await helpdesk.reply(cnv, "And once more, with the receipt")
    ids["failed"] = failed.json["message"]["id"]
    await ends(helpdesk, ids["failed"], "failed")
    await automates(helpdesk, cnv, "We are closed until nine.", origin="auto_reply")
    ids["hostile"] = await writes(stage.eve, helpdesk, crm, text=HOSTILE)
    ids["sms"] = await writes(stage.bob, helpdesk, crm, text="Do you open on Sunday?")
    agent = {"agent": {"id": "ana", "name": "Ana"}}
    await helpdesk.call("POST", f"/v1/conversations/{ids['cnv']}/pickup", agent)
    await helpdesk.call(
        "POST", f"/v1/conversations/{ids['sms']}/pass", {"to": crm.id, "note": "A sale, please", **agent}
    )
    await stage.marketing.call("POST", f"/v1/numbers/{NUMBER}/connection/pause")
    await _misfortune(stage)


async def _sends(service: Service, conversation: str, text: str, agent: str = "Ana") -> str:
    answer = await service.reply(conversation, text, agent=agent, query="?wait=5")
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


async def _follow_link(stage: ConsoleStage) -> None:
    """Mia taps the link that she got."""
    text = next(str(one.text) for one in reversed(stage.mia.received) if "Track it" in str(one.text))
    token = re.search(r"https://go\.shop\.example/(\w+)", text)
    assert token, text
    headers = {
        "Host": "go.shop.example",
        "User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        " Version/19.0 Mobile/15E148 Safari/604.1",
        "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept-Language": "de", "Accept": "text/html",
    }  # fmt: skip
    async with stage.world.session.get(
        f"{stage.world.hub.url}/{token[1]}", headers=headers, allow_redirects=False
    ) as got:
        assert got.status == 302


async def _misfortune(stage: ConsoleStage) -> None:
    """Items that cannot be taken in, a conversation that an endpoint refuses, and events that were given up."""
    wire = Wire(stage.world)
    value = {"metadata": {"phone_number_id": "999"}, "messaging_product": "whatsapp", "messages": [
        {"from": "4915112345678", "id": f"wamid.q{number}", "timestamp": "1770000000", "type": "text",
         "text": {"body": HOSTILE}} for number in range(2)]}  # fmt: skip
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
    }
    assert (await wire.meta(body)).status == 200
    async with connected(stage.database_url) as conn:
        # Three days of failures, without waiting for them.
        await conn.execute(
            "insert into dead_letter (subscription_id, event_id, attempts, last_error)"
            " select s.id, e.id, 11, 'http_422' from subscription s,"
            " (select id from event where conversation_id is not null order by id limit 3) e"
            " where s.service_id = $1 and s.disconnected_at is null",
            parse_id("svc", stage.crm.id),
        )


def talk_of(service: Service, text: str) -> str:
    """In which conversation a service heard this."""
    return conversation_of(service, text)
