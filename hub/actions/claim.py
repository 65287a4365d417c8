"""Verb: claim a queued message for its provider, judging it again (rules E2, E4, E5, E8)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions.report_status import Report, StatusBook
from hub.actions.send_facts import lock_channel, read_facts
from hub.domain import policy
from hub.domain.addresses import sending_form
from hub.domain.errors import Conflict, Refusal
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.store import contacts, conversations, event_log, numbers, outbox, schedule, sent_forms
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record
from providers.base import OutboundMessage

AGENT_REPLY_EXPIRES: Final = timedelta(hours=1)
"""An agent's reply that waited longer is no longer what the agent meant to say now (E8)."""
_UNSENT: Final = frozenset({"queued", "sending", "unknown"})
"""What may be handed to the provider: unknown where it turned out that it was certainly not taken."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A message this process may hand to the provider now; or none, with the events of why not."""

    message: OutboundMessage | None
    provider: str
    attempts: int
    events: list[Event]


async def claim(
    conn: Connection, owner: UUID, message_id: UUID, channel_id: UUID, conversation_id: UUID, now: datetime
) -> Claim | None:
    """Claim one message for sending and judge it again (E2, E4, E8). None where somebody else has it.

    What the rules are against by now ends as `failed` (an agent's) or `cancelled` (automation), with its event. What
    the provider has reported on meanwhile, it has after all: that only leaves the queue. Automation in a conversation
    that Meta's agent holds leaves it, too, and waits as it is.
    """
    channel = await lock_channel(conn, channel_id)
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    taken = await outbox.claim(conn, message_id, owner)
    if taken is None:
        return None
    book = await StatusBook.open(conn, [message_id])
    row = book.row(message_id)
    if row["status"] not in _UNSENT or row["provider_id"]:
        await outbox.finish(conn, message_id)
        return Claim(None, row["provider"], taken["attempts"], [])
    sender = await numbers.find_sender(conn, state.number_id, state.medium)
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    facts = await read_facts(
        conn, state, channel, contact, service_id=row["author_service_id"], origin=row["origin"],
        epoch=row["parent_epoch"], kind=row["type"], content=orjson.loads(row["content"]), sender=sender,
    )  # fmt: skip
    refusal = policy.check_send(facts, now) or _check_age(row, now) or _check_sender(row, sender)
    if refusal is None and policy.must_wait(row["origin"], state.held_by):
        await outbox.finish(conn, message_id)
        await schedule.hold(conn, message_id, taken["sender_id"], conversation_id, policy.priority(row["origin"]))
        return Claim(None, row["provider"], taken["attempts"], [])
    report = _refused(row, refusal, now) if refusal else Report("sending", "sending", now)
    draft = book.take(message_id, report, state, contact)
    await book.save(conn)
    if refusal:
        await outbox.finish(conn, message_id)
    await conversations.save(conn, [state])
    events = await event_log.append(conn, [draft] if draft else [])
    form = await sent_forms.find(conn, message_id)
    message = None if refusal or sender is None else outbound(row, form, state, sender["external_id"])
    return Claim(message, row["provider"], taken["attempts"], events)


def _check_age(row: Any, now: datetime) -> Refusal | None:
    """Whatever is claimed was certainly not taken before: a retry is as late as a first try."""
    if row["origin"] == "agent" and now - row["created_at"] > AGENT_REPLY_EXPIRES:
        return Conflict(
            "The reply waited for over an hour and may no longer fit (rule E8). Write again.", code="expired"
        )
    return None


def _check_sender(row: Any, sender: Record | None) -> Refusal | None:
    if sender is None or sender["provider"] != row["provider"]:
        return Conflict(
            "The number lost the sender this message was accepted for (rule A1). Send it again over another.",
            code="no_sender",
        )
    return None


def _refused(row: Any, refusal: Refusal, now: datetime) -> Report:
    status = "failed" if row["origin"] == "agent" or row["status"] != "queued" else "cancelled"
    return Report(
        status,
        status,
        now,
        error={"code": refusal.code, "title": None, "detail": refusal.detail, "provider_code": None},
    )


def outbound(row: Any, form: str | None, state: ConversationState, sender: str) -> OutboundMessage:
    """A stored message as it is handed to a provider, from the sender with this external id; `form` is its content
    where that is not what was written (`sent_forms`).
    """
    to = sending_form(state.reply_to, state.sends_to)
    is_phone = to.type == "phone"
    return OutboundMessage(
        hub_id=public_id("msg", row["id"]),
        medium=row["medium"],
        sender=sender,
        phone=to.value if is_phone else None,
        user_id=None if is_phone else to.value,
        type=row["type"],
        content=orjson.loads(form or row["content"]),
    )
