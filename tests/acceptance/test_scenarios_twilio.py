"""What a sceptical buyer plays against a hub over Twilio: bodies made and signed here, judged over HTTP only."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
import pytest_asyncio
from pydantic import SecretStr

from providers.simulator import Fault, MediaFault, Number, StatusPlan
from providers.simulator.signing import sign_twilio
from tests.support.database import Server
from tests.support.scenario_stage import (
    MAIN,
    PNG,
    Json,
    Stage,
    at_meta,
    known,
    of,
    open_stage,
    over_sms,
    phone,
    within,
)
from tests.support.talk import automates
from tests.support.wire import FORM, PUBLIC_URL, TWILIO, Reply, connected, sms, unique, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = "MG0123456789abcdef0123456789abcdef"
CHATTY = Number("+15550005555", messaging_service=SERVICE)
"""WhatsApp over Twilio, and SMS over a messaging service."""
PLAIN = Number("+15550006666")
QUIET = Number("+15550007777")
"""SMS only, each."""
SHARED_KEY = "a-key-of-our-own-choice"
OLD_TOKEN = "the-token-of-yesterday"
Form = Sequence[tuple[str, str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One hub for all of these."""
    numbers = {
        MAIN: [at_meta(MAIN), over_sms(MAIN)],
        CHATTY: [
            {"medium": "whatsapp", "provider": "twilio", "external_id": CHATTY.e164},
            {"medium": "sms", "provider": "twilio", "external_id": SERVICE},
        ],
        PLAIN: [over_sms(PLAIN)],
        QUIET: [over_sms(QUIET)],
    }
    tokens = tuple(SecretStr(one) for one in ("simulated-auth-token", OLD_TOKEN))
    more = {"twilio_shared_key": SecretStr(SHARED_KEY), "twilio_auth_token": tokens}
    async with server.fresh() as url, open_stage(url, tmp_path_factory.mktemp("hub"), numbers, **more) as made:
        yield made


def chat(said: str, who: str, to: Number = CHATTY, **more: str) -> list[tuple[str, str]]:
    """A WhatsApp message as Twilio puts it; `who` is a number with its plus, or an id."""
    about = {"ProfileName": "Mia", "MessageType": "text", "SmsStatus": "received", "ApiVersion": "2010-04-01"}
    if who.startswith("+"):
        about["WaId"] = who[1:]
    return sms(said, f"whatsapp:{who}", f"whatsapp:{to.e164}", **(about | more))


def sid(form: Form) -> str:
    return dict(form)["MessageSid"]


async def posts(stage: Stage, form: Form) -> Json:
    """A signed form, which the hub must take; gives the message's event."""
    answer = await stage.wire.twilio(form)
    assert (answer.status, answer.body) == (200, b"<Response/>"), answer
    assert answer.headers["content-type"].startswith("text/xml")
    return await stage.received(sid(form))


async def signed(stage: Stage, form: Form, key: str, *, with_sha256: bool, **headers: str) -> Reply:
    """The same with another signature."""
    signature = sign_twilio(PUBLIC_URL + TWILIO, form, key, with_sha256=with_sha256)
    around = {"Content-Type": FORM, "X-Twilio-Signature": signature} | headers
    return await stage.wire.post(TWILIO, urlencode(form).encode(), around)


async def reports(stage: Stage, sent: Any, status: str, **more: str) -> None:
    """A status callback to the address that was given with the message."""
    fields = {"MessageSid": sent.provider_id, "MessageStatus": status, "SmsStatus": status, "AccountSid": "AC1"}
    prefix = "whatsapp:" if sent.medium == "whatsapp" else ""
    fields |= {"From": prefix + sent.number.e164, "To": prefix + sent.to} | more
    path = str(sent.status_url).removeprefix(PUBLIC_URL)
    assert (await stage.wire.twilio(list(fields.items()), path=path)).status == 200


@pytest_asyncio.fixture(loop_scope="module")
async def silent(stage: Stage) -> AsyncIterator[None]:
    """No status comes by itself."""
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    yield
    stage.simulator.status_plan = usual


# Signatures -----------------------------------------------------------------------------------------------------------


async def test_b1_json_is_taken_with_the_hash_of_its_body_in_the_signed_address(stage: Stage) -> None:
    who = "+" + phone()
    raw = json.dumps(dict(chat("as JSON", who)), indent=2).encode()
    assert (await stage.wire.twilio_json(raw, "application/json; charset=UTF-8")).status == 200
    event = await stage.received(json.loads(raw)["MessageSid"])
    assert (event["message"]["text"], event["number"]) == ("as JSON", CHATTY.e164)
    other = json.dumps(dict(chat("forged", who))).encode()

    async def post(query: str, body: bytes) -> Reply:
        path = TWILIO + query
        headers = {"X-Twilio-Signature": stage.wire.twilio_signature([], path), "Content-Type": "application/json"}
        return await stage.wire.post(path, body, headers)

    right = hashlib.sha256(raw).hexdigest()
    for query in ("", "?bodySHA256=", f"?bodySHA256={right}", f"?bodySHA256={right}&bodySHA256={right}"):
        answer = await post(query, other)
        assert (answer.status, answer.body) == (403, b""), query
    assert (await post(f"?a=1&bodySHA256={hashlib.sha256(other).hexdigest()}&b=%20x", other)).status == 200


