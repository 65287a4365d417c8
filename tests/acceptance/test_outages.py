"""The database goes, a subscriber fails or hangs, an endpoint points inside: nobody else notices (B3, G2, G3)."""

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from hub.fanout import lanes
from hub.store import pool
from hub.store.spool import Spool, Spooled
from providers.simulator import Person
from tests.support.cut import Line, line_to
from tests.support.subscriber import Delivery, Subscriber
from tests.support.wire import TWILIO, Wire, ask, envelope, reopened, sms, text, until, value
from tests.support.world import Service, World, world

TRIO = ("helpdesk", "crm", "marketing")


@dataclass
class Frail:
    """A hub whose line to the database can be cut."""

    world: World
    wire: Wire
    line: Line
    data_dir: Path
    database_url: str

    def spooled(self) -> int:
        """Bytes that lie in the spool."""
        return sum(path.stat().st_size for path in (self.data_dir / "spool").glob("*.spool"))

    async def is_ready(self) -> bool:
        """Whether the hub says so."""
        return (await self.world.call("GET", "/readyz")).status == 200


@asynccontextmanager
async def frail(database_url: str, data_dir: Path) -> AsyncIterator[Frail]:
    async with AsyncExitStack() as stack:
        url, line = await stack.enter_async_context(line_to(database_url))
        made = await stack.enter_async_context(world(url, data_dir))
        yield Frail(made, Wire(made), line, data_dir, database_url)
        await line.up()


@pytest.fixture
async def hub(database_url: str, tmp_path: Path) -> AsyncIterator[Frail]:
    async with frail(database_url, tmp_path) as made:
        yield made


def texts(service: Service) -> list[str]:
    """What a service read, without repeats: those carry the same webhook-id (G2: at least once)."""
    first: dict[str, str] = {}
    for delivery in service.endpoint.of("message.received"):
        first.setdefault(delivery.id, delivery.data["message"]["text"])
    return list(first.values())


# The database -------------------------------------------------------------------------------------------------------


async def test_b3_meta_is_told_to_come_again_and_its_retry_brings_it_in(hub: Frail) -> None:
    (service,) = await hub.world.connected("helpdesk")
    assert (await hub.wire.meta(envelope(value([text("before")])))).status == 200
    body = envelope(value([text("during"), text("during too")]))
    await hub.line.down()
    for _ in range(3):
        reply = await hub.wire.meta(body)
        assert (reply.status, reply.body) == (503, b"")
        assert int(reply.headers["retry-after"]) > 0
    assert hub.spooled() == 0
    await hub.line.up()

    async def retried() -> bool:
        return (await hub.wire.meta(body)).status == 200

    await until(retried)
    assert (await hub.wire.meta(body)).status == 200
    assert (await hub.wire.meta(envelope(value([text("after")])))).status == 200
    await service.endpoint.wait(lambda _: "after" in texts(service))
    assert texts(service) == ["before", "during", "during too", "after"]


async def test_b3_twilio_is_spooled_and_arrives_in_order_once(hub: Frail) -> None:
    (service,) = await hub.world.connected("helpdesk")
    phones = [f"+49151000000{n:02d}" for n in range(3)]
    await hub.line.down()
    forms = [sms(f"{phone}/{n}", phone) for n in range(10) for phone in phones]
    for form in forms:
        reply = await hub.wire.twilio(form)
        assert (reply.status, reply.body) == (200, b"<Response/>")
    assert (await hub.wire.twilio(forms[0])).status == 200  # a repetition is spooled too, and dropped later
    held = hub.spooled()
    assert held > len(forms) * 100
    await hub.line.up()
    more = [sms(f"{phone}/{n}", phone) for n in range(10, 20) for phone in phones]
    for form in more:  # some meet the spool still full: they queue up behind it
        assert (await hub.wire.twilio(form)).status == 200
    await service.endpoint.wait(lambda _: len(texts(service)) >= 60)
    by_phone = defaultdict(list)
    for words in texts(service):
        phone, _, n = words.partition("/")
        by_phone[phone].append(int(n))
    assert dict(by_phone) == {phone: list(range(20)) for phone in phones}
    await until(lambda: hub.spooled() == 0)
    assert (await hub.wire.twilio(sms("directly"))).status == 200
    assert hub.spooled() == 0
    assert await ask(hub.database_url, "select count(*) from event where type = 'message.received'") == 61


