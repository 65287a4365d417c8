"""The simulator: its bodies are the documented ones, its signatures hold elsewhere, its habits are the providers'."""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, FormData, web
from multidict import MultiDict
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from providers import twilio, whatsapp_cloud
from providers.base import (
    Item,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    OutboundMessage,
    PreferenceChanged,
    Provider,
    ReactionChanged,
    Refused,
    StatusReported,
    Unparsed,
    WebhookRequest,
)
from providers.simulator import (
    Customer,
    NotAccepted,
    Number,
    Person,
    ReadMark,
    Simulator,
    StatusPlan,
    meta_webhooks,
    mixed_load,
    people,
    twilio_webhooks,
)
from providers.simulator.signing import sign_meta, sign_twilio
from providers.twilio.client import HttpClient
from providers.whatsapp_cloud import webhook as meta_webhook

NUMBER = Number("+15550001111", phone_number_id="1001", waba_id="2001")
OTHER = Number("+15550002222", phone_number_id="1002", waba_id="2001")
ADA = Person(phone="+15552223333", user_id="US.77", name="Ada")
HIDDEN = Person(user_id="US.88", parent_user_id="US.ENT.9", username="bruno.b", name="Bruno")
PUBLIC_URL = "https://hub.example"

Content = dict[str, Any]


