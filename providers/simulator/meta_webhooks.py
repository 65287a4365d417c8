"""Bodies as Meta's Cloud API posts them.

https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/components. The first functions build the `content`
of a message; `message` puts it in its envelope, `batch` puts messages and statuses into one body.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from providers.simulator.ledger import Number, Person

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a batch: a message of `person`, or a status (then `person` is None)."""

    number: Number
    item: Json
    person: Person | None = None


def text(body: str) -> Json:
    """A text message."""
    return {"type": "text", "text": {"body": body}}


def media(
    kind: str,
    media_id: str,
    mime_type: str,
    *,
    caption: str | None = None,
    filename: str | None = None,
    sha256: str = "c2ltdWxhdGVk",
    voice: bool | None = None,
) -> Json:
    """An image, video, audio, document or sticker (`kind`); `sha256` as Meta writes it, in base64."""
    fields = {
        "id": media_id,
        "mime_type": mime_type,
        "sha256": sha256,
        "caption": caption,
        "filename": filename,
        "voice": voice,
    }
    return {"type": kind, kind: present(fields)}


def location(latitude: float, longitude: float, *, name: str | None = None, address: str | None = None) -> Json:
    """A place."""
    fields = {"latitude": latitude, "longitude": longitude, "name": name, "address": address}
    return {"type": "location", "location": present(fields)}


def contacts(name: str, phone: str) -> Json:
    """A contact card."""
    card = {
        "name": {"formatted_name": name, "first_name": name.split(" ", maxsplit=1)[0]},
        "phones": [{"phone": phone, "wa_id": phone.lstrip("+"), "type": "CELL"}],
    }
    return {"type": "contacts", "contacts": [card]}


def button(label: str, payload: str) -> Json:
    """A tap on a template's quick-reply button."""
    return {"type": "button", "button": {"text": label, "payload": payload}}


def button_reply(reply_id: str, title: str) -> Json:
    """A tap on an interactive message's button."""
    reply = {"id": reply_id, "title": title}
    return {"type": "interactive", "interactive": {"type": "button_reply", "button_reply": reply}}


def list_reply(reply_id: str, title: str, description: str = "") -> Json:
    """A choice from an interactive list."""
    reply = {"id": reply_id, "title": title, "description": description}
    return {"type": "interactive", "interactive": {"type": "list_reply", "list_reply": reply}}


def flow_reply(response: Mapping[str, Any]) -> Json:
    """An answered flow."""
    reply = {"name": "flow", "body": "Sent", "response_json": json.dumps(response)}
    return {"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": reply}}


def order(catalog_id: str, products: Mapping[str, int], *, note: str = "") -> Json:
    """A shopping cart: product id -> quantity."""
    items = [
        {"product_retailer_id": product, "quantity": quantity, "item_price": 10.5, "currency": "USD"}
        for product, quantity in products.items()
    ]
    return {"type": "order", "order": {"catalog_id": catalog_id, "text": note, "product_items": items}}


def reaction(target: str, emoji: str | None) -> Json:
    """A reaction to the message `target`; None takes it away, and the key is then absent."""
    return {"type": "reaction", "reaction": present({"message_id": target, "emoji": emoji})}


def edit(target: str, content: Mapping[str, Any]) -> Json:
    """New content of the customer's own message `target`."""
    return {"type": "edit", "edit": {"original_message_id": target, "message": dict(content)}}


def revoke(target: str) -> Json:
    """The customer deleted their message `target`."""
    return {"type": "revoke", "revoke": {"original_message_id": target}}


def unsupported() -> Json:
    """Something Meta cannot hand on, such as a poll."""
    fault = {
        "code": 131051,
        "title": "Message type unknown",
        "message": "Message type unknown",
        "error_data": {"details": "Message type is currently not supported."},
    }
    return {"type": "unsupported", "errors": [fault]}


def request_welcome() -> Json:
    """The customer opened the chat for the first time, and wrote nothing yet."""
    return {"type": "request_welcome"}


def from_ad(content: Mapping[str, Any], *, source_id: str, url: str, headline: str = "Our shoes") -> Json:
    """The same content, of a customer who came over an advertisement."""
    referral = {
        "source_url": url,
        "source_id": source_id,
        "source_type": "ad",
        "headline": headline,
        "body": "Have a look",
        "media_type": "image",
        "image_url": "https://example.com/ad.jpg",
        "ctwa_clid": f"ctwa-{source_id}",
    }
    return {**content, "referral": referral}


def changed_number(old: Person, new: Person) -> Json:
    """A customer goes on with another number; the message still comes from the old one."""
    fields = {
        "body": f"User {old.name or ''} changed from {digits(old.phone)} to {digits(new.phone)}",
        "wa_id": digits(new.phone),
        "user_id": new.user_id,
        "parent_user_id": new.parent_user_id,
        "type": "user_changed_number",
    }
    return {"type": "system", "system": present(fields)}


