"""From an element of `statuses` to an item."""

from typing import Any, Final

from providers.base import Item, Status, StatusReported
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.calls import read_call_status
from providers.whatsapp_cloud.codes import stable_code
from providers.whatsapp_cloud.people import RECIPIENT, customer_of
from providers.whatsapp_cloud.values import as_dict, errors_of, ident, text_of, unix_time

_STATUSES: Final[dict[str, Status]] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",
    "failed": "failed",
}
"""Rule E7. Everything else (`deleted`, `warning`, what comes tomorrow) is recorded only."""


def read_status(status: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """What became of a message of ours. Statuses are unique by message, status and recipient (rule B4)."""
    reported = text_of(status.get("status"))
    if not reported:
        return change.unparsed("unexpected_shape", "statuses", "statuses", status)
    if status.get("type") == "call":
        return read_call_status(status, change, is_cleaned)
    if status.get("recipient_type") == "group":  # the hub sends nothing to groups: no message would ever claim it
        return change.unparsed("not_needed", "status in a group", "statuses", status, is_note=True)
    provider_id = ident(status.get("id"))
    recipient = ident(status.get("recipient_id")) or ident(status.get("recipient_user_id")) or ""
    # Payments are reported in the same list; theirs are not statuses of a message.
    is_of_message = status.get("type") in (None, "message")
    key = f"meta:status:{provider_id}:{reported}:{recipient}" if provider_id else change.item_key(status)
    return StatusReported(
        key=key,
        sender=change.sender,
        customer=customer_of(status, RECIPIENT, change.contacts),
        provider_id=provider_id,
        hub_id=ident(status.get("biz_opaque_callback_data")),
        status=_STATUSES.get(reported.lower()) if is_of_message else None,
        reported=reported,
        at=unix_time(status.get("timestamp")),
        errors=tuple(map(_named, errors_of(status["errors"]))) if status.get("errors") else (),
        details=_details(status, change.field),
        cleaned=is_cleaned,
    )


def _named(error: dict[str, Any]) -> dict[str, Any]:
    """With our stable code; Meta's own beside it."""
    return {**error, "code": stable_code(error["code"]), "provider_code": error["code"]}


def _details(status: dict[str, Any], field: str) -> dict[str, Any]:
    details: dict[str, Any] = {
        name: status[name] for name in ("pricing", "conversation") if isinstance(status.get(name), dict)
    }
    category = text_of(status.get("category")) or text_of(as_dict(status.get("pricing")).get("category"))
    if category:
        details["category"] = category
    if isinstance(status.get("type"), str):
        details["type"] = status["type"]
    if field == "standby":
        details["standby"] = True
    return details
