"""What comes in, item by item: every one counts, once, in order, for everybody (rules B2, B4, B6 to B8, C1, E7)."""

import asyncio
import json
import random
from collections import defaultdict
from itertools import permutations
from typing import Any

import pytest

from providers.simulator import Person, SimulatedSend, StatusPlan, meta_webhooks
from tests.support.subscriber import Delivery, Subscriber
from tests.support.wire import Wire, ask, envelope, sms, text, until, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Service, World

SECOND, SECOND_ID = "+15550002222", "100000000000002"
TRIO = ("helpdesk", "crm", "marketing")


@pytest.fixture
def wire(hub_world: World) -> Wire:
    return Wire(hub_world)


async def on_second(service: Service) -> Subscriber:
    """Connect a service to the second number too, with an endpoint of its own: each subscription has its secret."""
    endpoint = Subscriber()
    await endpoint.start()
    service.world.subscribers.append(endpoint)
    path = f"/v1/numbers/{SECOND}/connection"
    answer = await service.call("PUT", path, {"endpoint_url": endpoint.url})
    endpoint.secret = answer.json["signing_secret"]
    return endpoint


def by_conversation(endpoint: Subscriber) -> dict[str, list[Delivery]]:
    """Deliveries in order of arrival, a list for each conversation."""
    found = defaultdict(list)
    for delivery in endpoint.deliveries:
        if "conversation" in delivery.data:
            found[delivery.data["conversation"]["id"]].append(delivery)
    return found


def assert_in_order(endpoint: Subscriber) -> None:
    """B6: without a filter, every conversation's events are numbered without a gap, and arrive so."""
    for deliveries in by_conversation(endpoint).values():
        numbered = [delivery for delivery in deliveries if delivery.type != "conversation.collision"]
        sequences = [delivery.data["conversation"]["sequence"] for delivery in numbered]
        assert sequences == list(range(1, len(sequences) + 1))
    ids = [delivery.id for delivery in endpoint.deliveries]
    assert len(ids) == len(set(ids))
    assert not endpoint.refused


async def events_of(service: Service, kind: str, count: int) -> list[dict[str, Any]]:
    """So many events of a type in the order of the log: conversations may overtake one another on the way."""
    return [delivery.data for delivery in sorted(await service.endpoint.hears(kind, count), key=lambda d: d.id)]


# Batches (B2, B6, B7) -----------------------------------------------------------------------------------------------


async def test_b2_fifty_messages_for_two_numbers_from_ten_customers(
    hub_world: World, wire: Wire, database_url: str
) -> None:
    services = await hub_world.connected(*TRIO)
    seconds = [await on_second(service) for service in services]
    phones = [f"49151{n:08d}" for n in range(7)]
    people: list[dict[str, str]] = [{"from": phone} for phone in phones]
    people += [{"from_user_id": f"US.{n:016d}"} for n in range(3)]
    expected: dict[tuple[str, int], list[str]] = defaultdict(list)
    entries = []
    for n in range(10):  # entries of several changes, of both numbers, of one to many messages
        values = []
        for number_id in (PHONE_NUMBER_ID, SECOND_ID, PHONE_NUMBER_ID):
            items = []
            for person in random.Random(n).sample(range(10), 2 if len(values) < 2 else 1):
                words = f"{number_id}/{person}/{len(expected[number_id, person])}"
                expected[number_id, person].append(words)
                message = text(words) | people[person]
                if "from_user_id" in people[person]:
                    del message["from"]
                items.append(message)
            values.append(value(items, number_id=number_id))
        entries += envelope(*values)["entry"]
    assert sum(map(len, expected.values())) == 50
    assert (await wire.meta({"object": "whatsapp_business_account", "entry": entries})).status == 200

    for service, second in zip(services, seconds, strict=True):
        heard: list[str] = []
        for endpoint, number, number_id in (
            (service.endpoint, NUMBER, PHONE_NUMBER_ID),
            (second, SECOND, SECOND_ID),
        ):
            wanted = [words for (at, _), all_words in expected.items() if at == number_id for words in all_words]
            events = await endpoint.hears("message.received", len(wanted))
            assert {delivery.data["number"] for delivery in events} == {number}
            heard += [delivery.data["message"]["text"] for delivery in events]
            lists = sorted(
                [d.data["message"]["text"] for d in found if d.type == "message.received"]
                for found in by_conversation(endpoint).values()
            )
            assert lists == sorted(words for (at, _), words in expected.items() if at == number_id)
            assert_in_order(endpoint)
        assert len(heard) == len(set(heard)) == 50
    assert await ask(database_url, "select count(*) from event where type = 'message.received'") == 50
    assert await ask(database_url, "select count(*) from contact") == 10
    assert await ask(database_url, "select count(*) from conversation") == len(expected)