async def test_b3_a_forged_twilio_request_is_not_spooled(hub: Frail) -> None:
    await hub.line.down()
    reply = await hub.wire.post(TWILIO, b"Body=x", {"X-Twilio-Signature": "forged"})
    assert (reply.status, hub.spooled()) == (403, 0)


async def test_b3_what_one_hub_spooled_the_next_takes_in(database_url: str, tmp_path: Path) -> None:
    """It ended, by whatever cause, before the database was back."""
    async with frail(database_url, tmp_path) as first:
        await first.world.connected("helpdesk")
        await first.line.down()
        for n in range(5):
            assert (await first.wire.twilio(sms(f"{n}"))).status == 200
        assert first.spooled()
        left = b"".join(path.read_bytes() for path in sorted((tmp_path / "spool").glob("*.spool")))
    # As a kill in mid-write leaves it: everything acknowledged, and half a line.
    for path in (tmp_path / "spool").glob("*.spool"):
        path.unlink()
    (tmp_path / "spool" / "0left.spool").write_bytes(left + left.splitlines()[0][:50])
    async with reopened(database_url, tmp_path):
        stored = "select array_agg(content::json ->> 'text' order by sequence) from message"

        async def are_there() -> bool:
            return bool(await ask(database_url, stored) == [str(n) for n in range(5)])

        await until(are_there)
        await until(lambda: not (tmp_path / "spool" / "0left.spool").exists())
    assert list((tmp_path / "spool").iterdir()) == []


async def test_b3_a_hub_that_starts_while_its_database_is_away_takes_webhooks_all_the_same(
    database_url: str, tmp_path: Path
) -> None:
    """Started again in the middle of an outage: Twilio will not come a second time."""
    async with world(database_url, tmp_path):
        pass
    async with line_to(database_url) as (url, line):
        await line.down()
        async with reopened(url, tmp_path) as made:
            wire = Wire(made)
            assert (await wire.meta(envelope(value([text("later")])))).status == 503
            assert (await wire.twilio(sms("kept"))).status == 200
            await line.up()

            async def is_there() -> Any:
                return await ask(database_url, "select array_agg(content::json ->> 'text') from message")

            assert await until(is_there) == ["kept"]


async def test_b3_neither_database_nor_disk_is_no_200(hub: Frail, monkeypatch: pytest.MonkeyPatch) -> None:
    await hub.line.down()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert (await hub.wire.twilio(sms("lost?"))).status == 503
    assert (await hub.wire.twilio(sms("kept"))).status == 200
    await hub.line.up()
    stored = "select array_agg(content::json ->> 'text') from message"

    async def is_there() -> Any:
        return await ask(hub.database_url, stored)

    assert await until(is_there) == ["kept"]


