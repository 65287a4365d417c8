"""The client library against the hub: every call, webhooks through its adapters, and following over a restart."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hub.app import running as hub_running
from partyline_client import Event, Missing, Problem, Receiver, Seen, Store, follow_feed, follow_stream
from partyline_client.aiohttp import AsyncHub, webhook
from providers.simulator import Person
from tests.support.commands import ROOT, environment, running
from tests.support.serving import free_port, make_simulator, register
from tests.support.world import NUMBER, Open, World, settings_for

MIA = Person("+4915112345678", name="Mia")
BOB = Person("+4915187654321", name="Bob")
ANA = {"id": "ana", "name": "Ana"}
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "client.md").read_text(), re.MULTILINE | re.DOTALL)
SCOPES = ["read", "reply", "automate", "profiles"]


@asynccontextmanager
async def listening(*routes: web.RouteDef) -> AsyncIterator[str]:
    """A server with these routes; gives its URL."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until(is_there: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_there():
            await asyncio.sleep(0.01)


async def test_the_page_of_the_client_has_a_service_for_the_stream(hub_world: World, tmp_path: Path) -> None:
    """As it is there, going on from a position; it shares the number with the first service."""
    [program] = [code for code in PROGRAMS if "follow_stream(" in code]
    (tmp_path / "follower.py").write_text(program)
    key = (await hub_world.service("follower")).key
    async with AsyncHub(hub_world.hub.url, key) as hub:
        await hub.connect(NUMBER)
        position = (await hub.events()).next
    store = Store(tmp_path / "service.db")
    store.position("stream").save(position)
    await hub_world.customer(MIA).says("Hello")
    variables = environment() | {"HUB": hub_world.hub.url, "KEY": key, "NUMBER": NUMBER}
    async with running(sys.executable, "follower.py", env=variables, cwd=tmp_path) as follower:
        await follower.says("message.received Hello")
        await hub_world.customer(BOB).says("And me")
        await follower.says("message.received And me")
        await until(lambda: store.position("stream").after != position)
    store.close()


async def test_the_first_service_as_it_is(hub_world: World, tmp_path: Path) -> None:
    key = (await hub_world.service("desk")).key
    script, port = str(ROOT / "examples" / "first_service.py"), str(free_port())
    variables = environment() | {"HUB": hub_world.hub.url, "KEY": key, "NUMBER": NUMBER, "PORT": port}
    for person, text in ((MIA, "Hello"), (BOB, "Are you there?")):  # once more, with what it remembers
        customer = hub_world.customer(person)
        async with running(sys.executable, script, env=variables, cwd=tmp_path) as service:
            await service.says("connected as parent")
            await customer.says(text)
            await service.says(f"message.received {text}")
            assert (await customer.hears()).text == f"You wrote: {text}"
            await service.says("message.status")
        assert "not taken" not in service.output
        assert "Traceback" not in service.output
    assert (tmp_path / "first_service.db").stat().st_mode & 0o777 == 0o600
    assert len(Store(tmp_path / "first_service.db").secrets()) == 1


async def test_webhooks_by_the_adapter(open_world: Open, tmp_path: Path) -> None:
    """Verified, once, in order; what never came is told and asked for; the secret is rotated, and lost; 429 passes."""
    world = await open_world(requests_per_second=25)
    store = Store(tmp_path / "desk.db")
    heard: list[Event] = []
    gaps: list[tuple[str | None, Missing]] = []

    async def work(event: Event) -> None:
        heard.append(event)
        if event.text == "Hello":
            await hub.reply(event, "Hi", agent=ANA, idempotency_key=event.id)

    async def on_gap(event: Event, missing: Missing) -> None:
        gaps.append((event.text, missing))
        await hub.replay(conversation_id=event.conversation_id)

    def is_heard(text: str) -> Callable[[], bool]:
        return lambda: text in [event.text for event in heard]

    service, customer = await world.service("desk"), world.customer(MIA)
    options: Any = {"seen": store.seen, "sequences": store.sequences, "on_gap": on_gap}
    route = web.post("/partyline", webhook(Receiver(store.secrets), work, **options))
    async with listening(route) as url, AsyncHub(world.hub.url, service.key) as hub:
        connection = await hub.join(NUMBER, store.secrets, endpoint_url=f"{url}/partyline")
        assert (connection["role"], connection["endpoint_url"]) == ("parent", f"{url}/partyline")
        await customer.says("Hello")
        assert (await customer.hears()).text == "Hi"
        await until(lambda: "read" in [event.message.get("status") for event in heard])
        kinds = {"service.connected", "channel.parent_changed", "message.received", "message.queued", "message.status"}
        assert {event.type for event in heard} == kinds

        await hub.pause(NUMBER)
        await customer.says("Anybody there?")
        await hub.resume(NUMBER, "skip")
        await customer.says("I said: anybody?")
        await until(is_heard("Anybody there?"))  # what was skipped comes as a replay, and the rest only once
        [(text, missing)] = gaps
        assert text == "I said: anybody?"
        assert missing.first == missing.last
        assert [event.is_replay for event in heard if event.text == "Anybody there?"] == [True]

        [old] = store.secrets()
        await hub.rotate(NUMBER, store.secrets)
        assert store.secrets()[1:] == [old]
        await customer.says("Still there?")
        await until(is_heard("Still there?"))
        await hub.join(NUMBER, (lost := Store()).secrets, endpoint_url=f"{url}/partyline")  # it has none: a new one
        store.secrets.add(NUMBER, lost.secrets()[0])
        await customer.says("And now?")
        await until(is_heard("And now?"))
        assert len({event.id for event in heard}) == len(heard)

        numbers = await asyncio.gather(*(hub.number(NUMBER) for _ in range(30)))  # more than a second allows
        assert {number["role"] for number in numbers} == {"parent"}


