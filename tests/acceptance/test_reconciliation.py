"""An outage of the hub during 200 messages over Twilio: all are there afterwards, once, in their order (rule B3)."""

import asyncio
import random
import time
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from hub.app import running
from providers.simulator import Customer, Fault, NotAccepted, Number, Person, Simulator, StatusPlan, meta_webhooks
from tests.support.talk import ends, pages, timeline
from tests.support.wire import PUBLIC_URL, Wire, ask, sms
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Service, World, settings_for

MESSAGES = 200
SENDERS = [{"medium": medium, "provider": "twilio", "external_id": NUMBER} for medium in ("whatsapp", "sms")]
LIVE = "043"
"""One whose webhook comes after all, just when it is fetched; by SMS."""
DOWN = Fault.unavailable()
AGO_SQL = """
with registered as (update sender set created_at = $1) update reconciliation set begun_at = $1, until = $1"""


def people() -> list[tuple[Person, str]]:
    """By SMS, by WhatsApp, and by WhatsApp without a phone."""
    by_sms = [(Person(f"+4915100000{n:03}"), "sms") for n in range(8)]
    by_phone = [(Person(f"+4915200000{n:03}", name=f"P{n}"), "whatsapp") for n in range(8)]
    return by_sms + by_phone + [(Person(None, user_id=f"US.{1000 + n}", name=f"N{n}"), "whatsapp") for n in range(4)]