async def test_b7_every_channel_of_the_number_hears_an_inbound_message(hub_world: World, wire: Wire) -> None:
    """A3, B7: one message and one event for the shared channel and one for each standalone one."""
    (shared,) = await hub_world.connected("shared")
    (alone,) = await hub_world.connected("alone", plan="standalone")
    assert alone.connection["role"] == "standalone"
    assert (await wire.meta(envelope(value([text("for both"), text("again")])))).status == 200
    first = await events_of(shared, "message.received", 2)
    second = await events_of(alone, "message.received", 2)
    assert [data["message"]["text"] for data in first] == [data["message"]["text"] for data in second]
    assert {data["channel_id"] for data in first} != {data["channel_id"] for data in second}
    assert {d["message"]["id"] for d in first}.isdisjoint({d["message"]["id"] for d in second})
    assert {d["contact"]["id"] for d in first} == {d["contact"]["id"] for d in second}


async def test_b7_what_the_phone_app_sent_is_heard_on_every_channel_too(hub_world: World, wire: Wire) -> None:
    """An echo is one item of the provider and one entry in the timeline of each channel."""
    (shared,) = await hub_world.connected("shared")
    (alone,) = await hub_world.connected("alone", plan="standalone")
    echo = text("from the app") | {"from": NUMBER[1:], "to": "4915112345678"}
    body = envelope(value([echo], name="message_echoes"), field="smb_message_echoes")
    assert (await wire.meta(body)).status == 200
    assert await wire.quarantine() == []
    for service in (shared, alone):
        (data,) = await events_of(service, "message.received", 1)
        assert (data["message"]["text"], data["message"]["origin"]) == ("from the app", "echo")
        assert data["automation"]["allowed"] is False
    status = {"id": echo["id"], "status": "read", "recipient_id": "4915112345678", "timestamp": "1700000001"}
    assert (await wire.meta(envelope(value([status], name="statuses")))).status == 200
    for service in (shared, alone):
        (data,) = await events_of(service, "message.status", 1)
        assert data["message"]["status"] == "read"


# Who wrote (B8) -----------------------------------------------------------------------------------------------------


async def test_b8_one_phone_on_sms_and_whatsapp_is_one_contact(hub_world: World, database_url: str) -> None:
    (service,) = await hub_world.connected("helpdesk")
    person = Person("+4915112345678", name="Mia")
    await hub_world.customer(person).says("on WhatsApp")
    await hub_world.customer(person, provider="twilio", medium="sms").says("by SMS")
    one, two = await events_of(service, "message.received", 2)
    assert one["contact"]["id"] == two["contact"]["id"]
    assert one["conversation"]["id"] != two["conversation"]["id"]
    assert {one["message"]["medium"], two["message"]["medium"]} == {"whatsapp", "sms"}
    assert two["contact"]["name"] == "Mia"
    assert await ask(database_url, "select count(*) from contact") == 1


async def test_b8_twilio_brings_sms_and_whatsapp(hub_world: World, wire: Wire) -> None:
    senders = [
        {"medium": medium, "provider": "twilio", "external_id": "+15550003333"} for medium in ("sms", "whatsapp")
    ]
    made = await hub_world.call("POST", "/v1/admin/numbers", {"e164": "+15550003333", "senders": senders})
    assert made.status == 201
    service = await hub_world.service("helpdesk")
    await service.connect("+15550003333")
    both = {"to": "+15550003333", "sender": "+4915112345678"}
    assert (await wire.twilio(sms("by SMS", **both))).status == 200
    prefixed = {name: f"whatsapp:{address}" for name, address in both.items()}
    assert (await wire.twilio(sms("on WhatsApp", **prefixed, ProfileName="Mia"))).status == 200
    hidden = sms("hidden", "whatsapp:DE.12345", "whatsapp:+15550003333", ProfileUsername="mia")
    assert (await wire.twilio(hidden)).status == 200
    one, two, three = await events_of(service, "message.received", 3)
    assert one["contact"]["id"] == two["contact"]["id"] != three["contact"]["id"]
    assert [d["message"]["medium"] for d in (one, two, three)] == ["sms", "whatsapp", "whatsapp"]
    values = {(a["type"], a["value"]) for a in three["contact"]["addresses"]}
    assert values == {("user_id", "DE.12345"), ("username", "mia")}


