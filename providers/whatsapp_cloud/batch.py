"""One change of a batch: what its items share, and how to keep one item by itself (rules B2, B5)."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from providers.base import SenderRef, Unparsed
from providers.whatsapp_cloud.people import contacts_of, index_contacts
from providers.whatsapp_cloud.values import MAX_DEPTH, as_dict, canonical, dumps, ident, is_deeper, settle, text_of

FRAME: Final = frozenset({"messaging_product", "metadata", "contacts"})
"""The parts of a change's value that are about its items and are none themselves."""


@dataclass(frozen=True, slots=True)
class Change:
    """One element of `entry[].changes[]`, ready to be read item by item.

    `number_id` is Meta's phone_number_id, `business` the digits of the number itself. `body` is the whole webhook,
    for what cannot be taken out of it. `is_cleaned`: something was taken out of a text that all items share.
    """

    entry_id: Any
    field: str
    value: dict[str, Any]
    number_id: str
    business: str | None
    sender: SenderRef
    contacts: dict[str, dict[str, Any]]
    body: bytes
    needs_care: bool
    is_cleaned: bool

    def envelope(self, name: str, element: Any) -> bytes:
        """A body that holds only this element; the whole body where it cannot be written by itself."""
        value = {key: part for key, part in self.value.items() if key in FRAME or not isinstance(part, list)}
        if isinstance(value.get("contacts"), list) and len(value["contacts"]) > 1:
            value["contacts"] = contacts_of(element, self.contacts)  # all of them would grow with the square
        value[name] = [element]
        entry = {"id": self.entry_id, "changes": [{"field": self.field, "value": value}]}
        return wrap(entry, self.body)

    def item_key(self, item: dict[str, Any]) -> str:
        """The key of an item without an id (rule B4)."""
        return f"meta:sha256:{_digest(self.number_id, self.field, canonical(item))}"

    def unparsed(self, reason: str, detail: str, name: str, element: Any) -> Unparsed:
        """This element is kept. The key is the same for an element that is sent again in another batch."""
        try:
            content = canonical(element)
        except (ValueError, RecursionError):
            content = self.body
        key = _digest(reason, self.number_id, self.field, name, content)
        return Unparsed(f"meta:quarantine:{key}", reason, _short(detail), self.envelope(name, element))


def open_change(entry_id: Any, change: dict[str, Any], body: bytes, *, needs_care: bool) -> Change:
    """Read what the items of a change share. Its value must be an object."""
    named = change.get("field")
    field = "messages" if named is None else text_of(named) or ""
    value = change["value"]
    if field == "standby" and isinstance(value.get("standby"), dict):
        # Meta nests what its own agent handles one level deeper; the metadata stays outside.
        value = {name: part for name, part in value.items() if name != "standby"} | value["standby"]
    shared = settled = [value.get("metadata"), value.get("contacts")]
    if needs_care:
        settled = [None if is_deeper(part, MAX_DEPTH) else settle(part) for part in shared]
    metadata, contacts = as_dict(settled[0]), settled[1]
    number_id = ident(metadata.get("phone_number_id"))
    business = ident(metadata.get("display_phone_number"))
    return Change(
        entry_id=entry_id,
        field=field,
        value=value,
        number_id=number_id or "",
        business=business.removeprefix("+") if business else None,
        sender=SenderRef("meta", "whatsapp", (number_id,) if number_id else ()),
        contacts=index_contacts(contacts),
        body=body,
        needs_care=needs_care,
        is_cleaned=settled != shared,
    )


def wrap(entry: Any, body: bytes) -> bytes:
    """A webhook with this one entry; `body` where it cannot be written."""
    try:
        return dumps({"object": "whatsapp_business_account", "entry": [entry]})
    except (ValueError, RecursionError):
        return body


def unparsed_bytes(reason: str, detail: str, raw: bytes, *, is_note: bool = False) -> Unparsed:
    """Bytes that are kept as they are."""
    return Unparsed(f"meta:quarantine:{_digest(reason, raw)}", reason, _short(detail), raw, is_note)


def _short(detail: str) -> str:
    text: str = settle(detail[:500])
    return text


def _digest(*parts: str | bytes) -> str:
    whole = b"\0".join(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(whole).hexdigest()