async def test_b3_a_database_that_hangs_is_as_good_as_none(hub: Frail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta wants an answer in time, and a full queue of waiting webhooks is refused like a broken line."""
    for name in ("COMMAND_TIMEOUT", "LOOP_TIMEOUT", "ACQUIRE_TIMEOUT"):
        monkeypatch.setattr(pool, name, 0.4)
    await hub.line.down()
    await hub.line.up()
    await until(hub.is_ready)

    async def taken() -> bool:
        return (await hub.wire.meta(envelope(value([text("first")])))).status == 200

    await until(taken)
    hub.line.silent()
    started = time.monotonic()
    replies = await asyncio.gather(
        *(hub.wire.meta(envelope(value([text(f"m{n}")]))) for n in range(5)),
        hub.wire.twilio(sms("t")),
    )
    assert [reply.status for reply in replies] == [503] * 5 + [200]
    assert time.monotonic() - started < 5
    await hub.line.up()
    stored = "select count(*) from message where content::json ->> 'text' = 't'"

    async def is_there() -> Any:
        return await ask(hub.database_url, stored)

    assert await until(is_there) == 1


async def test_h1_the_api_and_the_probes_say_that_the_database_is_away(hub: Frail) -> None:
    (service,) = await hub.world.connected("helpdesk")
    assert await hub.is_ready()
    await hub.line.down()
    for path, key in (("/v1/conversations", service.key), ("/v1/admin/quarantine", None)):
        answer = await hub.world.call("GET", path, **({"key": key} if key else {}))
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"]
    ready = await hub.world.call("GET", "/readyz")
    assert (ready.status, "database" in ready.json["problems"]) == (503, True)
    assert (await hub.world.call("GET", "/healthz")).status == 200
    await hub.line.up()
    await until(hub.is_ready)


async def test_b3_flapping_loses_and_repeats_nothing(hub: Frail) -> None:
    """The line breaks again and again while both providers post; whatever was answered 200 is there, once."""
    (service,) = await hub.world.connected("helpdesk")
    acknowledged: list[str] = []
    is_over = asyncio.Event()

    async def post_meta(phone: str) -> None:
        for n in range(15):
            body = envelope(value([text(f"{phone}/{n}", phone)]))

            async def retried(body: dict[str, Any] = body) -> bool:
                return (await hub.wire.meta(body)).status == 200

            await until(retried, 20)
            acknowledged.append(f"{phone}/{n}")

    async def post_twilio(phone: str) -> None:
        for n in range(15):
            assert (await hub.wire.twilio(sms(f"{phone}/{n}", phone))).status == 200
            acknowledged.append(f"{phone}/{n}")

    async def flap() -> None:
        while not is_over.is_set():
            await asyncio.sleep(0.1)
            await hub.line.down()
            await asyncio.sleep(0.05)
            await hub.line.up()

    flapping = asyncio.create_task(flap())
    senders = [post_meta(f"4915100000{n:03d}") for n in range(4)]
    senders += [post_twilio(f"+4917100000{n:03d}") for n in range(4)]
    await asyncio.gather(*senders)
    is_over.set()
    await flapping
    wanted = len(acknowledged)
    await service.endpoint.wait(lambda me: len({d.id for d in me.of("message.received")}) >= wanted, 30)
    heard: dict[str, list[int]] = defaultdict(list)
    seen = set()
    for delivery in service.endpoint.of("message.received"):
        if delivery.id not in seen:  # repeats carry the same webhook-id
            seen.add(delivery.id)
            phone, _, n = delivery.data["message"]["text"].partition("/")
            heard[phone].append(int(n))
    assert {phone: sorted(ns) for phone, ns in heard.items()} == {phone: list(range(15)) for phone in heard}
    assert len(heard) == 8
    # Who waits for each answer is heard in that order, at Meta's side; the spool keeps Twilio's.
    assert all(ns == sorted(ns) for ns in heard.values())


async def test_b3_the_spool_may_be_read_while_it_is_written(tmp_path: Path) -> None:
    """The loop that empties it and the webhooks that fill it share a file, not a place in it."""
    spool = Spool(tmp_path)
    spool.open()
    entries = [Spooled("twilio", TWILIO, TWILIO, {}, f"{n}".encode() * 2_000) for n in range(150)]
    reading = asyncio.Event()

    async def read() -> None:
        while not reading.is_set():
            found = await spool.read()
            assert found == entries[: len(found)]
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    for entry in entries:
        await spool.append([entry])
    reading.set()
    await reader
    assert await spool.read() == entries
    assert not await spool.drop(100)
    assert await spool.read() == entries[100:]
    await spool.append(entries[:1])
    assert await spool.read() == [*entries[100:], entries[0]]
    assert await spool.drop(201)
    spool.close()
    assert list(tmp_path.iterdir()) == []


# Subscribers --------------------------------------------------------------------------------------------------------


@dataclass
class Gated(Subscriber):
    """Answers only what `lets` through, after the gate is open for the rest."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    lets: Callable[[dict[str, Any]], bool] = lambda _: False
    asked: list[str] = field(default_factory=list)

    async def _take(self, request: web.Request) -> web.Response:
        document = json.loads(await request.read())
        self.asked.append(request.headers["webhook-id"])
        if not self.lets(document):
            await self.gate.wait()
        return await super()._take(request)


async def gated(service: Service) -> Gated:
    """Put a gate before a service that is not connected yet."""
    endpoint = Gated()
    await endpoint.start()
    service.world.subscribers.append(endpoint)
    service.endpoint = endpoint
    return endpoint


async def people_write(hub_world: World, people: int, messages: int) -> dict[str, list[str]]:
    """So many customers write so many messages each; gives what was written, by phone."""
    wire = Wire(hub_world)
    written: dict[str, list[str]] = defaultdict(list)
    for n in range(messages):
        items = []
        for person in range(people):
            phone = f"4915100000{person:03d}"
            written[phone].append(f"{phone}/{n}")
            items.append(text(f"{phone}/{n}", phone))
        assert (await wire.meta(envelope(value(items)))).status == 200
    return written


async def test_g2_a_failing_conversation_is_retried_in_order_and_delays_nobody(
    hub_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (0.3,) * 10)
    helpdesk, crm, marketing = await hub_world.connected(*TRIO)
    failed: list[Delivery] = []

    def answer(delivery: Delivery) -> int:
        is_first = delivery.type == "message.received" and delivery.data["message"]["text"] == "4915100000000/0"
        if is_first and len(failed) < 3:
            failed.append(delivery)
            return (500, 429, 404)[len(failed) - 1]
        return 200

    crm.endpoint.answer = answer
    written = await people_write(hub_world, 4, 5)
    for service in (helpdesk, marketing):
        await service.endpoint.hears("message.received", 20, 2)
    await crm.endpoint.hears("message.received", 20, 10)
    assert len({delivery.id for delivery in failed}) == 1
    assert len(failed) == 3
    healed = next(d for d in crm.endpoint.deliveries if d.id == failed[0].id)
    others = [d for d in crm.endpoint.of("message.received") if "4915100000000" not in d.data["message"]["text"]]
    assert len(others) == 15
    assert all(delivery.at < healed.at for delivery in others)
    for phone, words in written.items():
        assert [w for w in texts(crm) if w.startswith(phone)] == words
    assert len(texts(crm)) == 20  # at least once, and without need not twice
    stamps = [int(d.headers["webhook-timestamp"]) for d in (*failed, healed)]
    assert stamps == sorted(stamps)


async def test_g2_a_subscriber_that_hangs_delays_nobody(hub_world: World) -> None:
    services = [await hub_world.service(name) for name in TRIO]
    helpdesk, crm, marketing = services
    endpoint = await gated(crm)
    for service in services:
        await service.connect()
    written = await people_write(hub_world, 60, 2)
    for service in (helpdesk, marketing):
        await service.endpoint.hears("message.received", 120, 5)
    assert crm.endpoint.of("message.received") == []
    await until(lambda: len(set(endpoint.asked)) >= 16)  # in flight at once, up to its own budget
    assert len(set(endpoint.asked)) < 60
    endpoint.gate.set()
    await crm.endpoint.hears("message.received", 120)
    for phone, words in written.items():
        assert [w for w in texts(crm) if w.startswith(phone)] == words
    assert len(endpoint.asked) == len(set(endpoint.asked))


async def test_g2_one_hanging_conversation_leaves_the_others_of_its_service_alone(hub_world: World) -> None:
    service = await hub_world.service("helpdesk")
    endpoint = await gated(service)
    endpoint.lets = lambda document: "4915100000000/" not in json.dumps(document)
    await service.connect()
    await people_write(hub_world, 5, 4)
    await service.endpoint.hears("message.received", 16, 5)
    assert not any(words.startswith("4915100000000/") for words in texts(service))
    endpoint.gate.set()
    await service.endpoint.hears("message.received", 20)
    assert [w for w in texts(service) if w.startswith("4915100000000/")] == [f"4915100000000/{n}" for n in range(4)]


async def test_g1_a_slow_answer_is_given_up_and_tried_again_with_the_same_id(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (0.1,) * 10)
    async with world(database_url, tmp_path, delivery_timeout=0.3) as made:
        service = await made.service("helpdesk")
        endpoint = await gated(service)
        await service.connect()
        assert (await Wire(made).meta(envelope(value([text("slow")])))).status == 200
        await until(lambda: len(twice := set(endpoint.asked)) == 2 and all(endpoint.asked.count(i) > 1 for i in twice))
        endpoint.gate.set()
        await service.endpoint.hears("message.received")
        (healed,) = {delivery.id for delivery in service.endpoint.of("message.received")}
        assert endpoint.asked.count(healed) > 1
        detail = "select detail from attempt where outcome = 'failed' limit 1"
        assert await ask(database_url, detail) == "timeout"


async def test_g3_what_is_refused_to_the_end_is_given_up_visibly_and_the_conversation_goes_on(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (0.05, 0.05))
    (service,) = await hub_world.connected("helpdesk")

    def answer(delivery: Delivery) -> int:
        return 400 if delivery.data.get("message", {}).get("text") == "poison" else 200

    service.endpoint.answer = answer
    assert (await Wire(hub_world).meta(envelope(value([text("one"), text("poison"), text("two")])))).status == 200
    await service.endpoint.hears("message.received", 2)
    assert texts(service) == ["one", "two"]

    async def is_written() -> Any:
        return await ask(database_url, "select attempts from dead_letter")

    assert await until(is_written) == 3
    answered = await service.call("GET", "/v1/deliveries")
    outcomes = [item["outcome"] for item in answered.json["items"]]
    assert outcomes.count("refused") == 3


async def test_g2_a_restart_goes_on_where_it_was(database_url: str, tmp_path: Path) -> None:
    """A clean end finishes what is in flight; the next process repeats nothing and misses nothing."""
    endpoint = Subscriber()
    async with world(database_url, tmp_path) as made:
        service = await made.service("helpdesk")
        await service.connect()
        await people_write(made, 10, 3)
        await service.endpoint.hears("message.received", 30)
        ids = {delivery.id for delivery in service.endpoint.deliveries}
        endpoint.secret = service.endpoint.secret
    await endpoint.start()
    await ask(database_url, "update subscription set endpoint_url = $1 returning 1", endpoint.url)
    async with reopened(database_url, tmp_path) as made:
        wire = Wire(made)
        assert (await wire.meta(envelope(value([text("next", "4915100000000")])))).status == 200
        await endpoint.hears("message.received")
        assert [d.data["message"]["text"] for d in endpoint.of("message.received")] == ["next"]
        assert ids.isdisjoint({delivery.id for delivery in endpoint.deliveries})
        assert endpoint.deliveries[-1].data["conversation"]["sequence"] == 4
    await endpoint.stop()


# Endpoints that point inside ----------------------------------------------------------------------------------------

INSIDE = [
    "http://127.0.0.1:{port}/hook",
    "https://127.0.0.1:{port}/hook",
    "https://[::1]:{port}/hook",
    "https://[::ffff:127.0.0.1]:{port}/hook",
    "https://0.0.0.0:{port}/hook",
    "https://10.0.0.1/hook",
    "https://169.254.169.254/latest/meta-data",
    "https://[64:ff9b::7f00:1]/hook",
    "https://[fd00::1]/hook",
    "http://example.com/hook",
    "http://localhost:{port}/hook",
]
NAMES_OF_INSIDE = [
    "https://localhost:{port}/hook",
    "https://LOCALHOST.:{port}/hook",
    "https://127.1:{port}/hook",
    "https://2130706433:{port}/hook",
    "https://0x7f000001:{port}/hook",
]
NO_ENDPOINT = ["", "ftp://example.com", "example.com", "https://", "https://u:p@example.com/", "https://x:99999/",
               "https://e.com/#f", "javascript:alert(1)", "https://" + "x" * 3_000]  # fmt: skip


async def test_endpoints_on_private_addresses_are_neither_taken_nor_dialled(database_url: str, tmp_path: Path) -> None:
    """SSRF: an address is refused at once; a name is judged by what it resolves to, when it is dialled."""
    dialled: list[str] = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append("!")
        writer.close()

    trap = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = trap.sockets[0].getsockname()[1]
    async with world(database_url, tmp_path, allow_private_endpoints="off") as made:
        service = await made.service("helpdesk")
        for url in INSIDE:
            answer = await service.call(
                "PUT", "/v1/numbers/+15550001111/connection", {"endpoint_url": url.format(port=port)}
            )
            assert (answer.status, answer.json.get("code")) == (422, "endpoint_not_allowed"), url
        for url in NO_ENDPOINT:
            answer = await service.call("PUT", "/v1/numbers/+15550001111/connection", {"endpoint_url": url})
            assert answer.status == 422, url
            assert answer.json["code"] in {"endpoint_url_invalid", "invalid_request"}, url
        for n, url in enumerate(NAMES_OF_INSIDE):
            named = await made.service(f"named {n}")
            answer = await named.call(
                "PUT", "/v1/numbers/+15550001111/connection", {"endpoint_url": url.format(port=port)}
            )
            if answer.status == 422:
                assert answer.json["code"] in {"endpoint_not_allowed", "endpoint_url_invalid"}, url
        assert (await Wire(made).meta(envelope(value([text("secret")])))).status == 200
        current = "select count(*) from subscription where disconnected_at is null"
        expected = await ask(database_url, current)
        assert expected >= 1
        tried = "select count(distinct subscription_id) from attempt"

        async def all_tried() -> bool:
            return bool(await ask(database_url, tried) == expected)

        await until(all_tried)
        details = set(await ask(database_url, "select array_agg(distinct detail) from attempt"))
        assert "endpoint_not_allowed" in details
        assert details <= {"endpoint_not_allowed", "endpoint_url_invalid", "dns_failed"}
    trap.close()
    assert dialled == []


async def test_a_redirect_is_not_followed(hub_world: World, database_url: str) -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/inside"})

    app = web.Application()
    app.router.add_post("/hook", redirect)
    app.router.add_route("*", "/inside", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service = await hub_world.service("helpdesk")
    await service.connect(endpoint_url=f"http://127.0.0.1:{runner.addresses[0][1]}/hook")
    assert (await Wire(hub_world).meta(envelope(value([text("hi")])))).status == 200

    async def is_tried() -> Any:
        return await ask(database_url, "select http_status from attempt limit 1")

    assert await until(is_tried) == 307
    await runner.cleanup()
    assert set(asked) == {"/hook"}


async def test_b5_a_statement_that_was_cancelled_is_no_fault_of_the_message(database_url: str, tmp_path: Path) -> None:
    """A lock that somebody holds too long: the provider is asked to come again, nothing is put aside."""
    limited = f"{database_url}&options=-cstatement_timeout%3D300"
    async with world(limited, tmp_path) as made:
        (helpdesk,) = await made.connected("helpdesk")
        customer = made.customer(Person("+4915112345678", name="Mia"))
        await customer.says("first")
        await helpdesk.endpoint.hears("message.received")
        holder = await asyncpg.connect(database_url)
        async with holder.transaction():
            await holder.execute("select 1 from conversation for update")
            wire = Wire(made)
            maria = [{"wa_id": "4915112345678", "profile": {"name": "Maria"}}]
            renamed = envelope(value([text("second", sender="4915112345678")], contacts=maria))
            assert (await wire.meta(renamed)).status == 503
        await holder.close()
        assert (await made.call("GET", "/v1/admin/quarantine")).json["items"] == []
        assert (await wire.meta(renamed)).status == 200
        await helpdesk.endpoint.hears("message.received", 2)