async def test_b8_a_customer_without_phone_who_shows_it_later_stays_one_contact(
    hub_world: World, database_url: str
) -> None:
    (service,) = await hub_world.connected("helpdesk")
    hidden = hub_world.customer(Person(user_id="US.1349001", username="mia", name="Mia"))
    await hidden.says("who am I?")
    (first,) = await events_of(service, "message.received", 1)
    assert {(a["type"], a["value"]) for a in first["contact"]["addresses"]} == {
        ("user_id", "US.1349001"),
        ("username", "mia"),
    }
    await service.reply(first["conversation"]["id"], "a user")
    assert (await hidden.hears()).to == "US.1349001"

    shown = hub_world.customer(Person("+4915112345678", user_id="US.1349001", name="Mia"))
    await shown.says("and now?")
    await hub_world.customer(Person("+4915112345678"), provider="twilio", medium="sms").says("by SMS")
    await hub_world.customer(Person("+4915112345678")).says("phone alone")
    await hidden.says("hidden again")
    events = await events_of(service, "message.received", 5)
    assert {data["contact"]["id"] for data in events} == {first["contact"]["id"]}
    assert [data["conversation"]["id"] == first["conversation"]["id"] for data in events] == [
        True, True, False, True, True,
    ]  # fmt: skip
    addresses = {(a["type"], a["value"]) for a in events[-1]["contact"]["addresses"]}
    assert {("user_id", "US.1349001"), ("phone", "+4915112345678")} <= addresses
    assert await ask(database_url, "select count(*) from contact") == 1
    assert_in_order(service.endpoint)


async def test_b8_two_contacts_that_turn_out_to_be_one_are_not_merged_by_guess(
    hub_world: World, wire: Wire, database_url: str
) -> None:
    """In one batch: an id alone, a phone alone, both together. The pair becomes a merge candidate."""
    (service,) = await hub_world.connected("helpdesk")
    alone = text("id alone") | {"from_user_id": "US.1"}
    del alone["from"]
    items = [alone, text("phone alone"), text("both") | {"from_user_id": "US.1"}]
    assert (await wire.meta(envelope(value(items)))).status == 200
    one, two, three = await events_of(service, "message.received", 3)
    assert one["contact"]["id"] == three["contact"]["id"] != two["contact"]["id"]
    assert await ask(database_url, "select count(*) from merge_candidate") == 1


async def test_b8_a_user_id_is_never_read_as_a_phone(hub_world: World, wire: Wire, database_url: str) -> None:
    (service,) = await hub_world.connected("helpdesk")
    strange = text("digits") | {"from_user_id": "4915112345678"}
    del strange["from"]
    assert (await wire.meta(envelope(value([strange, text("phone")])))).status == 200
    one, two = await events_of(service, "message.received", 2)
    assert one["contact"]["id"] != two["contact"]["id"]
    assert [a["type"] for a in one["contact"]["addresses"]] == ["user_id"]


VARIANTS = [
    pytest.param("5541988887777", "554188887777", id="Brazil"),
    pytest.param("5491123456789", "541123456789", id="Argentina"),
    pytest.param("5215512345678", "525512345678", id="Mexico"),
]


