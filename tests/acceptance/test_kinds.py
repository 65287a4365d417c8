"""Message kinds: what arrives at the provider, field by field, and what each medium refuses (rule E10)."""

from collections.abc import Sequence
from typing import Any

from providers.simulator import Customer
from tests.support.talk import MIA, ends, timeline, writes
from tests.support.wire import ask
from tests.support.world import Answer, Service, World

OTHER = "+15550002222"
URL = "https://files.example.com/a%20b.jpg"
AGENT = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}}
ROWS = [{"id": "mo", "title": "Monday", "description": "all day"}, {"id": "tu", "title": "Tuesday"}]


async def post(service: Service, conversation: str, kind: str, **fields: Any) -> Answer:
    """Send a message of this kind."""
    return await service.call("POST", f"/v1/conversations/{conversation}/messages", AGENT | {"type": kind} | fields)


async def arrives(service: Service, conversation: str, customer: Customer, kind: str, **fields: Any) -> Any:
    """Send it, and give what the provider was asked."""
    answer = await post(service, conversation, kind, **fields)
    assert answer.status == 202, answer
    sent = await customer.hears()
    assert sent.hub_id == answer.json["message"]["id"]
    return sent.body


async def refused(service: Service, conversation: str, kind: str, **fields: Any) -> tuple[int, str, Sequence[str]]:
    """Status, code and the places of the faults."""
    answer = await post(service, conversation, kind, **fields)
    assert "(rule E" in answer.json["detail"], answer
    return answer.status, answer.json["code"], [fault["pointer"] for fault in answer.json["errors"]]


async def test_e10_what_meta_is_asked(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, crm)

    async def part(kind: str, **fields: Any) -> Any:
        body = await arrives(crm, conversation, customer, kind, **fields)
        assert body["type"] == kind
        return body[kind]

    assert await part("text", text="see https://x.org", preview_url=True) == {
        "body": "see https://x.org",
        "preview_url": True,
    }
    file = {"url": URL, "filename": "Plan.pdf", "mime_type": "application/pdf"}
    assert await part("document", media=file, text="the plan") == {
        "link": URL,
        "caption": "the plan",
        "filename": "Plan.pdf",
    }
    for kind in ("image", "video", "audio", "sticker"):
        assert await part(kind, media={"url": URL}) == {"link": URL}
    body = await arrives(crm, conversation, customer, "media", media=[{"url": "https://x.org/a.mp3?v=1"}])
    assert (body["type"], body["audio"]) == ("audio", {"link": "https://x.org/a.mp3?v=1"})
    body = await arrives(
        crm, conversation, customer, "media", media={"url": "https://x.org/a", "mime_type": "image/png"}
    )
    assert (body["type"], body["image"]) == ("image", {"link": "https://x.org/a"})

    components = [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}]
    template = {"name": "order_update", "language": "en", "components": components}
    assert await part("template", template=template) == {
        "name": "order_update",
        "language": {"code": "en"},
        "components": components,
    }
    buttons = [{"id": "y", "title": "Yes"}, {"id": "n", "title": "No"}]
    assert await part("interactive", interactive={"type": "buttons", "text": "Now?", "header": "H", "footer": "F",
                                                  "buttons": buttons}) == {
        "type": "button",
        "body": {"text": "Now?"},
        "header": {"type": "text", "text": "H"},
        "footer": {"text": "F"},
        "action": {"buttons": [{"type": "reply", "reply": button} for button in buttons]},
    }  # fmt: skip
    sections = [{"title": "Days", "rows": ROWS}]
    assert await part("interactive", interactive={"type": "list", "text": "When?", "button": "Pick",
                                                  "sections": sections}) == {
        "type": "list",
        "body": {"text": "When?"},
        "action": {"button": "Pick", "sections": sections},
    }  # fmt: skip
    assert await part("interactive", interactive={"type": "cta_url", "text": "Pay", "title": "Pay now",
                                                  "url": "https://pay.example.com"}) == {
        "type": "cta_url",
        "body": {"text": "Pay"},
        "action": {"name": "cta_url", "parameters": {"display_text": "Pay now", "url": "https://pay.example.com"}},
    }  # fmt: skip
    place = {"latitude": 52.52, "longitude": 13.405, "name": "Office", "address": "Street 1"}
    assert await part("location", location=place) == place
    card = {"name": {"formatted_name": "Ana Lima", "first_name": "Ana"}, "phones": [{"phone": "+15550009999"}]}
    assert await part("contacts", contacts=[card]) == [card]

    asked = (await timeline(crm, conversation))[-1]
    assert (asked["direction"], asked["text"]) == ("inbound", "Hello")
    assert await part("reaction", reaction={"message_id": asked["id"], "emoji": "👍"}) == {
        "message_id": asked["provider_id"],
        "emoji": "👍",
    }
    assert await part("reaction", reaction={"message_id": asked["id"], "emoji": None}) == {
        "message_id": asked["provider_id"],
        "emoji": "",
    }
    for reference in (asked["id"], asked["provider_id"]):
        body = await arrives(crm, conversation, customer, "text", text="that one", reply_to=reference)
        assert body["context"] == {"message_id": asked["provider_id"]}


