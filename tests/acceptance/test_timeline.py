"""Reading: conversations, their timelines and messages, as each service may see them (rules B8, C1 to C4)."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from providers.simulator import Fault, Person, StatusPlan, meta_webhooks
from tests.support.talk import MIA, automates, ends, leaves, pages, timeline, writes
from tests.support.world import NUMBER, Service, World, world

RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
MASKED = {
    "id", "direction", "medium", "type", "author", "origin", "agent", "status", "status_times", "masked",
    "sequence", "created_at",
}  # fmt: skip
"""What may be left of a masked message that nothing special happened to."""


async def test_c1_a_timeline_is_masked_for_everybody_but_the_author(hub_world: World) -> None:
    helpdesk, crm, marketing = services = await hub_world.connected("helpdesk", "crm", "marketing")
    conversation = await writes(hub_world.customer(MIA), *services, text="from the customer")
    for answer in (
        await helpdesk.reply(conversation, "§ helpdesk's agent", agent="Ana"),
        await automates(helpdesk, conversation, "§ helpdesk's bot"),
        await crm.reply(conversation, "§ crm's agent", agent="Ben", reply_to="§wamid.quoted"),
    ):
        assert answer.status == 202, answer
        await ends(marketing, answer.json["message"]["id"], "read")
    for viewer in services:
        newest_first = await timeline(viewer, conversation)
        assert [m["origin"] for m in newest_first] == ["agent", "chatbot", "agent", "customer"]
        for shown in newest_first:
            author = shown["author"] and shown["author"]["service_id"]
            if author in {None, viewer.id}:
                assert shown["text"]
                assert "masked" not in shown
            else:
                assert set(shown) <= MASKED
                assert "§" not in json.dumps(shown, ensure_ascii=False)
                assert shown["masked"] is True
                assert shown["status"] == "read"
                assert set(shown["status_times"]) == {"queued", "sending", "sent", "delivered", "read"}
            one = await viewer.call("GET", f"/v1/messages/{shown['id']}")
            assert one.json == {**shown, "conversation_id": conversation}
    agents = [shown.get("agent") for shown in await timeline(marketing, conversation)]
    assert agents == [{"name": "Ben"}, None, {"name": "Ana"}, None]
    assert [shown["author"] and shown["author"]["name"] for shown in await timeline(marketing, conversation)] == [
        "crm",
        "helpdesk",
        "helpdesk",
        None,
    ]


async def test_c1_history_stays_masked_when_its_author_leaves(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    sent = await crm.reply(conversation, "§")
    await ends(helpdesk, sent.json["message"]["id"], "read")
    await leaves(crm)
    shown = (await timeline(helpdesk, conversation))[0]
    assert (shown["masked"], shown["author"]["name"]) == (True, "crm")
    assert "§" not in str(shown)
    await crm.connect()
    assert (await timeline(crm, conversation))[0]["text"] == "§"


async def test_c1_payloads_of_buttons_go_to_their_author_only(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    await helpdesk.reply(conversation, "Yes or no?")
    asked = (await customer.hears()).provider_id
    await customer.sends(meta_webhooks.button_reply("§row-7", "Yes"), reply_to=asked)
    await customer.sends(meta_webhooks.button("Of course", "§payload"), reply_to=asked)
    for service in (helpdesk, crm):
        await service.endpoint.hears("message.received", 3)
        told = json.dumps([d.data for d in service.endpoint.of("message.received")], ensure_ascii=False)
        read = json.dumps(await timeline(service, conversation), ensure_ascii=False)
        for text in (told, read):
            assert "Yes" in text
            assert "Of course" in text
            assert ("§row-7" in text) is (service is helpdesk)
            assert ("§payload" in text) is (service is helpdesk)


async def test_c1_a_button_tapped_before_we_know_its_message_s_name(database_url: str, tmp_path: Path) -> None:
    """The provider has the message and its answer got lost: whose buttons they are is known all the same."""
    async with world(database_url, tmp_path, send_timeout=0.3) as made:
        helpdesk, crm = await made.connected("helpdesk", "crm")
        customer = made.customer(MIA)
        conversation = await writes(customer, helpdesk, crm)
        made.simulator.status_plan = StatusPlan.none()
        made.simulator.fail_next(Fault.silent(taken=True))
        sent = await helpdesk.reply(conversation, "Yes or no?")
        asked = (await customer.hears()).provider_id
        await customer.sends(meta_webhooks.button_reply("§row-7", "Yes"), reply_to=asked)
        await ends(helpdesk, sent.json["message"]["id"], "unknown")
        await customer.sends(meta_webhooks.button("Of course", "§payload"), reply_to=asked)
        for service in (helpdesk, crm):
            await service.endpoint.hears("message.received", 3)
            told = json.dumps([d.data for d in service.endpoint.of("message.received")], ensure_ascii=False)
            for text in (told, json.dumps(await timeline(service, conversation), ensure_ascii=False)):
                assert text.count("§") == (2 if service is helpdesk else 0)
                assert "Of course" in text


async def _long_talk(hub_world: World) -> tuple[str, list[Service], list[int]]:
    """23 messages: the conversation, two services, the sequence numbers, oldest first."""
    services = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, *services, text="message 0")
    for number in range(1, 18):
        await customer.says(f"message {number}")
    for number in range(5):
        await services[number % 2].reply(conversation, f"answer {number}")
    await services[0].endpoint.wait(
        lambda me: sum(d.data["message"]["status"] == "read" for d in me.of("message.status")) == 5
    )
    whole = await timeline(services[0], conversation, "?limit=200")
    assert len(whole) == 23
    return conversation, services, sorted(m["sequence"] for m in whole)


async def test_c3_a_timeline_is_paged_both_ways(hub_world: World) -> None:
    conversation, (helpdesk, crm), sequences = await _long_talk(hub_world)
    path = f"/v1/conversations/{conversation}/messages"
    assert len(set(sequences)) == 23
    for service in (helpdesk, crm):
        for limit in (1, 7, 22, 23, 200):

            async def read(page: str, service: Service = service) -> Any:
                return await service.call("GET", page)

            back = await pages(read, f"{path}?limit={limit}", "before")
            assert [m["sequence"] for m in back] == sequences[::-1]
            forward = await pages(read, f"{path}?limit={limit}", "after", "&after=0")
            assert [m["sequence"] for m in forward] == sequences
    middle = sequences[10]
    assert [m["sequence"] for m in await timeline(helpdesk, conversation, f"?after={middle}")] == sequences[11:]
    assert [m["sequence"] for m in await timeline(helpdesk, conversation, f"?before={middle}")] == sequences[9::-1]
    assert await timeline(helpdesk, conversation, f"?after={sequences[-1]}") == []
    assert await timeline(helpdesk, conversation, f"?before={sequences[0]}") == []
    for query in (
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "before=x",
        "after=1.5",
        "after=",
        "before=5&after=2",
        "limit=" + "9" * 5000,
    ):
        answer = await helpdesk.call("GET", f"{path}?{query}")
        assert answer.status == 422, (query[:20], answer)
        assert (await hub_world.call("GET", f"/v1/admin/conversations/{conversation}/messages?{query}")).status == 422


async def test_conversations_are_paged(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    people = [Person(f"+4915100000{n:03d}", name=f"Customer {n}") for n in range(11)]
    for person in people:
        await hub_world.customer(person).says(f"I am {person.name}")
    await hub_world.customer(people[0], provider="twilio", medium="sms").says("by sms")

    async def read(page: str) -> Any:
        return await helpdesk.call("GET", page)

    for limit in (1, 5, 12, 200):
        found = await pages(read, f"/v1/conversations?limit={limit}")
        assert [c["contact"]["name"] for c in found] == [*(p.name for p in people), people[0].name]
        assert len({c["id"] for c in found}) == 12
    assert [c["created_at"] for c in found] == sorted(c["created_at"] for c in found)
    assert {(c["number"], c["channel_id"]) for c in found} == {(NUMBER, helpdesk.connection["channel_id"])}
    assert [c["medium"] for c in found] == ["whatsapp"] * 11 + ["sms"]
    assert found[0]["contact"] == found[11]["contact"]
    for query in ("after=x", "after=msg_" + "0" * 32, "limit=0"):
        assert (await helpdesk.call("GET", f"/v1/conversations?{query}")).status in {404, 422}


async def test_a_conversation_shows_its_contact_window_and_last_number(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    person = Person("+4915112345678", user_id="DE.771", parent_user_id="DE.P1", username="mia", name="Mia")
    before = datetime.now(UTC) - timedelta(seconds=2)
    conversation = await writes(hub_world.customer(person), helpdesk, crm)
    answer = await crm.reply(conversation, "Hi")
    await ends(crm, answer.json["message"]["id"], "read")
    view = (await helpdesk.call("GET", f"/v1/conversations/{conversation}")).json
    assert view["contact"]["name"] == "Mia"
    assert {(a["type"], a["value"]) for a in view["contact"]["addresses"]} == {
        ("phone", "+4915112345678"),
        ("user_id", "DE.771"),
        ("parent_user_id", "DE.P1"),
        ("username", "mia"),
    }
    assert view["contact"]["id"].startswith("con_")
    assert view["last_sequence"] == crm.endpoint.deliveries[-1].data["conversation"]["sequence"] == 6
    assert view["picked_up_by"] is None
    written = datetime.fromisoformat(view["last_customer_at"])
    assert before <= written <= datetime.now(UTC)
    assert datetime.fromisoformat(view["reply_window_expires_at"]) == written + timedelta(hours=24)
    for name in ("last_customer_at", "reply_window_expires_at", "created_at"):
        assert RFC3339_UTC.fullmatch(view[name]), view[name]
    assert view == (await crm.call("GET", "/v1/conversations")).json["items"][0]


async def test_a_message_has_a_time_for_each_status(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    answer = await crm.reply(conversation, "Hi")
    name = answer.json["message"]["id"]
    heard = await ends(crm, name, "read")
    view = (await crm.call("GET", f"/v1/messages/{name}")).json
    assert (view["status"], view["direction"], view["origin"]) == ("read", "outbound", "agent")
    assert view["agent"] == {"id": "agent-Ana", "name": "Ana"}
    assert view["provider_id"].startswith("wamid.")
    assert view["error"] is None
    times = view["status_times"]
    assert set(times) == {"queued", "sending", "sent", "delivered", "read"}
    assert all(RFC3339_UTC.fullmatch(at) for at in times.values())
    assert datetime.fromisoformat(times["queued"]) <= datetime.fromisoformat(times["sending"])
    assert {n: v for n, v in view.items() if n != "conversation_id"} == heard
    inbound = (await timeline(crm, conversation))[-1]
    assert (inbound["direction"], inbound["origin"], inbound["author"]) == ("inbound", "customer", None)
    assert "status" not in inbound


async def test_what_a_customer_changed_is_shown_as_it_is_now(hub_world: World) -> None:
    services = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, *services, text="Fist")
    first = services[0].endpoint.of("message.received")[0].data["message"]["provider_id"]
    second = await customer.says("Second")
    await customer.edits(first, "First")
    await customer.revokes(second)
    for service in services:
        edited = (await service.endpoint.hears("message.edited"))[0].data["message"]
        deleted = (await service.endpoint.hears("message.deleted"))[0].data["message"]
        newest, oldest = await timeline(service, conversation)
        assert (oldest["id"], oldest["text"]) == (edited["id"], "First")
        assert RFC3339_UTC.fullmatch(oldest["edited_at"])
        assert newest["id"] == deleted["id"]
        assert RFC3339_UTC.fullmatch(newest["deleted_at"])


SENT = [
    (meta_webhooks.media("image", "77", "image/jpeg", caption="my shoe"), "image", "media"),
    (meta_webhooks.location(52.5, 13.4, name="Here"), "location", "location"),
    (meta_webhooks.contacts("Ben Example", "+4915100000009"), "contacts", "contacts"),
    (meta_webhooks.unsupported(), "unsupported", "raw"),
]


def _unsigned(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what is everybody's own, or changes while a file is fetched."""
    files = [{"id": file["id"], "mime_type": file["mime_type"]} for file in message.get("media", ())]
    return {**message, "media": files} if files else message


