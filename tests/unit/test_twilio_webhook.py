"""Twilio's webhooks: signature and the tolerant parser (rules B1 to B5, E7)."""

import hashlib
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from providers.base import Customer, Item, MessageReceived, SenderRef, StatusReported, Unparsed, WebhookRequest
from providers.twilio import listing
from providers.twilio.webhook import envelopes, parse, parse_listed, verify

URL = "https://hub.example.net"
FORM = "application/x-www-form-urlencoded"
SID = "SM0000000000000000000000000000beef"
SMS = {"MessageSid": SID, "From": "+4915100000001", "To": "+4930900000", "Body": "hello", "NumMedia": "0"}
WHATSAPP = SMS | {"From": "whatsapp:+4915100000001", "To": "whatsapp:+4930900000", "ProfileName": "Ida"}


def request(
    body: bytes, content_type: str = FORM, path: str = "/webhooks/twilio", **headers: str | None
) -> WebhookRequest:
    named = {"content-type": content_type} | headers
    return WebhookRequest(path, {name: value for name, value in named.items() if value is not None}, body)


def form(params: Any, **around: Any) -> WebhookRequest:
    return request(urlencode(params).encode(), **around)


def read(params: Any, **around: Any) -> Any:
    items = parse(form(params, **around))
    assert len(items) == 1, items
    return items[0]


