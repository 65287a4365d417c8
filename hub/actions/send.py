"""Verbs: accept a message to be sent, claim it for the provider, cancel it (rules E1 to E9)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions import describe
from hub.actions.report_status import Report, StatusBook
from hub.domain import policy
from hub.domain.errors import Conflict, Invalid, NotFound, Refusal
from hub.domain.events import Event, EventDraft
from hub.domain.ids import new_id, public_id
from hub.store import contacts, conversations, event_log, messages, numbers, outbox, subscriptions
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.messages import MessageDraft
from hub.store.pool import Connection, Record
from providers.base import OutboundMessage

AGENT_REPLY_EXPIRES: Final = timedelta(hours=1)
"""An agent's reply that waited longer is no longer what the agent meant to say now (E8)."""
_UNSENT: Final = frozenset({"queued", "sending", "unknown"})
"""What may be handed to the provider: unknown where it turned out that it was certainly not taken."""
MAX_TEXT: Final = {"whatsapp": 4096, "sms": 1600}
"""Characters the providers take in one text (Meta: text object; Twilio: Body)."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """A message as a service asks for it; `content` holds the fields of its type."""

    origin: str
    type: str
    content: dict[str, Any]
    agent_id: str | None
    agent_name: str | None
    parent_epoch: int | None


@dataclass(frozen=True, slots=True)
class Author:
    """The service that sends."""

    service_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is queued, durably."""

    message: dict[str, Any]
    warnings: list[dict[str, Any]]
    events: list[Event]


async def send(
    conn: Connection, author: Author, conversation_id: UUID, request: SendRequest, now: datetime
) -> Accepted:
    """Accept a message into a conversation of the service's channel. Raises `Refusal`, naming the rule."""
    reached = await conversations.find_in_reach(conn, conversation_id, author.service_id)
    if reached is None:
        raise NotFound("there is no such conversation on a channel this service is connected to")
    channel = await numbers.share_channel(conn, reached["channel_id"])
    assert channel is not None
    members = await subscriptions.list_members(conn, channel["id"])
    if all(row["service_id"] != author.service_id for row in members):
        raise NotFound("this service is no longer connected to that channel")
    sender = await numbers.find_sender(conn, reached["number_id"], reached["medium"])
    if sender is None:
        raise Conflict("the number has no active sender for this medium", code="no_sender")
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    _check_content(request, state)
    facts = await _facts(conn, state, channel, members, author.service_id, request.origin, request.parent_epoch)
    refusal = policy.check_send(facts, now)
    if refusal:
        raise refusal
    return await _accept(conn, author, request, state, channel, sender, now)


def _check_content(request: SendRequest, state: ConversationState) -> None:
    text = request.content.get("text", "")
    if len(text) > MAX_TEXT[state.medium]:
        raise Invalid(
            f"a text on {state.medium} holds at most {MAX_TEXT[state.medium]} characters", code="text_too_long"
        )
    if state.reply_to.type == "sender_id":
        raise Conflict("this customer's address cannot be written to", code="no_address")


async def _facts(
    conn: Connection, state: ConversationState, channel: Record, members: list[Record], service_id: UUID, origin: str,
    epoch: int | None,
) -> policy.SendFacts:  # fmt: skip
    last = await conversations.find_last_customer_at(conn, state.contact_id, state.number_id, state.medium)
    return policy.SendFacts(
        origin=origin,
        service_id=service_id,
        medium=state.medium,
        channel_kind=channel["kind"],
        parent=subscriptions.parent_of(members, channel["parent_epoch"]),
        parent_epoch=channel["parent_epoch"],
        claimed_epoch=epoch,
        last_customer_at=last,
        is_free_form=True,
    )


async def _accept(
    conn: Connection, author: Author, request: SendRequest, state: ConversationState, channel: Record, sender: Record,
    now: datetime,
) -> Accepted:  # fmt: skip
    draft = MessageDraft(
        id=new_id(),
        number_id=state.number_id,
        channel_id=state.channel_id,
        conversation_id=state.id,
        sequence=state.next_sequence(),
        direction="outbound",
        medium=state.medium,
        type=request.type,
        origin=request.origin,
        content=request.content,
        provider=sender["provider"],
        created_at=now,
        status="queued",
        author_service_id=author.service_id,
        agent_id=request.agent_id,
        agent_name=request.agent_name,
        parent_epoch=channel["parent_epoch"] if request.origin in policy.AUTOMATION else None,
    )
    await messages.add_messages(conn, [draft])
    await outbox.add(conn, draft.id, sender["id"], state.id, draft.sequence, policy.priority(request.origin))
    await conversations.save(conn, [state])
    people = await contacts.list_contacts(conn, [state.contact_id])
    row = await messages.find_message(conn, draft.id)
    assert row is not None
    view = describe.message(dict(row))
    queued = _queued(state, people[state.contact_id], draft, view)
    return Accepted(view, [], await event_log.append(conn, [queued]))