@pytest.mark.parametrize(("long", "short"), VARIANTS)
@pytest.mark.parametrize("is_one_batch", [True, False], ids=["one batch", "two posts"])
async def test_b8_variants_of_one_phone_are_one_contact_and_the_reported_form_is_kept(
    hub_world: World, wire: Wire, database_url: str, long: str, short: str, is_one_batch: bool
) -> None:
    (service,) = await hub_world.connected("helpdesk")
    items = [text("one", long), text("two", short)]
    for part in [items] if is_one_batch else [[item] for item in items]:
        assert (await wire.meta(envelope(value(part)))).status == 200
    assert (await wire.twilio(sms("three", f"+{short}"))).status == 200
    one, two, three = await events_of(service, "message.received", 3)
    assert one["contact"]["id"] == two["contact"]["id"] == three["contact"]["id"]
    assert one["conversation"]["id"] == two["conversation"]["id"] != three["conversation"]["id"]
    reported = {(a["type"], a["value"]) for a in three["contact"]["addresses"]}
    assert reported <= {("phone", f"+{long}"), ("phone", f"+{short}")}
    assert reported
    assert await ask(database_url, "select count(*) from contact") == 1
    for data, reported in ((two, f"+{short}"), (three, f"+{short}")):
        assert (await service.reply(data["conversation"]["id"], "yes")).status == 202
        await hub_world.simulator.wait_for(lambda data=data: len(hub_world.simulator.sent) > (data is three))
        assert hub_world.simulator.sent[-1].to == reported


async def test_b8_neighbours_of_the_variants_are_other_people(hub_world: World, wire: Wire, database_url: str) -> None:
    """A land line in Brazil has no ninth digit; other countries' numbers are taken as they are."""
    phones = ["554133334444", "5541933334444", "491511234567", "4915112345678", "15512345678", "525512345678"]
    assert (await wire.meta(envelope(value([text("x", phone) for phone in phones])))).status == 200
    assert await ask(database_url, "select count(*) from contact") == len(phones)


# Kinds of items -----------------------------------------------------------------------------------------------------


async def timeline(service: Service, conversation: str) -> dict[str, dict[str, Any]]:
    answer = await service.call("GET", f"/v1/conversations/{conversation}/messages")
    return {item.get("provider_id"): item for item in answer.json["items"]}


@pytest.mark.parametrize("is_one_batch", [True, False], ids=["one batch", "a post each"])
async def test_b5_edits_revokes_reactions_and_removals_are_events_of_their_own(
    hub_world: World, wire: Wire, is_one_batch: bool
) -> None:
    (service,) = await hub_world.connected("helpdesk")
    first, gone = text("helo"), text("oops")
    kinds = [
        meta_webhooks.edit(first["id"], meta_webhooks.text("hello")),
        meta_webhooks.revoke(gone["id"]),
        meta_webhooks.reaction(first["id"], "👍"),
        meta_webhooks.reaction(first["id"], None),
    ]
    items = [first, gone, *({**text("x"), **kind, "text": None} for kind in kinds)]
    for part in [items] if is_one_batch else [[item] for item in items]:
        assert (await wire.meta(envelope(value(part)))).status == 200
    await service.endpoint.hears("reaction.changed", 2)
    assert [d.type for d in service.endpoint.deliveries if "conversation" in d.data] == [
        "message.received", "message.received", "message.edited", "message.deleted", "reaction.changed",
        "reaction.changed",
    ]  # fmt: skip
    assert_in_order(service.endpoint)
    received = [data["message"]["id"] for data in await events_of(service, "message.received", 2)]
    (edited,) = await events_of(service, "message.edited", 1)
    (deleted,) = await events_of(service, "message.deleted", 1)
    set_, removed = await events_of(service, "reaction.changed", 2)
    assert (edited["message"]["id"], edited["message"]["text"]) == (received[0], "hello")
    assert deleted["message"]["id"] == received[1]
    assert set_["reaction"]["message"]["id"] == removed["reaction"]["message"]["id"] == received[0]
    assert (set_["reaction"]["emoji"], removed["reaction"]["emoji"]) == ("👍", None)
    rows = await timeline(service, edited["conversation"]["id"])
    assert rows[first["id"]]["text"] == "hello"
    assert rows[first["id"]]["edited_at"]
    assert rows[gone["id"]]["deleted_at"]


async def test_b5_unknown_types_are_delivered_with_the_raw_item(hub_world: World, wire: Wire) -> None:
    (service,) = await hub_world.connected("helpdesk")
    odd = {**text("x"), "type": "hologram", "hologram": {"depth": 3, "größe": [1, {"a": None}], "n": 1.5}}
    misshapen = {**text("x"), "type": "location", "location": "here"}
    nameless = {key: part for key, part in text("x").items() if key != "type"}
    items = [odd, misshapen, nameless]
    assert (await wire.meta(envelope(value(items)))).status == 200
    for item, data in zip(items, await events_of(service, "message.received", 3), strict=True):
        assert data["message"]["type"] == "unsupported"
        assert data["message"]["raw"] == item
    rows = await timeline(service, data["conversation"]["id"])
    assert rows[odd["id"]]["raw"] == odd


