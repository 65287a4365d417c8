"""From an element of `messages` or `message_echoes` to an item."""

from collections.abc import Callable
from typing import Any, Final

from providers.base import Item, MessageDeleted, MessageEdited, MessageReceived, Origin, ReactionChanged
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.content import add_surroundings, read_content
from providers.whatsapp_cloud.identities import read_system_change, system_customer
from providers.whatsapp_cloud.people import RECEIVER, SENDER, Role, customer_of
from providers.whatsapp_cloud.values import as_dict, dumps, ident, text_of, unix_time

Head = dict[str, Any]
"""The fields that all items made of a message share."""


def read_message(message: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A message of a customer; or Meta's own, that a customer has another number or id."""
    return _read(message, change, SENDER, "customer", is_cleaned)


def read_echo(message: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A message that the business sent from the phone app."""
    return _read(message, change, RECEIVER, "echo", is_cleaned)


def read_standby(message: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A message in a conversation that Meta's own agent holds; `sent_by` tells whose it is."""
    author = ident(message.get("from"))
    if author and author.removeprefix("+") == change.business:
        return read_standby_echo(message, change, is_cleaned)
    return _marked(_read(message, change, SENDER, "external", is_cleaned), "customer")


def read_standby_echo(echo: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A message of Meta's own agent. Its echo holds the request that was sent, one level deeper."""
    request = echo.get("message")
    message = request | echo if isinstance(request, dict) else echo
    if "recipient" in message:
        message = {"to_user_id": message["recipient"]} | message
    return _marked(_read(message, change, RECEIVER, "external", is_cleaned), "business")


def _marked(item: Item, author: str) -> Item:
    if isinstance(item, MessageReceived | MessageEdited):
        item.content["sent_by"] = author
    return item


def _read(message: dict[str, Any], change: Change, role: Role, origin: Origin, is_cleaned: bool) -> Item:
    provider_id = ident(message.get("id"))
    named = message.get("type")
    kind = named if isinstance(named, str) else ""
    head: Head = {
        "key": f"meta:message:{provider_id}" if provider_id else change.item_key(message),
        "sender": change.sender,
        "customer": customer_of(message, role, change.contacts),
        "at": unix_time(message.get("timestamp")),
        "origin": origin,
        "cleaned": is_cleaned,
    }
    if _is_of_group(message):
        if role is RECEIVER:  # sent to the group: there is no customer whose conversation it belongs to
            return change.unparsed("not_needed", "sent to a group", "message_echoes", message, is_note=True)
        return _received("group", message, provider_id, head)
    if kind == "system" and role is SENDER and (news := read_system_change(message, change, is_cleaned)):
        return news
    if kind in _CHANGES:
        changed = _CHANGES[kind](as_dict(message.get(kind)), head)
        return changed if changed is not None else _received("", message, provider_id, head)
    if kind == "system" and not head["customer"].is_known:
        head["customer"] = system_customer(as_dict(message.get("system")))
    return _received(kind, message, provider_id, head)


def _received(kind: str, message: dict[str, Any], provider_id: str | None, head: Head) -> MessageReceived:
    content, raw = read_content(kind, message), None
    if content is None:
        kind, content, raw = "unsupported", {}, dumps(message).decode()
    add_surroundings(message, content)
    return MessageReceived(
        **head, provider_id=provider_id, type=kind, content=content, raw=raw,
        opens_window=message.get("type") != "system" and not _is_of_group(message),
    )  # fmt: skip


def _is_of_group(message: dict[str, Any]) -> bool:
    return bool(message.get("group_id")) or message.get("recipient_type") == "group"


def _reaction(body: dict[str, Any], head: Head) -> Item | None:
    """A reaction; without an emoji it was taken back."""
    return ReactionChanged(**head, target_id=ident(body.get("message_id")), emoji=text_of(body.get("emoji")) or None)


def _edit(body: dict[str, Any], head: Head) -> Item | None:
    """New content for an earlier message, as `edit.message`, or in `edit` itself."""
    target, inner = ident(body.get("original_message_id")), body.get("message")
    edited = inner if isinstance(inner, dict) else body
    kind = text_of(edited.get("type")) or next((name for name in _EDITABLE if name in edited), "")
    content = read_content(kind, edited)
    if target is None or content is None:
        return None
    add_surroundings(edited, content)
    return MessageEdited(**head, target_id=target, content=content)


def _revoke(body: dict[str, Any], head: Head) -> Item | None:
    target = ident(body.get("original_message_id"))
    return MessageDeleted(**head, target_id=target) if target else None


_EDITABLE: Final = ("text", "image", "video", "document", "audio")
_CHANGES: Final[dict[str, Callable[[dict[str, Any], Head], Item | None]]] = {
    "reaction": _reaction,
    "edit": _edit,
    "revoke": _revoke,
}