async def test_b1_a_shared_key_signs_where_it_is_configured(stage: Stage) -> None:
    settings = {"X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
    form = chat("with our key", "+" + phone())
    for key in ("guess", stage.simulator.twilio_auth_token, ""):
        assert (await signed(stage, form, key, with_sha256=True, **settings)).status == 403, key
    assert (await signed(stage, form, SHARED_KEY, with_sha256=False)).status == 403
    assert (await signed(stage, form, SHARED_KEY, with_sha256=True, **settings)).status == 200
    assert (await stage.received(sid(form)))["message"]["text"] == "with our key"


async def test_b1_both_tokens_verify_during_rotation(stage: Stage) -> None:
    form = sms("with the old token", "+" + phone(), PLAIN.e164)
    assert (await signed(stage, form, "the-token-of-tomorrow", with_sha256=False)).status == 403
    assert (await signed(stage, form, OLD_TOKEN, with_sha256=False)).status == 200
    conversation = (await stage.received(sid(form)))["conversation"]["id"]
    await stage.went(await stage.crm.reply(conversation, "sent with the new one"))


async def test_b1_repeated_and_blank_parameters_are_signed_too(stage: Stage) -> None:
    form = [*chat("odd form", "+" + phone()), ("Tag", "b"), ("Tag", "a"), ("Blank", ""), ("Ümlaut", "é & =")]
    proxied = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-For": "10.0.0.1"}
    token = stage.simulator.twilio_auth_token
    assert (await signed(stage, form[:-1], token, with_sha256=False, **proxied)).status == 200
    assert (await stage.received(sid(form)))["message"]["text"] == "odd form"
    tampered = [(name, "more" if name == "Blank" else value) for name, value in form]
    headers = {"Content-Type": FORM, "X-Twilio-Signature": stage.wire.twilio_signature(form)}
    assert (await stage.wire.post(TWILIO, urlencode(tampered).encode(), headers)).status == 403
    assert (await stage.wire.post(TWILIO, urlencode(form).encode(), {"Content-Type": FORM})).status == 403


# Who writes, and over what --------------------------------------------------------------------------------------------


async def test_a1_a_messaging_service_hears_and_sends_for_its_number(stage: Stage, silent: None) -> None:
    mia = "+" + phone()
    form = sms("over the service", mia, CHATTY.e164, MessagingServiceSid=SERVICE)
    event = await posts(stage, form)
    assert (event["number"], event["conversation"]["medium"]) == (CHATTY.e164, "sms")
    assert event["conversation"]["reply_window_expires_at"] is None
    sent = await stage.went(await stage.desk.reply(event["conversation"]["id"], "Got it"))
    assert (sent.sender, sent.body["MessagingServiceSid"]) == (SERVICE, SERVICE)
    for status in ("accepted", "sending", "sent", "delivered"):
        await reports(stage, sent, status, MessagingServiceSid=SERVICE)
    await stage.ends(str(sent.hub_id), "delivered")
    other = await posts(stage, sms("to another number", mia, PLAIN.e164))
    assert other["number"] == PLAIN.e164
    sent = await stage.went(await stage.crm.reply(other["conversation"]["id"], "Here too"))
    assert (sent.sender, "MessagingServiceSid" in sent.body) == (PLAIN.e164, False)


async def test_a1_the_number_that_was_written_to_counts_more_than_the_messaging_service(stage: Stage) -> None:
    event = await posts(stage, sms("to the plain one", "+" + phone(), PLAIN.e164, MessagingServiceSid=SERVICE))
    assert event["number"] == PLAIN.e164
    sent = await stage.went(await stage.crm.reply(event["conversation"]["id"], "From the same"))
    assert (sent.sender, sent.number) == (PLAIN.e164, PLAIN)


async def test_b4_what_comes_together_over_the_number_and_its_messaging_service_comes_once(stage: Stage) -> None:
    for _ in range(5):
        by_service = sms("over the service", "+" + phone(), CHATTY.e164, MessagingServiceSid=SERVICE)
        plain = sms("over the number", "+" + phone(), CHATTY.e164)
        answers = await asyncio.gather(stage.wire.twilio(by_service), stage.wire.twilio(plain))
        assert [one.status for one in answers] == [200, 200]
        for form in (by_service, plain):
            conversation = (await stage.ear().hears("message.received", of(sid(form))))[0]["conversation"]["id"]
            assert [one["text"] for one in await stage.timeline(conversation)] == [dict(form)["Body"]]


async def test_b4_a_message_that_comes_with_a_status_of_the_messaging_service_comes_once(
    stage: Stage, silent: None
) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, chat("hello", mia)))["conversation"]["id"]
    for place in range(5):
        sent = await stage.went(await stage.crm.reply(conversation, f"reply {place}"))
        form = chat(f"question {place}", mia)
        await asyncio.gather(reports(stage, sent, "sent", MessagingServiceSid=SERVICE), stage.wire.twilio(form))
    entries = await stage.timeline(conversation, "?after=0&limit=200")
    assert [one["text"] for one in entries if one["direction"] == "inbound"] == [
        "hello",
        *(f"question {place}" for place in range(5)),
    ]


