"""What Twilio lists is read as its webhooks are, through the real SDK against the simulator (rules B3, B4)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers import twilio, whatsapp_cloud
from providers.base import (
    Customer,
    Item,
    MediaRef,
    MessageReceived,
    NotTaken,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    Refused,
    SendError,
    StatusReported,
    WebhookRequest,
)
from providers.simulator import Fault, Number, Person, Simulator, StatusPlan, twilio_webhooks
from providers.simulator.media_shelf import twilio_media_sid
from providers.twilio import listing, webhook

SERVICE = "MG" + "1" * 32
NUMBER = Number("+15550001111", messaging_service=SERVICE)
OTHER = Number("+15550002222")
ADA, NOBODY = Person(phone="+15552223333", user_id="US.1", name="Ada"), Person(phone=None, user_id="US.123")
START = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now.timestamp()

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[Simulator]:
    async with Simulator(numbers=[NUMBER, OTHER], status_plan=StatusPlan.none(), clock=clock) as running:
        yield running


@pytest.fixture
async def provider(simulator: Simulator) -> AsyncIterator[Provider]:
    opened = await twilio.connect(
        account_sid=simulator.twilio_account_sid,
        auth_tokens=[simulator.twilio_auth_token],
        public_url="https://hub.example",
        api_url=simulator.url,
        timeout=5.0,
        concurrency=1,
    )
    yield opened
    await opened.close()


def arrive(
    simulator: Simulator, sid: str, content: dict[str, Any], *, person: Person = ADA, medium: Any = "sms", **more: Any
) -> WebhookRequest:
    """A customer's message, in Twilio's list; gives the webhook that would have told of it."""
    account = simulator.twilio_account_sid
    form = twilio_webhooks.message(NUMBER, person, content, medium=medium, account_sid=account, sid=sid, **more)
    simulator.twilio_api.add_inbound(form)
    body = "&".join(f"{name}={quoted(value)}" for name, value in form).encode()
    return WebhookRequest("/webhooks/twilio", {"content-type": "application/x-www-form-urlencoded"}, body)


def quoted(value: str) -> str:
    return "".join(f"%{byte:02X}" for byte in value.encode())


def text(body: str) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}}


async def listed(provider: Provider, since: datetime = START - HOUR, until: datetime = START + HOUR) -> list[Item]:
    route = provider.listing
    assert route is not None
    requests = await provider.list_received(since, until)
    assert all(request.path == route.path for request in requests)
    assert not any(route.verify(request) for request in requests)
    return [item for request in requests for item in route.parse(await provider.fill_in(request))]


async def test_messages_are_the_same_as_by_webhook_but_for_what_the_list_leaves_out(
    simulator: Simulator, clock: Clock, provider: Provider
) -> None:
    picture, sound = (simulator.add_inbound_media(b"x", kind) for kind in ("image/png", "audio/ogg"))
    contents = {"type": "image", "image": {"id": picture, "mime_type": "image/png", "caption": "look"}}
    sent = [
        arrive(simulator, "SM1", text("größer & 🙂\n+ %41")),
        arrive(simulator, "SM2", text("hello"), medium="whatsapp"),
        arrive(simulator, "SM3", text("ciao"), medium="whatsapp", person=NOBODY),
        arrive(simulator, "MM4", contents, more_media=[(sound, "audio/ogg")]),
    ]
    live = [webhook.parse(request)[0] for request in sent]
    found = await listed(provider)
    for heard, item in zip(live, found, strict=True):
        assert isinstance(heard, MessageReceived)
        assert isinstance(item, MessageReceived)
        assert item == replace(heard, customer=item.customer, at=START.timestamp(), is_reconciled=True)
    assert [item.customer for item in found if isinstance(item, MessageReceived)] == [
        Customer(phone=ADA.phone),
        Customer(phone=ADA.phone),
        Customer(user_id="US.123"),
        Customer(phone=ADA.phone),
    ]
    assert isinstance(found[3], MessageReceived)
    assert [file["id"] for file in found[3].content["media"]] == [twilio_media_sid(picture), twilio_media_sid(sound)]
    async with provider.open_media(MediaRef(None, found[3].content["media"][0]["url"])) as stream:
        assert b"".join([piece async for piece in stream.pieces]) == b"x"


async def test_statuses_are_told_with_their_time_and_keep_their_keys(
    simulator: Simulator, clock: Clock, provider: Provider
) -> None:
    for index, sender in enumerate((NUMBER.e164, SERVICE, NUMBER.e164, NUMBER.e164)):
        clock.go(1)
        message = OutboundMessage(f"m{index}", "sms", sender, ADA.phone, None, "text", {"text": "x"})
        await provider.send(message)
    first, second, third, _ = simulator.sent  # the last one is still with Twilio: no news
    clock.go(60)
    simulator.twilio_api.set_status(first.provider_id, "delivered", None)
    clock.go(1)
    simulator.twilio_api.set_status(third.provider_id, "undelivered", 30003)
    simulator.twilio_api.set_status(second.provider_id, "delivered", None)
    statuses = [item for item in await listed(provider) if isinstance(item, StatusReported)]
    assert [(item.key, item.status, item.at) for item in statuses] == [
        (f"twilio:status:{first.provider_id}:delivered", "delivered", START.timestamp() + 64),
        (f"twilio:status:{second.provider_id}:delivered", "delivered", START.timestamp() + 65),
        (f"twilio:status:{third.provider_id}:undelivered", "failed", START.timestamp() + 65),
    ]
    assert [error["code"] for item in statuses for error in item.errors] == ["undeliverable"]
    assert {item.customer.phone for item in statuses} == {ADA.phone}
    assert SERVICE in statuses[1].sender.external_ids


async def test_the_span_and_the_order_are_of_twilio_s_clock(
    simulator: Simulator, clock: Clock, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_PAGE", 7)
    for index in range(40):
        arrive(simulator, f"SM{index:02}", text(str(index)))
        clock.go(0.5)  # two of each second
        if index % 10 == 9:
            clock.go(60)
    keys = [item.key for item in await listed(provider)]
    assert keys == [f"twilio:message:SM{index:02}" for index in range(40)]
    some = await listed(provider, START + timedelta(seconds=60), START + timedelta(seconds=120))
    assert [item.key for item in some] == keys[10:20]
    # A hair too much at the beginning, but nothing younger at the end: its webhook may be on its way.
    some = await listed(provider, START + timedelta(seconds=2), START + timedelta(seconds=3))
    assert [item.key for item in some] == keys[:8]
    assert await listed(provider, START - 2 * HOUR, START - HOUR) == []
    monkeypatch.setattr(listing, "MAX_MESSAGES", 39)
    with pytest.raises(OutcomeUnknown) as caught:
        await listed(provider)
    assert caught.value.code == "too_many"


async def test_twilio_may_have_taken_the_times_for_days(
    simulator: Simulator, clock: Clock, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its documentation knows days only: what is outside the span is left out here."""
    arrive(simulator, "SM1", text("before"))
    clock.go(100)
    arrive(simulator, "SM2", text("after midnight"))
    monkeypatch.setattr("providers.simulator.twilio_api._filter", lambda _: lambda _resource, _at: True)
    assert [item.key for item in await listed(provider, START + timedelta(seconds=50))] == ["twilio:message:SM2"]


