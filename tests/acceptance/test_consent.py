"""What customers want to be sent: STOP and START, the providers' word, and who may record or lift it (rule E5)."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from providers.simulator import Customer, Person, StatusPlan, meta_webhooks, twilio_webhooks
from tests.support.talk import MIA, automates, ends, writes
from tests.support.wire import Wire, ask, envelope, unique, until
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Answer, Service, World

OTHER = "+15550002222"
SMS: dict[str, Any] = {"provider": "twilio", "medium": "sms"}
BSU = Person(None, user_id="US.13491208655302741918", name="Bo")


def path(address: str | None = MIA.phone, medium: str = "sms", number: str | None = None, admin: str = "") -> str:
    """Where the consent of a customer is."""
    query = f"?number={quote(number)}" if number else ""
    return f"/v1/{admin}consents/{medium}/{quote(str(address))}{query}"


async def consent(service: Service, number: str | None = None, **where: Any) -> tuple[str, bool]:
    """What holds, as a service sees it."""
    answer = await service.call("GET", path(number=number, **where))
    assert answer.status == 200, answer
    return answer.json["status"], answer.json["marketing_stopped"]


async def grants(service: Service, number: str | None = None, status: str = "granted", **where: Any) -> Answer:
    """A service records what a customer agreed to."""
    return await service.call("PUT", path(number=number, **where), {"status": status, "evidence": "form 7"})


async def lifts(world: World, evidence: str | None, number: str | None = None, **where: Any) -> Answer:
    """The operator records that a customer agreed."""
    body = {"status": "granted"} | ({"evidence": evidence} if evidence is not None else {})
    return await world.call("PUT", path(number=number, admin="admin/", **where), body)


async def changed(service: Service, is_there: Callable[[dict[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
    """Wait for `consent.changed` events of this sort."""

    def found() -> list[dict[str, Any]]:
        return [d.data for d in service.endpoint.of("consent.changed") if is_there(d.data)]

    await service.endpoint.wait(lambda _: len(found()) >= count)
    return found()


def code(answer: Answer) -> str | None:
    return None if answer.status in {200, 202} else answer.json["code"]


def said(keyword: str, number: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an event tells that this was said, to a conversation on this number."""
    return lambda data: data["number"] == number and data["consent"].get("keyword") == keyword


async def sends_template(service: Service, conversation: str, name: str) -> Answer:
    """A bot sends one of the simulator's templates, whose category the hub knows from the list."""
    listed = await service.call("GET", f"/v1/numbers/{NUMBER}/templates")
    (content,) = [item["content"]["components"] for item in listed.json["items"] if item["name"] == name]
    template: dict[str, Any] = {"name": name, "language": "en"}
    if any("{{1}}" in str(part) for part in content):
        template["components"] = [{"type": "body", "parameters": [{"type": "text", "text": "you"}]}]
    body = {"origin": "notification", "type": "template", "template": template}
    return await service.call("POST", f"/v1/conversations/{conversation}/messages", body)


async def codes(helpdesk: Service, crm: Service, conversation: str) -> tuple[str | None, str | None, str | None]:
    """Whether an agent, a bot, and a campaign may write."""
    agent = await crm.reply(conversation, "an agent")
    bot = await automates(helpdesk, conversation, "a bot")
    campaign = await automates(helpdesk, conversation, "buy!", "campaign", campaign="spring")
    return code(agent), code(bot), code(campaign)


async def on_both_numbers(world: World) -> tuple[list[Service], list[Customer], list[str]]:
    """Helpdesk, CRM and books (on channels of its own), on two numbers to which Mia wrote over SMS."""
    services = await world.connected("helpdesk", "crm")
    services.append(await world.service("books", plan="standalone"))
    await services[2].connect()
    for service in services[:2]:
        secret = service.endpoint.secret
        await service.connect(OTHER, endpoint_url=None)
        service.endpoint.secret = secret
    mia = [world.customer(MIA, number, **SMS) for number in (NUMBER, OTHER)]
    first = await writes(mia[0], *services, text="Hello")
    await mia[1].says("Hello, other number")
    listed = await services[0].call("GET", "/v1/conversations")
    second = next(item["id"] for item in listed.json["items"] if item["number"] == OTHER)
    return services, mia, [first, second]