async def test_b8_a_customer_without_a_phone_writes_over_twilio_and_is_answered(stage: Stage) -> None:
    user, parent = f"US.{phone('')}", f"US.ENT.{phone('')}"
    hidden = {"ExternalUserId": user, "ParentExternalUserId": parent, "ProfileUsername": "hid"}
    event = await posts(stage, chat("Do you ship?", user, **hidden))
    addresses = event["contact"]["addresses"]
    assert {"type": "user_id", "value": user} in addresses
    assert "phone" not in {one["type"] for one in addresses}
    assert not [one for one in addresses if one["value"].startswith("whatsapp:")]
    assert event["conversation"]["reply_window_expires_at"] is not None
    conversation = event["conversation"]["id"]
    sent = await stage.went(await stage.crm.reply(conversation, "We do"))
    assert sent.body["To"] == f"whatsapp:{user}"
    await stage.ends(str(sent.hub_id), "read")
    again = await posts(stage, chat("Great", user, ExternalUserId=f"whatsapp:{user}"))
    assert again["conversation"]["id"] == conversation

    mia = "+" + phone()
    shown = await posts(stage, chat("Now with my number", mia, ExternalUserId=f"whatsapp:{user}"))
    assert shown["conversation"]["id"] == conversation
    assert (await posts(stage, chat("and only that", mia)))["conversation"]["id"] == conversation


async def test_b5_a_twilio_number_registered_late_gets_what_was_quarantined_in_order(stage: Stage) -> None:
    late, mia = "+15550008888", "+" + phone()
    forms = [sms(f"early {place}", mia, late) for place in range(3)]
    for form in (*forms, forms[0]):
        assert (await stage.wire.twilio(form)).status == 200
    entries = [one for form in forms for one in await stage.quarantined(sid(form))]
    assert {one["reason"] for one in entries} == {"unknown_number"}
    senders = [{"medium": "sms", "provider": "twilio", "external_id": late}]
    answer = await stage.world.call("POST", "/v1/admin/numbers", {"e164": late, "senders": senders})
    assert answer.status == 201, answer
    await stage.crm.connect(late, endpoint_url=None)
    wanted = {"provider": "twilio", "reason": "unknown_number"}
    replayed = (await stage.world.call("POST", "/v1/admin/quarantine/replay", wanted)).json
    assert (replayed["taken"], replayed["still_quarantined"]) == (3, 0)
    conversation = (await stage.received(sid(forms[0])))["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation, "?after=0")] == ["early 0", "early 1", "early 2"]


async def test_b8_two_forms_over_two_media_at_once_are_one_contact(stage: Stage) -> None:
    for _ in range(4):
        rest = phone("")[-6:]
        written = sms("over SMS", f"+5511987{rest}", CHATTY.e164)
        chatted = chat("over WhatsApp", f"+551187{rest}")
        forms = [written, chatted, sms("again", f"+551187{rest}", CHATTY.e164), chat("again", f"+5511987{rest}")]
        assert {one.status for one in await asyncio.gather(*map(stage.wire.twilio, forms))} == {200}
        events = [(await stage.ear().hears("message.received", of(sid(form))))[0] for form in forms]
        assert len({one["contact"]["id"] for one in events}) == 1
        assert len({one["conversation"]["id"] for one in events}) == 2


async def test_b8_the_same_id_at_meta_and_at_twilio_is_one_contact(stage: Stage) -> None:
    user = f"BR.{phone('')}"
    event = await posts(stage, chat("here", user, ExternalUserId=user))
    item = {"from_user_id": user, "id": unique("wamid.tw"), "timestamp": "1790000000"}
    item |= {"type": "text", "text": {"body": "there"}}
    await stage.posts("messages", {"contacts": [{"user_id": user}], "messages": [item]})
    there = await stage.received(item["id"])
    assert there["contact"]["id"] == event["contact"]["id"]
    assert there["conversation"]["id"] != event["conversation"]["id"]


async def test_a_tapped_button_a_place_and_a_quoted_message(stage: Stage, silent: None) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, chat("hello", mia)))["conversation"]["id"]
    sent = await stage.went(await stage.crm.reply(conversation, "Shall we deliver?"))
    quoted = {"OriginalRepliedMessageSid": sent.provider_id, "MessageType": "button"}
    tap = await posts(stage, chat("Confirm", mia, ButtonText="Confirm", ButtonPayload="confirm_1", **quoted))
    assert tap["message"]["type"] == "button"
    assert "Confirm" in json.dumps(tap["message"])
    assert tap["message"]["reply_to"]["provider_id"] == sent.provider_id
    seen = (await stage.received(tap["message"]["provider_id"], stage.desk))["message"]
    assert "confirm_1" in json.dumps(tap["message"])  # whose button it is (C1)
    assert "confirm_1" not in json.dumps([seen, await stage.timeline(conversation, service=stage.desk)])
    assert seen["button"]["text"] == "Confirm"
    place = {"MessageType": "location", "Latitude": "52.52", "Longitude": "13.405", "Address": "Street 1"}
    event = await posts(stage, chat("", mia, **place))
    assert event["message"]["type"] == "location"
    assert (event["message"]["location"]["latitude"], event["message"]["location"]["longitude"]) == (52.52, 13.405)
    odd = await posts(stage, chat("", mia, MessageType="hologram_2027", Beam="7"))
    assert odd["message"]["type"] == "unsupported"
    assert odd["message"]["raw"]["Beam"] == "7"