def received(service: Service) -> dict[str, list[dict[str, Any]]]:
    """What a service heard of each conversation, as it came; each event once: deliveries may repeat (G2)."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    events = {delivery.id: delivery.data for delivery in reversed(service.endpoint.of("message.received"))}
    for _, data in sorted(events.items(), key=lambda event: event[1]["conversation"]["sequence"]):
        found[data["conversation"]["id"]].append(data)
    return found


async def writes_unheard(customer: Customer, text: str, at: float, file: str | None) -> None:
    """Write while no hub listens."""
    content = meta_webhooks.media("image", file, "image/jpeg", caption=text) if file else meta_webhooks.text(text)
    with suppress(NotAccepted):
        await customer.sends(content, at=at)


async def test_b3_an_outage_during_200_messages(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(numbers=[Number(NUMBER, PHONE_NUMBER_ID)], public_url=PUBLIC_URL)
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        settings = settings_for(simulator, database_url, tmp_path)
        now = time.time()

        async with running(settings) as hub:
            simulator.hub_url = hub.url
            made = World(hub, simulator, session)
            stack.push_async_callback(lambda: stop(made))
            answer = await made.call("POST", "/v1/admin/numbers", {"e164": NUMBER, "senders": SENDERS})
            assert answer.status == 201, answer
            (helpdesk,) = await made.connected("helpdesk")
            customers = [made.customer(person, provider="twilio", medium=medium) for person, medium in people()]
            for customer in customers[::2]:
                await customer.says("before")
            await helpdesk.endpoint.hears("message.received", len(customers) // 2)
            simulator.status_plan = StatusPlan(steps=("sent",))
            first = helpdesk.endpoint.of("message.received")[0].data["conversation"]["id"]
            reply = (await helpdesk.reply(first, "An answer")).json["message"]["id"]
            await ends(helpdesk, reply, "sent")

        # Nobody listens: 200 messages of the last minutes, and that our answer was delivered.
        times = [now - 500 + 2 * n for n in range(MESSAGES)]
        file = simulator.add_inbound_media(b"\xff\xd8\xff\xe0 a picture", "image/jpeg")
        said = [(f"{n:03}", at, customers[n * 7 % len(customers)]) for n, at in enumerate(times)]
        shuffled = random.Random(6).sample(said, len(said))
        for text, at, customer in shuffled:
            await writes_unheard(customer, text, at, file if int(text) % 50 == 7 else None)
        await simulator.report(simulator.sent[-1], "delivered")
        listed = simulator.twilio_api.messages
        said_first = next(m for m in listed.values() if m["body"] == "000")
        listed[simulator.sent[-1].provider_id]["date_sent"] = said_first["date_sent"]  # what is new is left alone
        await ask(database_url, AGO_SQL, datetime.fromtimestamp(now, UTC) - timedelta(minutes=30))

        async with running(settings) as hub:
            simulator.hub_url, made.hub = hub.url, hub
            sid = next(m["sid"] for m in simulator.twilio_api.messages.values() if m["body"] == LIVE)
            live = sms(LIVE, customers[int(LIVE) * 7 % len(customers)].person.phone or "", MessageSid=sid)
            done, late = await asyncio.gather(made.call("POST", "/v1/admin/reconciliation"), Wire(made).twilio(live))
            assert late.status == 200
            (told,) = done.json["providers"]
            assert (told["provider"], told["outcome"]) == ("twilio", "done"), done
            everybody = len(customers) // 2 + MESSAGES
            await helpdesk.endpoint.wait(lambda _: sum(map(len, received(helpdesk).values())) >= everybody)
            stored = "select count(*) from message where direction = 'inbound'"
            assert await ask(database_url, stored) == everybody
            assert (await ends(helpdesk, reply, "delivered"))["status_times"]["delivered"]

            heard = received(helpdesk)
            everything = [data for talk in heard.values() for data in talk]
            texts = sorted(data["message"]["text"] for data in everything)
            assert texts == sorted([name for name, _, _ in said] + ["before"] * (len(customers) // 2))
            assert len(heard) == len(customers)
            for talk in heard.values():
                fetched = [d["message"] for d in talk if d["message"]["text"] not in {"before", LIVE}]
                assert all(message["reconciled"] is True for message in fetched)
                assert [message["text"] for message in fetched] == sorted(message["text"] for message in fetched)
                moments = [datetime.fromisoformat(message["provider_time"]) for message in fetched]
                assert moments == [datetime.fromtimestamp(int(times[int(m["text"])]), UTC) for m in fetched]
                sequences = [data["conversation"]["sequence"] for data in talk]
                assert sequences == sorted(set(sequences))
            pictures = [data["message"] for data in everything if data["message"].get("media")]
            assert sorted(message["text"] for message in pictures) == ["007", "057", "107", "157"]
            nameless = [d for d in everything if d["contact"]["addresses"][0]["type"] == "user_id"]
            assert len({d["contact"]["id"] for d in nameless}) == 4

            await check_paging(helpdesk, first)
            again = (await made.call("POST", "/v1/admin/reconciliation")).json["providers"][0]
            assert (again["outcome"], again["taken"]) == ("done", 0)
            marks = (await made.call("GET", "/v1/admin/reconciliation")).json["providers"]
            assert [(mark["provider"], mark["outcome"], mark["taken"]) for mark in marks] == [("twilio", "done", 0)]
            simulator.fail_next_asked(DOWN)
            failed = await made.call("POST", "/v1/admin/reconciliation")
            assert (failed.status, failed.json["code"]) == (503, "provider_unavailable")


async def check_paging(service: Service, conversation: str) -> None:
    """By the provider's time, from both ends, every message once; by number, as ever."""
    path = f"/v1/conversations/{conversation}/messages?limit=4&sort=provider_time"

    async def call(path: str) -> Any:
        return await service.call("GET", path)

    back = await pages(call, path, "before")
    forth = await pages(call, path, "after", "&after=0")
    by_number = await timeline(service, conversation, "?limit=200")
    assert {m["id"] for m in back} == {m["id"] for m in by_number}
    assert len(back) == len(by_number)
    assert forth == back[::-1]
    moments = [datetime.fromisoformat(m["provider_time"] or m["created_at"]) for m in forth]
    assert moments == sorted(moments)
    assert [m["text"] for m in forth][-2:] == ["before", "An answer"]
    assert [m["text"] for m in by_number][-2:] == ["An answer", "before"]
    for query, code in (("sort=name", "invalid_request"), ("sort=provider_time&before=7", "invalid_cursor")):
        refused = await service.call("GET", f"/v1/conversations/{conversation}/messages?{query}")
        assert (refused.status, refused.json["code"]) == (422, code)


async def stop(made: World) -> None:
    """Its endpoints outlive its hubs."""
    for subscriber in made.subscribers:
        await subscriber.stop()