async def test_a_message_whose_files_are_gone_comes_without_them(
    simulator: Simulator, clock: Clock, provider: Provider
) -> None:
    media_id = simulator.add_inbound_media(b"x", "image/png")
    arrive(simulator, "MM1", {"type": "image", "image": {"id": media_id, "mime_type": "image/png", "caption": "look"}})
    answers = iter([None, Refused("not_found")])
    ask = provider._look_up  # type: ignore[attr-defined]

    async def deleted(call: Any, **patience: int) -> Any:
        if error := next(answers):
            raise error
        return await ask(call, **patience)

    provider._look_up = deleted  # type: ignore[attr-defined]
    (item,) = await listed(provider)
    assert isinstance(item, MessageReceived)
    assert (item.type, item.content) == ("text", {"text": "look"})


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault.throttled(retry_after=7), NotTaken, "throttled"),
        (Fault.bare(502), OutcomeUnknown, "bare_error"),
        (Fault.html(), OutcomeUnknown, "bad_answer"),
        (Fault.refused(20003, status=401), Refused, "token_revoked"),
    ],
    ids=["throttled", "bare", "html", "revoked"],
)
async def test_failures(
    simulator: Simulator, provider: Provider, fault: Fault, error: type[SendError], code: str
) -> None:
    simulator.fail_next_asked(fault)
    with pytest.raises(error) as caught:
        await listed(provider)
    assert caught.value.code == code


async def test_meta_lists_nothing() -> None:
    meta = await whatsapp_cloud.connect(
        app_secrets=[], verify_token=None, access_token=None, api_url=None, timeout=1.0, concurrency=1
    )
    assert meta.listing is None
    with pytest.raises(Refused, match="not_supported"):
        await meta.list_received(START, START + HOUR)
    await meta.close()