async def test_b8_forms_of_a_brazilian_number_over_twilio(stage: Stage, silent: None) -> None:
    rest = phone("")[-6:]
    short, full = f"+551187{rest}", f"+5511987{rest}"
    conversation = (await posts(stage, chat("oi", short)))["conversation"]["id"]
    stage.simulator.twilio_api.refused_forms[short] = 63024
    before = len(stage.simulator.attempts)
    for said in ("one", "two"):
        assert (await stage.went(await stage.crm.reply(conversation, said))).to == full
    assert [one.to for one in stage.simulator.attempts[before:]] == [short, full, full]
    assert (await posts(stage, chat("de novo", full)))["conversation"]["id"] == conversation


# Consent --------------------------------------------------------------------------------------------------------------


async def test_e5_advanced_opt_out_counts_whatever_the_word_is(stage: Stage) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, sms("Bonjour", mia, CHATTY.e164)))["conversation"]["id"]
    path = f"/v1/consents/sms/{quote(mia)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    await posts(stage, sms("AIDE-MOI", mia, CHATTY.e164, OptOutType="HELP"))
    await posts(stage, sms("ne dites pas stop", mia, CHATTY.e164))
    assert (await stage.consent(mia, CHATTY, "sms"))["status"] == "granted"

    event = await posts(stage, sms("Fichez-moi la paix", mia, CHATTY.e164, OptOutType="STOP"))
    assert event["message"]["opt_out_type"].lower() == "stop"
    (told,) = await stage.ear(stage.desk).hears("consent.changed", lambda d: _revoked(d, mia))
    assert (told["consent"]["source"], told["consent"]["number"]) == ("customer", None)
    for number in (CHATTY, PLAIN):
        assert (await stage.consent(mia, number, "sms"))["status"] == "revoked"
    before = len(stage.simulator.attempts)
    for answer in (
        await stage.crm.reply(conversation, "Really?"),
        await stage.desk.reply(conversation, "Please?"),
        await automates(stage.crm, conversation, "Buy!"),
    ):
        assert (answer.status, answer.json["code"]) == (409, "no_consent")
    lifted = await stage.crm.call("PUT", path, {"status": "granted"})
    assert (lifted.status, lifted.json["code"]) == (409, "revoked_by_customer")
    assert len(stage.simulator.attempts) == before

    await posts(stage, sms("Encore une fois", mia, CHATTY.e164, OptOutType="START"))
    assert (await stage.consent(mia, CHATTY, "sms"))["status"] == "granted"
    assert (await stage.consent(mia, PLAIN, "sms"))["status"] == "revoked"
    assert (await stage.consent(mia, CHATTY))["status"] == "unknown"
    await stage.went(await stage.crm.reply(conversation, "Bienvenue"))


def _revoked(data: Mapping[str, Any], who: str) -> bool:
    return bool(data["consent"]["address"] == who and data["consent"]["status"] == "revoked")


async def test_e5_yes_is_no_start_and_stop_on_whatsapp_keeps_agents_free(stage: Stage, silent: None) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, chat("*STOP*", mia)))["conversation"]["id"]
    assert (await stage.consent(mia, CHATTY))["status"] == "revoked"
    assert (await stage.consent(mia, CHATTY, "sms"))["status"] == "unknown"
    await posts(stage, chat("Yes", mia))
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"
    await stage.went(await stage.crm.reply(conversation, "A person answers"))
    await posts(stage, chat("Start.", mia))
    await stage.went(await automates(stage.crm, conversation, "Welcome back"))


async def test_e5_21610_revokes_and_30003_does_not(stage: Stage, silent: None) -> None:
    mia, bo = "+" + phone(), "+" + phone()
    mias, bos = [(await posts(stage, sms("hi", who, PLAIN.e164)))["conversation"]["id"] for who in (mia, bo)]
    away = await stage.went(await stage.crm.reply(bos, "Are you there?"))
    await reports(stage, away, "undelivered", ErrorCode="30003", ErrorMessage="Unreachable")
    view = await stage.ends(str(away.hub_id), "failed")
    assert (view["error"]["code"], view["error"]["provider_code"]) == ("undeliverable", "30003")
    assert (await stage.consent(bo, PLAIN, "sms"))["status"] == "unknown"

    told = await stage.went(await stage.crm.reply(mias, "Are you there?"))
    await reports(stage, told, "failed", ErrorCode="21610")
    view = await stage.ends(str(told.hub_id), "failed")
    assert view["error"]["code"] == "opted_out"
    assert (await stage.consent(mia, PLAIN, "sms"))["status"] == "revoked"
    assert (await stage.crm.reply(mias, "Hello?")).json["code"] == "no_consent"


# Statuses and errors --------------------------------------------------------------------------------------------------