class TestSignature:
    def sign(self, token: str, path: str, params: Any, algorithm: str | None = None) -> str:
        return str(RequestValidator(token).compute_signature(URL + path, params, algorithm))

    def test_a_form_signed_with_any_of_several_tokens(self) -> None:
        path = "/webhooks/twilio?message=m%201&x="
        pairs = [("From", "+1"), ("Body", "two  words"), ("Body", "again"), ("Blank", ""), ("Ü", "ß")]
        signature = self.sign("old", path, MultiDict(pairs))
        whole = form(pairs, path=path, **{"x-twilio-signature": signature})
        assert verify(whole, ["new", "old"], URL)
        assert verify(whole, ["old"], URL + "/")
        assert not verify(whole, ["new"], URL)
        assert not verify(whole, [], URL)
        assert not verify(whole, ["old"], "https://other.example.net")
        assert not verify(form(pairs[:-1], path=path, **{"x-twilio-signature": signature}), ["old"], URL)
        assert not verify(form(pairs, path=path + "1", **{"x-twilio-signature": signature}), ["old"], URL)

    @pytest.mark.parametrize("signature", [None, "", "nonsense", "\u00e9" * 28, "\ud800", "="])
    def test_bad_signatures(self, signature: str | None) -> None:
        assert not verify(form(SMS, **{"x-twilio-signature": signature}), ["t"], URL)

    def test_an_empty_token_fits_nobody(self) -> None:
        assert not verify(form(SMS, **{"x-twilio-signature": self.sign("", "/webhooks/twilio", SMS)}), [""], URL)

    @pytest.mark.parametrize("public_url", ["", "http://[::1", "https://hub:port", "\ud800"])
    def test_odd_urls_never_raise(self, public_url: str) -> None:
        assert not verify(form(SMS, **{"x-twilio-signature": "x" * 28}), ["t"], public_url)

    def check_json(self, body: bytes, query: str, content_type: str = "application/json") -> bool:
        path = f"/webhooks/twilio?{query}"
        signature = self.sign("t", path, {})
        return verify(request(body, content_type, path, **{"x-twilio-signature": signature}), ["t"], URL)

    def test_json_needs_the_hash_of_its_body(self) -> None:
        body = json.dumps(SMS).encode()
        digest = hashlib.sha256(body).hexdigest()
        assert self.check_json(body, f"bodySHA256={digest}")
        assert self.check_json(body, f"a=1&bodySHA256={digest}", "application/json; charset=utf-8")
        assert not self.check_json(body, "")
        assert not self.check_json(body, "bodySHA256=")
        assert not self.check_json(body, f"bodysha256={digest}")
        assert not self.check_json(body + b" ", f"bodySHA256={digest}")
        assert not self.check_json(body, f"bodySHA256={digest.upper()}")
        assert not self.check_json(body, "bodySHA256=%FF")

    def test_json_that_is_no_utf_8_is_verified_by_its_bytes_and_kept(self) -> None:
        body = json.dumps(SMS, ensure_ascii=False).encode() + b"\xff"
        assert self.check_json(body, f"bodySHA256={hashlib.sha256(body).hexdigest()}")
        (kept,) = parse(request(body, "application/json"))
        assert isinstance(kept, Unparsed)
        assert (kept.reason, kept.raw) == ("invalid_json", body)

    @pytest.mark.parametrize(
        ("public_url", "signed"),
        [
            ("https://hub.example", "https://hub.example"),
            ("https://hub.example/", "https://hub.example"),
            ("https://hub.example", "https://hub.example:443"),
            ("https://hub.example:443", "https://hub.example"),
            ("https://hub.example:8443", "https://hub.example:8443"),
            ("https://hub.example:8443", "https://hub.example"),
            ("http://hub.example", "http://hub.example:80"),
            ("https://proxy.example/hub", "https://proxy.example/hub"),
            ("https://proxy.example/hub/", "https://proxy.example/hub"),
        ],
    )
    def test_the_url_is_the_configured_one_whatever_a_proxy_makes_of_it(self, public_url: str, signed: str) -> None:
        """Twilio signs with and without the port; the path behind a prefix is as it arrives here."""
        path = "/webhooks/twilio?a=b%20c"
        signature = RequestValidator("t").compute_signature(f"{signed}{path}", MultiDict(SMS))
        headers = {"x-twilio-signature": signature, "x-forwarded-proto": "http", "x-forwarded-host": "evil.example"}
        assert verify(form(SMS, path=path, **headers), ["t"], public_url)
        assert not verify(form(SMS, path="/webhooks/twilio?a=b c", **headers), ["t"], public_url)
        assert not verify(form(SMS, path=path, **headers), ["t"], "https://other.example")

    def test_a_shared_key_counts_only_where_one_is_configured(self) -> None:
        signature = self.sign("shared", "/webhooks/twilio", SMS, "HMAC_SHA256")
        settings = {"x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_SHA256"}
        whole = form(SMS, **{"x-twilio-signature": signature}, **settings)
        assert verify(whole, ["t"], URL, shared_key="shared")
        assert not verify(whole, ["shared"], URL)
        assert not verify(whole, ["shared"], URL, shared_key="other")
        body = json.dumps(SMS).encode()
        path = f"/webhooks/twilio?bodySHA256={hashlib.sha256(body).hexdigest()}"
        signed = {"x-twilio-signature": self.sign("shared", path, {}, "HMAC_SHA256")} | settings
        assert verify(request(body, "application/json", path, **signed), ["t"], URL, shared_key="shared")
        assert not verify(request(body + b" ", "application/json", path, **signed), ["t"], URL, shared_key="shared")
        plain = form(SMS, **{"x-twilio-signature": self.sign("shared", "/webhooks/twilio", SMS)})
        assert not verify(plain, ["t"], URL, shared_key="shared")
        odd = {"x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_MD5"}
        assert not verify(form(SMS, **{"x-twilio-signature": signature}, **odd), ["shared"], URL, shared_key="shared")


def test_an_sms_is_read_in_full() -> None:
    assert read(SMS | {"MessagingServiceSid": "MG1"}) == MessageReceived(
        key=f"twilio:message:{SID}",
        sender=SenderRef("twilio", "sms", ("+4930900000", "MG1")),
        customer=Customer(phone="+4915100000001"),
        provider_id=SID,
        at=None,
        type="text",
        content={"text": "hello"},
    )


@pytest.mark.parametrize("path", ["/webhooks/twilio", "/webhooks/twilio/status"])
@pytest.mark.parametrize(
    "extra", [{}, {"SmsStatus": "received"}, {"SmsStatus": "Receiving"}, {"MessageStatus": "received"}]
)
def test_messages_are_told_from_statuses_on_either_path(path: str, extra: dict[str, str]) -> None:
    assert isinstance(read(SMS | extra, path=path), MessageReceived)
    assert isinstance(read(SMS | {"MessageStatus": "sent"} | {"Body": "x"}, path=path), StatusReported)
    assert isinstance(read(SMS | {"SmsStatus": "delivered"}, path=path), StatusReported)