def changed_user_id(old: Person, new: Person) -> Json:
    """A customer has another business-scoped id."""
    fields = {
        "body": f"User {old.name or ''} changed their id",
        "type": "user_changed_user_id",
        "previous_user_id": old.user_id,
        "user_id": new.user_id,
        "previous_parent_user_id": old.parent_user_id,
        "parent_user_id": new.parent_user_id,
    }
    return {"type": "system", "system": present(fields)}


def message(
    person: Person,
    content: Mapping[str, Any],
    *,
    message_id: str,
    at: float,
    reply_to: tuple[str, str] | None = None,
    group_id: str | None = None,
    forwarded: bool = False,
) -> Json:
    """A message in its envelope; `reply_to` is the quoted message's author (digits) and id."""
    context: Json = {"from": reply_to[0], "id": reply_to[1]} if reply_to else {}
    if forwarded:
        context["forwarded"] = True
    fields = {
        "from": digits(person.phone),
        "from_user_id": person.user_id,
        "from_parent_user_id": person.parent_user_id,
        "id": message_id,
        "timestamp": str(int(at)),
        "group_id": group_id,
        "context": context or None,
    }
    return {**present(fields), **content}


def status(
    name: str, *, message_id: str, to: str, at: float, hub_id: str | None = None, error_code: int | None = None
) -> Json:
    """A status of a message sent to `to` (E.164 or business-scoped id); `error_code` goes with `failed`."""
    fields = {
        "id": message_id,
        "status": name,
        "timestamp": str(int(at)),
        "recipient_id": digits(to) if to.startswith("+") else None,
        "recipient_user_id": None if to.startswith("+") else to,
        "biz_opaque_callback_data": hub_id,
        "pricing": _PRICING if name in ("sent", "delivered") else None,
        "errors": [_error(error_code)] if error_code is not None else None,
    }
    return present(fields)


def user_preferences(person: Person, number: Number, value: Literal["stop", "resume"], at: float) -> Json:
    """One body: a customer stopped or resumed the marketing messages of a number."""
    fields = {
        "wa_id": digits(person.phone),
        "user_id": person.user_id,
        "parent_user_id": person.parent_user_id,
        "detail": f"User requested to {value} marketing messages",
        "category": "marketing_messages",
        "value": value,
        "timestamp": int(at),
    }
    content = {
        "messaging_product": "whatsapp",
        "metadata": metadata(number),
        "contacts": [contact(person)],
        "user_preferences": [present(fields)],
    }
    change = {"value": content, "field": "user_preferences"}
    return {"object": "whatsapp_business_account", "entry": [{"id": number.waba_id, "changes": [change]}]}


def batch(entries: Iterable[Entry]) -> Json:
    """One body: an entry for each business account, in it a change for each number."""
    grouped: dict[str, dict[Number, list[Entry]]] = {}
    for entry in entries:
        grouped.setdefault(entry.number.waba_id, {}).setdefault(entry.number, []).append(entry)
    return {
        "object": "whatsapp_business_account",
        "entry": [
            {"id": waba_id, "changes": [_change(number, items) for number, items in numbers.items()]}
            for waba_id, numbers in grouped.items()
        ],
    }


def encode(body: Mapping[str, Any]) -> bytes:
    """The bytes Meta posts: ASCII only, slashes escaped."""
    return json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode()


_PRICING = {"billable": True, "pricing_model": "PMP", "category": "service", "type": "regular"}


def _change(number: Number, entries: Sequence[Entry]) -> Json:
    people = dict.fromkeys(entry.person for entry in entries if entry.person is not None)
    value = {
        "messaging_product": "whatsapp",
        "metadata": metadata(number),
        "contacts": [contact(person) for person in people],
        "messages": [entry.item for entry in entries if entry.person is not None],
        "statuses": [entry.item for entry in entries if entry.person is None],
    }
    return {"value": {name: part for name, part in value.items() if part}, "field": "messages"}


def metadata(number: Number) -> Json:
    """The number, as every item names it."""
    return {"display_phone_number": digits(number.e164), "phone_number_id": number.phone_number_id}


def contact(person: Person) -> Json:
    """The profile of a customer."""
    fields = {
        "profile": present({"name": person.name, "username": person.username}),
        "wa_id": digits(person.phone),
        "user_id": person.user_id,
        "parent_user_id": person.parent_user_id,
    }
    return present(fields)


def _error(code: int) -> Json:
    return {
        "code": code,
        "title": "Message failed",
        "message": "Message failed",
        "error_data": {"details": "The message could not be delivered."},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }


def digits(phone: str | None) -> str | None:
    """A number as Meta writes it."""
    return None if phone is None else phone.removeprefix("+")


def present(fields: Mapping[str, Any]) -> Json:
    """Without what is not known."""
    return {name: value for name, value in fields.items() if value is not None}