async def test_e7_statuses_in_any_order_end_in_one_state(stage: Stage, silent: None) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, chat("hi", mia)))["conversation"]["id"]
    first = await stage.went(await stage.crm.reply(conversation, "one"))
    for status in ("read", "sent", "delivered", "queued", "read"):
        await reports(stage, first, status)
    view = await stage.ends(str(first.hub_id), "read")
    assert {"sent", "delivered", "read"} <= set(view["status_times"])
    assert "conflict" not in view

    second = await stage.went(await stage.crm.reply(conversation, "two"))
    await reports(stage, second, "delivered")
    await reports(stage, second, "undelivered", ErrorCode="63024")
    third = await stage.went(await stage.crm.reply(conversation, "three"))
    await reports(stage, third, "failed", ErrorCode="63016")
    await reports(stage, third, "delivered")
    for one in (second, third):
        view = await stage.ends(str(one.hub_id), "delivered")
        assert view["conflict"] is True
    statuses = [one["message"]["status"] for one in await stage.ear().of("message.status", within(conversation))]
    assert statuses.count("read") == 1


async def test_e7_a_status_without_the_hubs_id_finds_its_message_by_the_sid(stage: Stage, silent: None) -> None:
    conversation = (await posts(stage, sms("hi", "+" + phone(), PLAIN.e164)))["conversation"]["id"]
    sent = await stage.went(await stage.crm.reply(conversation, "hello"))
    fields = {"MessageSid": sent.provider_id, "MessageStatus": "delivered", "From": PLAIN.e164, "To": sent.to}
    for path in (f"{TWILIO}/status", TWILIO):  # the number's own callback may be either
        assert (await stage.wire.twilio(list(fields.items()), path=path)).status == 200
    await stage.ends(str(sent.hub_id), "delivered")
    told = await stage.ear().of("message.status", lambda d: d["message"]["id"] == sent.hub_id)
    assert [one["message"]["status"] for one in told].count("delivered") == 1
    unknown = fields | {"MessageSid": unique("SMnobody")}
    assert (await stage.wire.twilio(list(unknown.items()), path=f"{TWILIO}/status")).status == 200


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("63016", "reply_window_closed"),
        ("21211", "bad_recipient"),
        ("63024", "bad_recipient"),
        ("30006", "undeliverable"),
    ],
)
async def test_error_codes_of_callbacks_have_stable_names(stage: Stage, silent: None, code: str, named: str) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, chat("hi", mia)))["conversation"]["id"]
    sent = await stage.went(await stage.crm.reply(conversation, "hello"))
    await reports(stage, sent, "failed", ErrorCode=code)
    error = (await stage.ends(str(sent.hub_id), "failed"))["error"]
    assert error["provider_code"] == code
    assert error["code"] == named


async def test_e8_an_unknown_outcome_is_settled_by_the_callback_and_never_sent_twice(
    stage: Stage, silent: None
) -> None:
    mia = "+" + phone()
    conversation = (await posts(stage, chat("hi", mia)))["conversation"]["id"]
    stage.simulator.fail_next(Fault.dropped(taken=True))
    answer = await stage.crm.reply(conversation, "Did it go?")
    sent = await stage.went(answer)
    await stage.ends(str(sent.hub_id), "unknown", "sending", "sent")
    await reports(stage, sent, "delivered")
    view = await stage.ends(str(sent.hub_id), "delivered")
    assert view["provider_id"] == sent.provider_id
    assert [one.text for one in stage.simulator.sent if one.to == mia] == ["Did it go?"]


async def test_e10_content_templates_go_without_a_body_and_quotes_do_not_go(stage: Stage) -> None:
    mia = "+" + phone()
    event = await posts(stage, chat("hi", mia))
    path = f"/v1/conversations/{event['conversation']['id']}/messages"
    agent = {"origin": "agent", "agent": {"id": "a", "name": "Ana"}}
    template = {"content_sid": "HX" + "0a" * 16, "variables": {"1": "4711"}}
    sent = await stage.went(await stage.crm.call("POST", path, agent | {"type": "template", "template": template}))
    assert sent.body["ContentSid"] == template["content_sid"]
    assert json.loads(sent.body["ContentVariables"]) == {"1": "4711"}
    assert not {"Body", "MediaUrl"} & set(sent.body)
    wrong = await stage.crm.call(
        "POST", path, agent | {"type": "template", "template": {"name": "x", "language": "en"}}
    )
    assert (wrong.status, wrong.json["code"]) == (422, "template_mismatch")
    quote_ = {"text": "this one", "reply_to": event["message"]["id"]}
    refused = await stage.crm.call("POST", path, agent | quote_)
    assert (refused.status, refused.json["code"]) == (422, "unsupported_on_medium")


# Files ----------------------------------------------------------------------------------------------------------------


