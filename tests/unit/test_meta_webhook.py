"""Meta's webhook: signature, handshake and the tolerant parser (rules B1 to B5, E7)."""

import hashlib
import hmac
import json
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import (
    Customer,
    Item,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    PreferenceChanged,
    ReactionChanged,
    SenderRef,
    StatusReported,
    Unparsed,
    WebhookRequest,
)
from providers.whatsapp_cloud.batch import ITEMS
from providers.whatsapp_cloud.webhook import answer_handshake, envelopes, parse, verify

NUMBER = {"display_phone_number": "15557770001", "phone_number_id": "700100"}
ANA = {"profile": {"name": "Ana", "username": "ana.writes"}, "wa_id": "5511987650001", "user_id": "BR.7001"}


def request(body: bytes | Any, **headers: str) -> WebhookRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WebhookRequest("/webhooks/meta", {"content-type": "application/json"} | headers, raw)


def change(field: str | None = "messages", **value: Any) -> dict[str, Any]:
    named = {"field": field} if field is not None else {}
    return {"value": {"messaging_product": "whatsapp", "metadata": NUMBER} | value} | named


def batch(*changes: Any) -> dict[str, Any]:
    return {"object": "whatsapp_business_account", "entry": [{"id": "9000", "changes": list(changes)}]}


def message(kind: Any = "text", **parts: Any) -> dict[str, Any]:
    return {"from": "5511987650001", "id": "wamid.M1", "timestamp": "1790000000", "type": kind} | parts


def text(body: Any = "good morning", **parts: Any) -> dict[str, Any]:
    return message(text={"body": body}, **parts)


def status(word: Any = "delivered", **parts: Any) -> dict[str, Any]:
    return {"id": "wamid.OUT", "status": word, "timestamp": "1790000050", "recipient_id": "5511987650001"} | parts


def is_note(item: Item) -> bool:
    return isinstance(item, Unparsed) and item.is_note


def read(*messages: Any, field: str | None = "messages", contacts: Any = (ANA,)) -> list[Item]:
    return parse(request(batch(change(field, contacts=list(contacts), messages=list(messages)))))


def read_one(item: Any, **around: Any) -> Any:
    items = read(item, **around)
    assert len(items) == 1, items
    return items[0]


class TestSignature:
    body = b'{"entry": []}\n \xff'

    def sign(self, secret: str, body: bytes | None = None) -> str:
        return "sha256=" + hmac.new(secret.encode(), self.body if body is None else body, hashlib.sha256).hexdigest()

    def check(self, signature: str | None, *secrets: str) -> bool:
        headers = {} if signature is None else {"x-hub-signature-256": signature}
        return verify(WebhookRequest("/webhooks/meta", headers, self.body), secrets)

    def test_any_of_several_secrets_may_have_signed(self) -> None:
        assert self.check(self.sign("old"), "new", "old")
        assert self.check(self.sign("new"), "new", "old")

    def test_everything_else_is_refused(self) -> None:
        good = self.sign("s")
        bad = [None, "", "sha256=", good.upper(), good[:7] + good[7:].upper(), good[7:], good + " ", " " + good]
        bad += [
            f"sha1={good[7:]}",
            good[:-1],
            self.sign("s", b"{}"),
            "sha256=\u00e9" + good[8:],
            "\ud800",
            self.sign("x"),
        ]
        assert [signature for signature in bad if self.check(signature, "s")] == []

    def test_no_secret_or_an_empty_one_fits_nobody(self) -> None:
        assert not self.check(self.sign(""))
        assert not self.check(self.sign(""), "")


@pytest.mark.parametrize(
    ("change_of_query", "token", "answer"),
    [
        ({}, "open", "4711"),
        ({}, "shut", None),
        ({}, None, None),
        ({"hub.verify_token": ""}, "", None),
        ({"hub.mode": "unsubscribe"}, "open", None),
        ({"hub.mode": None}, "open", None),
        ({"hub.verify_token": None}, "open", None),
        ({"hub.verify_token": "\u00e9\ud800"}, "open", None),
        ({"hub.challenge": None}, "open", None),
    ],
)
def test_handshake(change_of_query: dict[str, str | None], token: str | None, answer: str | None) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "open", "hub.challenge": "4711"} | change_of_query
    assert answer_handshake({name: value for name, value in query.items() if value is not None}, token) == answer


def test_a_text_message_is_read_in_full() -> None:
    assert read(text()) == [
        MessageReceived(
            key="meta:message:wamid.M1",
            sender=SenderRef("meta", "whatsapp", ("700100",)),
            customer=Customer(phone="+5511987650001", user_id="BR.7001", username="ana.writes", name="Ana"),
            provider_id="wamid.M1",
            at=1790000000.0,
            type="text",
            content={"text": "good morning"},
        )
    ]