async def test_e10_what_twilio_is_asked(hub_world: World, database_url: str) -> None:
    await ask(
        database_url,
        "update sender set provider = 'twilio', external_id = $1 where external_id = '100000000000002'",
        OTHER,
    )
    (crm,) = await hub_world.connected("crm")
    shop = await hub_world.service("shop")
    await shop.connect(OTHER)
    template = {"content_sid": "HX" + "0a" * 16, "variables": {"1": "4711"}}
    files = [{"url": f"https://x.org/{n}.png"} for n in range(10)]

    texting = hub_world.customer(MIA, provider="twilio", medium="sms")
    sms = await writes(texting, crm, text="by sms")
    body = await arrives(crm, sms, texting, "text", text="hi")
    assert (body["Body"], body["To"]) == ("hi", MIA.phone)
    body = await arrives(crm, sms, texting, "media", media=files, text="ten")
    assert (body["MediaUrl"], body["Body"]) == ([file["url"] for file in files], "ten")
    body = await arrives(crm, sms, texting, "template", template=template)
    assert (body["ContentSid"], body["ContentVariables"]) == (template["content_sid"], '{"1":"4711"}')
    assert "Body" not in body

    chatting = hub_world.customer(MIA, number=OTHER, provider="twilio")
    chat = await writes(chatting, shop, text="by chat")
    body = await arrives(shop, chat, chatting, "image", media={"url": URL}, text="one")
    assert (body["MediaUrl"], body["Body"], body["To"]) == ([URL], "one", f"whatsapp:{MIA.phone}")
    body = await arrives(
        shop, chat, chatting, "location", location={"latitude": 52.5, "longitude": 13.4, "name": "Office"}
    )
    assert (body["Body"], body["PersistentAction"]) == ("Office", ["geo:52.500000,13.400000"])
    body = await arrives(shop, chat, chatting, "template", template=template)
    assert (body["ContentSid"], body["To"]) == (template["content_sid"], f"whatsapp:{MIA.phone}")

    buttons = {"type": "buttons", "text": "?", "buttons": [{"id": "1", "title": "a"}]}
    cannot: dict[str, dict[str, Any]] = {
        "interactive": {"interactive": buttons},
        "contacts": {"contacts": [{"name": {"formatted_name": "A", "first_name": "A"}}]},
        "reaction": {"reaction": {"message_id": "msg_1", "emoji": "👍"}},
        "sticker": {"media": {"url": URL}},
    }
    place = {"location": {"location": {"latitude": 1, "longitude": 1}}}
    for service, conversation, more in ((crm, sms, place), (shop, chat, {})):
        for kind, fields in (cannot | more).items():
            assert await refused(service, conversation, kind, **fields) == (422, "unsupported_on_medium", ["/type"]), (
                kind
            )
        answer = await post(service, conversation, "text", text="x", reply_to="SM1")
        assert (answer.status, answer.json["code"]) == (422, "unsupported_on_medium")
        assert answer.json["unsupported"] == "reply_to"
        assert await refused(service, conversation, "template", template={"name": "a", "language": "en"}) == (
            422,
            "template_mismatch",
            ["/template"],
        )
    assert await refused(shop, chat, "image", media=files[:2]) == (422, "unsupported_on_medium", ["/media"])
    for service, conversation in ((crm, sms), (shop, chat)):
        assert await refused(service, conversation, "text", text="x" * 1601) == (422, "text_too_long", ["/text"])
    pdf = {"url": "https://x.org/a.pdf"}
    assert await refused(shop, chat, "document", media=pdf, text="x") == (422, "unsupported_on_medium", ["/text"])
    assert len(hub_world.simulator.attempts) == 6


