"""Verb: accept a message to be sent (rules E1 to E6, D2, D3)."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.collide import Actor, find_collisions
from hub.actions.compose import Capabilities, compose, uploads_in
from hub.actions.limits import check_agent
from hub.actions.look import out_of_reach
from hub.actions.pass_on import settle_pass
from hub.actions.send_facts import Channel, lock_channel, read_facts
from hub.actions.track_links import Tracked, track_links
from hub.domain import policy
from hub.domain.errors import Conflict
from hub.domain.events import Event
from hub.domain.ids import new_id
from hub.domain.limits import Limits
from hub.domain.link_marks import LinkWishes
from hub.domain.rewriting import Outgoing, segments_of
from hub.domain.rulings import Acceptance, rulings
from hub.domain.tracking import Tracking
from hub.store import contacts, conversations, event_log, lives, media, messages, numbers, outbox, schedule, sent_forms
from hub.store.conversations import ConversationState
from hub.store.messages import MessageDraft
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class SendRequest:
    """A message as a service asks for it; `content` holds the fields of its type, without marks of links."""

    origin: str
    type: str
    content: dict[str, Any]
    agent_id: str | None
    agent_name: str | None
    parent_epoch: int | None
    campaign: str | None = None
    seen_sequence: int | None = None
    send_at: datetime | None = None
    links: LinkWishes = field(default_factory=LinkWishes)
    is_keyed: bool | None = None
    """Whether the request carried an Idempotency-Key (E6); None: nobody said."""


@dataclass(frozen=True, slots=True)
class Author:
    """The service that sends."""

    service_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is queued, durably; `links` are its tracked links, for its author alone. `is_for_later`: it waits
    for its time, or for its conversation to be given back.
    """

    message: dict[str, Any]
    links: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    events: list[Event]
    is_for_later: bool = False


async def send(
    conn: Connection, author: Author, conversation_id: UUID, request: SendRequest, now: datetime,
    capabilities: Capabilities, limits: Limits, tracking: Tracking,
) -> Accepted:  # fmt: skip
    """Accept a message into a conversation of the service's channel. Raises `Refusal`, naming the rule."""
    if untimely := policy.check_send_at(request.send_at, now):
        raise untimely
    reached = await conversations.find_in_reach(conn, conversation_id, author.service_id)
    if reached is None:
        raise out_of_reach()
    channel = await lock_channel(conn, reached["channel_id"])
    if not channel.has(author.service_id):
        raise out_of_reach()
    sender = await numbers.find_sender(conn, reached["number_id"], reached["medium"])
    if sender is None:
        raise Conflict("the number has no active sender for this medium; register one (rule A1)", code="no_sender")
    if request.agent_id is not None and request.origin == "agent":
        await check_agent(conn, author.service_id, request.agent_id, limits, now)
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    content = await compose(conn, author.service_id, state, sender, request.type, request.content, capabilities)
    facts = await read_facts(
        conn, state, channel, contact, service_id=author.service_id, origin=request.origin,
        epoch=request.parent_epoch, kind=request.type, content=content, sender=sender,
    )  # fmt: skip
    refusal = policy.check_send(facts, now)
    if refusal:
        raise refusal
    actor = Actor(author.service_id, author.name, *_agent(request))
    collisions = await find_collisions(conn, state, contact, actor, now, request.seen_sequence)
    if request.origin == "agent":
        await settle_pass(conn, state, author.service_id)
    draft = _draft(author, request, content, state, channel, sender, now)
    tracked = await track_links(conn, draft, state, request.links, tracking)
    draft = _counted(draft, tracked)
    view = await _store(conn, draft, tracked, state, sender)
    queued = describe.conversation_event(
        "message.queued", state, contact, now, sequence=draft.sequence, message_id=draft.id,
        author_service_id=author.service_id, message=view,
    )  # fmt: skip
    drafts = [queued, *collisions.drafts]
    links = tracked.links if tracked else []
    is_ahead = _is_ahead(draft)
    must_wait = not is_ahead and policy.must_wait(draft.origin, state.held_by)
    warnings = [*collisions.warnings, *([_held_warning(state)] if must_wait else [])]
    accepted = Acceptance(
        request.is_keyed, [warning["code"] for warning in collisions.warnings], draft.send_at if is_ahead else None,
        must_wait, len(links), tracked is not None and tracked.is_personal,
    )  # fmt: skip
    await lives.add_rulings(conn, draft.id, [ruling.view() for ruling in rulings(facts, accepted)], now)
    return Accepted(view, links, warnings, await event_log.append(conn, drafts), is_for_later=is_ahead or must_wait)


def _held_warning(state: ConversationState) -> dict[str, Any]:
    """That Meta's own agent holds the conversation, and this waits for it."""
    return {"code": "conversation_held", "agent": None, "service": None, "since": state.held_since}


def _is_ahead(draft: MessageDraft) -> bool:
    return draft.send_at is not None and draft.send_at > draft.created_at


def _agent(request: SendRequest) -> tuple[str | None, str | None]:
    """The person who writes, by id and name; a bot is none, whatever it says."""
    return (request.agent_id, request.agent_name) if request.origin == "agent" else (None, None)


def _draft(
    author: Author, request: SendRequest, content: dict[str, Any], state: ConversationState, channel: Channel,
    sender: Record, now: datetime,
) -> MessageDraft:  # fmt: skip
    return MessageDraft(
        id=new_id(),
        number_id=state.number_id,
        channel_id=state.channel_id,
        conversation_id=state.id,
        sequence=state.next_sequence(),
        direction="outbound",
        medium=state.medium,
        type=request.type,
        origin=request.origin,
        content=content,
        provider=sender["provider"],
        created_at=now,
        status="queued",
        author_service_id=author.service_id,
        agent_id=request.agent_id,
        agent_name=request.agent_name,
        campaign=request.campaign,
        parent_epoch=channel.row["parent_epoch"] if request.origin in policy.AUTOMATION else None,
        send_at=request.send_at,
    )


def _counted(draft: MessageDraft, tracked: Tracked | None) -> MessageDraft:
    """What it is billed as, and what it would have been without tracked links."""
    written = segments_of(Outgoing(draft.type, draft.content, draft.medium, draft.provider))
    if tracked is None:
        return replace(draft, segments=written)
    return replace(draft, segments=segments_of(tracked.form), untracked_segments=written)


async def _store(
    conn: Connection, draft: MessageDraft, tracked: Tracked | None, state: ConversationState, sender: Record
) -> dict[str, Any]:
    """Write the message and let it wait, for its turn, for its time or for the conversation to be given back; gives it
    as the API shows it.
    """
    await messages.add_messages(conn, [draft])
    await media.add_links(conn, [(draft.id, media_id) for media_id in uploads_in(draft.content)])
    if tracked:
        await sent_forms.add(conn, draft.id, tracked.form.content, draft.send_at or draft.created_at)
    priority = policy.priority(draft.origin)
    if draft.send_at and _is_ahead(draft):
        await schedule.add(conn, draft.id, sender["id"], state.id, priority, draft.send_at)
    elif policy.must_wait(draft.origin, state.held_by):
        await schedule.hold(conn, draft.id, sender["id"], state.id, priority)
    else:
        await outbox.add(conn, draft.id, sender["id"], state.id, draft.sequence, priority)
    await conversations.save(conn, [state])
    row = await messages.find_message(conn, draft.id)
    assert row is not None
    return describe.message(dict(row))