@pytest.mark.parametrize(
    ("given_message", "kind", "content"),
    [
        (text(""), "text", {"text": ""}),
        (
            message("image", image={"id": 55, "mime_type": "image/jpeg", "sha256": "aa", "caption": "look"}),
            "image",
            {"media": [{"id": "55", "mime_type": "image/jpeg", "sha256": "aa"}], "text": "look"},
        ),
        (
            message("video", video={"id": "v", "url": "https://m/1"}),
            "video",
            {"media": [{"id": "v", "url": "https://m/1"}]},
        ),
        (message("audio", audio={"id": "a", "voice": True}), "audio", {"media": [{"id": "a", "voice": True}]}),
        (message("voice", audio={"id": "a"}), "voice", {"media": [{"id": "a"}]}),
        (
            message("document", document={"id": "d", "filename": "Übersicht.pdf"}),
            "document",
            {"media": [{"id": "d", "filename": "Übersicht.pdf"}]},
        ),
        (
            message("sticker", sticker={"id": "s", "animated": True, "mime_type": 7}),
            "sticker",
            {"media": [{"id": "s", "animated": True}]},
        ),
        (
            message("location", location={"latitude": "-23.5", "longitude": "east", "name": "Office", "address": None}),
            "location",
            {"location": {"latitude": -23.5, "longitude": None, "name": "Office"}},
        ),
        (
            message("contacts", contacts=[{"name": {"first_name": "Bo"}}]),
            "contacts",
            {"contacts": [{"name": {"first_name": "Bo"}}]},
        ),
        (
            message("button", button={"text": "Yes", "payload": "y"}),
            "button",
            {"button": {"text": "Yes", "payload": "y"}},
        ),
        (
            message("interactive", interactive={"type": "button_reply", "button_reply": {"id": "b", "title": "B"}}),
            "interactive",
            {"interactive": {"type": "button_reply", "id": "b", "title": "B"}},
        ),
        (
            message(
                "interactive",
                interactive={"type": "list_reply", "list_reply": {"id": "l", "title": "L", "description": "D"}},
            ),
            "interactive",
            {"interactive": {"type": "list_reply", "id": "l", "title": "L", "description": "D"}},
        ),
        (
            message(
                "interactive",
                interactive={"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}},
            ),
            "interactive",
            {"interactive": {"type": "call_permission_reply", "response": "accept"}},
        ),
        (
            message("interactive", interactive={"type": "poll_reply", "poll_reply": [1]}),
            "interactive",
            {"interactive": {"type": "poll_reply", "poll_reply": [1]}},
        ),
        (
            message("order", order={"catalog_id": "c", "product_items": []}),
            "order",
            {"order": {"catalog_id": "c", "product_items": []}},
        ),
        (message("system", system={"type": "anything"}), "system", {"system": {"type": "anything"}}),
        (message("request_welcome"), "request_welcome", {}),
    ],
)
def test_message_types(given_message: dict[str, Any], kind: str, content: dict[str, Any]) -> None:
    item = read_one(given_message)
    assert (item.type, item.content, item.raw) == (kind, content, None)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ('{"slot": "09:00", "days": [1]}', {"slot": "09:00", "days": [1]}),
        ("{broken", "{broken"),
        ('{"a": "\\u0000"}', '{"a": "\\u0000"}'),
        ("[" * 40 + "]" * 40, "[" * 40 + "]" * 40),
        (None, None),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_answers_of_a_flow_are_parsed_where_they_parse(response: Any, expected: Any) -> None:
    reply = {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent", "response_json": response}}
    assert read_one(message("interactive", interactive=reply)).content["interactive"] == {
        "type": "nfm_reply",
        "name": "flow",
        "body": "Sent",
        "response": expected,
    }


@pytest.mark.parametrize(
    "odd",
    [
        message("hologram", hologram={"depth": 3}),
        message("unsupported", unsupported={"type": "poll"}),
        message("text"),
        text(None),
        text(5),
        message("text", text="flat"),
        message("image", image={"mime_type": "image/png"}),
        message("image", image=[]),
        message("location", location="here"),
        message("contacts", contacts={}),
        message("button", button=None),
        message("interactive", interactive={"type": "list_reply", "list_reply": "x"}),
        message("interactive", interactive=1),
        message("order", order=[1]),
        message("system", system="x"),
        message("edit", edit={"original_message_id": "wamid.0"}),
        message("edit", edit={"message": {"type": "text", "text": {"body": "no target"}}}),
        message("revoke", revoke={}),
        message("revoke"),
        message(None),
        message(["text"]),
        text(group_id="G1"),
        message("reaction", reaction={"message_id": "wamid.0", "emoji": "x"}, group_id="G1"),
        {"from": "5511987650001", "id": "wamid.M1"},
        {},
    ],
)
def test_what_cannot_be_read_is_passed_on_with_its_json(odd: dict[str, Any]) -> None:
    item = read_one(odd)
    assert (type(item), item.type) == (MessageReceived, "unsupported")
    assert json.loads(item.raw) == odd


def test_errors_come_along() -> None:
    error = {"code": 131051, "title": "Unsupported", "error_data": {"details": "Not known"}}
    item = read_one(
        message("unknown", errors=[error, {"code": "7", "details": "d"}, {"code": 1, "message": "m"}, "odd"])
    )
    assert item.content["errors"] == [
        {"code": "131051", "title": "Unsupported", "detail": "Not known"},
        {"code": "7", "title": None, "detail": "d"},
        {"code": "1", "title": None, "detail": "m"},
        {"code": None, "title": None, "detail": "odd"},
    ]


def test_replies_forwards_and_advertisements() -> None:
    context = {"id": "wamid.0", "from": "15557770001", "forwarded": True, "frequently_forwarded": True}
    item = read_one(text(context=context | {"referred_product": {"catalog_id": "c"}}, referral={"source_id": "ad1"}))
    assert item.content == {
        "text": "good morning",
        "reply_to": {"provider_id": "wamid.0", "from": "15557770001"},
        "forwarded": True,
        "frequently_forwarded": True,
        "referred_product": {"catalog_id": "c"},
        "referral": {"source_id": "ad1"},
    }
    assert read_one(text(context={"id": "wamid.0"})).content["reply_to"] == {"provider_id": "wamid.0"}
    assert read_one(text(context=["x"], referral="x", errors=None)).content == {"text": "good morning"}


@pytest.mark.parametrize(
    ("reaction", "target", "emoji"),
    [
        ({"message_id": "wamid.0", "emoji": "\U0001f44d"}, "wamid.0", "\U0001f44d"),
        ({"message_id": "wamid.0", "emoji": ""}, "wamid.0", None),
        ({"message_id": "wamid.0"}, "wamid.0", None),
        ({"emoji": "x"}, None, "x"),
    ],
)
def test_reactions(reaction: dict[str, Any], target: str | None, emoji: str | None) -> None:
    item = read_one(message("reaction", reaction=reaction))
    assert isinstance(item, ReactionChanged)
    assert (item.target_id, item.emoji, item.key) == (target, emoji, "meta:message:wamid.M1")


@pytest.mark.parametrize(
    "edit",
    [
        {"original_message_id": "wamid.0", "message": {"type": "text", "text": {"body": "new"}}},
        {"original_message_id": "wamid.0", "message": {"text": {"body": "new"}}},
        {"original_message_id": "wamid.0", "type": "text", "text": {"body": "new"}},
    ],
)
def test_edits_nested_and_flat(edit: dict[str, Any]) -> None:
    item = read_one(message("edit", edit=edit))
    assert isinstance(item, MessageEdited)
    assert (item.target_id, item.content) == ("wamid.0", {"text": "new"})


def test_edit_of_a_caption_and_revocation() -> None:
    inner = {"type": "image", "image": {"id": "i", "caption": "new"}, "context": {"id": "wamid.C"}}
    edited = read_one(message("edit", edit={"original_message_id": "wamid.0", "message": inner}))
    assert edited.content == {"media": [{"id": "i"}], "text": "new", "reply_to": {"provider_id": "wamid.C"}}
    deleted = read_one(message("revoke", revoke={"original_message_id": "wamid.0"}))
    assert isinstance(deleted, MessageDeleted)
    assert deleted.target_id == "wamid.0"


@pytest.mark.parametrize(
    ("fields", "contacts", "customer"),
    [
        (
            {"from": "+5511987650001"},
            [ANA],
            Customer(phone="+5511987650001", user_id="BR.7001", username="ana.writes", name="Ana"),
        ),
        ({"from": 5511987650001}, [], Customer(phone="+5511987650001")),
        ({"from": "4930123"}, [ANA], Customer(phone="+4930123")),
        ({"from": "0123456789"}, [], Customer(sender_id="0123456789")),
        ({"from": "123456"}, [], Customer(sender_id="123456")),
        ({"from": "1" * 16}, [], Customer(sender_id="1" * 16)),
        ({"from": "4930123\n"}, [], Customer(sender_id="4930123\n")),
        ({"from": "SHOP"}, [], Customer(sender_id="SHOP")),
        (
            {"from_user_id": "BR.7001"},
            [ANA],
            Customer(phone="+5511987650001", user_id="BR.7001", username="ana.writes", name="Ana"),
        ),
        (
            {"from_user_id": "BR.7002", "from_parent_user_id": "BR.ENT.1"},
            [ANA, {"user_id": "BR.7002", "profile": {"name": "Bo"}}],
            Customer(user_id="BR.7002", parent_user_id="BR.ENT.1", name="Bo"),
        ),
        (
            {"from_user_id": "BR.9"},
            [{"user_id": "BR.9", "parent_user_id": "BR.ENT.9", "username": "nine"}],
            Customer(user_id="BR.9", parent_user_id="BR.ENT.9", username="nine"),
        ),
        ({}, [ANA], Customer(phone="+5511987650001", user_id="BR.7001", username="ana.writes", name="Ana")),
        ({}, [ANA, {"wa_id": "4930123"}], Customer()),
        ({"from": {"a": 1}, "from_user_id": True}, "none", Customer()),
        ({"from": "4930123"}, [None, 5, {"wa_id": [], "profile": "x"}], Customer(phone="+4930123")),
    ],
)
def test_contacts_are_matched_by_id_and_never_by_place(
    fields: dict[str, Any], contacts: Any, customer: Customer
) -> None:
    bare = {name: value for name, value in text().items() if name != "from"}
    (item,) = parse(request(batch(change(contacts=contacts, messages=[bare | fields]))))
    assert isinstance(item, MessageReceived)
    assert item.customer == customer


@pytest.mark.parametrize(
    ("system", "customer"),
    [
        ({"previous_user_id": "BR.1", "user_id": "BR.2", "wa_id": "4930123"}, Customer(user_id="BR.1")),
        ({"customer": "4930123", "wa_id": "4930999"}, Customer(phone="+4930123")),
        ({"wa_id": "4930999"}, Customer(phone="+4930999")),
    ],
)
def test_a_system_message_belongs_to_whom_it_is_about(system: dict[str, Any], customer: Customer) -> None:
    item = read_one({"id": "wamid.S", "type": "system", "system": system}, contacts=())
    assert (item.type, item.content, item.customer) == ("system", {"system": system}, customer)


@pytest.mark.parametrize(
    ("given_time", "at"),
    [
        ("1790000000", 1790000000.0),
        (1790000000, 1790000000.0),
        (1790000000.5, 1790000000.5),
        ("soon", None),
        ("", None),
        (None, None),
        (True, None),
        (-5, None),
        (0, None),
        (1790000000000, None),
        ("9" * 400, None),
        ([1], None),
    ],
)
def test_times(given_time: Any, at: float | None) -> None:
    assert read_one(text(timestamp=given_time)).at == at


class TestKeys:
    def test_numbers_are_ids_too(self) -> None:
        item = read_one(text(id=12))
        assert (item.key, item.provider_id) == ("meta:message:12", "12")

    def test_an_item_without_id_has_the_key_of_its_content(self) -> None:
        bare = {name: value for name, value in text().items() if name != "id"}
        turned = dict(reversed(list(bare.items())))
        first, again, other = read_one(bare), read_one(turned), read_one(bare | {"timestamp": "1790000001"})
        assert first.key.startswith("meta:sha256:")
        assert first.provider_id is None
        assert first.key == again.key != other.key
        elsewhere = batch(change(metadata={"phone_number_id": "2"}, messages=[bare]))
        assert parse(request(elsewhere))[0].key != first.key

    def test_statuses_are_unique_by_message_status_and_recipient(self) -> None:
        given_statuses = [
            status(),
            status("read"),
            status(recipient_id="4930123"),
            status(id=None),
            status(recipient_id=None, recipient_user_id="BR.1"),
        ]
        keys = [item.key for item in parse(request(batch(change(statuses=given_statuses))))]
        assert keys[:3] == [
            "meta:status:wamid.OUT:delivered:5511987650001",
            "meta:status:wamid.OUT:read:5511987650001",
            "meta:status:wamid.OUT:delivered:4930123",
        ]
        assert keys[3].startswith("meta:sha256:")
        assert keys[4] == "meta:status:wamid.OUT:delivered:BR.1"


@pytest.mark.parametrize(
    ("word", "normalised"),
    [
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("read", "read"),
        ("played", "read"),
        ("failed", "failed"),
        ("deleted", None),
        ("warning", None),
        ("teleported", None),
    ],
)
def test_status_words(word: str, normalised: str | None) -> None:
    (item,) = parse(request(batch(change(statuses=[status(word)]))))
    assert isinstance(item, StatusReported)
    assert (item.reported, item.status, item.at) == (word, normalised, 1790000050.0)
    assert (item.provider_id, item.customer.phone) == ("wamid.OUT", "+5511987650001")


def test_a_status_with_everything() -> None:
    given_status = status(
        "failed",
        recipient_user_id="BR.7001",
        biz_opaque_callback_data="msg_1",
        errors=[{"code": 131047, "title": "Re-engagement", "error_data": {"details": "24 h"}}],
        pricing={"billable": True, "category": "marketing"},
        conversation={"id": "c"},
    )
    (item,) = parse(request(batch(change(statuses=[given_status], contacts=[ANA]))))
    assert isinstance(item, StatusReported)
    assert item.hub_id == "msg_1"
    assert item.errors == (
        {"code": "reply_window_closed", "title": "Re-engagement", "detail": "24 h", "provider_code": "131047"},
    )
    assert item.details == {
        "pricing": {"billable": True, "category": "marketing"},
        "conversation": {"id": "c"},
        "category": "marketing",
    }
    assert (item.customer.user_id, item.customer.name) == ("BR.7001", "Ana")


def test_statuses_of_payments_are_recorded_only() -> None:
    (item,) = parse(
        request(batch(change(statuses=[status("failed", type="payment", pricing="x", errors={"code": 1})])))
    )
    assert isinstance(item, StatusReported)
    assert (item.status, item.details) == (None, {"type": "payment"})
    assert item.errors == ({"code": "provider_unavailable", "title": None, "detail": None, "provider_code": "1"},)


class TestEchoesAndStandby:
    echo: ClassVar = {
        "from": "15557770001",
        "to": "5511987650001",
        "to_user_id": "BR.7001",
        "id": "wamid.E",
        "type": "text",
        "text": {"body": "from the phone"},
    }

    def test_an_echo_is_the_business_writing_to_the_customer(self) -> None:
        (item,) = parse(request(batch(change("smb_message_echoes", message_echoes=[self.echo]))))
        assert isinstance(item, MessageReceived)
        assert (item.origin, item.content, item.key) == ("echo", {"text": "from the phone"}, "meta:message:wamid.E")
        assert item.customer == Customer(phone="+5511987650001", user_id="BR.7001")

    def test_echoed_edits_and_revocations(self) -> None:
        gone = {"to": "5511987650001", "id": "wamid.E2", "type": "revoke", "revoke": {"original_message_id": "wamid.E"}}
        (item,) = parse(request(batch(change("smb_message_echoes", message_echoes=[gone]))))
        assert isinstance(item, MessageDeleted)
        assert (item.origin, item.target_id, item.customer.phone) == ("echo", "wamid.E", "+5511987650001")

    @pytest.mark.parametrize("is_nested", [True, False])
    def test_standby_holds_both_sides_of_a_conversation(self, is_nested: bool) -> None:
        sent = {
            "id": "wamid.A",
            "timestamp": "1790000000",
            "message": {"to": "5511987650001", "type": "text", "text": {"body": "I am a machine"}},
        }
        to_user = {"id": "wamid.B", "message": {"recipient": "BR.7001", "type": "template", "template": {"name": "t"}}}
        ours = text("as flat message", **{"from": "+15557770001", "to": "4930123", "id": "wamid.C"})
        held = {
            "contacts": [ANA],
            "messages": [text(), ours],
            "message_echoes": [sent, to_user],
            "statuses": [status()],
        }
        items = parse(request(batch(change("standby", **({"standby": held} if is_nested else held)))))
        first, flat, second, third, report = items
        assert [item.origin for item in items[:4]] == ["external"] * 4  # type: ignore[union-attr]
        assert first.content == {"text": "good morning", "sent_by": "customer"}  # type: ignore[union-attr]
        assert first.customer.name == "Ana"  # type: ignore[union-attr]
        assert flat.content == {"text": "as flat message", "sent_by": "business"}  # type: ignore[union-attr]
        assert flat.customer.phone == "+4930123"  # type: ignore[union-attr]
        assert second.content == {"text": "I am a machine", "sent_by": "business"}  # type: ignore[union-attr]
        assert second.customer.phone == "+5511987650001"  # type: ignore[union-attr]
        assert (third.type, third.customer.user_id) == ("unsupported", "BR.7001")  # type: ignore[union-attr]
        assert isinstance(report, StatusReported)
        assert report.details["standby"] is True

    def test_an_empty_standby_is_kept(self) -> None:
        (item,) = parse(request(batch(change("standby", standby={}))))
        assert (type(item), getattr(item, "reason", "")) == (Unparsed, "empty_change")


def preference(**parts: Any) -> dict[str, Any]:
    plain = {"wa_id": "5511987650001", "category": "marketing_messages", "value": "stop", "timestamp": 1790000000}
    return plain | {"detail": "User requested to stop marketing messages"} | parts


def read_preferences(*preferences: Any, contacts: Any = (ANA,)) -> list[Item]:
    return parse(request(batch(change("user_preferences", contacts=list(contacts), user_preferences=preferences))))


class TestPreferences:
    def test_a_stop_is_read_in_full(self) -> None:
        (item,) = read_preferences(preference())
        assert isinstance(item, PreferenceChanged)
        assert item == PreferenceChanged(
            key=item.key,
            sender=SenderRef("meta", "whatsapp", ("700100",)),
            customer=Customer(phone="+5511987650001", user_id="BR.7001", username="ana.writes", name="Ana"),
            at=1790000000.0,
            wants_marketing=False,
        )

    @pytest.mark.parametrize(
        ("parts", "wants", "at", "customer"),
        [
            ({"value": "resume"}, True, 1790000000.0, Customer(phone="+5511987650001")),
            ({"timestamp": "1790000001"}, False, 1790000001.0, Customer(phone="+5511987650001")),
            ({"timestamp": None, "detail": 5}, False, None, Customer(phone="+5511987650001")),
            (
                {"wa_id": None, "user_id": "BR.8", "parent_user_id": "BR.ENT.8"},
                False,
                1790000000.0,
                Customer(user_id="BR.8", parent_user_id="BR.ENT.8"),
            ),
        ],
    )
    def test_what_was_chosen_and_by_whom(
        self, parts: dict[str, Any], wants: bool, at: float | None, customer: Customer
    ) -> None:
        (item,) = read_preferences(preference(**parts), contacts=())
        assert isinstance(item, PreferenceChanged)
        assert (item.wants_marketing, item.at, item.customer) == (wants, at, customer)

    def test_each_has_the_contact_that_goes_with_it_and_a_key_of_its_own(self) -> None:
        bo = {"profile": {"name": "Bo"}, "user_id": "US.2"}
        items = read_preferences(preference(), preference(wa_id=None, user_id="US.2"), contacts=(bo, ANA))
        assert [item.customer.name for item in items if isinstance(item, PreferenceChanged)] == ["Ana", "Bo"]
        assert len({item.key for item in items}) == 2
        document = batch(
            change("user_preferences", contacts=[bo, ANA], user_preferences=[preference(), preference(value="resume")])
        )
        for item in parse(request(document)):
            assert parse(request(envelopes(request(document))[item.key])) == [item]

    def test_the_same_again_in_another_batch_has_the_same_key_and_a_later_one_another(self) -> None:
        (first,) = read_preferences(preference())
        again, later = read_preferences(preference(), preference(timestamp=1790000009), contacts=())
        assert first.key == again.key != later.key

    def test_an_odd_one_never_harms_its_neighbours(self) -> None:
        items = read_preferences(preference(category="other"), 5, preference())
        assert [item.reason if isinstance(item, Unparsed) else type(item).__name__ for item in items] == [
            "unhandled_field",
            "unexpected_shape",
            "PreferenceChanged",
        ]

    def test_what_was_cleaned_is_marked(self) -> None:
        item, note = read_preferences(preference(detail="nul\u0000"))
        assert isinstance(item, PreferenceChanged)
        assert item.cleaned
        assert is_note(note)


class TestBatches:
    def test_every_item_of_every_change_counts(self) -> None:
        other = {"phone_number_id": "700200"}
        document = batch(
            change(None, messages=[text(), text(id="wamid.M2")], statuses=[status()]),
            change(metadata=other, messages=[text(id="wamid.M3")]),
        )
        document["entry"] *= 2
        items = parse(request(document))
        assert [item.key for item in items[:4]] == [
            "meta:message:wamid.M1",
            "meta:message:wamid.M2",
            "meta:status:wamid.OUT:delivered:5511987650001",
            "meta:message:wamid.M3",
        ]
        assert len(items) == 8
        assert items[3].sender.external_ids == ("700200",)  # type: ignore[union-attr]

    def test_a_bad_item_never_harms_its_neighbours(self) -> None:
        document = batch(
            None,
            {"field": "messages"},
            change(
                messages=["x", text(), None, 7, {"type": "text"}],
                statuses="many",
                errors=[{"code": 1, "title": "t"}, 5],
            ),
            change(),
            {"field": "messages", "value": [1]},
        )
        document["entry"] += [None, {"id": "1"}, {"id": "2", "changes": {}}, {"id": "3", "changes": []}]
        items = parse(request(document))
        assert [item.reason if isinstance(item, Unparsed) else type(item).__name__ for item in items] == [
            "unexpected_shape",
            "empty_change",
            *("unexpected_shape", "MessageReceived", "unexpected_shape", "unexpected_shape", "MessageReceived"),
            *("unexpected_shape", "provider_error", "unexpected_shape"),
            "empty_change",
            "unexpected_shape",
            *["unexpected_shape"] * 4,
        ]

    @pytest.mark.parametrize(
        ("field", "value", "details"),
        [
            (
                "user_preferences",
                {
                    "user_preferences": [
                        {"wa_id": "1"},
                        {"wa_id": "2", "category": "marketing_messages", "value": "pause"},
                        {"wa_id": "3", "category": "reminders", "value": "stop"},
                        {"wa_id": "4", "category": ["marketing_messages"], "value": {"stop": True}},
                    ]
                },
                ["user_preferences"] * 4,
            ),
            ("history", {"friends": [{"wa_id": "1"}, {"wa_id": "2"}]}, ["friends"] * 2),
            ("messages", {"calls": [{"id": "c"}]}, ["calls"]),
            ("messages", {"poll": {"a": 1}}, ["messages"]),
            ("tomorrow", {"things": [1, "x", None]}, ["tomorrow"] * 3),
        ],
    )
    def test_what_has_no_use_yet_is_kept_item_by_item(
        self, field: str, value: dict[str, Any], details: list[str]
    ) -> None:
        items = parse(request(batch(change(field, **value))))
        assert [(item.reason, item.detail, item.is_note) for item in items if isinstance(item, Unparsed)] == [
            ("unhandled_field", detail, False) for detail in details
        ]
        assert len({item.key for item in items}) == len(details)
        assert [parse(request(item.raw)) for item in items if isinstance(item, Unparsed)] == [[item] for item in items]

    def test_a_kept_item_has_the_same_key_in_another_batch(self) -> None:
        lone = parse(request(batch(change(calls=[{"id": "c"}]))))
        mixed = parse(request(batch(change(contacts=[ANA], messages=[text()], calls=[{"id": "c"}]))))
        assert lone[0].key == mixed[1].key

    @pytest.mark.parametrize(
        "body", [b"[]", b"{}", b'"x"', b"5", b"null", b'{"entry": {}}', b'{"entry": []}', b'{"entry": 1}']
    )
    def test_json_that_is_no_batch(self, body: bytes) -> None:
        (item,) = parse(request(body))
        assert isinstance(item, Unparsed)
        assert (item.reason, item.raw) == ("unexpected_shape", body)

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"\xff\xfe\x00", b'{"a":\x00}', b"[" * 5000, b"[" * 5000 + b"]" * 5000]
    )
    def test_bytes_that_are_no_json(self, body: bytes) -> None:
        (item,) = parse(request(body))
        assert isinstance(item, Unparsed)
        assert (item.reason, item.raw, parse(request(body))) == ("invalid_json", body, [item])

    def test_a_number_that_is_not_named(self) -> None:
        (item,) = parse(request({"entry": [{"changes": [{"value": {"messages": [text()]}}]}]}))
        assert isinstance(item, MessageReceived)
        assert item.sender == SenderRef("meta", "whatsapp", ())


