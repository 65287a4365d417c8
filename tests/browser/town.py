"""A whole hub with its sites in front of a real browser: a business, its customers, and their devices."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, Request

from examples.shop.hub import Hub as ShopHub
from examples.shop.shop import Shop
from providers.simulator import Person
from tests.browser.chromium import device
from tests.browser.stage import PATIENCE, Site, open_site, served
from tests.support.talk import ends, pages
from tests.support.world import NUMBER, Service, World, world

SECRET = "a-secret-of-the-shop"
GO, LNK = "go.shop.localhost", "lnk.other.localhost"
PHONE_AGENT = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36"
)
"""What Chromium on a phone says. Headless it says that it is, and robots do not count."""
SCOPES = ["read", "reply", "automate", "profiles"]
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_numbers = itertools.count(1)


@dataclass
class Door:
    """The proxy in front of the hub, as in production. It can hold answers back, so that requests cross."""

    port: int = 0
    hub_url: str = ""
    session: aiohttp.ClientSession | None = None
    _held: list[tuple[Callable[[web.Request], bool], asyncio.Event, "Held"]] = field(default_factory=list)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and its answer back."""
        assert self.session
        async with self.session.request(
            request.method,
            self.hub_url + request.raw_path,
            headers=request.headers,
            data=await request.read() or None,
            allow_redirects=False,
        ) as answer:
            response = web.Response(status=answer.status, body=await answer.read())
            for name, value in answer.headers.items():
                if name.lower() not in _HOP:
                    response.headers.add(name, value)
        for fits, gate, held in self._held:
            if fits(request):
                await held.add()
                await gate.wait()
        return response

    @contextmanager
    def holding(self, fits: Callable[[web.Request], bool]) -> Any:
        """Hold the answers to these requests back until the block ends, or `release` is called."""
        held = Held(asyncio.Event())
        entry = (fits, held.gate, held)
        self._held.append(entry)
        try:
            yield held
        finally:
            held.gate.set()
            self._held.remove(entry)


@dataclass
class Held:
    """Answers that wait at the door."""

    gate: asyncio.Event
    count: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self) -> None:
        """One more."""
        async with self._news:
            self.count += 1
            self._news.notify_all()

    async def reaches(self, count: int) -> None:
        """Wait until so many wait."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.count >= count)

    def release(self) -> None:
        """Let them go."""
        self.gate.set()


@dataclass
class Town:
    """`crm` writes to customers and may know of profiles; `site` is its site; `door` is in front of the hub."""

    world: World
    crm: Service
    door: Door
    site: Site
    link_host: str
    browser: Browser

    @property
    def tag(self) -> str:
        """The script tag of the site."""
        return self.tag_with("async")

    def tag_with(self, attributes: str) -> str:
        """The same with these attributes."""
        return f'<script {attributes} src="{self.collector}/t.js"></script>'

    @property
    def collector(self) -> str:
        """Where trackers report to."""
        return f"http://{GO}:{self.door.port}"

    @asynccontextmanager
    async def device(self, **options: Any) -> AsyncIterator["Device"]:
        """A new device of somebody's."""
        async with device(self.browser, **({"user_agent": PHONE_AGENT} | options)) as context:
            yield Device(self, context)

    def customer(self) -> "Customer":
        """Somebody new."""
        return Customer(self, f"+491512{1_000_000 + next(_numbers)}")

    async def request(self, link: str, **headers: str) -> int:
        """Ask for a link as something that is no browser; gives the status."""
        found = re.fullmatch(r"http://([^/]+)(/.*)", link)
        assert found
        url = f"http://127.0.0.1:{self.door.port}{found[2]}"
        given = {"Host": found[1], **headers}
        async with self.world.session.get(url, headers=given, allow_redirects=False) as answer:
            return answer.status


