"""Read marks and typing: what the customer is shown, and what a medium cannot show (rule E10)."""

from providers.simulator import Fault
from tests.support.talk import MIA, ends, operator_events, timeline, writes
from tests.support.wire import ask
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Answer, Service, World

OTHER = "+15550002222"


async def read(service: Service, conversation: str, **fields: object) -> Answer:
    """Mark the customer's latest message as read."""
    return await service.call("POST", f"/v1/conversations/{conversation}/read", fields or None)


def marks(made: World) -> list[tuple[str, str, bool]]:
    """What the providers were told: sender, message, typing."""
    return [(mark.sender, mark.message_id, mark.is_typing) for mark in made.simulator.read_marks]


async def test_e10_the_latest_message_is_marked_at_the_provider(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    await writes(customer, helpdesk, text="And?")
    reply = (await helpdesk.reply(conversation, "In a moment.")).json["message"]["id"]
    await ends(helpdesk, reply, "read")
    latest = next(item for item in await timeline(crm, conversation) if item["direction"] == "inbound")
    assert latest["text"] == "And?"

    stranger, reader = await hub_world.service("stranger"), await hub_world.service("reader", scopes=["read"])
    await reader.call("PUT", f"/v1/numbers/{NUMBER}/connection", {})
    before = await operator_events(hub_world)
    for service, fields, is_typing in (
        (crm, {}, False),
        (helpdesk, {"typing": False}, False),
        (crm, {"typing": True}, True),
    ):
        answer = await read(service, conversation, **fields)
        assert (answer.status, answer.json) == (200, {"message_id": latest["id"], "typing": is_typing})
        assert marks(hub_world)[-1] == (PHONE_NUMBER_ID, latest["provider_id"], is_typing)
    assert len(marks(hub_world)) == 3

    for body in ({"typing": "yes"}, {"tiping": True}, {"typing": 1}):
        answer = await crm.call("POST", f"/v1/conversations/{conversation}/read", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request")
        assert [fault["pointer"] for fault in answer.json["errors"]] == [f"/{next(iter(body))}"]
    assert (await read(stranger, conversation)).status == 404
    assert (await read(reader, conversation)).json["code"] == "missing_scope"

    for fault, status, code in (
        (Fault.refused(131009), 502, "provider_refused"),
        (Fault.unavailable(), 503, "provider_unavailable"),
        (Fault.throttled(), 503, "provider_unavailable"),
        (Fault.bare(502), 503, "provider_unavailable"),
    ):
        hub_world.simulator.fail_next_asked(fault)
        answer = await read(crm, conversation)
        assert (answer.status, answer.json["code"], answer.json["provider"]) == (status, code, "meta"), answer
        assert answer.json["reason"]
        assert "(rule E10)" in answer.json["detail"]
    assert len(marks(hub_world)) == 3
    assert await operator_events(hub_world) == before

    await ask(database_url, "update message set provider_id = null where direction = 'inbound'")
    answer = await read(crm, conversation)
    assert (answer.status, answer.json["code"]) == (409, "nothing_to_mark")


async def test_e10_what_twilio_can_show(hub_world: World, database_url: str) -> None:
    await ask(
        database_url,
        "update sender set provider = 'twilio', external_id = $1 where external_id = '100000000000002'",
        OTHER,
    )
    (crm,), shop = await hub_world.connected("crm"), await hub_world.service("shop")
    await shop.connect(OTHER)
    sms = await writes(hub_world.customer(MIA, provider="twilio", medium="sms"), crm)
    chatting = hub_world.customer(MIA, number=OTHER, provider="twilio")
    chat = await writes(chatting, shop)
    for service, conversation, fields, what in (
        (crm, sms, {}, "read"),
        (crm, sms, {"typing": True}, "typing"),
        (shop, chat, {}, "read"),
    ):
        answer = await read(service, conversation, **fields)
        assert (answer.status, answer.json["code"], answer.json["unsupported"]) == (422, "unsupported_on_medium", what)
    assert marks(hub_world) == []
    assert (await read(shop, chat, typing=True)).status == 200
    (seen,) = await timeline(shop, chat)
    assert marks(hub_world) == [(OTHER, seen["provider_id"], True)]