@pytest.mark.parametrize(
    ("params", "customer", "medium"),
    [
        (WHATSAPP, Customer(phone="+4915100000001", name="Ida"), "whatsapp"),
        (SMS | {"From": "70700"}, Customer(sender_id="70700"), "sms"),
        (SMS | {"From": "BANK"}, Customer(sender_id="BANK"), "sms"),
        (SMS | {"From": "4915100000001"}, Customer(sender_id="4915100000001"), "sms"),
        (SMS | {"From": " 4915100000001"}, Customer(phone="+4915100000001"), "sms"),
        (SMS | {"From": "US.123"}, Customer(sender_id="US.123"), "sms"),
        (
            WHATSAPP | {"From": "whatsapp:US.123", "ProfileUsername": "u"},
            Customer(user_id="US.123", name="Ida", username="u"),
            "whatsapp",
        ),
        (WHATSAPP | {"From": "WhatsApp:+4915100000001"}, Customer(phone="+4915100000001", name="Ida"), "whatsapp"),
        (WHATSAPP | {"From": "whatsapp:other"}, Customer(sender_id="other", name="Ida"), "whatsapp"),
        (
            WHATSAPP | {"ExternalUserId": "whatsapp:US.9", "ParentExternalUserId": "US.ENT.8"},
            Customer(phone="+4915100000001", user_id="US.9", parent_user_id="US.ENT.8", name="Ida"),
            "whatsapp",
        ),
        ({"MessageSid": SID, "ExternalUserId": "US.9"}, Customer(user_id="US.9"), "whatsapp"),
        ({"MessageSid": SID}, Customer(), "sms"),
    ],
)
def test_who_wrote(params: dict[str, str], customer: Customer, medium: str) -> None:
    item = read(params)
    assert (item.customer, item.sender.medium) == (customer, medium)


@pytest.mark.parametrize(
    ("sids", "key"),
    [
        ({"MessageSid": "a", "SmsMessageSid": "b", "SmsSid": "c"}, "twilio:message:a"),
        ({"MessageSid": "", "SmsMessageSid": "b", "SmsSid": "c"}, "twilio:message:b"),
        ({"SmsSid": "c"}, "twilio:message:c"),
    ],
)
def test_the_id_of_a_message(sids: dict[str, str], key: str) -> None:
    assert read({"From": "+4915100000001"} | sids).key == key


def test_a_message_without_id_has_the_key_of_its_parameters() -> None:
    params = {"From": "+4915100000001", "To": "+4930900000", "Body": "hello"}
    key = read(params).key
    assert key.startswith("twilio:sha256:")
    assert read(dict(reversed(params.items()))).key == key != read(params | {"Body": "hallo"}).key


