"""What every backend on a shared number does: connect, verify, drop repeats, answer quickly, reply.

The three services beside this file are built on it. It needs nothing of the hub's code, only HTTP and two packages:
`aiohttp`, and `standardwebhooks` to verify signatures. Copy what you need.
"""

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

Event = dict[str, Any]
REMEMBERED = 10_000


class Backend:
    """One service. A subclass says what it does with an event (`on_event`) and what its page shows (`page`)."""

    name = "backend"

    def __init__(self, hub: str, key: str, number: str, *, say: Callable[[str], None] = print) -> None:
        self.hub, self.number, self.say = hub.rstrip("/"), number, say
        self._headers = {"Authorization": f"Bearer {key}"}
        self._secret = ""
        self._connected = asyncio.Event()
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._seen: dict[str, None] = {}  # a real service keeps these ids in its database, together with the work

    async def on_event(self, event: Event) -> None:
        """Work on one event: `{type, timestamp, data}`. Comes once for each, in order within a conversation."""

    def page(self) -> str:
        """What a browser sees at `/`."""
        return self.name

    # To the hub ------------------------------------------------------------------------------------------------------

    async def connect(self, endpoint_url: str) -> dict[str, Any]:
        """Join the number: the first service is its parent, the others are subscribers. Calling it again is fine."""
        self._connected.clear()
        connection = await self.call("PUT", f"/v1/numbers/{self.number}/connection", {"endpoint_url": endpoint_url})
        if "signing_secret" not in connection:  # shown only once: keep yours, or ask for another like this
            connection |= await self.call("POST", f"/v1/numbers/{self.number}/connection/rotate-secret")
        self._secret = connection["signing_secret"]
        self._connected.set()
        return connection

    async def reply(self, conversation_id: str, text: str, *, agent: str, once: str) -> dict[str, Any]:
        """Reply as a person. `once` is the Idempotency-Key: after a crash or a time-out, send the same one again."""
        body = {"origin": "agent", "agent": {"id": agent.lower(), "name": agent}, "type": "text", "text": text}
        path = f"/v1/conversations/{conversation_id}/messages"
        return await self.call("POST", path, body, {"Idempotency-Key": once})

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Call the hub's API; raises RuntimeError with what the hub says where it refuses."""
        async with self._session.request(method, self.hub + path, json=body, headers=headers) as answer:
            told: dict[str, Any] = await answer.json(content_type=None) if answer.status != 204 else {}
            if answer.status >= 400:
                raise RuntimeError(f"{answer.status} {told['code']}: {told['detail']}")
            return told

    # From the hub ----------------------------------------------------------------------------------------------------

    def build_app(self) -> web.Application:
        """The HTTP server: webhooks from the hub, and a page for people."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/webhooks", self._take)
        app.router.add_get("/", self._show)
        app.cleanup_ctx.append(self._work)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        """Verify, drop repeats, queue, answer: work that takes time must not keep the hub waiting."""
        body = await request.read()
        await self._connected.wait()  # the first event can be faster than the hub's answer to our connect
        try:
            event = Webhook(self._secret).verify(body, dict(request.headers))
        except (WebhookVerificationError, ValueError):
            return web.Response(status=401)
        if request.headers["webhook-id"] not in self._seen:
            self._seen[request.headers["webhook-id"]] = None
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._inbox.put_nowait(event)
        return web.Response(status=204)

    async def _show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page() + "\n")

    async def _work(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(headers=self._headers) as self._session:
            worker = asyncio.create_task(self._handle_events())
            yield
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    async def _handle_events(self) -> None:
        while True:
            event = await self._inbox.get()
            try:
                await self.on_event(event)
            except Exception as error:  # one event that fails must not stop the next
                self.say(f"{self.name}: {event['type']} failed: {error}")


def main(service: type[Backend]) -> None:
    """Run one service from the command line until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=service.__doc__)
    parser.add_argument("--hub", required=True, help="where the hub is, such as http://127.0.0.1:8080")
    parser.add_argument("--key", required=True, help="this service's API key")
    parser.add_argument("--number", required=True, help="the shared number, such as +15550001111")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; a free one unless given")
    parser.add_argument("--endpoint", help="how the hub reaches this service, where that is another address")
    options = parser.parse_args()
    backend = service(options.hub, options.key, options.number)
    try:
        asyncio.run(_serve(backend, options.port, options.endpoint))
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"{backend.name}: {error}") from None


async def _serve(backend: Backend, port: int, endpoint: str | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(backend.build_app(), shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()  # listen first: events come as soon as we are connected
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connection = await backend.connect(endpoint or f"{url}/webhooks")
        backend.say(f"{backend.name} is {connection['role']} on {backend.number}, and shows itself at {url}")
        await stop.wait()
    finally:
        await runner.cleanup()
