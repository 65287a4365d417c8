"""How things are written in events and API answers, under the names the contract fixes; always the whole truth.

What a viewer may see of it is decided later, by `hub.domain.masking`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from hub.domain.events import EventDraft
from hub.domain.ids import public_id
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.messages import MessageDraft
from hub.store.pickups import Pickup


def contact(value: Contact) -> dict[str, Any]:
    """A contact with all its addresses."""
    return {
        "id": public_id("con", value.id),
        "name": value.name,
        "addresses": [{"type": a.type, "value": a.value} for a in value.addresses],
    }


def conversation(conversation_id: UUID, medium: str) -> dict[str, Any]:
    """A conversation as events carry it; the event itself knows its number and the reply window."""
    return {"id": public_id("cnv", conversation_id), "medium": medium}


def conversation_data(state: ConversationState, of: Contact) -> dict[str, Any]:
    """What every event of a conversation says beside what happened."""
    return {
        "number": state.e164,
        "channel_id": public_id("chn", state.channel_id),
        "conversation": conversation(state.id, state.medium) | ({"held_by": state.held_by} if state.held_by else {}),
        "contact": contact(of),
    }


def conversation_event(
    kind: str, state: ConversationState, of: Contact, now: datetime, *, sequence: int | None = None,
    audience: Sequence[UUID] | None = None, message_id: UUID | None = None, author_service_id: UUID | None = None,
    written_at: datetime | None = None, **data: Any,
) -> EventDraft:  # fmt: skip
    """An event about a locked conversation, which takes its next number, unless it has one (`sequence`). One for an
    `audience` of some services takes none: the others would see a gap (B6).
    """
    return EventDraft(
        type=kind,
        lane=state.id,
        at=now,
        number_id=state.number_id,
        channel_id=state.channel_id,
        conversation_id=state.id,
        sequence=sequence or (state.next_sequence() if audience is None else None),
        reply_window_expires_at=state.reply_window_expires_at,
        audience=audience,
        picked_up_by=state.picked_up_by,
        message_id=message_id,
        author_service_id=author_service_id,
        written_at=written_at,
        data={**conversation_data(state, of), **data},
    )


def holder(value: Pickup) -> dict[str, Any]:
    """Who holds a conversation."""
    return {
        "service": {"id": public_id("svc", value.service_id), "name": value.service_name},
        "agent": agent(value.agent_id, value.agent_name),
        "since": value.since,
        "expires_at": value.expires_at,
    }


def message_frame(e164: str, channel_id: UUID, conversation_id: UUID, medium: str, of: Contact) -> str:
    """The JSON of a `message.received` event's data up to its message: that and a closing brace are missing."""
    data = {
        "number": e164,
        "channel_id": public_id("chn", channel_id),
        "conversation": conversation(conversation_id, medium),
        "contact": contact(of),
    }
    return f'{orjson.dumps(data).decode()[:-1]},"message":'


def message(row: Mapping[str, Any], statuses: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A stored message."""
    view: dict[str, Any] = {
        "id": public_id("msg", row["id"]),
        "direction": row["direction"],
        "medium": row["medium"],
        "type": row["type"],
        "origin": row["origin"],
        "sequence": row["sequence"],
        "author": author(row["author_service_id"], row["author_name"]),
        "agent": agent(row["agent_id"], row["agent_name"]),
        "provider_id": row["provider_id"],
        "provider_time": row["provider_time"],
        "created_at": row["created_at"],
        **orjson.loads(row["content"]),
    }
    if row["status"] is not None:
        view["status"] = row["status"]
        view["status_times"] = status_times(row["created_at"], statuses)
        view["error"] = orjson.loads(row["error"]) if row["error"] else None
    if row["raw"] is not None:
        view["raw"] = orjson.Fragment(row["raw"])
    view |= {name: True for name in ("conflict", "unrouted", "reconciled", "history") if row[name]}
    view |= {name: row[name] for name in ("edited_at", "deleted_at", "campaign", "send_at", "segments") if row[name]}
    if row.get("untracked_segments"):
        view["untracked_segments"] = row["untracked_segments"]
    return view


def received_message(draft: MessageDraft) -> dict[str, Any]:
    """A message that was just taken in: the same names as `message`, without a second look at the database."""
    view: dict[str, Any] = {
        "id": public_id("msg", draft.id),
        "direction": draft.direction,
        "medium": draft.medium,
        "type": draft.type,
        "origin": draft.origin,
        "sequence": draft.sequence,
        "author": None,
        "agent": None,
        "provider_id": draft.provider_id,
        "provider_time": draft.provider_time,
        "created_at": draft.created_at,
        **draft.content,
    }
    if draft.status is not None:
        view["status"] = draft.status
    if draft.raw is not None:
        view["raw"] = orjson.Fragment(draft.raw)
    view |= {name: True for name in ("unrouted", "reconciled") if getattr(draft, name)}
    return view


def author(service_id: UUID | None, name: str | None) -> dict[str, Any] | None:
    """The service a message came from; None for customers and for what was sent past the hub."""
    return {"service_id": public_id("svc", service_id), "name": name} if service_id else None


def agent(agent_id: str | None, name: str | None) -> dict[str, Any] | None:
    """The person who wrote it, by their service's word."""
    return {"id": agent_id, "name": name} if agent_id or name else None


def status_times(created_at: datetime, statuses: Sequence[Mapping[str, Any]]) -> dict[str, datetime]:
    """When each status was reached: by the provider's clock where it told, else when the hub heard."""
    times = {"queued": created_at}
    for row in statuses:
        if row["status"]:
            times.setdefault(row["status"], row["provider_time"] or row["at"])
    return times