async def test_an_mms_with_several_files_of_which_one_is_elsewhere(stage: Stage) -> None:
    names = [unique("mms").encode() for _ in range(2)]
    files = [stage.simulator.shelf.add(PNG + name, "image/png") for name in names]
    form = sms("two and a trap", "+" + phone(), PLAIN.e164, NumMedia="3")
    base = f"{stage.simulator.url}/2010-04-01/Accounts/{stage.simulator.twilio_account_sid}/Messages/{sid(form)}/Media/"
    urls = [base + files[0].twilio_sid, "https://169.254.169.254/latest/meta-data", base + files[1].twilio_sid]
    for place, url in enumerate(urls):
        form += [(f"MediaUrl{place}", url), (f"MediaContentType{place}", "image/png")]
    event = await posts(stage, form)
    assert (event["message"]["type"], event["message"]["text"]) == ("image", "two and a trap")
    first, trap, last = event["message"]["media"]
    for kept, name in zip((first, last), names, strict=True):
        assert (await stage.fetch(kept["url"])).body == PNG + name
    assert (await known(stage, trap["id"], "unavailable"))["error"] == "media_host_refused"
    assert (await stage.fetch(trap["url"])).status == 410
    assert "169.254" not in json.dumps(event)
    assert urlsplit(stage.simulator.url).netloc not in json.dumps(event)
    assert stage.simulator.shelf.leaked == 0


