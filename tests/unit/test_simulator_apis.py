"""The simulated APIs beside sending: media, limits, number forms, senders and where their webhooks go."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from aiohttp import ClientError, ClientSession, encode_basic_auth
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from providers.simulator import Customer, Limit, MediaFault, Number, Person, Simulator, StatusPlan
from providers.twilio.client import HttpClient

SERVICE: Final = "MG" + "2" * 32
META: Final = Number("+15550001111", "1001", waba_id="2001")
SMS: Final = Number("+15550002222", messaging_service=SERVICE)
OTHER: Final = Number("+15550003333", messaging_service=SERVICE)
ADA: Final = Person(phone="+15552223333", name="Ada")
FILE: Final = bytes(range(256)) * 512
APP_TOKEN: Final = "100000000000009|simulated-app-secret"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[Simulator]:
    numbers = [META, SMS, OTHER]
    async with Simulator(numbers=numbers, status_plan=StatusPlan.none(), clock=clock) as running:
        running.public_url = "https://hub.example.com"
        yield running


@pytest.fixture
async def graph(simulator: Simulator) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {simulator.meta_access_token}"}
    async with ClientSession(headers=headers, base_url=simulator.url) as session:
        yield session


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Client]:
    http = HttpClient(api_url=simulator.url, timeout=5, concurrency=4)
    yield Client(simulator.twilio_account_sid, simulator.twilio_auth_token, http_client=http)
    await http.close()


async def ask(session: ClientSession, path: str, **query: str) -> tuple[int, Any]:
    async with session.get(path, params=query) as answer:
        return answer.status, await answer.json()


async def send(session: ClientSession, to: str = "15552223333") -> tuple[int, Any, Any]:
    body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "hello"}}
    async with session.post("/v23.0/1001/messages", json=body) as answer:
        return answer.status, await answer.json(), answer.headers.get("Retry-After")


async def test_a_file_is_looked_up_and_served_to_the_token_only(
    simulator: Simulator, graph: ClientSession, clock: Clock
) -> None:
    media_id = simulator.add_inbound_media(FILE, "image/jpeg", "cat.jpg")
    status, found = await ask(graph, f"/v23.0/{media_id}")
    assert (status, found["file_size"], found["mime_type"]) == (200, len(FILE), "image/jpeg")
    assert found["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert base64.b64decode(simulator.media[media_id].sha256_base64).hex() == found["sha256"]
    async with graph.get(found["url"]) as answer:
        assert await answer.read() == FILE
    async with ClientSession() as stranger, stranger.get(found["url"]) as answer:
        assert answer.status == 401
    clock.now += 301
    async with graph.get(found["url"]) as answer:
        assert answer.status == 404  # the address is good for five minutes
    simulator.media[media_id].is_expired = True
    status, found = await ask(graph, f"/v23.0/{media_id}")
    assert (status, found["error"]["code"], found["error"]["error_subcode"]) == (404, 100, 33)
    file = simulator.media[media_id]
    assert (file.lookups, file.requests, file.downloads) == (1, 1, 1)


async def test_a_download_meets_its_faults(simulator: Simulator, graph: ClientSession) -> None:
    media_id = simulator.add_inbound_media(FILE, "image/jpeg")
    url = (await ask(graph, f"/v23.0/{media_id}"))[1]["url"]
    faults = [MediaFault.failing(502), MediaFault.redirect("https://elsewhere.example"), MediaFault.chunked()]
    for fault in faults:
        simulator.fail_next_media(fault)
    statuses = []
    for _ in faults:
        async with graph.get(url, allow_redirects=False) as answer:
            statuses.append((answer.status, answer.headers.get("Location"), answer.headers.get("Content-Length")))
            assert answer.status != 200 or await answer.read() == FILE
    assert statuses == [(502, None, "0"), (302, "https://elsewhere.example", "0"), (200, None, None)]
    simulator.fail_next_media(MediaFault.cut())
    with pytest.raises(ClientError):
        async with graph.get(url) as answer:
            await answer.read()
    simulator.fail_next_media(MediaFault.address("https://elsewhere.example/x"))
    simulator.fail_next_media(MediaFault.wrong_size())
    assert (await ask(graph, f"/v23.0/{media_id}"))[1]["url"] == "https://elsewhere.example/x"
    assert (await ask(graph, f"/v23.0/{media_id}"))[1]["file_size"] != len(FILE)
    simulator.fail_next_media(MediaFault.slow(0.01))
    async with graph.get(url) as answer:
        assert await answer.read() == FILE
    assert simulator.media[media_id].downloads == 2


async def test_meta_tells_how_a_number_is_and_where_webhooks_go(simulator: Simulator, graph: ClientSession) -> None:
    fields = "quality_rating,messaging_limit_tier,status,name_status"
    _, number = await ask(graph, "/v23.0/1001", fields=fields)
    usual = {"quality_rating": "GREEN", "messaging_limit_tier": "TIER_1K", "status": "CONNECTED"}
    assert number == {"id": "1001", "name_status": "APPROVED", **usual}
    simulator.meta_api.nodes.number_fields["1001"] = {"quality_rating": "RED", "status": "FLAGGED"}
    assert (await ask(graph, "/v23.0/1001", fields=fields))[1]["quality_rating"] == "RED"
    assert (await ask(graph, "/v23.0/1001", fields="no_such_field"))[1]["error"]["code"] == 100
    _, apps = await ask(graph, "/v23.0/2001/subscribed_apps")
    assert apps["data"][0]["whatsapp_business_api_data"]["id"] == "100000000000009"
    simulator.meta_api.nodes.subscribed.clear()
    assert (await ask(graph, "/v23.0/2001/subscribed_apps"))[1] == {"data": []}
    path = "/v23.0/100000000000009/subscriptions"
    assert (await ask(graph, path))[1]["error"]["code"] == 15  # the user's token is not the app's
    simulator.meta_api.nodes.fields = {"messages"}
    _, subscriptions = await ask(graph, path, access_token=APP_TOKEN)
    assert subscriptions["data"] == [
        {
            "object": "whatsapp_business_account",
            "callback_url": "https://hub.example.com/webhooks/meta",
            "active": True,
            "fields": [{"name": "messages", "version": "v23.0"}],
        }
    ]
    assert (await ask(graph, path, access_token=APP_TOKEN + "x"))[1]["error"]["code"] == 190


async def test_a_revoked_token_is_good_for_nothing(simulator: Simulator, graph: ClientSession) -> None:
    simulator.meta_api.is_revoked = True
    status, answer, _ = await send(graph)
    assert (status, answer["error"]["code"]) == (401, 190)
    assert (await ask(graph, "/v23.0/1001"))[1]["error"]["code"] == 190
    query = {"input_token": simulator.meta_access_token, "access_token": APP_TOKEN}
    assert (await ask(graph, "/v23.0/debug_token", **query))[1]["data"]["is_valid"] is False


async def test_meta_knows_a_number_under_its_own_form(simulator: Simulator, graph: ClientSession) -> None:
    simulator.meta_api.wa_ids["+5511987654321"] = "+551187654321"
    simulator.meta_api.refused_forms["+551187654321"] = 131026
    _, answer, _ = await send(graph, "5511987654321")
    assert answer["contacts"] == [{"input": "5511987654321", "wa_id": "551187654321"}]
    status, answer, _ = await send(graph, "551187654321")
    assert (status, answer["error"]["code"]) == (400, 131026)
    customer = Customer(simulator, Person(phone="+551187654321"), META)
    assert len(customer.received) == 1


async def test_limits_of_a_pair_and_of_a_sender(simulator: Simulator, graph: ClientSession, clock: Clock) -> None:
    simulator.limits.pair = Limit(2, 6.0)
    assert [(await send(graph))[0] for _ in range(3)] == [200, 200, 400]
    assert (await send(graph))[1]["error"]["code"] == 131056
    assert (await send(graph, "15552224444"))[0] == 200  # nobody else is stopped
    clock.now += 6
    assert (await send(graph))[0] == 200
    simulator.limits.pair, simulator.limits.sender = None, Limit(1, 60.0, retry_after=7)
    status, answer, retry_after = await send(graph, "15552225555")
    assert (status, answer["error"]["code"], retry_after) == (429, 130429, "7")
    assert len(simulator.limits.refused) == 3


async def test_twilio_s_files_lead_to_an_address_without_credentials(simulator: Simulator, client: Client) -> None:
    simulator.loses_twilio_webhooks = True
    customer = Customer(simulator, ADA, SMS, provider="twilio", medium="sms")
    sid = await customer.sends_mms("two", [(FILE, "image/png"), (b"GIF", "image/gif")])
    listed = await client.messages(sid).media.list_async()
    assert [item.content_type for item in listed] == ["image/png", "image/gif"]
    message = await client.messages(sid).fetch_async()
    assert (message.num_media, message.direction, message.messaging_service_sid) == ("2", "inbound", SERVICE)
    auth = {"Authorization": encode_basic_auth(simulator.twilio_account_sid, simulator.twilio_auth_token)}
    async with ClientSession() as session:
        url = f"{simulator.url}{listed[0].uri.removesuffix('.json')}"
        async with session.get(url) as answer:
            assert answer.status == 401
        async with session.get(url, headers=auth, allow_redirects=False) as answer:
            assert answer.status == 307
            there = answer.headers["Location"]
        async with session.get(there) as answer:
            assert await answer.read() == FILE
    assert simulator.shelf.leaked == 0


async def test_twilio_lists_what_was_written_while_its_webhooks_were_lost(
    simulator: Simulator, client: Client, clock: Clock
) -> None:
    simulator.loses_twilio_webhooks = True
    customer = Customer(simulator, ADA, SMS, provider="twilio", medium="sms")
    for seconds in (30, 10, 20):
        await customer.sends({"type": "text", "text": {"body": str(seconds)}}, at=clock.now + seconds)
    after, before = (datetime.fromtimestamp(clock.now + seconds, UTC) for seconds in (10, 25))
    listed = await client.messages.list_async(date_sent_after=after, date_sent_before=before, page_size=1)
    assert [message.body for message in listed] == ["20", "10"]
    assert [posted.status for posted in simulator.posted] == [None] * 3


async def test_twilio_tells_which_urls_a_number_calls(simulator: Simulator, client: Client) -> None:
    hub = "https://hub.example.com/webhooks/twilio"
    simulator.twilio_api.nodes.number_fields[SMS.e164] = {"sms_url": "https://elsewhere.example"}
    numbers = await client.incoming_phone_numbers.list_async(phone_number=SMS.e164)
    assert [(number.sms_url, number.sms_method) for number in numbers] == [("https://elsewhere.example", "POST")]
    service = await client.messaging.v1.services(SERVICE).fetch_async()
    assert (service.inbound_request_url, service.use_inbound_webhook_on_number) == (hub, False)
    members = await client.messaging.v1.services(SERVICE).phone_numbers.list_async()
    assert [member.phone_number for member in members] == [SMS.e164, OTHER.e164]
    senders = await client.messaging.v2.channels_senders.list_async(channel="whatsapp")
    assert [(sender.sender_id, sender.status) for sender in senders][1] == (f"whatsapp:{SMS.e164}", "ONLINE")
    assert (await client.api.v2010.accounts(simulator.twilio_account_sid).fetch_async()).status == "active"


async def test_twilio_sends_through_a_service_until_the_account_is_stopped(
    simulator: Simulator, client: Client
) -> None:
    by_service = await client.messages.create_async(to=ADA.phone, messaging_service_sid=SERVICE, body="one")
    chosen = await client.messages.create_async(
        to=ADA.phone, messaging_service_sid=SERVICE, from_=OTHER.e164, body="two"
    )
    assert [send.number for send in simulator.sent] == [SMS, OTHER]
    assert (by_service.status, by_service.from_, chosen.from_) == ("accepted", None, OTHER.e164)
    simulator.twilio_api.set_status(by_service.sid, "sent", None)
    assert (await client.messages(by_service.sid).fetch_async()).from_ == SMS.e164
    codes = []
    for change in ("nodes.account_status", "is_revoked"):
        where = simulator.twilio_api.nodes if change.startswith("nodes") else simulator.twilio_api
        setattr(where, change.rpartition(".")[2], "suspended" if where is simulator.twilio_api.nodes else True)
        with pytest.raises(TwilioRestException) as refused:
            await client.messages.create_async(to=ADA.phone, from_=SMS.e164, body="three")
        codes.append((refused.value.status, refused.value.code))
    assert codes == [(403, 20005), (401, 20003)]
