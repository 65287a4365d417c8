"""A site whose pages load the tracker, and a collector that notes what it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson
from aiohttp import web

from hub.domain.link_tokens import VISITOR_COOKIE, new_secret
from hub.domain.tracking import ConsentMode, Tracking
from hub.http import tracker
from hub.http.context import CONTEXT

PATIENCE = 10.0
"""Seconds to wait for what must come."""


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[int]:
    """Serve an application on a free port of this machine; gives the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Site:
    """`www.shop.localhost`: a page at every path, with `tag` first in its head."""

    port: int = 0
    tag: str = ""
    head: str = ""
    body: str = "<h1>Shop</h1>"
    headers: dict[str, str] = field(default_factory=dict)

    def url(self, path: str = "/", host: str = "www.shop.localhost") -> str:
        """The address of a page."""
        return f"http://{host}:{self.port}{path}"

    async def show(self, request: web.Request) -> web.Response:
        """One of the pages; its title is its path."""
        if request.path == "/favicon.ico":
            return web.Response(status=204)
        head = f"<!doctype html><html lang=en><head>{self.tag}<title>{request.path}</title>{self.head}</head>"
        text = f"{head}<body>{self.body}</body></html>"
        return web.Response(text=text, content_type="text/html", headers=self.headers)


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    """A site that runs until the block ends."""
    site = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.show)
    async with served(app) as site.port:
        yield site


@dataclass
class Told:
    """One request of a tracker, read: its cookies, and what its body says."""

    cookies: dict[str, str]
    origin: str
    content_type: str
    mode: str
    said: dict[str, Any]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its events."""
        return list(self.said["events"])

    @property
    def session(self) -> str:
        """Its session."""
        return str(self.said["session"])


@dataclass
class Sink:
    """`go.shop.localhost`: serves the tracker and notes requests. It answers with `status` once `gate` is open."""

    port: int = 0
    told: list[Told] = field(default_factory=list)
    arrived: int = 0
    answered: int = 0
    status: int = 204
    answer: dict[str, Any] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def tag(self) -> str:
        """The script tag of the sites that report here."""
        return self.tag_with("async")

    def tag_with(self, attributes: str, host: str = "go.shop.localhost") -> str:
        """The script tag with these attributes."""
        return f'<script {attributes} src="http://{host}:{self.port}/t.js"></script>'

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events that were taken, in order."""
        return [event for told in self.told for event in told.events]

    def views(self) -> list[tuple[str, str]]:
        """Kind and path of every page view."""
        return [(event["kind"], event["url"].split("/", 3)[3]) for event in self.events if event["type"] == "page"]

    async def wait(self, holds: Callable[["Sink"], bool]) -> None:
        """Wait until this holds."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: holds(self))

    async def hears(self, count: int, kind: str = "page") -> dict[str, Any]:
        """Wait for so many events of a type; gives the last of them."""
        await self.wait(lambda me: len(me.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of a type."""
        return [event for event in self.events if event["type"] == kind]

    async def collect(self, request: web.Request) -> web.Response:
        """Take what a tracker tells."""
        said = orjson.loads(await request.read())
        async with self._news:
            self.arrived += 1
            self._news.notify_all()
        await self.gate.wait()
        response = (
            web.json_response(self.answer, status=self.status) if self.answer else web.Response(status=self.status)
        )
        origin = request.headers["Origin"]
        response.headers.update(
            {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}
        )
        if self.status < 300 and said["consent"] != "denied" and VISITOR_COOKIE not in request.cookies:
            response.set_cookie(VISITOR_COOKIE, new_secret(), secure=True, httponly=True, samesite="Lax", path="/")
        async with self._news:
            self.answered += 1
            if self.status < 500:
                mode = request.headers["Sec-Fetch-Mode"]
                self.told.append(Told(dict(request.cookies), origin, request.content_type, mode, said))
            self._news.notify_all()
        return response


@asynccontextmanager
async def open_sink(mode: ConsentMode = "implied") -> AsyncIterator[Sink]:
    """A collector that runs until the block ends."""
    sink = Sink()
    sink.gate.set()
    app = web.Application()
    app[CONTEXT] = SimpleNamespace(tracking=Tracking(consent=mode))  # type: ignore[assignment]
    tracker.add_routes(app)
    app.router.add_post("/collect", sink.collect)
    async with served(app) as sink.port:
        yield sink
