"""Meta's fields beyond messages: history, calls, handovers, identities, templates, notices, groups (B2, B4, B5)."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import (
    AccountRef,
    ControlChanged,
    Customer,
    IdentityChanged,
    Item,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    SenderNotice,
    SenderRef,
    TemplateChanged,
    Unparsed,
    WebhookRequest,
)
from providers.whatsapp_cloud.handovers import read_handover
from providers.whatsapp_cloud.webhook import _NOTED, _READERS, _WHOLES, envelopes, parse

BUSINESS, CUSTOMER = "15557770001", "4915112340001"
NUMBER = {"display_phone_number": "+1 (555) 777-0001", "phone_number_id": "700100"}
SENDER = SenderRef("meta", "whatsapp", ("700100",))
MIA = {"profile": {"name": "Mia"}, "wa_id": CUSTOMER, "user_id": "DE.1"}
AT = "1790000000"


def request(document: Any) -> WebhookRequest:
    return WebhookRequest("/webhooks/meta", {"content-type": "application/json"}, json.dumps(document).encode())


def batch(field: str, value: Any, **entry: Any) -> dict[str, Any]:
    made = {"id": "9000", "time": 1790000009} | entry | {"changes": [{"field": field, "value": value}]}
    return {"object": "whatsapp_business_account", "entry": [made]}


def read(field: str, **value: Any) -> list[Item]:
    """The items of one change; each must come out again of its own envelope, and of no other."""
    whole = request(batch(field, {"messaging_product": "whatsapp", "metadata": NUMBER} | value))
    items = parse(whole)
    kept = envelopes(whole)
    for item in items:
        assert parse(request(json.loads(kept[item.key]))) == [item]
    return items


def read_one(field: str, **value: Any) -> Any:
    (item,) = read(field, **value)
    return item


def notice(field: str, **value: Any) -> Any:
    """What a notice about an account becomes: its value has no metadata."""
    (item,) = parse(request(batch(field, value)))
    return item


def is_note(item: Item, detail: str | None = None) -> bool:
    assert isinstance(item, Unparsed), item
    return (item.is_note, item.reason) == (True, "not_needed") and detail in (None, item.detail)


# Accounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "account"), [({"id": "9000"}, "9000"), ({"id": 9000}, "9000"), ({}, None), ({"id": ["9"]}, None)]
)
@pytest.mark.parametrize("body", ["plain", "in reply"])
def test_the_account_is_the_entry_on_the_short_way_and_on_the_long_one(
    entry: dict[str, Any], account: str | None, body: str
) -> None:
    message = {"from": CUSTOMER, "id": "wamid.1", "timestamp": AT, "type": "text", "text": {"body": body}}
    message |= {} if body == "plain" else {"context": {"id": "wamid.0"}}
    value = {"messaging_product": "whatsapp", "metadata": NUMBER, "contacts": [], "messages": [message]}
    document = {"entry": [entry | {"changes": [{"field": "messages", "value": value}]}]}
    (item,) = parse(request(document))
    assert isinstance(item, MessageReceived)
    assert (item.sender, item.sender.account) == (SENDER, account)


def test_the_account_is_cleaned_like_everything_else() -> None:
    value = {
        "metadata": NUMBER,
        "messages": [{"id": "wamid.1", "from": CUSTOMER, "type": "text", "text": {"body": "\0"}}],
    }
    item = parse(request(batch("messages", value, id="90\0")))[0]
    assert isinstance(item, MessageReceived)
    assert item.sender.account == "90"


# The phone app ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["smb_message_echoes", "message_echoes"])
def test_echoes_of_the_phone_app(field: str) -> None:
    sent = {"from": BUSINESS, "to": CUSTOMER, "timestamp": AT}
    image = sent | {"id": "wamid.1", "type": "image", "image": {"id": "55", "mime_type": "image/png", "caption": "see"}}
    inner = {"type": "text", "text": {"body": "better"}}
    edit = sent | {"id": "wamid.2", "type": "edit", "edit": {"original_message_id": "wamid.0", "message": inner}}
    revoke = sent | {"id": "wamid.3", "type": "revoke", "revoke": {"original_message_id": "wamid.0"}}
    first, second, third = read(field, message_echoes=[image, edit, revoke])
    assert isinstance(first, MessageReceived)
    assert isinstance(second, MessageEdited)
    assert isinstance(third, MessageDeleted)
    assert first.content == {"media": [{"id": "55", "mime_type": "image/png"}], "text": "see"}
    assert (second.target_id, second.content) == ("wamid.0", {"text": "better"})
    assert [item.origin for item in (first, second, third)] == ["echo"] * 3
    assert {item.customer for item in (first, second, third)} == {Customer(phone=f"+{CUSTOMER}")}


@pytest.mark.parametrize("field", sorted(_NOTED))
def test_what_is_no_business_of_the_hub_is_noted(field: str) -> None:
    item = read_one(field, state_sync=[{"type": "contact"}], groups=[{"group_id": "G1"}], flow_id="1")
    assert is_note(item, field)


# Groups -------------------------------------------------------------------------------------------------------------


def test_a_message_in_a_group_is_passed_on_without_harm() -> None:
    given_message = {
        "from": CUSTOMER,
        "group_id": "G1",
        "id": "wamid.1",
        "timestamp": AT,
        "type": "text",
        "text": {"body": "stop"},
    }
    item = read_one("messages", contacts=[MIA], messages=[given_message])
    assert (item.type, item.content, item.opens_window) == ("unsupported", {}, False)
    assert json.loads(item.raw) == given_message


def test_what_was_sent_to_a_group_and_became_of_it_is_noted() -> None:
    status = {"id": "wamid.1", "status": "read", "recipient_id": "G1", "recipient_type": "group", "timestamp": AT}
    assert is_note(read_one("messages", statuses=[status]))
    echo = {
        "id": "wamid.1",
        "from": BUSINESS,
        "to": "G1",
        "recipient_type": "group",
        "type": "text",
        "text": {"body": "x"},
    }
    assert is_note(read_one("smb_message_echoes", message_echoes=[echo]))


# Calls --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "told", "origin", "opens_window"),
    [
        (
            {
                "from": CUSTOMER,
                "to": BUSINESS,
                "event": "connect",
                "direction": "USER_INITIATED",
                "session": {"sdp": "v=0"},
            },
            {"event": "connect", "direction": "inbound"},
            "customer",
            True,
        ),
        (
            {"from": CUSTOMER, "to": BUSINESS, "event": "terminate", "status": ["COMPLETED"], "duration": "61"},
            {"event": "terminate", "direction": "inbound", "status": "completed", "duration": 61.0},
            "customer",
            False,
        ),
        (
            {"from": BUSINESS, "to": CUSTOMER, "event": "connect", "direction": "BUSINESS_INITIATED"},
            {"event": "connect", "direction": "outbound"},
            "external",
            False,
        ),
        (
            {"from": f"+{BUSINESS}", "to": CUSTOMER, "event": "terminate", "status": "FAILED"},
            {"event": "terminate", "direction": "outbound", "status": "failed"},
            "external",
            False,
        ),
    ],
)
def test_calls(call: dict[str, Any], told: dict[str, Any], origin: str, opens_window: bool) -> None:
    item = read_one("calls", contacts=[MIA], calls=[{"id": "wacid.1", "timestamp": AT} | call])
    by_us = {"sent_by": "business"} if origin == "external" else {}
    assert (item.type, item.content) == ("call", {"call": {"id": "wacid.1"} | told} | by_us)
    assert (item.origin, item.opens_window, item.at) == (origin, opens_window, float(AT))
    assert item.key == f"meta:call:wacid.1:{call['event']}"
    assert (item.provider_id, item.customer.phone, item.customer.user_id) == (None, f"+{CUSTOMER}", "DE.1")


@pytest.mark.parametrize("field", ["calls", "messages"])
def test_how_far_a_call_has_come_is_an_entry_and_no_status_that_waits_for_its_message(field: str) -> None:
    status = {"id": "wacid.1", "type": "call", "status": "ACCEPTED", "timestamp": AT, "recipient_id": CUSTOMER}
    item = read_one(field, statuses=[status])
    assert item.content == {
        "call": {"id": "wacid.1", "event": "accepted", "direction": "outbound"},
        "sent_by": "business",
    }
    assert (item.origin, item.key, item.opens_window) == ("external", "meta:call:wacid.1:accepted", False)
    assert item.customer.phone == f"+{CUSTOMER}"


def test_odd_calls() -> None:
    items = read("calls", calls=[{"id": "wacid.1"}, "x", {"event": "connect", "from": CUSTOMER}], errors=[{"code": 1}])
    assert [getattr(item, "reason", "") for item in items] == ["unexpected_shape", "unexpected_shape", "", "not_needed"]
    assert items[2].key.startswith("meta:sha256:")


# Handovers ----------------------------------------------------------------------------------------------------------

AGENT = "meta_business_agent"


@pytest.mark.parametrize(
    ("kind", "body", "holder"),
    [
        ("control_passed", {"previous_owner_app_role": AGENT, "new_owner_role": "escalation"}, "hub"),
        ("control_passed", {"previous_owner_app_role": AGENT}, "hub"),
        ("control_passed", {"previous_owner": {"app_role": AGENT}}, "hub"),
        ("control_passed", {"previous_owner_role": "escalation", "new_owner_role": "ai_agent"}, "external"),
        ("control_passed", {"previous_owner_app_role": "business_app"}, "hub"),
        ("control_passed", {}, "hub"),
        ("control_taken", {}, "external"),
        ("control_taken", {"previous_owner_app_role": AGENT}, "hub"),
        ("control_taken", {"new_owner": {"role": "ai_agent"}}, "external"),
        ("take_thread_control", {"previous_owner_app_id": "1"}, "external"),
        ("pass_thread_control", {"new_owner_app_id": "1"}, "hub"),
    ],
)
def test_who_holds_a_conversation(kind: str, body: dict[str, Any], holder: str) -> None:
    value = {
        "messaging_product": "whatsapp",
        "recipient": {"display_phone_number": BUSINESS, "phone_number_id": "700100"},
        "sender": {"phone_number": CUSTOMER, "user_id": "DE.1"},
        "timestamp": AT,
        kind: body,
    }
    for named in ({"type": kind}, {}):
        whole = request(batch("messaging_handovers", value | named))
        (item,) = parse(whole)
        assert isinstance(item, ControlChanged)
        assert (item.holder, item.at, item.sender) == (holder, float(AT), SENDER)
        assert item.customer == Customer(phone=f"+{CUSTOMER}", user_id="DE.1")
        assert item.content == {"handover": {"type": kind} | body}
        assert parse(request(json.loads(envelopes(whole)[item.key]))) == [item]


def test_handovers_in_a_list_with_milliseconds() -> None:
    moved = {"sender": {"wa_id": CUSTOMER}, "timestamp": 1790000000500, "control_passed": {}}
    asked = {"sender": {"wa_id": CUSTOMER}, "type": "request_thread_control"}
    first, second, third = read("messaging_handovers", messaging_handovers=[moved, asked, "x"])
    assert isinstance(first, ControlChanged)
    assert (first.at, first.sender) == (1790000000.5, SENDER)
    assert is_note(second, "request_thread_control")
    assert getattr(third, "reason", "") == "unexpected_shape"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"type": "control_requested"}, "not_needed"),
        ({"app_roles": {"1": ["primary_receiver"]}}, "not_needed"),
        ({"type": "control_divided"}, "unhandled_field"),
        ({"type": 5}, "unhandled_field"),
        ({}, "unhandled_field"),
    ],
)
def test_what_changes_no_hands(value: dict[str, Any], reason: str) -> None:
    item = notice("messaging_handovers", **value)
    assert (item.reason, item.is_note) == (reason, reason == "not_needed")
    assert read_handover.__doc__


# History ------------------------------------------------------------------------------------------------------------


def chunk(*messages: Any, **more: Any) -> dict[str, Any]:
    thread = {"id": CUSTOMER, "messages": list(messages)} | more
    return {"metadata": {"phase": 0, "chunk_order": 1, "progress": 55}, "threads": [thread]}


def old(author: str, word: str, **parts: Any) -> dict[str, Any]:
    said = {"type": "text", "text": {"body": "long ago"}} | parts
    return {"from": author, "id": f"wamid.{author}", "timestamp": AT, "history_context": {"status": word}} | said


def test_history_is_what_both_sides_wrote() -> None:
    theirs, ours = old(CUSTOMER, "READ"), old(BUSINESS, "DELIVERED", to=CUSTOMER)
    more = chunk(old("4915112340002", "SENT"), id="4915112340002", context={"user_id": "DE.2", "username": "bo"})
    first, second, third = read("history", history=[chunk(theirs, ours), more], contacts=[MIA])
    assert first == MessageReceived(
        key=f"meta:message:wamid.{CUSTOMER}",
        sender=SENDER,
        customer=Customer(phone=f"+{CUSTOMER}", user_id="DE.1", name="Mia"),
        provider_id=f"wamid.{CUSTOMER}",
        at=float(AT),
        type="text",
        content={"text": "long ago"},
        opens_window=False,
        is_history=True,
    )
    assert isinstance(second, MessageReceived)
    assert (second.origin, second.status, second.customer.phone) == ("echo", "delivered", f"+{CUSTOMER}")
    assert third.customer == Customer(phone="+4915112340002", user_id="DE.2", username="bo")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", "sending"),
        ("SENT", "sent"),
        ("DELIVERED", "delivered"),
        ("READ", "read"),
        ("PLAYED", "read"),
        ("ERROR", "failed"),
        ("LATER", "sent"),
    ],
)
def test_what_had_become_of_a_message(word: str, status: str) -> None:
    assert read_one("history", history=[chunk(old(BUSINESS, word))]).status == status
    assert read_one("history", history=[chunk(old(CUSTOMER, word))]).status is None


@pytest.mark.parametrize(
    ("parts", "origin"),
    [
        ({"from": BUSINESS}, "echo"),
        ({"from": f"+{BUSINESS}"}, "echo"),
        ({"from": "1999", "to": CUSTOMER}, "echo"),
        ({"from": "1999"}, "customer"),
        ({"from": None}, "customer"),
        ({"from": "1999", "history_context": {"from_me": True}}, "echo"),
    ],
)
def test_whose_an_old_message_is(parts: dict[str, Any], origin: str) -> None:
    assert read_one("history", history=[chunk(old(CUSTOMER, "READ") | parts)]).origin == origin


def test_a_live_message_its_echo_and_the_history_of_it_are_one() -> None:
    live = {"from": CUSTOMER, "id": "wamid.1", "timestamp": AT, "type": "text", "text": {"body": "hi"}}
    echo = live | {"from": BUSINESS, "to": CUSTOMER}
    keys = {
        read_one("messages", messages=[live]).key,
        read_one("smb_message_echoes", message_echoes=[echo]).key,
        read_one("history", history=[chunk(live)]).key,
    }
    assert keys == {"meta:message:wamid.1"}


def test_a_file_of_history_comes_first_as_a_placeholder_and_then_by_itself() -> None:
    placeholder = old(CUSTOMER, "READ", type="media_placeholder") | {"text": None}
    first = read_one("history", history=[chunk(placeholder)])
    assert (first.type, first.content, first.raw, first.is_history) == ("media_placeholder", {}, None, True)
    image = {"id": "55", "mime_type": "image/png", "sha256": "aa", "caption": "the sea"}
    late = {"from": CUSTOMER, "id": first.provider_id, "timestamp": AT, "type": "image", "image": image}
    second = read_one("history", messages=[late])
    assert (second.type, second.provider_id, second.origin) == ("image", first.provider_id, "customer")
    assert second.is_history
    assert second.content == {"media": [{"id": "55", "mime_type": "image/png", "sha256": "aa"}], "text": "the sea"}
    assert second.key != first.key
    assert read_one("history", messages=[late | {"from": BUSINESS, "to": CUSTOMER}]).origin == "echo"


def test_odd_history() -> None:
    reaction = old(CUSTOMER, "READ", type="reaction", reaction={"message_id": "wamid.0", "emoji": "x"})
    chunks = [
        chunk(reaction, 5),
        {"metadata": {"phase": 2, "progress": 100}, "threads": []},
        {"threads": ["x", {"id": CUSTOMER}, {"id": CUSTOMER, "messages": []}]},
        {},
        "x",
        {"errors": [{"code": 2593109, "title": "Not shared"}]},
        {"errors": [{"code": 7, "title": "Broken"}]},
        chunk(old(CUSTOMER, "READ", id="wamid.2")) | {"errors": {"code": 8}},
    ]
    items = read("history", history=chunks, messages=[{"id": "wamid.1"}, {"type": "text", "text": {"body": "no id"}}])
    found = [(item.reason, item.is_note) if isinstance(item, Unparsed) else item.type for item in items]  # type: ignore[union-attr]
    odd = ("unexpected_shape", False)
    assert found == [
        *("unsupported", odd),
        ("not_needed", True),
        *(odd, odd),
        *(odd, odd),
        ("not_needed", True),
        ("provider_error", False),
        *("text", ("provider_error", False)),
        *(odd, odd),
    ]
    assert json.loads(items[0].raw) == reaction  # type: ignore[union-attr, arg-type]


# Identities ---------------------------------------------------------------------------------------------------------


def system(**parts: Any) -> dict[str, Any]:
    return {"id": "wamid.S", "timestamp": AT, "type": "system", "system": parts}


@pytest.mark.parametrize(
    ("message", "old_one", "now"),
    [
        (
            system(type="user_changed_number", wa_id="4915199", body="x") | {"from": CUSTOMER},
            Customer(phone=f"+{CUSTOMER}"),
            Customer(phone="+4915199"),
        ),
        (
            system(type="customer_changed_number", new_wa_id="4915199") | {"from": CUSTOMER},
            Customer(phone=f"+{CUSTOMER}"),
            Customer(phone="+4915199"),
        ),
        (
            system(type="user_changed_number", wa_id="4915199", customer=CUSTOMER) | {"from": "4915199"},
            Customer(phone=f"+{CUSTOMER}"),
            Customer(phone="+4915199"),
        ),
        (
            system(type="user_changed_number", wa_id="4915199", previous_user_id="DE.1", user_id="DE.2"),
            Customer(user_id="DE.1"),
            Customer(phone="+4915199", user_id="DE.2"),
        ),
        (
            system(
                type="user_changed_user_id",
                previous_user_id="DE.1",
                user_id="DE.2",
                previous_parent_user_id="DE.ENT.1",
                parent_user_id="DE.ENT.2",
            ),
            Customer(user_id="DE.1", parent_user_id="DE.ENT.1"),
            Customer(user_id="DE.2", parent_user_id="DE.ENT.2"),
        ),
        (
            system(type="user_changed_user_id", user_id="DE.2") | {"from": CUSTOMER, "from_user_id": "DE.1"},
            Customer(phone=f"+{CUSTOMER}", user_id="DE.1"),
            Customer(user_id="DE.2"),
        ),
    ],
)
def test_a_customer_has_another_number_or_id(message: dict[str, Any], old_one: Customer, now: Customer) -> None:
    item = read_one("messages", messages=[message])
    assert isinstance(item, IdentityChanged)
    assert (item.customer, item.now, item.provider_id, item.at) == (old_one, now, "wamid.S", float(AT))
    assert (item.key, item.content) == ("meta:message:wamid.S", {"system": message["system"]})
    assert read_one("standby", messages=[message]) == item


@pytest.mark.parametrize(
    "message",
    [
        system(type="customer_identity_changed", identity="hash") | {"from": CUSTOMER},
        system(type="user_changed_number") | {"from": CUSTOMER},
        system(type="user_changed_number", wa_id=CUSTOMER) | {"from": CUSTOMER},
        system(type="user_changed_number", wa_id="4915199"),
        system(type="group_created") | {"from": CUSTOMER},
    ],
)
def test_other_system_messages_stay_messages_and_open_no_window(message: dict[str, Any]) -> None:
    item = read_one("messages", messages=[message])
    assert (type(item), item.type, item.opens_window) == (MessageReceived, "system", False)
    assert item.customer.is_known


def test_the_field_of_changed_ids() -> None:
    update = {
        "wa_id": CUSTOMER,
        "detail": "changed",
        "timestamp": AT,
        "user_id": {"previous": "DE.1", "current": "DE.2"},
        "parent_user_id": {"previous": "DE.ENT.1", "current": "DE.ENT.2"},
    }
    item = read_one("user_id_update", contacts=[MIA], user_id_update=[update])
    assert item.customer == Customer(f"+{CUSTOMER}", "DE.1", "DE.ENT.1", name="Mia")
    assert item.now == Customer(user_id="DE.2", parent_user_id="DE.ENT.2")
    assert (item.at, item.sender, item.provider_id) == (float(AT), SENDER, None)
    assert item.content["system"] == {
        "type": "user_changed_user_id",
        "body": "changed",
        "previous_user_id": "DE.1",
        "user_id": "DE.2",
    }
    odd = [{}, {"user_id": "DE.1"}, {"user_id": {"current": "DE.2"}}, {"user_id": {"previous": "DE.1"}}, 5]
    assert {getattr(item, "reason", "") for item in read("user_id_update", user_id_update=odd)} == {"unexpected_shape"}


# Templates ----------------------------------------------------------------------------------------------------------

TEMPLATE = {"message_template_id": 77, "message_template_name": "spring", "message_template_language": "en_US"}


@pytest.mark.parametrize(
    ("field", "value", "change", "content"),
    [
        (
            "message_template_status_update",
            {"event": "REJECTED", "reason": "INVALID_FORMAT", "rejection_info": {"reason": "r"}, "disable_info": None},
            "status",
            {
                "previous": None,
                "current": "rejected",
                "reason": "invalid_format",
                "details": {"rejection_info": {"reason": "r"}},
            },
        ),
        (
            "message_template_status_update",
            {"event": "APPROVED", "reason": "NONE"},
            "status",
            {"previous": None, "current": "approved", "reason": None, "details": {}},
        ),
        (
            "message_template_quality_update",
            {"previous_quality_score": "GREEN", "new_quality_score": "YELLOW"},
            "quality",
            {"previous": "green", "current": "yellow", "reason": None, "details": {}},
        ),
        (
            "message_template_components_update",
            {"message_template_element": "Hello {{1}}"},
            "components",
            {"previous": None, "current": None, "reason": None, "details": {"message_template_element": "Hello {{1}}"}},
        ),
        (
            "template_category_update",
            {"previous_category": "UTILITY", "new_category": "MARKETING"},
            "category",
            {"previous": "utility", "current": "marketing", "reason": None, "details": {}},
        ),
        (
            "template_category_update",
            {"new_category": "UTILITY", "correct_category": "MARKETING", "category_update_timestamp": 1790001000},
            "category",
            {
                "previous": None,
                "current": "utility",
                "correct": "marketing",
                "reason": None,
                "details": {"category_update_timestamp": 1790001000},
            },
        ),
        (
            "template_correct_category_detection",
            {"category": "UTILITY", "correct_category": "MARKETING"},
            "category",
            {"previous": None, "current": "utility", "correct": "marketing", "reason": None, "details": {}},
        ),
    ],
)
def test_templates(field: str, value: dict[str, Any], change: str, content: dict[str, Any]) -> None:
    whole = request(batch(field, TEMPLATE | value))
    (item,) = parse(whole)
    assert isinstance(item, TemplateChanged)
    assert (item.external_id, item.name, item.language, item.change) == ("77", "spring", "en_US", change)
    assert item.content == {"change": change} | content
    assert (item.account, item.at) == (AccountRef("meta", "9000"), 1790000009.0)
    assert parse(request(json.loads(envelopes(whole)[item.key]))) == [item]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message_template_status_update", TEMPLATE),
        ("message_template_status_update", {"event": "APPROVED"}),
        ("message_template_quality_update", TEMPLATE),
        ("template_category_update", TEMPLATE),
        ("template_correct_category_detection", TEMPLATE | {"category": "UTILITY"}),
    ],
)
def test_templates_that_cannot_be_read_are_kept(field: str, value: dict[str, Any]) -> None:
    item = notice(field, **value)
    assert (item.reason, item.detail, item.is_note) == ("unexpected_shape", field, False)
    assert parse(request(json.loads(item.raw))) == [item]


# Notices ------------------------------------------------------------------------------------------------------------

RESTRICTIONS = {"account_restricted", "account_limited", "account_disable_scheduled", "account_violation"}
QUALITY = {"quality_low", "quality_red"}


def ban(state: Any) -> dict[str, Any]:
    return {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state, "waba_ban_date": "May 4, 2027"}}


def restricted(*kinds: str) -> dict[str, Any]:
    told = [{"restriction_type": kind, "expiration": "2027-01-01"} for kind in kinds]
    return {"event": "ACCOUNT_RESTRICTION", "restriction_info": told}


@pytest.mark.parametrize(
    ("field", "value", "raises", "clears", "facts"),
    [
        ("phone_number_quality_update", {"event": "FLAGGED"}, "quality_red", {"quality_low"}, {"quality": "red"}),
        ("phone_number_quality_update", {"event": "UNFLAGGED"}, "", QUALITY, {}),
        (
            "phone_number_quality_update",
            {"event": "DOWNGRADE", "old_limit": "TIER_10K", "current_limit": "TIER_2K"},
            "",
            set(),
            {"messaging_limit": "tier_2k"},
        ),
        (
            "phone_number_quality_update",
            {"event": "UPGRADE", "max_daily_conversations_per_business": "TIER_UNLIMITED", "current_limit": "TIER_2K"},
            "",
            set(),
            {"messaging_limit": "tier_unlimited"},
        ),
        ("phone_number_quality_update", {"event": "ONBOARDING"}, "", set(), {}),
        ("phone_number_quality_update", {"event": "THROUGHPUT_UPGRADE"}, "", set(), {"throughput": "high"}),
        (
            "phone_number_quality_update",
            {"new_quality_score": "YELLOW"},
            "quality_low",
            {"quality_red"},
            {"quality": "yellow"},
        ),
        ("phone_number_quality_update", {"new_quality_score": "GREEN"}, "", QUALITY, {"quality": "green"}),
        (
            "phone_number_name_update",
            {"decision": "APPROVED", "requested_verified_name": "Shop", "rejection_reason": "NONE"},
            "",
            {"name_declined"},
            {"name_status": "approved", "verified_name": "Shop"},
        ),
        ("phone_number_name_update", {"decision": "REJECTED"}, "name_declined", set(), {"name_status": "declined"}),
        ("phone_number_name_update", {"decision": "DEFERRED"}, "", set(), {"name_status": "deferred"}),
        ("account_update", ban("DISABLE"), "account_restricted", {"account_disable_scheduled"}, {}),
        ("account_update", ban(["SCHEDULE_FOR_DISABLE"]), "account_disable_scheduled", set(), {}),
        ("account_update", ban("REINSTATE"), "", RESTRICTIONS, {}),
        ("account_update", {"event": "DISABLED_UPDATE"}, "account_restricted", {"account_disable_scheduled"}, {}),
        ("account_update", {"event": "ACCOUNT_RESTRICTION"}, "account_restricted", {"account_limited"}, {}),
        (
            "account_update",
            restricted("RESTRICTED_CUSTOMER_INITIATED_MESSAGING", "RESTRICTED_BIZ_INITIATED_MESSAGING"),
            "account_restricted",
            {"account_limited"},
            {"restrictions": "restricted_biz_initiated_messaging, restricted_customer_initiated_messaging"},
        ),
        (
            "account_update",
            restricted("RESTRICTED_BIZ_INITIATED_MESSAGING"),
            "account_limited",
            set(),
            {"restrictions": "restricted_biz_initiated_messaging"},
        ),
        (
            "account_update",
            restricted("RESTRICTED_ADD_PHONE_NUMBER_ACTION"),
            "",
            {"account_limited"},
            {"restrictions": "restricted_add_phone_number_action"},
        ),
        (
            "account_update",
            {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "SCAM"}},
            "account_violation",
            set(),
            {},
        ),
        ("account_update", {"event": "ACCOUNT_DELETED"}, "account_restricted", set(), {}),
        ("account_update", {"event": "PARTNER_REMOVED"}, "permission_missing", set(), {}),
        ("account_update", {"event": "PARTNER_APP_INSTALLED"}, "", {"permission_missing"}, {}),
        ("account_update", {"event": "ACCOUNT_OFFBOARDED"}, "sender_not_registered", set(), {}),
        ("account_update", {"event": "ACCOUNT_RECONNECTED"}, "", {"sender_not_registered"}, {}),
        ("account_update", {"event": "AD_ACCOUNT_LINKED"}, "", set(), {}),
        (
            "account_update",
            {"event": "BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE", "country": "DE"},
            "",
            set(),
            {"country": "de"},
        ),
        (
            "account_alerts",
            {
                "entity_type": "BUSINESS",
                "entity_id": "5",
                "alert_info": {"alert_type": "OBA_REJECTED", "alert_severity": "CRITICAL"},
            },
            "",
            set(),
            {"alert": "oba_rejected", "alert_severity": "critical"},
        ),
        (
            "account_review_update",
            {"decision": "REJECTED"},
            "account_restricted",
            {"account_in_review"},
            {"account_review": "rejected"},
        ),
        ("account_review_update", {"decision": "PENDING"}, "account_in_review", set(), {"account_review": "pending"}),
        (
            "account_review_update",
            {"decision": "APPROVED"},
            "",
            {"account_restricted", "account_in_review"},
            {"account_review": "approved"},
        ),
        (
            "business_capability_update",
            {"max_daily_conversation_per_phone": -1},
            "",
            set(),
            {"messaging_limit": "unlimited"},
        ),
        (
            "business_capability_update",
            {"max_daily_conversations_per_business": 2000},
            "",
            set(),
            {"messaging_limit": "2000"},
        ),
        ("business_status_update", {"event": "COMPROMISED_NOTIFICATION"}, "security_alert", set(), {}),
        ("business_status_update", {"event": "VERIFIED"}, "", set(), {"business_status": "verified"}),
        ("security", {"event": "PIN_RESET_REQUEST", "requester": "1"}, "security_alert", set(), {}),
        ("security", {"event": "PIN_REQUEST_SUCCESS"}, "two_step_pin_off", {"security_alert"}, {}),
        ("security", {"event": "PIN_CHANGED"}, "", {"two_step_pin_off", "security_alert"}, {}),
        (
            "account_settings_update",
            {"phone_number_settings": {"phone_number_id": "700100", "calling": {"status": "ENABLED"}}},
            "",
            set(),
            {"calling": "enabled"},
        ),
    ],
    ids=lambda part: (
        part.get("event", "")
        if isinstance(part, dict)
        else "-".join(sorted(part))
        if isinstance(part, set)
        else part[:30]
    ),
)
def test_notices(field: str, value: dict[str, Any], raises: str, clears: set[str], facts: dict[str, str]) -> None:
    whole = request(batch(field, value))
    (item,) = parse(whole)
    assert isinstance(item, SenderNotice)
    assert (list(item.raises), set(item.clears), item.facts) == ([raises] if raises else [], clears, facts)
    assert all(len(sentence) > 20 for sentence in item.raises.values())
    assert (item.topic, item.content, item.at, item.account.account) == (field, value, 1790000009.0, "9000")
    assert parse(request(json.loads(envelopes(whole)[item.key]))) == [item]


@pytest.mark.parametrize(
    ("field", "value", "account"),
    [
        ("security", {"display_phone_number": BUSINESS}, AccountRef("meta", "9000", None, f"+{BUSINESS}")),
        ("security", {"display_phone_number": "+1 555-777-0001"}, AccountRef("meta", "9000", None, f"+{BUSINESS}")),
        ("security", {"display_phone_number": 15557770001}, AccountRef("meta", "9000", None, f"+{BUSINESS}")),
        ("security", {"display_phone_number": {}}, AccountRef("meta", "9000")),
        ("account_update", {"waba_info": {"waba_id": 9001}}, AccountRef("meta", "9001")),
        (
            "account_alerts",
            {"entity_type": "PHONE_NUMBER", "entity_id": "700100"},
            AccountRef("meta", "9000", "700100"),
        ),
        ("account_alerts", {"entity_type": "BUSINESS", "entity_id": "5"}, AccountRef("meta", "9000")),
        (
            "account_settings_update",
            {"phone_number_settings": {"phone_number_id": "7"}},
            AccountRef("meta", "9000", "7"),
        ),
    ],
)
def test_which_sender_a_notice_is_about(field: str, value: dict[str, Any], account: AccountRef) -> None:
    assert notice(field, **value).account == account


def test_the_same_notice_at_another_time_is_another_one() -> None:
    def keys(**entry: Any) -> str:
        (item,) = parse(request(batch("security", {"event": "PIN_CHANGED"}, **entry)))
        return item.key

    assert keys() == keys()
    assert len({keys(), keys(time=1790000010), keys(id="9001")}) == 3


# Message types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["ephemeral", "payment", "poll", "event", "unsupported", "unknown", "template", "media_placeholder"]
)
def test_types_without_a_reader_are_passed_on_with_their_json(kind: str) -> None:
    given_message = {"from": CUSTOMER, "id": "wamid.1", "timestamp": AT, "type": kind, kind: {"a": 1}}
    item = read_one("messages", messages=[given_message | {"errors": [{"code": 131051, "title": "Unsupported"}]}])
    assert (item.type, item.opens_window) == ("unsupported", True)
    assert item.content == {"errors": [{"code": "131051", "title": "Unsupported", "detail": None}]}
    assert json.loads(item.raw)[kind] == {"a": 1}


# Every field, any value ---------------------------------------------------------------------------------------------

FIELDS = sorted({*_READERS, *_WHOLES, *_NOTED})
NAMES = [
    *("event", "type", "status", "recipient", "sender", "timestamp", "threads", "messages", "errors", "id", "from"),
    *("user_id", "previous", "current", "system", "wa_id", "ban_info", "restriction_info", "phone_number_settings"),
    *("display_phone_number", "waba_info", "entity_id", "decision", "current_limit", "message_template_id", "metadata"),
    *("history", "calls", "user_id_update", "messaging_handovers", "control_passed", "direction", "alert_info"),
]
WORDS = ["connect", "terminate", "ACCOUNT_RESTRICTION", "DISABLED_UPDATE", "control_passed", "\ud800", "\0", AT]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


@given(st.sampled_from(FIELDS), JSON, JSON)
@settings(max_examples=400)
def test_any_value_in_any_field(field: str, value: Any, entry: Any) -> None:
    lists = {name: [value] for name in _READERS.get(field, {})}
    system_message = {"id": "wamid.S", "type": "system", "system": value}
    for given_value in (value, {"metadata": NUMBER} | lists, {"metadata": value, "messages": [system_message]}):
        whole = request(batch(field, given_value, id=entry, time=entry))
        items = parse(whole)
        assert items
        assert items == parse(whole)
        assert {
            item.key for item in items if not (isinstance(item, Unparsed) and item.reason == "text_cleaned")
        } == set(envelopes(whole))
        for item in items:
            item.key.encode()
            json.dumps(getattr(item, "content", None), allow_nan=False)
