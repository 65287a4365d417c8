"""One change of a batch: what its items share, and how to keep one item by itself (rules B2, B5)."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from providers.base import AccountRef, SenderRef, Unparsed
from providers.whatsapp_cloud.people import contacts_of, index_contacts
from providers.whatsapp_cloud.values import (
    MAX_DEPTH,
    as_dict,
    canonical,
    digits_of,
    dumps,
    ident,
    is_deeper,
    moment,
    phone_of,
    settle,
    text_of,
)

FRAME: Final = frozenset({"messaging_product", "metadata", "contacts"})
"""The parts of a change's value that are about its items and are none themselves."""
ITEMS: Final = frozenset(
    {"messages", "statuses", "errors", "message_echoes", "history", "calls"}
    | {"user_preferences", "user_id_update", "messaging_handovers"}
)
"""The parts that are lists of items, or should have been."""
OTHERWISE_NAMED: Final = frozenset({"messaging_handovers"})
"""Fields whose values name the business's number as their `recipient`."""


@dataclass(frozen=True, slots=True)
class Change:
    """One element of `entry[].changes[]`, ready to be read item by item.

    `number_id` is Meta's phone_number_id, `business` the digits of the number itself, `time` when Meta made the
    webhook, in unix seconds. `body` is the whole webhook, for what cannot be taken out of it. `is_cleaned`: something
    was taken out of a text that all items share.
    """

    entry_id: Any
    time: float | None
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
        value = {k: part for k, part in self.value.items() if k in FRAME or not (isinstance(part, list) or k in ITEMS)}
        if isinstance(value.get("contacts"), list) and len(value["contacts"]) > 1:
            value["contacts"] = contacts_of(element, self.contacts)  # all of them would grow with the square
        value[name] = [element]
        return self._wrap(value)

    def whole(self) -> bytes:
        """A body that holds only this change."""
        return self._wrap(self.value)

    def _wrap(self, value: dict[str, Any]) -> bytes:
        time = {"time": self.time} if self.time is not None else {}
        return wrap({"id": self.entry_id, **time, "changes": [{"field": self.field, "value": value}]}, self.body)

    def item_key(self, item: dict[str, Any]) -> str:
        """The key of an item without an id (rule B4)."""
        return f"meta:sha256:{_digest(self.number_id, self.field, canonical(item))}"

    def notice_key(self, value: dict[str, Any]) -> str:
        """The key of a notice: two that say the same are two if Meta made them at two times."""
        account, time = self.sender.account or "", str(self.time)
        return f"meta:sha256:{_digest(account, self.number_id, self.field, time, canonical(value))}"

    def account_ref(self, value: dict[str, Any]) -> AccountRef:
        """Which of the business's senders a notice is about."""
        digits = digits_of(value.get("display_phone_number")) or self.business
        phone = phone_of(digits) if digits else None
        return AccountRef("meta", self.sender.account, self.number_id or None, phone)

    def unparsed(self, reason: str, detail: str, name: str, element: Any, *, is_note: bool = False) -> Unparsed:
        """This element is kept. The key is the same for an element that is sent again in another batch."""
        try:
            content = canonical(element)
        except (ValueError, RecursionError):
            content = self.body
        key = _digest(reason, self.number_id, self.field, name, content)
        raw = self.envelope(name, element) if name else self.whole()
        return Unparsed(f"meta:quarantine:{key}", reason, _short(detail), raw, is_note)


def open_change(entry: dict[str, Any], change: dict[str, Any], body: bytes, *, needs_care: bool) -> Change:
    """Read what the items of a change share. Its value must be an object."""
    named = change.get("field")
    field = "messages" if named is None else text_of(named) or ""
    value = change["value"]
    if field == "standby" and isinstance(value.get("standby"), dict):
        # Meta nests what its own agent handles one level deeper; the metadata stays outside.
        value = {name: part for name, part in value.items() if name != "standby"} | value["standby"]
    metadata = value.get("metadata")
    if field in OTHERWISE_NAMED and not isinstance(metadata, dict):
        metadata = value.get("recipient")
    entry_id = entry.get("id")
    shared = settled = [metadata, value.get("contacts")]
    account = ident(entry_id)
    if needs_care:
        settled = [None if is_deeper(part, MAX_DEPTH) else settle(part) for part in shared]
        account = settle(account) or None
    metadata, contacts = as_dict(settled[0]), settled[1]
    number_id = ident(metadata.get("phone_number_id"))
    return Change(
        entry_id=entry_id,
        time=moment(entry.get("time")),
        field=field,
        value=value,
        number_id=number_id or "",
        business=digits_of(metadata.get("display_phone_number")),
        sender=SenderRef("meta", "whatsapp", (number_id,) if number_id else (), account),
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
