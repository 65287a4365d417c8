"""The smallest complete service: it connects to a number, hears its customers, and answers them.

HUB=http://127.0.0.1:8080 KEY=plk_... NUMBER=+15550001111 python examples/first_service.py
"""

import asyncio
import os
from contextlib import suppress

from aiohttp import web

from partyline_client import Event, Problem, Receiver, Store
from partyline_client.aiohttp import AsyncHub, webhook

PORT = int(os.environ.get("PORT", "9000"))
ENDPOINT = os.environ.get("ENDPOINT", f"http://127.0.0.1:{PORT}/partyline")  # as the hub reaches us
AGENT = {"id": "ana", "name": "Ana"}

hub = AsyncHub(os.environ["HUB"], os.environ["KEY"])
store = Store("first_service.db")  # signing secrets, and which events are done


async def work(event: Event) -> None:
    """What is done with an event; where this raises, the hub sends it again."""
    print(event.type, event.text or "", flush=True)
    if event.type == "message.received":
        try:
            answer = f"You wrote: {event.text or 'something else than text'}"
            await hub.reply(event, answer, agent=AGENT, idempotency_key=event.id)
        except Problem as refusal:
            if refusal.is_temporary:
                raise
            print("not sent:", refusal, flush=True)


async def main() -> None:
    """Listen first: events come as soon as we are connected."""
    app = web.Application()
    app.add_routes([web.post("/partyline", webhook(Receiver(store.secrets), work, seen=store.seen))])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, port=PORT).start()
    async with hub:
        connection = await hub.join(os.environ["NUMBER"], store.secrets, endpoint_url=ENDPOINT)
        print("connected as", connection["role"], flush=True)
        await asyncio.Event().wait()


with suppress(KeyboardInterrupt):
    asyncio.run(main())