@pytest.mark.parametrize(
    ("extra", "kind", "content"),
    [
        ({"Body": ""}, "text", {"text": ""}),
        ({"MessageType": "text"}, "text", {"text": "hello"}),
        (
            {
                "NumMedia": "2",
                "MediaUrl0": "https://m/0",
                "MediaContentType0": "image/WEBP",
                "MediaUrl1": "https://m/1",
                "MediaUrl2": "-",
            },
            "image",
            {"text": "hello", "media": [{"mime_type": "image/webp", "url": "https://m/0"}, {"url": "https://m/1"}]},
        ),
        (
            {
                "NumMedia": "",
                "MediaUrl0": f"https://api.twilio.com/x/Media/ME{'0a' * 16}",
                "MediaContentType0": "audio/ogg; codecs=opus",
            },
            "audio",
            {
                "text": "hello",
                "media": [
                    {
                        "id": "ME" + "0a" * 16,
                        "mime_type": "audio/ogg; codecs=opus",
                        "url": f"https://api.twilio.com/x/Media/ME{'0a' * 16}",
                    }
                ],
            },
        ),
        (
            {"NumMedia": "many", "MediaUrl0": "u", "MediaContentType0": "video/mp4"},
            "video",
            {"text": "hello", "media": [{"mime_type": "video/mp4", "url": "u"}]},
        ),
        (
            {"NumMedia": "1", "MediaUrl0": "u", "MediaContentType0": "text/vcard"},
            "document",
            {"text": "hello", "media": [{"mime_type": "text/vcard", "url": "u"}]},
        ),
        ({"NumMedia": "9" * 5000, "MediaUrl0": ""}, "text", {"text": "hello"}),
        (
            {
                "MessageType": "location",
                "Body": "",
                "Latitude": "52.5",
                "Longitude": "east",
                "Label": "Gate",
                "Address": "Road 1",
            },
            "location",
            {"location": {"latitude": 52.5, "longitude": None, "name": "Gate", "address": "Road 1"}},
        ),
        (
            {"Body": "", "Latitude": "inf", "Longitude": "nan"},
            "location",
            {"location": {"latitude": None, "longitude": None}},
        ),
        (
            {"MessageType": "interactive", "ButtonText": "hello", "ButtonPayload": "p1"},
            "button",
            {"text": "hello", "button": {"text": "hello", "payload": "p1"}},
        ),
        (
            {"MessageType": "interactive", "ListId": "l1", "ListTitle": "Monday"},
            "interactive",
            {"text": "hello", "interactive": {"type": "list_reply", "id": "l1", "title": "Monday"}},
        ),
        (
            {"FlowData": '{"a": [1]}'},
            "interactive",
            {"text": "hello", "interactive": {"type": "nfm_reply", "response": {"a": [1]}}},
        ),
        (
            {"InteractiveData": "{broken"},
            "interactive",
            {"text": "hello", "interactive": {"type": "nfm_reply", "response": "{broken"}},
        ),
        (
            {"InteractiveData": '{"type": "x", "a": 1}'},
            "interactive",
            {"text": "hello", "interactive": {"type": "x", "a": 1}},
        ),
        (
            {"FlowData": '["\\u0000"]'},
            "interactive",
            {"text": "hello", "interactive": {"type": "nfm_reply", "response": '["\\u0000"]'}},
        ),
        (
            {
                "OriginalRepliedMessageSid": "SM1",
                "OriginalRepliedMessageSender": "whatsapp:+4930900000",
                "Forwarded": "true",
                "FrequentlyForwarded": "false",
            },
            "text",
            {"text": "hello", "reply_to": {"provider_id": "SM1", "from": "+4930900000"}, "forwarded": True},
        ),
        (
            {
                "ReferralSourceUrl": "https://ad",
                "ReferralCtwaClid": "c",
                "ReferralBody": "",
                "ReferralNumMedia": "0",
                "ReferralMediaContentType0": "image/png",
            },
            "text",
            {
                "text": "hello",
                "referral": {"source_url": "https://ad", "ctwa_clid": "c", "media_content_type0": "image/png"},
            },
        ),
        ({"ReferralNumMedia": "0", "ReferralSourceUrl": ""}, "text", {"text": "hello"}),
    ],
)
def test_content(extra: dict[str, str], kind: str, content: dict[str, Any]) -> None:
    item = read(WHATSAPP | extra)
    assert (item.type, item.content, item.raw) == (kind, content, None)


@pytest.mark.parametrize("word", ["STOP", "START", "HELP"])
def test_the_verdict_of_advanced_opt_out(word: str) -> None:
    """Twilio tells what it took a message for, in whatever words the operator configured there (rule E5)."""
    params = SMS | {"Body": "basta", "OptOutType": word}
    item = read(params)
    assert (item.type, item.content) == ("text", {"text": "basta", "opt_out_type": word})
    assert parse(request(json.dumps(params).encode(), "application/json")) == [item]
    assert "opt_out_type" not in read(SMS | {"OptOutType": ""}).content


def test_a_type_nobody_knows_is_passed_on_with_all_parameters() -> None:
    item = read(WHATSAPP | {"MessageType": "hologram"})
    assert (item.type, item.content) == ("unsupported", {"text": "hello"})
    assert json.loads(item.raw) == WHATSAPP | {"MessageType": "hologram"}


STATUS = {"MessageSid": SID, "From": "whatsapp:+4930900000", "To": "whatsapp:+4915100000001"}


@pytest.mark.parametrize(
    ("word", "normalised"),
    [
        ("queued", "sending"),
        ("accepted", "sending"),
        ("scheduled", "sending"),
        ("sending", "sending"),
        ("partially_delivered", None),
        ("teleported", None),
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("read", "read"),
        ("undelivered", "failed"),
        ("failed", "failed"),
        ("canceled", "cancelled"),
    ],
)
def test_status_words(word: str, normalised: str | None) -> None:
    item = read(STATUS | {"MessageStatus": word})
    assert isinstance(item, StatusReported)
    assert (item.key, item.reported, item.status) == (f"twilio:status:{SID}:{word}", word, normalised)