async def test_c1_what_a_customer_sends_is_read_by_all(hub_world: World) -> None:
    services = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    for content, _, _ in SENT:
        await customer.sends(content)
    views = []
    for service in services:
        events = [d.data for d in await service.endpoint.hears("message.received", len(SENT))]
        shown = (await timeline(service, events[0]["conversation"]["id"]))[::-1]
        for event, view, (_, kind, field) in zip(events, shown, SENT, strict=True):
            assert view["type"] == event["message"]["type"] == kind
            assert _unsigned(view)[field] == _unsigned(event["message"])[field]
        views.append([_unsigned(view) for view in shown])
    assert views[0] == views[1]


async def test_c3_reading_while_others_write_never_skips_or_repeats(hub_world: World) -> None:
    conversation, (helpdesk, crm), sequences = await _long_talk(hub_world)

    async def keep_writing() -> None:
        for number in range(20):
            await crm.reply(conversation, f"more {number}", agent=f"agent {number}")

    async def read(page: str) -> Any:
        return await helpdesk.call("GET", page)

    path = f"/v1/conversations/{conversation}/messages?limit=3"
    writing = asyncio.create_task(keep_writing())
    found = await pages(read, path, "before")
    await writing
    seen = [m["sequence"] for m in found]
    assert seen == sorted(set(seen), reverse=True)
    assert set(seen) >= set(sequences)


