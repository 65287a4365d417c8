"""From an element of `calls`, or a status of a call, to the timeline's entry of it; never what was negotiated (SDP)."""

from typing import Any, Final

from providers.base import Item, MessageReceived
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.people import RECEIVER, RECIPIENT, SENDER, customer_of
from providers.whatsapp_cloud.values import digits_of, ident, number_of, text_of, unix_time

_OURS: Final = "BUSINESS_INITIATED"


def read_call(call: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A call began (`connect`) or ended (`terminate`). A customer who calls opens the reply window, as by writing."""
    event = text_of(call.get("event"))
    if not event:
        return change.unparsed("unexpected_shape", "calls", "calls", call)
    is_ours = _is_ours(call, change)
    told: dict[str, Any] = {
        "id": ident(call.get("id")),
        "event": event.lower(),
        "direction": "outbound" if is_ours else "inbound",
        "status": _word(call.get("status")),
        "duration": number_of(call.get("duration")),
    }
    return MessageReceived(
        key=_key(told["id"], event, change, call),
        sender=change.sender,
        customer=customer_of(call, RECEIVER if is_ours else SENDER, change.contacts),
        provider_id=None,
        at=unix_time(call.get("timestamp")),
        type="call",
        content=_content(told, is_ours=is_ours),
        origin="external" if is_ours else "customer",
        cleaned=is_cleaned,
        opens_window=not is_ours and event.lower() == "connect",
    )


def read_call_status(status: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """How far a call of the business's has come (ringing, accepted, rejected): an entry of its own, for there is no
    message of ours that it could be a status of.
    """
    event = text_of(status.get("status"))
    if not event:
        return change.unparsed("unexpected_shape", "statuses", "statuses", status)
    told = {"id": ident(status.get("id")), "event": event.lower(), "direction": "outbound"}
    return MessageReceived(
        key=_key(told["id"], event, change, status),
        sender=change.sender,
        customer=customer_of(status, RECIPIENT, change.contacts),
        provider_id=None,
        at=unix_time(status.get("timestamp")),
        type="call",
        content=_content(told, is_ours=True),
        origin="external",
        cleaned=is_cleaned,
        opens_window=False,
    )


def read_call_error(error: dict[str, Any], change: Change, _is_cleaned: bool) -> Item:
    """Why a call failed, beside its end: nobody has to do anything about it."""
    return change.unparsed("not_needed", "errors of a call", "errors", error, is_note=True)


def _is_ours(call: dict[str, Any], change: Change) -> bool:
    direction = text_of(call.get("direction"))
    if direction:
        return direction.upper() == _OURS
    return change.business is not None and digits_of(call.get("from")) == change.business


def _key(call_id: str | None, event: str, change: Change, element: dict[str, Any]) -> str:
    return f"meta:call:{call_id}:{event.lower()}" if call_id else change.item_key(element)


def _content(told: dict[str, Any], *, is_ours: bool) -> dict[str, Any]:
    call = {name: value for name, value in told.items() if value is not None}
    return {"call": call} | ({"sent_by": "business"} if is_ours else {})


def _word(value: Any) -> str | None:
    """A word in lower case; Meta writes the state of a call also as a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = text_of(value)
    return text.lower() if text else None