BUTTONS = {
    "button": meta_webhooks.button("Yes, please", "SECRET-1"),
    "button_reply": meta_webhooks.button_reply("SECRET-1", "Yes, please"),
    "list_reply": meta_webhooks.list_reply("SECRET-1", "Yes, please"),
    "flow": meta_webhooks.flow_reply({"token": "SECRET-1"}),
}


@pytest.mark.parametrize("content", BUTTONS.values(), ids=BUTTONS)
async def test_c1_payloads_of_buttons_go_to_the_author_only(
    hub_world: World, database_url: str, content: dict[str, Any]
) -> None:
    helpdesk, crm, marketing = await hub_world.connected(*TRIO)
    customer = hub_world.customer(Person("+4915112345678"))
    await customer.says("hi")
    conversation = (await events_of(crm, "message.received", 1))[0]["conversation"]["id"]
    assert (await crm.reply(conversation, "Shall I?", query="?wait=5")).status == 202
    sent = await customer.hears()
    tapped = await customer.sends(content, reply_to=sent.provider_id)
    for service in (helpdesk, crm, marketing):
        tap = (await events_of(service, "message.received", 2))[1]
        seen = [json.dumps(tap), json.dumps((await timeline(service, conversation))[tapped])]
        assert [("SECRET-1" in text) for text in seen] == [service is crm] * 2
        assert ("Yes, please" in seen[0]) is (content["type"] != "interactive" or "nfm_reply" not in seen[0])
        assert tap["message"]["reply_to"]["provider_id"] == sent.provider_id
    stored = await ask(database_url, "select data from event where type = 'message.received' order by id desc limit 1")
    assert "SECRET-1" in stored


# Duplicates (B4) ----------------------------------------------------------------------------------------------------


async def test_b4_an_item_is_stored_once_however_it_is_repeated(
    hub_world: World, wire: Wire, database_url: str
) -> None:
    (service,) = await hub_world.connected("helpdesk")
    one, two, three = text("one"), text("two"), text("three")
    nameless = {key: part for key, part in text("no id").items() if key != "id"}
    reordered = dict(reversed(nameless.items()))
    bodies = [
        envelope(value([one, one, two]), value([one])),
        envelope(value([two]), value([three, one])),
        envelope(value([nameless, reordered]), value([one, two, three])),
        envelope(value([reordered])),
    ]
    for body in (*bodies, *bodies):
        assert (await wire.meta(body)).status == 200
    events = await events_of(service, "message.received", 4)
    assert [data["message"]["text"] for data in events] == ["one", "two", "three", "no id"]
    assert await ask(database_url, "select count(*) from event where type = 'message.received'") == 4
    form = sms("four")
    for _ in range(3):
        assert (await wire.twilio(form)).status == 200
    assert await ask(database_url, "select count(*) from event where type = 'message.received'") == 5
    assert await ask(database_url, "select count(*) from message") == 5


async def test_b4_an_item_without_id_is_another_one_at_another_number(
    hub_world: World, wire: Wire, database_url: str
) -> None:
    nameless = {key: part for key, part in text("no id").items() if key != "id"}
    assert (await wire.meta(envelope(value([nameless]), value([nameless], number_id=SECOND_ID)))).status == 200
    assert await ask(database_url, "select count(*) from message") == 2


async def test_b4_twenty_posts_of_the_same_batch_at_once(hub_world: World, wire: Wire, database_url: str) -> None:
    (service,) = await hub_world.connected("helpdesk")
    people = [f"49151000000{n:02d}" for n in range(10)]
    batch = [text(f"{phone}/{n}", phone) for n in range(2) for phone in people]
    form = sms("by SMS")
    posts = [wire.meta(envelope(value(batch))) for _ in range(20)] + [wire.twilio(form) for _ in range(20)]
    assert {reply.status for reply in await asyncio.gather(*posts)} == {200}
    events = await events_of(service, "message.received", 21)
    assert len({data["message"]["provider_id"] for data in events}) == 21
    assert await ask(database_url, "select count(*) from event where type = 'message.received'") == 21
    assert await ask(database_url, "select count(*) from contact") == 11
    assert_in_order(service.endpoint)