async def test_every_call_is_one_of_the_hubs(open_world: Open) -> None:
    world = await open_world(link_base_url="https://go.shop.example", site_domains=("shop.example",))
    desk, other = await world.service("desk", scopes=SCOPES), await world.service("crm", scopes=SCOPES)
    customer = world.customer(MIA)
    async with AsyncHub(world.hub.url, desk.key) as hub:
        desk.endpoint.secret = (await hub.connect(NUMBER))["signing_secret"]
        await hub.connect(NUMBER, endpoint_url=desk.endpoint.url, display="full", share="none", on_exhausted="hold")
        assert (await hub.rotate_secret(NUMBER))["overlap_seconds"] == 86_400
        await other.connect()
        assert (await hub.pause(NUMBER))["state"] == "paused"
        assert (await hub.resume(NUMBER))["state"] == "active"
        assert [number["e164"] async for number in hub.numbers()][:1] == [NUMBER]
        roster = await hub.number(NUMBER)
        assert [service["name"] for service in roster["subscribers"]] == ["desk", "crm"]
        await customer.says("Where is my order?")
        await customer.says("Hello?")

        chats = [chat async for chat in hub.conversations()]
        chat = chats[0]["id"]
        assert (await hub.conversation(chat))["contact"]["name"] == "Mia"
        assert [message["text"] async for message in hub.timeline(chat, limit=1)] == ["Hello?", "Where is my order?"]
        assert [message["sequence"] async for message in hub.timeline(chat, after=0, limit=1)] == [1, 2]

        assert (await hub.pick_up(chat, ANA))["picked_up_by"]["agent"]["name"] == "Ana"
        assert (await hub.presence(chat, ANA, "typing"))["state"] == "typing"
        sent = await hub.reply(chat, "On its way.", agent=ANA, idempotency_key="once", seen_sequence=1)
        assert (await hub.reply(chat, "On its way.", agent=ANA, idempotency_key="once", seen_sequence=1)) == sent
        assert [warning["code"] for warning in sent["warnings"]] == ["newer_messages"]
        assert (await hub.outcome(sent["message"]["id"], "delivered"))["status"] in {"delivered", "read"}
        assert (await hub.message(sent["message"]["id"]))["conversation_id"] == chat
        assert (await hub.trace(sent["message"]["id"]))["message"]["text"] == "On its way."
        assert (await hub.mark_read(chat, typing=True))["message_id"].startswith("msg_")
        assert (await hub.release(chat, ANA))["released"]
        assert (await hub.pass_to(chat, other.id, note="Yours", agent=ANA))["waiting_for"]["note"] == "Yours"

        file = await hub.upload_media(b"%PDF-1.4 invoice", "application/pdf", filename="invoice.pdf")
        assert (await hub.media(file["id"]))["filename"] == "invoice.pdf"
        for more in ({"media": {"id": file["id"]}}, {"interactive": BUTTONS}, {"template": TEMPLATE}):
            message = (await hub.reply(chat, agent=ANA, wait=5, **more))["message"]
            assert message["type"] == {"media": "document"}.get(next(iter(more)), next(iter(more)))
        first = await hub.send("+15550100042", "Ready", medium="sms", from_number=NUMBER, agent=ANA)
        assert first["message"]["medium"] == "sms"
        later = await hub.reply(chat, "Bye", origin="notification", send_at=datetime.now(UTC) + timedelta(days=1))
        assert (await hub.cancel(later["message"]["id"]))["status"] == "cancelled"
        assert "order_update" in [template["name"] async for template in hub.templates(NUMBER, medium="whatsapp")]

        contact = (await hub.identify(phone=str(MIA.phone), external_id="7", traits={"vip": True}))["contact"]
        assert [one["id"] async for one in hub.contacts(external_id="7")] == [contact["id"]]
        assert (await hub.contact(contact["id"]))["traits"][0]["value"] is True
        assert [item["type"] async for item in hub.contact_timeline(contact["id"], limit=2)][-1] == "text"
        assert (await hub.export_contact(contact["id"]))["external_ids"]
        zoe = await hub.identify(email="zoe@example.com", name="Zoe", idempotency_key="zoe")
        done = [operation["id"] async for operation in hub.operations(zoe["contact"]["id"])]
        assert done == [zoe["operation_id"]]
        assert (await hub.erase_contact(contact["id"]))["id"] == contact["id"]
        assert [pair async for pair in hub.merge_candidates()] == []
        assert (await hub.set_consent("sms", "+15550100042", "granted", evidence="form"))["status"] == "granted"
        assert (await hub.consent("sms", "+15550100042", number=NUMBER))["status"] == "granted"

        link = await hub.create_link("https://shop.example/sale", address="mia@example.com", campaign="spring")
        assert [one["target"] for one in await hub.create_links([{"url": "https://shop.example/a"}])]
        assert (await hub.link(link["id"]))["state"] == "redirects"
        assert [one["link_id"] async for one in hub.campaign_links("spring")] == [link["id"]]
        assert (await hub.message_links(sent["message"]["id"])).items == ()
        await hub.disable_link(link["id"])

        page = await hub.events(limit=200)
        assert page.events[0].type == "service.connected"
        assert not page.has_more
        replay = await hub.replay(event_ids=[page.events[0].id])
        assert (await hub.replay_state(replay["id"]))["id"] == replay["id"]
        assert [one["id"] async for one in hub.replays()] == [replay["id"]]
        await hub.cancel_replay(replay["id"])
        await desk.endpoint.hears("message.received", 2)
        assert "delivered" in {one["outcome"] async for one in hub.deliveries(number=NUMBER)}
        assert [one async for one in hub.parked(number=NUMBER)] == []
        assert [one async for one in hub.dead_letters()] == []
        assert await hub.drop_dead_letters(number=NUMBER) == {"dropped": 0}
        assert await hub.request("GET", "/v1/numbers", limit=1)
        assert (await hub.refetch_media(file["id"]))["state"] == "kept"
        for refused, code in (
            (lambda: hub.drop_dead_letter("evt_0000000000000001"), "not_found"),
            (lambda: hub.visitor("vis_d2c683190abcd4b663cd7faa7be8c55d"), "not_found"),
            (lambda: hub.merge(contact["id"], "con_01a2025811487beb94210080887ab0bc"), "not_found"),
            (lambda: hub.undo(done[0]), "merge_not_allowed"),
            (lambda: hub.reply(chat, "Hi", origin="nobody"), "invalid_request"),
        ):
            with pytest.raises(Problem, match=code):
                await refused()
        await hub.disconnect(NUMBER)
        with pytest.raises(Problem, match="409 not_connected"):
            await hub.events()
    assert sorted(send.text for send in customer.received if send.text == "On its way.") == ["On its way."]


