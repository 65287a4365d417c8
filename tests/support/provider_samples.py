"""Samples of every kind of body that Meta and Twilio post, written by hand; and real ones, where they are at hand."""

import json
from pathlib import Path
from typing import Any, Final

from tests.support.world import NUMBER, PHONE_NUMBER_ID

CORPUS: Final = Path(__file__).parents[2].parent / "shared" / "corpus"
AT: Final = "1790000000"
BUSINESS: Final = NUMBER[1:]
METADATA: Final = {"display_phone_number": BUSINESS, "phone_number_id": PHONE_NUMBER_ID}


def meta_samples() -> list[tuple[str, str, dict[str, Any]]]:
    """A change of every kind: its field, what it is, and its value."""
    message = {"from": "4915112345678", "id": "wamid.X", "timestamp": AT}
    echo = message | {"from": BUSINESS, "to": "4915112345678"}
    text = {"type": "text", "text": {"body": "one two"}}
    media = {"id": "55", "mime_type": "image/png", "sha256": "aa", "caption": "see", "filename": "a.png"}
    bodies: dict[str, Any] = {
        "text": {"body": "one"},
        **dict.fromkeys(("image", "video", "audio", "voice", "document", "sticker"), media),
        "location": {"latitude": 1.5, "longitude": "2.5", "name": "n"},
        "contacts": [{"name": {"first_name": "Bo"}, "phones": [{"phone": "+49151"}]}],
        "button": {"text": "yes", "payload": "y"},
        "interactive": {"type": "nfm_reply", "nfm_reply": {"response_json": '{"a": 1}', "name": "flow"}},
        "order": {"catalog_id": "c", "product_items": [{"quantity": 1}]},
        "reaction": {"message_id": "wamid.0", "emoji": "x"},
        "edit": {"original_message_id": "wamid.0", "message": text},
        "revoke": {"original_message_id": "wamid.0"},
        "system": {"type": "user_changed_number", "wa_id": "4915112345679", "user_id": "DE.2", "customer": "49151"},
        "request_welcome": {},
        "ephemeral": {"a": [1, {"b": None}]},
    }
    contacts = [{"profile": {"name": "Mia", "username": "mia"}, "wa_id": "4915112345678", "user_id": "DE.1"}]
    around = {"context": {"id": "wamid.0", "from": BUSINESS, "forwarded": True}, "referral": {"source_id": "ad"}}
    found: list[tuple[str, str, dict[str, Any]]] = [
        ("messages", kind, {"contacts": contacts, "messages": [message | around | {"type": kind, kind: body}]})
        for kind, body in bodies.items()
    ]
    status = {"id": "wamid.O", "recipient_id": "4915112345678", "timestamp": AT, "biz_opaque_callback_data": "msg_1"}
    error = {"code": 131047, "title": "t", "message": "m", "error_data": {"details": "d"}}
    statuses = [status | {"status": word, "errors": [error]} for word in ("sent", "delivered", "read", "failed")]
    call = {"id": "wacid.X", "from": "4915112345678", "to": BUSINESS, "event": "connect", "timestamp": AT}
    thread = {
        "id": "4915112345678",
        "messages": [echo | text | {"history_context": {"status": "READ"}}, message | text],
    }
    handover = {
        "type": "control_passed",
        "timestamp": AT,
        "recipient": METADATA,
        "sender": {"phone_number": "4915112345678"},
    }
    template = {"message_template_id": 7, "message_template_name": "n", "message_template_language": "en"}
    found += [
        ("messages", "statuses", {"statuses": statuses}),
        (
            "messages",
            "group",
            {"messages": [message | text | {"group_id": "G"}], "statuses": [status | {"recipient_type": "group"}]},
        ),
        ("messages", "errors", {"errors": [error]}),
        (
            "smb_message_echoes",
            "echoes",
            {"message_echoes": [echo | text, echo | {"id": "wamid.Y", "type": "image", "image": media}]},
        ),
        (
            "standby",
            "standby",
            {
                "standby": {
                    "messages": [message | text],
                    "message_echoes": [{"id": "wamid.Z", "message": text | {"to": "49151"}}],
                }
            },
        ),
        (
            "messaging_handovers",
            "handover",
            handover | {"control_passed": {"previous_owner_app_role": "meta_business_agent"}},
        ),
        (
            "history",
            "history",
            {"history": [{"metadata": {"phase": 0, "chunk_order": 1, "progress": 5}, "threads": [thread]}]},
        ),
        ("history", "history media", {"messages": [message | {"type": "image", "image": media}]}),
        (
            "calls",
            "calls",
            {
                "calls": [call, call | {"event": "terminate", "status": ["COMPLETED"], "duration": 3}],
                "statuses": [status | {"type": "call", "status": "RINGING"}],
            },
        ),
        (
            "user_id_update",
            "user id",
            {
                "user_id_update": [
                    {"wa_id": "4915112345678", "timestamp": AT, "user_id": {"previous": "DE.1", "current": "DE.3"}}
                ]
            },
        ),
        (
            "user_preferences",
            "preference",
            {
                "user_preferences": [
                    {"wa_id": "4915112345678", "category": "marketing_messages", "value": "stop", "timestamp": AT}
                ]
            },
        ),
        (
            "message_template_status_update",
            "template",
            template | {"event": "PAUSED", "reason": "NONE", "other_info": {"title": "x"}},
        ),
        (
            "message_template_quality_update",
            "template",
            template | {"previous_quality_score": "GREEN", "new_quality_score": "RED"},
        ),
        (
            "template_category_update",
            "template",
            template | {"new_category": "UTILITY", "correct_category": "MARKETING"},
        ),
        (
            "phone_number_quality_update",
            "notice",
            {"display_phone_number": BUSINESS, "event": "FLAGGED", "current_limit": "TIER_2K"},
        ),
        ("phone_number_name_update", "notice", {"display_phone_number": BUSINESS, "decision": "REJECTED"}),
        (
            "account_update",
            "notice",
            {"event": "ACCOUNT_RESTRICTION", "restriction_info": [{"restriction_type": "R", "expiration": "2027"}]},
        ),
        (
            "account_update",
            "notice",
            {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE", "waba_ban_date": "d"}},
        ),
        ("security", "notice", {"display_phone_number": BUSINESS, "event": "PIN_CHANGED"}),
        ("smb_app_state_sync", "noted", {"state_sync": [{"type": "contact", "contact": {"full_name": "Bo"}}]}),
        ("group_lifecycle_update", "noted", {"groups": [{"group_id": "G", "type": "group_create"}]}),
        ("tomorrow", "unknown", {"things": [{"a": 1}]}),
    ]
    return [
        (field, kind, {"messaging_product": "whatsapp", "metadata": METADATA} | value) for field, kind, value in found
    ]


def twilio_samples() -> list[tuple[str, dict[str, str]]]:
    """The parameters of every kind."""
    sms = {
        "MessageSid": "SMX",
        "AccountSid": "AC1",
        "From": "+4915112345678",
        "To": NUMBER,
        "Body": "one",
        "NumMedia": "0",
    }
    chat = sms | {
        "From": "whatsapp:+4915112345678",
        "To": f"whatsapp:{NUMBER}",
        "WaId": "4915112345678",
        "ProfileName": "Mia",
    }
    media = {"NumMedia": "1", "MediaUrl0": "https://api.twilio.com/x/Media/ME1", "MediaContentType0": "image/png"}
    found = {
        "text": sms, "whatsapp": chat, "media": sms | media, "location": chat | {"Latitude": "1.5", "Longitude": "2.5"},
        "button": chat | {"ButtonText": "yes", "ButtonPayload": "y"}, "list": chat | {"ListId": "l", "ListTitle": "t"},
        "flow": chat | {"InteractiveData": '{"a": 1}'}, "referral": chat | {"ReferralSourceId": "ad"},
        "hidden": chat | {"From": "whatsapp:DE.1", "ExternalUserId": "DE.1", "ProfileUsername": "mia"},
        "stop": sms | {"Body": "STOP", "OptOutType": "STOP"},
    }  # fmt: skip
    status = {"MessageSid": "SMO", "MessageStatus": "delivered", "From": NUMBER, "To": "+4915112345678"}
    found["status"] = status
    found["failed"] = status | {"MessageStatus": "undelivered", "ErrorCode": "21610", "ErrorMessage": "stop"}
    return list(found.items())


def corpus_samples() -> list[tuple[str, str, Any]]:
    """The changes of real payloads, where they are at hand."""
    found = []
    for path in sorted(CORPUS.rglob("meta_webhooks/**/*.json")) if CORPUS.is_dir() else ():
        for entry in json.loads(path.read_bytes()).get("entry") or []:
            found += [(change.get("field", "messages"), "corpus", change.get("value")) for change in entry["changes"]]
    return found
