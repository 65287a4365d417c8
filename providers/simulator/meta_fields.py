"""Bodies as Meta posts them for the fields beside `messages`: what the business does elsewhere, calls, and identities.

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference (`smb_message_echoes`,
`history`, `standby`, `calls`, `user_id_update`). `messaging_handovers` names its number under `recipient`, and has no
`metadata`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from providers.simulator.ledger import Number, Person
from providers.simulator.meta_webhooks import Json, contact, digits, metadata, present

Holder = Literal["agent", "business"]
"""Who answers a customer: Meta's own agent, or this business."""


@dataclass(frozen=True, slots=True)
class Past:
    """A message from before the number was connected; `status` is what had become of it, in Meta's words."""

    content: Mapping[str, Any]
    message_id: str
    at: float
    by_business: bool = False
    status: str = "READ"


def change(number: Number, field: str, value: Mapping[str, Any], *, at: float | None = None) -> Json:
    """One body with one change."""
    entry: Json = {"id": number.waba_id, "changes": [{"value": dict(value), "field": field}]}
    if at is not None:
        entry["time"] = int(at)
    return {"object": "whatsapp_business_account", "entry": [entry]}


def echo(number: Number, person: Person, content: Mapping[str, Any], *, message_id: str, at: float) -> Json:
    """The business wrote to a customer from its phone app."""
    fields = {
        "from": digits(number.e164),
        "to": digits(person.phone),
        "to_user_id": person.user_id,
        "to_parent_user_id": person.parent_user_id,
        "id": message_id,
        "timestamp": str(int(at)),
    }
    value = _about(number, person) | {"message_echoes": [present(fields) | dict(content)]}
    return change(number, "smb_message_echoes", value)


def standby(
    number: Number, person: Person, message: Mapping[str, Any], *, part: Literal["messages", "statuses"] = "messages"
) -> Json:
    """What a customer wrote, or what became of what they were sent, while Meta's agent holds the conversation."""
    held: Json = {part: [dict(message)]}
    if part == "messages":
        held = {"contacts": [contact(person)]} | held
    return change(number, "standby", _of(number) | {"standby": held})


def standby_echo(number: Number, person: Person, content: Mapping[str, Any], *, message_id: str, at: float) -> Json:
    """What Meta's agent wrote to a customer."""
    fields = {
        "to": digits(person.phone),
        "recipient": digits(person.phone) or person.user_id,
        "recipient_type": "individual",
    }
    item = {"id": message_id, "timestamp": str(int(at)), "message": present(fields) | dict(content)}
    return change(number, "standby", _of(number) | {"standby": {"message_echoes": [item]}})


def handover(number: Number, person: Person, to: Holder, *, at: float, note: str = "") -> Json:
    """A conversation changes hands."""
    roles = {"agent": ("meta_business_agent", "ai_agent"), "business": ("business_app", "escalation")}
    previous = roles["business" if to == "agent" else "agent"]
    passed = {
        "metadata": note,
        "previous_owner_app_id": "100000000000077" if to == "business" else "100000000000009",
        "previous_owner_app_role": previous[0],
        "previous_owner_role": previous[1],
        "new_owner_role": roles[to][1],
    }
    sender = {"phone_number": digits(person.phone), "user_id": person.user_id}
    value = {
        "messaging_product": "whatsapp",
        "recipient": metadata(number),
        "sender": present(sender),
        "timestamp": str(int(at)),
        "type": "control_passed",
        "control_passed": passed,
    }
    return change(number, "messaging_handovers", value)


def history(
    number: Number,
    threads: Mapping[Person, Sequence[Past]],
    *,
    phase: int = 0,
    chunk: int = 1,
    progress: int = 100,
) -> Json:
    """A piece of what was written before the number was connected; files are placeholders at first."""
    listed = [
        present({"id": digits(person.phone) or person.user_id, "context": _context(person)})
        | {"messages": [_past(number, person, message) for message in past]}
        for person, past in threads.items()
    ]
    piece = {"metadata": {"phase": phase, "chunk_order": chunk, "progress": progress}, "threads": listed}
    return change(number, "history", _of(number) | {"history": [piece]})


def history_declined(number: Number) -> Json:
    """The business did not want its history to be shared."""
    fault = {
        "code": 2593109,
        "title": "History sync is turned off by the business from the WhatsApp Business App",
        "message": "History sync is turned off by the business from the WhatsApp Business App",
        "error_data": {"details": "History sharing is turned off by the business"},
    }
    return change(number, "history", _of(number) | {"history": [{"errors": [fault]}]})


def history_media(number: Number, person: Person, past: Past) -> Json:
    """The file of a message of the history, which was a placeholder until now."""
    return change(number, "history", _of(number) | {"messages": [_past(number, person, past)]})


def placeholder() -> Json:
    """A message of the history whose file comes later, if at all."""
    return {"type": "media_placeholder"}


def call(
    number: Number,
    person: Person,
    *,
    call_id: str,
    event: Literal["connect", "terminate"],
    at: float,
    duration: int | None = None,
    status: str | None = None,
) -> Json:
    """A customer calls (`connect`), or their call has ended (`terminate`)."""
    fields = {
        "id": call_id,
        "from": digits(person.phone),
        "from_user_id": person.user_id,
        "to": digits(number.e164),
        "event": event,
        "timestamp": str(int(at)),
        "direction": "USER_INITIATED",
        "session": {"sdp_type": "offer", "sdp": "v=0 simulated"} if event == "connect" else None,
        "status": status,
        "start_time": None if duration is None else str(int(at) - duration),
        "end_time": None if duration is None else str(int(at)),
        "duration": duration,
    }
    return change(number, "calls", _about(number, person) | {"calls": [present(fields)]})


def user_id_update(number: Number, old: Person, new: Person, *, at: float) -> Json:
    """A customer's business-scoped id changed."""
    parents = {"previous": old.parent_user_id, "current": new.parent_user_id}
    fields = {
        "wa_id": digits(new.phone),
        "detail": "User id for User has been updated.",
        "timestamp": str(int(at)),
        "user_id": {"previous": old.user_id, "current": new.user_id},
        "parent_user_id": parents if all(parents.values()) else None,
    }
    return change(number, "user_id_update", _about(number, new) | {"user_id_update": [present(fields)]})


def _of(number: Number) -> Json:
    return {"messaging_product": "whatsapp", "metadata": metadata(number)}


def _about(number: Number, person: Person) -> Json:
    return _of(number) | {"contacts": [contact(person)]}


def _context(person: Person) -> Json | None:
    return present({"wa_id": digits(person.phone), "user_id": person.user_id, "username": person.username}) or None


def _past(number: Number, person: Person, past: Past) -> Json:
    if past.by_business:
        who = {"from": digits(number.e164), "to": digits(person.phone), "to_user_id": person.user_id}
    else:
        who = {"from": digits(person.phone), "from_user_id": person.user_id}
    fields = {**who, "id": past.message_id, "timestamp": str(int(past.at))}
    return present(fields) | dict(past.content) | {"history_context": {"status": past.status}}
