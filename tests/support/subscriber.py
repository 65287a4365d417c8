"""A service's backend: an endpoint that verifies what it gets with the stock `standardwebhooks` package."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.support import contract


@dataclass
class Delivery:
    """One webhook as it arrived, verified."""

    id: str
    type: str
    data: dict[str, Any]
    at: float
    headers: dict[str, str]


@dataclass
class Subscriber:
    """Listens on loopback, keeps every delivery; `answer` decides the HTTP status."""

    secret: str = ""
    answer: Callable[[Delivery], int] = lambda _: 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    deliveries: list[Delivery] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    url: str = ""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            server = self._runner.server
            await self._runner.cleanup()
            for _ in range(5):  # what was accepted while it closed becomes a connection only now
                await asyncio.sleep(0)
            for late in server.connections if server else ():
                if late.transport is not None:
                    late.transport.abort()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            Webhook(self.secret).verify(body, headers)
        except Exception as error:
            self.refused.append(repr(error))
            return web.Response(status=401)
        document = json.loads(body)
        contract.hear(document)
        delivery = Delivery(headers["webhook-id"], document["type"], document["data"], time.perf_counter(), headers)
        status = self.answer(delivery)
        if status < 300:
            self.deliveries.append(delivery)
            self._changed.set()
        return web.Response(status=status, headers=self.headers, body=self.body)

    def of(self, kind: str) -> list[Delivery]:
        """Deliveries of one event type, in order of arrival."""
        return [delivery for delivery in self.deliveries if delivery.type == kind]

    async def wait(self, is_there: Callable[["Subscriber"], bool], seconds: float = 10) -> None:
        """Wait until a condition over the deliveries holds."""
        async with asyncio.timeout(seconds):
            while not is_there(self):
                self._changed.clear()
                await self._changed.wait()

    async def hears(self, kind: str, count: int = 1, seconds: float = 10) -> list[Delivery]:
        """Wait for so many events of a type; gives them."""
        await self.wait(lambda me: len(me.of(kind)) >= count, seconds)
        return self.of(kind)
