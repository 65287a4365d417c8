"""Twilio's kinds of messages and its look-ups, through the real SDK against the simulator (rules E5, E7, E8, E10)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from twilio.http.response import Response

from providers import twilio
from providers.base import (
    FoundSend,
    Medium,
    NotTaken,
    OutboundMedia,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    ReadMark,
    Refused,
    SendError,
    Template,
    Upload,
)
from providers.simulator import Fault, Number, Person, Simulator, StatusPlan, twilio_extras, twilio_webhooks
from providers.twilio import lookups
from providers.twilio.client import HttpClient

SERVICE = "MG" + "1" * 32
NUMBER = Number("+15550001111", messaging_service=SERVICE)
OTHER = Number("+15550002222")
ADA = Person(phone="+15552223333", user_id="US.1")
SHOP = {"latitude": 37.78789, "longitude": -122.391664}
HX = "HX" + "a" * 32
START = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)
Connect = Callable[..., Awaitable[Provider]]


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[Simulator]:
    async with Simulator(numbers=[NUMBER, OTHER], status_plan=StatusPlan.none(), clock=clock) as running:
        yield running


@pytest.fixture
async def connect(simulator: Simulator) -> AsyncIterator[Connect]:
    """Connects Twilio to the simulator, and closes it afterwards."""
    opened: list[Provider] = []

    async def opener(**changes: Any) -> Provider:
        given: dict[str, Any] = {"api_url": simulator.url, "timeout": 5.0, "concurrency": 20}
        given |= {"account_sid": simulator.twilio_account_sid, "auth_tokens": [simulator.twilio_auth_token]}
        provider = await twilio.connect(public_url="https://hub.example", **(given | changes))
        opened.append(provider)
        return provider

    yield opener
    for provider in opened:
        await provider.close()


@pytest.fixture
async def provider(connect: Connect) -> Provider:
    return await connect()


def message(medium: Medium = "sms", **changes: Any) -> OutboundMessage:
    plain = OutboundMessage("msg_1", medium, NUMBER.e164, ADA.phone, None, "text", {"text": "hello"})
    return replace(plain, **changes)


def files(*urls: str | None) -> list[OutboundMedia]:
    return [OutboundMedia(url=url, mime_type="image/png", filename="x.png") for url in urls]


def pictures(count: int) -> list[OutboundMedia]:
    return files(*(f"https://files.example/{index}.png" for index in range(count)))


# Kinds


def kind(name: str, content: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {"type": name, "content": content or {}} | changes


KINDS: list[tuple[Medium, dict[str, Any], str, dict[str, Any]]] = [
    ("sms", kind("text", {"text": "größer 🙂"}), "text", {"Body": "größer 🙂"}),
    *(
        (medium, kind(name, media=pictures(1)), "media", {"MediaUrl": ["https://files.example/0.png"]})
        for medium in cast("tuple[Medium, ...]", ("sms", "whatsapp"))
        for name in ("image", "video", "audio", "document")
    ),
    (
        "sms",
        kind("image", {"text": "look"}, media=pictures(10)),
        "media",
        {"Body": "look", "MediaUrl": [f"https://files.example/{index}.png" for index in range(10)]},
    ),
    (
        "whatsapp",
        kind("location", {"location": SHOP | {"name": "Shop", "address": "375 Beale St"}}),
        "location",
        {"Body": "Shop", "PersistentAction": ["geo:37.787890,-122.391664|375 Beale St"]},
    ),
    (
        "whatsapp",
        kind("location", {"location": SHOP | {"address": "375 Beale St"}}),
        "location",
        {"Body": "375 Beale St", "PersistentAction": ["geo:37.787890,-122.391664"]},
    ),
    (
        "whatsapp",
        kind("location", {"location": {"latitude": 0, "longitude": -0.0000001}}),
        "location",
        {"Body": "0.000000,-0.000000", "PersistentAction": ["geo:0.000000,-0.000000"]},
    ),
    *(
        (
            medium,
            kind("template", {"template": {"content_sid": HX, "variables": {"1": "Ida", "2": "ü"}}}),
            "template",
            {"ContentSid": HX, "ContentVariables": '{"1":"Ida","2":"ü"}'},
        )
        for medium in cast("tuple[Medium, ...]", ("sms", "whatsapp"))
    ),
    # a text beside a template is only for the hub's own eyes
    ("sms", kind("template", {"template": {"content_sid": HX}, "text": "Hi"}), "template", {"ContentSid": HX}),
    ("sms", kind("template", {"template": {"content_sid": HX, "variables": {}}}), "template", {"ContentSid": HX}),
]


@pytest.mark.parametrize(("medium", "changes", "kind_there", "fields"), KINDS)
async def test_each_kind_field_by_field(
    simulator: Simulator,
    provider: Provider,
    medium: Medium,
    changes: dict[str, Any],
    kind_there: str,
    fields: dict[str, Any],
) -> None:
    sent = await provider.send(message(medium, **changes))
    (taken,) = simulator.sent
    prefix = "whatsapp:" if medium == "whatsapp" else ""
    assert dict(taken.body) == fields | {
        "To": prefix + str(ADA.phone),
        "From": prefix + NUMBER.e164,
        "StatusCallback": "https://hub.example/webhooks/twilio/status?message=msg_1",
    }
    assert (taken.type, taken.medium, taken.provider_id) == (kind_there, medium, sent.provider_id)
    assert changes["type"] in provider.supports[medium]


@pytest.mark.parametrize(
    ("medium", "changes", "code"),
    [
        ("sms", kind("location", {"location": SHOP}), "unsupported_type"),
        *(
            (medium, kind(name, {name: {}}), "unsupported_type")
            for medium in ("sms", "whatsapp")
            for name in ("sticker", "interactive", "contacts", "reaction", "templates", "find_sent", "typing")
        ),
        ("whatsapp", kind("image", media=pictures(2)), "invalid_content"),
        ("sms", kind("image", media=pictures(11)), "invalid_content"),
        ("sms", kind("image"), "invalid_content"),
        ("sms", kind("image", media=files("https://files.example/1", None)), "invalid_content"),
        ("sms", kind("image", media=[OutboundMedia(provider_id="123")]), "invalid_content"),
        ("sms", kind("image", {"text": 7}, media=pictures(1)), "invalid_content"),
        ("whatsapp", kind("location"), "invalid_content"),
        ("whatsapp", kind("location", {"location": {"latitude": 1}}), "invalid_content"),
        ("whatsapp", kind("location", {"location": SHOP | {"latitude": 90.5}}), "invalid_content"),
        ("whatsapp", kind("location", {"location": SHOP | {"latitude": float("nan")}}), "invalid_content"),
        ("whatsapp", kind("location", {"location": SHOP | {"longitude": True}}), "invalid_content"),
        ("sms", kind("template"), "invalid_content"),
        ("sms", kind("template", {"template": {"name": "hello"}}), "invalid_content"),
        ("sms", kind("template", {"template": {"content_sid": HX, "variables": ["x"]}}), "invalid_content"),
        ("whatsapp", kind("text", {"text": "x", "reply_to": {"provider_id": "SM1"}}), "unsupported_reply_to"),
        (
            "sms",
            kind("image", {"reply_to": {"provider_id": "SM1"}}, media=pictures(1)),
            "unsupported_reply_to",
        ),
    ],
)
async def test_what_cannot_be_sent_is_refused_without_a_request(
    simulator: Simulator, provider: Provider, medium: Medium, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refused) as caught:
        await provider.send(message(medium, **changes))
    assert caught.value.code == code
    assert simulator.attempts == []


@pytest.mark.parametrize(
    ("medium", "changes", "code", "provider_code"),
    [
        ("sms", kind("text", {"text": "x" * 1601}), "invalid_content", "21617"),
        ("sms", kind("image", media=files("ftp://files.example/x")), "media_unavailable", "21620"),
        ("sms", kind("template", {"template": {"content_sid": "HX1"}}), "template_invalid", "21655"),
        ("sms", kind("template", {"template": {"content_sid": HX}}), "template_invalid", "21655"),
        (
            "sms",
            kind("template", {"template": {"content_sid": "known", "variables": {"1": ""}}}),
            "template_invalid",
            "21656",
        ),
    ],
)
async def test_what_twilio_refuses(
    simulator: Simulator, provider: Provider, medium: Medium, changes: dict[str, Any], code: str, provider_code: str
) -> None:
    known = simulator.twilio_api.extras.add_content("hello")
    template = changes["content"].get("template")
    if template is not None and template["content_sid"] == "known":
        changes = kind("template", {"template": template | {"content_sid": known}})
    with pytest.raises(Refused) as caught:
        await provider.send(message(medium, **changes))
    assert (caught.value.code, caught.value.provider_code) == (code, provider_code)
    assert (len(simulator.attempts), simulator.sent) == (1, [])


async def test_a_template_is_read_by_the_customer(simulator: Simulator, provider: Provider) -> None:
    text = {"twilio/text": {"body": "Hello {{1}}, order {{2}} and {{3}}"}}
    sid = simulator.twilio_api.extras.add_content("order", types=text, variables={"1": "you", "2": "0"})
    await provider.send(message(**kind("template", {"template": {"content_sid": sid, "variables": {"2": "4711"}}})))
    assert simulator.sent[0].text == "Hello you, order 4711 and {{3}}"


# Opting out (rule E5)


@pytest.mark.parametrize("sender", [NUMBER.e164, SERVICE])
async def test_who_opted_out_is_refused_with_twilio_s_code(
    simulator: Simulator, provider: Provider, sender: str
) -> None:
    simulator.opted_out.add((str(ADA.phone), NUMBER.e164))
    with pytest.raises(Refused) as caught:
        await provider.send(message(sender=sender))
    assert (caught.value.code, caught.value.provider_code) == ("opted_out", "21610")
    await provider.send(message("whatsapp", sender=sender))
    await provider.send(message(sender=OTHER.e164))
    assert [(send.medium, send.number) for send in simulator.sent] == [("whatsapp", NUMBER), ("sms", OTHER)]


@pytest.mark.parametrize(
    ("body", "code", "provider_code"),
    [
        ({"code": 21610, "detail": "The recipient said STOP."}, "opted_out", "21610"),
        ({"code": 21610}, "opted_out", "21610"),
        ({"code": 20429, "status": 429}, "throttled", "20429"),
        ({"code": None}, "refused", None),
    ],
)
async def test_a_problem_document_says_the_same(
    connect: Connect, body: dict[str, Any], code: str, provider_code: str | None
) -> None:
    """Newer answers are problem documents (RFC 9457), for which the SDK has another exception."""
    document = {"type": "https://www.twilio.com/docs/errors", "title": "Attempt to send", "status": 400} | body

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response(document, status=document["status"], content_type="application/problem+json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider = await connect(api_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    calls = (
        provider.send(message()),
        provider.find_sent(message(), START, START),
        provider.list_templates(NUMBER.e164, None),
    )
    for call in calls:
        with pytest.raises(SendError) as caught:
            await call
        assert (caught.value.code, caught.value.provider_code) == (code, provider_code)
    await runner.cleanup()


# Typing


async def received(simulator: Simulator, medium: Medium) -> str:
    sid = simulator.ledger.sid()
    content = {"type": "text", "text": {"body": "hi"}}
    form = twilio_webhooks.message(
        NUMBER, ADA, content, medium=medium, account_sid=simulator.twilio_account_sid, sid=sid
    )
    simulator.twilio_api.add_inbound(form)
    return sid


def mark(provider_id: str = "SM1", **changes: Any) -> ReadMark:
    return replace(ReadMark("whatsapp", NUMBER.e164, provider_id, is_typing=True), **changes)


async def test_typing(simulator: Simulator, provider: Provider) -> None:
    sid = await received(simulator, "whatsapp")
    await provider.mark_read(mark(sid))
    (taken,) = simulator.read_marks
    assert (taken.provider, taken.sender, taken.message_id, taken.is_typing) == ("twilio", NUMBER.e164, sid, True)
    assert simulator.attempts == []


@pytest.mark.parametrize("changes", [{"is_typing": False}, {"medium": "sms"}, {"medium": "sms", "is_typing": False}])
async def test_there_are_no_read_marks_without_typing(
    simulator: Simulator, provider: Provider, changes: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as caught:
        await provider.mark_read(mark(await received(simulator, "whatsapp"), **changes))
    assert caught.value.code == "not_supported"
    assert simulator.read_marks == []
    assert "typing" in provider.supports["whatsapp"]
    assert "typing" not in provider.supports["sms"]
    assert all("read" not in names and "upload" not in names for names in provider.supports.values())


async def test_typing_at_a_message_that_twilio_does_not_know(simulator: Simulator, provider: Provider) -> None:
    for sid in ("SM1", await received(simulator, "sms")):
        with pytest.raises(Refused) as caught:
            await provider.mark_read(mark(sid))
        assert (caught.value.code, caught.value.provider_code) == ("not_found", "20404")


async def test_an_indicator_that_was_not_sent_is_no_success(
    simulator: Simulator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def request(*_: Any, **__: Any) -> Response:
        return Response(200, '{"success": false}')

    monkeypatch.setattr(HttpClient, "request", request)
    with pytest.raises(OutcomeUnknown, match="bad_answer"):
        await provider.mark_read(mark())


async def test_nothing_is_uploaded(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        await provider.upload(Upload(NUMBER.e164, tmp_path / "x.png", "image/png", "x.png"))
    assert caught.value.code == "not_supported"


# Templates


async def test_templates(simulator: Simulator, provider: Provider) -> None:
    add = simulator.twilio_api.extras.add_content
    card = {"twilio/card": {"title": "Sale"}}
    sids = [
        add("sale", language="de", category="MARKETING", status="approved", types=card, variables={"1": "Ida"}),
        add("plain"),
    ]
    simulator.twilio_api.extras.contents[sids[1]] |= {"language": None, "variables": None, "approval_requests": None}
    assert await provider.list_templates(NUMBER.e164, None) == [
        Template(sids[0], "sale", "de", "marketing", "approved", {"types": card, "variables": {"1": "Ida"}}),
        Template(sids[1], "plain", None, None, None, {"types": {"twilio/text": {"body": "Hello"}}, "variables": {}}),
    ]
    for given, expected in (("unsubmitted", "unsubmitted"), ("received", "pending"), ("rejected", "rejected")):
        sid = add("new", status=given)
        assert (await provider.list_templates(NUMBER.e164, None))[-1].status == expected
    simulator.twilio_api.extras.contents[sid]["approval_requests"] = {"whatsapp": {"status": "PAUSED"}}
    assert (await provider.list_templates(NUMBER.e164, None))[-1].status == "paused"


async def test_all_pages_of_templates_within_bounds(
    simulator: Simulator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second page lies at a whole URL of another host, which must stand for the simulator too."""
    names = [f"template {index}" for index in range(701)]
    for name in names:
        simulator.twilio_api.extras.add_content(name)
    assert [found.name for found in await provider.list_templates(NUMBER.e164, None)] == names
    monkeypatch.setattr(lookups, "_MAX_TEMPLATES", 600)
    assert [found.name for found in await provider.list_templates(NUMBER.e164, None)] == names[:600]


