"""From the field `history` to items: what the phone app had written and read before the number was connected.

A chunk holds threads of messages; each message becomes an item by itself, under the key it has or had as a live one or
as an echo (rule B4). Files come later, in webhooks of the same field: they are filled into the messages they belong to.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from providers.base import Customer, Item, MessageReceived, Status
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.content import add_surroundings, read_content
from providers.whatsapp_cloud.people import SUBJECT, customer_of
from providers.whatsapp_cloud.values import as_dict, digits_of, dumps, errors_of, ident, text_of, unix_time

_DECLINED: Final = "2593109"
_PLACEHOLDER: Final = "media_placeholder"
_STATUSES: Final[dict[str, Status]] = {
    "pending": "sending",
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",
    "error": "failed",
    "failed": "failed",
}


def split_history(chunk: Any) -> Iterator[Any]:
    """A chunk in chunks of one message each; one that has none as it is."""
    threads = chunk.get("threads") if isinstance(chunk, dict) else None
    if not isinstance(threads, list) or not threads:
        yield chunk
        return
    around = {name: part for name, part in chunk.items() if name not in ("threads", "errors")}
    for thread in threads:
        messages = thread.get("messages") if isinstance(thread, dict) else None
        if not isinstance(messages, list):
            yield {**around, "threads": [thread]}
            continue
        for message in messages:
            yield {**around, "threads": [{**thread, "messages": [message]}]}
    if chunk.get("errors"):
        yield {**around, "errors": chunk["errors"]}


def read_history(chunk: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """One message of a thread; or why there are none."""
    if chunk.get("errors"):
        return _read_errors(chunk, change)
    threads = chunk.get("threads")
    if not threads and isinstance(chunk.get("metadata"), dict):
        return change.unparsed("not_needed", "progress of history", "history", chunk, is_note=True)
    thread = as_dict(threads[0]) if isinstance(threads, list) and threads else {}
    messages = thread.get("messages")
    message = messages[0] if isinstance(messages, list) and messages else None
    if not isinstance(message, dict):
        is_empty = isinstance(messages, list) and not messages
        reason = "not_needed" if is_empty else "unexpected_shape"
        return change.unparsed(reason, "history", "history", chunk, is_note=is_empty)
    return _read_message(message, thread, change, is_cleaned)


def read_history_media(message: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """The file of a message that came without it before."""
    target = ident(message.get("id"))
    kind = text_of(message.get("type")) or ""
    content = read_content(kind, message) if target else None
    if content is None:
        return change.unparsed("unexpected_shape", "messages", "messages", message)
    add_surroundings(message, content)
    is_ours = _is_ours(message, {}, change)
    return MessageReceived(
        key=f"meta:history:{target}",
        sender=change.sender,
        customer=_customer(message, {}, change, is_ours=is_ours),
        provider_id=target,
        at=unix_time(message.get("timestamp")),
        type=kind,
        content=content,
        origin="echo" if is_ours else "customer",
        cleaned=is_cleaned,
        opens_window=False,
        is_history=True,
        status="sent" if is_ours else None,
    )


def _read_message(message: dict[str, Any], thread: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    provider_id = ident(message.get("id"))
    is_ours = _is_ours(message, thread, change)
    kind = text_of(message.get("type")) or ""
    content, raw = {} if kind == _PLACEHOLDER else read_content(kind, message), None
    if content is None:
        kind, content, raw = "unsupported", {}, dumps(message).decode()
    add_surroundings(message, content)
    word = text_of(as_dict(message.get("history_context")).get("status")) or ""
    return MessageReceived(
        key=f"meta:message:{provider_id}" if provider_id else change.item_key(message),
        sender=change.sender,
        customer=_customer(message, thread, change, is_ours=is_ours),
        provider_id=provider_id,
        at=unix_time(message.get("timestamp")),
        type=kind,
        content=content,
        origin="echo" if is_ours else "customer",
        raw=raw,
        cleaned=is_cleaned,
        opens_window=False,
        is_history=True,
        status=_STATUSES.get(word.lower(), "sent") if is_ours else None,
    )


def _read_errors(chunk: dict[str, Any], change: Change) -> Item:
    """That somebody chose not to share their history is for nobody to look at."""
    errors = errors_of(chunk["errors"])
    if any(error["code"] == _DECLINED for error in errors):
        return change.unparsed("not_needed", "history was not shared", "history", chunk, is_note=True)
    detail = " ".join(str(errors[0][name]) for name in ("code", "title", "detail") if errors[0][name])
    return change.unparsed("provider_error", detail, "history", chunk)


def _is_ours(message: dict[str, Any], thread: dict[str, Any], change: Change) -> bool:
    """Whether the business wrote it. What it sent has a recipient, too; the thread has the customer's number."""
    told = as_dict(message.get("history_context")).get("from_me")
    if isinstance(told, bool):
        return told
    author = digits_of(message.get("from"))
    if author and author in (change.business, digits_of(thread.get("id"))):
        return author == change.business
    return bool(message.get("to") or message.get("to_user_id"))


def _customer(message: dict[str, Any], thread: dict[str, Any], change: Change, *, is_ours: bool) -> Customer:
    side = "to" if is_ours else "from"
    context = as_dict(thread.get("context"))
    told = {
        "wa_id": message.get(side) or context.get("wa_id") or thread.get("id"),
        "user_id": message.get(f"{side}_user_id") or context.get("user_id"),
        "parent_user_id": message.get(f"{side}_parent_user_id") or context.get("parent_user_id"),
    }
    customer = customer_of(told, SUBJECT, change.contacts)
    return replace(customer, username=customer.username or text_of(context.get("username")) or None)
