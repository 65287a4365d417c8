"""What every backend on a shared number does: connect, verify, drop repeats, see gaps, do the work, answer, reply.

The three services beside this file are built on it. It needs nothing of the hub's code, only `partyline_client`
(docs/client.md) and `aiohttp`, for which any web framework would do. Copy what you need.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable
from typing import Any

from aiohttp import web

from partyline_client import DONE, Event, Hub, PartylineError, Receiver, Seen, Sequences, answer_for


class Backend:
    """One service. A subclass says what it does with an event (`on_event`) and what its page shows (`page`)."""

    name = "backend"

    def __init__(self, hub: str, key: str, number: str, *, say: Callable[[str], None] = print) -> None:
        self.hub, self.number, self.say = Hub(hub, key), number, say
        self._secrets: list[str] = []  # a real service keeps them with its other secrets
        self._connected = asyncio.Event()
        self._receiver = Receiver(lambda: self._secrets)
        self._seen = Seen()  # a real service keeps these ids in its database, together with the work
        self._sequences = Sequences()

    async def on_event(self, event: Event) -> None:
        """Work on one event. They come in order within a conversation; one that raises comes again."""

    def page(self) -> str:
        """What a browser sees at `/`."""
        return self.name

    # To the hub ------------------------------------------------------------------------------------------------------

    async def connect(self, endpoint_url: str) -> dict[str, Any]:
        """Join the number: the first service is its parent, the others are subscribers. Calling it again is fine."""
        self._connected.clear()
        connection = await asyncio.to_thread(self.hub.connect, self.number, endpoint_url=endpoint_url)
        if "signing_secret" not in connection:  # shown only once: keep yours, or ask for another like this
            connection["signing_secret"] = await asyncio.to_thread(self.hub.rotate_secret, self.number)
        self._secrets = [connection["signing_secret"], *self._secrets[:1]]  # what is on its way has the old one
        self._connected.set()
        return connection

    async def reply(self, conversation_id: str, text: str, *, agent: str, once: str) -> dict[str, Any]:
        """Reply as a person. `once` is the Idempotency-Key: after a crash or a time-out, send the same one again."""
        person = {"id": agent.lower(), "name": agent}
        return await asyncio.to_thread(self.hub.reply, conversation_id, text, agent=person, idempotency_key=once)

    # From the hub ----------------------------------------------------------------------------------------------------

    def build_app(self) -> web.Application:
        """The HTTP server: webhooks from the hub, and a page for people."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/webhooks", self._take)
        app.router.add_get("/", self._show)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        """Verify, drop repeats, see gaps, work, and only then answer: what was answered with 200 never comes again."""
        body = await request.read()
        await self._connected.wait()  # the first event can be faster than the hub's answer to our connect
        answer = DONE
        try:
            event = self._receiver.receive(body, request.headers)
            with self._seen.handling(event.id) as is_new:
                if is_new:
                    if missing := self._sequences.observe(event).missing:
                        self.say(f"{self.name}: {missing} of {event.conversation_id} never came")
                    await self.on_event(event)
        except Exception as error:  # whatever it is, the hub wants to know
            self.say(f"{self.name}: an event was not taken: {error!r}")
            answer = answer_for(error)
        return web.Response(status=answer.status, headers=answer.headers)

    async def _show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page() + "\n")


def main(service: type[Backend]) -> None:
    """Run one service from the command line until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=service.__doc__)
    parser.add_argument("--hub", required=True, help="where the hub is, such as http://127.0.0.1:8080")
    parser.add_argument("--key", required=True, help="this service's API key")
    parser.add_argument("--number", required=True, help="the shared number, such as +15550001111")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; a free one unless given")
    parser.add_argument("--endpoint", help="how the hub reaches this service, where that is another address")
    options = parser.parse_args()
    try:
        backend = service(options.hub, options.key, options.number)
        asyncio.run(_serve(backend, options.port, options.endpoint))
    except (PartylineError, OSError, ValueError) as error:
        raise SystemExit(f"{service.name}: {error}") from None


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