@dataclass
class Customer:
    """Somebody with a number of their own."""

    town: Town
    phone: str

    async def gets_link(self, path: str = "/landing", fragment: str = "", to: str | None = None) -> str:
        """A message with a tracked link to a page of the site, or elsewhere; gives the link."""
        town = self.town
        target = to or town.site.url(f"{path}?n={next(_numbers)}{fragment}")
        person = town.world.customer(Person(self.phone), provider="twilio", medium="sms")
        body = {"origin": "agent", "agent": {"id": "ana", "name": "Ana"}, "type": "text", "text": f"Look: {target}"}
        sent = await town.crm.call(
            "POST", "/v1/messages?wait=10", body | {"to": self.phone, "medium": "sms", "from": NUMBER}
        )
        assert sent.status == 202, sent
        await ends(town.crm, sent.json["message"]["id"], "delivered", "read")  # nobody taps it before they have it
        text = next(one.text for one in person.received if one.provider_id == sent.json["message"]["provider_id"])
        found = re.search(rf"http://{re.escape(town.link_host)}:[0-9]+/[0-9A-Za-z]+", str(text))
        assert found, text
        return found[0]

    async def agrees(self) -> None:
        """Lets themselves be tracked."""
        path = f"/v1/consents/tracking/{quote(self.phone)}"
        answer = await self.town.crm.call("PUT", path, {"status": "granted"})
        assert answer.status == 200, answer

    async def profile(self) -> dict[str, Any]:
        """The one contact with this number, as the CRM may see it."""
        answer = await self.town.crm.call("GET", f"/v1/contacts?address={quote(self.phone)}")
        assert answer.status == 200, answer
        (found,) = answer.json["items"]
        return dict(found)

    async def visited(self, *paths: str, in_order: bool = True) -> None:
        """These pages are on this contact's timeline, the oldest first, and no others. A click that the database was
        too slow for comes out of the spool a little later, and its landing with it.
        """
        arranged = list if in_order else sorted
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (found := arranged(await self._visits())) != list(paths) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        assert found == list(paths)

    async def _visits(self) -> list[str]:
        contact = (await self.profile())["id"]
        found = await pages(
            lambda path: self.town.crm.call("GET", path), f"/v1/contacts/{contact}/timeline?limit=200", "before"
        )
        views = [item["url"] for item in reversed(found) if item["type"] == "web.page"]
        return [re.sub(r"\?n=\d+", "", url).removeprefix(self.town.site.url("")) for url in views]


@dataclass
class Device:
    """A browser with cookies of its own."""

    town: Town
    context: BrowserContext

    async def visits(self, path: str, page: Page | None = None) -> Page:
        """Open a page of the site, and wait until the hub has it."""
        return await self._goes(self.town.site.url(path), path, page)

    async def opens(self, link: str, lands: str = "/landing", page: Page | None = None) -> Page:
        """Tap a link, arrive, and wait until the hub has it."""
        return await self._goes(link, lands, page)

    async def _goes(self, url: str, told: str, page: Page | None) -> Page:
        page = page or await self.context.new_page()
        async with page.expect_response(lambda answer: tells(answer.request, told)) as waiting:
            await page.goto(url)
        assert (await waiting.value).status == 204
        return page

    async def tells(self, page: Page, told: str, script: str) -> None:
        """Run a script on a page, and wait until the hub has what it tells."""
        async with page.expect_response(lambda answer: tells(answer.request, told)) as waiting:
            await page.evaluate(script)
        assert (await waiting.value).status in {200, 204}

    async def cookies(self) -> list[str]:
        """The names of its cookies of the hub."""
        return [str(cookie.get("name")) for cookie in await self.context.cookies()]


def tells(request: Request, what: str) -> bool:
    """Whether this is a tracker's report with this in it."""
    return request.url.endswith("/collect") and what in (request.post_data or "")


@asynccontextmanager
async def open_town(
    browser: Browser, database_url: str, folder: Path, *, link_host: str = GO, **settings: Any
) -> AsyncIterator[Town]:
    """A hub, its services, and a site that it tracks."""
    async with AsyncExitStack() as stack:
        door = Door()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", door.forward)
        door.port = await stack.enter_async_context(served(app))
        usual: dict[str, Any] = {
            "link_base_url": f"http://{link_host}:{door.port}",
            "collector_base_url": f"http://{GO}:{door.port}",
            "site_domains": ("shop.localhost",),
            "site_secrets": (SECRET,),
            "tracking_consent": "implied",
            "phone_region": "DE",
            "agent_per_minute": 0,
            "service_per_minute": 0,
            "new_conversations_per_hour": 0,
            "sms_rate": 500,
        }
        made = await stack.enter_async_context(world(database_url, folder, **(usual | settings)))
        door.hub_url = made.hub.url
        jar = aiohttp.DummyCookieJar()
        door.session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False))
        crm = await made.service("crm", scopes=SCOPES)
        await crm.connect()
        site = await stack.enter_async_context(open_site())
        town = Town(made, crm, door, site, link_host, browser)
        site.tag = town.tag
        yield town


@asynccontextmanager
async def open_shop(town: Town) -> AsyncIterator[str]:
    """The example shop, on the town's hub; gives where it is."""
    async with aiohttp.ClientSession() as session:
        shop = Shop(ShopHub(session, town.world.hub.url, town.crm.key), town.collector, SECRET, say=lambda _: None)
        async with served(shop.build_app()) as port:
            yield f"http://www.shop.localhost:{port}"
