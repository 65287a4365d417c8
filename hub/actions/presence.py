"""Verb: say that an agent looks at a conversation, types, or has left it (rule D1); only live streams tell of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.announce import service_view
from hub.actions.collide import Actor
from hub.actions.look import out_of_reach
from hub.domain.ids import public_id
from hub.store import conversations, presence
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Noted:
    """The answer: until when it counts, and who else is there."""

    expires_at: datetime
    others: list[dict[str, Any]]


async def note_presence(conn: Connection, actor: Actor, conversation_id: UUID, state: str) -> Noted:
    """Note what an agent does, for as long as a lease lasts; `left` ends it. Raises `NotFound`."""
    assert actor.agent_id is not None
    reached = await conversations.find_in_reach(conn, conversation_id, actor.service_id)
    if reached is None:
        raise out_of_reach()
    there = await presence.list_present(conn, conversation_id)
    mine = (actor.service_id, actor.agent_id)
    others = [presence_view(row, actor.service_id) for row in there if (row["service_id"], row["agent_id"]) != mine]
    row = await presence.set_presence(
        conn, conversation_id, reached["channel_id"], actor.service_id, actor.agent_id, actor.agent_name, state
    )
    return Noted(row["expires_at"], others)


def presence_view(row: Record, viewer: UUID) -> dict[str, Any]:
    """Who is there; the agent's id for its own service only (C1)."""
    agent = describe.agent(row["agent_id"], row["agent_name"]) or {}
    return {
        "service": service_view(row["service_id"], row["service_name"]),
        "agent": agent if row["service_id"] == viewer else {"name": row["agent_name"]},
        "state": row["state"],
        "since": row["since"],
        "expires_at": row["expires_at"],
    }


def presence_event(row: Record, viewer: UUID, now: datetime) -> dict[str, Any]:
    """What a live stream carries: in the form of an event, without an id, since it is in no log."""
    return {
        "type": "conversation.presence",
        "timestamp": now,
        "data": {
            "number": row["e164"],
            "channel_id": public_id("chn", row["channel_id"]),
            "conversation": describe.conversation(row["conversation_id"], row["medium"]),
            "presence": presence_view(row, viewer),
        },
    }