class TestCleaning:
    def test_nul_and_lone_surrogates_are_taken_out_everywhere(self) -> None:
        dirty = text("a\0b\ud800c \U0001f600", id="wamid.\0D", **{"from": "\ud83d4930123"})
        clean = text("fine", id="wamid.F")
        body = json.dumps(batch(change(messages=[dirty, clean])))
        assert "\\u0000" in body
        first, second, note = parse(request(body.encode()))
        assert isinstance(first, MessageReceived)
        assert (first.content, first.key, first.customer.phone) == (
            {"text": "abc \U0001f600"},
            "meta:message:wamid.D",
            "+4930123",
        )
        assert first.cleaned
        assert not second.cleaned  # type: ignore[union-attr]
        assert isinstance(note, Unparsed)
        assert (note.reason, note.is_note, note.raw) == ("text_cleaned", True, body.encode())

    def test_what_a_change_shares_is_cleaned_for_all_its_items(self) -> None:
        contact = {"wa_id": "5511987650001", "profile": {"name": "A\0na"}}
        item, note = read(text(), contacts=[contact])
        assert isinstance(item, MessageReceived)
        assert (item.customer.name, item.cleaned) == ("Ana", True)
        assert isinstance(note, Unparsed)

    def test_only_what_was_changed_is_marked(self) -> None:
        given_messages = [text("a\0"), text("b"), message("reaction", reaction={"emoji": "\0"})]
        body = json.dumps({"entry": [{"changes": [{"value": {"messages": given_messages}}]}]}).encode()
        items = parse(request(body))
        assert [getattr(item, "cleaned", None) for item in items] == [True, False, True, None]

    def test_an_escaped_backslash_is_no_nul(self) -> None:
        (item,) = read(text("\\u0000"))
        assert isinstance(item, MessageReceived)
        assert (item.content, item.cleaned) == ({"text": "\\u0000"}, False)

    def test_numbers_that_json_cannot_carry(self) -> None:
        order = b'{"id":"m","type":"order","order":{"a":NaN,"b":1e999,"c":[-9999999999999999999]}}'
        body = b'{"entry":[{"changes":[{"value":{"messages":[' + order + b"]}}]}]}"
        item = parse(request(body))[0]
        assert isinstance(item, MessageReceived)
        assert item.content == {"order": {"a": None, "b": None, "c": [-1e19]}}

    def test_too_deep_an_item_is_kept_alone(self) -> None:
        deep: Any = []
        for _ in range(200):
            deep = [deep]
        kept, fine = read(message("order", order={"a": deep}), text())
        assert isinstance(kept, Unparsed)
        assert (kept.reason, parse(request(kept.raw))) == ("too_deep", [kept])
        assert isinstance(fine, MessageReceived)

    @pytest.mark.parametrize("depth", [300, 900])
    @pytest.mark.parametrize("place", ["metadata", "contacts", "messages", "field", "entry", "change", "other"])
    def test_depth_is_harmless_everywhere(self, place: str, depth: int) -> None:
        deep = "[" * depth + "]" * depth
        parts = {"metadata": "{}", "contacts": "[]", "messages": "[{}]", "field": '"messages"', "other": "0"} | {
            place: deep
        }
        value = ",".join(f'"{name}":{parts[name]}' for name in ("metadata", "contacts", "messages", "other"))
        whole = f'{{"field":{parts["field"]},"value":{{{value}}}}}' if place != "change" else deep
        body = f'{{"entry":[{{"id":{deep if place == "entry" else 1},"changes":[{whole},"\\ud800"]}}]}}'
        items = parse(request(body.encode()))
        assert len(items) >= 2
        assert envelopes(request(body.encode())).keys() == {item.key for item in items if not is_note(item)}


