"""The business writes first: `POST /v1/messages` (rules B8, E1 to E6)."""

import asyncio
from typing import Any
from uuid import uuid4

from providers.simulator import Person
from tests.support.talk import MIA, conversation_of, ends, timeline, writes
from tests.support.wire import ask
from tests.support.world import NUMBER, Answer, Service, World

BODY = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}, "type": "text", "text": "Hello, this is us"}
SMS = {"provider": "twilio", "medium": "sms"}
USER_ID = "US.13491208655302741918"
TEMPLATE = {"text": None, "type": "template", "template": {"name": "hello", "language": "en"}}


async def begins(service: Service, to: str | None = MIA.phone, medium: str = "sms", **more: Any) -> Answer:
    """An agent writes first."""
    headers, query = more.pop("headers", {}), more.pop("query", "")
    body = {**BODY, "to": to, "medium": medium, "from": NUMBER, **more}
    body = {name: value for name, value in body.items() if value is not None}
    return await service.call("POST", f"/v1/messages{query}", body, **headers)


def message_id(answer: Answer) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


async def queued(service: Service, name: str) -> dict[str, Any]:
    """The event of an accepted message."""
    await service.endpoint.wait(lambda me: any(d.data["message"]["id"] == name for d in me.of("message.queued")))
    return next(d.data for d in service.endpoint.of("message.queued") if d.data["message"]["id"] == name)


