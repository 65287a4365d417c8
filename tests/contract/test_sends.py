"""Sends of both providers through their real SDKs, against the simulator: rule E8's three outcomes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from providers import twilio, whatsapp_cloud
from providers.base import NotTaken, OutboundMessage, OutcomeUnknown, Provider, Refused, Scope, SendError, Status
from providers.simulator import Fault, Number, Simulator, StatusPlan

NUMBER = Number("+15550001111", phone_number_id="1001", messaging_service="MG" + "1" * 32)
PUBLIC_URL = "https://hub.example"
Name = Literal["meta", "twilio"]
Connect = Callable[..., Awaitable[Provider]]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(numbers=[NUMBER], status_plan=StatusPlan.none()) as running:
        yield running


@pytest.fixture
async def connect(simulator: Simulator) -> AsyncIterator[Connect]:
    """Connects a provider by name to the simulator, and closes it afterwards."""
    opened: list[Provider] = []

    async def opener(name: Name, **changes: Any) -> Provider:
        given: dict[str, Any] = {"api_url": simulator.url, "timeout": 5.0, "concurrency": 20}
        if name == "meta":
            given |= {"app_secrets": ["s"], "verify_token": "v", "access_token": simulator.meta_access_token}
            provider = await whatsapp_cloud.connect(**(given | changes))
        else:
            given |= {"account_sid": simulator.twilio_account_sid, "auth_tokens": [simulator.twilio_auth_token]}
            provider = await twilio.connect(public_url=PUBLIC_URL, **(given | changes))
        opened.append(provider)
        return provider

    yield opener
    for provider in opened:
        await provider.close()


def message(name: Name, **changes: Any) -> OutboundMessage:
    plain = OutboundMessage(
        hub_id="msg_1",
        medium="whatsapp" if name == "meta" else "sms",
        sender="1001" if name == "meta" else "+15550001111",
        phone="+15552223333",
        user_id=None,
        type="text",
        content={"text": "hello, größer 🙂"},
    )
    return replace(plain, **changes)


both = pytest.mark.parametrize("name", ["meta", "twilio"])


@both
async def test_a_text_is_taken_and_sending(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name)
    sent = await provider.send(message(name))
    (recorded,) = simulator.sent
    assert provider.name == recorded.provider == name
    assert sent.provider_id == recorded.provider_id
    assert sent.status == "sending"
    assert sent.phone == ("+15552223333" if name == "meta" else None)
    assert (recorded.to, recorded.type, recorded.text) == ("+15552223333", "text", "hello, größer 🙂")
    assert recorded.hub_id == "msg_1"
    assert recorded.sender == message(name).sender


async def test_the_form_of_a_number_that_meta_knows_is_told(simulator: Simulator, connect: Connect) -> None:
    simulator.meta_api.wa_ids["+5511999998888"] = "+551199998888"
    provider = await connect("meta")
    assert (await provider.send(message("meta", phone="+5511999998888"))).phone == "+551199998888"
    assert (await provider.send(message("meta", phone=None, user_id="US.1"))).phone is None


async def test_meta_gets_digits_and_the_quoted_message(simulator: Simulator, connect: Connect) -> None:
    provider = await connect("meta")
    content = {"text": "yes", "reply_to": {"provider_id": "wamid.quoted"}}
    await provider.send(message("meta", content=content))
    body = simulator.sent[0].body
    assert (body["to"], body["recipient_type"]) == ("15552223333", "individual")
    assert body["context"] == {"message_id": "wamid.quoted"}
    assert "recipient" not in body


@pytest.mark.parametrize("user_id", ["US.13491208655302741918", "AE.QACONFLICT", "US.ENT.118157992"])
async def test_meta_sends_to_a_business_scoped_id(simulator: Simulator, connect: Connect, user_id: str) -> None:
    provider = await connect("meta")
    await provider.send(message("meta", phone=None, user_id=user_id))
    body = simulator.sent[0].body
    assert (body["recipient"], body["recipient_type"]) == (user_id, "individual")
    assert "to" not in body


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"medium": "sms"}, {"To": "+15552223333", "From": "+15550001111"}),
        ({"medium": "whatsapp"}, {"To": "whatsapp:+15552223333", "From": "whatsapp:+15550001111"}),
        ({"medium": "whatsapp", "phone": None, "user_id": "US.1"}, {"To": "whatsapp:US.1"}),
        ({"sender": "MG" + "1" * 32}, {"To": "+15552223333", "MessagingServiceSid": "MG" + "1" * 32}),
        (
            {"hub_id": "msg_2&x=y"},
            {"StatusCallback": "https://hub.example/webhooks/twilio/status?message=msg_2%26x%3Dy"},
        ),
    ],
)
async def test_twilio_addresses(
    simulator: Simulator, connect: Connect, changes: dict[str, Any], fields: dict[str, str]
) -> None:
    provider = await connect("twilio")
    await provider.send(message("twilio", **changes))
    (recorded,) = simulator.sent
    assert {name: recorded.body.get(name) for name in fields} == fields
    assert ("From" in recorded.body) is not ("MessagingServiceSid" in recorded.body)
    assert recorded.hub_id == changes.get("hub_id", "msg_1")


@dataclass(frozen=True)
class Case:
    name: Name
    fault: Fault
    error: type[SendError]
    code: str
    provider_code: str | None = None
    scope: Scope | None = None


META_SCOPES: list[tuple[int, Scope]] = [
    (4, "account"),
    (613, "account"),
    (80007, "account"),
    (130429, "sender"),
    (131048, "sender"),
    (131056, "pair"),
]
TWILIO_SCOPES: list[tuple[int, Scope]] = [
    (14107, "account"),
    (20429, "account"),
    (21611, "sender"),
    (30022, "sender"),
    (63018, "sender"),
]
CASES = [
    Case("meta", Fault.refused(131047), Refused, "reply_window_closed", "131047"),
    Case("meta", Fault.refused(131026), Refused, "undeliverable", "131026"),
    Case("meta", Fault.refused(131050), Refused, "marketing_stopped", "131050"),
    Case("meta", Fault.refused(190, status=401), Refused, "token_revoked", "190"),
    Case("meta", Fault.refused(10, status=403), Refused, "permission_denied", "10"),
    Case("meta", Fault.refused(200, status=403), Refused, "permission_denied", "200"),
    Case("meta", Fault.refused(999999), Refused, "refused", "999999"),
    Case("meta", Fault.refused(131000, status=500), Refused, "provider_unavailable", "131000"),
    Case("meta", Fault.refused(2, status=503), Refused, "provider_unavailable", "2"),
    Case("meta", Fault.unavailable(), Refused, "provider_unavailable", "131000"),
    Case("meta", Fault.bare(404), Refused, "refused"),
    *(
        Case("meta", Fault.throttled(code=code, status=400), NotTaken, "throttled", str(code), scope)
        for code, scope in META_SCOPES
    ),
    Case("meta", Fault.bare(429), NotTaken, "throttled", scope="sender"),
    Case("meta", Fault.bare(502), OutcomeUnknown, "bare_error"),
    Case("meta", Fault.no_message(), OutcomeUnknown, "bad_answer"),
    Case("meta", Fault.html(taken=True), OutcomeUnknown, "bad_answer"),
    Case("meta", Fault.dropped(), OutcomeUnknown, "connection_lost"),
    Case("twilio", Fault.refused(21610), Refused, "opted_out", "21610"),
    Case("twilio", Fault.refused(63016), Refused, "reply_window_closed", "63016"),
    *(Case("twilio", Fault.refused(code), Refused, "bad_recipient", str(code)) for code in (21211, 21614, 63024)),
    *(Case("twilio", Fault.refused(code), Refused, "undeliverable", str(code)) for code in (30003, 30008)),
    Case("twilio", Fault.refused(20003, status=401), Refused, "token_revoked", "20003"),
    Case("twilio", Fault.refused(99999), Refused, "refused", "99999"),
    Case("twilio", Fault.unavailable(), Refused, "provider_unavailable", "20500"),
    Case("twilio", Fault.bare(404), Refused, "refused"),
    *(
        Case("twilio", Fault.throttled(code=code, status=status), NotTaken, "throttled", str(code), scope)
        for status in (400, 429)
        for code, scope in TWILIO_SCOPES
    ),
    Case("twilio", Fault.throttled(code=99999, status=429), NotTaken, "throttled", scope="account"),
    Case("twilio", Fault.bare(429), NotTaken, "throttled", scope="account"),
    Case("twilio", Fault.bare(502), OutcomeUnknown, "bare_error"),
    Case("twilio", Fault.html(taken=True), OutcomeUnknown, "bad_answer"),
    Case("twilio", Fault.dropped(), OutcomeUnknown, "connection_lost"),
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.name}-{case.fault.kind}-{case.fault.status}-{case.fault.code}-{case.code}"
)
async def test_each_failure_has_its_meaning_after_one_request(
    simulator: Simulator, connect: Connect, case: Case
) -> None:
    provider = await connect(case.name)
    simulator.fail_next(case.fault)
    with pytest.raises(SendError) as caught:
        await provider.send(message(case.name))
    error = caught.value
    assert type(error) is case.error
    assert (error.code, error.provider_code) == (case.code, case.provider_code)
    assert getattr(error, "scope", None) == (case.scope or ("sender" if case.error is NotTaken else None))
    assert len(simulator.attempts) == 1
    assert len(simulator.sent) == case.fault.taken


@both
async def test_retry_after_is_handed_on(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name)
    simulator.fail_next(Fault.throttled(retry_after=7))
    with pytest.raises(NotTaken) as caught:
        await provider.send(message(name))
    assert caught.value.retry_after == 7.0


@both
@pytest.mark.parametrize("taken", [False, True])
async def test_a_time_out_is_unknown(simulator: Simulator, connect: Connect, name: Name, taken: bool) -> None:
    provider = await connect(name, timeout=0.2)
    simulator.fail_next(Fault.silent(taken=taken))
    with pytest.raises(OutcomeUnknown) as caught:
        await provider.send(message(name))
    assert caught.value.code == "timeout"
    assert len(simulator.attempts) == 1


@both
async def test_a_refused_connection_is_not_taken(connect: Connect, name: Name, unused_tcp_port: int) -> None:
    provider = await connect(name, api_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(NotTaken) as caught:
        await provider.send(message(name))
    assert caught.value.code == "unreachable"


@both
async def test_a_name_that_does_not_resolve_is_not_taken(connect: Connect, name: Name) -> None:
    provider = await connect(name, api_url="http://nowhere.invalid")
    with pytest.raises(NotTaken):
        await provider.send(message(name))


@both
async def test_a_failed_tls_handshake_is_not_taken(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name, api_url=simulator.url.replace("http:", "https:"))
    with pytest.raises(NotTaken):
        await provider.send(message(name))


@both
async def test_wrong_credentials_are_token_revoked(simulator: Simulator, connect: Connect, name: Name) -> None:
    wrong = {"access_token": "secret-stale"} if name == "meta" else {"auth_tokens": ["secret-stale"]}
    provider = await connect(name, **wrong)
    with pytest.raises(Refused) as caught:
        await provider.send(message(name))
    assert caught.value.code == "token_revoked"
    assert "secret-stale" not in repr(caught.value)


@both
async def test_without_credentials_every_send_is_refused(connect: Connect, name: Name) -> None:
    missing: dict[str, Any] = {"access_token": None} if name == "meta" else {"account_sid": None, "auth_tokens": []}
    provider = await connect(name, **missing)
    with pytest.raises(Refused, match="not_configured"):
        await provider.send(message(name))


@both
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "hologram"}, "unsupported_type"),
        ({"phone": None}, "bad_recipient"),
        ({"content": {}}, "invalid_content"),
    ],
)
async def test_what_cannot_be_sent_is_refused_without_a_request(
    simulator: Simulator, connect: Connect, name: Name, changes: dict[str, Any], code: str
) -> None:
    provider = await connect(name)
    with pytest.raises(Refused) as caught:
        await provider.send(message(name, **changes))
    assert caught.value.code == code
    assert simulator.attempts == []


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("meta", {"medium": "sms"}, "unsupported_type"),
        ("twilio", {"phone": None, "user_id": "US.1"}, "bad_recipient"),
        ("twilio", {"content": {"text": "x", "reply_to": {"provider_id": "SM1"}}}, "unsupported_reply_to"),
    ],
)
async def test_what_one_provider_cannot_do(connect: Connect, name: Name, changes: dict[str, Any], code: str) -> None:
    provider = await connect(name)
    with pytest.raises(Refused) as caught:
        await provider.send(message(name, **changes))
    assert caught.value.code == code


@both
async def test_no_more_than_the_allowed_sends_are_in_flight(simulator: Simulator, connect: Connect, name: Name) -> None:
    bounded, other = await connect(name, concurrency=3), await connect(name)
    simulator.hold()
    async with asyncio.TaskGroup() as tasks:
        for index in range(12):
            tasks.create_task(bounded.send(message(name, hub_id=f"msg_{index}")))
        await simulator.wait_for(lambda: simulator.in_flight == 3)
        tasks.create_task(other.send(message(name)))  # a fourth request gets through, so a fifth had the time
        await simulator.wait_for(lambda: simulator.in_flight > 3)
        assert simulator.in_flight == 4
        simulator.release()
    assert len(simulator.sent) == 13
    assert simulator.peak == 4


@both
async def test_a_slot_is_free_again_after_a_failure(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name, concurrency=1)
    simulator.fail_next(Fault.bare())
    with pytest.raises(OutcomeUnknown):
        await provider.send(message(name))
    await provider.send(message(name))
    assert len(simulator.attempts) == 2


@pytest.mark.parametrize(
    ("reported", "status"),
    [("accepted", "sending"), ("scheduled", "sending"), ("sent", "sent"), ("delivered", "delivered")],
)
async def test_twilio_says_at_once_how_far_it_is(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, simulator: Simulator, reported: str, status: Status
) -> None:
    add = simulator.twilio_api._add
    monkeypatch.setattr(simulator.twilio_api, "_add", lambda sid, way, _, fields: add(sid, way, reported, fields))
    provider = await connect("twilio")
    assert (await provider.send(message("twilio"))).status == status


async def test_a_version_in_meta_s_api_url_is_kept(simulator: Simulator, connect: Connect) -> None:
    provider = await connect("meta", api_url=f"{simulator.url}/v19.0")
    await provider.send(message("meta"))
    assert len(simulator.sent) == 1


@both
async def test_neither_text_nor_token_is_logged(
    simulator: Simulator, connect: Connect, name: Name, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = await connect(name)
    simulator.fail_next(Fault.refused(131047))
    with pytest.raises(Refused):
        await provider.send(message(name, content={"text": "a private word"}))
    await provider.send(message(name, content={"text": "a private word"}))
    for secret in ("private word", simulator.meta_access_token, simulator.twilio_auth_token):
        assert secret not in caplog.text


async def test_routes_and_handshake(connect: Connect) -> None:
    meta, sms = await connect("meta"), await connect("twilio")
    assert [(route.path, route.repeats) for route in meta.routes] == [("/webhooks/meta", True)]
    assert [(route.path, route.repeats) for route in sms.routes] == [
        ("/webhooks/twilio", False),
        ("/webhooks/twilio/status", False),
    ]
    assert {(route.answer, route.content_type) for route in sms.routes} == {(b"<Response/>", "text/xml")}
    (handshake,) = meta.handshakes
    query = {"hub.mode": "subscribe", "hub.challenge": "42", "hub.verify_token": "v"}
    assert (handshake.path, handshake.answer(query)) == ("/webhooks/meta", "42")
    assert handshake.answer(query | {"hub.verify_token": "w"}) is None
