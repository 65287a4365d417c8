"""From news of a changed number or id to an item: system messages, and the field `user_id_update`."""

from typing import Any, Final

from providers.base import Customer, IdentityChanged, Item
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.people import SENDER, SUBJECT, customer_of
from providers.whatsapp_cloud.values import as_dict, ident, text_of, unix_time

_CHANGED: Final = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})
"""Types of system messages that tell of a new number or id; `customer_identity_changed` is about encryption keys."""


def system_customer(system: dict[str, Any]) -> Customer:
    """Whom a system message is about: the identity known so far, before the change of number or id it tells of."""
    user_id = ident(system.get("previous_user_id")) or ident(system.get("user_id"))
    known = {"from": system.get("customer") or (None if user_id else _new_number(system)), "from_user_id": user_id}
    return customer_of(known, SENDER, {})


def read_system_change(message: dict[str, Any], change: Change, is_cleaned: bool) -> IdentityChanged | None:
    """A system message of a changed number or id; None where it does not tell both who it was and what is new."""
    system = as_dict(message.get("system"))
    if text_of(system.get("type")) not in _CHANGED:
        return None
    old = {
        "from": system.get("customer") or message.get("from"),
        "from_user_id": system.get("previous_user_id") or message.get("from_user_id"),
        "from_parent_user_id": system.get("previous_parent_user_id") or message.get("from_parent_user_id"),
    }
    new = {"wa_id": _new_number(system), **{name: system.get(name) for name in ("user_id", "parent_user_id")}}
    found = _changed(customer_of(old, SENDER, change.contacts), customer_of(new, SUBJECT, {}))
    provider_id = ident(message.get("id"))
    if found is None:
        return None
    return IdentityChanged(
        f"meta:message:{provider_id}" if provider_id else change.item_key(message), change.sender, *found, provider_id,
        unix_time(message.get("timestamp")), {"system": system}, is_cleaned,
    )  # fmt: skip


def read_user_id_update(update: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A customer's business-scoped id was replaced; the number, where it is told, is still theirs."""
    ids, parents = as_dict(update.get("user_id")), as_dict(update.get("parent_user_id"))
    old = {"wa_id": update.get("wa_id"), "user_id": ids.get("previous"), "parent_user_id": parents.get("previous")}
    new = {"user_id": ids.get("current"), "parent_user_id": parents.get("current")}
    found = _changed(customer_of(old, SUBJECT, change.contacts), customer_of(new, SUBJECT, {}))
    if found is None:
        return change.unparsed("unexpected_shape", "user_id_update", "user_id_update", update)
    told = {"body": text_of(update.get("detail")), "previous_user_id": found[0].user_id, "user_id": found[1].user_id}
    system = {"type": "user_changed_user_id"} | {name: value for name, value in told.items() if value}
    return IdentityChanged(
        change.item_key(update), change.sender, *found, None, unix_time(update.get("timestamp")), {"system": system},
        is_cleaned,
    )  # fmt: skip


def _new_number(system: dict[str, Any]) -> Any:
    return system.get("wa_id") or system.get("new_wa_id")


def _changed(old: Customer, new: Customer) -> tuple[Customer, Customer] | None:
    """Who it was, and what is new of them: not what is told again."""
    fresh = Customer(
        phone=new.phone if new.phone != old.phone else None,
        user_id=new.user_id if new.user_id != old.user_id else None,
        parent_user_id=new.parent_user_id if new.parent_user_id != old.parent_user_id else None,
        sender_id=new.sender_id if new.sender_id != old.sender_id else None,
    )
    return (old, fresh) if old.is_known and fresh.is_known else None