def test_another_content_type_is_read_and_noted() -> None:
    item, note = parse(request(batch(change(messages=[text()])), **{"content-type": "text/plain"}))
    assert isinstance(item, MessageReceived)
    assert isinstance(note, Unparsed)
    assert (note.reason, note.is_note) == ("content_type", True)
    for fine in ("application/json; charset=utf-8", "Application/JSON", ""):
        assert len(parse(request(batch(change(messages=[text()])), **{"content-type": fine}))) == 1


class TestIsolation:
    document = batch(
        change(
            contacts=[ANA],
            messages=[text(), text(id="wamid.M2", **{"from": "4930123"}), {"type": "text"}],
            statuses=[status()],
        ),
        change("standby", standby={"contacts": [ANA], "messages": [text(id="wamid.M4")]}),
        change("calls", calls=[{"id": "c"}]),
        {"field": "messages"},
    )

    def test_an_envelope_parses_to_its_item_and_no_other(self) -> None:
        whole = request(self.document)
        items = parse(whole)
        assert len(items) == 7
        for item in items:
            raw = envelopes(whole)[item.key]
            assert len(raw) < len(whole.body)
            assert parse(request(raw)) == [item]

    def test_bytes_that_are_no_json_have_no_envelopes(self) -> None:
        assert envelopes(request(b"{")) == {}

    def test_the_envelopes_of_a_large_batch_grow_with_it_and_not_with_its_square(self) -> None:
        people = [{"wa_id": f"4915112{n:06}", "profile": {"name": f"Person {n}"}} for n in range(500)]
        messages = [text(id=f"wamid.{n}", **{"from": person["wa_id"]}) for n, person in enumerate(people)]
        whole = request(batch(change(messages=messages, contacts=people)))
        kept = envelopes(whole)
        assert len(kept) == 500
        assert sum(map(len, kept.values())) < 5 * len(whole.body)
        for item in parse(whole):
            assert parse(request(kept[item.key])) == [item]

    def test_what_should_have_been_a_list_beside_an_item_is_not_kept_with_it(self) -> None:
        """It would be quarantined again with it, so that neither was ever taken in."""
        whole = request(batch(change(messages=[text()], statuses={"id": "1"}, errors={"code": 1})))
        kept = envelopes(whole)
        for item in parse(whole):
            assert len(parse(request(kept[item.key]))) == 1
        assert {name for readers in parse.__globals__["_READERS"].values() for name in readers} == ITEMS

    def test_envelopes_of_surrogates_and_deep_items(self) -> None:
        body = json.dumps(batch(change(messages=[text("\ud800")]))).encode()
        raw = envelopes(request(body))["meta:message:wamid.M1"]
        assert b"\\ud800" in raw
        assert parse(request(raw))[0].content == {"text": ""}  # type: ignore[union-attr]