async def test_b4_what_was_lost_half_way_in_a_batch_of_duplicates_is_not(hub_world: World, wire: Wire) -> None:
    """A batch that mixes seen and new items, unknown numbers and nonsense, takes in what is new."""
    (service,) = await hub_world.connected("helpdesk")
    seen, new = text("seen"), text("new")
    assert (await wire.meta(envelope(value([seen])))).status == 200
    assert (await wire.meta(envelope(value([text("x")], number_id="404"), value([seen, 5, new])))).status == 200
    events = await events_of(service, "message.received", 2)
    assert [data["message"]["text"] for data in events] == ["seen", "new"]


# Statuses (E7) ------------------------------------------------------------------------------------------------------


def status_of(send: SimulatedSend, name: str, *, is_named: bool) -> dict[str, Any]:
    """A status, with or without the hub's own id."""
    hub_id = send.hub_id if is_named else None
    code = 131026 if name == "failed" else None
    made: dict[str, Any] = meta_webhooks.status(
        name, message_id=send.provider_id, to=send.to, at=1_700_000_000, hub_id=hub_id, error_code=code
    )
    return made


async def conversation_of(world: World, service: Service, person: Person) -> str:
    await world.customer(person).says("hi")
    await service.endpoint.hears("message.received")
    conversation: str = service.endpoint.of("message.received")[0].data["conversation"]["id"]
    return conversation