async def test_a_file_that_twilio_leads_to_a_foreign_host_for_is_left_alone(stage: Stage) -> None:
    file = stage.simulator.shelf.add(PNG + unique("lead").encode(), "image/png")
    stage.simulator.fail_next_media(MediaFault.redirect("http://10.0.0.1/secret"))
    form = sms("", "+" + phone(), PLAIN.e164, NumMedia="1", MediaContentType0="image/png")
    base = f"{stage.simulator.url}/2010-04-01/Accounts/{stage.simulator.twilio_account_sid}/Messages/{sid(form)}/Media/"
    form.append(("MediaUrl0", base + file.twilio_sid))
    (kept,) = (await posts(stage, form))["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_host_refused"


# What webhooks left out -----------------------------------------------------------------------------------------------


async def reconcile(stage: Stage) -> Json:
    answer = await stage.world.call("POST", "/v1/admin/reconciliation")
    assert answer.status == 200, answer
    (twilio,) = answer.json["providers"]
    assert twilio["outcome"] == "done"
    return dict(twilio)


async def outage(stage: Stage, minutes: int = 30) -> None:
    """As if the last comparison, and what was registered, had been so long ago."""
    async with connected(stage.database_url) as conn:
        await conn.execute(
            "with registered as (update sender set created_at = created_at - $1::int * interval '1 minute') "
            "update reconciliation set begun_at = begun_at - $1::int * interval '1 minute', "
            "until = until - $1::int * interval '1 minute'",
            minutes,
        )


async def test_what_webhooks_left_out_comes_in_the_providers_order_and_none_twice(stage: Stage) -> None:
    await outage(stage)
    mia, bo, begun = "+" + phone(), "+" + phone(), time.time() - 1200
    first = sms("before", mia, QUIET.e164)
    conversation = (await posts(stage, first))["conversation"]["id"]
    stage.simulator.twilio_api.add_inbound(first, at=begun)
    missed = [sms(f"missed {place}", mia, QUIET.e164) for place in range(8)]
    for place in (5, 2, 7, 0, 3, 6, 1, 4):  # listed in any order
        stage.simulator.twilio_api.add_inbound(missed[place], at=begun + 10 + place)
    other = chat("on WhatsApp", bo)
    stage.simulator.twilio_api.add_inbound(other, at=begun + 5)
    foreign = sms("for another hub", bo, "+15559990000")
    stage.simulator.twilio_api.add_inbound(foreign, at=begun + 5)
    late = sms("by webhook", mia, QUIET.e164)
    await posts(stage, late)
    stage.simulator.twilio_api.add_inbound(late, at=begun + 14.5)

    assert (await reconcile(stage))["taken"] == 9
    entries = await stage.timeline(conversation, "?after=0&limit=200")
    assert [one["text"] for one in entries] == ["before", "by webhook", *(f"missed {place}" for place in range(8))]
    assert [one["sequence"] for one in entries] == list(range(1, 11))
    assert [one.get("reconciled", False) for one in entries] == [False] * 2 + [True] * 8
    in_time = [one["text"] for one in await stage.timeline(conversation, "?sort=provider_time&after=0&limit=200")]
    assert [said for said in in_time if said.startswith("missed")] == [f"missed {place}" for place in range(8)]
    event = await stage.received(sid(other))
    assert (event["message"]["reconciled"], event["message"]["text"]) == (True, "on WhatsApp")
    opened = event["conversation"]["reply_window_expires_at"]
    assert opened is not None
    assert abs(datetime.fromisoformat(opened).timestamp() - (int(begun + 5) + 86_400)) <= 1

    for form in (*missed, other):
        assert (await stage.wire.twilio(form)).status == 200
    assert (await reconcile(stage))["taken"] == 0
    await outage(stage)
    assert (await reconcile(stage))["taken"] == 0
    assert len(await stage.timeline(conversation, "?limit=200")) == 10
    told = [one["message"]["provider_id"] for one in await stage.ear(stage.desk).of("message.received")]
    assert [told.count(sid(form)) for form in (*missed, other, late)] == [1] * 10


async def test_b8_missed_messages_of_hidden_customers_and_of_the_messaging_service(stage: Stage) -> None:
    await outage(stage)
    user, mia, begun = f"US.{phone('')}", "+" + phone(), time.time() - 900
    conversation = (await posts(stage, chat("one", user, ExternalUserId=user)))["conversation"]["id"]
    hidden = chat("two", user, ExternalUserId=user)
    stage.simulator.twilio_api.add_inbound(hidden, at=begun)
    form = sms("over the service", mia, CHATTY.e164, MessagingServiceSid=SERVICE)
    stage.simulator.twilio_api.add_inbound(form, at=begun + 1)
    assert (await reconcile(stage))["taken"] == 2
    event = await stage.received(sid(hidden))
    assert (event["conversation"]["id"], event["message"]["reconciled"]) == (conversation, True)
    event = await stage.received(sid(form))
    assert event["number"] == CHATTY.e164
    for one in (hidden, form):
        assert (await stage.wire.twilio(one)).status == 200
    sent = await stage.went(await stage.crm.reply(event["conversation"]["id"], "Here I am"))
    assert sent.body["MessagingServiceSid"] == SERVICE
    assert len([one for one in await stage.timeline(event["conversation"]["id"]) if one["direction"] == "inbound"]) == 1


async def test_b4_a_webhook_that_comes_while_the_list_is_compared_is_no_second_message(stage: Stage) -> None:
    await outage(stage)
    mia, begun = "+" + phone(), time.time() - 600
    conversation = (await posts(stage, sms("first", mia, QUIET.e164)))["conversation"]["id"]
    forms = [sms(f"late {place}", mia, QUIET.e164) for place in range(12)]
    for place, form in enumerate(forms):
        stage.simulator.twilio_api.add_inbound(form, at=begun + place)
    as_json = json.dumps(dict(forms[0])).encode()
    late = [stage.wire.twilio(form) for form in forms]
    done, *answers = await asyncio.gather(reconcile(stage), *late, stage.wire.twilio_json(as_json))
    assert {one.status for one in answers} == {200}
    assert done["listed"] >= 12
    said = [one["text"] for one in await stage.timeline(conversation, "?limit=200")]
    assert sorted(said) == sorted(["first", *(f"late {place}" for place in range(12))])


async def test_two_hundred_missed_messages_are_all_there_once_and_in_order(stage: Stage) -> None:
    await outage(stage)
    people, begun = ["+" + phone() for _ in range(10)], time.time() - 1500
    forms = [sms(f"number {place}", people[place % 10], QUIET.e164) for place in range(200)]
    for place, form in enumerate(forms):
        stage.simulator.twilio_api.add_inbound(form, at=begun + place)
        if place % 3 == 0:
            assert (await stage.wire.twilio(form)).status == 200
    stage.simulator.fail_next_asked(Fault.unavailable())
    refused = await stage.world.call("POST", "/v1/admin/reconciliation")
    assert (refused.status, refused.json["code"]) == (503, "provider_unavailable")
    assert (await reconcile(stage))["taken"] == 200 - 67
    ids = {sid(form) for form in forms}
    events = await stage.ear(stage.desk).hears("message.received", lambda d: d["message"]["provider_id"] in ids, 200)
    assert sorted(one["message"]["provider_id"] for one in events) == sorted(ids)
    for place in range(10):
        mine = [one for one in events if one["contact"]["addresses"][0]["value"] == people[place]]
        assert [one["conversation"]["sequence"] for one in mine] == list(range(1, 21))
        fetched = [int(one["message"]["text"].split()[1]) for one in mine if one["message"].get("reconciled")]
        assert fetched == [n for n in range(place, 200, 10) if n % 3]


async def test_a_stop_a_file_and_a_status_that_were_missed_count_as_if_they_had_come(
    stage: Stage, silent: None
) -> None:
    await outage(stage)
    mia, bo = "+" + phone(), "+" + phone()
    conversation = (await posts(stage, sms("hi", mia, QUIET.e164)))["conversation"]["id"]
    sent = await stage.went(await stage.crm.reply(conversation, "Did you get it?"))
    stage.simulator.twilio_api.set_status(sent.provider_id, "delivered", None)
    lost = await stage.went(await stage.crm.reply(conversation, "And this?"))
    stage.simulator.twilio_api.set_status(lost.provider_id, "undelivered", 30005)
    for one in (sent, lost):  # both long ago
        twilio, at = stage.simulator.twilio_api, time.time() - 600
        twilio._times[one.provider_id] = at
        twilio.messages[one.provider_id]["date_sent"] = twilio._date(at)
    word = sms("STOP", mia, QUIET.e164)
    stage.simulator.twilio_api.add_inbound(word, at=time.time() - 300)
    content = PNG + unique("missed").encode()
    file = stage.simulator.shelf.add(content, "image/png")
    form = sms("look", bo, QUIET.e164, NumMedia="1", MediaContentType0="image/png")
    stage.simulator.twilio_api.add_inbound(
        [*form, ("MediaUrl0", f"https://api.twilio.com/Media/{file.twilio_sid}")], at=time.time() - 200
    )
    await reconcile(stage)
    assert (await stage.ends(str(sent.hub_id), "delivered"))["status"] == "delivered"
    assert (await stage.ends(str(lost.hub_id), "failed"))["error"]["provider_code"] == "30005"
    assert (await stage.consent(mia, QUIET, "sms"))["status"] == "revoked"
    assert (await stage.crm.reply(conversation, "Hello?")).json["code"] == "no_consent"
    event = await stage.received(sid(form))
    (kept,) = event["message"]["media"]
    assert (event["message"]["type"], event["message"]["reconciled"]) == ("image", True)
    assert (await stage.fetch(kept["url"])).body == content


# Health and throttling ------------------------------------------------------------------------------------------------


async def test_credentials_that_twilio_refuses_are_told_and_over_when_they_are_good_again(stage: Stage) -> None:
    conversation = (await posts(stage, sms("hi", "+" + phone(), PLAIN.e164)))["conversation"]["id"]
    stage.simulator.twilio_api.is_revoked = True
    try:
        lost = await stage.crm.reply(conversation, "Can you hear me?")
        view = await stage.ends(lost.json["message"]["id"], "failed")
        assert view["error"]["code"] == "token_revoked"
        assert await stage.problems(PLAIN, "sms") == {"token_revoked"}
        assert (await stage.health(PLAIN, stage.desk, "sms"))["state"] == "down"
        assert (await stage.health(MAIN))["state"] == "ok"
        shown = json.dumps([view, await stage.health(PLAIN, medium="sms"), await stage.ear().pull()])
        for secret in (stage.simulator.twilio_auth_token, SHARED_KEY, stage.simulator.twilio_account_sid):
            assert secret not in shown
    finally:
        stage.simulator.twilio_api.is_revoked = False
    await stage.went(await stage.crm.reply(conversation, "And now?"))

    async def is_well() -> bool:
        return (await stage.health(PLAIN, medium="sms"))["state"] == "ok"

    await until(is_well)
    told = await stage.ear(stage.desk).hears("sender.health_changed", lambda d: d["number"] == PLAIN.e164, 2)
    assert [one["health"]["state"] for one in told] == ["down", "ok"]


@pytest.mark.parametrize(
    ("code", "problem"), [(20005, "account_restricted"), (21606, "sender_not_registered")], ids=["suspended", "unknown"]
)
async def test_what_keeps_a_number_from_sending_is_told_and_over_with_the_next_message(
    stage: Stage, code: int, problem: str
) -> None:
    conversation = (await posts(stage, sms("hi", "+" + phone(), PLAIN.e164)))["conversation"]["id"]
    stage.simulator.fail_next(Fault.refused(code))
    lost = await stage.crm.reply(conversation, "Hello")
    assert (await stage.ends(lost.json["message"]["id"], "failed"))["error"]["provider_code"] == str(code)

    async def are(*codes: str) -> bool:
        return await stage.problems(PLAIN, "sms") == set(codes)

    await until(lambda: are(problem))
    await stage.went(await stage.crm.reply(conversation, "Hello again"))
    await until(are)


async def test_e9_a_throttled_number_holds_no_other(stage: Stage) -> None:
    mine = (await posts(stage, sms("hi", "+" + phone(), QUIET.e164)))["conversation"]["id"]
    other = (await posts(stage, sms("hi", "+" + phone(), PLAIN.e164)))["conversation"]["id"]
    before, first = len(stage.simulator.sent), len(stage.simulator.attempts)
    stage.simulator.fail_next(Fault.throttled(code=30022, retry_after=1))
    waits = await stage.crm.reply(mine, "waits")
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) > first)
    await stage.went(await stage.crm.reply(other, "goes"))
    await stage.went(waits)
    assert [one.text for one in stage.simulator.sent[before:]] == ["goes", "waits"]