@pytest.mark.parametrize(
    "url",
    [
        "https://content.twilio.com.evil.example/",
        "https://eviltwilio.com/",
        "http://content.twilio.com/",
        "/v1/Content",
    ],
)
async def test_a_next_page_elsewhere_gets_no_credentials(
    simulator: Simulator, provider: Provider, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    simulator.twilio_api.extras.add_content("one")
    monkeypatch.setattr(lookups, "_TEMPLATES_PAGE", 1)
    simulator.twilio_api.extras.add_content("two")
    monkeypatch.setattr(twilio_extras, "_url", lambda *_: url)
    with pytest.raises(OutcomeUnknown, match="bad_answer"):
        await provider.list_templates(NUMBER.e164, None)


# Looking a send up (rule E8)


def window(before: float = 30, after: float = 30) -> tuple[datetime, datetime]:
    return START - timedelta(seconds=before), START + timedelta(seconds=after)


async def found(provider: Provider, wanted: OutboundMessage, *times: datetime) -> list[FoundSend]:
    return list(await provider.find_sent(wanted, *(times or window())))


FINDABLE: dict[str, OutboundMessage] = {
    "text": message(),
    "whatsapp": message("whatsapp"),
    "user id": message("whatsapp", phone=None, user_id="US.1"),
    "service": message(sender=SERVICE),
    "image": message(type="image", content={"text": "look"}, media=pictures(2)),
    "no caption": message("whatsapp", type="audio", content={}, media=pictures(1)),
    "location": message("whatsapp", type="location", content={"location": SHOP | {"name": "Shop"}}),
}


@pytest.mark.parametrize("case", FINDABLE)
async def test_exactly_the_message_itself_is_found(simulator: Simulator, provider: Provider, case: str) -> None:
    wanted = FINDABLE[case]
    assert await found(provider, wanted) == []
    for other in FINDABLE.values():
        if other is not wanted:
            await provider.send(other)
    assert await found(provider, wanted) == []
    sent = await provider.send(wanted)
    reported = "accepted" if case == "service" else "queued"
    assert await found(provider, wanted) == [FoundSend(sent.provider_id, "sending", reported)]


@pytest.mark.parametrize(
    "changes",
    [
        {"content": {"text": "hello "}},
        {"content": {"text": "Hello"}},
        {"phone": "+15552223334"},
        {"medium": "whatsapp"},
        {"sender": OTHER.e164},
        {"sender": SERVICE},
        {"type": "image", "media": pictures(1)},
    ],
)
async def test_a_message_that_differs_is_not_found(provider: Provider, changes: dict[str, Any]) -> None:
    await provider.send(message(**changes))
    assert await found(provider, message()) == []


async def test_two_alike_are_both_found(provider: Provider) -> None:
    sent = [(await provider.send(message())).provider_id for _ in range(2)]
    assert [one.provider_id for one in await found(provider, message())] == sent[::-1]


async def test_what_the_customer_wrote_is_not_ours(simulator: Simulator, provider: Provider) -> None:
    """The same two addresses and the same text, the other way round and in the wrong direction."""
    form = {"MessageSid": "SM9", "From": NUMBER.e164, "To": str(ADA.phone), "Body": "hello", "NumMedia": "0"}
    simulator.twilio_api.add_inbound(list(form.items()))
    assert await found(provider, message()) == []


@pytest.mark.parametrize(
    ("seconds", "is_found"),
    [(-36, False), (-34, True), (0, True), (34, True), (36, False), (86400, False), (-86400, False)],
)
async def test_the_window_with_some_tolerance(provider: Provider, clock: Clock, seconds: float, is_found: bool) -> None:
    """It spans midnight, so that days would be too coarse either way."""
    clock.now = START + timedelta(seconds=seconds)
    await provider.send(message())
    assert bool(await found(provider, message())) is is_found


@pytest.mark.parametrize(
    ("step", "error_code", "status", "errors"),
    [
        ("queued", None, "sending", ()),
        ("sent", None, "sent", ()),
        ("delivered", None, "delivered", ()),
        ("read", None, "read", ()),
        ("canceled", None, "cancelled", ()),
        ("partially_delivered", None, "sending", ()),
        (
            "undelivered",
            30003,
            "failed",
            ({"code": "undeliverable", "title": None, "detail": None, "provider_code": "30003"},),
        ),
        (
            "failed",
            21610,
            "failed",
            ({"code": "opted_out", "title": None, "detail": None, "provider_code": "21610"},),
        ),
    ],
)
async def test_what_became_of_it(
    simulator: Simulator, provider: Provider, step: str, error_code: int | None, status: Any, errors: Any
) -> None:
    sent = await provider.send(message())
    simulator.twilio_api.set_status(sent.provider_id, step, error_code)
    assert await found(provider, message()) == [FoundSend(sent.provider_id, status, step, errors)]


async def test_a_list_of_many_pages(
    simulator: Simulator, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only this customer's part of the list is read, no further back than the window, and never without end."""
    monkeypatch.setattr(lookups, "_MESSAGES_PAGE", 2)
    monkeypatch.setattr(lookups, "_MAX_MESSAGES", 10)
    clock.now = START - timedelta(hours=1)
    for _ in range(10):
        await provider.send(message(content={"text": "earlier"}))
    for send in simulator.sent:
        simulator.twilio_api.set_status(send.provider_id, "delivered", None)
    clock.now = START
    sent = await provider.send(message())
    for _ in range(5):
        await provider.send(message(content={"text": "later"}))
        await provider.send(message(phone="+15559990000"))
    assert [one.provider_id for one in await found(provider, message())] == [sent.provider_id]
    for _ in range(4):
        await provider.send(message(content={"text": "later"}))
    with pytest.raises(OutcomeUnknown, match="messages to look through"):
        await found(provider, message())


async def test_templates_cannot_be_recognised(simulator: Simulator, provider: Provider) -> None:
    wanted = message(type="template", content={"template": {"content_sid": HX}})
    await provider.send(wanted)
    simulator.fail_next_asked(Fault.bare())
    assert await found(provider, wanted) == []
    with pytest.raises(OutcomeUnknown):  # the fault is still there: nobody was asked
        await found(provider, message())


# What goes wrong with each


CALLS: dict[str, Callable[[Provider], Awaitable[Any]]] = {
    "typing": lambda provider: provider.mark_read(mark()),
    "templates": lambda provider: provider.list_templates(NUMBER.e164, None),
    "find_sent": lambda provider: provider.find_sent(message(), *window()),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
@pytest.mark.parametrize(
    ("fault", "error", "code", "provider_code"),
    [
        (Fault.refused(20003, status=401), Refused, "token_revoked", "20003"),
        (Fault.refused(20404, status=404), Refused, "not_found", "20404"),
        (Fault.unavailable(), Refused, "provider_unavailable", "20500"),
        (Fault.throttled(status=400), NotTaken, "throttled", "20429"),
        (Fault.throttled(retry_after=7), NotTaken, "throttled", "20429"),
        (Fault.bare(403), Refused, "refused", None),
        (Fault.bare(502), OutcomeUnknown, "bare_error", None),
        (Fault.html(), OutcomeUnknown, "bad_answer", None),
        (Fault.dropped(), OutcomeUnknown, "connection_lost", None),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else None,
)
async def test_each_failure_has_its_meaning(
    simulator: Simulator,
    provider: Provider,
    name: str,
    fault: Fault,
    error: type[SendError],
    code: str,
    provider_code: str | None,
) -> None:
    simulator.fail_next_asked(fault, times=2 if fault.kind == "dropped" else 1)  # aiohttp repeats a cut GET once
    with pytest.raises(SendError) as caught:
        await CALLS[name](provider)
    assert type(caught.value) is error
    assert (caught.value.code, caught.value.provider_code) == (code, provider_code)
    assert getattr(caught.value, "retry_after", None) == fault.retry_after


@pytest.mark.parametrize("name", ["templates", "find_sent"])
async def test_a_failure_on_a_later_page(
    simulator: Simulator, provider: Provider, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_MESSAGES_PAGE", 1)
    monkeypatch.setattr(lookups, "_TEMPLATES_PAGE", 1)
    for index in range(2):
        simulator.twilio_api.extras.add_content(f"template {index}")
        await provider.send(message())
    whole = HttpClient.request

    async def request(self: HttpClient, method: str, uri: str, **rest: Any) -> Response:
        if "Page=1" in uri:
            simulator.fail_next_asked(Fault.refused(20003, status=401))
        return await whole(self, method, uri, **rest)

    monkeypatch.setattr(HttpClient, "request", request)
    with pytest.raises(Refused, match="token_revoked"):
        await CALLS[name](provider)


@each_call
async def test_a_time_out(simulator: Simulator, connect: Connect, name: str) -> None:
    provider = await connect(timeout=0.2)
    simulator.fail_next_asked(Fault.silent())
    with pytest.raises(OutcomeUnknown, match="timeout"):
        await CALLS[name](provider)


@each_call
async def test_no_connection_and_no_credentials(connect: Connect, unused_tcp_port: int, name: str) -> None:
    with pytest.raises(NotTaken, match="unreachable"):
        await CALLS[name](await connect(api_url=f"http://127.0.0.1:{unused_tcp_port}"))
    with pytest.raises(Refused, match="not_configured"):
        await CALLS[name](await connect(account_sid=None, auth_tokens=[]))
    with pytest.raises(Refused, match="token_revoked"):
        await CALLS[name](await connect(auth_tokens=["stale"]))


async def test_all_calls_share_the_slots(simulator: Simulator, connect: Connect) -> None:
    provider, other = await connect(concurrency=2), await connect()
    sid = await received(simulator, "whatsapp")
    simulator.hold()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(_settled(provider.list_templates(NUMBER.e164, None)))
            tasks.create_task(_settled(provider.find_sent(message(), *window())))
            tasks.create_task(_settled(provider.mark_read(mark(sid))))
        await simulator.wait_for(lambda: simulator.in_flight == 2)
        tasks.create_task(_settled(other.send(message())))
        await simulator.wait_for(lambda: simulator.in_flight > 2)
        assert simulator.in_flight == 3
        simulator.release()
    assert simulator.peak == 3


async def _settled(call: Awaitable[Any]) -> None:
    await call