class Hub:
    """The providers' routes behind a server, and nothing else; `answers` are the next HTTP statuses."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.calls = 0
        self.answers: Iterator[int] = iter(())
        self.url = ""

    def app(self, providers: list[Provider]) -> web.Application:
        app = web.Application()
        for provider in providers:
            for route in provider.routes:
                app.router.add_post(route.path, self._handler(route))
            for handshake in provider.handshakes:
                app.router.add_get(handshake.path, self._greeter(handshake))
        return app

    def _handler(self, route: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.calls += 1
            headers = {name.lower(): value for name, value in request.headers.items()}
            given = WebhookRequest(request.raw_path, headers, await request.read())
            if not route.verify(given):
                return web.Response(status=403)
            if (status := next(self.answers, 200)) != 200:
                return web.Response(status=status)
            self.items.extend(route.parse(given))
            return web.Response(body=route.answer, content_type=route.content_type)

        return handle

    def _greeter(self, handshake: Any) -> Any:
        async def greet(request: web.Request) -> web.Response:
            answer = handshake.answer(request.query)
            return web.Response(status=403) if answer is None else web.Response(text=answer)

        return greet


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(numbers=[NUMBER, OTHER], public_url=PUBLIC_URL, clock=lambda: 1_700_000_000.0) as running:
        yield running


@pytest.fixture
async def providers(simulator: Simulator) -> AsyncIterator[dict[str, Provider]]:
    meta = await whatsapp_cloud.connect(
        app_secrets=simulator.meta_app_secrets,
        verify_token=simulator.meta_verify_token,
        access_token=simulator.meta_access_token,
        api_url=simulator.url,
        timeout=5,
        concurrency=5,
    )
    other = await twilio.connect(
        account_sid=simulator.twilio_account_sid,
        auth_tokens=[simulator.twilio_auth_token],
        public_url=PUBLIC_URL,
        api_url=simulator.url,
        timeout=5,
        concurrency=5,
    )
    yield {"meta": meta, "twilio": other}
    await meta.close()
    await other.close()


@pytest.fixture
async def hub(simulator: Simulator, providers: dict[str, Provider]) -> AsyncIterator[Hub]:
    hub = Hub()
    runner = web.AppRunner(hub.app(list(providers.values())), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    simulator.hub_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield hub
    await runner.cleanup()


def outbound(hub_id: str = "msg_1", *, provider: str = "meta", medium: Any = "whatsapp") -> OutboundMessage:
    sender = "1001" if provider == "meta" else NUMBER.e164
    return OutboundMessage(hub_id, medium, sender, ADA.phone, None, "text", {"text": "hi"})


# bodies


def test_a_meta_text_has_the_documented_form() -> None:
    item = meta_webhooks.message(ADA, meta_webhooks.text("hi"), message_id="wamid.1", at=1_700_000_000.9)
    assert meta_webhooks.batch([meta_webhooks.Entry(NUMBER, item, ADA)]) == {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "2001",
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {"display_phone_number": "15550001111", "phone_number_id": "1001"},
                            "contacts": [{"profile": {"name": "Ada"}, "wa_id": "15552223333", "user_id": "US.77"}],
                            "messages": [
                                {
                                    "from": "15552223333",
                                    "from_user_id": "US.77",
                                    "id": "wamid.1",
                                    "timestamp": "1700000000",
                                    "type": "text",
                                    "text": {"body": "hi"},
                                }
                            ],
                        },
                    }
                ],
            }
        ],
    }


def test_a_person_without_phone_has_no_phone_fields() -> None:
    item = meta_webhooks.message(HIDDEN, meta_webhooks.text("hi"), message_id="wamid.1", at=0)
    value = meta_webhooks.batch([meta_webhooks.Entry(NUMBER, item, HIDDEN)])["entry"][0]["changes"][0]["value"]
    assert value["contacts"] == [
        {"profile": {"name": "Bruno", "username": "bruno.b"}, "user_id": "US.88", "parent_user_id": "US.ENT.9"}
    ]
    assert "from" not in value["messages"][0]
    assert value["messages"][0]["from_parent_user_id"] == "US.ENT.9"


def test_a_batch_holds_many_numbers_messages_and_statuses() -> None:
    def said(number: Number, person: Person, message_id: str) -> meta_webhooks.Entry:
        item = meta_webhooks.message(person, meta_webhooks.text("hi"), message_id=message_id, at=0)
        return meta_webhooks.Entry(number, item, person)

    read = meta_webhooks.status("read", message_id="wamid.0", to="US.88", at=0)
    entries = [said(NUMBER, ADA, "a"), said(OTHER, ADA, "b"), said(NUMBER, HIDDEN, "c"), said(NUMBER, ADA, "d")]
    body = meta_webhooks.batch([*entries, meta_webhooks.Entry(NUMBER, read)])
    (entry,) = body["entry"]
    first, second = (change["value"] for change in entry["changes"])
    assert [item["id"] for item in first["messages"]] == ["a", "c", "d"]
    assert [item["id"] for item in second["messages"]] == ["b"]
    assert len(first["contacts"]) == 2
    assert first["statuses"][0]["recipient_user_id"] == "US.88"
    assert "statuses" not in second


CONTENTS: list[tuple[Content, type[Item]]] = [
    (meta_webhooks.text("größer 🙂 </script>"), MessageReceived),
    (meta_webhooks.media("image", "55", "image/jpeg", caption="look"), MessageReceived),
    (meta_webhooks.media("document", "56", "application/pdf", filename="a.pdf"), MessageReceived),
    (meta_webhooks.location(1.5, 2.5, name="Shop", address="Street 1"), MessageReceived),
    (meta_webhooks.contacts("Ada Example", "+15550100001"), MessageReceived),
    (meta_webhooks.button("Yes", "confirm"), MessageReceived),
    (meta_webhooks.button_reply("yes", "Yes"), MessageReceived),
    (meta_webhooks.list_reply("blue", "Blue", "a colour"), MessageReceived),
    (meta_webhooks.flow_reply({"rating": 5}), MessageReceived),
    (meta_webhooks.order("cat", {"shoe": 2}, note="soon"), MessageReceived),
    (meta_webhooks.unsupported(), MessageReceived),
    (meta_webhooks.reaction("wamid.x", "👍"), ReactionChanged),
    (meta_webhooks.reaction("wamid.x", None), ReactionChanged),
    (meta_webhooks.edit("wamid.x", meta_webhooks.text("better")), MessageEdited),
    (meta_webhooks.revoke("wamid.x"), MessageDeleted),
]


@pytest.mark.parametrize("person", [ADA, HIDDEN], ids=["phone", "hidden"])
@pytest.mark.parametrize(("content", "kind"), CONTENTS, ids=lambda part: part["type"] if isinstance(part, dict) else "")
def test_the_hub_s_parser_knows_every_content(content: Content, kind: type[Item], person: Person) -> None:
    item = meta_webhooks.message(person, content, message_id="wamid.1", at=5)
    raw = meta_webhooks.encode(meta_webhooks.batch([meta_webhooks.Entry(NUMBER, item, person)]))
    (parsed,) = meta_webhook.parse(WebhookRequest("/webhooks/meta", {}, raw))
    assert isinstance(parsed, kind)
    assert not isinstance(parsed, Unparsed)
    assert parsed.customer.phone == person.phone
    assert parsed.customer.user_id == person.user_id
    assert parsed.sender.external_ids[0] == "1001"


def test_meta_s_bytes_are_ascii_with_escaped_slashes() -> None:
    raw = meta_webhooks.encode({"text": "größer a/b"})
    assert raw == b'{"text":"gr\\u00f6\\u00dfer a\\/b"}'
    assert json.loads(raw) == {"text": "größer a/b"}


# signatures


def test_meta_s_signature_is_plain_hmac() -> None:
    expected = hmac.new(b"secret", b"body", hashlib.sha256).hexdigest()
    assert sign_meta(b"body", "secret") == f"sha256={expected}"


@pytest.mark.parametrize("url", ["https://hub.example/webhooks/twilio", "https://hub.example/s?message=m%26x&y="])
def test_twilio_s_signature_passes_its_validator(url: str) -> None:
    form = [("To", "+1555"), ("Body", ""), ("A", "2"), ("A", "1"), ("A", "2"), ("Name", "größer"), ("AB", "x")]
    signature = sign_twilio(url, form, "token")
    validator = RequestValidator("token")
    assert validator.validate(url, MultiDict(form), signature)
    assert not validator.validate(url, MultiDict([*form, ("B", "")]), signature)
    assert not RequestValidator("other").validate(url, MultiDict(form), signature)


# webhooks arrive


@pytest.mark.parametrize(("provider", "medium"), [("meta", "whatsapp"), ("twilio", "whatsapp"), ("twilio", "sms")])
async def test_what_a_customer_says_arrives(simulator: Simulator, hub: Hub, provider: Any, medium: Any) -> None:
    customer = Customer(simulator, ADA, NUMBER, provider=provider, medium=medium)
    message_id = await customer.says("größer & a=b 🙂")
    (item,) = hub.items
    assert isinstance(item, MessageReceived)
    assert (item.provider_id, item.content["text"]) == (message_id, "größer & a=b 🙂")
    assert (item.sender.provider, item.sender.medium) == (provider, medium)
    assert item.customer.phone == ADA.phone


@pytest.mark.parametrize(("provider", "external_id"), [("meta", "1001"), ("twilio", "+15550001111")])
async def test_a_customer_without_phone_arrives(
    simulator: Simulator, hub: Hub, provider: Any, external_id: str
) -> None:
    await Customer(simulator, HIDDEN, NUMBER, provider=provider).says("hi", reply_to="wamid.q")
    (item,) = hub.items
    assert isinstance(item, MessageReceived)
    assert (item.customer.phone, item.customer.user_id, item.customer.username) == (None, "US.88", "bruno.b")
    assert item.customer.parent_user_id == "US.ENT.9"
    assert item.sender.external_ids[0] == external_id
    assert item.content["reply_to"]["provider_id"] == "wamid.q"


@pytest.mark.parametrize(
    "content",
    [
        meta_webhooks.media("image", "55", "image/jpeg", caption="look"),
        meta_webhooks.location(1.5, 2.5, name="Shop"),
        meta_webhooks.button("Yes", "confirm"),
    ],
    ids=lambda content: content["type"],
)
async def test_twilio_hands_on_some_other_contents(simulator: Simulator, hub: Hub, content: Content) -> None:
    await Customer(simulator, ADA, NUMBER, provider="twilio").sends(content)
    (item,) = hub.items
    assert isinstance(item, MessageReceived)
    assert item.type == content["type"]


async def test_what_twilio_does_not_hand_on_is_an_error(simulator: Simulator, hub: Hub) -> None:
    with pytest.raises(ValueError, match="reaction"):
        await Customer(simulator, ADA, NUMBER, provider="twilio").reacts("SM1", "👍")
    assert hub.calls == 0


async def test_a_customer_acts_on_messages(simulator: Simulator, hub: Hub) -> None:
    customer = Customer(simulator, ADA, NUMBER)
    target = await customer.says("helo")
    await customer.edits(target, "hello")
    await customer.reacts("wamid.ours", "👍")
    await customer.revokes(target)
    assert [type(item) for item in hub.items] == [MessageReceived, MessageEdited, ReactionChanged, MessageDeleted]


async def test_the_handshake_needs_the_right_word(simulator: Simulator, hub: Hub) -> None:
    assert await simulator.handshake()
    simulator.meta_verify_token = "another"
    assert not await simulator.handshake()


async def test_a_wrong_signature_is_refused(simulator: Simulator, hub: Hub) -> None:
    body = meta_webhooks.batch([])
    assert (await simulator.post_meta(body, app_secret="wrong")).status == 403
    form = twilio_webhooks.message(NUMBER, ADA, meta_webhooks.text("x"), medium="sms", account_sid="AC1", sid="SM1")
    assert (await simulator.post_twilio(form, auth_token="wrong")).status == 403
    assert hub.items == []


async def test_meta_repeats_until_it_is_answered_200(simulator: Simulator, hub: Hub) -> None:
    hub.answers = iter([503, 500])
    await Customer(simulator, ADA, NUMBER).says("hi")
    assert (simulator.posted[-1].status, simulator.posted[-1].tries) == (200, 3)
    assert len(hub.items) == 1


async def test_twilio_does_not_repeat_after_an_answer(simulator: Simulator, hub: Hub) -> None:
    hub.answers = iter([503])
    with pytest.raises(NotAccepted, match="503 after 1 tries"):
        await Customer(simulator, ADA, NUMBER, provider="twilio").says("hi")
    assert hub.calls == 1


async def test_twilio_repeats_once_where_nobody_listens(simulator: Simulator, unused_tcp_port: int) -> None:
    simulator.hub_url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(NotAccepted) as caught:
        await Customer(simulator, ADA, NUMBER, provider="twilio").says("hi")
    assert (caught.value.posted.status, caught.value.posted.tries) == (None, 2)


# sends and statuses


@pytest.mark.parametrize(("provider", "medium"), [("meta", "whatsapp"), ("twilio", "whatsapp"), ("twilio", "sms")])
@pytest.mark.parametrize(
    ("plan", "reported"),
    [
        (StatusPlan(), ["sent", "delivered", "read"]),
        (StatusPlan.none(), []),
        (StatusPlan.early(), ["sent", "delivered", "read"]),
        (StatusPlan.delayed(0.001), ["sent", "delivered", "read"]),
        (StatusPlan.reordered(), ["read", "delivered", "sent"]),
        (StatusPlan.duplicated(), ["sent", "sent", "delivered", "delivered", "read", "read"]),
        (StatusPlan.contradictory(), ["sent", "delivered", "failed"]),
        (StatusPlan.failing(), ["failed"]),
    ],
)
async def test_statuses_follow_a_send(
    simulator: Simulator,
    hub: Hub,
    providers: dict[str, Provider],
    provider: str,
    medium: Any,
    plan: StatusPlan,
    reported: list[str],
) -> None:
    simulator.status_plan = plan
    sent = await providers[provider].send(outbound(provider=provider, medium=medium))
    if plan.before_answer:
        assert len(hub.items) == len([step for step in reported if medium != "sms" or step != "read"])
    await simulator.settle()
    statuses = [item for item in hub.items if isinstance(item, StatusReported)]
    assert [item.reported for item in statuses] == [step for step in reported if medium != "sms" or step != "read"]
    assert {item.provider_id for item in statuses} <= {sent.provider_id}
    assert {item.hub_id for item in statuses} <= {"msg_1"}
    assert {item.customer.phone for item in statuses} <= {ADA.phone}
    assert all(bool(item.errors) is (item.status == "failed") for item in statuses)
    assert len(statuses) == len(hub.items)


async def test_a_failure_carries_the_code_asked_for(
    simulator: Simulator, hub: Hub, providers: dict[str, Provider]
) -> None:
    simulator.status_plan = StatusPlan.failing(131047)
    await providers["meta"].send(outbound())
    await simulator.settle()
    (item,) = hub.items
    assert isinstance(item, StatusReported)
    assert (item.errors[0]["code"], item.errors[0]["provider_code"]) == ("reply_window_closed", "131047")


async def test_a_customer_hears_their_messages_in_order(simulator: Simulator, providers: dict[str, Provider]) -> None:
    ada, bruno = Customer(simulator, ADA, NUMBER), Customer(simulator, HIDDEN, NUMBER)
    await providers["meta"].send(outbound("msg_1"))
    await providers["meta"].send(outbound("msg_2"))
    assert [(await ada.hears()).hub_id, (await ada.hears()).hub_id] == ["msg_1", "msg_2"]
    assert bruno.received == []
    with pytest.raises(TimeoutError):
        await ada.hears(timeout=0.01)


async def test_ids_repeat_with_the_seed() -> None:
    first, again, other = (Simulator(numbers=[NUMBER], seed=seed).ledger for seed in (5, 5, 6))
    assert (first.wamid(), first.sid()) == (again.wamid(), again.sid())
    assert first.wamid() != other.wamid()


# Twilio's list


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Client]:
    http = HttpClient(api_url=simulator.url, timeout=5, concurrency=5)
    yield Client(simulator.twilio_account_sid, simulator.twilio_auth_token, http_client=http)
    await http.close()


async def test_twilio_lists_both_directions_in_pages(
    simulator: Simulator, hub: Hub, providers: dict[str, Provider], client: Client
) -> None:
    customer = Customer(simulator, ADA, NUMBER, provider="twilio", medium="sms")
    said = [await customer.says(f"number {index}") for index in range(5)]
    sent = await providers["twilio"].send(outbound(provider="twilio", medium="sms"))
    await simulator.settle()
    listed = await client.messages.list_async(page_size=2)
    assert [found.sid for found in listed] == [sent.provider_id, *reversed(said)]
    assert Counter(found.direction for found in listed) == {"inbound": 5, "outbound-api": 1}
    fetched = await client.messages(sent.provider_id).fetch_async()
    assert (fetched.status, fetched.to, fetched.body) == ("delivered", ADA.phone, "hi")


async def test_twilio_s_list_is_filtered(simulator: Simulator, hub: Hub, client: Client) -> None:
    await Customer(simulator, ADA, NUMBER, provider="twilio", medium="sms").says("hi")
    now = datetime.fromtimestamp(1_700_000_000, UTC)
    assert len(await client.messages.list_async(to=NUMBER.e164, date_sent_after=now)) == 1
    assert await client.messages.list_async(to=OTHER.e164) == []
    assert await client.messages.list_async(date_sent_after=now.replace(year=2024)) == []
    assert await client.messages.list_async(date_sent_before=now.replace(year=2022)) == []
    assert len(await client.messages.list_async(date_sent=now)) == 1


async def test_an_inbound_whose_webhook_was_lost_is_listed(
    simulator: Simulator, client: Client, unused_tcp_port: int
) -> None:
    simulator.hub_url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(NotAccepted):
        await Customer(simulator, ADA, NUMBER, provider="twilio").says("lost")
    (found,) = await client.messages.list_async()
    assert (found.body, found.from_, found.status) == ("lost", f"whatsapp:{ADA.phone}", "received")


# Twilio's habits


async def create(simulator: Simulator, pairs: list[tuple[str, str]]) -> tuple[int, Content]:
    """Ask the simulated Twilio for a message, with a form given pair by pair."""
    url = f"{simulator.url}/2010-04-01/Accounts/{simulator.twilio_account_sid}/Messages.json"
    auth = aiohttp.encode_basic_auth(simulator.twilio_account_sid, simulator.twilio_auth_token)
    async with (
        ClientSession(headers={"Authorization": auth}) as session,
        session.post(url, data=FormData(pairs)) as answer,
    ):
        return answer.status, await answer.json()


_TO_ADA = [("To", "+15552223333"), ("From", NUMBER.e164)]
_TO_ADA_S_WHATSAPP = [("To", "whatsapp:+15552223333"), ("From", f"whatsapp:{NUMBER.e164}")]
_TEMPLATE = ("ContentSid", "HX" + "0" * 32)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([*_TO_ADA], 21619),
        ([("From", NUMBER.e164), ("Body", "x")], 21211),
        ([*_TO_ADA, ("Body", "x" * 1601)], 21617),
        ([*_TO_ADA, ("Body", "x" * 1600)], None),
        ([*_TO_ADA, *[("MediaUrl", "https://x.example/1")] * 11], 21623),
        ([*_TO_ADA, *[("MediaUrl", "https://x.example/1")] * 10], None),
        ([*_TO_ADA_S_WHATSAPP, *[("MediaUrl", "https://x.example/1")] * 2], 21623),
        ([*_TO_ADA, ("MediaUrl", "x.example/1")], 21620),
        ([*_TO_ADA, _TEMPLATE], None),
        ([*_TO_ADA, ("ContentSid", "HX1")], 21655),
        ([*_TO_ADA, _TEMPLATE, ("Body", "x")], 63030),
        ([*_TO_ADA, _TEMPLATE, ("MediaUrl", "https://x.example/1")], 63030),
        ([*_TO_ADA, _TEMPLATE, ("ContentVariables", '{"1": "x"}')], None),
        ([*_TO_ADA, _TEMPLATE, ("ContentVariables", '{"1": ""}')], 21656),
        ([*_TO_ADA, _TEMPLATE, ("ContentVariables", "[]")], 21656),
        ([*_TO_ADA, _TEMPLATE, ("ContentVariables", "{")], 21656),
        ([*_TO_ADA, ("Body", "x"), ("ContentVariables", "{}")], 21654),
        ([*_TO_ADA_S_WHATSAPP, ("Body", "x"), ("PersistentAction", "geo:1.5,-2|there")], None),
        ([*_TO_ADA_S_WHATSAPP, ("Body", "x"), ("PersistentAction", "geo:91,0")], 63021),
        ([*_TO_ADA_S_WHATSAPP, ("Body", "x"), ("PersistentAction", "here")], 63021),
        ([*_TO_ADA_S_WHATSAPP, ("PersistentAction", "geo:1,2")], 21619),
    ],
)
async def test_twilio_refuses_what_is_no_message(
    simulator: Simulator, pairs: list[tuple[str, str]], code: int | None
) -> None:
    status, body = await create(simulator, pairs)
    assert (status, body.get("code")) == ((201, None) if code is None else (400, code))
    assert len(simulator.sent) == (code is None)


@pytest.mark.parametrize("word", ["STOP", " stop ", "Unsubscribe", "CANCEL", "end", "Quit", "STOPALL"])
async def test_twilio_heeds_stop_and_start_by_sms(
    simulator: Simulator, hub: Hub, providers: dict[str, Provider], word: str
) -> None:
    ada = Customer(simulator, ADA, NUMBER, provider="twilio", medium="sms")
    send = providers["twilio"].send
    await ada.says("stop sending the blue one")
    assert simulator.opted_out == set()
    await ada.says(word)
    assert simulator.opted_out == {(ADA.phone, NUMBER.e164)}
    with pytest.raises(Refused) as caught:
        await send(outbound(provider="twilio", medium="sms"))
    assert caught.value.provider_code == "21610"
    await send(outbound(provider="twilio", medium="whatsapp"))
    await ada.says("start")
    assert simulator.opted_out == set()
    await send(outbound(provider="twilio", medium="sms"))
    await simulator.settle()
    said = [item.content["text"] for item in hub.items if isinstance(item, MessageReceived)]
    assert said == ["stop sending the blue one", word, "start"]  # Twilio hands them on all the same


async def test_twilio_leaves_stop_on_whatsapp_alone(simulator: Simulator, hub: Hub) -> None:
    await Customer(simulator, ADA, NUMBER, provider="twilio").says("STOP")
    assert simulator.opted_out == set()


# Meta's API


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messaging_product": "whatsapp", "type": "text", "text": {"body": "x"}}, 131008),
        ({"messaging_product": "whatsapp", "to": "1", "type": "text", "text": {"body": ""}}, 131009),
        ({"messaging_product": "whatsapp", "to": "1", "type": "image", "text": {"body": "x"}}, 131009),
        ({"to": "1", "type": "text", "text": {"body": "x"}}, 100),
    ],
)
async def test_meta_refuses_what_is_no_message(simulator: Simulator, body: Content, code: int) -> None:
    headers = {"Authorization": f"Bearer {simulator.meta_access_token}"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(f"{simulator.url}/v26.0/1001/messages", json=body) as answer,
    ):
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert error["code"] == code
    assert {"message", "type", "fbtrace_id", "error_data"} <= error.keys()
    assert simulator.sent == []


def to_meta(kind: str, part: Any, **others: Any) -> Content:
    return {"messaging_product": "whatsapp", "to": "15552223333", "type": kind, kind: part} | others


def buttons(*titles: str, **others: Any) -> Content:
    replies = [{"type": "reply", "reply": {"id": title, "title": title}} for title in titles]
    return to_meta("interactive", {"type": "button", "body": {"text": "x"}, "action": {"buttons": replies}} | others)


def choices(*sections: list[str], **others: Any) -> Content:
    listed = [{"title": "s", "rows": [{"id": title, "title": title} for title in rows]} for rows in sections]
    action = {"button": "Open", "sections": listed} | others
    return to_meta("interactive", {"type": "list", "body": {"text": "x"}, "action": action})


def call_to_action(name: str = "cta_url", **parameters: str) -> Content:
    action = {"name": name, "parameters": parameters}
    return to_meta("interactive", {"type": "cta_url", "body": {"text": "x"}, "action": action})


def of_template(name: str, language: str = "en", *values: str, **others: Any) -> Content:
    parameters = [{"type": "text", "text": value} for value in values]
    components = [{"type": "body", "parameters": parameters}] if values else []
    part = {"name": name, "language": {"code": language}, "components": components}
    return to_meta("template", part | others)


META_REFUSALS: list[tuple[Content, int]] = [
    (to_meta("poll", {"question": "x"}), 131009),
    (to_meta("text", {"body": "x" * 4097}), 131009),
    (to_meta("text", "x"), 131008),
    (to_meta("text", {"body": "x"}, context={}), 131008),
    (to_meta("image", {}), 131008),
    (to_meta("image", {"id": "1", "link": "https://a.example"}), 131008),
    (to_meta("image", {"link": "ftp://a.example"}), 131009),
    (to_meta("image", {"id": "1"}), 100),
    (to_meta("image", {"link": "https://a.example", "caption": "x" * 1025}), 131009),
    (to_meta("image", {"link": "https://a.example", "filename": "x"}), 100),
    (to_meta("audio", {"link": "https://a.example", "caption": "x"}), 100),
    (to_meta("sticker", {"link": 5}), 131008),
    (buttons(), 131008),
    (buttons("A", "B", "C", "D"), 131009),
    (buttons("x" * 21), 131009),
    (buttons("A", "A"), 131009),
    (buttons("A", body={"text": "x" * 1025}), 131009),
    (buttons("A", body={}), 131008),
    (buttons("A", header={"type": "text", "text": "x" * 61}), 131009),
    (buttons("A", footer={"text": ""}), 131009),
    (buttons("A", type="poll"), 131009),
    (buttons("A", action={"buttons": [{"type": "url", "reply": {}}]}), 131009),
    (choices(), 131008),
    (choices([]), 131008),
    (choices(list("ABCDEF"), list("GHIJK")), 131009),
    (choices(["x" * 25]), 131009),
    (choices(["A"], button="x" * 21), 131009),
    (choices(["A"], sections=[{"rows": [{"id": "a", "title": "A"}]}, {"rows": [{"id": "b", "title": "B"}]}]), 131008),
    (choices(["A"], sections=[{"rows": [{"id": "a", "title": "A", "description": "x" * 73}]}]), 131009),
    (call_to_action(url="https://a.example"), 131008),
    (call_to_action(display_text="x" * 21, url="https://a.example"), 131009),
    (call_to_action(display_text="x", url="a.example"), 131009),
    (call_to_action("go", display_text="x", url="https://a.example"), 131009),
    (of_template("nothing"), 132001),
    (of_template("spring_sale", "de"), 132001),
    (of_template("lottery"), 132001),
    (of_template("resting"), 132015),
    (of_template("order_update"), 132000),
    (of_template("order_update", "en", "1", "2"), 132000),
    (to_meta("template", {"name": "order_update"}), 131008),
    (to_meta("location", {"latitude": 1}), 131008),
    (to_meta("location", {"latitude": 91, "longitude": 1}), 131009),
    (to_meta("contacts", []), 131008),
    (to_meta("contacts", [{"name": {"first_name": "Ada"}}]), 131008),
    (to_meta("reaction", {"message_id": "wamid.1"}), 131008),
    (to_meta("reaction", {"emoji": "x"}), 131008),
    (to_meta("reaction", {"message_id": "wamid.1", "emoji": "x"}, context={"message_id": "wamid.1"}), 131009),
    ({"messaging_product": "whatsapp", "status": "read"}, 131009),
    ({"messaging_product": "whatsapp", "status": "seen", "message_id": "wamid.1"}, 131009),
    ({"messaging_product": "whatsapp", "status": "read", "message_id": "1"}, 100),
    (
        {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1", "typing_indicator": {}},
        131009,
    ),
]


async def test_meta_checks_every_kind(simulator: Simulator) -> None:
    simulator.templates = [*simulator.templates, dict(simulator.templates[1]) | {"name": "resting", "status": "PAUSED"}]
    headers = {"Authorization": f"Bearer {simulator.meta_access_token}"}
    async with ClientSession(headers=headers, base_url=simulator.url) as session:
        for body, code in META_REFUSALS:
            async with session.post("/v26.0/1001/messages", json=body) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (400, code), body
    assert simulator.sent == []
    assert simulator.read_marks == []


async def test_meta_shows_a_template_filled_in_or_any_where_none_is_known(simulator: Simulator) -> None:
    named = {
        "components": [{"type": "body", "parameters": [{"type": "text", "parameter_name": "who", "text": "Ada"}]}],
    }
    simulator.templates = [*simulator.templates, dict(simulator.templates[1]) | {"name": "hello"}]
    simulator.templates[-1] = simulator.templates[-1] | {"components": [{"type": "BODY", "text": "Hello {{who}}"}]}
    headers = {"Authorization": f"Bearer {simulator.meta_access_token}"}
    async with ClientSession(headers=headers, base_url=simulator.url) as session:
        for body in (of_template("order_update", "en", "4711"), of_template("hello", **named), of_template("nothing")):
            if body["template"]["name"] == "nothing":
                simulator.templates = []
            async with session.post("/v26.0/1001/messages", json=body) as answer:
                assert answer.status == 200
    assert [send.text for send in simulator.sent] == ["Your order 4711 is on its way.", "Hello Ada", None]


async def test_meta_describes_a_number(simulator: Simulator) -> None:
    headers = {"Authorization": f"Bearer {simulator.meta_access_token}"}
    async with ClientSession(headers=headers, base_url=simulator.url) as session:
        async with session.get("/v26.0/1001", params={"fields": "display_phone_number"}) as answer:
            assert await answer.json() == {"id": "1001", "display_phone_number": "+15550001111"}
        async with session.get("/v26.0/1009") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, 100)
        async with session.get("/v26.0/debug_token", params={"input_token": "another"}) as answer:
            assert (await answer.json())["data"]["is_valid"] is False
        form = {"messaging_product": "whatsapp", "type": "image/png"}
        async with session.post("/v26.0/1001/media", data=form) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, 131053)
    async with ClientSession(base_url=simulator.url) as stranger, stranger.get("/v26.0/1001") as answer:
        assert answer.status == 401


@pytest.mark.parametrize("person", [ADA, HIDDEN], ids=["phone", "hidden"])
async def test_marketing_to_a_customer_who_stopped_it_fails_later(
    simulator: Simulator, hub: Hub, providers: dict[str, Provider], person: Person
) -> None:
    customer = Customer(simulator, person, NUMBER)
    plain = replace(outbound(), phone=person.phone, user_id=None if person.phone else person.user_id)

    async def said_of(name: str) -> list[tuple[str, list[str]]]:
        template: dict[str, Any] = {"name": name, "language": "en"}
        if name == "order_update":
            template["components"] = [{"type": "body", "parameters": [{"type": "text", "text": "1"}]}]
        await providers["meta"].send(replace(plain, type="template", content={"template": template}))
        await simulator.settle()
        statuses = [item for item in hub.items if isinstance(item, StatusReported)]
        hub.items.clear()
        return [(status.reported, [error["code"] for error in status.errors]) for status in statuses]

    await customer.prefers_marketing(False)
    (stopped,) = hub.items
    assert isinstance(stopped, PreferenceChanged)
    assert (stopped.wants_marketing, stopped.customer.user_id, stopped.at) == (False, person.user_id, 1_700_000_000.0)
    hub.items.clear()
    delivered: list[tuple[str, list[str]]] = [("sent", []), ("delivered", []), ("read", [])]
    assert await said_of("spring_sale") == [("failed", ["marketing_stopped"])]
    assert await said_of("order_update") == delivered
    await customer.prefers_marketing(True)
    hub.items.clear()
    assert await said_of("spring_sale") == delivered
    with pytest.raises(ValueError, match="Twilio"):
        await Customer(simulator, person, NUMBER, provider="twilio").prefers_marketing(False)


async def test_meta_takes_read_marks(simulator: Simulator) -> None:
    headers = {"Authorization": f"Bearer {simulator.meta_access_token}"}
    body = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(f"{simulator.url}/v26.0/1001/messages", json=body) as answer,
    ):
        assert await answer.json() == {"success": True}
    assert simulator.attempts == []
    assert simulator.read_marks == [ReadMark("meta", "1001", "wamid.1", is_typing=False, at=1_700_000_000.0)]


# load


def _ids(bodies: list[Content]) -> list[str]:
    return [
        message["id"]
        for body in bodies
        for entry in body["entry"]
        for change in entry["changes"]
        for message in change["value"]["messages"]
    ]


def test_mixed_load_repeats_with_its_seed() -> None:
    customers = people(3, 20)
    first, again, other = (list(mixed_load(seed, 200, customers, numbers=[NUMBER, OTHER])) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert customers == people(3, 20)


def test_mixed_load_has_every_message_some_twice_and_some_late() -> None:
    bodies = list(mixed_load(1, 1000, people(1, 50), numbers=[NUMBER], duplicates=0.1, reorder=0.1))
    counts = Counter(_ids(bodies))
    assert len(counts) == 1000
    assert set(counts.values()) == {1, 2}
    assert 60 < sum(counts.values()) - 1000 < 140
    stamps = [
        int(message["timestamp"])
        for body in mixed_load(1, 1000, people(1, 50), numbers=[NUMBER], duplicates=0, reorder=0.5)
        for message in body["entry"][0]["changes"][0]["value"]["messages"]
    ]
    assert stamps != sorted(stamps)


def test_mixed_load_without_mishaps_is_in_order_and_parses() -> None:
    bodies = list(mixed_load(1, 300, people(1, 50), numbers=[NUMBER], duplicates=0, reorder=0, batch=1))
    assert len(_ids(bodies)) == len(set(_ids(bodies))) == len(bodies) == 300
    items = [
        item
        for body in bodies
        for item in meta_webhook.parse(WebhookRequest("/webhooks/meta", {}, meta_webhooks.encode(body)))
    ]
    assert len(items) == 300
    assert not any(isinstance(item, Unparsed) for item in items)
    assert [item.at for item in items if not isinstance(item, Unparsed)] == sorted(item.at or 0 for item in items)  # type: ignore[union-attr]


def test_some_people_hide_their_phone() -> None:
    crowd = people(1, 200)
    hidden = [person for person in crowd if person.phone is None]
    assert 5 < len(hidden) < 50
    assert all(person.user_id and person.username for person in hidden)