# A contact's timeline -----------------------------------------------------------------------------------------------


async def _two_media(hub_world: World) -> tuple[str, list[Service], list[str]]:
    """A customer on WhatsApp and SMS: the contact, three services, the messages' ids, oldest first."""
    services = await hub_world.connected("helpdesk", "crm")
    books = await hub_world.service("books", plan="standalone")
    await books.connect()
    chat, sms = hub_world.customer(MIA), hub_world.customer(MIA, provider="twilio", medium="sms")
    conversation = await writes(chat, *services, books, text="message 0")
    short = await writes(sms, *services, books, text="message 1")
    for number in range(2, 10):
        await (chat, sms)[number % 2].says(f"message {number}")
    for number in range(4):
        place = (conversation, short)[number // 2]
        assert (await services[number % 2].reply(place, f"§ answer {number}")).status == 202
    contact = services[0].endpoint.of("message.received")[0].data["contact"]["id"]
    talks = [await timeline(services[0], place, "?limit=200") for place in (conversation, short)]
    said = sorted((m["created_at"], m["id"]) for talk in talks for m in talk)
    assert len(said) == 14
    return contact, [*services, books], [name for _, name in said]


async def test_c3_a_contact_s_timeline_joins_the_media(hub_world: World) -> None:
    contact, (helpdesk, crm, books), said = await _two_media(hub_world)
    path = f"/v1/contacts/{contact}/timeline"

    for service in (helpdesk, crm):

        async def read(page: str, service: Service = service) -> Any:
            return await service.call("GET", page)

        for limit in (1, 5, 14, 200):
            back = await pages(read, f"{path}?limit={limit}", "before")
            assert [m["id"] for m in back] == said[::-1]
            forward = await pages(read, f"{path}?limit={limit}", "after", "&after=0")
            assert [m["id"] for m in forward] == said
        assert {m["medium"] for m in back} == {"whatsapp", "sms"}
        for conversation in {m["conversation_id"] for m in back}:
            own = [
                {n: v for n, v in m.items() if n != "conversation_id"}
                for m in back
                if m["conversation_id"] == conversation
            ]
            assert {m["medium"] for m in own} == {own[0]["medium"]}
            assert own == await timeline(service, conversation, "?limit=200")
        shown = [m.get("text", "") for m in back if m["direction"] == "outbound"]
        assert sum("§" in text for text in shown) == 2
    page = (await helpdesk.call("GET", f"{path}?limit=4")).json
    assert page["conversations"] == (await helpdesk.call("GET", "/v1/conversations")).json["items"]
    assert [c["medium"] for c in page["conversations"]] == ["whatsapp", "sms"]
    # From both ends of any page on, both ways.
    middle = (await helpdesk.call("GET", f"{path}?limit=4&before={page['next']}")).json
    assert [m["id"] for m in middle["items"]] == said[::-1][4:8]
    assert page["next"] == page["before"]
    newer = (await helpdesk.call("GET", f"{path}?limit=4&after={middle['after']}")).json
    assert [m["id"] for m in newer["items"]] == said[10:14]
    older = (await helpdesk.call("GET", f"{path}?limit=6&before={newer['before']}")).json
    assert [m["id"] for m in older["items"]] == said[::-1][4:10]
    assert (await helpdesk.call("GET", f"{path}?after={page['after']}")).json["items"] == []
    await hub_world.customer(MIA).says("once more")
    await helpdesk.endpoint.hears("message.received", 11)
    (found,) = (await helpdesk.call("GET", f"{path}?after={page['after']}")).json["items"]
    assert found["text"] == "once more"
    # Another channel is another history of the same customer.
    theirs = (await books.call("GET", f"{path}?limit=200")).json
    assert [m["text"] for m in theirs["items"]] == ["once more", *(f"message {n}" for n in range(9, -1, -1))]
    assert {c["channel_id"] for c in theirs["conversations"]} == {books.connection["channel_id"]}
    strange = (await books.call("GET", f"{path}?before={page['next']}")).json  # another's cursor opens nothing
    assert (strange["items"], strange["next"]) == ([], None)


async def test_c3_a_contact_out_of_reach_has_no_timeline(hub_world: World) -> None:
    contact, (helpdesk, crm, _), _ = await _two_media(hub_world)
    stranger = await hub_world.service("stranger")
    path = f"/v1/contacts/{contact}/timeline"
    await leaves(crm)
    for service, name in ((stranger, contact), (crm, contact), (helpdesk, "con_" + "0" * 32), (helpdesk, "x")):
        answer = await service.call("GET", f"/v1/contacts/{name}/timeline")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
    for query, code in (
        ("limit=0", "invalid_request"),
        ("before=x", "invalid_cursor"),
        ("before=0", "invalid_cursor"),
        ("after=", "invalid_cursor"),
        ("after=0&before=AQ", "invalid_request"),
    ):
        answer = await helpdesk.call("GET", f"{path}?{query}")
        assert (answer.status, answer.json["code"]) == (422, code), query
    unread = await hub_world.service("writer", scopes=["reply"])
    assert (await unread.call("GET", path)).json["code"] == "missing_scope"


async def test_c3_a_contact_s_timeline_under_writes_never_skips_or_repeats(hub_world: World) -> None:
    contact, (helpdesk, crm, _), said = await _two_media(hub_world)
    path = f"/v1/contacts/{contact}/timeline?limit=3"
    places = [c["id"] for c in (await crm.call("GET", "/v1/conversations")).json["items"]]

    async def keep_writing() -> None:
        for number in range(20):
            await crm.reply(places[number % 2], f"more {number}", agent=f"agent {number}")

    async def read(page: str) -> Any:
        return await helpdesk.call("GET", page)

    writing = asyncio.create_task(keep_writing())
    back = [m["id"] for m in await pages(read, path, "before")]
    forward, at = [], "0"
    while True:
        is_over = writing.done()
        page = (await read(f"{path}&after={at}")).json
        forward += [m["id"] for m in page["items"]]
        if is_over and not page["items"]:
            break
        at = page["after"]
    await writing
    assert len(back) == len(set(back))
    assert set(back) >= set(said)
    assert [name for name in back if name in said] == said[::-1]
    assert len(forward) == len(set(forward)) == 34
    assert set(forward) >= set(back)