async def feed(service: Service) -> list[dict[str, Any]]:
    """All `consent.changed` events in a service's feed."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        answer = await service.call("GET", f"/v1/events?limit=200{after}")
        assert answer.status == 200, answer
        found += [item["data"] for item in answer.json["items"] if item["type"] == "consent.changed"]
        if not answer.json["items"]:
            return found
        after = f"&after={answer.json['next']}"


async def test_e5_stop_over_sms_blocks_all_of_us_on_all_numbers_until_it_is_lifted(hub_world: World) -> None:
    (helpdesk, crm, books), (mia, mia_there), (here, there) = await on_both_numbers(hub_world)
    assert await codes(helpdesk, crm, here) == (None, None, "no_consent")
    granted = await grants(crm)
    assert (granted.status, granted.json["status"], granted.json["number"]) == (200, "granted", None)
    assert await codes(helpdesk, crm, here) == (None, None, None)
    assert (await grants(crm)).json == granted.json

    await mia.says("Stop!")
    for service, place in ((helpdesk, NUMBER), (crm, NUMBER), (books, NUMBER)):
        (event,) = await changed(service, said("stop", place))
        expected = {"medium": "sms", "address": MIA.phone, "number": None, "status": "revoked", "source": "customer"}
        assert event["consent"].items() >= expected.items()
        assert event["contact"]["addresses"] == [{"type": "phone", "value": MIA.phone}]
        assert event["channel_id"] == service.connection["channel_id"] or service is not books
    received = [d.data for d in books.endpoint.of("message.received")][-1]
    (event,) = await changed(books, said("stop", NUMBER))
    assert event["conversation"]["sequence"] == received["conversation"]["sequence"] + 1
    assert [e["conversation"]["id"] for e in await feed(helpdesk) if said("stop", OTHER)(e)] == [there]
    for conversation in (here, there):
        assert await codes(helpdesk, crm, conversation) == ("no_consent",) * 3
    agent = await crm.reply(there, "and yet")
    assert "rule E5" in agent.json["detail"]

    refused = await grants(crm)
    assert (refused.status, code(refused)) == (409, "revoked_by_customer")
    view = (await crm.call("GET", path())).json
    assert refused.json["since"] == view["since"] == view["history"][-1]["at"]
    assert [(entry["kind"], entry["source"], entry["number"]) for entry in view["history"]] == [
        ("granted", "service", None),
        ("stop", "customer", NUMBER),
    ]
    assert view["history"][0]["service"] == {"id": crm.id, "name": "crm"}
    assert view["history"][0]["evidence"] == "form 7"
    assert (await helpdesk.call("GET", path())).json["history"][0]["evidence"] is None
    assert (await hub_world.call("GET", path(admin="admin/"))).json["history"][0]["evidence"] == "form 7"

    for word in ("STOP", "HELP", "yes", "stop sending the blue one"):  # nothing new in any of these
        await mia.says(word)
    await mia.says("START")
    for service in (helpdesk, crm, books):
        (event,) = await changed(service, said("start", NUMBER))
        assert (event["consent"]["status"], event["consent"]["number"]) == ("granted", NUMBER)
        assert len(service.endpoint.of("consent.changed")) == 3
    assert await codes(helpdesk, crm, here) == (None, None, None)  # the grant from before holds again
    assert await codes(helpdesk, crm, there) == ("no_consent",) * 3
    assert (await consent(crm), await consent(crm, NUMBER)) == (("revoked", False), ("granted", False))
    assert code(await grants(crm, OTHER)) == "revoked_by_customer"

    for evidence in (None, "", "  "):
        wanted = await lifts(hub_world, evidence, OTHER)
        assert (wanted.status, code(wanted)) == (422, "evidence_required" if evidence is None else "invalid_request")
    lifted = await lifts(hub_world, "a signed letter", OTHER)
    assert (lifted.status, lifted.json["status"]) == (200, "granted")
    assert lifted.json["history"][-1]["evidence"] == "a signed letter"
    assert await codes(helpdesk, crm, there) == (None, None, None)
    assert (await crm.call("GET", path(number=OTHER))).json["history"][-1]["evidence"] is None
    events = await feed(crm)
    assert [e["consent"]["source"] for e in events if e["number"] == OTHER] == ["service", "customer", "operator"]

    # A revocation that a service noted is lifted by no START.
    assert (await grants(helpdesk, NUMBER, status="revoked")).json["status"] == "revoked"
    await mia.says("START")
    assert await codes(helpdesk, crm, here) == ("no_consent",) * 3
    assert code(await grants(helpdesk, NUMBER)) == "revoked_by_customer"
    assert mia_there.number.e164 == OTHER
    ours = {"an agent", "a bot", "buy!"}
    await hub_world.simulator.settle()
    assert {send.text for send in hub_world.simulator.sent} <= ours  # the hub answers nobody


async def test_e5_over_whatsapp_stop_is_for_bots_and_every_way_of_saying_it_counts(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    mia, mia_sms = hub_world.customer(MIA), hub_world.customer(MIA, **SMS)
    chat, texts = await writes(mia, helpdesk, crm), await writes(mia_sms, helpdesk, crm, text="By SMS")
    where: dict[str, Any] = {"medium": "whatsapp"}
    assert (await grants(crm, **where)).status == 200
    ways: list[dict[str, Any]] = [
        meta_webhooks.text("stopp"),
        meta_webhooks.button("Stop", "payload"),
        meta_webhooks.button_reply("1", "Unsubscribe"),
        meta_webhooks.list_reply("2", "STOP ALL", "no more messages"),
    ]
    for count, way in enumerate(ways, 1):
        await mia.sends(way)
        await changed(crm, said("stop", NUMBER), count)
        assert await codes(helpdesk, crm, chat) == (None, "no_consent", "no_consent")
        await mia.says("start")
        await changed(crm, said("start", NUMBER), count)
        assert await codes(helpdesk, crm, chat) == (None, None, None)
    assert (await consent(crm, NUMBER), await consent(crm, NUMBER, **where)) == (("unknown", False), ("granted", False))

    # As a caption, by changing a message to it, and while Meta's own agent holds the conversation; not what that says.
    count = len(ways)
    picture = meta_webhooks.media("image", "7", "image/jpeg", caption="STOP")
    changed_mind = await mia.says("Stp")
    own, ours = (
        {
            "from": str(name).removeprefix("+"),
            "id": unique(),
            "timestamp": str(int(time.time())),
            **meta_webhooks.text("Stop"),
        }
        for name in (MIA.phone, NUMBER)
    )
    held = {"messages": [own], "metadata": {"phone_number_id": PHONE_NUMBER_ID, "display_phone_number": NUMBER[1:]}}
    for way in (
        lambda: mia.sends(picture),
        lambda: mia.edits(changed_mind, "Stop!"),
        lambda: Wire(hub_world).meta(envelope(held, field="standby")),
    ):
        count += 1
        await way()
        await changed(crm, said("stop", NUMBER), count)
        assert await codes(helpdesk, crm, chat) == (None, "no_consent", "no_consent")
        await mia.says("start")
        await changed(crm, said("start", NUMBER), count)
    echo = ours | {"to": str(MIA.phone).removeprefix("+")}
    for body in (
        envelope({**held, "messages": [ours | {"to": echo["to"]}]}, field="standby"),
        envelope({**held, "messages": [], "message_echoes": [echo | {"id": unique()}]}, field="smb_message_echoes"),
    ):
        assert (await Wire(hub_world).meta(body)).status == 200
    assert await codes(helpdesk, crm, chat) == (None, None, None)

    # What Twilio's Advanced Opt-Out makes of a message counts, whatever its text.
    account = hub_world.simulator.twilio_account_sid
    for told, text, status in (
        ("STOP", "basta cosi", "revoked"),
        ("HELP", "STOP", "revoked"),
        ("START", "sí", "unknown"),
    ):
        form = twilio_webhooks.message(
            mia_sms.number, MIA, meta_webhooks.text(text), medium="sms", account_sid=account,
            sid=hub_world.simulator.ledger.sid(),
        )  # fmt: skip
        posted = await hub_world.simulator.post_twilio([*form, ("OptOutType", told)])
        assert posted.status == 200
        assert (await consent(crm, NUMBER))[0] == status
    assert code(await crm.reply(texts, "hello")) is None


async def test_e5_the_providers_tell_what_customers_told_them(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    simulator = hub_world.simulator
    mia, mia_sms = hub_world.customer(MIA), hub_world.customer(MIA, **SMS)
    chat, texts = await writes(mia, helpdesk, crm), await writes(mia_sms, helpdesk, crm, text="By SMS")

    # 21610, at once: Mia told Twilio and not us. Other refusals tell nothing.
    simulator.status_plan = StatusPlan.failing(30003)
    sent = await crm.reply(texts, "bounced")
    await ends(crm, sent.json["message"]["id"], "failed")
    assert await consent(crm, NUMBER) == ("unknown", False)
    simulator.status_plan = StatusPlan()
    simulator.opted_out.add((str(MIA.phone), NUMBER))
    sent = await crm.reply(texts, "unheard")
    failed = await ends(crm, sent.json["message"]["id"], "failed")
    assert failed["error"]["provider_code"] == "21610"
    (event,) = await changed(crm, lambda data: data["consent"]["source"] == "provider")
    assert (event["consent"]["status"], event["consent"]["number"]) == ("revoked", None)
    assert (event["conversation"]["id"], code(await crm.reply(texts, "again"))) == (texts, "no_consent")
    simulator.opted_out.clear()
    await mia_sms.says("START")
    assert code(await crm.reply(texts, "again")) is None

    # 21610 in a callback.
    simulator.status_plan = StatusPlan.failing(21610)
    sent = await crm.reply(texts, "unheard too")
    await changed(crm, lambda data: data["consent"]["source"] == "provider", 2)
    assert code(await crm.reply(texts, "again")) == "no_consent"

    # 131050 in a status: marketing only, on this number.
    where: dict[str, Any] = {"medium": "whatsapp"}
    simulator.status_plan = StatusPlan.failing(131050)
    await crm.reply(chat, "buy!")
    (event,) = await changed(crm, lambda data: data["consent"]["marketing_stopped"])
    assert (event["consent"]["status"], event["consent"]["number"]) == ("unknown", NUMBER)
    assert (event["consent"]["medium"], event["consent"]["source"]) == ("whatsapp", "provider")
    simulator.status_plan = StatusPlan()
    assert code(await automates(helpdesk, chat, "no marketing at all")) is None
    assert (await consent(crm, NUMBER, **where), await consent(crm, **where)) == (("unknown", True), ("unknown", False))
    await mia.prefers_marketing(True)
    await changed(
        crm, lambda data: data["consent"]["medium"] == "whatsapp" and not data["consent"]["marketing_stopped"]
    )
    assert code(await sends_template(helpdesk, chat, "spring_sale")) is None
    await mia.prefers_marketing(False)
    assert await consent(crm, NUMBER, **where) == ("unknown", True)
    assert code(await sends_template(helpdesk, chat, "spring_sale")) == "no_consent"
    assert code(await sends_template(helpdesk, chat, "order_update")) is None
    assert code(await crm.reply(chat, "an answer")) is None


async def test_e5_preferences_of_people_who_never_wrote_are_kept_for_them(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    books = await hub_world.service("books", plan="standalone")
    await books.connect()
    bo = hub_world.customer(BSU)
    await bo.prefers_marketing(False)
    for service in (helpdesk, books):
        (event,) = await changed(service, lambda data: data["consent"]["marketing_stopped"])
        assert not {"conversation", "contact"} & set(event)
        assert event["consent"]["address"] == BSU.user_id
    assert await ask(database_url, "select count(*) from contact") == 0
    await bo.prefers_marketing(False)  # said twice
    where: dict[str, Any] = {"address": BSU.user_id, "medium": "whatsapp"}
    assert await consent(helpdesk, NUMBER, **where) == ("unknown", True)
    conversation = await writes(bo, helpdesk)
    assert await consent(helpdesk, NUMBER, **where) == ("unknown", True)
    await bo.prefers_marketing(True)
    (event,) = await changed(helpdesk, lambda data: not data["consent"]["marketing_stopped"])
    assert event["conversation"]["id"] == conversation
    assert len(helpdesk.endpoint.of("consent.changed")) == 2
    # It is the person who decides, whichever of their addresses they wrote from.
    both = Person("+4915188888888", user_id="DE.1349120865530274", name="Li")
    await writes(hub_world.customer(both), helpdesk, text="From both")
    await hub_world.customer(Person(None, user_id=both.user_id, name="Li")).says("STOP")
    for address in (both.phone, both.user_id):
        assert await consent(helpdesk, NUMBER, address=address, medium="whatsapp") == ("revoked", False)
    # Two that turn out to be one: who writes from both addresses speaks for both.
    phone, user_id = "+4915177777777", "DE.1349120865530299"
    by_phone, by_id = hub_world.customer(Person(phone, name="Jo")), hub_world.customer(Person(None, user_id=user_id))
    threads = [await writes(by_phone, helpdesk, text="By phone"), await writes(by_id, helpdesk, text="By id")]
    by_both = hub_world.customer(Person(phone, user_id=user_id, name="Jo"))
    for word, status, answered in (("STOP", "revoked", "no_consent"), ("START", "unknown", None)):
        await by_both.says(word)
        for address, thread in zip((phone, user_id), threads, strict=True):
            assert await consent(helpdesk, NUMBER, address=address, medium="whatsapp") == (status, False)
            assert code(await automates(helpdesk, thread, "hello")) == answered
            told = [e for e in await feed(helpdesk) if e.get("conversation", {}).get("id") == thread]
            assert told[-1]["consent"]["keyword"] == word.lower()
    # What the owner of a phone said counts for whoever is written to there.
    await by_phone.says("STOP")
    await by_both.says("It is me")
    for thread in threads:
        assert code(await automates(helpdesk, thread, "hello")) == "no_consent"
    # A number that is not ours, and a customer who has no name, wait in quarantine.
    stranger = meta_webhooks.user_preferences(BSU, bo.number, "stop", 1.0)
    stranger["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = "999"
    assert (await hub_world.simulator.post_meta(stranger)).status == 200
    nobody = meta_webhooks.user_preferences(BSU, bo.number, "stop", 2.0)
    value = nobody["entry"][0]["changes"][0]["value"]
    value["contacts"], value["user_preferences"][0]["user_id"] = [], None
    assert (await hub_world.simulator.post_meta(nobody)).status == 200
    kept = (await hub_world.call("GET", "/v1/admin/quarantine")).json["items"]
    assert sorted(entry["reason"] for entry in kept) == ["no_customer", "unknown_number"]


async def test_e5_stop_while_messages_wait(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    mia = hub_world.customer(MIA, **SMS)
    conversation = await writes(mia, helpdesk, crm)
    hub_world.simulator.hold()
    first = await crm.reply(conversation, "on its way")
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    agent = await crm.reply(conversation, "too late")
    bot = await automates(helpdesk, conversation, "too late, too")
    await mia.says("arrêt")  # Twilio, which knows fewer words, goes on sending
    hub_world.simulator.release()
    await ends(crm, first.json["message"]["id"], "sent", "delivered")
    failed = await ends(crm, agent.json["message"]["id"], "failed", "cancelled")
    cancelled = await ends(helpdesk, bot.json["message"]["id"], "failed", "cancelled")
    assert (failed["status"], failed["error"]["code"]) == ("failed", "no_consent")
    assert (cancelled["status"], cancelled["error"]["code"]) == ("cancelled", "no_consent")
    assert [send.text for send in hub_world.simulator.sent] == ["on its way"]


async def test_e5_what_is_said_at_once_is_written_one_after_the_other(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    mia = hub_world.customer(MIA, **SMS)
    conversation = await writes(mia, helpdesk, crm)
    for _ in range(3):
        answers = await asyncio.gather(
            *(mia.says(word) for word in ("arrêt", "START", "ARRÊT", "start")),
            grants(crm),
            grants(helpdesk, NUMBER),
            grants(crm, NUMBER),
            lifts(hub_world, "a letter", NUMBER),
            lifts(hub_world, "a letter"),
            mia.says("Stopp"),  # words that Twilio does not know: it may take them in another order
        )
        assert {code(a) for a in answers if isinstance(a, Answer)} <= {None, "revoked_by_customer"}
        history = (await crm.call("GET", path(number=NUMBER))).json["history"]
        last = history[-1]["kind"]
        holds = (await consent(crm, NUMBER))[0]
        assert holds in {"stop": {"revoked"}, "granted": {"granted"}, "start": {"granted", "unknown"}}[last]
        # Each entry made a difference when it was written, and what was answered then was so.
        kinds = [entry["kind"] for entry in history]
        assert not any(a == b == "stop" or a == b == "start" for a, b in pairwise(kinds))
        seen = sorted((e for e in await feed(crm)), key=lambda e: e["conversation"]["sequence"])
        assert len(seen) == len(history)
        assert [e["consent"]["at"] for e in seen] == [entry["at"] for entry in history]
        assert seen[-1]["consent"]["status"] == holds
        assert code(await crm.reply(conversation, "?")) == ("no_consent" if last == "stop" else None)
    await until(lambda: ask(database_url, "select count(*) = 0 from outbox"))


async def test_e5_nonsense_and_who_may_ask(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    stranger = await hub_world.service("stranger")
    reader = await hub_world.service("reader", scopes=["read"])
    await reader.connect()
    good = {"status": "granted"}
    for service, where, body, status, wanted in (
        (helpdesk, path("12345"), good, 422, "invalid_address"),
        (helpdesk, path("\x00"), good, 422, "invalid_address"),
        (helpdesk, path("Bo"), good, 422, "invalid_address"),
        (helpdesk, path(BSU.user_id), good, 422, "invalid_address"),
        (helpdesk, path(medium="fax"), good, 404, "not_found"),
        (helpdesk, path(medium="email"), good, 422, "invalid_address"),
        (helpdesk, path("mia@x.example"), good, 422, "invalid_address"),
        (helpdesk, path("no email", medium="tracking"), good, 422, "invalid_address"),
        (helpdesk, path("mia@x.example", medium="email", number=NUMBER), good, 422, "invalid_request"),
        (helpdesk, path(number="+15559999999"), good, 404, "not_found"),
        (helpdesk, path(number="nonsense"), good, 422, "invalid_request"),
        (helpdesk, path(number=OTHER), good, 409, "not_connected"),
        (stranger, path(), good, 409, "not_connected"),
        (stranger, path(number=NUMBER), good, 409, "not_connected"),
        (helpdesk, path(), {}, 422, "invalid_request"),
        (helpdesk, path(), {"status": "unknown"}, 422, "invalid_request"),
        (helpdesk, path(), {"status": "granted", "evidence": "a\x00b"}, 422, "invalid_request"),
        (helpdesk, path(), {"status": "granted", "evidence": "x" * 2001}, 422, "invalid_request"),
        (helpdesk, path(), {"status": "granted", "more": 1}, 422, "invalid_request"),
        (reader, path(), good, 403, "missing_scope"),
        (helpdesk, path(admin="admin/"), good, 403, "operator_only"),
    ):
        answer = await service.call("PUT", where, body)
        assert (answer.status, code(answer)) == (status, wanted), (where, body, answer)
        if body is good and service is not reader:
            asked = await service.call("GET", where)
            assert (asked.status, code(asked)) == (status, wanted), (where, asked)
    # Somebody nobody knows yet: the channels hear of it.
    answer = await helpdesk.call("PUT", path(number=NUMBER), good)
    assert (answer.status, answer.json["status"], answer.json["history"][0]["evidence"]) == (200, "granted", None)
    (event,) = await changed(reader, lambda data: data["consent"]["address"] == MIA.phone)
    assert (event["consent"]["source"], event["consent"]["number"]) == ("service", NUMBER)
    assert "conversation" not in event
    assert (await helpdesk.call("GET", path(medium="whatsapp"))).json["status"] == "unknown"