def test_a_status_in_full() -> None:
    params = STATUS | {
        "MessageStatus": "failed",
        "ErrorCode": "63016",
        "ErrorMessage": "window",
        "MessagingServiceSid": "MG1",
    }
    assert read(params, path="/webhooks/twilio/status?a=1&message=msg%5F7") == StatusReported(
        key=f"twilio:status:{SID}:failed",
        sender=SenderRef("twilio", "whatsapp", ("+4930900000", "MG1")),
        customer=Customer(phone="+4915100000001"),
        provider_id=SID,
        hub_id="msg_7",
        status="failed",
        reported="failed",
        at=None,
        errors=({"code": "reply_window_closed", "title": None, "detail": "window", "provider_code": "63016"},),
    )


@pytest.mark.parametrize(
    ("extra", "errors"),
    [
        ({}, ()),
        ({"ErrorCode": ""}, ()),
        ({"ErrorCode": "0"}, ()),
        ({"ErrorCode": "30003"}, ({"code": "undeliverable", "title": None, "detail": None, "provider_code": "30003"},)),
        ({"ErrorCode": "21610"}, ({"code": "opted_out", "title": None, "detail": None, "provider_code": "21610"},)),
        *(
            ({"ErrorCode": told}, ({"code": code, "title": None, "detail": None, "provider_code": told},))
            for told, code in (
                ("63033", "marketing_stopped"),
                ("63049", "marketing_limited"),
                ("63014", "undeliverable"),
            )
        ),
        (
            {"ChannelStatusMessage": "gone"},
            ({"code": "refused", "title": None, "detail": "gone", "provider_code": None},),
        ),
    ],
)
def test_errors(extra: dict[str, str], errors: tuple[dict[str, Any], ...]) -> None:
    assert read(STATUS | {"MessageStatus": "undelivered"} | extra).errors == errors