async def test_e10_what_is_refused_before_the_provider_is_asked(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    elsewhere = await writes(hub_world.customer(MIA, provider="twilio", medium="sms"), crm, text="by sms")
    foreign = (await timeline(crm, elsewhere))[0]["id"]
    (latest,) = await timeline(crm, conversation)
    refusals: list[tuple[str, dict[str, Any], tuple[str, list[str]]]] = [
        ("text", {"text": "x" * 4097}, ("text_too_long", ["/text"])),
        ("image", {"media": {"url": URL}, "text": "x" * 1025}, ("text_too_long", ["/text"])),
        ("audio", {"media": {"url": URL}, "text": "x"}, ("unsupported_on_medium", ["/text"])),
        ("image", {"media": [{"url": URL}] * 2}, ("unsupported_on_medium", ["/media"])),
        ("image", {"media": {"url": URL, "mime_type": "image/gif"}},
         ("media_type_unsupported", ["/media/0/mime_type"])),
        ("media", {"media": {"url": "https://x.org/a"}}, ("invalid_request", ["/media/0/mime_type"])),
        ("media", {"media": {"id": "med_7"}}, ("unknown_media", ["/media/0/id"])),
        ("image", {"media": {"id": "med_" + "0" * 32}}, ("unknown_media", ["/media/0/id"])),
        ("template", {"template": {"content_sid": "HX" + "0" * 32}}, ("template_mismatch", ["/template"])),
        ("reaction", {"reaction": {"message_id": foreign, "emoji": "👍"}},
         ("unknown_message", ["/reaction/message_id"])),
        ("text", {"text": "x", "reply_to": foreign}, ("unknown_message", ["/reply_to"])),
        ("text", {"text": "x", "reply_to": "msg_" + "0" * 32}, ("unknown_message", ["/reply_to"])),
        ("text", {"text": "x", "reply_to": "msg_7"}, ("unknown_message", ["/reply_to"])),
    ]  # fmt: skip
    for kind, fields, (code, places) in refusals:
        assert await refused(crm, conversation, kind, **fields) == (422, code, places), (kind, fields)
    both = await post(crm, conversation, "location", text="x", location={"latitude": 91, "longitude": 0}, more=1)
    assert (both.status, both.json["code"]) == (422, "invalid_request")
    assert {f["pointer"] for f in both.json["errors"]} == {"/text", "/location/latitude", "/more"}
    assert hub_world.simulator.attempts == []

    # What Meta knows no more, or never did.
    gone = await customer.says("never mind")
    await customer.revokes(gone)
    reacted = await post(crm, conversation, "reaction", reaction={"message_id": latest["id"], "emoji": "👍"})
    await ends(crm, reacted.json["message"]["id"], "sent")
    (gone_id,) = [item["id"] for item in await timeline(crm, conversation) if item.get("provider_id") == gone]
    for target in (gone_id, reacted.json["message"]["id"]):
        assert await refused(crm, conversation, "reaction", reaction={"message_id": target, "emoji": "👍"}) == (
            422,
            "unknown_message",
            ["/reaction/message_id"],
        )
    await ask(database_url, "update message set provider = 'twilio' where provider_id = $1", latest["provider_id"])
    for kind, fields in (
        ("reaction", {"reaction": {"message_id": latest["id"], "emoji": "👍"}}),
        ("text", {"text": "x", "reply_to": latest["id"]}),
    ):
        assert (await refused(crm, conversation, kind, **fields))[:2] == (409, "message_not_sent")

    hub_world.simulator.hold()
    waiting = await post(crm, conversation, "text", text="with the provider")
    status, code, _ = await refused(
        crm, conversation, "reaction", reaction={"message_id": waiting.json["message"]["id"], "emoji": "👍"}
    )
    assert (status, code) == (409, "message_not_sent")
    hub_world.simulator.release()
    await ends(crm, waiting.json["message"]["id"], "sent", "delivered", "read")


async def test_c1_nothing_of_any_kind_shows_through_a_mask(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    sent: list[tuple[str, dict[str, Any]]] = [
        ("document", {"media": {"url": "https://x.org/§url.pdf".replace("§", "Z9"), "filename": "Z9name.pdf"},
                      "text": "Z9caption"}),
        ("template", {"template": {"name": "spring_sale", "language": "en"}}),
        ("interactive", {"interactive": {"type": "cta_url", "text": "Z9text", "header": "Z9head", "footer": "Z9foot",
                                         "title": "Z9title", "url": "https://z9.example.com/Z9"}}),
        ("location", {"location": {"latitude": 87.654321987, "longitude": 2, "name": "Z9place", "address": "Z9road"}}),
        ("contacts", {"contacts": [{"name": {"formatted_name": "Z9person", "last_name": "Z9last"}}]}),
    ]  # fmt: skip
    names = []
    for kind, fields in sent:
        answer = await post(crm, conversation, kind, **fields)
        assert answer.status == 202, answer
        names.append(answer.json["message"]["id"])
        own = await crm.call("GET", f"/v1/messages/{names[-1]}")
        for name, value in fields.items():
            assert own.json[name] == ([value] if name == "media" else value)
    for name in names:
        await ends(helpdesk, name, "delivered", "read")
    seen = [d.data for d in helpdesk.endpoint.of("message.queued")] + await timeline(helpdesk, conversation)
    assert [view["message"]["type"] for view in seen[:5]] == [kind for kind, _ in sent]
    for secret in ("Z9", "z9.example.com", "spring_sale", "87.654321987"):
        assert secret not in str(seen)
