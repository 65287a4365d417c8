"""Who is at the other end of an item: the address in it, and the contact that goes with that address."""

from typing import Any, Final

from providers.base import Customer
from providers.whatsapp_cloud.values import as_dict, ident, phone_of, text_of

Role = tuple[str, str, str]
"""The fields that name the customer: address, business-scoped id, parent id."""

SENDER: Final[Role] = ("from", "from_user_id", "from_parent_user_id")
RECEIVER: Final[Role] = ("to", "to_user_id", "to_parent_user_id")
RECIPIENT: Final[Role] = ("recipient_id", "recipient_user_id", "recipient_parent_user_id")
SUBJECT: Final[Role] = ("wa_id", "user_id", "parent_user_id")

_ONLY: Final = ""


def index_contacts(contacts: Any) -> dict[str, dict[str, Any]]:
    """A change's contacts by wa_id and by user_id, never by place; one that stands alone also under no name."""
    known = [contact for contact in contacts if isinstance(contact, dict)] if isinstance(contacts, list) else []
    index: dict[str, dict[str, Any]] = {}
    for contact in known:
        for name in ("wa_id", "user_id"):
            value = ident(contact.get(name))
            if value is not None:
                index.setdefault(value.removeprefix("+"), contact)
    if len(known) == 1:
        index[_ONLY] = known[0]
    return index


def customer_of(item: dict[str, Any], role: Role, contacts: dict[str, dict[str, Any]]) -> Customer:
    """The customer of an item. Phones are kept as reported; what is no phone number is a `sender_id`."""
    address, user_id = ident(item.get(role[0])), ident(item.get(role[1]))
    contact = _find(address, user_id, contacts)
    address = address or ident(contact.get("wa_id"))
    phone = phone_of(address) if address else None
    profile = as_dict(contact.get("profile"))
    return Customer(
        phone=phone,
        user_id=user_id or ident(contact.get("user_id")),
        parent_user_id=ident(item.get(role[2])) or ident(contact.get("parent_user_id")),
        username=text_of(profile.get("username")) or text_of(contact.get("username")) or None,
        sender_id=None if phone else address,
        name=text_of(profile.get("name")) or None,
    )


def contacts_of(item: Any, contacts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The contacts that an item names, in whichever role."""
    names = [ident(as_dict(item).get(name)) for role in (SENDER, RECEIVER, RECIPIENT, SUBJECT) for name in role[:2]]
    found = [contacts.get(name.removeprefix("+")) for name in names if name]
    return list({id(contact): contact for contact in found if contact}.values())


def _find(address: str | None, user_id: str | None, contacts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if address is None and user_id is None:
        return contacts.get(_ONLY, {})
    found = contacts.get(user_id) if user_id else None
    if found is None and address:
        found = contacts.get(address.removeprefix("+"))
    return found or {}