async def test_e9_an_account_that_is_throttled_waits_with_all_its_numbers_and_the_agent_is_first(stage: Stage) -> None:
    crowd = [(await posts(stage, sms("hi", "+" + phone(), QUIET.e164)))["conversation"]["id"] for _ in range(4)]
    other = (await posts(stage, sms("hi", "+" + phone(), PLAIN.e164)))["conversation"]["id"]
    person = (await posts(stage, sms("hi", "+" + phone(), QUIET.e164)))["conversation"]["id"]
    at_metas = await stage.talk(phone())
    slow = f"/v1/admin/numbers/{quote(QUIET.e164)}/senders/sms"
    assert (await stage.world.call("PATCH", slow, {"rate": 20})).status == 200  # one after the other
    first = len(stage.simulator.attempts)
    stage.simulator.fail_next(Fault.throttled(code=20429, retry_after=1))
    bots = [await automates(stage.crm, crowd[0], "Your order", "notification")]
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) > first)
    await until(lambda: not stage.simulator.in_flight)
    bots += [await automates(stage.crm, one, "Your order", "notification") for one in crowd[1:]]
    reply, elsewhere = await stage.crm.reply(person, "A person"), await stage.crm.reply(other, "Another number")
    before = len(stage.simulator.sent)
    await stage.went(await stage.crm.reply(at_metas, "Meta goes on"))
    assert [one.provider for one in stage.simulator.sent[before:]] == ["meta"]
    for answer in (reply, elsewhere, *bots):
        await stage.went(answer)
    quiet = [one.text for one in stage.simulator.sent[before:] if one.number == QUIET]
    assert quiet == ["A person", *["Your order"] * 4]
