"""What the three services beside this file share: connect, take webhooks, reply, and show a page to people.

It needs nothing of the hub's code, only `partyline_client` (docs/client.md) and `aiohttp`. Copy what you need.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable

from aiohttp import web

from partyline_client import Event, PartylineError, Receiver, Store
from partyline_client.aiohttp import AsyncHub, webhook
from partyline_client.sequences import Missing
from partyline_client.views import Connection, Sent


class Backend:
    """One service. A subclass says what it does with an event (`on_event`) and what its page shows (`page`)."""

    name = "backend"

    def __init__(
        self, hub: str, key: str, number: str, *, data: str = ":memory:", say: Callable[[str], None] = print
    ) -> None:
        self.hub, self.number, self.say = AsyncHub(hub, key), number, say
        self.store = Store(data)  # what it must not forget: signing secrets, and which events are done

    async def on_event(self, event: Event) -> None:
        """Work on one event. They come in order within a conversation; one that raises comes again."""

    def on_gap(self, event: Event, missing: Missing) -> None:
        """Events that never came; `hub.replay` could ask for them."""
        self.say(f"{self.name}: {missing} of {event.conversation_id} never came")

    def page(self) -> str:
        """What a browser sees at `/`."""
        return self.name

    async def connect(self, endpoint_url: str) -> Connection:
        """Join the number: the first service is its parent, the others are subscribers. Calling it again is fine."""
        return await self.hub.join(self.number, self.store.secrets, endpoint_url=endpoint_url)

    async def reply(self, chat: Event | str, text: str, *, agent: str, once: str) -> Sent:
        """Reply as a person. `once` is the Idempotency-Key: after a crash or a time-out, send the same one again."""
        person = {"id": agent.lower(), "name": agent}
        return await self.hub.reply(chat, text, agent=person, idempotency_key=once)

    def build_app(self) -> web.Application:
        """The HTTP server: webhooks from the hub, and a page for people."""
        app, store = web.Application(client_max_size=4 * 1024 * 1024), self.store
        take = webhook(
            Receiver(store.secrets), self.on_event, seen=store.seen, sequences=store.sequences, on_gap=self.on_gap
        )
        app.add_routes([web.post("/webhooks", take), web.get("/", self._show)])
        app.on_cleanup.append(self._close)
        return app

    async def _show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page() + "\n")

    async def _close(self, _: web.Application) -> None:
        await self.hub.close()
        self.store.close()


def main(service: type[Backend]) -> None:
    """Run one service from the command line until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=service.__doc__)
    parser.add_argument("--hub", required=True, help="where the hub is, such as http://127.0.0.1:8080")
    parser.add_argument("--key", required=True, help="this service's API key")
    parser.add_argument("--number", required=True, help="the shared number, such as +15550001111")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; a free one unless given")
    parser.add_argument("--endpoint", help="how the hub reaches this service, where that is another address")
    parser.add_argument("--data", default=":memory:", help="file that remembers; in memory unless given")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(service, options))
    except (PartylineError, OSError, ValueError) as error:
        raise SystemExit(f"{service.name}: {error}") from None


async def _serve(service: type[Backend], options: argparse.Namespace) -> None:
    backend = service(options.hub, options.key, options.number, data=options.data)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(backend.build_app(), shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port).start()  # listen first: events come once we are connected
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connection = await backend.connect(options.endpoint or f"{url}/webhooks")
        backend.say(f"{backend.name} is {connection['role']} on {backend.number}, and shows itself at {url}")
        await stop.wait()
    finally:
        await runner.cleanup()