async def test_b8_the_answer_lands_in_the_conversation_that_was_begun(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    answer = await begins(crm, query="?wait=5")
    name = message_id(answer)
    assert answer.json["message"]["provider_id"]
    mine, theirs = await queued(crm, name), await queued(helpdesk, name)
    conversation = mine["conversation"]["id"]
    assert answer.json["message"]["conversation_id"] == conversation
    assert theirs["conversation"] == mine["conversation"]
    assert theirs["message"]["masked"] is True
    assert mine["contact"]["addresses"] == [{"type": "phone", "value": MIA.phone}]
    customer = hub_world.customer(MIA, **SMS)
    assert (await customer.hears()).text == BODY["text"]
    again = await begins(crm)  # nor is that left out where nobody waits for the provider
    assert again.json["message"]["conversation_id"] == conversation
    assert await writes(customer, helpdesk, crm, text="Thank you") == conversation
    assert conversation_of(crm, "Thank you") == conversation
    heard = crm.endpoint.of("message.received")[0].data
    assert heard["contact"]["id"] == mine["contact"]["id"]
    assert [item["direction"] for item in await timeline(helpdesk, conversation)] == ["inbound", "outbound", "outbound"]
    assert (await helpdesk.reply(conversation, "Welcome")).status == 202
    assert await writes(hub_world.customer(MIA), helpdesk, text="on WhatsApp") != conversation
    whatsapp = helpdesk.endpoint.of("message.received")[-1].data["contact"]
    assert whatsapp["id"] == mine["contact"]["id"]  # one proved phone is one person on both


async def test_b8_a_conversation_that_exists_is_used_whatever_the_number_s_form(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    customer = hub_world.customer(Person("+5215512345678"), **SMS)
    conversation = await writes(customer, helpdesk, text="Hola")
    event = await queued(helpdesk, message_id(await begins(helpdesk, "+525512345678")))
    assert event["conversation"]["id"] == conversation
    assert (await customer.hears()).to == "+5215512345678"  # the form that was reported


async def test_b8_an_address_that_was_merely_declared_does_not_match(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    declared = uuid4()
    await ask(database_url, "insert into contact (id, name) values ($1, 'Somebody')", declared)
    await ask(
        database_url,
        "insert into contact_address (contact_id, type, value, match_key, is_proved)"
        " values ($1, 'phone', $2, $2, false)",
        declared,
        MIA.phone,
    )
    event = await queued(helpdesk, message_id(await begins(helpdesk)))
    assert event["contact"]["id"] != f"con_{declared.hex}"
    assert event["contact"]["name"] is None
    conversation = await writes(hub_world.customer(MIA, **SMS), helpdesk, text="It is me")
    assert conversation == event["conversation"]["id"]


async def test_e4_on_whatsapp_it_takes_a_template(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    for to in (MIA.phone, USER_ID):
        refused = await begins(crm, to, "whatsapp")
        assert (refused.status, refused.json["code"], refused.json["closed_at"]) == (409, "reply_window_closed", None)
        assert "template" in refused.json["detail"]
    assert await ask(database_url, "select (select count(*) from contact) + (select count(*) from conversation)") == 0
    hub_world.simulator.templates = []  # any will do
    for person in (MIA, Person(user_id=USER_ID, name="Hidden")):
        customer = hub_world.customer(person)
        event = await queued(crm, message_id(await begins(crm, person.phone or person.user_id, "whatsapp", **TEMPLATE)))
        assert (await customer.hears()).type == "template"
        text = f"Thank you, says {person.name}"
        assert await writes(customer, helpdesk, crm, text=text) == event["conversation"]["id"]
    assert await ask(database_url, "select count(*) from contact") == 2


async def test_e2_automation_that_is_refused_leaves_nothing_behind(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    robot = {"origin": "notification", "agent": None}
    refused = await begins(crm, **robot)
    assert (refused.status, refused.json["code"]) == (409, "not_parent")
    assert await ask(database_url, "select (select count(*) from contact) + (select count(*) from conversation)") == 0
    event = await queued(crm, message_id(await begins(helpdesk, **robot)))
    assert event["message"]["origin"] == "notification"
    opened = "select s.name from conversation c join service s on s.id = c.opened_by"
    assert await ask(database_url, opened) == "helpdesk"
    later = await begins(helpdesk, "+491600000001", **robot, send_at="2099-01-01T00:00:00Z")
    assert (later.status, later.json["errors"][0]["pointer"]) == (422, "/send_at")


async def test_e6_twins_make_one_conversation(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    key = {"Idempotency-Key": "twin"}
    same = await asyncio.gather(*(begins(crm, headers=key) for _ in range(10)))
    assert len({message_id(answer) for answer in same}) == 1
    other = await begins(crm, "+491600000001", headers=key)
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")
    assert await ask(database_url, "select count(*) from contact") == 1

    robot = {"origin": "notification", "agent": None}
    each = [begins(crm, "+491600000002") for _ in range(8)] + [begins(helpdesk, "+491600000002") for _ in range(4)]
    each += [begins(helpdesk, "+491600000002", **robot) for _ in range(8)]
    answers = await asyncio.gather(*each)
    assert len({message_id(answer) for answer in answers}) == 20
    assert await ask(database_url, "select count(*) from conversation") == 2
    assert await ask(database_url, "select count(*) from contact") == 2
    sequences = sorted(answer.json["message"]["sequence"] for answer in answers)
    assert len(set(sequences)) == 20


async def test_e6_refusals_of_first_messages_are_not_stored(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    crm = await hub_world.service("crm")
    key = {"Idempotency-Key": "later"}
    refused = await begins(crm, headers=key)
    assert (refused.status, refused.json["code"]) == (409, "not_connected")
    await crm.connect()
    name = message_id(await begins(crm, headers=key))
    await ends(helpdesk, name, "delivered")


async def test_e1_every_fault_of_a_first_message_is_told(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    for change, places in (
        ({"to": None}, {"/to"}),
        ({"to": "4915112345678"}, {"/to"}),
        ({"to": USER_ID}, {"/to"}),
        ({"to": NUMBER}, {"/to"}),
        ({"to": "Acme", "medium": "whatsapp"}, {"/to"}),
        ({"from": "x"}, {"/from"}),
        ({"from_": NUMBER}, {"/from_"}),
        ({"medium": "fax"}, {"/medium"}),
        ({"to": 7, "medium": None, "from": None, "agent": None}, {"/to", "/medium", "/from", "/agent"}),
    ):
        answer = await begins(helpdesk, **change)  # type: ignore[arg-type]
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), (change, answer)
        assert {fault["pointer"] for fault in answer.json["errors"]} >= places, (change, answer)
    for change, status, code in (
        ({"from": "+15550009999"}, 404, "not_found"),
        ({"from": "+15550002222"}, 409, "not_connected"),
    ):
        answer = await begins(helpdesk, **change)  # type: ignore[arg-type]
        assert (answer.status, answer.json["code"]) == (status, code), answer
    await ask(database_url, "update sender set is_active = false where medium = 'sms'")
    assert (await begins(helpdesk)).json["code"] == "no_sender"
    for scopes, missing in ((["read", "automate"], "reply"), (["read", "reply"], "automate")):
        service = await hub_world.service("scoped", scopes=scopes)
        origin = {} if missing == "reply" else {"origin": "notification", "agent": None}
        answer = await begins(service, **origin)
        assert (answer.status, answer.json["scope"]) == (403, missing)
    assert await ask(database_url, "select (select count(*) from contact) + (select count(*) from conversation)") == 0


async def test_a3_a_standalone_channel_has_its_own_conversation(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    (books,) = await hub_world.connected("books", plan="standalone")
    ours = await queued(helpdesk, message_id(await begins(helpdesk)))
    theirs = await queued(books, message_id(await begins(books)))
    assert ours["conversation"]["id"] != theirs["conversation"]["id"]
    assert ours["contact"]["id"] == theirs["contact"]["id"]
    robot = await begins(books, origin="notification", agent=None)
    assert (robot.status, robot.json["code"]) == (409, "number_shared")
    await writes(hub_world.customer(MIA, **SMS), helpdesk, books, text="Thanks")
    assert conversation_of(helpdesk, "Thanks") == ours["conversation"]["id"]
    assert conversation_of(books, "Thanks") == theirs["conversation"]["id"]
