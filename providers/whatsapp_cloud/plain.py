"""The common case: a body that holds one text message and nothing else, read at a third of the price.

Whatever is not exactly of this shape is left to the parser for everything, which would give the same item.
"""

from functools import lru_cache
from typing import Any, Final

from providers.base import Customer, MessageReceived, SenderRef
from providers.whatsapp_cloud.people import SENDER, customer_of, index_contacts
from providers.whatsapp_cloud.values import phone_of, unix_time

_VALUE: Final = frozenset({"messaging_product", "metadata", "contacts", "messages"})
_MESSAGE: Final = frozenset({"from", "id", "timestamp", "type", "text", "from_user_id", "from_parent_user_id"})


def read_plain(document: Any) -> MessageReceived | None:
    """The message, if there is just one and it is a text with nothing around it; None for anything else.

    Only for documents that need no care (see `values.load`).
    """
    try:
        (entry,) = document["entry"]
        (change,) = entry["changes"]
        value = change["value"]
        (message,) = value["messages"]
        sender, provider_id, timestamp, text = (
            value["metadata"]["phone_number_id"], message["id"], message["timestamp"], message["text"]["body"],
        )  # fmt: skip
        account = entry.get("id") or ""
        "".join((sender, provider_id, timestamp, text, message["from"], account))  # raises where one is no text
        is_plain = change["field"] == "messages" and message["type"] == "text" and sender and provider_id
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if not is_plain or value.keys() != _VALUE or not message.keys() <= _MESSAGE:
        return None
    return MessageReceived(
        f"meta:message:{provider_id}",
        _sender(sender, account),
        _customer(message, value["contacts"]),
        provider_id,
        _time(timestamp),
        "text",
        {"text": text},
    )


def _customer(message: dict[str, Any], contacts: Any) -> Customer:
    """Who wrote it: most are told by a phone and a name, and nothing else."""
    try:
        (contact,) = contacts
        profile, phone = contact["profile"], message["from"]
        is_plain = len(message) == 5 and contact["wa_id"] == phone and len(contact) == 2 and len(profile) == 1
        name = profile["name"]
    except (KeyError, TypeError, ValueError):
        is_plain = False
    if is_plain and type(name) is str and (known := _known(phone, name)):
        return known
    return customer_of(message, SENDER, index_contacts(contacts))


# Values that come again and again: who writes does so more than once.


@lru_cache(256)
def _sender(number_id: str, account: str) -> SenderRef:
    return SenderRef("meta", "whatsapp", (number_id,), account or None)


@lru_cache(4096)
def _known(address: str, name: str) -> Customer | None:
    phone = phone_of(address)
    return Customer(phone=phone, name=name) if phone and name else None


_time = lru_cache(256)(unix_time)