def _queued(state: ConversationState, contact: Contact, draft: MessageDraft, view: dict[str, Any]) -> EventDraft:
    return EventDraft(
        type="message.queued",
        lane=state.id,
        at=draft.created_at,
        number_id=state.number_id,
        channel_id=state.channel_id,
        conversation_id=state.id,
        sequence=draft.sequence,
        reply_window_expires_at=state.reply_window_expires_at,
        message_id=draft.id,
        author_service_id=draft.author_service_id,
        data={
            "number": state.e164,
            "channel_id": public_id("chn", state.channel_id),
            "conversation": describe.conversation(state.id, state.medium),
            "contact": describe.contact(contact),
            "message": view,
        },
    )


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that an earlier request with the same Idempotency-Key got."""

    status: int
    answer: str


async def claim_idempotency(conn: Connection, service_id: UUID, route: str, key: str, body: bytes) -> Replay | None:
    """Claim the key for this transaction; gives the stored answer where it was used before (E6).

    Raises `Invalid` (`idempotency_mismatch`) where it was used with another body.
    """
    digest = hashlib.sha256(body).digest()
    known = await outbox.claim_key(conn, service_id, route, key, digest)
    if known is None:
        return None
    if bytes(known["body_hash"]) != digest:
        raise Invalid("this Idempotency-Key was used with another body", code="idempotency_mismatch")
    return Replay(known["status"], known["answer"])


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
    the provider has reported on meanwhile, it has after all: that only leaves the queue.
    """
    channel = await numbers.share_channel(conn, channel_id)
    assert channel is not None
    members = await subscriptions.list_members(conn, channel_id)
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    taken = await outbox.claim(conn, message_id, owner)
    if taken is None:
        return None
    book = await StatusBook.open(conn, [message_id])
    row = book.row(message_id)
    if row["status"] not in _UNSENT:
        await outbox.finish(conn, message_id)
        return Claim(None, row["provider"], taken["attempts"], [])
    facts = await _facts(conn, state, channel, members, row["author_service_id"], row["origin"], row["parent_epoch"])
    sender = await numbers.find_sender(conn, state.number_id, state.medium)
    refusal = policy.check_send(facts, now) or _check_age(row, now) or _check_sender(row, sender)
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    report = _refused(row, refusal, now) if refusal else Report("sending", "sending", now)
    draft = book.take(message_id, report, state, contact)
    await book.save(conn)
    if refusal:
        await outbox.finish(conn, message_id)
    await conversations.save(conn, [state])
    events = await event_log.append(conn, [draft] if draft else [])
    outbound = None if refusal or sender is None else _outbound(row, state, sender["external_id"])
    return Claim(outbound, row["provider"], taken["attempts"], events)


def _check_age(row: Any, now: datetime) -> Refusal | None:
    """Whatever is claimed was certainly not taken before: a retry is as late as a first try."""
    if row["origin"] == "agent" and now - row["created_at"] > AGENT_REPLY_EXPIRES:
        return Conflict("the reply waited for over an hour (rule E8)", code="expired")
    return None


def _check_sender(row: Any, sender: Record | None) -> Refusal | None:
    if sender is None or sender["provider"] != row["provider"]:
        return Conflict("the number lost the sender this message was accepted for", code="no_sender")
    return None


def _refused(row: Any, refusal: Refusal, now: datetime) -> Report:
    status = "failed" if row["origin"] == "agent" or row["status"] != "queued" else "cancelled"
    return Report(
        status,
        status,
        now,
        error={"code": refusal.code, "title": None, "detail": refusal.detail, "provider_code": None},
    )


def _outbound(row: Any, state: ConversationState, sender: str) -> OutboundMessage:
    is_phone = state.reply_to.type == "phone"
    return OutboundMessage(
        hub_id=public_id("msg", row["id"]),
        medium=row["medium"],
        sender=sender,
        phone=state.reply_to.value if is_phone else None,
        user_id=None if is_phone else state.reply_to.value,
        type=row["type"],
        content=orjson.loads(row["content"]),
    )


async def cancel_automation(conn: Connection, channel_id: UUID, service_id: UUID, now: datetime) -> list[EventDraft]:
    """Cancel what a service that is no longer parent has waiting; the caller holds the channel FOR UPDATE (A5)."""
    waiting = await outbox.list_automation_conversations(conn, channel_id, service_id)
    states = await conversations.lock(conn, waiting)
    taken = await outbox.take_automation(conn, channel_id, service_id)
    book = await StatusBook.open(conn, [row["id"] for row in taken])
    people = await contacts.list_contacts(conn, {state.contact_id for state in states.values()})
    report = Report(
        "cancelled",
        "cancelled",
        now,
        error={"code": "not_parent", "title": None, "detail": "parenthood changed", "provider_code": None},
    )
    drafts = [
        book.take(row["id"], report, state, people[state.contact_id])
        for row in taken
        for state in (states[row["conversation_id"]],)
    ]
    await book.save(conn)
    await conversations.save(conn, list(states.values()))
    return [draft for draft in drafts if draft]