BUTTONS = {"type": "buttons", "text": "Today?", "buttons": [{"id": "yes", "title": "Yes"}]}
TEMPLATE = {"name": "order_update", "language": "en"}


async def test_following_over_a_restart(database_url: str, tmp_path: Path) -> None:
    """The hub goes and comes back; each follower hears everything once, in order, and goes on where its work was."""
    store, gaps = Store(tmp_path / "feed.db"), []
    async with make_simulator() as simulator, aiohttp.ClientSession() as session:
        settings = settings_for(simulator, database_url, tmp_path, port=free_port())
        texts: dict[str, list[str]] = {"feed": [], "stream": []}

        async def follow(name: str, source: Any) -> None:
            async for event in source:
                if event.type == "message.received":
                    texts[name].append(event.text)

        def sources() -> dict[str, Any]:
            feed, stream = store.position("feed"), store.position("stream")
            return {
                "feed": follow_feed(
                    hub, after=feed.after, save=feed.save, seen=store.seen, every=0.05, pause=0.05,
                    sequences=store.sequences, on_gap=lambda _, missing: gaps.append(missing),
                ),
                "stream": follow_stream(hub, after=stream.after, save=stream.save, seen=seen, pause=0.05),
            }  # fmt: skip

        async def all_hear(*expected: str) -> None:
            await until(lambda: all(heard[-len(expected) :] == [*expected] for heard in texts.values()))

        seen = Seen()
        async with hub_running(settings) as running_hub:
            simulator.hub_url = running_hub.url
            world = World(running_hub, simulator, session)
            await register(world)
            key = (await world.call("POST", "/v1/admin/services", {"name": "desk", "plan": "bundle"})).json["api_key"]
            hub = AsyncHub(running_hub.url, key)
            await hub.connect(NUMBER)
            tasks = [asyncio.create_task(follow(name, source)) for name, source in sources().items()]
            await until(lambda: store.position("stream").after)
            customer = world.customer(MIA)
            await customer.says("one")
            await all_hear("one")
        async with hub_running(settings):
            await customer.says("two")
            await all_hear("one", "two")
            for task in tasks:  # now the service goes, and comes back
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await customer.says("three")
            tasks = [asyncio.create_task(follow(name, source)) for name, source in sources().items()]
            await all_hear("one", "two", "three")
            await hub.disconnect(NUMBER)
            told = await asyncio.gather(*tasks, return_exceptions=True)
            assert [(error.status, error.code) for error in told] == [(409, "not_connected")] * 2
        await hub.close()
    assert gaps == []