@pytest.mark.parametrize("is_named", [True, False], ids=["with our id", "without"])
async def test_e7_statuses_before_the_provider_id_is_known_are_parked_and_applied(
    hub_world: World, wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """The provider reports, backwards even, before it has answered the send."""
    (service,) = await hub_world.connected("helpdesk")
    conversation = await conversation_of(hub_world, service, Person("+4915112345678"))
    parked = []

    async def report(send: SimulatedSend, step: str, **_: Any) -> None:
        body = envelope(value([status_of(send, step, is_named=is_named)], name="statuses"))
        assert (await wire.meta(body)).status == 200
        parked.append(await ask(database_url, "select count(*) from orphan_status"))

    hub_world.simulator.status_plan = StatusPlan(("read", "delivered", "sent"), before_answer=True)
    monkeypatch.setattr(hub_world.simulator, "report", report)
    made = (await service.reply(conversation, "soon")).json["message"]["id"]
    await service.endpoint.wait(lambda me: any(d.data["message"]["status"] == "read" for d in me.of("message.status")))
    assert parked == ([1, 2, 3] if not is_named else [0] * len(parked))

    async def settled() -> dict[str, Any] | None:
        view: dict[str, Any] = (await service.call("GET", f"/v1/messages/{made}")).json
        return view if view["provider_id"] and "sent" in view["status_times"] else None

    view = await until(settled)
    assert view["status"] == "read"
    assert {"queued", "sent", "delivered", "read"} <= set(view["status_times"])
    assert await ask(database_url, "select count(*) from orphan_status") == 0
    states = [d.data["message"]["status"] for d in service.endpoint.of("message.status")]
    assert states == sorted(states, key=["queued", "sending", "sent", "delivered", "read"].index)
    assert_in_order(service.endpoint)


async def test_e7_statuses_of_messages_the_hub_never_sent_are_kept_aside(
    hub_world: World, wire: Wire, database_url: str
) -> None:
    await hub_world.connected("helpdesk")
    foreign = {"id": "wamid.foreign", "status": "delivered", "recipient_id": "49", "timestamp": "1700000000"}
    forged = foreign | {"id": "wamid.forged", "biz_opaque_callback_data": "msg_" + "0" * 32}
    odd = foreign | {"id": "wamid.odd", "biz_opaque_callback_data": "not ours"}
    for _ in range(2):
        assert (await wire.meta(envelope(value([foreign, forged, odd], name="statuses")))).status == 200
    assert await ask(database_url, "select count(*) from orphan_status") == 3
    assert await ask(database_url, "select count(*) from event where type = 'message.status'") == 0


async def test_e7_an_echo_takes_the_statuses_that_came_before_it(
    hub_world: World, wire: Wire, database_url: str
) -> None:
    """The same message of the phone app, its status first: every order ends in one state."""
    for order in ((0, 1), (1, 0)):
        echo = text("from the app") | {"from": NUMBER[1:], "to": "4915112345678"}
        status = {"id": echo["id"], "status": "read", "recipient_id": "4915112345678", "timestamp": "1700000001"}
        bodies = [
            envelope(value([echo], name="message_echoes"), field="smb_message_echoes"),
            envelope(value([status], name="statuses")),
        ]
        for place in order:
            assert (await wire.meta(bodies[place])).status == 200
        stored = "select status from message where provider_id = $1"
        assert await ask(database_url, stored, echo["id"]) == "read", order


ORDERS = list(permutations(("sent", "delivered", "read", "failed")))


@pytest.mark.parametrize("way", ["one after the other", "in one batch", "all at once"])
async def test_e7_every_order_of_statuses_ends_in_one_state(
    hub_world: World, wire: Wire, database_url: str, way: str
) -> None:
    (service,) = await hub_world.connected("helpdesk")
    hub_world.simulator.status_plan = StatusPlan.none()
    conversation = await conversation_of(hub_world, service, Person("+4915112345678"))
    made = [
        (await service.reply(conversation, f"order {n}", agent=f"a{n}")).json["message"]["id"]
        for n in range(len(ORDERS))
    ]
    sends = hub_world.simulator.sent
    await hub_world.simulator.wait_for(lambda: len(sends) == len(ORDERS))
    known = "select count(*) from message where direction = 'outbound' and provider_id is not null"

    async def all_known() -> bool:
        return bool(await ask(database_url, known) == len(ORDERS))

    await until(all_known)
    by_id = {send.hub_id: send for send in sends}
    reports = [
        [value([status_of(by_id[key], name, is_named=bool(n % 2))], name="statuses") for name in order]
        for n, (key, order) in enumerate(zip(made, ORDERS, strict=True))
    ]
    if way == "in one batch":
        assert (await wire.meta(envelope(*(part for parts in reports for part in parts)))).status == 200
    elif way == "one after the other":
        for parts in zip(*reports, strict=True):
            assert (await wire.meta(envelope(*parts))).status == 200
    else:
        posts = [wire.meta(envelope(part)) for parts in reports for part in parts]
        random.Random(7).shuffle(posts)
        assert {reply.status for reply in await asyncio.gather(*posts)} == {200}
    ends = set()
    for key in made:
        view = (await service.call("GET", f"/v1/messages/{key}")).json
        ends.add((view["status"], view["conflict"], *sorted(view["status_times"]), view["error"]["provider_code"]))
    assert ends == {("read", True, "delivered", "failed", "queued", "read", "sending", "sent", "131026")}
    last = "select count(*) from event where type = 'message.status'"
    before = await ask(database_url, last)
    await wire.meta(envelope(*(part for parts in reports for part in parts)))
    assert await ask(database_url, last) == before  # B4: the same statuses again are nothing new
    await service.endpoint.hears("message.status", before)
    assert_in_order(service.endpoint)


async def test_e7_words_that_are_no_status_are_recorded_only(hub_world: World, wire: Wire, database_url: str) -> None:
    (service,) = await hub_world.connected("helpdesk")
    hub_world.simulator.status_plan = StatusPlan.none()
    conversation = await conversation_of(hub_world, service, Person("+4915112345678"))
    made = (await service.reply(conversation, "x", query="?wait=5")).json["message"]["id"]
    (send,) = hub_world.simulator.sent
    before = await ask(database_url, "select count(*) from event")
    items = [status_of(send, name, is_named=True) for name in ("deleted", "warning", "next-year")]
    assert (await wire.meta(envelope(value(items, name="statuses")))).status == 200
    assert await ask(database_url, "select count(*) from event") == before
    view = (await service.call("GET", f"/v1/messages/{made}")).json
    assert view["status"] == "sending"
    recorded = "select count(*) from message_status where reported in ('deleted', 'warning', 'next-year')"
    assert await ask(database_url, recorded) == 3
    played = status_of(send, "played", is_named=True)
    assert (await wire.meta(envelope(value([played], name="statuses")))).status == 200
    assert (await service.call("GET", f"/v1/messages/{made}")).json["status"] == "read"