class TestBodies:
    def test_json_says_the_same_as_a_form(self) -> None:
        params = SMS | {"NumMedia": 0, "Nothing": None}
        for content_type in ("application/json", "Application/JSON; charset=utf-8", ""):
            assert parse(request(json.dumps(params).encode(), content_type)) == parse(form(SMS))

    @pytest.mark.parametrize(
        ("body", "content_type", "reason"),
        [
            (b"", FORM, "unexpected_shape"),
            (b"\xff\xfe", FORM, "unexpected_shape"),
            (b"a=b&MessageSid=", FORM, "unexpected_shape"),
            (b"{}", "application/json", "unexpected_shape"),
            (b"[]", "application/json", "unexpected_shape"),
            (b'"x"', "application/json", "unexpected_shape"),
            (b"{", "application/json", "invalid_json"),
            (b"", "application/json", "invalid_json"),
            (b"[" * 9000, "application/json", "invalid_json"),
            (b'{"MessageSid":' + b"[" * 9000, "application/json", "invalid_json"),
        ],
    )
    def test_bodies_that_say_nothing(self, body: bytes, content_type: str, reason: str) -> None:
        (item,) = parse(request(body, content_type))
        assert isinstance(item, Unparsed)
        assert (item.reason, item.raw, item.is_note) == (reason, body, False)
        assert parse(request(body, content_type)) == [item]

    @pytest.mark.parametrize(
        ("content_type", "reasons"),
        [
            ("application/x-www-form-urlencoded; charset=UTF8", []),
            ('application/x-www-form-urlencoded; charset="utf-8"', []),
            ("application/x-www-form-urlencoded; charset=klingon", ["charset"]),
            ("application/x-www-form-urlencoded; charset=\0", ["charset"]),
            ("application/x-www-form-urlencoded; charset=latin-1", ["charset"]),
            ("text/plain; charset=klingon", ["content_type", "charset"]),
        ],
    )
    def test_odd_content_types_are_read_and_noted(self, content_type: str, reasons: list[str]) -> None:
        item, *notes = parse(form(SMS, content_type=content_type))
        assert item == read(SMS)
        assert [(note.reason, note.is_note) for note in notes if isinstance(note, Unparsed)] == [
            (reason, True) for reason in reasons
        ]

    def test_text_is_cleaned_and_the_bytes_are_kept(self) -> None:
        whole = request(b"MessageSid=S%00M&From=%2B4915100000001&Body=a%00b")
        item, note = parse(whole)
        assert isinstance(item, MessageReceived)
        assert (item.content, item.key, item.cleaned) == ({"text": "ab"}, "twilio:message:SM", True)
        assert isinstance(note, Unparsed)
        assert (note.reason, note.raw, note.is_note) == ("text_cleaned", whole.body, True)
        surrogate = parse(request(b'{"MessageSid": "SM", "Body": "a\\ud800b"}', "application/json"))[0]
        assert isinstance(surrogate, MessageReceived)
        assert surrogate.content == {"text": "ab"}

    def test_bytes_that_are_no_utf_8_are_kept(self) -> None:
        item, note = parse(request(b"MessageSid=SM&Body=%E9"))
        assert isinstance(item, MessageReceived)
        assert (item.content, item.cleaned) == ({"text": "\ufffd"}, False)
        assert isinstance(note, Unparsed)
        assert note.reason == "text_cleaned"

    def test_the_first_of_repeated_parameters_counts(self) -> None:
        assert read([*SMS.items(), ("Body", "second")]).content == {"text": "hello"}

    def test_the_whole_body_is_kept_for_its_item(self) -> None:
        assert envelopes(form(SMS)) == {}

    def test_a_failure_of_ours_keeps_the_body(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def explode(_: Any) -> Any:
            raise ZeroDivisionError("of ours")

        monkeypatch.setitem(parse.__globals__, "_read", explode)
        (item,) = parse(form(SMS))
        assert isinstance(item, Unparsed)
        assert (item.reason, item.raw) == ("parser_failed", form(SMS).body)


def assert_sound(items: list[Item]) -> None:
    assert items
    for item in items:
        item.key.encode()
        assert isinstance(item, Unparsed) or orjson.dumps([getattr(item, "content", None), item.customer])


NAMES = st.text() | st.sampled_from(
    [
        *(
            "MessageSid",
            "From",
            "To",
            "Body",
            "NumMedia",
            "MediaUrl0",
            "MediaContentType0",
            "MessageStatus",
            "FlowData",
        ),
        *("Latitude", "ListId", "ButtonText", "ReferralBody", "ErrorCode", "ExternalUserId", "MessageType"),
    ]
)
VALUES = st.text() | st.sampled_from(["1", "whatsapp:+4915100000001", "nan", '{"a":"\\u0000"}', "[" * 600, "\ud800"])


def test_what_is_listed_is_read_as_its_webhook_would_have_been() -> None:
    at = "2026-03-01T23:59:30+00:00"
    message = form(SMS | {"DateSent": at, "SmsStatus": "received"}, path=listing.PATH)
    assert parse_listed(message) == [replace(read(SMS), at=1772409570.0, is_reconciled=True)]
    fields = {"MessageSid": SID, "From": "+4930900000", "To": "+4915100000001", "MessageStatus": "undelivered"}
    (status,) = parse_listed(form(fields | {"DateSent": at, "ErrorCode": "30003"}, path=listing.PATH))
    assert status == replace(read(fields | {"ErrorCode": "30003"}), at=1772409570.0)
    assert status.status == "failed"
    (no_time,) = parse_listed(form(SMS | {"DateSent": "yesterday"}))
    assert isinstance(no_time, MessageReceived)
    assert (no_time.at, no_time.is_reconciled) == (None, True)
    assert parse_listed(form({"DateSent": at})) == parse(form({"DateSent": at}))


@given(st.binary(), st.text() | st.just("application/json"), st.text(), st.text())
def test_any_bytes(body: bytes, content_type: str, path: str, signature: str) -> None:
    whole = request(body, content_type, path, **{"x-twilio-signature": signature})
    assert_sound(parse(whole))
    assert_sound(parse_listed(whole))
    assert not verify(whole, ["token"], URL)


@given(st.lists(st.tuples(NAMES, VALUES)), st.text())
def test_any_form(pairs: list[tuple[str, str]], query: str) -> None:
    whole = form(
        [(name.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass")) for name, value in pairs],
        path="/?" + query,
    )
    assert_sound(parse(whole))
    assert parse(whole) == parse(whole)


@given(st.dictionaries(NAMES, VALUES | st.integers() | st.floats() | st.none() | st.lists(st.text())))
def test_any_json(document: dict[str, Any]) -> None:
    assert_sound(parse(request(json.dumps(document).encode(), "application/json")))