def test_a_failure_of_ours_costs_one_item_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> Item:
        raise ZeroDivisionError("of ours")

    monkeypatch.setitem(parse.__globals__["_READERS"]["messages"], "statuses", explode)
    kept, fine = parse(request(batch(change(statuses=[status()], messages=[text()]))))
    assert isinstance(kept, Unparsed)
    assert (kept.reason, kept.detail) == ("parser_failed", "statuses: ZeroDivisionError: of ours")
    assert isinstance(fine, MessageReceived)


NAMES = [
    *("id", "from", "type", "timestamp", "text", "body", "status", "errors", "code", "context", "messages", "statuses"),
    *("profile", "wa_id", "edit", "original_message_id", "revoke", "reaction", "interactive", "nfm_reply", "system"),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS | st.sampled_from(["text", "edit", "\ud800", "\0", "1790000000"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=25,
)


def assert_sound(items: list[Item]) -> None:
    assert items
    for item in items:
        item.key.encode()
        assert isinstance(item, Unparsed) or orjson.dumps([getattr(item, "content", None), item.customer])


@given(st.binary(), st.dictionaries(st.sampled_from(["x-hub-signature-256", "content-type"]), st.text()))
def test_any_bytes(body: bytes, headers: dict[str, str]) -> None:
    whole = WebhookRequest("/webhooks/meta", headers, body)
    assert_sound(parse(whole))
    assert not verify(whole, ["secret"])
    assert isinstance(envelopes(whole), dict)


@given(JSON)
@settings(max_examples=300)
def test_any_json_in_any_place(value: Any) -> None:
    places = [
        value,
        {"entry": value},
        {"entry": [value]},
        batch(value),
        batch({"field": "messages", "value": value}),
        batch(change(messages=value)),
        batch(change(messages=[value], contacts=value, metadata=value, statuses=[value], errors=[value])),
        batch(change("standby", standby=value, message_echoes=[value])),
        batch(change(value, things=value)),
        batch(change("user_preferences", user_preferences=[value, preference(wa_id=value, timestamp=value)])),
    ]
    kinds = ("text", "image", "location", "interactive", "reaction", "edit", "revoke", "system", "order", "button")
    places += [batch(change(messages=[message(kind, **{kind: value, "context": value})])) for kind in kinds]
    for place in places:
        whole = request(place)
        items = parse(whole)
        assert_sound(items)
        assert items == parse(whole)
        assert isinstance(envelopes(whole), dict)
